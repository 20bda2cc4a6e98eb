"""An array of Stripes PEs, in the place of a BitVert array: every column of 16 weights in two parts of eight."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.bitvert_drain import bitvert_array_members, bitvert_step_layout, put_out_rows
from hw.pe.bitvert.scheduler import SUBGROUP
from hw.pe.bitvert.sums import LANES
from hw.pe.stripes import StripesPE, stripes_control_layout
from hw.share import shared

__all__ = ["StripesArray"]


class StripesArray(wiring.Component):
    """R×C Stripes PEs of eight lanes, output-stationary: 16 weights of each channel take 16 cycles, whatever their bits.

    The ports are those of `BitvertArray`; a column comes every other cycle at most, and metadata mean nothing. The first row of a
    result comes `latency` cycles after its last column.

    Parameters
    ----------
    rows, columns, psum_width, tag_width : int
        As of `BitvertArray`.
    """

    latency = 1 + StripesPE.latency + 3

    def __init__(self, *, rows: int, columns: int, psum_width: int, tag_width: int = 0):
        self.rows, self.columns, self.psum_width, self._tag_width = rows, columns, psum_width, tag_width
        super().__init__(bitvert_array_members(rows, columns, psum_width, tag_width))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control = Signal(stripes_control_layout)
        steps = [self.step]
        for name in ("first_part", "second_part", "added"):
            held = Signal(bitvert_step_layout(self._tag_width), name=name, reset_less=True)
            m.d.sync += held.eq(steps[-1])
            steps.append(held)
        arrived, again, complete = Signal(), Signal(), Signal()
        fresh = Signal()
        _, first_part, second_part, added = steps
        m.d.sync += [arrived.eq(self.valid), again.eq(arrived), complete.eq(again), control.take.eq(complete & added.last)]
        with m.If(again & second_part.first):
            m.d.sync += fresh.eq(second_part.fresh)
        m.d.comb += [
            control.valid.eq(arrived | again), control.sign.eq(Mux(arrived, first_part.first, second_part.first)),
            control.first.eq(arrived & first_part.first), control.double.eq(arrived),
            control.add.eq(complete & added.ends), control.fresh.eq(fresh),
        ]
        bits = Signal(data.ArrayLayout(LANES, self.columns), reset_less=True)
        with m.If(self.valid):
            m.d.sync += bits.eq(self.bits)
        columns: list[list[StripesPE]] = [[] for _ in range(self.columns)]
        for r in range(self.rows):
            held = Signal(self.activations[r].shape(), name=f"activations_{r}", reset_less=True)
            part = Signal(data.ArrayLayout(signed(8), SUBGROUP), name=f"part_{r}")
            with m.If(self.valid & self.step.first):
                m.d.sync += held.eq(self.activations[r])
            for lane in range(SUBGROUP):
                m.d.comb += part[lane].eq(Mux(arrived, held[lane], held[SUBGROUP + lane]))
            for c in range(self.columns):
                pe = StripesPE(lanes=SUBGROUP, psum_width=self.psum_width, parts=LANES // SUBGROUP)
                m.submodules[f"pe_{r}_{c}"] = shared(platform, pe.module_name, pe)
                m.d.comb += [pe.control.eq(control), pe.activations.eq(part),
                             pe.column.eq(Mux(arrived, bits[c][:SUBGROUP], bits[c][SUBGROUP:]))]
                columns[c].append(pe)
        taken = Signal(self.step.shape(), reset_less=True)
        with m.If(complete & added.last):
            m.d.sync += taken.eq(added)
        draining = put_out_rows(m, self, control.take, taken, [[pe.result for pe in pes] for pes in columns])
        m.d.comb += self.busy.eq(arrived | again | complete | control.take | draining)
        return m
