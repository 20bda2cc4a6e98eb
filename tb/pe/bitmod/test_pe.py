# amaranth: UnusedElaboratable=no
"""BitMoD PE against its golden model: random and corner groups, back to back and with gaps, every scale; cycles of a group."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hw.elements import BF16, ELEMENTS, FP16
from hw.pe.bitmod.shape import BitmodShape
from sw.golden.pe.bitmod import PRECISIONS, error_bound, group_sums, values, weight_value
from tb.arith.decode.bank import Bank
from tb.pe.bitmod.stimulus import Groups, UnpackedPE, drive, random_groups

INT8 = ELEMENTS["int8"]
SHAPES = {
    "float16": BitmodShape(),
    "float16 fp4": BitmodShape(precisions=("fp4", "fp3")),
    "bfloat16": BitmodShape(activation=BF16, precisions=("int6", "fp4", "fp3"), group=64),
    "int8": BitmodShape(activation=INT8),
}
CYCLES_OF_128 = {"int8": 128, "int6": 96, "int5": 96, "int4": 64, "int3": 64, "fp4": 64, "fp3": 64}


@functools.cache
def bank() -> Bank:
    return Bank({name: UnpackedPE(shape) for name, shape in SHAPES.items()}, "bitmod_pes")


def simulator(name: str) -> Any:
    """Return what runs one PE of the bank; the others idle."""

    def run(inputs: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        idle = {other: {port: 0 if np.ndim(column) < 2 else np.zeros((1, column.shape[1]), np.uint64)
                        for port, column in inputs.items()} for other in SHAPES if other != name}
        return bank().run({**idle, name: inputs})[name]

    return run


def normal_words(rng: np.random.Generator, shape: BitmodShape, count: int, group: int) -> npt.NDArray[np.int64]:
    """Return normally distributed activations (n, G) as words."""
    numbers = rng.normal(size=(count, group))
    if not shape.is_float:
        return np.clip(np.rint(40 * numbers), -128, 127).astype(np.int64) & 0xFF
    if shape.activation is BF16:
        return (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.int64)
    return numbers.astype(np.float16).view(np.uint16).astype(np.int64)


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("name", SHAPES)
def test_random_groups(name, stall):
    """Activations of every exponent, of one scale, small and large groups of all precisions in turn."""
    shape, rng, batches = SHAPES[name], np.random.default_rng(1), []
    for _ in range(3):
        for precision in shape.precisions:
            for group in (16, 32, shape.group):
                anything = rng.integers(0, 1 << shape.activation.bits, (6, group))
                batches += [random_groups(rng, precision, words) for words in (anything, normal_words(rng, shape, 6, group))]
    done = drive(simulator(name), shape, batches, stall=stall, seed=2)
    assert len(done) == 108 * len(shape.precisions)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cycles_of_a_group(precision):
    """One group starts right behind the other, scales never wait: 4, 3 or 2 cycles for four weights."""
    rng = np.random.default_rng(3)
    words = normal_words(rng, SHAPES["float16"], 5, 128)
    done = drive(simulator("float16"), SHAPES["float16"], [random_groups(rng, precision, words)])
    assert set(np.diff(done)) == {CYCLES_OF_128[precision]}


def test_a_group_may_be_as_short_as_its_scale():
    rng = np.random.default_rng(4)
    words = normal_words(rng, SHAPES["float16"], 64, 16)
    done = drive(simulator("float16"), SHAPES["float16"], [random_groups(rng, "fp4", words)])
    assert set(np.diff(done)) == {8}


@pytest.mark.parametrize("name", SHAPES)
def test_every_scale(name):
    rng = np.random.default_rng(5)
    shape = SHAPES[name]
    groups = random_groups(rng, "fp4", normal_words(rng, shape, 512, 16))
    groups.scales[:] = np.arange(512) % 256
    drive(simulator(name), shape, [groups])


def test_every_activation_word():
    """Every float16 word in every lane, NaN and infinities as zero, which is reported."""
    rng = np.random.default_rng(6)
    words = np.concatenate([np.roll(np.arange(1 << 16), lane) for lane in range(4)]).reshape(-1, 16)
    drive(simulator("float16"), SHAPES["float16"], [random_groups(rng, "fp4", words)])


def test_special_activations_are_reported():
    inputs = {port: 0 for port in ("valid", "first", "last", "significance", "terms", "scale_bit")}
    words = np.array([[0x3C00, 0, 0, 0], [0x7C00, 0, 0, 0], [0, 0xFC00, 0, 0], [0, 0, 0x7E01, 0], [0, 0, 0, 0x7BFF]])
    packed = (words << 16 * np.arange(4)).astype(np.uint64).sum(axis=1, dtype=np.uint64)
    assert simulator("float16")({**inputs, "words": packed})["flushed"].tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_activation_in_a_group_is_exact(precision):
    """A power of two of any exponent, at any place, times any weight: what the format says, to the last bit."""
    rng = np.random.default_rng(7)
    shape, count = SHAPES["float16"], 600
    words = np.zeros((count, 16), np.int64)
    place = rng.integers(0, 16, count)
    words[np.arange(count), place] = rng.integers(1, 31, count) << 10 | rng.integers(0, 2, count) << 15
    groups = random_groups(rng, precision, words)
    drive(simulator("float16"), shape, [groups])
    mantissa, exponent = group_sums(shape.activation, words, precision, groups.codes, groups.specials)
    weights = [weight_value(precision, int(codes[at]), special)
               for codes, at, special in zip(groups.codes, place, groups.specials.tolist(), strict=True)]
    expected = values(FP16, words).sum(axis=1) * weights
    np.testing.assert_array_equal(np.ldexp(mantissa.astype(np.float64), exponent + lsb(shape, precision)), expected)


def lsb(shape: BitmodShape, precision: str) -> int:
    return shape.lsb - PRECISIONS[precision].is_float


def corners() -> dict[str, npt.NDArray[np.int64]]:
    """Activations (n, 128) that are hard on alignment and on the accumulator's width."""
    rng = np.random.default_rng(8)
    spread = (rng.permuted(np.tile(np.arange(128) % 31, (40, 1)), axis=1) << 10) | rng.integers(0, 1024, (40, 128)) \
        | rng.integers(0, 2, (40, 128)) << 15
    half = rng.integers(0, 0x7C00, (40, 64))
    return {
        "alignment underflow": spread,
        "rising exponents": np.sort(rng.integers(0, 0x7C00, (40, 128)), axis=1) | rng.integers(0, 2, (40, 128)) << 15,
        "falling exponents": -np.sort(-rng.integers(0, 0x7C00, (40, 128)), axis=1),
        "cancellation": np.stack([half, half | 0x8000], axis=2).reshape(40, 128),
        "cancellation from afar": np.concatenate([half, half | 0x8000], axis=1),
        "subnormal values": rng.integers(0, 1024, (40, 128)) | rng.integers(0, 2, (40, 128)) << 15,
        "around the smallest normal value": rng.integers(1000, 1100, (40, 128)),
        "ties": 0x3C00 - (rng.integers(0, 16, (40, 128)) << 10) | 1 << 9,
        "small ones, then large ones": np.where(np.arange(128) < 124, 0x07FF, 0x7800) + np.zeros((4, 1), np.int64),
        "zeros": np.zeros((4, 128), np.int64) | rng.integers(0, 2, (4, 128)) << 15,
        "largest": np.full((4, 128), 0x7BFF),
        "largest, negative": np.full((4, 128), 0xFBFF),
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_corners(precision):
    rng = np.random.default_rng(9)
    shape = SHAPES["float16"]
    batches = [random_groups(rng, precision, words) for words in corners().values()]
    for groups in batches:
        if len(groups.words) == 4:      # the largest sums: weights of one sign
            groups.codes[:] = extreme_code(precision)
            groups.specials[:] = {"fp4": -8.0, "fp3": 6.0}.get(precision, 0.0)
    drive(simulator("float16"), shape, batches)
    if precision in SHAPES["float16 fp4"].precisions:       # the same in 24 bits
        drive(simulator("float16 fp4"), SHAPES["float16 fp4"], batches)


def extreme_code(precision: str) -> int:
    """Return the most negative integer; of floats 6 or 4, whose terms fill both places."""
    bits = PRECISIONS[precision].element.bits
    return {"fp4": 0b0111, "fp3": 0b100}.get(precision, 1 << bits - 1)


def test_largest_integer_sums():
    """−128 · −128, 128 times, and 8 · −128: the ends of the accumulator for int8 activations."""
    shape, words = SHAPES["int8"], np.full((2, 128), 0x80)
    for precision, special in (("int8", 0.0), ("fp4", 8.0), ("fp4", -8.0)):
        codes = np.full((2, 128), 0x80 if precision == "int8" else 0b1000)
        groups = Groups(precision=precision, words=words, codes=codes, specials=np.full(2, special), scales=np.full(2, 255))
        drive(simulator("int8"), shape, [groups])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_distance_from_exact_sums(precision):
    """The golden model, and so the PE, is within the bound that follows from its rounding; on random data far within."""
    rng = np.random.default_rng(10)
    shape = SHAPES["float16"]
    for words in (*corners().values(), normal_words(rng, shape, 300, 128)):
        groups = random_groups(rng, precision, words)
        mantissa, exponent = group_sums(shape.activation, words, precision, groups.codes, groups.specials)
        weights = np.array([[weight_value(precision, code, special) for code in codes]
                            for codes, special in zip(groups.codes.tolist(), groups.specials.tolist(), strict=True)])
        activations = values(FP16, words)
        unit = np.ldexp(1.0, exponent + lsb(shape, precision))
        error = np.abs(mantissa * unit - (activations * weights).sum(axis=1))
        assert (error <= unit * error_bound(precision, 128)).all()
    assert (error <= 2.0**-12 * np.abs(activations * weights).sum(axis=1)).all()
    assert (error > 0).sum() > 100
