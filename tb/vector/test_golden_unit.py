"""The golden vector command against one made element by element with Python's numbers; its errors and their order."""

import dataclasses

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import DESCRIPTORS, ErrorCause, RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from sw.golden.refusal import Refusal
from sw.golden.vector.unit import run_vector
from tb.vector.commands import VectorSpace, initial_row_scalars, random_vector_command
from tb.vector.reference import run_slowly

SMALL = {"scratchpad_bytes": 8192, "accumulator_rows": 64, "vector_rows": 32}
WHOLE = {"vector": "transformer", **SMALL}
CONFIGS = {
    "requantize": AcceleratorConfig(**SMALL),
    "requantize-c6-lanes2-acc20": AcceleratorConfig(columns=6, vector_lanes=2, acc_width=20, **SMALL),
    "c4-lanes4": AcceleratorConfig(**WHOLE),
    "c16-lanes2": AcceleratorConfig(columns=16, vector_lanes=2, **WHOLE),
    "c6-lanes2": AcceleratorConfig(columns=6, vector_lanes=2, **WHOLE),
    "c5-lanes5": AcceleratorConfig(columns=5, vector_lanes=5, bus_width=64, **WHOLE),
    "c3-lanes1": AcceleratorConfig(columns=3, vector_lanes=1, **WHOLE),
    "c6-lanes2-range": AcceleratorConfig(columns=6, vector_lanes=2, protection=(("activations", "range"),), **WHOLE),
}
KINDS = ("source", "function", "output", "sum", "max", "post", "middle", "c_use", "row1_use")
FULL = CONFIGS["c4-lanes4"]


class Memories:
    """Scratchpad, accumulator and row scalars, full of numbers of every kind."""

    def __init__(self, config: AcceleratorConfig, seed: int):
        rng = np.random.default_rng(seed)
        self.config = config
        words = config.scratchpad_bytes // 4
        values = (rng.normal(size=words) * 2.0 ** rng.integers(-8, 5, words)).astype(np.float32).view(np.uint32)
        anything = rng.integers(0, 1 << 32, words, dtype=np.uint32)
        self.scratchpad = np.where(rng.random(words) < 0.8, values, anything).view(np.uint8)
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, 3e38, -127.5], np.float32)
        self.scratchpad.view(np.float32)[rng.integers(0, words, words // 16)] = rng.choice(special, words // 16)
        high = 1 << config.acc_width - 1
        self.accumulator = rng.integers(-high, high, (config.accumulator_rows, config.columns)) >> rng.integers(
            0, config.acc_width, (config.accumulator_rows, config.columns))
        self.rows = rng.normal(size=config.vector_rows).astype(np.float32)
        self.rows[:30:5] = special[:6]

    def copy(self) -> "Memories":
        other = object.__new__(Memories)
        other.config = self.config
        other.scratchpad, other.accumulator, other.rows = self.scratchpad.copy(), self.accumulator.copy(), self.rows.copy()
        return other


def space(config: AcceleratorConfig) -> VectorSpace:
    quarter = config.scratchpad_bytes // 4
    return VectorSpace(inputs=(0, quarter, 2 * quarter), output=3 * quarter, area_bytes=quarter, acc=0,
                       acc_rows=config.accumulator_rows, row=0, rows=config.vector_rows, longest=18)


def command(**values: int) -> dict[str, int]:
    """Return a descriptor, zero but for `values`."""
    return {field.name: 0 for field in DESCRIPTORS[Unit.VECTOR]} | {name: int(value) for name, value in values.items()}


def both(memories: Memories, fields: dict[str, int]) -> tuple[ErrorCause, int] | None:
    """Run on definition and reference; the memories and where they stop must agree."""
    slow = memories.copy()
    found: tuple[ErrorCause, int] | None = None
    try:
        run_vector(memories.config, fields, memories.scratchpad, memories.accumulator, memories.rows)
    except Refusal as refusal:
        found = refusal.cause, refusal.addr
    assert found == run_slowly(slow.config, fields, slow.scratchpad, slow.accumulator, slow.rows), fields
    wrong = np.flatnonzero(memories.scratchpad != slow.scratchpad)
    assert wrong.size == 0, f"{fields}: bytes {wrong[:8]}"
    nan = np.isnan(slow.rows)
    np.testing.assert_array_equal(np.isnan(memories.rows), nan, err_msg=str(fields))
    np.testing.assert_array_equal(memories.rows.view(np.uint32)[~nan], slow.rows.view(np.uint32)[~nan], err_msg=str(fields))
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_random_commands(name):
    config = CONFIGS[name]
    memories, rng = Memories(config, 1), np.random.default_rng(2)
    seen = set()
    for _ in range(50 if config.vector == "transformer" else 25):
        fields = random_vector_command(config, rng, space(config))
        seen |= {(kind, fields[kind]) for kind in KINDS}
        assert both(memories, fields) is None
        if rng.random() < 0.2:          # or everything would be NaN by and by
            memories = Memories(config, int(rng.integers(1 << 30)))
    if config.vector == "transformer":
        nibbles = 5 if config.vector_lanes > 1 else 4
        assert {value for kind, value in seen if kind == "source"} == {*range(5), nibbles}
        assert {value for kind, value in seen if kind == "output"} == {*range(4), nibbles - 1}


@pytest.mark.parametrize("name", CONFIGS)
def test_commands_that_leave_the_memories(name):
    """What comes before the first slice outside is written, the scalars of whole rows too; of two streams A stops before B."""
    config = CONFIGS[name]
    memories, rng = Memories(config, 3), np.random.default_rng(4)
    stops = set()
    for _ in range(60):
        fields = random_vector_command(config, rng, space(config))
        for stream in ("a_addr", "b_addr", "c_addr", "addr"):
            if rng.random() < 0.3:
                fields[stream] = config.scratchpad_bytes - 64 * int(rng.integers(0, 6)) + fields[stream] % 64
        if fields["source"] == VectorSource.ACCUMULATOR and rng.random() < 0.5:
            fields["acc_addr"] = config.accumulator_rows - int(rng.integers(0, 4))
        if _overlaps(config, fields):
            continue
        found = both(memories, fields)
        stops |= {found[0]} if found else set()
    assert stops == {ErrorCause.SCRATCHPAD_RANGE, ErrorCause.ACCUMULATOR_RANGE}


def _overlaps(config: AcceleratorConfig, fields: dict[str, int]) -> bool:
    """Return whether a moved output may lie on what the command reads: within its longest reach, and not exactly on A."""
    reach = 4096
    reads = [fields[f"{name}_addr"] for name, used in (("b", fields["b_en"]), ("c", fields["c_use"])) if used]
    if fields["source"] not in (VectorSource.ACCUMULATOR, VectorSource.ROW):
        reads.append(fields["a_addr"])
    return fields["output"] != VectorOutput.NONE and any(abs(fields["addr"] - read) < reach for read in reads)


# Errors ---------------------------------------------------------------------------------------------------------

FLOATS = {"source": VectorSource.FLOAT32, "m": 2, "n": 5, "output": VectorOutput.FLOAT32, "addr": 4096, "stride": 64}
SUMS = {"m": 2, "n": 5, "output": VectorOutput.INT8, "stride": 8, "acc_tile_stride": 2}
ONE = {"source": VectorSource.ROW, "m": 2, "n": 1}


@pytest.mark.parametrize(("name", "values", "cause", "addr"), [
    ("c4-lanes4", FLOATS | {"source": 6}, ErrorCause.UNSUPPORTED, 6),
    ("c4-lanes4", FLOATS | {"source": 7}, ErrorCause.UNSUPPORTED, 7),
    ("c4-lanes4", FLOATS | {"middle": 3}, ErrorCause.UNSUPPORTED, 3),
    ("c4-lanes4", FLOATS | {"function": 6}, ErrorCause.UNSUPPORTED, 6),
    ("c4-lanes4", FLOATS | {"post": 3}, ErrorCause.UNSUPPORTED, 3),
    ("c4-lanes4", FLOATS | {"sum": 3}, ErrorCause.UNSUPPORTED, 3),
    ("c4-lanes4", FLOATS | {"max": 3}, ErrorCause.UNSUPPORTED, 3),
    ("c4-lanes4", FLOATS | {"output": 5}, ErrorCause.UNSUPPORTED, 5),
    ("c4-lanes4", FLOATS | {"sum": 2, "post": 2}, ErrorCause.UNSUPPORTED, 2),
    ("c4-lanes4", FLOATS | {"function": VectorFunction.RECIPROCAL}, ErrorCause.UNSUPPORTED, 4),
    ("c4-lanes4", SUMS | {"function": VectorFunction.RSQRT}, ErrorCause.UNSUPPORTED, 5),
    ("c4-lanes4", ONE | {"output": VectorOutput.FLOAT32}, ErrorCause.UNSUPPORTED, 2),
    ("c4-lanes4", ONE | {"source": VectorSource.SCALAR, "output": VectorOutput.INT8}, ErrorCause.UNSUPPORTED, 1),
    ("c4-lanes4", ONE | {"b_en": 1}, ErrorCause.UNSUPPORTED, 1),
    ("c4-lanes4", ONE | {"c_use": StreamUse.POST}, ErrorCause.UNSUPPORTED, 3),
    ("c4-lanes4", FLOATS | {"c_use": StreamUse.BIAS}, ErrorCause.UNSUPPORTED, 1),
    ("c3-lanes1", FLOATS | {"source": VectorSource.UINT4}, ErrorCause.UNSUPPORTED, 5),
    ("c3-lanes1", FLOATS | {"output": VectorOutput.UINT4}, ErrorCause.UNSUPPORTED, 4),
    *(("requantize", SUMS | {field: value}, ErrorCause.UNSUPPORTED, value) for field, value in (
        ("source", 2), ("row0_en", 1), ("row1_use", RowUse.SEED), ("mask_en", 1), ("function", VectorFunction.SIGMOID),
        ("post", 2), ("sum", 1), ("max", 2), ("output", VectorOutput.NONE), ("output", VectorOutput.FLOAT32),
        ("c_use", StreamUse.MIDDLE), ("c_use", StreamUse.POST), ("middle", 1))),
    ("c4-lanes4", FLOATS | {"m": 0}, ErrorCause.BAD_SIZE, 0),
    ("c4-lanes4", FLOATS | {"n": 0}, ErrorCause.BAD_SIZE, 0),
    ("c4-lanes4", FLOATS | {"a_addr": 8}, ErrorCause.MISALIGNED, 8),
    ("c4-lanes4", FLOATS | {"a_stride": 24}, ErrorCause.MISALIGNED, 24),
    ("c4-lanes4", FLOATS | {"b_en": 1, "b_addr": 4}, ErrorCause.MISALIGNED, 4),
    ("c4-lanes4", FLOATS | {"c_use": StreamUse.MIDDLE, "c_stride": 40}, ErrorCause.MISALIGNED, 40),
    ("c4-lanes4", FLOATS | {"stride": 65}, ErrorCause.MISALIGNED, 65),
    ("c4-lanes4", FLOATS | {"output": VectorOutput.INT8, "addr": 4098}, ErrorCause.MISALIGNED, 4098),
    ("c4-lanes4", FLOATS | {"output": VectorOutput.UINT4, "addr": 4097}, ErrorCause.MISALIGNED, 4097),
    ("c4-lanes4", ONE | {"output": VectorOutput.SCALAR, "addr": 2}, ErrorCause.MISALIGNED, 2),
    ("c4-lanes4", ONE | {"row0_addr": 31}, ErrorCause.ROW_SCALAR_RANGE, 31),
    ("c4-lanes4", FLOATS | {"row0_en": 1, "row0_addr": 32}, ErrorCause.ROW_SCALAR_RANGE, 32),
    ("c4-lanes4", FLOATS | {"row1_use": RowUse.SEED, "row1_addr": 65535}, ErrorCause.ROW_SCALAR_RANGE, 65535),
    ("c4-lanes4", FLOATS | {"sum": 1, "sum_addr": 31}, ErrorCause.ROW_SCALAR_RANGE, 31),
    ("c4-lanes4", FLOATS | {"max": 1, "max_addr": 31}, ErrorCause.ROW_SCALAR_RANGE, 31),
])
def test_refused_before_anything_is_done(name, values, cause, addr):
    memories = Memories(CONFIGS[name], 5)
    before = memories.copy()
    with pytest.raises(Refusal, match=f"^{cause.name.lower()} at {addr:#x}$") as refusal:
        run_vector(memories.config, command(**values), memories.scratchpad, memories.accumulator, memories.rows)
    assert (refusal.value.cause, refusal.value.addr) == (cause, addr)
    np.testing.assert_array_equal(memories.scratchpad, before.scratchpad)
    np.testing.assert_array_equal(memories.rows.view(np.uint32), before.rows.view(np.uint32))


def test_the_first_of_many_violations_is_named():
    """Mend them one by one: each is named while it is the first."""
    values = FLOATS | {"middle": 3, "m": 0, "a_addr": 2, "c_use": StreamUse.POST, "c_addr": 12, "addr": 6, "row0_en": 1,
                       "row0_addr": 99, "max": 2, "max_addr": 98}
    expected = [({"middle": 0}, ErrorCause.UNSUPPORTED, 3), ({"m": 2}, ErrorCause.BAD_SIZE, 0),
                ({"a_addr": 8192}, ErrorCause.MISALIGNED, 2), ({"c_addr": 8192}, ErrorCause.MISALIGNED, 12),
                ({"addr": 8128}, ErrorCause.MISALIGNED, 6), ({"row0_addr": 0}, ErrorCause.ROW_SCALAR_RANGE, 99),
                ({"max_addr": 0}, ErrorCause.ROW_SCALAR_RANGE, 98), ({"a_addr": 0}, ErrorCause.SCRATCHPAD_RANGE, 8192),
                ({"c_addr": 0}, ErrorCause.SCRATCHPAD_RANGE, 8192), ({"addr": 4096}, ErrorCause.SCRATCHPAD_RANGE, 8192)]
    memories = Memories(FULL, 6)
    for mended, cause, addr in expected:
        with pytest.raises(Refusal) as refusal:
            run_vector(FULL, command(**values), memories.scratchpad, memories.accumulator, memories.rows)
        assert (refusal.value.cause, refusal.value.addr) == (cause, addr)
        values |= mended
    run_vector(FULL, command(**values), memories.scratchpad, memories.accumulator, memories.rows)


def test_unused_fields_do_not_matter():
    """Addresses of streams and row scalars that a command does not use may be anything."""
    memories = Memories(FULL, 7)
    values = FLOATS | {"b_addr": 3, "c_addr": 9999999, "row0_addr": 65535, "row1_addr": 65535, "sum_addr": 65535,
                       "acc_addr": 65535}
    run_vector(FULL, command(**values), memories.scratchpad, memories.accumulator, memories.rows)
    run_vector(FULL, command(**ONE, addr=1, a_addr=1), memories.scratchpad, memories.accumulator, memories.rows)


# Single steps ---------------------------------------------------------------------------------------------------


def test_one_row_may_serve_all():
    """A stride of zero for every stream, with a mask that differs from row to row."""
    memories = Memories(FULL, 8)
    assert both(memories, command(**FLOATS | {
        "m": 6, "b_en": 1, "b_addr": 1024, "c_use": StreamUse.MIDDLE, "c_addr": 2048, "middle": 1, "mask_en": 1, "mask": 1,
        "mask_step": 1, "sum": 1, "max": 1, "max_addr": 8})) is None
    rows = memories.scratchpad.view(np.float32)[1024:1024 + 6 * 16].reshape(6, 16)
    assert [int(np.isneginf(row[:5]).sum()) for row in rows] == [4, 3, 2, 1, 0, 0]


def test_initial_row_scalars():
    memories = Memories(FULL, 9)
    assert both(memories, initial_row_scalars(FULL, space(FULL))) is None
    words, plain = memories.scratchpad.view(np.float32)[:32], memories.rows
    np.testing.assert_array_equal(plain, words)


def test_every_nan_is_written_as_the_quiet_one():
    memories = Memories(FULL, 10)
    words = memories.scratchpad.view(np.uint32)
    words[:4] = [0xFFFF_FFFF, 0x7F80_0001, 0xFFC0_0000, 0x7FC0_1234]
    run_vector(FULL, command(**FLOATS | {"m": 1, "n": 4, "scale": 0x3F80_0000, "sum": 1, "max": 1, "max_addr": 1}),
               memories.scratchpad, memories.accumulator, memories.rows)
    assert words[1024:1028].tolist() == [0x7FC0_0000] * 4
    assert memories.rows.view(np.uint32)[:2].tolist() == [0x7FC0_0000] * 2


def test_wide_rows_add_up_like_a_tree():
    """A long row of ones and tiny numbers: the order of additions shows in the last bits."""
    config = dataclasses.replace(FULL, scratchpad_bytes=32768)
    memories = Memories(config, 11)
    memories.scratchpad.view(np.float32)[:4096] = np.random.default_rng(1).lognormal(0, 6, 4096)
    fields = command(source=VectorSource.FLOAT32, m=1, n=4001, scale=0x3F80_0000, sum=1)
    assert both(memories, fields) is None
    plain = np.float32(0)
    for value in memories.scratchpad.view(np.float32)[:4001]:
        plain += value
    assert memories.rows[0] != plain
    assert np.isclose(memories.rows[0], plain, rtol=1e-4)
