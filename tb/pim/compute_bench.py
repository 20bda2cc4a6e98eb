"""Drives a `ComputePath` alone: fills its X buffer, sends jobs and beats, reads the output buffer."""

from typing import Any

import numpy as np

from hw.pim.compute import ComputePath
from tb.sim import check_stream, put_all, simulate

__all__ = ["ComputeBench", "pack"]


def pack(codes: Any, bits: int) -> int:
    """Return codes as one word, the first lowest."""
    return sum(int(code) << (index * bits) for index, code in enumerate(codes))


class ComputeBench:
    """One compute path and what goes in.

    Parameters
    ----------
    path : ComputePath
    weight_bits, x_bits : int
    """

    def __init__(self, path: ComputePath, *, weight_bits: int, x_bits: int, rows: int):
        self.path, self.weight_bits, self.x_bits, self.rows = path, weight_bits, x_bits, rows
        self.slices: list[tuple[int, int, int]] = []
        self.sides: list[tuple[int, int, int]] = []
        self.written: list[tuple[int, int, int]] = []
        self.jobs: list[dict[str, int]] = []
        self.beats: list[int] = []
        self.done = self.drain_cycles = self.busy_cycles = self.mac_cycles = self.hazard_cycles = 0
        self.range_error = self.nan_error = 0

    def x(self, first: int, codes: Any) -> None:
        """Put (rows, n) codes into slices from `first` on; n is a multiple of the lanes of a segment."""
        lanes = self.path.width
        for row, values in enumerate(codes):
            for index in range(0, len(values), lanes):
                self.slices.append((first + index // lanes, row, pack(values[index:index + lanes], self.x_bits)))

    def mac(self, weights: Any, **job: int) -> None:
        """Add a job, and its weights: (beats, lanes) codes."""
        count = len(weights) // self.path.beats
        assert len(weights) == count * self.path.beats
        self.jobs.append({"bcast": 0, "select": 0, "bursts": count - 1, "period": self.path.beats - 1, "x": 0, "entry": 0,
                          "clr": 1, "last": 1, **job})
        self.beats += [pack(beat, self.weight_bits) for beat in weights]

    def run(self, entries: int, *, stall: float = 0.0, seed: int = 0, deadline: int = 20_000) -> Any:
        """Run until all is written, and return (entries, width, rows) words of the output buffer."""
        path = self.path
        found = np.zeros((entries, path.width, self.rows), np.uint32)
        ready = False

        async def fill(ctx: Any) -> None:
            nonlocal ready
            for index, row, word in self.slices:
                ctx.set(path.x.slice, index)
                ctx.set(path.x.row, row)
                ctx.set(path.x.data.as_value(), word)
                ctx.set(path.x.valid, 1)
                await ctx.tick()
            ctx.set(path.x.valid, 0)
            for index, zero_point, special in self.sides:
                ctx.set(path.side.word, index)
                ctx.set(path.side.mask, 1)
                ctx.set(path.side.data, zero_point | special << 6)
                ctx.set(path.side.valid, 1)
                await ctx.tick()
            if self.sides:
                ctx.set(path.side.valid, 0)
            for entry, lanes, word in self.written:
                ctx.set(path.write.entry, entry)
                ctx.set(path.write.lanes, lanes)
                ctx.set(path.write.data.as_value(), word)
                ctx.set(path.write.valid, 1)
                await ctx.tick().until(path.ready)
            ctx.set(path.write.valid, 0)
            ready = True
            left = len(self.beats)
            while left:
                _, _, valid, taken, hazard, done = await ctx.tick().sample(
                    path.weight.valid, path.weight.valid & path.weight.ready, path.stall_hazard, path.done)
                self.done += done
                self.mac_cycles += taken
                self.hazard_cycles += hazard
                self.busy_cycles += valid
                left -= taken
            while not ctx.get(path.idle):
                self.done += ctx.get(path.done)
                await ctx.tick()
                self.drain_cycles += 1
            self.done += ctx.get(path.done)
            assert self.done == len(self.jobs)                  # the last one in the cycle in which all is idle
            for entry in range(entries):
                ctx.set(path.entry, entry)
                await ctx.tick()
                word = ctx.get(path.o.as_value())
                found[entry] = [[word >> (32 * (lane * self.rows + row)) & 0xFFFFFFFF for row in range(self.rows)]
                                for lane in range(path.width)]
            self.range_error, self.nan_error = ctx.get(path.range_error), ctx.get(path.nan_error)

        def when_ready(stream: Any, payloads: list[Any], offset: int) -> Any:
            async def bench(ctx: Any) -> None:
                while not ready:
                    await ctx.tick()
                await put_all(stream, payloads, stall=stall, seed=seed + offset)(ctx)

            return bench

        simulate(path, fill, when_ready(path.job, self.jobs, 1), when_ready(path.weight, self.beats, 2),
                 background=[check_stream(path.job), check_stream(path.weight)], seed=seed, deadline=deadline)
        return found
