"""Semaphores against a list of counts, with random requests and signals from all ports at once."""

import random
from collections import Counter
from typing import Any

import pytest

from hw.control.semaphores import Semaphores
from hw.isa import SEMAPHORE_MAX, SEMAPHORES
from tb.sim import simulate

PORTS = 5


def sparse(rng: random.Random, density: float) -> int:
    return sum((rng.random() < density) << i for i in range(SEMAPHORES))


@pytest.mark.parametrize(("seed", "density"), [(0, 0.02), (1, 0.1), (2, 0.6)])
def test_random_requests(seed: int, density: float) -> None:
    rng = random.Random(seed)
    dut = Semaphores(PORTS)
    seen: Counter[str] = Counter()

    async def bench(ctx: Any) -> None:
        counts = [0] * SEMAPHORES
        before: tuple[int, int] | None = None               # index and port of an overflow in the last cycle
        for cycle in range(600):
            masks = [sparse(rng, 0.1) for _ in range(PORTS)]
            valid = [rng.random() < 0.7 for _ in range(PORTS)]
            signals = [sparse(rng, density) if cycle % 100 < 60 else 0 for _ in range(PORTS)]
            clear = rng.random() < 0.005
            ctx.set(dut.clear, clear)
            for i in range(PORTS):
                ctx.set(dut.acquire[i].valid, valid[i])
                ctx.set(dut.acquire[i].mask, masks[i])
                ctx.set(dut.signal[i], signals[i])
            assert [ctx.get(count) for count in dut.counts] == counts

            able = [i for i in range(PORTS) if valid[i] and all(counts[s] or not masks[i] >> s & 1 for s in range(SEMAPHORES))]
            grants = [ctx.get(port.grant) for port in dut.acquire]
            assert grants == [i in able[:1] for i in range(PORTS)]
            seen["granted"] += bool(able)
            seen["contended"] += len(able) > 1
            taken = masks[able[0]] if able else 0
            over = []
            for s in range(SEMAPHORES):
                following = counts[s] - (taken >> s & 1) + sum(mask >> s & 1 for mask in signals)
                if following > SEMAPHORE_MAX:
                    over.append(s)
                else:
                    counts[s] = following
            assert ctx.get(dut.overflow) == (before is not None)
            if before:
                seen["overflow"] += 1
                assert (ctx.get(dut.overflow_index), ctx.get(dut.overflow_port)) == before
            before = None
            if over and not clear:
                before = over[0], min(i for i in range(PORTS) if any(signals[i] >> s & 1 for s in over))
            if clear:
                counts = [0] * SEMAPHORES
                seen["clear"] += 1
            await ctx.tick()

    simulate(dut, bench, seed=seed)
    assert seen["granted"] > 50
    assert seen["clear"]
    assert seen["contended"] or density < 0.1
    assert seen["overflow"] or density < 0.6
