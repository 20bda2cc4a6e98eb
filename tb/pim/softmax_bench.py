"""Drives a `SoftmaxUnit` alone: commands, an output buffer that others use too, and what the golden unit makes of the same."""

from typing import Any

import numpy as np

from hw.pim.isa import PimOpcode
from hw.pim.softmax_unit import SoftmaxUnit, softmax_command_layout
from sw.golden.pim.attention import Numerics
from sw.golden.pim.softmax_unit import SoftmaxUnit as GoldenUnit
from tb.sim import simulate

__all__ = ["SoftmaxBench", "canonical"]

_NAN = 0x7FC0_0000


def canonical(values: Any) -> Any:
    """Return float32 as words, every NaN the same."""
    values = np.ascontiguousarray(values, np.float32)
    return np.where(np.isnan(values), np.uint32(_NAN), values.view(np.uint32))


class SoftmaxBench:
    """One unit of float16 weights, its buffers as words, and the golden unit beside it.

    Parameters
    ----------
    lanes, rows, sm_lanes, together, scores : int
    busy : float
        Share of the cycles in which the output buffer is not for this unit.
    """

    def __init__(self, *, lanes: int, rows: int, sm_lanes: int, together: int, scores: int, weight: Any, busy: float = 0.0,
                 seed: int = 0):
        self.dut = SoftmaxUnit(weight=weight, lanes=lanes, rows=rows, slices=16, entries=16, heads=4, scores=scores,
                               sm_lanes=sm_lanes, together=together)
        self.golden = GoldenUnit(Numerics(lanes=lanes, slots=8, sm_lanes=sm_lanes, ptype=weight.name), rows, together)
        self.lanes, self.rows, self.together, self.busy = lanes, rows, together, busy
        self.rng = np.random.default_rng(seed)
        self.output = np.zeros((16, rows, lanes), np.float32)       # golden, as they are after the last command
        self.x = np.zeros((16, rows, lanes), np.float32)
        self.words = np.zeros((16, lanes), object)                  # of the RTL: an entry's lanes, rows joined
        self.codes = np.zeros((16, rows), object)
        self.commands: list[tuple[Any, ...]] = []

    def put(self, entry: int, values: Any) -> None:
        """Put (rows, lanes) into an entry before the next command."""
        self.commands.append(("put", entry, np.array(values, np.float32)))
        self.output[entry] = values

    def clear(self, head: int) -> None:
        """Make a head one that has seen nothing."""
        self.commands.append(("clear", head))
        self.golden.forget(head)

    def restart(self) -> None:
        """Begin a list: scores that wait are dropped."""
        self.commands.append(("restart",))
        self.golden.drop_scores()

    def give(self, op: PimOpcode, **fields: Any) -> None:
        """Give a command; its fields are those of the RTL, and of entries of output `output` on."""
        self.commands.append(("give", op, fields))
        golden, head, count = self.golden, fields["head"], fields.get("cnt", 0) + 1
        entries = slice(fields.get("entry", 0), fields.get("entry", 0) + count)
        mine, other = (slice(fields.get(name, 0), fields.get(name, 0) + fields.get("entries", 1)) for name in ("output",
                                                                                                           "other_output"))
        with np.errstate(all="ignore"):
            match op:
                case PimOpcode.MVS:
                    scores = self.output[entries, :, :self.together].transpose(1, 0, 2).reshape(self.rows, -1)
                    golden.add_scores(head, np.ascontiguousarray(scores) * np.float32(fields["scale"]))
                case PimOpcode.SFM:
                    golden.all_at_once(head, fields["count"])
                case PimOpcode.SFO:
                    self._put(mine, golden.online(head, fields["count"], self._get(mine)))
                case PimOpcode.MRG:
                    self._put(mine, golden.merge(head, fields["other"], self._get(mine), self._get(other)))
                case PimOpcode.STS:
                    self.output[fields["entry"]] = 0
                    self.output[fields["entry"], :, :2] = golden.state(head)
                case PimOpcode.LDS:
                    golden.set_state(head, self.output[fields["entry"], :, :2])
                case PimOpcode.MVX:
                    weights = golden.next_weights(head, count * self.lanes).reshape(self.rows, count, self.lanes)
                    self.x[fields["slice"]:fields["slice"] + count] = weights.transpose(1, 0, 2)

    def _get(self, entries: slice) -> Any:
        return np.ascontiguousarray(self.output[entries].transpose(1, 0, 2)).reshape(self.rows, -1)

    def _put(self, entries: slice, output: Any) -> None:
        self.output[entries] = output.reshape(self.rows, -1, self.lanes).transpose(1, 0, 2)

    def run(self, deadline: int = 40_000) -> list[tuple[PimOpcode, int]]:
        """Run all, compare the buffers, and return the cycles of each command, until the next could be taken."""
        dut, cycles = self.dut, []

        async def buffers(ctx: Any) -> None:
            mask = (1 << 32 * self.rows) - 1
            while True:
                blocked = self.rng.random(3) < self.busy
                for port, value in zip((dut.readable, dut.ready, dut.x_ready), blocked, strict=True):
                    ctx.set(port, int(not value))
                entry = ctx.get(dut.entry) % 16
                seen = sum(int(word) << 32 * self.rows * lane for lane, word in enumerate(self.words[entry]))
                if blocked[0]:
                    seen ^= (1 << 32 * self.rows * self.lanes) - 1      # what another one reads
                if ctx.get(dut.write.valid) and not blocked[1]:
                    enabled, word = ctx.get(dut.write.lanes), ctx.get(dut.write.data.as_value())
                    for lane in range(self.lanes):
                        if enabled >> lane & 1:
                            self.words[ctx.get(dut.write.entry), lane] = word >> 32 * self.rows * lane & mask
                if ctx.get(dut.x.valid) and not blocked[2]:
                    self.codes[ctx.get(dut.x.slice), ctx.get(dut.x.row)] = ctx.get(dut.x.data.as_value())
                await ctx.tick()
                ctx.set(dut.o.as_value(), seen)

        async def bench(ctx: Any) -> None:
            for command in self.commands:
                match command:
                    case ("put", entry, values):
                        for lane in range(self.lanes):
                            self.words[entry, lane] = sum(int(word) << 32 * row for row, word in
                                                          enumerate(np.ascontiguousarray(values[:, lane]).view(np.uint32)))
                    case ("clear", head):
                        ctx.set(dut.clear.head, head)
                        ctx.set(dut.clear.valid, 1)
                        await ctx.tick()
                        ctx.set(dut.clear.valid, 0)
                    case ("restart",):
                        ctx.set(dut.restart, 1)
                        await ctx.tick()
                        ctx.set(dut.restart, 0)
                    case ("give", op, fields):
                        payload = dict(fields)
                        if "scale" in payload:
                            payload["scale"] = int(np.float32(payload["scale"]).view(np.uint32))
                        ctx.set(dut.i.p, {**dict.fromkeys(("cnt", "entry", "slice", "head", "count", "scale", "output", "other",
                                                           "other_output"), 0), "entries": 1, **payload, "op": op.value})
                        ctx.set(dut.i.valid, 1)
                        assert ctx.get(dut.i.ready)
                        taken = 1
                        await ctx.tick()
                        ctx.set(dut.i.valid, 0)
                        ctx.set(dut.i.p, {**dict.fromkeys(softmax_command_layout().members, 0), "op": PimOpcode.MVS.value})
                        while True:
                            taken += 1
                            finished = ctx.get(dut.done)
                            await ctx.tick()
                            if finished:
                                break
                        assert not ctx.get(dut.busy)
                        cycles.append((op, taken))
            assert not ctx.get(dut.misuse)

        simulate(dut, bench, background=[buffers], deadline=deadline)
        self._compare()
        return cycles

    def _compare(self) -> None:
        words = np.array([[[int(word) >> 32 * row & 0xFFFF_FFFF for word in entry] for row in range(self.rows)]
                          for entry in self.words], np.uint32)
        np.testing.assert_array_equal(canonical(words.view(np.float32)), canonical(self.output))
        codes = np.array([[[int(code) >> 16 * lane & 0xFFFF for lane in range(self.lanes)] for code in row]
                          for row in self.codes], np.uint16)
        np.testing.assert_array_equal(canonical(codes.view(np.float16)), canonical(self.x))
