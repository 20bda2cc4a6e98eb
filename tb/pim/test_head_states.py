# amaranth: UnusedElaboratable=no
"""States of heads: written at once, later, or not at all, because their head was cleared."""

import pytest

from hw.errors import ConfigError
from hw.pim.head_states import HeadStates
from tb.sim import simulate

FRESH = (0, 0xFF80_0000)


def test_what_is_owed_comes_unless_its_head_is_cleared():
    dut, seen = HeadStates(heads=3, rows=1), []

    async def bench(ctx):
        async def pulse(name, **values):
            for port, value in values.items():
                ctx.set(getattr(dut, port), value)
            ctx.set(getattr(dut, name), 1)
            await ctx.tick()
            ctx.set(getattr(dut, name), 0)

        async def clear(head):
            ctx.set(dut.clear.head, head)
            ctx.set(dut.clear.valid, 1)
            await ctx.tick()
            ctx.set(dut.clear.valid, 0)

        async def look(head):
            ctx.set(dut.head, head)
            await ctx.tick()
            await ctx.tick()
            seen.append((ctx.get(dut.o[0].l), ctx.get(dut.o[0].m)))

        for head in range(3):
            await clear(head)
        await pulse("put", to=1, data=[{"l": 5, "m": 6}])
        await pulse("owed", to=0)
        assert ctx.get(dut.pending)
        await look(0)
        ctx.set(dut.clear.head, 2)
        ctx.set(dut.clear.valid, 1)                     # in the cycle in which it would be written
        await pulse("late", late_data=[{"l": 7, "m": 8}])
        await ctx.tick()
        ctx.set(dut.clear.valid, 0)
        assert ctx.get(dut.pending)
        await ctx.tick()
        assert not ctx.get(dut.pending)
        await look(0)
        await look(1)
        await pulse("owed", to=1)
        await clear(1)
        await pulse("late")
        await look(1)
        assert not ctx.get(dut.pending)

    simulate(dut, bench)
    assert seen == [FRESH, (7, 8), (5, 6), FRESH]


@pytest.mark.parametrize("name", ["heads", "rows"])
def test_nothing_to_keep_is_refused(name):
    with pytest.raises(ConfigError, match=rf"^HeadStates.{name} must be at least 1, not 0$"):
        HeadStates(**{"heads": 1, "rows": 1, name: 0})
