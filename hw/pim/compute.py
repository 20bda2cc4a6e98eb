"""Compute path of one pseudo-channel: beats of weights × X buffer → output buffer, as MAC jobs say."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.elements import FloatFormat
from hw.errors import ConfigError
from hw.memory.fifo import StreamFIFO
from hw.pim.mac_array import ADDER_LATENCY, MacArray
from hw.pim.merger import Merger
from hw.pim.multiplier import Multiplier, Operand, check_operands
from hw.pim.output_buffer import OutputBuffer
from hw.pim.ports import side_port
from hw.pim.x_buffer import XBuffer

__all__ = ["ComputePath", "mac_job_layout"]

_SIDE = data.StructLayout({"zero_point": 6, "special": 2})


def mac_job_layout(*, bursts: int, beats: int, slices: int, width: int, entries: int) -> data.StructLayout:
    """Return the layout of a MAC job.

    bcast: mode, else TREE; select: which formats, of those that the multipliers read; bursts: after the first; period: beats,
    after the first, of one output (TREE) or one element of X (BCAST); x: first slice (TREE) or element (BCAST); entry: first
    entry of the output buffer; clr, last: the accumulation starts, ends with this job; copy: beat b goes into slice x + b of all
    rows, nothing is multiplied, and of the rest only bursts and x count; elementwise (with copy): instead slice x + b of each row
    times it, or with `sums` plus it, is put back. A burst has `beats` beats.
    """
    return data.StructLayout({"bcast": 1, "select": 2, "bursts": ceil_log2(bursts), "period": ceil_log2(bursts * beats),
                              "x": ceil_log2(slices * width), "entry": ceil_log2(entries), "clr": 1, "last": 1, "copy": 1,
                              "elementwise": 1, "sums": 1})


class ComputePath(wiring.Component):
    """X buffer, MAC array and output buffer, and the control that takes a beat of weights in every cycle.

    Lanes are in segments, G of `width` lanes each. TREE: beat b of a period meets slice x + b, of `width` elements; a period is
    one output of each segment, in lane g of entry + period. BCAST: in every beat of a period a segment meets the same element,
    x + G·period + g, for entry + beat; a job has whole periods, and x is a multiple of G. An output of TREE is complete at the
    end of its period, but the last one of a job, like all of BCAST, only with `last`: without, the next job goes on with its
    accumulators, if it is of the same mode and first entry and does not `clr`. An accumulation that `clr` has begun replaces what
    its entry has, else it is added. Beats wait where a rule of the array or the output buffer asks for it: modes do not meet in
    the array, additions to one entry keep their distance.

    A beat is one cycle; an output of TREE can be read from the output buffer `latency_tree` cycles after the cycle in which its
    last beat was taken. A BCAST accumulation is merged in the `merge_cycles` after that of its last beat, in which no beat is
    taken.

    Parameters
    ----------
    weights, xs : tuple of Operand
    acc : str
    lanes, rows, slots, groups, segments : int
        See `MacArray`.
    beats : int
        Of a burst.
    bursts : int
        Most that a job may have.
    slices, entries : int
        Of the X buffer, of the output buffer, the first `groups` entries of which take results of BCAST at least.
    wide : int
        Entries that take BCAST's results.
    queue : int
        Jobs that wait.
    side_word : int
        Bytes of the side table that are written at once, a power of two.

    Members
    -------
    job : In(stream of `mac_job_layout`)
    weight : In(stream of lanes × code)
        Beats, in the order of the jobs.
    x : In(`XBuffer.write`)
    side : In({valid: 1, word, mask, data})
        The side table, where weights have zero points or special values to choose from: those bytes of a word are written. Byte
        G·e + g is of the output of entry e in lane g (TREE), byte e of element e of X (BCAST): special value's number in its
        bits 7:6, zero point below.
    write, ready, entry, o : see `OutputBuffer`
    readable : Out(1)
        `entry` is read in this cycle; without, the end of a BCAST accumulation reads another one.
    idle : Out(1)
        Nothing is under way, and every result is written.
    done : Out(1), copied : Out(1)
        A job is done, the oldest one: it reads X no more, and what it has completed can be read. Of copies, what it has written:
        a copy, and what is elementwise, begins when every job before it is done.
    x_ready : Out(1)
        `x` writes in this cycle; without, an elementwise result is written.
    peek, peeked : see `XBuffer`
    range_error, nan_error : Out(1)
        Sticky: a beat was dropped that would have read or written beyond a buffer, gone on with the accumulation of another
        entry, or ended a BCAST job within a period; a NaN was multiplied as an integer.
    macs : Out(1)
        A beat enters the array.
    stall_hazard : Out(1)
        There are beats, and they wait.

    Raises
    ------
    ConfigError
        If a size is none that can be built.

    Attributes
    ----------
    latency_tree : int
    copies : bool
        Elements of X are as wide as weights, so that slices can be copied, those of the first segment; else a copy is a range
        error.
    elementwise : bool
        Weights and X are plain floats, with float32 accumulators, so that lanes can be multiplied and added one by one.
    """

    def __init__(self, *, weights: tuple[Operand, ...], xs: tuple[Operand, ...], acc: str, lanes: int, rows: int, slots: int,
                 groups: int, beats: int, bursts: int, slices: int, entries: int, wide: int, queue: int = 2,
                 segments: int = 1, side_word: int = 1):
        for name, value in (("beats", beats), ("bursts", bursts), ("queue", queue)):
            if value < 1:
                raise ConfigError(f"ComputePath.{name} must be at least 1, not {value!r}")
        MacArray.check(acc=acc, lanes=lanes, rows=rows, slots=slots, groups=groups, entries=entries, segments=segments)
        width = lanes // segments
        XBuffer.check(lanes=width, rows=rows, slices=slices, segments=segments)
        OutputBuffer.check(lanes=width, rows=rows, entries=entries, wide=wide, segments=segments)
        check_operands(weights, xs, acc)
        self.elementwise = acc == "float32" and all(
            isinstance(way.element, FloatFormat) and not way.specials and not way.zero_point_bits for way in (*weights, *xs))
        self._array: dict[str, Any] = {"weights": weights, "xs": xs, "acc": acc, "lanes": lanes, "rows": rows, "slots": slots,
                                       "groups": groups, "entries": entries, "segments": segments,
                                       "elementwise": self.elementwise}
        self._output: dict[str, Any] = {"acc": acc, "lanes": width, "rows": rows, "entries": entries, "wide": wide,
                                        "segments": segments}
        self._buffer: dict[str, Any] = {"bits": xs[0].element.bits, "lanes": width, "rows": rows, "slices": slices,
                                        "segments": segments}
        self.copies = weights[0].element.bits == xs[0].element.bits
        self.lanes, self.slots, self.groups, self.beats, self.bursts = lanes, slots, groups, beats, bursts
        self.slices, self.entries, self.wide, self._queue = slices, entries, wide, queue
        self.width, self.segments = width, segments
        add = ADDER_LATENCY[acc]
        self._reach = 2 + Multiplier.LATENCY[acc] + add         # until a BCAST beat is in its accumulator, and that is seen
        self.latency_tree = self._reach + (ceil_log2(width) + ceil_log2(slots) + 1) * add + 2
        self._job = mac_job_layout(bursts=bursts, beats=beats, slices=slices, width=width, entries=entries)
        bits, entry = weights[0].element.bits, ceil_log2(entries)
        self.has_sides = any(way.zero_point_bits or len(way.specials) > 1 for way in weights)
        self._side_word = max(side_word, segments)
        self._side_words = max(1, max(entries * segments, slices * width) // self._side_word)
        every = data.ArrayLayout(data.ArrayLayout(32, rows), width)
        super().__init__({
            "job": In(stream.Signature(self._job)),
            "weight": In(stream.Signature(bits * lanes)),
            "x": In(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)), "row": Out(ceil_log2(rows)),
                                      "data": Out(data.ArrayLayout(xs[0].element.bits, width))})),
            "x_ready": Out(1),
            **({"side": In(side_port(self._side_words, self._side_word))} if self.has_sides else {}),
            "write": In(wiring.Signature({"valid": Out(1), "entry": Out(entry), "lanes": Out(width), "data": Out(every)})),
            "ready": Out(1), "entry": In(entry), "readable": Out(1), "o": Out(every),
            "peek": In(ceil_log2(slices)), "peeked": Out(data.ArrayLayout(xs[0].element.bits, width)),
            "idle": Out(1), "done": Out(1), "copied": Out(1), "range_error": Out(1), "nan_error": Out(1), "macs": Out(1),
            "stall_hazard": Out(1),
        })

    def merge_cycles(self, groups: int, *, add: bool) -> int:
        """Return the cycles without a beat after a BCAST accumulation of `groups` entries, with `add` onto what they have."""
        rounds, across = ceil_log2(self.slots), ceil_log2(self.segments)
        settle = ADDER_LATENCY[self._array["acc"]] + 1
        merged = groups * (self.slots - 1) + rounds * settle + across * (groups + settle)
        return self._reach + merged + (2 * groups + settle) * add + groups

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.array = array = MacArray(**self._array)
        m.submodules.x_buffer = x_buffer = XBuffer(**self._buffer)
        m.submodules.output = output = OutputBuffer(**self._output)
        m.submodules.merger = merger = Merger(slots=self.slots, groups=self.groups, entries=self.entries,
                                             segments=self.segments)
        m.submodules.jobs = jobs = StreamFIFO(shape=self._job, depth=self._queue)
        wiring.connect(m, consumer=jobs.i, producer=wiring.flipped(self.job))
        job = jobs.o.payload

        # Where the job is: beat of a burst, beat of a period, burst and period of the job; and the accumulation's own place.
        beat, offset = Signal(range(self.beats)), Signal(range(self.bursts * self.beats))
        bursts, turn = Signal(range(self.bursts)), Signal(range(self.bursts * self.beats))
        kept_slot, kept_wrapped = Signal(range(self.slots)), Signal()
        carried, carried_clr, carried_entry = Signal(), Signal(), Signal.like(job.entry)
        mode, begun = Signal(), Signal()
        goes_on = ~begun & carried & ~job.clr & (mode == job.bcast) & ~job.copy
        restarts = ~begun & ~goes_on
        slot, wrapped = Mux(restarts, 0, kept_slot), ~restarts & kept_wrapped
        clr, own_clr = Signal(), Signal()
        m.d.comb += clr.eq(Mux(begun, own_clr, Mux(goes_on, carried_clr, job.clr)))
        burst_ends, period_ends, job_ends, closes = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            burst_ends.eq(beat == self.beats - 1), period_ends.eq(offset == job.period),
            job_ends.eq(burst_ends & (bursts == job.bursts)),
            closes.eq(Mux(job_ends, job.last, period_ends & ~job.bcast) & ~job.copy),
        ]
        shift, width_log2 = ceil_log2(self.segments), ceil_log2(self.width)
        element = Signal(max(len(job.x), len(turn) + shift) + 1)
        entry = Signal(range(2 * self.entries + self.bursts * self.beats))
        position = Signal(range(self.bursts * self.beats))      # beat of the job
        m.d.comb += [element.eq(job.x + Mux(job.copy, position, Mux(job.bcast, turn << shift, offset))),
                     entry.eq(job.entry + Mux(job.bcast, offset, turn))]
        fits = ~(goes_on & (carried_entry != job.entry)) & Mux(
            job.bcast,
            (element < self.slices * self.width) & (entry < self.wide) & (offset < self.groups) & (period_ends | ~job_ends),
            (element < self.slices) & (entry < self.entries))
        lanewise = job.copy & job.elementwise
        inside = Mux(job.copy, (element < self.slices) & Mux(job.elementwise, self.elementwise, self.copies), fits)

        # When a beat may go. An addition to an entry that a result is on its way to waits for that.
        recent = []
        go = Signal()
        latest = (go & closes & ~job.bcast, entry)
        for age in range(output.latency + 1):
            valid, place = Signal(name=f"closed_{age}"), Signal.like(output.tree.entry, name=f"closed_entry_{age}")
            m.d.sync += [valid.eq(latest[0]), place.eq(latest[1])]
            recent.append(valid & (place == entry))
            latest = (valid, place)
        near = closes & ~job.bcast & ~clr & Cat(recent).any()
        apart = (mode == job.bcast) | (array.empty & ~output.busy)
        quiet, returning = Signal(), Signal()                   # every job before is done; elementwise results are under way
        offered = jobs.o.valid & self.weight.valid & ~merger.busy
        m.d.comb += [
            go.eq(offered & Mux(lanewise, begun | quiet,
                                Mux(job.copy, ~self.x.valid & quiet, apart & ~near) & ~returning)), self.weight.ready.eq(go),
            self.stall_hazard.eq(self.weight.valid & ~go),
            jobs.o.ready.eq(go & job_ends), self.macs.eq(go & inside & (~job.copy | lanewise)),
        ]
        with m.If(go):
            m.d.sync += [begun.eq(~job_ends), beat.eq(Mux(burst_ends, 0, beat + 1)), position.eq(Mux(job_ends, 0, position + 1)),
                         offset.eq(Mux(period_ends | job_ends, 0, offset + 1)),
                         self.range_error.eq(self.range_error | ~inside)]
            with m.If(burst_ends):
                m.d.sync += bursts.eq(Mux(job_ends, 0, bursts + 1))
        with m.If(go & ~job.copy):
            m.d.sync += [mode.eq(job.bcast), kept_slot.eq(slot), kept_wrapped.eq(wrapped), own_clr.eq(clr)]
            with m.If(Mux(job.bcast, period_ends, 1)):
                m.d.sync += [kept_slot.eq(slot + 1), kept_wrapped.eq(wrapped | (slot == self.slots - 1))]
            with m.If(period_ends):
                m.d.sync += turn.eq(turn + 1)
            with m.If(job_ends):
                m.d.sync += [turn.eq(0), carried.eq(~closes), carried_clr.eq(clr), carried_entry.eq(entry)]
                with m.If(job.bcast):
                    m.d.sync += carried_entry.eq(job.entry)
            with m.If(closes):          # the job's next output, if there is one, is one of its own
                m.d.sync += [kept_slot.eq(0), kept_wrapped.eq(0), own_clr.eq(job.clr)]

        # The beat reads its slice, and is in the array in the next cycle. Of an elementwise one the slice comes back.
        back, changed = C(0, 1 + len(x_buffer.copy.slice)), C(0, 1)
        copied_slice = self.weight.payload[:len(self.weight.payload) // self.segments]
        m.d.comb += array.x.eq(x_buffer.o)
        if self.elementwise:
            back, busy = _places(m, Cat(self.macs & lanewise, element[:len(x_buffer.copy.slice)]), 1 + array.latency_elementwise)
            changed, rows = Value.cast(array.elements), self._array["rows"]
            m.d.comb += [returning.eq(busy), *(Value.cast(array.addend[row]).eq(Value.cast(x_buffer.o[row]))
                                               for row in range(rows))]
            with m.If(array.beat.elementwise & array.beat.sums):    # a weight times one, and the slice is added
                one = _one(self._array["xs"][0].element)
                m.d.comb += Value.cast(array.x).eq(one.replicate(rows * self.lanes))
        m.d.comb += [
            x_buffer.bcast.eq(job.bcast), x_buffer.lane.eq(element[:width_log2]),
            x_buffer.slice.eq(Mux(job.bcast, element[width_log2:], element)),
            x_buffer.copy.valid.eq((go & inside & job.copy & ~job.elementwise) | back[0]),
            x_buffer.copy.slice.eq(Mux(back[0], back[1:], element)), self.x_ready.eq(~back[0]),
            Value.cast(x_buffer.copy.data).eq(Mux(back[0], changed, copied_slice.replicate(self._array["rows"]))),
            x_buffer.peek.eq(self.peek), self.peeked.eq(x_buffer.peeked),
            *(getattr(x_buffer.write, name).eq(getattr(self.x, name)) for name in ("valid", "slice", "row", "data")),
        ]
        m.d.sync += [
            array.valid.eq(self.macs), array.weight.eq(self.weight.payload), array.select.eq(job.select),
            array.beat.bcast.eq(job.bcast | lanewise), array.beat.elementwise.eq(lanewise), array.beat.sums.eq(job.sums),
            array.beat.slot.eq(slot), array.beat.group.eq(offset), array.beat.fresh.eq(~wrapped),
            array.beat.close.eq(closes), array.beat.filled.eq(Mux(wrapped, self.slots - 1, slot)), array.beat.entry.eq(entry),
            array.beat.add.eq(~clr),
        ]

        if self.has_sides:
            sides = self._side_memory(m, Mux(job.bcast, element >> shift, entry))
            m.d.comb += [getattr(array, name)[segment].eq(getattr(sides[segment], name)) for name in ("zero_point", "special")
                         for segment in range(self.segments)]

        # Results.
        m.d.comb += [
            output.tree.valid.eq(array.tree_valid), output.tree.entry.eq(array.tree_entry), output.tree.add.eq(array.tree_add),
            output.tree.data.eq(array.tree),
            merger.start.eq(go & closes & job.bcast), merger.entry.eq(job.entry), merger.last_group.eq(offset),
            merger.filled.eq(Mux(wrapped, self.slots - 1, slot)), merger.add.eq(~clr), merger.empty.eq(array.empty),
            *(getattr(array, name).eq(getattr(merger, name)) for name in (
                "step", "step_a", "step_b", "step_to", "step_a_on", "step_b_on", "step_outside", "step_across", "read")),
            array.outside.eq(output.o),
            output.entry.eq(Mux(merger.reads, merger.at, self.entry)), self.o.eq(output.o),
            self.readable.eq(~merger.reads),
            output.write.valid.eq(merger.writes | self.write.valid), self.ready.eq(output.ready & ~merger.writes),
            output.write.entry.eq(Mux(merger.writes, merger.at, self.write.entry)),
            output.write.lanes.eq(Mux(merger.writes, ~Const(0, self.width), self.write.lanes)),
            output.write.data.eq(Mux(merger.writes, array.bcast.as_value()[:len(self.write.data.as_value())],
                                     self.write.data.as_value())),
        ]
        m.d.sync += self.nan_error.eq(self.nan_error | array.invalid)
        # A job of TREE is done when its last output is written, one of BCAST when its last beat is, or all is merged.
        complete = _later(m, go & job_ends & ~job.bcast & ~job.copy, "complete", self.latency_tree)
        ended = _later(m, go & job_ends & job.bcast & ~job.last & ~job.copy, "ended", self._reach)
        copied = _later(m, go & job_ends & job.copy & ~job.elementwise, "copied", 1)
        returned = _later(m, go & job_ends & lanewise, "returned", 2 + array.latency_elementwise)
        merged = _later(m, merger.done, "merged", 1)
        m.d.comb += [
            self.done.eq(complete[-1] | ended[-1] | merged[-1]), self.copied.eq(copied[-1] | returned[-1]),
            self.idle.eq(~jobs.o.valid & quiet),
            quiet.eq(array.empty & ~output.busy & ~merger.busy & ~Cat(line[:-1] for line in (complete, ended, returned)).any()),
        ]
        return m

    def _side_memory(self, m: Module, number: Value) -> Any:
        """Build the side table; return the segments' bytes of an entry, or of as many elements of X, a cycle later."""
        size = ceil_log2(self._side_word // self.segments)
        m.submodules.sides = words = memory.Memory(shape=8 * self._side_word, depth=self._side_words, init=[],
                                                   attrs={"ram_style": "block"})
        write, read = words.write_port(granularity=8), words.read_port()
        at, found = Signal(size), Signal(data.ArrayLayout(_SIDE, self.segments))
        m.d.sync += at.eq(number[:size])
        m.d.comb += [
            write.addr.eq(self.side.word), write.data.eq(self.side.data), write.en.eq(Mux(self.side.valid, self.side.mask, 0)),
            read.en.eq(1), read.addr.eq(number[size:]), Value.cast(found).eq(read.data.word_select(at, len(Value.cast(found)))),
        ]
        return found


def _later(m: Module, pulse: Value, name: str, cycles: int) -> Signal:
    """Return `pulse` one cycle later up to `cycles` later, the latest on top; a reset takes back what is on its way."""
    line = Signal(cycles, name=name)
    m.d.sync += line.eq(Cat(pulse, line))
    return line


def _places(m: Module, place: Value, cycles: int) -> tuple[Value, Value]:
    """Return a flag and its place some cycles later, and whether a flag is on its way."""
    stages = [place]
    for stage in range(cycles):
        later = Signal(len(place), name=f"place_{stage}")
        m.d.sync += later.eq(stages[-1])
        stages.append(later)
    return stages[-1], Cat(stage[0] for stage in stages[1:]).any()


def _one(element: FloatFormat) -> Value:
    """Return the code of one."""
    return C(element.bias << element.mantissa_bits, element.bits)
