"""Which files of Python's library are for training, and which are held out."""

import subprocess
import sys
import zlib
from pathlib import Path

from sw.models.python_text import documents, texts

ROOT = Path(__file__).resolve().parents[2]


def write(root, names, text=b"x = 1\n"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text + name.encode())


def test_a_file_in_twenty_is_held_out_by_the_crc_of_its_path(tmp_path):
    names = [f"{part}/m{i}.py" for part in ("a", "b/c") for i in range(60)]
    write(tmp_path, names)
    train, held_out = documents(tmp_path)
    assert set(held_out) == {name for name in names if zlib.crc32(name.encode()) % 20 == 0}
    assert 1 <= len(held_out) <= 12
    assert set(train) | set(held_out) == set(names)
    assert not set(train) & set(held_out)
    assert list(train) == sorted(train)
    assert train["a/m1.py"] == b"x = 1\na/m1.py"


def test_tests_foreign_packages_and_files_with_zeros_are_left_out(tmp_path):
    write(tmp_path, ["test/a.py", "x/tests/b.py", "site-packages/c.py", "x/__pycache__/d.py", "lib2to3/e.py", "x/f.txt",
                     "x/kept.py"])
    (tmp_path / "x" / "empty.py").write_bytes(b"")
    (tmp_path / "x" / "zero.py").write_bytes(b"a\0b")
    train, held_out = documents(tmp_path)
    assert [*train, *held_out] == ["x/kept.py"]


def test_every_file_follows_a_zero_byte(tmp_path):
    write(tmp_path, ["m1.py", "m2.py"])
    train, held_out = texts(tmp_path)
    assert (train + held_out).count(b"\0") == 2
    assert train.startswith(b"\0x = 1\n")


def test_this_pythons_library_has_both():
    train, held_out = documents()
    assert len(train) > 200
    assert 0.02 < sum(map(len, held_out.values())) / sum(map(len, train.values())) < 0.1


def test_the_rule_needs_the_standard_library_only():
    probe = "import sys, sw.models.python_text; print(*(n for n in sys.modules if n.split('.')[0] in ('numpy', 'hw', 'torch')))"
    assert not subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_training_uses_the_rule():
    script = (ROOT / "models" / "python-llama-1m" / "train.py").read_text()
    assert 'importlib.import_module("sw.models.python_text").texts' in script
    assert "train, held_out = texts()" in script
