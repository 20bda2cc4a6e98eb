"""Reads packed weights ahead, from the scratchpad or from the load unit's stream: words for the array, scales for its foot."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.cursor import SlotCursor
from hw.array.hybrid_tile import weight_job_layout
from hw.array.tile import advance
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.hybrid import ELEMENT_BITS, EMPTY_BLOCK, FLUSHED, WORD_BEATS, scale_beats
from hw.isa import ErrorCause
from hw.memory.fifo import StreamFIFO
from hw.ports import ErrorReport, ScratchpadReadPort

__all__ = ["WeightReader"]

_JOBS = 2                   # jobs that wait
_BLOCKS_IN_ARRAY = 4        # blocks whose psums are in the mesh, with one that is preloaded


class WeightReader(wiring.Component):
    """Walks a command's records, a beat a cycle: beats of scales go to one queue, beats of elements to another, cut into words.

    From a job to its first words 4 cycles and a cycle for each beat of scales, reads never refused. Both queues are read ahead,
    so that the array, which takes N/S slots for a tile on the clusters and at least N on the mesh, waits for beats of scales only
    if a slot on the clusters takes a whole beat.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    job : In(stream of weight_job_layout)
    read : Out(ScratchpadReadPort), beats : In(stream of 8·beat_bytes)
        Where weights come from.
    words : Out(S × N × ELEMENT_BITS), valid : Out(1), take : In(1), one : In(1)
        With `one` the next word, as the last of the words, else the next S; `take` uses them up, while `valid`.
    scales : Out(N × 8), scales_done : In(1)
        Of the oldest block that is not done.
    fault : Out(1), report : Out(ErrorReport)
        Level: words that somebody waits for lie outside the scratchpad.
    blocks_rounded, blocks_flushed : Out(0 to columns)
        Of a record whose scales came in the cycle before, read for the first time: blocks that lose bits when they are shifted,
        or all of them. Those without weights (`EMPTY_BLOCK`) are not counted.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.word_layout = data.ArrayLayout(data.ArrayLayout(ELEMENT_BITS, config.rows), config.hybrid_clusters)
        super().__init__({
            "job": In(stream.Signature(weight_job_layout(config))),
            "read": Out(ScratchpadReadPort(config)),
            "beats": In(stream.Signature(8 * config.beat_bytes)),
            "words": Out(self.word_layout),
            "valid": Out(1),
            "take": In(1),
            "one": In(1),
            "scales": Out(data.ArrayLayout(8, config.columns)),
            "scales_done": In(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
            "blocks_rounded": Out(range(config.columns + 1)),
            "blocks_flushed": Out(range(config.columns + 1)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        beat_bits = 8 * config.beat_bytes
        blocks = _BLOCKS_IN_ARRAY + config.hybrid_clusters + WORD_BEATS // 2
        protection = config.protection_of("fifos")
        m.submodules.jobs = jobs = StreamFIFO(shape=weight_job_layout(config), depth=_JOBS, protection=protection)
        m.submodules.element_beats = element_beats = StreamFIFO(shape=beat_bits, depth=WORD_BEATS, protection=protection)
        m.submodules.block_scales = block_scales = StreamFIFO(shape=8 * config.columns, depth=blocks, protection=protection)
        m.d.comb += [
            jobs.i.payload.eq(self.job.payload), jobs.i.valid.eq(self.job.valid), self.job.ready.eq(jobs.i.ready),
            self.scales.eq(block_scales.o.payload), block_scales.o.ready.eq(self.scales_done),
        ]

        arriving, of_scales, beat, counted = self._walk(m, jobs, element_beats, block_scales)
        m.d.comb += [element_beats.i.payload.eq(beat), element_beats.i.valid.eq(arriving & ~of_scales)]
        self._gather_scales(m, beat, arriving & of_scales, block_scales)
        self._count(m, block_scales, counted)
        self._cut(m, element_beats)
        return m

    def _count(self, m: Module, block_scales: StreamFIFO, counted: Value) -> None:
        """Count blocks that are shifted too far, as their scales come; a register before the sums, which nothing waits for."""
        scales = [block_scales.i.payload[at:at + 8] for at in range(0, 8 * self.config.columns, 8)]
        far = [scale[ceil_log2(FLUSHED):].any() for scale in scales]
        kinds = {
            "blocks_rounded": Cat(~beyond & (scale[:ceil_log2(FLUSHED)] > self.config.guard_bits)
                                  for scale, beyond in zip(scales, far, strict=True)),
            "blocks_flushed": Cat(beyond & (scale != EMPTY_BLOCK) for scale, beyond in zip(scales, far, strict=True)),
        }
        for name, flags in kinds.items():
            held = Signal(len(flags), name=f"{name}_flags")
            m.d.sync += held.eq(Mux(block_scales.i.valid & counted, flags, 0))
            m.d.comb += getattr(self, name).eq(sum(held[1:], held[0]))

    def _walk(self, m: Module, jobs: StreamFIFO, element_beats: StreamFIFO,
              block_scales: StreamFIFO) -> tuple[Value, Value, Value, Value]:
        """Ask for one beat after the other.

        Returns whether one is there, whether it is of scales, the beat, and whether its record's shifts are to be counted.
        """
        config = self.config
        m.submodules.cursor = cursor = SlotCursor(config, slot_bytes=config.beat_bytes)
        given, job = jobs.o.payload, Signal(weight_job_layout(config), reset_less=True)
        active = Signal()
        groups_left, blocks_left = Signal.like(job.groups), Signal.like(job.blocks)
        repeats_left, beats_left = Signal.like(job.repeats), Signal.like(job.beats)
        record, group = (Signal.like(cursor.addr, name=name) for name in ("record", "group"))
        head = scale_beats(config)
        head_left = Signal(range(head + 1))                 # beats of scales to come in this record
        arriving, of_scales, streamed = Signal(), Signal(), Signal()
        room, asked, ends, free = Signal(), Signal(), Signal(), Signal()
        next_addr = Signal.like(cursor.addr)

        m.d.comb += [
            room.eq((element_beats.level + arriving < WORD_BEATS) & (block_scales.level + arriving < block_scales.depth)),
            self.read.addr.eq(cursor.line),
            self.read.valid.eq(active & ~job.stream & room & ~cursor.beyond),
            self.beats.ready.eq(active & job.stream & room),
            asked.eq((self.read.valid & self.read.ready) | (self.beats.valid & self.beats.ready)),
            ends.eq(asked & (head_left == 0) & (beats_left == 1)),
            self.fault.eq(active & ~job.stream & cursor.beyond & ~arriving),
            self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
            self.report.addr.eq(cursor.addr),
            cursor.stride.eq(config.beat_bytes),
            cursor.step.eq(asked),
            cursor.base.eq(next_addr),
            jobs.o.ready.eq(free),
        ]
        with m.If(asked):
            with m.If(head_left != 0):
                m.d.sync += head_left.eq(head_left - 1)
            with m.Else():
                m.d.sync += beats_left.eq(beats_left - 1)
        with m.If(ends):
            m.d.sync += [beats_left.eq(job.beats), head_left.eq(head), repeats_left.eq(repeats_left - 1)]
            with m.If(repeats_left != 0):
                m.d.comb += [next_addr.eq(record), cursor.restart.eq(1)]
            with m.Else():
                m.d.sync += [repeats_left.eq(job.repeats), blocks_left.eq(blocks_left - 1)]
                m.d.comb += next_addr.eq(advance(cursor.addr, Const(config.beat_bytes)))
                with m.If(blocks_left == 1):
                    m.d.comb += [next_addr.eq(advance(group, job.tile_stride)), cursor.restart.eq(1)]
                    m.d.sync += [blocks_left.eq(job.blocks), groups_left.eq(groups_left - 1), group.eq(next_addr)]
                m.d.sync += record.eq(next_addr)
        m.d.comb += free.eq(~active | (ends & (repeats_left == 0) & (blocks_left == 1) & (groups_left == 1)))
        with m.If(free):
            m.d.comb += [next_addr.value.eq(given.addr), next_addr.overflow.eq(0), cursor.restart.eq(1)]
            m.d.sync += [job.eq(given), active.eq(jobs.o.valid), groups_left.eq(given.groups), blocks_left.eq(given.blocks),
                         repeats_left.eq(given.repeats), beats_left.eq(given.beats), head_left.eq(head), record.eq(next_addr),
                         group.eq(next_addr)]

        offset = Signal.like(cursor.offset)
        held = Signal(8 * config.beat_bytes, reset_less=True)
        m.d.sync += [arriving.eq(asked), of_scales.eq(head_left != 0), streamed.eq(job.stream), offset.eq(cursor.offset),
                     held.eq(self.beats.payload)]
        bits = 8 * config.beat_bytes
        beats = Array(self.read.data[at:at + bits] for at in range(0, len(self.read.data), bits))
        return arriving, of_scales, Mux(streamed, held, beats[offset]), job.shifts & (repeats_left == job.repeats)

    def _gather_scales(self, m: Module, beat: Value, valid: Value, block_scales: StreamFIFO) -> None:
        """Put the beats of a block's scales together."""
        head, bits = scale_beats(self.config), 8 * self.config.columns
        if head == 1:
            m.d.comb += [block_scales.i.payload.eq(beat[:bits]), block_scales.i.valid.eq(valid)]
            return
        earlier = Signal(bits - len(beat), reset_less=True)
        count = Signal(range(head))
        m.d.comb += [block_scales.i.payload.eq(Cat(earlier, beat)), block_scales.i.valid.eq(valid & (count == head - 1))]
        with m.If(valid):
            m.d.sync += [earlier.eq(Cat(earlier, beat)[len(beat):]), count.eq(Mux(count == head - 1, 0, count + 1))]

    def _cut(self, m: Module, element_beats: StreamFIFO) -> None:
        """Cut the oldest beat into words."""
        config = self.config
        word_bits = config.rows * ELEMENT_BITS
        clusters, count = config.hybrid_clusters, 8 * config.beat_bytes // word_bits
        beat = element_beats.o.payload
        words = [beat[at:at + word_bits] for at in range(0, len(beat), word_bits)]
        m.d.comb += self.valid.eq(element_beats.o.valid)
        if count == 1:
            m.d.comb += [self.words.eq(beat), element_beats.o.ready.eq(self.take)]
            return
        index = Signal(ceil_log2(count))
        for lane in range(clusters):
            own = Array(words[first + lane] for first in range(0, count, clusters))[index >> ceil_log2(clusters)]
            if lane == clusters - 1:
                own = Mux(self.one, Array(words)[index], own)
            m.d.comb += self.words[lane].eq(own)
        step = Mux(self.one, 1, clusters)
        after = Signal(ceil_log2(count) + 1)
        m.d.comb += [after.eq(index + step), element_beats.o.ready.eq(self.take & after[-1])]
        with m.If(self.take & self.valid):
            m.d.sync += index.eq(after)
