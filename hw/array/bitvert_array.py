"""An array of BitVert PEs: bit columns of weights and rows of activations in, rows of sums out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.bitvert_channel import WeightChannel
from hw.array.bitvert_drain import bitvert_array_members, put_out_rows
from hw.pe.bitvert.pe import BitvertPE, multiples_layout, pe_control_layout
from hw.pe.bitvert.sums import ActivationSums, sums_layout
from hw.share import shared

__all__ = ["BitvertArray"]


class BitvertArray(wiring.Component):
    """R×C BitVert PEs, output-stationary: Σ over columns, one column of 16 weights of each channel a cycle.

    Schedulers stand once for each channel, ΣA once for each row. A result is put out while the next one is computed, one row a
    cycle; its last column must not come sooner than `rows` cycles after the last one's. The first row comes `latency` cycles
    after its last column.

    Parameters
    ----------
    rows, columns : int
        R and C, 1 to 256.
    psum_width : int
    tag_width : int
        Bits that come out again with the rows of a result, whatever they mean.

    Members
    -------
    valid : In(1), step : In(`bitvert_step_layout`)
        A column comes.
    bits : In(C × 16), meta : In(C × `metadata_layout`)
        One bit of each of 16 weights of each channel.
    activations : In(R × 16 × signed(8))
        With the first column of weights; they are kept for the others.
    o_valid : Out(1), o_row : Out(range(R)), o_last : Out(1), o_tag : Out, o : Out(C × signed(psum_width))
        A row of a result; the last one of it.
    busy : Out(1)
        A column or a row is inside.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If there is no row or no column, or more than 256.

    Reference
    ---------
    Chen et al., BBS, MICRO 2024, V. Inferred: stages, and when rows are put out.
    """

    latency = 1 + BitvertPE.latency + 2

    def __init__(self, *, rows: int, columns: int, psum_width: int, tag_width: int = 0):
        self.rows, self.columns, self.psum_width, self._tag_width = rows, columns, psum_width, tag_width
        super().__init__(bitvert_array_members(rows, columns, psum_width, tag_width))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control, added = self._control(m)
        rows = self._rows(m, platform)
        channels = []
        for c in range(self.columns):
            channel = WeightChannel()
            m.submodules[f"channel_{c}"] = shared(platform, "bitvert_channel", channel)
            m.d.comb += [
                channel.control.valid.eq(self.valid), channel.control.first.eq(self.step.first),
                channel.control.second.eq(self.step.second), channel.control.subtract.eq(self.step.subtract),
                channel.bits.eq(self.bits[c]), channel.meta.eq(self.meta[c]),
            ]
            pes = []
            for r, (activations, sums, total) in enumerate(rows):
                pe = BitvertPE(psum_width=self.psum_width)
                m.submodules[f"pe_{r}_{c}"] = shared(platform, pe.module_name, pe)
                m.d.comb += [pe.control.eq(control), pe.column.eq(channel.o), pe.activations.eq(activations), pe.sums.eq(sums),
                             pe.total.eq(total)]
                pes.append(pe)
            channels.append(pes)
        taken = Signal(self.step.shape(), reset_less=True)
        with m.If(control.add & added.last):
            m.d.sync += taken.eq(added)
        draining = put_out_rows(m, self, control.take, taken, [[pe.result for pe in pes] for pes in channels])
        m.d.comb += self.busy.eq(control.valid | control.add | control.take | draining)
        return m

    def _control(self, m: Module) -> tuple[data.View, data.View]:
        """Delay what is said of a column to the stages that need it; return the PEs' part, and the column that is added."""
        control = Signal(pe_control_layout)
        scheduled = Signal(self.step.shape(), reset_less=True)      # beside the schedules
        added = Signal(self.step.shape(), reset_less=True)          # beside the shifted sums
        m.d.sync += [control.valid.eq(self.valid), scheduled.eq(self.step), control.add.eq(control.valid), added.eq(scheduled),
                     control.take.eq(control.add & added.last)]
        m.d.comb += [control.negate.eq(added.first), control.fresh.eq(added.fresh), control.high.eq(added.first)]
        return control, added

    def _rows(self, m: Module, platform: Any) -> list[tuple[Value, Value, Value]]:
        """Return each row's activations and sums, kept while their columns go by, and multiples of ΣA one cycle later."""
        found = []
        for r in range(self.rows):
            generator = ActivationSums()
            m.submodules[f"sums_{r}"] = shared(platform, "bitvert_sums", generator)
            held = Signal(self.activations[r].shape(), name=f"activations_{r}", reset_less=True)
            sums = Signal(sums_layout, name=f"sums_{r}", reset_less=True)
            total = Signal(multiples_layout, name=f"total_{r}", reset_less=True)
            once = sums[0] + sums[1]
            m.d.comb += generator.activations.eq(self.activations[r])
            with m.If(self.valid & self.step.first):
                m.d.sync += [held.eq(self.activations[r]), sums.eq(generator.o)]
            m.d.sync += [total.once.eq(once), total.thrice.eq(3 * once)]
            found.append((held, sums, total))
        return found
