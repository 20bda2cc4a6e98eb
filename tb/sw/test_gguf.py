"""GGUF files, written by the gguf package: taken into formats of ours, every value equals the package's own decoding."""

import subprocess
import sys

import gguf
import numpy as np
import pytest

from hw.formats import format_named
from sw.checkpoint import CheckpointError, Way, convert, open_checkpoint, plan_of
from sw.formats import QuantizedTensor, dequantize, load, quantize
from sw.gguf import GGUF_FORMATS

TYPES = gguf.GGMLQuantizationType
TAKEN = ("Q8_0", "Q4_0", "MXFP4")


def write(path, tensors, endian=gguf.GGUFEndian.LITTLE):
    """Write name → (array, type); arrays of block types are bytes."""
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=TYPES[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(rows=24, columns=96, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * 0.1).astype(np.float32)


def blocks(kind, rows=40, columns=96, seed=0):
    """Return random bytes as rows of blocks: every code, negative and subnormal scales, no NaN and no infinity."""
    size, rng = GGUF_FORMATS[kind][1], np.random.default_rng(seed)
    found = rng.integers(0, 256, (rows, columns // 32, size), np.uint8)
    if kind == "MXFP4":
        found[..., 0] = rng.integers(0, 252, found.shape[:-1])      # above, ×12 overflows float32 in the package
        found[0, :2, 0] = 0, 1
    else:
        found[..., 1] &= 0b10111111                                 # exponents of float16 below 16
    return found.reshape(rows, -1)


def convert_file(model, out, fmt=None, **choice):
    return convert(plan_of(open_checkpoint(model), None if fmt is None else format_named(fmt), **choice), out)


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("make", [lambda kind: gguf.quantize(weights(), TYPES[kind]), blocks], ids=["weights", "random"])
def test_taken_blocks_decode_as_the_package_decodes_them(tmp_path, monkeypatch, kind, make):
    monkeypatch.setattr("sw.checkpoint.matrix.CHUNK", 5 * 96)
    stored = make(kind)
    model = write(tmp_path / "m.gguf", {"blk.0.w.weight": (stored, kind)})
    reports = convert_file(model, tmp_path / "out.safetensors")
    found = load(tmp_path / "out.safetensors")["blk.0.w.weight"]
    expected = gguf.dequantize(stored, TYPES[kind])
    assert isinstance(found, QuantizedTensor)
    assert found.format.name == GGUF_FORMATS[kind][0]
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    assert np.array_equal(dequantize(found), expected)
    assert reports[0].errors is None
    assert (reports[0].source, reports[0].way) == (kind, Way.TAKE.value)


@pytest.mark.parametrize(("kind", "bits"), [("Q8_0", 8.5), ("Q4_0", 4.5), ("MXFP4", 4.25)])
def test_taken_blocks_keep_their_size(tmp_path, kind, bits):
    model = write(tmp_path / "m.gguf", {"w": (gguf.quantize(weights(), TYPES[kind]), kind)})
    report, = convert_file(model, tmp_path / "out.safetensors")
    assert report.bits_per_weight == bits


def test_every_code_of_q4_0_is_read_as_its_value(tmp_path):
    block = np.zeros((1, 18), np.uint8)
    block[0, :2] = np.array([1.0], np.float16).view(np.uint8)
    block[0, 2:] = np.arange(16) | (15 - np.arange(16)) << 4
    convert_file(write(tmp_path / "m.gguf", {"w": (block, "Q4_0")}), tmp_path / "out.safetensors")
    assert dequantize(load(tmp_path / "out.safetensors")["w"])[0].tolist() == [*range(-8, 8), *range(7, -9, -1)]


def test_every_code_of_mxfp4_is_read_as_its_value(tmp_path):
    block = np.zeros((1, 17), np.uint8)
    block[0, 0] = 128                                               # 2, of which llama.cpp makes 1 and doubles the levels
    block[0, 1:] = np.arange(16) | (15 - np.arange(16)) << 4
    convert_file(write(tmp_path / "m.gguf", {"w": (block, "MXFP4")}), tmp_path / "out.safetensors")
    positive = [0, 1, 2, 3, 4, 6, 8, 12]
    every = [*positive, *(-value for value in positive)]
    assert dequantize(load(tmp_path / "out.safetensors")["w"])[0].tolist() == [*every, *every[::-1]]


def mixed(path):
    """Write a file with every kind of tensor that a model has."""
    import ml_dtypes

    w = weights()
    return w, write(path, {
        "token_embd.weight": (gguf.quantize(w, TYPES.Q8_0), "Q8_0"),
        "blk.0.a.weight": (gguf.quantize(w, TYPES.Q4_0), "Q4_0"),
        "blk.0.b.weight": (gguf.quantize(w, TYPES.Q5_0), "Q5_0"),
        "blk.0.c.weight": (w, "F32"),
        "blk.0.d.weight": (w.astype(np.float16), "F16"),
        "blk.0.e.weight": (w.astype(ml_dtypes.bfloat16).view(np.uint8), "BF16"),
        "blk.0.norm.weight": (w[0], "F32"),
        "experts.weight": (gguf.quantize(w.reshape(4, 6, 96), TYPES.Q8_0), "Q8_0"),
    })


def test_without_a_format_blocks_are_taken_floats_kept_and_the_rest_decoded(tmp_path):
    w, model = mixed(tmp_path / "m.gguf")
    ways = {report.name: report.way for report in convert_file(model, tmp_path / "out.safetensors")}
    found = load(tmp_path / "out.safetensors")
    taken, decoded = ([name for name, way in ways.items() if way == wanted.value] for wanted in (Way.TAKE, Way.DECODE))
    assert (taken, decoded) == (["token_embd.weight", "blk.0.a.weight", "experts.weight"], ["blk.0.b.weight"])
    assert np.array_equal(found["blk.0.b.weight"], gguf.dequantize(gguf.quantize(w, TYPES.Q5_0), TYPES.Q5_0))
    assert np.array_equal(found["blk.0.c.weight"], w)
    assert [found[f"blk.0.{name}.weight"].dtype.name for name in "cde"] == ["float32", "float16", "bfloat16"]
    assert found["blk.0.norm.weight"].shape == (96,)
    assert found["experts.weight"].shape == (4, 6, 96)
    assert np.array_equal(dequantize(found["experts.weight"]).reshape(24, 96), dequantize(found["token_embd.weight"]))


def test_with_a_format_matrices_are_quantized_from_what_they_decode_to(tmp_path):
    w, model = mixed(tmp_path / "m.gguf")
    convert_file(model, tmp_path / "out.safetensors", "mxfp4-b32")
    found = load(tmp_path / "out.safetensors")
    assert {name: tensor.format.name for name, tensor in found.items() if isinstance(tensor, QuantizedTensor)} == {
        "token_embd.weight": "int8-g32", "experts.weight": "int8-g32",
        **{f"blk.0.{name}.weight": "mxfp4-b32" for name in "abcde"}}
    for name, kind in (("a", TYPES.Q4_0), ("b", TYPES.Q5_0)):
        expected = quantize(gguf.dequantize(gguf.quantize(w, kind), kind), "mxfp4-b32")
        assert np.array_equal(found[f"blk.0.{name}.weight"].payload, expected.payload)


def test_blocks_that_are_in_the_format_already_are_not_rounded_again(tmp_path):
    stored = gguf.quantize(weights(), TYPES.Q4_0)
    model = write(tmp_path / "m.gguf", {"w": (stored, "Q4_0")})
    report, = convert_file(model, tmp_path / "out.safetensors", "int4-g32-full")
    assert report.errors is None
    assert np.array_equal(dequantize(load(tmp_path / "out.safetensors")["w"]), gguf.dequantize(stored, TYPES.Q4_0))


def test_a_scale_that_is_nan_is_refused(tmp_path):
    block = np.full((1, 17), 255, np.uint8)
    model = write(tmp_path / "m.gguf", {"w": (block, "MXFP4")})
    with pytest.raises(CheckpointError, match=r"^w must have finite block scales, not the E8M0 code 0xff$"):
        convert_file(model, tmp_path / "out.safetensors")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_float16_scale_that_is_not_finite_is_refused(tmp_path, kind):
    block = gguf.quantize(weights(), TYPES[kind])
    block[3, :2] = 0x00, 0x7C
    model = write(tmp_path / "m.gguf", {"w": (block, kind)})
    with pytest.raises(CheckpointError, match=r"^w must have finite block scales, not the float16 code 0x7c00$"):
        convert_file(model, tmp_path / "out.safetensors")


def test_types_that_are_not_ours_cannot_be_taken_or_decoded(tmp_path):
    q5, q8 = (write(tmp_path / f"{kind}.gguf", {"w": (np.zeros((2, size), np.uint8), kind)})
              for kind, size in (("Q5_0", 22), ("Q8_1", 40)))
    with pytest.raises(CheckpointError, match=r"^w must be Q8_0, Q4_0, MXFP4 to be taken as it is, not Q5_0$"):
        open_checkpoint(q5)[0].quantized(0, 1)
    with pytest.raises(CheckpointError, match=r"^w must be of a type that the gguf package decodes, not Q8_1$"):
        convert_file(q8, tmp_path / "out.safetensors", "int8")


def test_files_that_are_not_whole_or_of_the_other_byte_order(tmp_path):
    _, model = mixed(tmp_path / "m.gguf")
    for cut in (4, 30, 2000, 20_000):
        (tmp_path / "short.gguf").write_bytes(model.read_bytes()[:cut])
        with pytest.raises(CheckpointError, match=r"^.*short\.gguf must be a whole GGUF file: .+$"):
            open_checkpoint(tmp_path / "short.gguf")
    (tmp_path / "text.gguf").write_text("no magic in here")
    with pytest.raises(CheckpointError, match=r"^.*text\.gguf must be a whole GGUF file: GGUF magic invalid$"):
        open_checkpoint(tmp_path / "text.gguf")
    big = write(tmp_path / "big.gguf", {"w": (weights(), "F32")}, gguf.GGUFEndian.BIG)
    with pytest.raises(CheckpointError, match=r"^.*big\.gguf must be little-endian, not big-endian$"):
        open_checkpoint(big)


def test_a_missing_package_names_the_extra(tmp_path):
    """In another process, where the package cannot be imported."""
    model = write(tmp_path / "m.gguf", {"w": (weights(), "F32")})
    code = "import sys; sys.modules['gguf'] = None; from flows.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "quantize", str(model), "-o", str(tmp_path / "out.safetensors")],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "heddle: reading GGUF needs the gguf package: pip install 'heddle[gguf]'\n")
