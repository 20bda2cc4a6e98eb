"""The streaming writer: any order of pieces makes a safetensors file; what fails leaves nothing behind."""

import resource
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from sw.checkpoint.stored import CheckpointError
from sw.checkpoint.writer import CheckpointWriter


def test_rows_and_pieces_make_whole_tensors(tmp_path):
    a, b = np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(7, dtype=np.uint8)
    with CheckpointWriter(tmp_path / "x.safetensors", {"a": 2, "b": 1, "c": 0, "empty": 2}, {"note": "ü"}) as writer:
        for start in (0, 8, 16):
            writer.append("a", a[start:start + 8])
        writer.copy("b", "U8", (7,), [b[:3].tobytes(), b[3:]])
        writer.copy("c", "F32", (), [np.float32(2.5).tobytes()])
        writer.append("empty", np.zeros((0, 5), np.int64))
    found = load_file(tmp_path / "x.safetensors")
    assert np.array_equal(found["a"], a)
    assert np.array_equal(found["b"], b)
    assert found["c"] == np.float32(2.5)
    assert (found["empty"].shape, found["empty"].dtype) == ((0, 5), np.int64)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_rows_that_are_no_block_of_memory(tmp_path):
    a = np.arange(24, dtype=np.int16).reshape(4, 6)
    with CheckpointWriter(tmp_path / "x.safetensors", {"a": 2}, {}) as writer:
        writer.append("a", a.T[:3])
        writer.append("a", a.T[3:])
    assert np.array_equal(load_file(tmp_path / "x.safetensors")["a"], a.T)


def test_many_long_names_fit_the_header(tmp_path):
    names = {f"layer.{i}.{'x' * 50}": 1 for i in range(300)}
    with CheckpointWriter(tmp_path / "x.safetensors", names, {}) as writer:
        for name in names:
            writer.append(name, np.ones(1, np.uint8))
    assert load_file(tmp_path / "x.safetensors").keys() == names.keys()


@pytest.mark.parametrize(("misuse", "text"), [
    (lambda writer: writer.append("c", np.ones(2)), r"a tensor must be written once, as it was planned, not 'c' of shape \(2,\)"),
    (lambda writer: writer.append("a", np.ones((2, 2, 2))), r"a tensor must be .*, not 'a' of shape \(2, 2, 2\)"),
    (lambda writer: [writer.copy("a", "U8", (1,), [b"1"]) for _ in range(2)], r"a tensor must be .*, not 'a' of shape \(1,\)"),
    (lambda writer: [writer.append("a", np.ones((2, columns))) for columns in (2, 3)],
     r"rows must follow the rows of 'a' in their shape \(2, 2\) and type"),
    (lambda writer: [writer.append("a", np.ones(2, dtype)) for dtype in (np.float32, np.float64)],
     r"rows must follow the rows of 'a' in their shape \(2,\) and type"),
    (lambda writer: [writer.append(name, np.ones(2)) for name in "aba"], r"rows must follow the rows of 'a' .*"),
    (lambda writer: writer.append("a", np.ones(2)), r"every planned tensor must be written; 'b' was not"),
])
def test_misuse_is_refused_and_leaves_nothing(tmp_path, misuse, text):
    with pytest.raises(CheckpointError, match=f"^{text}$"), CheckpointWriter(tmp_path / "x", {"a": 2, "b": 1}, {}) as writer:
        misuse(writer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_interrupted_leaves_the_old_file(tmp_path, error):
    (tmp_path / "x").write_text("old")

    def pieces():
        yield bytes(10)
        raise error

    with pytest.raises(error), CheckpointWriter(tmp_path / "x", {"a": 1}, {}) as writer:
        writer.copy("a", "U8", (20,), pieces())
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize("size", [200, 100_000])
def test_a_disk_that_takes_no_more(tmp_path, size):
    """A limit on the size of files stands in for a full disk, while pieces are written and when the last ones are flushed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = CheckpointWriter(tmp_path / "x", {"a": 1}, {})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        with pytest.raises(OSError, match=r"File too large: '.*/x'$"), writer:
            writer.copy("a", "U8", (4 << 20,), [bytes(1 << 20)] * 4 if size > 1000 else [bytes(4 << 20)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_the_name_that_safetensors_keeps(tmp_path):
    with pytest.raises(CheckpointError, match=r"^a tensor must not be called __metadata__, which safetensors keeps for itself$"):
        CheckpointWriter(tmp_path / "x", {"__metadata__": 1}, {})
    assert not list(tmp_path.iterdir())
