"""Schedules of slots for a bare mesh: the earliest that its rules allow, from which the benches measure cycles."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.array.mesh import Mesh
from sw.golden.pe import PEModel
from tb.sim import Bench

__all__ = ["Slot", "os_schedule", "play", "ws_schedule"]

Ints = npt.NDArray[np.int64]


@dataclass(kw_only=True)
class Slot:
    """One slot: operands, control fields, and the row of results that it must give (None where nothing is said of it)."""

    activation: Ints | None = None
    weight: Ints | None = None
    control: dict[str, int] = field(default_factory=dict)
    result: Ints | None = None


def _at(slots: list[Slot], cycle: int) -> Slot:
    while len(slots) <= cycle:
        slots.append(Slot())
    return slots[cycle]


def ws_schedule(activations: Sequence[Ints], weights: Sequence[Ints], *, model: PEModel, latency: int,
                serialize: bool = False) -> list[Slot]:
    """Return the slots of the products activations[t] (M, R) × weights[t] (R, C) of `model`, each as early as it can be.

    Tile t's rows are preloaded after those of tile t − 1 and after the last use of the stationary registers by tile t − 2; it
    streams after its own preload and after tile t − 1. With `serialize` its preload follows the last result of tile t − 1.
    """
    slots: list[Slot] = []
    preloaded, streamed, streamed_before = 0, 0, 0
    for tile, (a, b) in enumerate(zip(activations, weights, strict=True)):
        start = max(preloaded, streamed_before)
        if serialize and tile:
            start = streamed - 1 + latency + 1
        for row, word in enumerate(b):
            slot = _at(slots, start + row)
            slot.weight = word
            slot.control |= {"load": 1, "load_row": row, "select": (tile + 1) % 2}
        preloaded = start + len(b)
        first = max(preloaded, streamed)
        for step, (word, result) in enumerate(zip(a, model.product(a, b), strict=True)):
            slot = _at(slots, first + step)
            slot.activation, slot.result = word, result
            slot.control["select"] = tile % 2
        streamed_before, streamed = streamed, first + len(a)
    return slots


def os_schedule(activations: Sequence[Ints], weights: Sequence[Ints], *, model: PEModel, latency: int,
                serialize: bool = False) -> list[Slot]:
    """Return the slots of the products activations[t] (R, K) × weights[t] (K, C) of `model`, each as early as it can be.

    A tile streams after tile t − 1; its last step is not before the last drain step of tile t − 1. With `serialize` its first
    step follows the last result of tile t − 1.
    """
    slots: list[Slot] = []
    streamed, drained = 0, 0
    for a, b in zip(activations, weights, strict=True):
        rows, steps = a.shape
        start = drained - 1 + latency + 1 if serialize and drained else max(streamed, drained - steps)
        for step in range(steps):
            slot = _at(slots, start + step)
            slot.activation, slot.weight = a[:, step], b[step]
            slot.control |= {"accumulate": 1, "first": step == 0, "last": step == steps - 1}
        streamed = start + steps
        for row in range(rows):
            slot = _at(slots, streamed + row)
            slot.control["shift"] = 1
            slot.result = model.product(a, b)[rows - 1 - row]
        drained = streamed + rows
    return slots


def play(dut: Mesh, slots: Sequence[Slot], seen: list[int]) -> Bench:
    """Return a testbench that presents one slot a cycle, compares what leaves, and appends to `seen` the cycles of results."""
    expected = [slot.result for slot in slots]

    async def bench(ctx):
        for cycle in range(len(slots) + dut.latency):
            slot = slots[cycle] if cycle < len(slots) else Slot()
            if slot.activation is not None:
                ctx.set(dut.activation, [int(x) for x in slot.activation])
            if slot.weight is not None:
                ctx.set(dut.weight, [int(x) for x in slot.weight])
            ctx.set(dut.control, slot.control)
            due = cycle - dut.latency
            if due >= 0 and expected[due] is not None:
                psum = ctx.get(dut.psum)
                assert [psum[c] for c in range(dut.columns)] == list(expected[due]), f"slot {due} at cycle {cycle}"
                seen.append(cycle)
            await ctx.tick()

    return bench
