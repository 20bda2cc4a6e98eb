"""The dual-side sparse engine: matrix commands in, rows of sums for the accumulator out."""

from itertools import pairwise
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import connect, flipped

from hw.array.commands import stop_at, take_commands
from hw.array.dstc_picker import DstcPicker, dstc_bank_layout
from hw.array.dstc_rows import DstcRows
from hw.array.dstc_sequencer import DstcSequencer, dstc_tag_layout
from hw.array.dstc_weights import DstcWeights
from hw.array.dual_side import DualSideCore
from hw.config import AcceleratorConfig
from hw.engines.dstc import dstc_lanes, dstc_tokens
from hw.ports import ErrorReport, engine_members

__all__ = ["DstcEngine"]


class DstcEngine(wiring.Component):
    """Outer products of the non-zeros of both operands, behind the frame's ports.

        commands ─▶ DstcSequencer ─▶ chunks ─┬▶ DstcRows ────┬▶ DstcPicker ─▶ DualSideCore ─▶ rows of sums ─▶ accumulator
                                             └▶ DstcWeights ─┘   k by k

    Activations are made sparse as they pass; so are plain weights. Packed ones, mode i the config's i-th weight format, are bit
    masks and values (`hw.engines.dstc.DstcRecord`), whose mask may be any. Sums are exact; K longer than `os_depth` is added up
    in the accumulator, which saturates. Two chunks of a line's length of K are kept: one loads while the other multiplies.

    Operands: row m of activations is K bytes at `activation_addr + m·activation_stride`, at any byte; plain weights are slots of
    C bytes, one for each k; packed ones are one record after the other, and `weight_stride` is not used.

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
        A step was made.
    macs, macs_gated : Out(range(R·C/2 + 1))
        Its products, and multipliers that had none.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        left, right = dstc_lanes(config)
        self.multipliers = left * right
        super().__init__(engine_members(config, self.multipliers))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit = self.config, self.unit
        abort = ResetInserter(unit.abort)
        tag = dstc_tag_layout(config)
        sequencer, picker = DstcSequencer(config), DstcPicker(config)
        rows, weights = DstcRows(config), DstcWeights(config)
        core = DualSideCore(tile=(dstc_tokens(config), config.columns), lanes=dstc_lanes(config), psum_width=config.psum_width,
                            tag_width=tag.size)
        for name, block in (("sequencer", sequencer), ("rows", rows), ("weights", weights), ("picker", picker), ("core", core)):
            m.submodules[name] = abort(block)
        connect(m, rows=rows.read, scratchpad=flipped(self.activation))
        connect(m, weights=weights.read, scratchpad=flipped(self.weight))
        connect(m, picker=picker.o, core=core.i)
        for number in (0, 1):
            m.d.comb += picker.occupied[number].eq(rows.occupied[number] & weights.occupied[number])
        m.d.comb += [
            rows.pick_bank.eq(picker.pick_bank), rows.pick.eq(picker.pick), picker.column.eq(rows.column),
            weights.pick_en.eq(picker.pick_en), weights.pick_bank.eq(picker.pick_bank), weights.pick.eq(picker.pick),
            picker.vector.eq(weights.vector),
        ]
        fault, report, idle, loading = self._load(m, sequencer, rows, weights, picker)

        made, products = Signal(), Signal.like(core.products)
        m.d.sync += [made.eq((core.products != 0) & ~unit.abort), products.eq(core.products)]
        m.d.comb += self.active.eq(made)
        with m.If(made):
            m.d.comb += [self.macs.eq(products), self.macs_gated.eq(self.multipliers - products)]
        result = data.View(tag, core.o_tag)
        m.d.comb += [
            self.acc.valid.eq(core.o_valid), self.acc.addr.eq(result.addr + core.o_row),
            self.acc.accumulate.eq(result.accumulate),
            *(self.acc.data[c].eq(core.o[c]) for c in range(config.columns)),
        ]
        m.d.sync += unit.done.eq(core.o_valid & core.o_last & result.last & ~unit.abort)
        closed = take_commands(m, unit, sequencer.i)
        working = picker.busy | core.busy | unit.done
        m.d.comb += [rows.halt.eq(closed), weights.halt.eq(closed), unit.busy.eq(sequencer.busy | loading | working | made)]
        stop_at(m, unit, fault & idle & ~working, report)
        return m

    def _load(self, m: Module, sequencer: DstcSequencer, rows: DstcRows, weights: DstcWeights,
              picker: DstcPicker) -> tuple[Value, Value, Value, Value]:
        """Give chunks to both loaders, each with a bank that is free; return a fault, its report, whether no older chunk is
        left, and whether any is."""
        abort = self.unit.abort
        claimed, ready = Signal(2), Signal(2)
        loaded, bank, following = Signal(), Signal(), Signal()
        finished = loaded & rows.done & weights.done
        chunk = sequencer.o.p
        accept = Signal()
        about = Signal(data.ArrayLayout(dstc_bank_layout(self.config), 2))
        m.d.comb += [
            sequencer.o.ready.eq((~loaded | finished) & ~claimed.bit_select(following, 1)),
            accept.eq(sequencer.o.valid & sequencer.o.ready), picker.ready.eq(ready), picker.banks.eq(about),
        ]
        for block in (rows, weights):
            m.d.comb += [block.start.eq(accept), block.chunk.eq(chunk), block.bank.eq(following)]
        arriving = [Signal(data.StructLayout({"valid": 1, "bank": 1}), name=f"arriving_{stage}") for stage in range(3)]
        m.d.sync += [arriving[0].valid.eq(finished), arriving[0].bank.eq(bank),
                     *(later.eq(earlier) for earlier, later in pairwise(arriving)),
                     ready.eq(ready & ~picker.take | (arriving[-1].valid << arriving[-1].bank)),
                     claimed.eq(claimed & ~picker.release | (accept << following))]
        with m.If(accept):
            m.d.sync += [loaded.eq(1), bank.eq(following), following.eq(~following), about[following].ends.eq(chunk.ends),
                         about[following].rows.eq(chunk.tokens), about[following].tag.addr.eq(chunk.acc_addr.value),
                         about[following].tag.accumulate.eq(chunk.accumulate), about[following].tag.last.eq(chunk.last)]
        with m.Elif(finished):
            m.d.sync += loaded.eq(0)
        with m.If(abort):
            m.d.sync += [loaded.eq(0), following.eq(0), ready.eq(0), claimed.eq(0), *(stage.valid.eq(0) for stage in arriving)]

        fault, report, idle = Signal(), Signal(ErrorReport), Signal()
        both = (rows.fault | rows.done) & (weights.fault | weights.done)
        with m.If(loaded):
            m.d.comb += [fault.eq((rows.fault | weights.fault) & both), report.eq(weights.report),
                         idle.eq(claimed == (1 << bank))]
            with m.If(rows.fault):
                m.d.comb += report.eq(rows.report)
        with m.Else():
            m.d.comb += [fault.eq(sequencer.fault), report.eq(sequencer.report), idle.eq(claimed == 0)]
        return fault, report, idle, claimed.any()
