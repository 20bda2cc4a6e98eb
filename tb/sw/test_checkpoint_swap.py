"""Replaced folders: the old one or the new one, never a mixture; what killed processes left is cleared away."""

import os
import subprocess
from pathlib import Path

import pytest

from sw.checkpoint.swap import beside, remove_leftovers, swap_folder


@pytest.fixture
def gone():
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def make(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def old_and_new(tmp_path):
    out = make(tmp_path / "out", weights="old", config="old", notes="mine", sub__a="old", sub__b="mine", own__c="mine")
    out.chmod(0o750)
    (out / "link").symlink_to("nowhere")
    return make(beside(out), weights="new", config="new", sub__a="new"), out


NEW = {"weights": "new", "config": "new", "sub/a": "new", "notes": "mine", "sub/b": "mine", "own/c": "mine"}
OLD = {"weights": "old", "config": "old", "sub/a": "old", "notes": "mine", "sub/b": "mine", "own/c": "mine"}


def test_the_new_folder_has_what_only_the_old_one_had(tmp_path):
    work, out = old_and_new(tmp_path)
    swap_folder(work, out)
    assert tree(out) == NEW
    assert (out / "link").is_symlink()
    assert out.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Killed(BaseException):
    """As a signal that cannot be caught: nothing is cleaned up."""


@pytest.mark.parametrize("renames", range(6))
def test_a_kill_after_any_rename_leaves_one_of_both_and_the_next_run_completes_it(tmp_path, monkeypatch, renames, gone):
    """In between, weights and config always belong together, or nothing is there under the name."""
    work, out = old_and_new(tmp_path)
    done, rename = [], Path.rename

    def counted(path, target):
        if len(done) == renames:
            raise Killed
        done.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)
    with pytest.raises(Killed):                             # both folders, notes, link, sub/b and own: 6 in all
        swap_folder(work, out)
    monkeypatch.undo()
    if out.exists():
        assert (out / "weights").read_text() == (out / "config").read_text()
    for path in tmp_path.iterdir():
        if path.name.startswith("."):
            path.rename(path.with_name(path.name.replace(str(os.getpid()), str(gone))))
    remove_leftovers(out)
    assert tree(out) == (NEW if renames >= 2 else OLD)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    work, out = old_and_new(tmp_path)
    rename = Path.rename

    def failing(path, target):
        if path == work:
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match=r"^no$"):
        swap_folder(work, out)
    assert tree(out) == OLD


def test_only_what_dead_processes_left_is_removed(tmp_path, gone):
    alive = os.getppid()
    names = (f".out.{gone}", f".out.{os.getpid()}", f".out.{alive}", ".out.1", ".out.x", f".out2.{gone}", f".out.{gone}.more",
             f"out.{gone}")
    for name in names:
        make(tmp_path / name, half="x")
    (tmp_path / f".out.safetensors.{gone}").write_text("half")
    remove_leftovers(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {*names[2:], f".out.safetensors.{gone}"}
    remove_leftovers(tmp_path / "out.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == set(names[2:])


def test_a_folder_that_does_not_exist_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "no" / "where")
    remove_leftovers(Path("/"))
    assert not list(tmp_path.iterdir())
