"""The walker: descriptions of slices, and the addresses at the end of the largest memories."""

from typing import Any

import pytest
from amaranth import *
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause, StreamUse, Unit, VectorOutput, VectorSource
from hw.ports import descriptor_layout
from hw.vector.use import use_of
from hw.vector.walker import Walker
from tb.sim import check_stream, simulate
from tb.vector.rig import command

LARGEST = AcceleratorConfig(vector="transformer", vector_lanes=2, scratchpad_bytes=1 << 24, accumulator_rows=1 << 16)
RAGGED = AcceleratorConfig(vector="transformer", columns=6, vector_lanes=2)
END = 1 << 24


class Walk(wiring.Component):
    """A walker and what decides what a command uses."""

    def __init__(self, config: AcceleratorConfig):
        self.walker = Walker(config)
        self.fields = Signal(descriptor_layout(Unit.VECTOR))
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.walker = self.walker
        m.d.comb += [self.walker.command.eq(self.fields), self.walker.use.eq(use_of(m, self.walker.config, self.fields))]
        return m


def walk(config: AcceleratorConfig, fields: dict[str, int],
         pauses: int = 1) -> tuple[list[tuple[int, ...]], tuple[int, int] | None]:
    """Return the slices of a command, (count, valid_count, first, last), and the fault that ends them, (cause, addr)."""
    dut = Walk(config)
    walker = dut.walker
    slices: list[tuple[int, ...]] = []
    fault: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.fields, fields)
        ctx.set(walker.start, 1)
        await ctx.tick()
        ctx.set(walker.start, 0)
        ctx.set(walker.enable, 1)
        cycle = 0
        while ctx.get(walker.valid) and not ctx.get(walker.fault):
            cycle += 1
            ctx.set(walker.o.ready, cycle % pauses == 0)
            if ctx.get(walker.o.valid) and ctx.get(walker.o.ready):
                slices.append(tuple(int(ctx.get(walker.o.p)[name]) for name in ("count", "valid_count", "first", "last")))
            await ctx.tick()
        if ctx.get(walker.fault):
            assert not ctx.get(walker.o.valid)
            report = ctx.get(walker.report)
            fault.append((report.cause, report.addr))

    simulate(dut, bench, background=[check_stream(walker.o)])
    return slices, fault[0] if fault else None


@pytest.mark.parametrize(("mask", "step"), [(0, 0), (0, 1), (3, 1), (5, 0), (12, 1), (65535, 1)])
@pytest.mark.parametrize("pauses", [1, 3])
def test_slices_of_ragged_rows_and_what_of_them_is_not_masked(mask, step, pauses):
    fields = command(source=VectorSource.ACCUMULATOR, m=4, n=11, acc_tile_stride=4, mask_en=1, mask=mask, mask_step=step)
    slices, fault = walk(RAGGED, fields, pauses)
    columns = [(0, 2), (2, 2), (4, 2), (6, 2), (8, 2), (10, 1)]
    expected = [(count, min(max(0, mask + step * row - column), count), column == 0, column == 10)
                for row in range(4) for column, count in columns]
    assert (slices, fault) == (expected, None)
    assert walk(RAGGED, fields | {"mask_en": 0}, pauses)[0] == [(count, count, first, last) for count, _, first, last in expected]


@pytest.mark.parametrize(("fields", "slices", "fault"), [
    ({"addr": END - 8}, 1, (ErrorCause.SCRATCHPAD_RANGE, END)),
    ({"addr": END - 16}, 2, (ErrorCause.SCRATCHPAD_RANGE, END + 4080)),
    ({"addr": END - 16, "stride": 0}, 8, None),
    ({"addr": 8, "stride": END - 8}, 2, (ErrorCause.SCRATCHPAD_RANGE, END)),
    ({"addr": END - 8, "stride": END - 8, "n": 2}, 1, (ErrorCause.SCRATCHPAD_RANGE, 2 * END - 16)),
    ({"output": VectorOutput.SCALAR, "addr": END - 4, "stride": 4}, 2, (ErrorCause.SCRATCHPAD_RANGE, END)),
    ({"output": VectorOutput.NONE, "addr": END - 8}, 8, None),
    ({"source": VectorSource.UINT4, "a_addr": END - 3, "a_stride": 1}, 5, (ErrorCause.SCRATCHPAD_RANGE, END)),
    ({"source": VectorSource.INT8, "a_addr": END - 2, "b_en": 1, "b_addr": END - 8}, 1, (ErrorCause.SCRATCHPAD_RANGE, END)),
    ({"c_use": StreamUse.POST, "c_addr": END - 24, "c_stride": 8}, 5, (ErrorCause.SCRATCHPAD_RANGE, END)),
    ({"source": VectorSource.ACCUMULATOR, "acc_addr": 65533}, 6, (ErrorCause.ACCUMULATOR_RANGE, 65536)),
    ({"source": VectorSource.ACCUMULATOR, "acc_addr": 65535, "n": 6, "acc_tile_stride": 65535}, 2,
     (ErrorCause.ACCUMULATOR_RANGE, 131070)),
])
def test_the_end_of_the_largest_memories(fields, slices, fault):
    defaults = {"source": VectorSource.FLOAT32, "output": VectorOutput.FLOAT32, "m": 4, "n": 4, "stride": 4096}
    found, reported = walk(LARGEST, command(**defaults | fields))
    assert (len(found), reported) == (slices, fault)
