"""Tensors in number formats as files: what comes back, names that collide, files that are damaged or none."""

import dataclasses
import json
import re

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hw.formats import FORMATS
from sw.formats import FormatError, dequantize, load, quantize, save
from tb.formats.test_tensor import normal


@pytest.mark.parametrize("name", FORMATS)
def test_files(name, tmp_path):
    array = normal(3, 300).astype(ml_dtypes.bfloat16)
    tensor, plain = quantize(array, name, axis=1), np.arange(6, dtype=np.int32).reshape(2, 3)
    save(tmp_path / "a.safetensors", {"w": tensor, "layer.bias": plain, "turned": quantize(array.T, name, axis=0)})
    found = load(str(tmp_path / "a.safetensors"))
    assert set(found) == {"w", "layer.bias", "turned"}
    assert np.array_equal(found["layer.bias"], plain)
    w = found["w"]
    assert (w.format, w.shape, w.axis) == (tensor.format, tensor.shape, 1)
    assert np.array_equal(w.payload, tensor.payload)
    assert all(np.array_equal(w.side[side], array) for side, array in tensor.side.items())
    assert np.array_equal(dequantize(w), dequantize(tensor))
    assert np.array_equal(dequantize(found["turned"]), dequantize(w).T)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(path, {"x": np.zeros(3)})
    before = path.read_bytes()

    def broken(arrays, target, metadata):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("sw.program.save_file", broken)
    with pytest.raises(OSError, match=r"^disk full$"):
        save(path, {"x": np.ones(3)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_without_axes(tmp_path):
    save(tmp_path / "a.safetensors", {"step": np.float32(3), "turned": np.arange(6).reshape(2, 3).T})
    found = load(tmp_path / "a.safetensors")
    assert found["step"].shape == ()
    assert found["step"] == 3
    assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_the_name_that_safetensors_keeps(tmp_path):
    with pytest.raises(FormatError, match=r"^a tensor must not be called __metadata__, which safetensors keeps for itself$"):
        save(tmp_path / "a", {"__metadata__": np.zeros(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [np.complex128, object, "U3", "M8[s]", np.longdouble, ml_dtypes.float8_e4m3fn, ml_dtypes.int4])
def test_arrays_of_types_that_files_do_not_have(tmp_path, dtype):
    array = np.zeros(2, dtype)
    with pytest.raises(FormatError, match=r"^arrays in a file must be of bool, int8 to int64, .* or complex64, not "
                                          rf"{re.escape(str(array.dtype))} \('x'\)$"):
        save(tmp_path / "a", {"x": array})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float16, ml_dtypes.bfloat16, np.float64, np.complex64, ">f4"])
def test_arrays_of_other_types_come_back(tmp_path, dtype):
    array = np.arange(2).astype(dtype)
    save(tmp_path / "a", {"x": array})
    found = load(tmp_path / "a")["x"]
    assert found.dtype.name == array.dtype.name
    assert np.array_equal(found, array)


def test_files_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=rf"^{tmp_path}/no/a must lie in a folder that exists$"):
        save(tmp_path / "no" / "a", {"x": np.zeros(1)})

    def refused(arrays, path, metadata):
        path.write_text("half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("sw.program.save_file", refused)
    with pytest.raises(OSError, match=rf"^{tmp_path}/a cannot be written: I/O error: No space left on device$"):
        save(tmp_path / "a", {"x": np.zeros(1)})
    assert not list(tmp_path.iterdir())


def test_a_format_under_a_name_of_another(tmp_path):
    """RaZeR changed under its name: a file would bring back the special values of the name."""
    fmt = dataclasses.replace(FORMATS["razer"], specials=(5.0, 7.0, -5.0, -7.0))
    with pytest.raises(FormatError, match=r"^a format in a file must be what its name says, not another one called 'razer': "
                                          r"add it to hw\.formats$"):
        save(tmp_path / "a", {"w": quantize(normal(1, 16), fmt)})
    nameless = dataclasses.replace(fmt, family="razer-qwen")
    with pytest.raises(FormatError, match=r"^a format in a file .* called 'razer-qwen': .*$"):
        save(tmp_path / "a", {"w": quantize(normal(1, 16), nameless)})
    assert not list(tmp_path.iterdir())


def test_names_that_collide(tmp_path):
    tensor = quantize([[1.0]], "int8")
    with pytest.raises(FormatError, match=r"^tensors must have names of their own, but 'w.payload' is a part of two$"):
        save(tmp_path / "a", {"w": tensor, "w.payload": np.zeros(1)})


def _changed(path, change):
    """Rewrite a file of tensors with its arrays or its header changed."""
    with safe_open(path, framework="numpy") as file:
        arrays, header = {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["heddle"])
    change(arrays, header)
    save_file(arrays, path, metadata={"heddle": json.dumps(header)})


@pytest.mark.parametrize(("change", "text"), [
    (lambda a, h: h.update(format="heddle-program"), "must be a heddle-tensors file, not heddle-program"),
    (lambda a, h: h.update(version=9), "must be of version 1, not 9"),
    (lambda a, h: h["tensors"]["w"].update(format="int99"), ": tensor 'w' must be whole: format must be a name that"),
    (lambda a, h: h["tensors"]["w"].pop("axis"), ": tensor 'w' must be whole: its entry has no 'axis'"),
    (lambda a, h: h["tensors"]["w"].update(shape=[2, "x"]),
     ": tensor 'w' must be whole: shape must be a list of positive integers, not"),
    (lambda a, h: h["tensors"]["w"].update(axis=2), ": tensor 'w' must be whole: axis must be between 0 and 1, not 2"),
    (lambda a, h: a.pop("w.payload"), ": tensor 'w' must be whole: the file has no w.payload"),
    (lambda a, h: a.pop("w.outer_scale"), ": tensor 'w' must be whole: the file has no w.outer_scale"),
    (lambda a, h: a.update({"w.payload": a["w.payload"][:, 1:].copy()}),
     ": tensor 'w' must be whole: payload of bitmod4-g16 of shape (2, 32)"),
    (lambda a, h: h.update(tensors=3), ": its table of tensors must be an object, not 3"),
    (lambda a, h: h["tensors"].update(w=3), ": tensor 'w' must be whole: its entry must be an object, not 3"),
])
def test_files_that_are_not_whole(tmp_path, change, text):
    path = tmp_path / "a.safetensors"
    save(path, {"w": quantize(normal(2, 32), "bitmod4-g16")})
    _changed(path, change)
    with pytest.raises(FormatError, match="^" + re.escape(f"{path}") + " ?" + re.escape(text)):
        load(path)


def test_a_header_that_is_nested_deep(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros(2)}, path, metadata={"heddle": "[" * 100_000})
    with pytest.raises(FormatError, match=r"a\.safetensors must be a whole heddle-tensors file, not one with a header that is "
                                          r"nested so deep$"):
        load(path)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FormatError, match=r"a\.safetensors must be a heddle-tensors file, but there is none$"):
        load(path)
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(FormatError, match=r"a\.safetensors must be a heddle-tensors file, not another safetensors file$"):
        load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match=r"a\.safetensors must be a whole heddle-tensors file, not a truncated or foreign one"):
        load(path)
