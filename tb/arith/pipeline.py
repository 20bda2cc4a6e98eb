"""Drives a fixed-latency arithmetic pipeline, one set of operands a cycle, and collects what comes out."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Value

from tb.sim import simulate

__all__ = ["run_pipeline"]


def run_pipeline(dut: Any, operands: Mapping[str, Sequence[int]], *, output: str = "o", stall: float = 0.0,
                 seed: int = 0) -> list[int]:
    """Return the results of an output of `dut` as unsigned words, one for each set of operands.

    Parameters
    ----------
    dut : Component
        With `enable`, `latency`, the output and the ports named in `operands`.
    operands : dict of str to sequence of int
        Port → its word in each step; all of one length.
    output : str
    stall : float
        Probability that `enable` is low in a cycle; the operands are then random.
    seed : int
        Of the stalls.
    """
    rng = random.Random(seed)
    ports = [Value.cast(getattr(dut, name)) for name in operands]
    steps = list(zip(*operands.values(), strict=True))
    results: list[int] = []
    held = 0

    async def bench(ctx: Any) -> None:
        nonlocal held
        port_out = Value.cast(getattr(dut, output)).as_unsigned()
        for index in range(len(steps) + dut.latency):
            while rng.random() < stall:
                ctx.set(dut.enable, 0)
                for port in ports:
                    ctx.set(port, rng.getrandbits(len(port)))
                before = ctx.get(port_out)
                await ctx.tick()
                assert ctx.get(port_out) == before, f"{output} moved while enable was low"
                held += 1
            ctx.set(dut.enable, 1)
            if index < len(steps):
                for port, word in zip(ports, steps[index], strict=True):
                    ctx.set(port, word)
            await ctx.tick()
            if index + 1 >= dut.latency and len(results) < len(steps):
                results.append(ctx.get(port_out))

    simulate(dut, bench, seed=seed, deadline=1_000_000)
    assert len(results) == len(steps) > 0
    assert held > 0 or not stall
    return results
