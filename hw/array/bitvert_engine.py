"""The BitVert engine: matrix commands in, rows of integer sums for the accumulator out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import connect, flipped

from hw.array.bitvert_array import BitvertArray
from hw.array.bitvert_channel import metadata_layout
from hw.array.bitvert_planes import BitvertPlanes
from hw.array.bitvert_rows import BitvertRows
from hw.array.bitvert_walker import BitvertWalker, SlotKind, bitvert_tag_layout, read_layout
from hw.array.commands import stop_at, take_commands
from hw.array.stripes_array import StripesArray
from hw.config import AcceleratorConfig
from hw.engines.bitvert import bitvert_pace
from hw.pe.bitvert.sums import LANES
from hw.ports import engine_members

__all__ = ["BitvertEngine"]


class BitvertEngine(wiring.Component):
    """R×C BitVert PEs behind the frame's ports: int8 activations, weights as bit columns of which some are not stored.

        commands ─▶ BitvertRows ──────────────────▶ activations ──┐
                        └▶ BitvertWalker ─▶ slots ─▶ columns ─────┴─▶ BitvertArray ─▶ rows of sums ─▶ accumulator
                                              └▶ BitvertPlanes ─┘ (plain weights)

    Weights of mode i are in `config.weight_formats[i - 1]`; `hw.engines.bitvert` says how they lie, and gives cycles. Sums are
    exact; K longer than `os_depth` is added up in the accumulator, which saturates. Rows beyond M are computed and not written,
    columns beyond N are written as zero, activations beyond K count as zero.

    The engine "stripes" is the same with PEs of eight lanes that know no sparsity, what BitVert is measured against.

    Errors are precise: raised when all earlier commands are done, so the oldest command that is not done is at fault.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : Out(UnitPort(Unit.MATRIX))
    activation, weight : Out(ScratchpadReadPort)
    acc : Out(AccumulatorWritePort)
    active : Out(1)
        A pass is issued in this cycle: its first column, or the last slot of its plain weights.
    macs, macs_gated : Out(range(16·R·C + 1))
        Its multiply-accumulates on valid rows, columns and k, and the others.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(engine_members(config, LANES * config.rows * config.columns))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit = self.config, self.unit
        abort = ResetInserter(unit.abort)
        # The last four choices: results of one are still on their way when the next ones come.
        self._choices = [Signal(3 * config.columns, name=f"choice_{index}", reset_less=True) for index in range(4)]
        tag = bitvert_tag_layout(config)
        rows, walker = BitvertRows(config), BitvertWalker(config)
        planes = BitvertPlanes(columns=config.columns, pace=bitvert_pace(config))
        kind = StripesArray if config.engine == "stripes" else BitvertArray
        array = kind(rows=config.rows, columns=config.columns, psum_width=config.psum_width, tag_width=tag.size)
        for name, block in (("rows", rows), ("walker", walker), ("planes", planes), ("array", array)):
            m.submodules[name] = abort(block)
        connect(m, rows=rows.o, walker=walker.i)
        connect(m, rows=rows.read, scratchpad=flipped(self.activation))
        m.d.comb += [
            walker.ready.eq(rows.ready), walker.chunk.eq(rows.chunk), rows.take.eq(walker.take),
            self.weight.addr.eq(walker.read.addr), self.weight.valid.eq(walker.read.valid),
            walker.read.ready.eq(self.weight.ready), array.activations.eq(rows.activations),
            self.active.eq(walker.take), self.macs.eq(walker.macs), self.macs_gated.eq(walker.macs_gated),
        ]
        inside = self._columns(m, walker, planes, array, rows)

        results = data.View(tag, array.o_tag)
        m.d.comb += [
            self.acc.valid.eq(array.o_valid),
            self.acc.addr.eq(results.addr + array.o_row),
            self.acc.accumulate.eq(results.accumulate),
            *(self.acc.data[c].eq(Mux(c < results.columns, array.o[c], 0)) for c in range(config.columns)),
        ]
        if config.lane_rows:
            self._offsets(m, results)
        m.d.sync += unit.done.eq(array.o_valid & array.o_last & results.last & ~unit.abort)

        closed = take_commands(m, unit, rows.i)
        working = inside | array.busy | unit.done
        m.d.comb += [
            rows.halt.eq(closed), walker.halt.eq(closed), unit.busy.eq(rows.busy | walker.busy | working),
        ]
        # A command that the walker has is older than one that only the rows have.
        waiting = ~rows.o.valid & (~walker.busy | walker.starved)
        fault = walker.fault | (rows.fault & waiting)
        stop_at(m, unit, fault & ~working, Mux(walker.fault, walker.report, rows.report))
        return m

    def _offsets(self, m: Module, results: data.View) -> None:
        """Tell the accumulator where each lane's channel belongs: the first of the groups that share a stream has those chosen.

        Of the others, those before the chosen one are a group further on than they belong.
        """
        places = data.View(data.ArrayLayout(3, self.config.columns), Array(self._choices)[results.choice])
        multiples = Array(results.stride * factor for factor in range(8))
        for place, offset in zip((places[c] for c in range(self.config.columns)), self.acc.offset, strict=True):
            with m.If(results.split & (results.member == 0)):
                m.d.comb += offset.eq(multiples[place])
            with m.Elif(results.split & (place >= results.member)):
                m.d.comb += offset.eq(-results.stride)

    def _columns(self, m: Module, walker: BitvertWalker, planes: BitvertPlanes, array: BitvertArray | StripesArray,
                 rows: BitvertRows) -> Value:
        """From granted slots to columns at the array; return whether anything is on its way."""
        config, abort = self.config, self.unit.abort
        slot_bits = 8 * 2 * config.columns
        arriving, held_valid = Signal(), Signal()
        first, second = (Signal(read_layout(config), name=name, reset_less=True) for name in ("arriving_slot", "column_slot"))
        column = Signal(slot_bits, reset_less=True)
        metadata = Signal(slot_bits, reset_less=True)
        m.d.sync += [arriving.eq(walker.issue & ~abort), first.eq(walker.o)]

        # The slot out of its line: packed ones are two plain ones wide.
        read = self.weight.data
        pair = Signal(slot_bits)
        m.d.comb += pair.eq(Array(read[low:low + slot_bits] for low in range(0, len(read), slot_bits))[first.offset >> 1])
        half = 8 * config.columns
        m.d.comb += [
            planes.valid.eq(arriving & (first.kind == SlotKind.PLAIN)), planes.lane.eq(first.lane), planes.last.eq(first.ends),
            planes.weights.eq(Mux(first.offset[0], pair[half:], pair[:half])),
        ]
        m.d.sync += held_valid.eq(arriving & (first.kind == SlotKind.COLUMN) & ~abort)
        with m.If(arriving & (first.kind == SlotKind.METADATA)):
            m.d.sync += metadata.eq(pair)
            if config.lane_rows:
                with m.If(first.chooses):
                    m.d.sync += Array(self._choices)[first.choice].eq(Cat(pair[8 * c:8 * c + 3] for c in range(config.columns)))
        with m.If(arriving & (first.kind == SlotKind.COLUMN)):
            m.d.sync += [column.eq(pair), second.eq(first)]

        turned = Signal(read_layout(config), reset_less=True)       # whose columns `planes` shows
        ended = Signal(read_layout(config), reset_less=True)
        with m.If(planes.valid & first.ends):
            m.d.sync += ended.eq(first)
        with m.If(planes.starts):
            m.d.sync += turned.eq(ended)

        described = Array(metadata[low:low + half] for low in (0, half))[second.group]
        layout = data.ArrayLayout(metadata_layout, config.columns)
        m.d.comb += [
            array.valid.eq(held_valid | planes.o_valid),
            array.step.eq(second.step), array.bits.eq(column), rows.place.eq(second.place),
            array.meta.eq(Mux(second.described, described, C(0, layout.size))),
        ]
        with m.If(planes.o_valid):
            m.d.comb += [
                array.step.eq(turned.step), array.step.first.eq(planes.first), array.step.second.eq(planes.second),
                array.step.ends.eq(planes.ends),
                array.step.fresh.eq(turned.step.fresh & planes.first), array.step.last.eq(turned.step.last & planes.ends),
                array.bits.eq(planes.bits), rows.place.eq(turned.place), array.meta.eq(0),
            ]
        return arriving | held_valid | planes.busy
