"""Quantized checkpoints: the same as tensors quantized whole, whatever the chunks; what is kept is kept bit by bit."""

import dataclasses
import json
import re
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hw.formats import format_named
from sw.checkpoint import CheckpointError, Way, convert, open_checkpoint, plan_of
from sw.checkpoint.stored import StoredTensor
from sw.formats import FormatError, QuantizedTensor, dequantize, load, quantize
from sw.formats.registry import CODECS
from sw.formats.scaled import ScaledCodec
from tb.sw.checkpoints import MATRICES, small_tensors, write_folder

FORMATS = ("int4-g32", "int8", "int4-asym-g32", "bitmod4-g32", "mxfp4-b32", "nvfp4", "nvfp4-4over6", "razer", "sf4-g128",
           "float8_e4m3fn", "bbs-shift-g32",
           "2:4", "tasd-2:4+2:8", "sdq-7:8-1:8int8-6:8fp4-g64", "sherry-contiguous-g128")


@pytest.fixture
def small_chunks(monkeypatch):
    """A few rows at a time, so that every tensor is of several chunks and the last one is short."""
    monkeypatch.setattr("sw.checkpoint.matrix.CHUNK", 250)


def run(model, out, fmt="int4-g32", **choice):
    tensors = open_checkpoint(model)
    return convert(plan_of(tensors, None if fmt is None else format_named(fmt), **choice), out)


def same(a, b):
    """Return whether two quantized tensors are equal bit by bit."""
    return (a.format, a.shape, a.axis) == (b.format, b.shape, b.axis) and np.array_equal(a.payload, b.payload) and (
        a.side.keys() == b.side.keys() and all(np.array_equal(a.side[name], b.side[name]) for name in a.side))


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("fmt", FORMATS)
def test_chunks_make_the_tensor_that_all_of_it_makes(tmp_path, small_chunks, fmt, axis):
    tensors = small_tensors()
    save_file(tensors, tmp_path / "model.safetensors")
    reports = run(tmp_path / "model.safetensors", tmp_path / "out.safetensors", fmt, axis=axis)
    found = load(tmp_path / "out.safetensors")
    assert found.keys() == tensors.keys()
    for name in MATRICES:
        expected = quantize(tensors[name], fmt, axis=axis)
        assert same(found[name], expected), name
        report = next(report for report in reports if report.name == name)
        error = dequantize(expected).astype(np.float64) - tensors[name].astype(np.float64)
        signal = (tensors[name].astype(np.float64) ** 2).sum()
        assert report.errors.sqnr_db == pytest.approx(10 * np.log10(signal / (error ** 2).sum()), rel=1e-9)
        assert report.errors.largest == abs(error).max()
        assert report.bits_per_weight == expected.bits_per_weight


def test_what_is_not_a_matrix_of_weights_is_kept_bit_by_bit(tmp_path):
    tensors = small_tensors()
    model = write_folder(tmp_path / "model", tensors)
    reports = run(model, tmp_path / "out.safetensors")
    found = load(tmp_path / "out.safetensors")
    kept = set(tensors) - set(MATRICES)
    assert {report.name for report in reports if report.format is None} == kept
    for name in kept:
        assert found[name].dtype == tensors[name].dtype
        assert np.array_equal(found[name], tensors[name])
        assert found[name].shape == tensors[name].shape


def test_shards_are_read_in_the_order_of_the_index(tmp_path):
    tensors = small_tensors()
    model = write_folder(tmp_path / "model", tensors, shards=3)
    run(model, tmp_path / "a.safetensors")
    run(write_folder(tmp_path / "whole", tensors), tmp_path / "b.safetensors")
    a, b = load(tmp_path / "a.safetensors"), load(tmp_path / "b.safetensors")
    assert a.keys() == b.keys()
    assert all(same(a[name], b[name]) for name in MATRICES)


def test_only_reaches_embeddings_and_experts_and_nothing_else(tmp_path):
    tensors = small_tensors()
    model = write_folder(tmp_path / "model", tensors)
    run(model, tmp_path / "out.safetensors", "mxfp4-b32", only=["*embed*", "*experts*", "*bias"])
    found = load(tmp_path / "out.safetensors")
    assert {name for name, tensor in found.items() if isinstance(tensor, QuantizedTensor)} == {
        "model.embed_tokens.weight", "model.layers.0.experts.weight"}
    experts = "model.layers.0.experts.weight"
    assert same(found[experts], quantize(tensors[experts], "mxfp4-b32"))


def test_skip_keeps(tmp_path):
    model = write_folder(tmp_path / "model", small_tensors())
    run(model, tmp_path / "out.safetensors", skip=["*.mlp.*"])
    found = load(tmp_path / "out.safetensors")
    assert [name for name, tensor in found.items() if isinstance(tensor, QuantizedTensor)] == [MATRICES[0]]


@pytest.mark.parametrize("axis", [-1, 0])
def test_dfloat11_of_parts_is_that_of_the_whole_tensor(tmp_path, small_chunks, axis):
    tensors = small_tensors()
    name = "model.layers.0.mlp.up.weight"
    report, = (report for report in run(write_folder(tmp_path / "model", tensors), tmp_path / "out.safetensors", "dfloat11",
                                        only=[name], axis=axis) if report.format is not None)
    found = load(tmp_path / "out.safetensors")[name]
    assert same(found, quantize(tensors[name], "dfloat11", axis=axis))
    assert np.array_equal(dequantize(found), tensors[name].astype(np.float32))
    assert (report.errors.largest, report.errors.sqnr_db) == (0, None)


@pytest.mark.parametrize("axis", [-1, 0])
def test_a_fitted_table_serves_all_parts_and_errs_hardly_more_than_one_of_all_values(tmp_path, monkeypatch, axis):
    tensors = {"w": (np.random.default_rng(1).standard_normal((160, 128)) * 0.1).astype(np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")

    def sqnr(chunk):
        monkeypatch.setattr("sw.checkpoint.matrix.CHUNK", chunk)
        report, = run(tmp_path / "model.safetensors", tmp_path / f"{chunk}.safetensors", "kvquant3-g32", axis=axis)
        return report.errors.sqnr_db

    assert sqnr(1 << 20) - 0.3 < sqnr(2000) < sqnr(1 << 20)
    whole, parts = (load(tmp_path / f"{chunk}.safetensors")["w"] for chunk in (1 << 20, 2000))
    assert same(whole, quantize(tensors["w"], "kvquant3-g32", axis=axis))
    assert parts.side["table"].shape == whole.side["table"].shape
    assert not same(whole, parts)


def test_a_family_that_is_not_ours_is_quantized_whole(tmp_path, small_chunks, monkeypatch):
    """Its codec sees the matrix once, whatever the size of chunks."""
    monkeypatch.delattr(ScaledCodec, "in_parts")
    seen = []

    def watched(rows, fmt, **known):
        seen.append(rows.shape)
        return quantize(rows, fmt, **known)

    monkeypatch.setattr("sw.checkpoint.parts.quantize", watched)
    run(write_folder(tmp_path / "model", small_tensors()), tmp_path / "out.safetensors", only=[MATRICES[0]])
    assert seen == [(48, 32)]


def test_all_our_codecs_take_parts():
    assert all(codec.in_parts for codec in CODECS.values())


def test_progress_counts_every_value(tmp_path, small_chunks):
    model = write_folder(tmp_path / "model", small_tensors())
    steps = plan_of(open_checkpoint(model), format_named("int8"))
    seen = {}
    convert(steps, tmp_path / "out.safetensors", progress=lambda tensor, done: seen.setdefault(tensor.name, []).append(done))
    for step in steps:
        assert seen[step.tensor.name][-1] == step.tensor.size
        assert seen[step.tensor.name] == sorted(seen[step.tensor.name])
    assert len(seen[MATRICES[0]]) > 5


def test_reads_are_of_some_rows_only(tmp_path, small_chunks, monkeypatch):
    """No read, and no matrix that a codec sees, is larger than a chunk, whatever the tensor."""
    model = write_folder(tmp_path / "model", small_tensors())
    reads, raw = [], StoredTensor.raw

    def watched(tensor, start, stop):
        reads.append((stop - start) * tensor.columns)
        return raw(tensor, start, stop)

    monkeypatch.setattr(StoredTensor, "raw", watched)
    for fmt in ("nvfp4", "bitmod4-g32"):
        run(model, tmp_path / f"{fmt}.safetensors", fmt)
    assert len(reads) > 50
    assert max(reads) <= 250


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("fmt", ["int4-g32", "nvfp4", "float8_e4m3fn", "2:4", "kvquant4-g32"])
def test_a_weight_that_is_not_finite_is_named_and_nothing_is_left_behind(tmp_path, small_chunks, bad, fmt):
    tensors = small_tensors()
    tensors[MATRICES[1]][70, 3] = bad
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"^weights must be finite float32, not {bad}: {MATRICES[1]}, row 70, column 3$"):
        run(tmp_path / "model.safetensors", tmp_path / "out.safetensors", fmt)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("fmt", ["dfloat11", "float32", "bfloat16", "float16", "float8_e5m2"])
def test_formats_that_hold_nan_and_infinities_keep_them(tmp_path, small_chunks, fmt, axis):
    """And the errors are those of the other weights."""
    name = MATRICES[1]
    tensors = {name: small_tensors()[name]}
    run(write_folder(tmp_path / "finite", tensors), tmp_path / "finite.safetensors", fmt, axis=axis)
    odd = {(0, 0): np.nan, (70, 3): np.inf, (95, 47): -np.inf}
    for place, value in odd.items():
        tensors[name][place] = value
    report, = run(write_folder(tmp_path / "odd", tensors), tmp_path / "odd.safetensors", fmt, axis=axis)
    found, finite = (dequantize(load(tmp_path / f"{which}.safetensors")[name]) for which in ("odd", "finite"))
    for place, value in odd.items():
        np.testing.assert_equal(found[place], np.float32(value))
        finite[place] = value
    np.testing.assert_array_equal(found, finite)
    kept = np.isfinite(found)
    error = np.abs(found[kept].astype(np.float64) - tensors[name][kept].astype(np.float64))
    assert report.errors.largest == error.max()
    assert report.errors.noise == pytest.approx((error ** 2).sum(), rel=1e-9)


def test_a_weight_beyond_float32_is_no_infinity(tmp_path):
    save_file({"w": np.array([[1.0, np.inf], [2.0, 1e300]])}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"^weights must be finite float32, not 1e\+300: w, row 1, column 1$"):
        run(tmp_path / "model.safetensors", tmp_path / "out.safetensors", "float32")


def test_a_bad_weight_is_named_by_its_place_in_the_file_with_axis_0(tmp_path, small_chunks):
    tensors = {"w": np.ones((60, 30), np.float32)}
    tensors["w"][41, 7] = np.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"w, row 41, column 7$"):
        run(tmp_path / "model.safetensors", tmp_path / "out.safetensors", axis=0)


def test_what_a_format_cannot_take_names_the_tensor(tmp_path):
    save_file({"w": -np.ones((2, 32), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"^w, rows from 0 on: values must be 0 or more in float8_s0e4m4, not -1\.0 .*$"):
        run(tmp_path / "model.safetensors", tmp_path / "out.safetensors", "float8_s0e4m4")


@pytest.mark.parametrize("fmt", ["float16", "float8_e5m2"])
def test_a_weight_that_becomes_infinite_names_the_tensor(tmp_path, fmt):
    save_file({"w": np.array([[1.0, -1e6]], np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"^weights must stay finite in {fmt}, but w has one that is too large for it$"):
        run(tmp_path / "model.safetensors", tmp_path / "out.safetensors", fmt)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_format_that_is_not_what_its_name_says(tmp_path):
    save_file({"w": np.ones((2, 16), np.float32)}, tmp_path / "model.safetensors")
    fmt = dataclasses.replace(format_named("razer"), specials=(5.0, 7.0, -5.0, -7.0))
    with pytest.raises(FormatError, match=r"^a format in a file must be what its name says, not another one called 'razer'"):
        convert(plan_of(open_checkpoint(tmp_path / "model.safetensors"), fmt), tmp_path / "out.safetensors")


@pytest.mark.parametrize(("choice", "text"), [
    ({"only": ["*lm_head*"]}, r"a glob must match the name of a tensor; '\*lm_head\*' matches none"),
    ({"skip": ["nothing"]}, r"a glob must match the name of a tensor; 'nothing' matches none"),
    ({"skip": ["*"]}, r"MODEL has no matrix of floats that is to be quantized"),
    ({"only": ["*bias"]}, r"MODEL has no matrix of floats that is to be quantized"),
    ({"fmt": None}, r"MODEL has no tensor in blocks of GGUF that could be taken: give a format"),
    ({"axis": 1}, r"the reduction axis must be -1 or 0, not 1"),
    ({"axis": 0, "only": ["*experts*"]},
     r"the reduction axis must be -1 for tensors of more than two axes \(model\.layers\.0\.experts\.weight\), not 0"),
])
def test_impossible_plans(tmp_path, choice, text):
    model = write_folder(tmp_path / "model", small_tensors())
    with pytest.raises(CheckpointError, match=f"^{text}$"):
        run(model, tmp_path / "out.safetensors", **choice)


def test_parts_that_would_share_a_name_are_refused(tmp_path):
    save_file({"w": np.ones((2, 32), np.float32), "w.payload": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"^tensors must have names of their own in the output, but 'w\.payload' is a part"):
        run(tmp_path / "model.safetensors", tmp_path / "out.safetensors")


def test_plan_says_what_becomes_of_each(tmp_path):
    steps = plan_of(open_checkpoint(write_folder(tmp_path / "model", small_tensors())), format_named("int8"))
    assert {step.tensor.name for step in steps if step.way is Way.QUANTIZE} == set(MATRICES)
    assert {step.way for step in steps} == {Way.QUANTIZE, Way.COPY}


def truncated(path, tmp_path):
    file = tmp_path / "short.safetensors"
    file.write_bytes(path.read_bytes()[:-5])
    return file


def test_files_that_are_no_checkpoints(tmp_path):
    save_file(small_tensors(), tmp_path / "model.safetensors")
    whole = tmp_path / "model.safetensors"
    text = tmp_path / "text.safetensors"
    text.write_text("hello, hello, hello")
    lying = tmp_path / "header.safetensors"
    lying.write_bytes(struct.pack("<Q", 10_000) + b"{}")
    for file in (truncated(whole, tmp_path), text, lying):
        with pytest.raises(CheckpointError, match=rf"^{file} must be a whole safetensors file: .+$"):
            open_checkpoint(file)
    with pytest.raises(CheckpointError, match=r"^MODEL must be .*; there is no '.*nothing'$"):
        open_checkpoint(tmp_path / "nothing")


def test_folders_that_are_no_checkpoints(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"^.*empty must hold model\.safetensors or model\.safetensors\.index\.json$"):
        open_checkpoint(tmp_path / "empty")
    model = write_folder(tmp_path / "model", small_tensors(), shards=2)
    index = model / "model.safetensors.index.json"
    whole = index.read_text()
    index.write_text("{}")
    with pytest.raises(CheckpointError, match=r"^.*index\.json must map tensors to files in 'weight_map': KeyError.*$"):
        open_checkpoint(model)
    index.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"^.*index\.json must map tensors to files in 'weight_map': RecursionError.*$"):
        open_checkpoint(model)
    for odd in (5, ["a"]):
        index.write_text(json.dumps({"weight_map": {"w": odd}}))
        with pytest.raises(CheckpointError, match=rf"^.*index\.json must map .* in 'weight_map', not to {re.escape(str(odd))}$"):
            open_checkpoint(model)
    index.write_text(json.dumps({"weight_map": {**json.loads(whole)["weight_map"], "ghost": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"^the files that .*index\.json names must hold 'ghost'$"):
        open_checkpoint(model)
    index.write_text(whole)
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"^.*index\.json names 'model-00002-.*', which must lie beside it$"):
        open_checkpoint(model)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    save_file({"w": np.ones((64, 32), np.float32), "z": np.ones(999, ml_dtypes.bfloat16)}, tmp_path / "model.safetensors")
    tensors = open_checkpoint(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:500])
    reads = (lambda tensor: tensor.raw(0, tensor.rows), lambda tensor: list(tensor.pieces()))
    for tensor, read in zip(tensors, reads, strict=True):
        with pytest.raises(CheckpointError, match=rf"^.*model\.safetensors must hold all of {tensor.name}, but it ends before$"):
            read(tensor)


def test_a_tensor_in_no_format_is_not_taken(tmp_path):
    save_file({"w": np.ones((2, 32), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"^w must be in a number format, not F32$"):
        open_checkpoint(tmp_path / "model.safetensors")[0].quantized(0, 1)


def test_the_file_is_one_of_safetensors(tmp_path):
    run(write_folder(tmp_path / "model", small_tensors()), tmp_path / "out.safetensors", "int8")
    with safe_open(tmp_path / "out.safetensors", framework="numpy") as file:
        assert file.get_tensor(f"{MATRICES[0]}.outer_scale").shape == (48,)
        assert json.loads(file.metadata()["heddle"])["tensors"][MATRICES[0]] == {"format": "int8", "shape": [48, 32], "axis": 1}
