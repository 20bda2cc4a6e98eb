"""Event counters: 64 bits, cleared and enabled together."""

import random
from typing import Any

from hw.control.counters import EventCounters
from hw.regs import COUNTERS
from tb.sim import simulate


def test_counts() -> None:
    rng = random.Random(0)
    largest = {"macs": 2**31, "bytes_read": 64}
    dut = EventCounters(largest)
    assert dut.latency == 2                 # what `coming` stands for
    names = [counter.name for counter in COUNTERS]

    async def bench(ctx: Any) -> None:
        expected, coming = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        for cycle in range(200):
            enable, clear = rng.random() < 0.8, cycle == 20
            ctx.set(dut.enable, enable)
            ctx.set(dut.clear, clear)
            for name in names:
                step = rng.randint(0, largest.get(name, 1))
                ctx.set(getattr(dut, name), step)
                expected[name] = 0 if clear else expected[name] + coming[name]
                coming[name] = 0 if clear else step * enable
            await ctx.tick()
            assert {name: ctx.get(dut.values[name]) for name in names} == expected
        assert expected["macs"] > 2**34

    simulate(dut, bench)
