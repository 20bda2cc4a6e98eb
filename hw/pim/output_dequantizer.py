"""Dequantizer of a PIM channel: outputs of groups, times their scales, added up in float32."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.arith.float_add import FloatAdd
from hw.arith.float_mul import FloatMultiply
from hw.arith.int_to_float import IntToFloat
from hw.arith.pipeline import registered
from hw.elements import FP32
from hw.errors import ConfigError
from hw.share import shared

__all__ = ["OutputDequantizer", "dequantizer_command_layout"]

_WORD = 32


def dequantizer_command_layout() -> data.StructLayout:
    """Return the layout of a command: entries less one, first entry, first sum, whether sums start, whether they are complete."""
    return data.StructLayout({"cnt": 7, "entry": 8, "first": 9, "clr": 1, "last": 1})


class OutputDequantizer(wiring.Component):
    """Carries out DQA, one command after the other: sum[first + i] ← sum[first + i] + scale · output[entry + i], X rows at once.

    Outputs are what TREE leaves in the first `segments` lanes of an entry; of int32 accumulators they are rounded to float32
    first. Product and sum are rounded, subnormal numbers kept. With `clr` sums start from +0; with `last` they are put into the
    entries in the outputs' place. Sums are kept in a memory of their own: the output buffer's one write port has a result of the
    MAC array in every cycle in which a group is a beat.

    A scale is a float32 of a host word, the lowest first, `segments` for an entry; a command begins with a new word.

    An entry a cycle, but where a sum is asked for that is on its way (`latency` cycles); with `last` 2 more for each, and
    `latency` + 1 a command.

    Parameters
    ----------
    acc : str
        "float32" or "int32": what outputs are.
    lanes, rows, entries : int
        Of the output buffer; there are as many sums as entries.
    word : int
        Bits of a host word.
    segments : int
        Outputs of an entry and row.

    Members
    -------
    i : In(stream of `dequantizer_command_layout`)
    done : Out(1)
        A command is done; its outputs may be overwritten.
    busy : Out(1)
    host_in : In(stream of word)
    write : Out, ready : In(1), entry : Out, readable : In(1), o : In
        See `OutputBuffer`; `entry` is read in a cycle with `readable`.

    Attributes
    ----------
    latency : int
        Cycles from the one in which an entry is asked for to that in which its sum is written.

    Raises
    ------
    ConfigError
        If a host word does not hold an entry's scales, or accumulators are none of these.

    Reference
    ---------
    P3-LLM (arXiv 2511.06838) has a dequantizer of a lane for the unit's 16 outputs. How we differ: one for the channel, as wide
    as an entry.
    """

    def __init__(self, *, acc: str, lanes: int, rows: int, entries: int, word: int, segments: int = 1):
        if word < _WORD * segments or word % (_WORD * segments):
            raise ConfigError(f"OutputDequantizer.word must be a multiple of {_WORD * segments} bits, an entry's scales, "
                              f"not {word!r}")
        if acc not in ("float32", "int32"):
            raise ConfigError(f"OutputDequantizer.acc must be float32 or int32, not {acc!r}")
        self._acc, self._lanes, self._rows, self._entries, self._word = acc, lanes, rows, entries, word
        self._segments = segments
        self._parts: list[tuple[IntToFloat | None, FloatMultiply, FloatAdd]] = [
            (IntToFloat(width=_WORD, fmt=FP32) if acc == "int32" else None, FloatMultiply(fmt=FP32, subnormals=True),
             FloatAdd(fmt=FP32, subnormals=True)) for _ in range(rows * segments)]
        convert, product, total = self._parts[0]
        self._convert_latency = convert.latency if convert else 0
        self._before_sum = 1 + self._convert_latency + product.latency       # from the question to the addition
        self.latency = self._before_sum + total.latency
        entry = ceil_log2(entries)
        every = data.ArrayLayout(data.ArrayLayout(_WORD, rows), lanes)
        super().__init__({
            "i": In(stream.Signature(dequantizer_command_layout())), "done": Out(1), "busy": Out(1),
            "host_in": In(stream.Signature(word)),
            "write": Out(wiring.Signature({"valid": Out(1), "entry": Out(entry), "lanes": Out(lanes), "data": Out(every)})),
            "ready": In(1), "entry": Out(entry), "readable": In(1, init=1), "o": In(every),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, on, step = self._rows, C(1), _WORD * self._segments
        command = Signal(dequantizer_command_layout())
        entry, place, left = Signal(8), Signal(range(self._entries)), Signal(7)
        held, scales = Signal(self._word), Signal(range(self._word // step + 1))
        m.submodules.sums = sums = memory.Memory(shape=step * rows, depth=self._entries, init=[], attrs={"ram_style": "block"})
        keep = sums.write_port()
        read = sums.read_port(transparent_for=(keep,))
        issue = Signal()

        # What is on its way: a flag, its place, and whether its sum starts.
        ways = [Cat(issue, command.clr, place)]
        for stage in range(self.latency):
            later = Signal(len(ways[-1]), name=f"way_{stage}")
            m.d.sync += later.eq(ways[-1])
            ways.append(later)
        near = Cat(way[0] & (way[2:] == place) for way in ways[1:]).any()
        under_way = Cat(way[0] for way in ways[1:]).any()
        asked, summed, written = ways[self._before_sum - 1], ways[self._before_sum], ways[-1]
        m.d.comb += [keep.en.eq(written[0]), keep.addr.eq(written[2:]), read.en.eq(1),
                     read.addr.eq(Mux(asked[0], asked[2:], place)), self.entry.eq(entry)]
        scales_now = registered(m, on, held[:step], "scale", 1 + self._convert_latency)
        for r, (convert, product, total) in enumerate(self._parts):
            segment, row = divmod(r, rows)
            value: Value = self.o[segment][row]
            scale = scales_now.word_select(segment, _WORD)
            if convert is not None:
                m.submodules[f"convert_{r}"] = convert
                m.d.comb += [convert.enable.eq(1), convert.i.eq(value)]
                value = Value.cast(convert.o)
            m.submodules[f"product_{r}"] = shared(platform, "pim_dequantizer_product", product)
            m.submodules[f"total_{r}"] = shared(platform, "pim_adder_float32", total)
            m.d.comb += [
                product.enable.eq(1), Value.cast(product.a).eq(value), Value.cast(product.b).eq(scale), total.enable.eq(1),
                Value.cast(total.a).eq(Mux(summed[1], 0, read.data.word_select(r, _WORD))),
                Value.cast(total.b).eq(Value.cast(product.o)),
                keep.data.word_select(r, _WORD).eq(Value.cast(total.o)),
                self.write.data[segment][row].eq(read.data.word_select(r, _WORD)),
            ]
        m.d.comb += [self.write.entry.eq(entry), self.write.lanes.eq((1 << self._segments) - 1)]

        def rewind() -> None:
            m.d.sync += [entry.eq(command.entry), place.eq(command.first), left.eq(command.cnt)]

        with m.FSM(name="dequantizer") as machine:
            with m.State("rest"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [command.eq(self.i.p), entry.eq(self.i.p.entry), place.eq(self.i.p.first), left.eq(self.i.p.cnt),
                             scales.eq(0)]
                with m.If(self.i.valid):
                    m.next = "run"
            with m.State("run"):
                m.d.comb += [issue.eq((scales != 0) & ~near & self.readable),
                             self.host_in.ready.eq((scales == 0) | ((scales == 1) & issue & (left != 0)))]
                with m.If(issue):
                    m.d.sync += [entry.eq(entry + 1), place.eq(place + 1), left.eq(left - 1), held.eq(held >> step),
                                 scales.eq(scales - 1)]
                with m.If(self.host_in.ready & self.host_in.valid):
                    m.d.sync += [held.eq(self.host_in.p), scales.eq(self._word // step)]
                with m.If(issue & (left == 0)):
                    with m.If(command.last):
                        rewind()
                        m.next = "drain"
                    with m.Else():
                        m.d.comb += self.done.eq(1)
                        m.next = "rest"
            with m.State("drain"):
                with m.If(~under_way):
                    m.next = "read"
            with m.State("read"):
                m.next = "write"
            with m.State("write"):
                m.d.comb += self.write.valid.eq(1)
                with m.If(self.ready):
                    m.d.sync += [entry.eq(entry + 1), place.eq(place + 1), left.eq(left - 1)]
                    m.next = "read"
                    with m.If(left == 0):
                        m.d.comb += self.done.eq(1)
                        m.next = "rest"
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m
