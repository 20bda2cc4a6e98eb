"""The datapath of the vector unit against numpy: random commands over every field, corner values, gaps, bit for bit."""

import functools

import numpy as np
import numpy.typing as npt
import pytest

from hw.config import AcceleratorConfig, ceil_div, ceil_log2
from hw.elements import FP32
from hw.isa import DESCRIPTORS, RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from hw.timing import VECTOR_STAGES, row_maximum_latency, row_sum_latency
from hw.vector.layouts import slice_layout
from sw.golden.vector.elements import row_maximum, row_sum, transform
from sw.golden.vector.streams import canonical
from tb.arith.words import corners
from tb.vector.commands import VectorSpace, random_vector_command
from tb.vector.datapath import DatapathSim, Found, Operands

Words = npt.NDArray[np.uint32]
CONFIGS = {
    "transformer-3": AcceleratorConfig(columns=3, vector_lanes=3, vector="transformer"),
    "transformer-1": AcceleratorConfig(columns=4, vector_lanes=1, vector="transformer"),
    "requantize-2": AcceleratorConfig(vector_lanes=2),
}
configs = pytest.mark.parametrize("name", CONFIGS)
SPACE = VectorSpace(inputs=(0,), output=16384, area_bytes=16384, acc=0, acc_rows=256, row=0, rows=64, longest=60)
CORNERS = np.array(corners(FP32), np.uint32)
INTEGERS = np.array([0, 1, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF, 0x0100_0001, 0x0100_0003], np.uint32)


@functools.cache
def sim(name: str) -> DatapathSim:
    return DatapathSim(CONFIGS[name], name)


def floats(rng: np.random.Generator, shape: tuple[int, ...], wild: float) -> Words:
    """Return float32 words: ordinary ones, but with probability `wild` any word or a corner."""
    ordinary = (rng.standard_normal(shape) * 2.0 ** rng.integers(-3, 4, shape)).astype(np.float32).view(np.uint32)
    other = np.where(rng.random(shape) < 0.5, rng.choice(CORNERS, shape), rng.integers(0, 1 << 32, shape, np.uint32))
    return np.where(rng.random(shape) < wild, other, ordinary)


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> Words:
    """Return int32 words of any size."""
    ordinary = (rng.integers(-1 << 31, 1 << 31, shape) >> rng.integers(0, 31, shape)).astype(np.int32).view(np.uint32)
    return np.where(rng.random(shape) < 0.05, rng.choice(INTEGERS, shape), ordinary)


def operands_of(fields: dict[str, int], rng: np.random.Generator, wild: float) -> Operands:
    """Return random operands of a command."""
    source = fields["source"]
    shape = fields["m"], 1 if source in (VectorSource.ROW, VectorSource.SCALAR) else fields["n"]
    if source == VectorSource.ACCUMULATOR:
        a = integers(rng, shape)
    elif source in (VectorSource.INT8, VectorSource.UINT4):
        a = rng.integers(*((-128, 128) if source == VectorSource.INT8 else (0, 16)), shape).astype(np.int32).view(np.uint32)
    else:
        a = floats(rng, shape, wild)
    c = None
    if fields["c_use"]:
        c = integers(rng, shape) if fields["c_use"] == StreamUse.BIAS else floats(rng, shape, wild)
    return Operands(
        fields=fields, a=a, b=floats(rng, shape, wild) if fields["b_en"] else None, c=c,
        row0=floats(rng, shape[:1], wild) if fields["row0_en"] and source != VectorSource.ROW else None,
        row1=floats(rng, shape[:1], wild) if fields["row1_use"] else None)


def real(words: Words | None) -> npt.NDArray[np.float32] | None:
    return None if words is None else words.view(np.float32)


def check(config: AcceleratorConfig, given: Operands, found: Found) -> None:
    """Compare with numpy; without the dropped slices, and scalars of whole rows only."""
    fields, lanes = given.fields, config.vector_lanes
    m, n = given.a.shape
    slices = ceil_div(n, lanes)
    integer = fields["source"] in (VectorSource.ACCUMULATOR, VectorSource.INT8, VectorSource.UINT4)
    a = given.a.view(np.int32).astype(np.int64) if integer else real(given.a)
    b = real(given.b) if given.b is not None else np.array([fields["scale"]], np.uint32).view(np.float32)[0]
    c = given.c.view(np.int32) if fields["c_use"] == StreamUse.BIAS else real(given.c)
    row0 = None if given.row0 is None else real(given.row0)[:, None]
    row1 = None if given.row1 is None else real(given.row1 ^ np.uint32(fields["row1_negate"] << 31))[:, None]
    values, results = transform(fields, a, b, c, row0, row1, 0)

    whole = m * slices - given.dropped
    layout, first = slice_layout(config), np.arange(m * slices)[:whole] % slices * lanes
    count = np.minimum(n - first, lanes)
    for name, column in (("count", count), ("first", first == 0), ("last", first + lanes >= n)):
        got = found.slices >> np.uint64(layout[name].offset) & np.uint64((1 << layout[name].width) - 1)
        np.testing.assert_array_equal(got, column)
    present = np.arange(lanes) < count[:, None]
    expected = np.zeros((m, slices * lanes), np.uint32)
    expected[:, :n] = written(VectorOutput(fields["output"]), results)
    if fields["output"] != VectorOutput.NONE:
        np.testing.assert_array_equal(np.where(present, found.words, 0),
                                      np.where(present, expected.reshape(-1, lanes)[:whole], 0), err_msg=str(fields))
    rows = whole // slices
    sums = maxima = np.zeros(0, np.float32)
    with np.errstate(all="ignore"):
        if fields["sum"]:
            sums = row_sum(values * values if fields["sum"] == 2 else values, lanes)[:rows]
        if fields["max"]:
            seed = row1[:, 0] if fields["row1_use"] == RowUse.SEED else None
            maxima = row_maximum(np.abs(results) if fields["max"] == 2 else results, seed)[:rows]
    np.testing.assert_array_equal(found.sums, canonical(sums).view(np.uint32), err_msg=str(fields))
    np.testing.assert_array_equal(found.maxima, canonical(maxima).view(np.uint32), err_msg=str(fields))


def written(output: VectorOutput, results: npt.NDArray[np.float32]) -> Words:
    """Return the words that show results."""
    if output in (VectorOutput.INT8, VectorOutput.UINT4):
        low, high, mask = (-128, 127, 255) if output == VectorOutput.INT8 else (0, 15, 15)
        whole = np.clip(np.nan_to_num(np.rint(canonical(results)), nan=0.0, posinf=high, neginf=low), low, high).astype(np.int32)
        return whole.view(np.uint32) & np.uint32(mask)
    return canonical(results).view(np.uint32)


def through(config: AcceleratorConfig, fields: dict[str, int]) -> int:
    """Return the cycles of the last slice."""
    stages, lanes = VECTOR_STAGES[config.vector], config.vector_lanes
    ends = [stages.output]
    if config.vector == "transformer":
        ends += [stages.result + row_maximum_latency(lanes) * (fields["max"] != 0),
                 stages.result + row_sum_latency(lanes) * (fields["sum"] != 0), stages.result + ceil_log2(lanes)]
    return max(ends)


def random_operands(config: AcceleratorConfig, seed: int, count: int) -> list[Operands]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        wild = (0.0, 0.02, 0.5)[number % 3]
        fields = random_vector_command(config, rng, SPACE)
        for constant in ("scale", "constant"):
            if rng.random() < wild:
                fields[constant] = int(rng.choice(CORNERS))
        found.append(operands_of(fields, rng, wild))
    return found


@configs
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_random_commands(name, stall):
    config = CONFIGS[name]
    commands = random_operands(config, int(10 * stall), 120)
    results = sim(name).run(commands, stall=stall, seed=7)
    for given, found in zip(commands, results, strict=True):
        check(config, given, found)
        if not stall:
            m, n = given.a.shape
            assert found.cycles == m * ceil_div(n, config.vector_lanes) - 1 + through(config, given.fields)
    if config.vector == "transformer":
        for field, kinds in (("source", VectorSource), ("function", VectorFunction), ("c_use", StreamUse), ("row1_use", RowUse)):
            missing = set(kinds) - {given.fields[field] for given in commands}
            assert missing <= ({VectorSource.UINT4} if config.vector_lanes == 1 else set())
        sums = np.concatenate([found.sums for found in results]).astype(np.uint32).view(np.float32)
        assert np.isnan(sums).sum() > 10
        assert np.isinf(sums).sum() > 10
        assert np.isfinite(sums).sum() > 100


@pytest.mark.parametrize("dropped", [1, 2, 3, 7, 30])
def test_a_row_that_is_broken_off_leaves_the_rows_before(dropped):
    """A row of ten slices lacks some: with `flush` the sums of those before come out."""
    name = "transformer-3"
    fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.VECTOR]), 0) | {
        "source": VectorSource.FLOAT32, "m": 7, "n": 29, "scale": 0x3F80_0000, "sum": 1, "max": 1, "output": VectorOutput.FLOAT32}
    given = operands_of(fields, np.random.default_rng(dropped), 0.0)
    given.dropped = dropped
    (found,) = sim(name).run([given], stall=0.2, seed=dropped)
    assert len(found.sums) == 7 - ceil_div(dropped, 10)
    check(CONFIGS[name], given, found)
