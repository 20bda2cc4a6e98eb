"""Output buffer: entries of accumulator words, to which results of the MAC array are written or added."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.pim.mac_array import ADDER_LATENCY, adder
from hw.pim.multiplier import ACC_WIDTH
from hw.share import shared

__all__ = ["OutputBuffer"]


class OutputBuffer(wiring.Component):
    """So many `entries`; the first `wide` of them have words for all lanes, the others for the first `segments` alone, where
    TREE's outputs go.

    Results of TREE are added to their entry, or to +0, and written `latency` cycles later, one a cycle. So two results for one
    entry, the second of which is added to it, must be `latency` + 1 cycles apart.

    Parameters
    ----------
    acc : str
        "float32" or "int32".
    lanes, rows, entries, wide : int
    segments : int
        Lanes in which TREE has outputs.

    Members
    -------
    tree : In({valid: 1, entry, add: 1, data: segments × rows × 32})
    write : In({valid: 1, entry, lanes: mask, data: lanes × rows × 32}), ready : Out(1)
        Written if `ready`: no result of TREE is written in this cycle.
    entry : In, o : Out(lanes × rows × 32)
        That entry, in the next cycle.
    busy : Out(1)
        A result is on its way.

    Attributes
    ----------
    latency : int
        Cycles from a result of TREE to the cycle in which it is written.

    Raises
    ------
    ConfigError
        If a size is none that can be built.
    """

    def __init__(self, *, acc: str, lanes: int, rows: int, entries: int, wide: int, segments: int = 1):
        self.check(lanes=lanes, rows=rows, entries=entries, wide=wide, segments=segments)
        self._segments = segments
        self._acc, self._lanes, self._rows, self._entries, self._wide = acc, lanes, rows, entries, wide
        self.latency = 1 + ADDER_LATENCY[acc]
        per_row = data.ArrayLayout(ACC_WIDTH, rows)
        every = data.ArrayLayout(per_row, lanes)
        entry = ceil_log2(entries)
        super().__init__({
            "tree": In(wiring.Signature({"valid": Out(1), "entry": Out(entry), "add": Out(1),
                                         "data": Out(data.ArrayLayout(per_row, segments))})),
            "write": In(wiring.Signature({"valid": Out(1), "entry": Out(entry), "lanes": Out(lanes), "data": Out(every)})),
            "ready": Out(1), "entry": In(entry), "o": Out(every), "busy": Out(1),
        })

    @staticmethod
    def check(*, lanes: int, rows: int, entries: int, wide: int, segments: int = 1) -> None:
        """Raise what the constructor does."""
        for name, value in (("lanes", lanes), ("rows", rows), ("entries", entries)):
            if value < 1:
                raise ConfigError(f"OutputBuffer.{name} must be at least 1, not {value!r}")
        if not 1 <= wide <= entries:
            raise ConfigError(f"OutputBuffer.wide must be between 1 and {entries}, not {wide!r}")
        if not 1 <= segments <= lanes:
            raise ConfigError(f"OutputBuffer.segments must be between 1 and {lanes}, the lanes, not {segments!r}")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, wide_address = self._rows, ceil_log2(self._wide)
        # A result waits one cycle for its entry, then for the addition.
        stages = [(self.tree.valid, self.tree.entry)]
        for stage in range(1, self.latency + 1):
            valid, entry = Signal(name=f"valid_{stage}"), Signal.like(self.tree.entry, name=f"entry_{stage}", reset_less=True)
            m.d.sync += [valid.eq(stages[-1][0]), entry.eq(stages[-1][1])]
            stages.append((valid, entry))
        result, add = Signal.like(self.tree.data, reset_less=True), Signal(reset_less=True)
        m.d.sync += [result.eq(self.tree.data), add.eq(self.tree.add)]
        written, place = stages[-1]
        m.d.comb += [self.ready.eq(~written), self.busy.eq(Cat(valid for valid, _ in stages).any())]

        old, total = Signal.like(self.tree.data), Signal.like(self.tree.data)
        for lane in range(self._segments):
            for row in range(rows):
                node = adder(self._acc)
                m.submodules[f"adder_{row}" + (f"_{lane}" if lane else "")] = shared(platform, f"pim_adder_{self._acc}", node)
                m.d.comb += [node.enable.eq(1), Value.cast(node.a).eq(result[lane][row]),
                             Value.cast(node.b).eq(Mux(add, old[lane][row], 0)), total[lane][row].eq(Value.cast(node.o))]
        shown = []
        for lane in range(self._lanes):
            narrow = lane < self._segments
            m.submodules[f"lane_{lane}"] = words = memory.Memory(
                shape=ACC_WIDTH * rows, depth=self._entries if narrow else self._wide, init=[], attrs={"ram_style": "block"})
            write = words.write_port()
            read = words.read_port(transparent_for=(write,))
            outer = self.write.entry if narrow else self.write.entry[:wide_address]
            m.d.comb += [
                read.addr.eq(self.entry if narrow else self.entry[:wide_address]), read.en.eq(1),
                write.addr.eq(outer), write.data.eq(self.write.data[lane]),
                write.en.eq(self.write.valid & self.ready & self.write.lanes[lane]),
            ]
            shown.append(read.data)
            if narrow:
                own = words.read_port(transparent_for=(write,))
                m.d.comb += [own.addr.eq(self.tree.entry), own.en.eq(1), Value.cast(old[lane]).eq(own.data)]
                with m.If(written):
                    m.d.comb += [write.addr.eq(place), write.data.eq(total[lane]), write.en.eq(1)]
        m.d.comb += Value.cast(self.o).eq(Cat(shown))       # at once: Amaranth goes through all of its bits for each statement
        return m
