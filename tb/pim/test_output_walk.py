# amaranth: UnusedElaboratable=no
"""Walk through entries: every group once, in order, with a buffer that is read for others and results that wait."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.output_walk import OutputWalk
from tb.sim import simulate

LANES, WIDTH, LATENCY = 4, 2, 3


@pytest.mark.parametrize("busy", [0.0, 0.5])
@pytest.mark.parametrize("paired", [0, 1])
def test_every_group_is_taken_and_put_back_once(paired, busy):
    rng = np.random.default_rng(7)
    dut, taken, landed = OutputWalk(lanes=LANES, width=WIDTH), [], []

    async def bench(ctx):
        ctx.set(dut.go, 1)
        for first in (5, 9):
            for name, value in (("first", first), ("last", 2), ("paired", paired), ("offset", 100), ("start", 1)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            ctx.set(dut.start, 0)
            pipeline, read, cycles = [False] * LATENCY, None, 0
            while True:
                cycles += 1
                ctx.set(dut.readable, int(rng.random() >= busy))
                ctx.set(dut.ready, int(rng.random() >= busy))
                ctx.set(dut.lands, pipeline[-1])
                takes, advance, done = ctx.get(dut.takes), ctx.get(dut.advance), ctx.get(dut.done)
                if takes:
                    taken.append((read, ctx.get(dut.beat), ctx.get(dut.ends)))
                if pipeline[-1] and ctx.get(dut.ready):
                    landed.append((ctx.get(dut.to), ctx.get(dut.to_lanes)))
                if advance:
                    pipeline = [bool(takes and ctx.get(dut.second) == paired), *pipeline[:-1]]
                read = ctx.get(dut.entry) if ctx.get(dut.readable) else "another's"
                await ctx.tick()
                if done:
                    break
            assert busy or cycles == 1 + 6 * (1 + paired) + LATENCY

    simulate(dut, bench)
    groups = [(entry, beat) for first in (5, 9) for entry in range(first, first + 3) for beat in (0, 1)]
    both = [(entry + 100 * other, beat) for entry, beat in groups for other in range(1 + paired)]
    assert [one[:2] for one in taken] == both
    assert [number for number, one in enumerate(taken) if one[2]] == [len(both) // 2 - 1, len(both) - 1]
    assert landed == [(entry, 3 << 2 * beat) for entry, beat in groups]


@pytest.mark.parametrize(("sizes", "message"), [
    ({"lanes": 6}, r"^OutputWalk.lanes must be a power of two of at most 65536, not 6$"),
    ({"width": 8}, r"^OutputWalk.width must be a power of two of at most 4, not 8$"),
])
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=message):
        OutputWalk(**{"lanes": 4, "width": 2, **sizes})
