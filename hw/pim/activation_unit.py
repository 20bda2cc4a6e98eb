"""Activation unit of a PIM channel: functions of outputs, rounded to elements of X, for the product that comes next."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.arith.distribution import Distribution
from hw.arith.float_convert import FloatConvert
from hw.arith.float_mul import FloatMultiply
from hw.arith.pipeline import registered
from hw.elements import FP32, FloatFormat
from hw.errors import ConfigError
from hw.pim.isa import AF_MODES
from hw.share import shared

__all__ = ["ActivationUnit", "activation_command_layout"]

_WORD = 32
_ONE = 0x3F80_0000
_MOST = 128                 # entries of a command


def activation_command_layout() -> data.StructLayout:
    """Return the layout of a command: entries less one, first entry and slice, one of `AF_MODES`, if outputs are gathered."""
    return data.StructLayout({"cnt": 7, "entry": 8, "slice": 9, "mode": 2, "gather": 1})


class ActivationUnit(wiring.Component):
    """Carries out AF, one command after the other, X rows at once, an element in a cycle (of "gated" in two).

    identity: v; silu: v · σ(v); gelu: v · Φ(v); gated: v · σ(v) · u, where u is of the entry that is as many further on as there
    are entries. Each operation is rounded to float32, the result to `element`. An entry becomes a slice, lane by lane; with
    `gather` the first `segments` lanes of each entry, where TREE leaves outputs, become the next elements, and what is missing in
    the last slice is zero.

    A slice takes its elements (gated: two cycles each), `latency` + 4 cycles, and X to be written.

    Parameters
    ----------
    element : FloatFormat
        Of the X buffer.
    lanes, rows, slices, entries : int
    segments : int
        Outputs of an entry, a power of two of at most `lanes`.

    Members
    -------
    i : In(stream of `activation_command_layout`)
    done : Out(1), busy : Out(1)
    x : Out, x_ready : In(1), entry : Out, readable : In(1), o : In
        See `XBuffer` and `OutputBuffer`; a row of a slice is written in a cycle with `x_ready`, and `entry` read with `readable`.

    Attributes
    ----------
    latency : int
        From an output to the element.

    Raises
    ------
    ConfigError
        If there are no lanes or rows.
    """

    def __init__(self, *, element: FloatFormat, lanes: int, rows: int, slices: int, entries: int, segments: int = 1):
        for name, value in (("lanes", lanes), ("rows", rows)):
            if value < 1:
                raise ConfigError(f"ActivationUnit.{name} must be at least 1, not {value!r}")
        if not 1 <= segments <= lanes or segments & (segments - 1):
            raise ConfigError(f"ActivationUnit.segments must be a power of two of at most {lanes}, not {segments!r}")
        self._element, self._lanes, self._rows, self._segments = element, lanes, rows, segments
        self._parts = [
            (Distribution(fmt=FP32), FloatMultiply(fmt=FP32, subnormals=True), FloatMultiply(fmt=FP32, subnormals=True),
             FloatConvert(source=FP32, target=element)) for _ in range(rows)]
        share, product, result, narrow = self._parts[0]
        self.latency = share.latency + product.latency + result.latency + narrow.latency
        super().__init__({
            "i": In(stream.Signature(activation_command_layout())), "done": Out(1), "busy": Out(1),
            "x": Out(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)), "row": Out(ceil_log2(rows)),
                                       "data": Out(data.ArrayLayout(element.bits, lanes))})),
            "x_ready": In(1), "entry": Out(ceil_log2(entries)), "readable": In(1, init=1),
            "o": In(data.ArrayLayout(data.ArrayLayout(_WORD, rows), lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, rows = self._lanes, self._rows
        command = Signal(activation_command_layout())
        count, at = Signal(range(_MOST + 1)), Signal(range(_MOST + 1))      # entries, and the one that is read
        lane, second = Signal(range(lanes)), Signal()
        place, row = Signal(9), Signal(range(rows))
        gated = command.mode == AF_MODES.index("gated")
        reads, feeds, last = Signal(), Signal(), Signal()
        turns = lane[:ceil_log2(self._segments)] == self._segments - 1      # the next output is another entry's
        ends = Mux(command.gather, (at == count - 1) & turns, 1)            # no further entry is for this slice
        m.d.comb += [
            feeds.eq(reads & (second | ~gated)), self.entry.eq(command.entry + at + Mux(second, count, 0)),
            last.eq(feeds & ((lane == lanes - 1) | (command.gather & ends))), self.x.slice.eq(place), self.x.row.eq(row),
        ]

        # What comes back a cycle later: the factor of "gated" after the value that it belongs to.
        came, came_first, came_lane, came_last = Signal(), Signal(), Signal.like(lane), Signal()
        m.d.sync += [came.eq(feeds), came_first.eq(reads & ~feeds), came_lane.eq(lane), came_last.eq(last)]
        source = Mux(command.gather, came_lane[:ceil_log2(self._segments)], came_lane)
        flags: Value = Cat(came, came_last, came_lane)
        for stage in range(self.latency):               # a reset takes back what is on its way
            later = Signal(len(flags), name=f"landing_{stage}")
            m.d.sync += later.eq(flags)
            flags = later
        landed, landed_last, landed_lane = flags[0], flags[1], flags[2:]
        held = [Signal(data.ArrayLayout(self._element.bits, lanes), name=f"held_{r}") for r in range(rows)]
        for r, part in enumerate(self._parts):
            word = Signal(_WORD, name=f"word_{r}")
            first = Signal(_WORD, name=f"first_{r}")
            m.d.comb += word.eq(Array(self.o[index][r] for index in range(lanes))[source])
            with m.If(came_first):
                m.d.sync += first.eq(word)
            value = Mux(gated, first, word)
            self._function(m, platform, r, value, Mux(gated, word, C(_ONE, _WORD)), command.mode)
            with m.If(landed):
                for index in range(lanes):
                    with m.If(landed_lane == index):
                        m.d.sync += held[r][index].eq(Value.cast(part[-1].o))
            with m.If(row == r):
                m.d.comb += Value.cast(self.x.data).eq(held[r])

        with m.FSM(name="activation") as machine:
            with m.State("rest"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [command.eq(self.i.p), count.eq(self.i.p.cnt + 1), place.eq(self.i.p.slice), at.eq(0), lane.eq(0),
                             second.eq(0), row.eq(0), *(word.eq(0) for word in held)]
                with m.If(self.i.valid):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += reads.eq(self.readable)
                m.d.sync += second.eq(Mux(self.readable, gated & ~second, second))
                with m.If(feeds):
                    m.d.sync += lane.eq(lane + 1)
                    with m.If((command.gather & turns) | (last & ~command.gather)):
                        m.d.sync += at.eq(at + 1)
                    with m.If(last):
                        m.d.sync += lane.eq(0)
                        m.next = "drain"
            with m.State("drain"):
                with m.If(landed & landed_last):
                    m.next = "write"
            with m.State("write"):
                m.d.comb += self.x.valid.eq(1)
                with m.If(self.x_ready):
                    m.d.sync += row.eq(row + 1)
                    with m.If(row == rows - 1):
                        m.d.sync += [row.eq(0), place.eq(place + 1), *(word.eq(0) for word in held)]
                        m.next = "read"
                        with m.If(at == count):
                            m.d.comb += self.done.eq(1)
                            m.next = "rest"
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m

    def _function(self, m: Module, platform: Any, r: int, value: Value, factor: Value, mode: Value) -> None:
        """Build one row: (value · f) · factor, rounded to an element."""
        share, product, result, narrow = self._parts[r]
        nodes: dict[str, Any] = {"distribution": share, "product": product, "result": result, "narrow": narrow}
        for name, node in nodes.items():
            m.submodules[f"{name}_of_row_{r}"] = shared(platform, f"pim_activation_{name}_{self._element.name}", node)
            m.d.comb += node.enable.eq(1)
        one, on = C(_ONE, _WORD), C(1)
        later = registered(m, on, value, f"value_{r}", share.latency)
        plain = mode == AF_MODES.index("identity")
        m.d.comb += [
            Value.cast(share.i).eq(value), share.select.eq(mode == AF_MODES.index("gelu")),
            Value.cast(product.a).eq(later), Value.cast(product.b).eq(Mux(plain, one, Value.cast(share.o))),
            Value.cast(result.a).eq(Value.cast(product.o)),
            Value.cast(result.b).eq(registered(m, on, factor, f"factor_{r}", share.latency + product.latency)),
            Value.cast(narrow.i).eq(Value.cast(result.o)),
        ]
