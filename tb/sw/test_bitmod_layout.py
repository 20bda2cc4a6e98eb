# amaranth: UnusedElaboratable=no
"""Quantized matrices laid out for the BitMoD engine: golden rows and RTL rows are the matrix product that the format says."""

import dataclasses

import numpy as np
import pytest

from hw.array.bitmod_engine import BitmodEngine
from hw.config import AcceleratorConfig
from hw.elements import FP16, FP32
from hw.formats import FORMATS as FORMATS_BY_NAME
from hw.isa import Dataflow
from sw.bitmod_layout import BitmodWeights, bitmod_activations, bitmod_weights
from sw.formats import dequantize, quantize
from sw.golden.arith.floating import decode
from sw.golden.array.bitmod import product, result_rows
from sw.layout import LayoutError
from tb.array.engine import EngineBench, command_of
from tb.sim import simulate

R, C = 2, 4
CONFIG = AcceleratorConfig(rows=R, columns=C, scratchpad_bytes=2048, accumulator_rows=32, os_depth=4096, bus_width=64)
FORMATS = ["bitmod4-g16", "bitmod3-g32", "int6-g32-int8", "int8-g16-int8", "int3-g16-int8", "int4-g16-int8"]


def laid_out(name: str, m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray, BitmodWeights, np.ndarray, dict[str, int]]:
    """Return activations, the matrix as quantized, weights, a scratchpad with both operands, and the command that multiplies."""
    rng = np.random.default_rng(n)
    a = rng.integers(-128, 128, (m, k)).astype(np.int8)
    tensor = quantize(rng.normal(size=(n, k)), name)
    weights, left = bitmod_weights(tensor, C), bitmod_activations(a, R)
    stream = np.concatenate([left.ravel(), weights.stream.ravel()])
    scratchpad = np.pad(stream, (0, CONFIG.scratchpad_bytes - stream.size))
    command = command_of(m, n, k, Dataflow.OS, activation_stride=left.shape[2], activation_tile_stride=left[0].size,
                         weight_addr=left.size, acc_tile_stride=m, **weights.fields)
    return a, dequantize(tensor), weights, scratchpad, command


def added_up(rows, m: int, n: int) -> np.ndarray:
    accumulator = np.zeros((CONFIG.accumulator_rows, C))
    for row, accumulate, products in rows:
        accumulator[row] = np.array(products) + accumulate * accumulator[row]
    return np.concatenate([accumulator[j * m:j * m + m] for j in range(-(-n // C))], axis=1)[:, :n]


def check(found: np.ndarray, a: np.ndarray, matrix: np.ndarray) -> None:
    """The engine is exact: only the scale of a column and each value of the dequantized matrix are rounded, to float32."""
    left, right = a.astype(np.float64), matrix.T.astype(np.float64)
    assert (np.abs(found - left @ right) <= 2.0**-22 * (np.abs(left) @ np.abs(right))).all()
    assert np.abs(found).max() > 1


@pytest.mark.parametrize(("m", "n", "k"), [(3, 7, 64), (2, 4, 50), (1, 8, 32)])
@pytest.mark.parametrize("name", FORMATS)
def test_golden_product(name, m, n, k):
    a, matrix, weights, scratchpad, command = laid_out(name, m, n, k)
    rows = result_rows(CONFIG, command, scratchpad, precision=weights.precision, group=weights.group, specials=weights.specials)
    found = added_up(rows, m, n) * weights.column_scale
    check(found, a, matrix)


@pytest.mark.parametrize("name", ["bitmod4-g16", "bitmod3-g32"])
def test_product_of_the_engine(name):
    """The same in RTL, from packed words of the format to scaled results."""
    m, n, k = 3, 7, 50
    a, matrix, weights, scratchpad, command = laid_out(name, m, n, k)
    dut = BitmodEngine(CONFIG, precision=weights.precision, group=weights.group, specials=weights.specials)
    bench = EngineBench(dut, scratchpad, lanes=4)
    simulate(dut, bench.feed([command]), background=[bench.memory, bench.record])
    found = added_up([row[1:] for row in bench.rows], m, n) * weights.column_scale
    check(found, a, matrix)


@pytest.mark.parametrize("name", ["bitmod4-g128", "bitmod3-g128", "int6-g128-int8"])
def test_float16_activations(name):
    """What the tile of float16 activations computes of a quantized matrix, within 2^−12 of Σ |activation · weight|."""
    rng = np.random.default_rng(5)
    a = rng.normal(size=(8, 384)).astype(np.float16)
    tensor = quantize(rng.normal(size=(16, 384)), name)
    fields, outer = tensor.encoded.fields, tensor.side["outer_scale"].astype(np.float64)
    weights = bitmod_weights(tensor, C)
    specials = np.array(weights.specials)[fields["special"][:, :, 0]] if "special" in fields else np.zeros((16, 3))
    words = product(FP16, a.view(np.uint16).astype(np.int64), fields["codes"].reshape(16, -1).astype(np.int64),
                    fields["scale"][:, :, 0].astype(np.int64), specials, precision=weights.precision, group=weights.group)
    left, right = a.astype(np.float64), dequantize(tensor).astype(np.float64)
    error = np.abs(decode(FP32, words) * outer - left @ right.T)
    assert (error <= 2.0**-12 * (np.abs(left) @ np.abs(right.T))).all()


def test_layout_of_a_slot():
    """Codes k by k, low nibble first, after a header of scale and special value."""
    tensor = quantize(np.linspace(-1, 1, 64).reshape(4, 16), "bitmod4-g16")
    weights, fields = bitmod_weights(tensor, 4), tensor.encoded.fields
    header = np.stack([fields["scale"][:, 0, 0], fields["special"][:, 0, 0]], axis=1).ravel()
    assert weights.stream.shape == (1, 5, 8)
    assert weights.stream[0, 0].tolist() == header.tolist()
    assert weights.stream[0, 2].tolist() == [fields["codes"][c, 0, 4 + k] | fields["codes"][c + 1, 0, 4 + k] << 4
                                             for k in range(4) for c in (0, 2)]
    slots = bitmod_activations(np.arange(-6, 6, dtype=np.int8).reshape(2, 6), 2)
    assert slots.shape == (1, 2, 8)
    assert slots.view(np.int8).tolist() == [[[-6, 0, -5, 1, -4, 2, -3, 3], [-2, 4, -1, 5, 0, 0, 0, 0]]]


@pytest.mark.parametrize(("name", "text"), [
    ("nf4-g128", r"elements of int8, int6, int5, int4, int3, fp4, fp3 and no zero point, not 'nf4-g128'"),
    ("int4-asym-g128", r"elements of int8, .* and no zero point, not 'int4-asym-g128'"),
    ("2:4", r"elements of int8, .* and no zero point, not '2:4'"),
    ("fp4-g128", r"8-bit group scales, as bitmod4-g128 or int6-g128-int8, not 'fp4-g128'"),
    ("int8", r"8-bit group scales, as bitmod4-g128 or int6-g128-int8, not 'int8'"),
    ("bitmod4-g18", r"groups of a multiple of 4, at least 16, not 'bitmod4-g18'"),
    ("bitmod4-g8", r"groups of a multiple of 4, at least 16, not 'bitmod4-g8'"),
])
def test_formats_that_the_engine_cannot_read(name, text):
    with pytest.raises(LayoutError, match=rf"^a format for BitMoD must have {text}$"):
        bitmod_weights(quantize(np.ones((4, 144)), name), 4)


@pytest.mark.parametrize(("changes", "text"), [
    ({"special_code": 0}, "its special value in the code of −0"),
    ({"specials": (5.0, -5.0, 7.0, -7.0)}, "up to four special values of two terms each"),
    ({"specials": (5.0, -5.0, 16.0, -8.0)}, "up to four special values of two terms each"),
])
def test_special_values_that_the_engine_cannot_hold(changes, text):
    fmt = dataclasses.replace(FORMATS_BY_NAME["bitmod4-g128"], **changes)
    with pytest.raises(LayoutError, match=rf"^a format for BitMoD must have {text}, not 'bitmod4-g128'$"):
        bitmod_weights(quantize(np.ones((4, 128)), fmt), 4)


def test_shapes_that_do_not_fit():
    with pytest.raises(LayoutError,
                       match=r"^weights for BitMoD must be of shape \(N, K\) with blocks along K, not \(16, 4\) along axis 0$"):
        bitmod_weights(quantize(np.ones((16, 4)), "bitmod4-g16", axis=0), 4)
    with pytest.raises(LayoutError, match=r"^weights for BitMoD must be of shape \(N, K\) .*, not \(1, 4, 16\) along axis 2$"):
        bitmod_weights(quantize(np.ones((1, 4, 16)), "bitmod4-g16"), 4)
    with pytest.raises(LayoutError, match=r"^activations for BitMoD must be \(M, K\) int8, not \(4,\) int8$"):
        bitmod_activations(np.zeros(4, np.int8), 4)
    with pytest.raises(LayoutError, match=r"^activations for BitMoD must be \(M, K\) int8, not \(4, 4\) int16$"):
        bitmod_activations(np.zeros((4, 4), np.int16), 4)
