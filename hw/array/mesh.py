"""The systolic mesh: R rows of C processing elements, skewed at the edges, so that a slot goes in and comes out in one piece."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.row import MeshRow
from hw.array.skew import Deskew, Skew
from hw.config import ceil_log2
from hw.pe import PESpec
from hw.pe.base import pe_control_layout
from hw.share import shared

__all__ = ["Mesh", "mesh_control_layout"]


def mesh_control_layout(rows: int, dataflows: tuple[str, ...]) -> data.StructLayout:
    """Return the control word of a slot: that of a PE, and with "ws" `load_row`, the one row that obeys `load`."""
    fields = dict(pe_control_layout(dataflows).members)
    if "ws" in dataflows:
        fields["load_row"] = max(1, ceil_log2(rows))
    return data.StructLayout(fields)


class Mesh(wiring.Component):
    """R×C processing elements; one slot a cycle, bubbles anywhere.

    A slot presented in cycle s is met by PE(r, c) in cycle s + r + c; what it puts out at the foot is gathered and leaves
    as one row in cycle s + `latency`. In slot time, weight-stationary: slot with `load` puts `weight` into row `load_row`, any
    later slot uses it. Output-stationary: slots with `shift` put out the drain chain, row R − 1 first.

    Parameters
    ----------
    spec : PESpec
        The PE.
    rows, columns : int
        R and C.
    members : dict of str to wiring.Member
        Members that a mesh which checks itself has.

    Members
    -------
    activation : In(R × signed), weight : In(C × signed), control : In(mesh_control_layout)
        The slot.
    psum : Out(C × signed)
        The row of psums of the slot `latency` cycles ago.
    """

    def __init__(self, *, spec: PESpec, rows: int, columns: int, members: dict[str, wiring.Member] | None = None):
        self.spec = spec
        self.rows = rows
        self.columns = columns
        self.latency = rows + columns - 1
        super().__init__({
            "activation": In(data.ArrayLayout(signed(spec.activation_width), rows)),
            "weight": In(data.ArrayLayout(signed(spec.weight_width), columns)),
            "control": In(mesh_control_layout(rows, spec.dataflows)),
            "psum": Out(data.ArrayLayout(signed(spec.psum_width), columns)),
            **(members or {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.skew_activation = skew_activation = Skew(signed(self.spec.activation_width), self.rows)
        m.submodules.skew_weight = skew_weight = Skew(signed(self.spec.weight_width), self.columns)
        m.submodules.deskew_psum = deskew_psum = Deskew(signed(self.spec.psum_width), self.columns)
        m.d.comb += [
            skew_activation.i.eq(self.activation),
            skew_weight.i.eq(self.weight),
            self.psum.eq(deskew_psum.o),
        ]
        self._before_rows(m)
        weights = skew_weight.o.as_value()
        psums: Value = Const(0, self.columns * self.spec.psum_width)
        control = self.control
        for r in range(self.rows):
            row = self._row()
            m.submodules[f"row_{r}"] = shared(platform, row.module_name, row)
            m.d.comb += [
                row.activation.eq(skew_activation.o[r]),
                row.weight.eq(weights),
                row.psum.eq(psums),
                self._row_control(row, r, control),
            ]
            self._beside_row(m, r, row, control)
            weights, psums = row.weight_out, row.psum_out
            if r + 1 < self.rows:
                below = Signal.like(self.control, name=f"control_{r + 1}", reset_less=True)
                m.d.sync += below.eq(control)
                control = below
        m.d.comb += deskew_psum.i.eq(psums)
        self._after_rows(m)
        return m

    def _row(self) -> MeshRow:
        """Return a new row; a mesh that has more beside its PEs overrides this and the next three."""
        return MeshRow(spec=self.spec, columns=self.columns)

    def _before_rows(self, m: Module) -> None:
        """Make what enters at the edges beside the operands."""

    def _beside_row(self, m: Module, r: int, row: MeshRow, control: data.View) -> None:
        """Connect what row r has more than a plain one; `control` is its control word."""

    def _after_rows(self, m: Module) -> None:
        """Make what stands at the foot beside the psums."""

    def _row_control(self, row: MeshRow, r: int, control: data.View) -> list:
        """Return the assignments that make row r's control word; only here is `load_row` compared, once for each row."""
        names = pe_control_layout(self.spec.dataflows).members.keys() - {"load"}
        copied = [row.control[name].eq(control[name]) for name in sorted(names)]
        if "ws" in self.spec.dataflows:
            copied.append(row.control.load.eq(control.load & (control.load_row == r)))
        return copied
