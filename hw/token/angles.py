"""Angles of rotary embedding as the load unit reads them: rows of cosines and sines of the current position, ahead of time."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.arith.int_to_float import IntToFloat
from hw.config import AcceleratorConfig, ceil_log2
from hw.elements import FP32
from hw.isa import ANGLE_BITS, ANGLE_RECORD_BYTES
from hw.token.rotary import Rotary

__all__ = ["AngleSource"]

_WORD = 32


class AngleSource(wiring.Component):
    """Keeps a position's angles by recurrence (`Rotary`), and has its cosines and sines as rows of float32, a beat a cycle.

    Records that come in set the angles of pairs from 0 on: cosine and sine of the position, then those of one step, int32 with
    `ANGLE_BITS` − 2 bits behind the point. After that, and after each advance by a position, all pairs are read from `Rotary`,
    by turning (1, 0), and made float32, which is exact: P + 10 cycles, in which `o` waits. Rows may be read any number of times.

    Parameters
    ----------
    config : AcceleratorConfig
        `rotary_pairs` and `bus_width` matter.

    Members
    -------
    i : In(stream of {data: bus_width, last: 1})
        Records, from pair 0 on; the pairs behind the last one stay as they are.
    o : Out(stream of bus_width)
        The next beat of cosines, until `row_end`, then of sines.
    row_end, last, advance : In(1)
        Of the beat that is taken: the next one is the first sine; the next one is the first cosine; and of the next position.
    clear : In(1)
        Forget what was begun: the next record is pair 0's, the next beat the first cosines'. What records have set is kept.

    Reference
    ---------
    HSA, arXiv 2507.09010, says that no table of angles is in DRAM. Inferred: everything else.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": config.bus_width, "last": 1}))),
            "o": Out(stream.Signature(config.bus_width)),
            "row_end": In(1),
            "last": In(1),
            "advance": In(1),
            "clear": In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pairs, lanes = self.config.rotary_pairs, self.config.bus_width // _WORD
        m.submodules.rotary = rotary = Rotary(pairs=pairs, width=ANGLE_BITS, element_width=ANGLE_BITS)
        pair = Signal(range(pairs))                 # that is written, or read
        ready = Signal()                            # the rows are those of the position
        filled = self._fill(m, rotary)
        m.d.comb += [
            rotary.i.payload.a.eq(1 << (ANGLE_BITS - 2)),
            rotary.i.payload.b.eq(0),
            rotary.i.payload.pair.eq(pair),
            rotary.write_pair.eq(pair),
        ]
        m.d.sync += ready.eq(0)
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)

        write = self._records(m, rotary)
        with m.FSM(name="angles"):
            with m.State("READY"):
                m.d.sync += [ready.eq(1), pair.eq(0)]
                with m.If(taken & self.last & self.advance):
                    m.d.comb += rotary.advance.eq(1)
                    m.d.sync += ready.eq(0)
                    m.next = "ADVANCE"
                with m.Elif(self.i.valid):
                    m.d.sync += ready.eq(0)
                    m.next = "RECORDS"
            with m.State("RECORDS"):
                m.d.comb += write.en.eq(self.i.valid)
                with m.If(write.pair_done):
                    m.d.sync += pair.eq(pair + 1)
                with m.If(write.done | self.clear):
                    m.d.sync += pair.eq(0)
                    m.next = "FILL"
            with m.State("ADVANCE"):
                with m.If(rotary.idle):
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += rotary.i.valid.eq(1)
                with m.If(rotary.i.ready):
                    m.d.sync += pair.eq(pair + 1)
                    with m.If(pair == pairs - 1):
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(filled):
                    m.next = "READY"

        # Reading: the memories are addressed a cycle ahead, with what follows the beat that is taken.
        beat, sines = Signal(range(max(2, pairs // lanes))), Signal()
        next_beat, next_sines = Signal.like(beat), Signal()
        m.d.comb += [next_beat.eq(beat), next_sines.eq(sines)]
        with m.If(self.clear):
            m.d.comb += [next_beat.eq(0), next_sines.eq(0)]
        with m.Elif(taken):
            m.d.comb += [next_beat.eq(Mux(self.row_end | self.last, 0, beat + 1)),
                         next_sines.eq((sines | self.row_end) & ~self.last)]
        m.d.sync += [beat.eq(next_beat), sines.eq(next_sines)]
        reads = {name: memory.read_port() for name, memory in (("cos", m.submodules.cosines), ("sin", m.submodules.sines))}
        for port in reads.values():
            m.d.comb += [port.en.eq(1), port.addr.eq(next_beat)]
        m.d.comb += [
            self.o.valid.eq(ready),
            self.o.payload.eq(Mux(sines, reads["sin"].data.as_value(), reads["cos"].data.as_value())),
        ]
        return m

    def _fill(self, m: Module, rotary: Rotary) -> Value:
        """Write the pairs that leave `Rotary` into the rows, in order; return whether all have been."""
        pairs, lanes = self.config.rotary_pairs, self.config.bus_width // _WORD
        row = data.ArrayLayout(_WORD, lanes)
        index = Signal(range(pairs))
        valid: Value = rotary.o_valid
        for stage in range(IntToFloat.latency):
            held = Signal(name=f"converting_{stage}")
            m.d.sync += held.eq(valid)
            valid = held
        for name, source in (("cosines", rotary.o_a), ("sines", rotary.o_b)):
            convert = IntToFloat(width=ANGLE_BITS + 1, fmt=FP32, fraction_bits=ANGLE_BITS - 2)
            memory = Memory(shape=row, depth=max(2, pairs // lanes), init=[])
            m.submodules[f"convert_{name}"], m.submodules[name] = convert, memory
            port = memory.write_port(granularity=1)
            m.d.comb += [
                convert.enable.eq(1), convert.i.eq(source),
                port.addr.eq(index >> ceil_log2(lanes)),
                *(port.data[lane].eq(convert.o) for lane in range(lanes)),
                port.en.eq(Mux(valid, 1 << index[:ceil_log2(lanes)], 0)),
            ]
        with m.If(valid):
            m.d.sync += index.eq(Mux(index == pairs - 1, 0, index + 1))
        return valid & (index == pairs - 1)

    def _records(self, m: Module, rotary: Rotary) -> "_Write":
        """Cut beats into records, or put records together from beats; write each in two cycles, position and step."""
        record_bits, bus = 8 * ANGLE_RECORD_BYTES, self.config.bus_width
        write, step = _Write(), Signal()
        beat, last = self.i.payload.data, self.i.payload.last
        there, end, whole = Signal(), Signal(), Signal(record_bits)     # a record is at hand; it is the beat's last
        if bus < record_bits:
            low, half = Signal(bus, reset_less=True), Signal()
            with m.If(self.clear):
                m.d.sync += half.eq(0)
            with m.Elif(write.en & ~half):
                m.d.sync += [low.eq(beat), half.eq(1)]
            with m.Elif(write.en & step):
                m.d.sync += half.eq(0)
            m.d.comb += [there.eq(write.en & half), end.eq(1), whole.eq(Cat(low, beat)),
                         self.i.ready.eq(write.en & (~half | step))]
        else:
            count = bus // record_bits
            part = Signal(range(max(2, count)))
            with m.If(self.clear):
                m.d.sync += part.eq(0)
            with m.Elif(write.en & step):
                m.d.sync += part.eq(Mux(end, 0, part + 1))
            m.d.comb += [there.eq(write.en), end.eq(part == count - 1), self.i.ready.eq(write.en & step & end),
                         whole.eq(beat.word_select(part, record_bits) if count > 1 else beat)]
        with m.If(self.clear):
            m.d.sync += step.eq(0)
        with m.Elif(there):
            m.d.sync += step.eq(~step)
        words = [whole[at:at + ANGLE_BITS] for at in range(0, record_bits, _WORD)]
        m.d.comb += [
            rotary.write.eq(there), rotary.write_step.eq(step),
            rotary.write_cos.eq(Mux(step, words[2], words[0])), rotary.write_sin.eq(Mux(step, words[3], words[1])),
            write.pair_done.eq(there & step),
            write.done.eq(self.i.ready & last & there),
        ]
        return write


class _Write:
    def __init__(self) -> None:
        self.en = Signal(name="write_en")
        self.pair_done = Signal()
        self.done = Signal()
