"""Cached folders are whole or absent, made once, and found under a key that covers what they depend on."""

import threading
import time

import pytest

from flows.cache import cache_root, cached_folder, key_of, repository


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path / "cache"))


def test_a_folder_is_made_once():
    calls = []

    def fill(work):
        calls.append(work)
        (work / "file").write_text("contents")

    folder, fresh = cached_folder("thing-1", fill)
    assert fresh
    assert cached_folder("thing-1", fill) == (folder, False)
    assert len(calls) == 1
    assert (folder / "file").read_text() == "contents"


def test_a_failure_leaves_nothing_behind():
    def fill(work):
        (work / "half").write_text("a part")
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match=r"^broken off$"):
        cached_folder("thing-2", fill)
    assert [entry.name for entry in cache_root().iterdir()] == ["locks"]
    folder, fresh = cached_folder("thing-2", lambda work: None)
    assert fresh
    assert not list(folder.iterdir())


def test_two_at_once_make_one():
    calls, found = [], []

    def fill(work):
        calls.append(work)
        time.sleep(0.2)

    threads = [threading.Thread(target=lambda: found.append(cached_folder("thing-3", fill))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert sorted(fresh for _, fresh in found) == [False, False, True]


def test_keys_tell_parts_apart():
    parts = (("ab", "c"), ("a", "bc"), ("abc",), (b"ab", "d"), ({"a": 1}, "c"), ({"a": 2}, "c"), ())
    assert len({key_of(*each) for each in parts}) == len(parts)
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_the_root_is_the_checkout_unless_told(monkeypatch):
    monkeypatch.delenv("HEDDLE_CACHE")
    assert cache_root() == repository() / "build"
