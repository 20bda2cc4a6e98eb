"""A mesh whose every PE has the residue of its psum computed beside it."""

from typing import Any

from amaranth import *

from hw.array.guarded_mesh import GuardedMesh
from hw.array.residue_row import ResidueRow
from hw.array.skew import Deskew, Skew
from hw.errors import ConfigError
from hw.pe import PESpec
from hw.protect.residue import differ, parity_of, residue

__all__ = ["ResidueMesh"]


class ResidueMesh(GuardedMesh):
    """A mesh in which operands and psums have residues modulo 2^bits − 1 beside them, compared at the foot of each column.

    Residues are made at the edges and then go their own ways, so that a wrong bit of an operand or of a psum makes the two
    differ: no power of two is zero modulo 3 or 15. A wrong bit of a psum is always found, and one of an activation at the right
    end of its row; a weight's is found at the last row while it is on its way. At rest it is found by the products, ±a·2^i, so
    in each slot in which the activation is no multiple of the modulus: with modulus 3 a third of them hide it for a slot, with
    15 a fifteenth.

    Parameters and members are those of `GuardedMesh`.

    Parameters
    ----------
    bits : int
        b of the modulus 2^b − 1, at least 2: 2 for modulus 3, 4 for 15.

    Raises
    ------
    ConfigError
        If there are fewer than 2 bits.
    """

    check_latency = 1

    def __init__(self, *, spec: PESpec, rows: int, columns: int, bits: int):
        if bits < 2:
            raise ConfigError(f"ResidueMesh.bits must be at least 2, not {bits!r}")
        self.bits = bits
        super().__init__(spec=spec, rows=rows, columns=columns)

    def _row(self) -> ResidueRow:
        return ResidueRow(spec=self.spec, columns=self.columns, bits=self.bits)

    def _begin(self, m: Module) -> None:
        for name, lanes in (("activation", self.rows), ("weight", self.columns)):
            skew = Skew(unsigned(self.bits), lanes)
            m.submodules[f"skew_{name}_residue"] = skew
            m.d.comb += [skew.i[lane].eq(residue(m, getattr(self, name)[lane], self.bits)) for lane in range(lanes)]
            setattr(self, f"_{name}s", skew.o)
        self._weight_residues = self._weights.as_value()
        self._psum_residues: Value = C(0, self.columns * self.bits)

    def _connect(self, m: Module, r: int, row: Any) -> None:
        m.d.comb += [
            row.parity.eq(parity_of(row.control.as_value())),
            row.activation_residue.eq(self._activations[r]),
            row.weight_residue.eq(self._weight_residues),
            row.psum_residue.eq(self._psum_residues),
        ]
        if r == self.rows - 1:
            wrong = Signal(self.columns, name="weights_wrong")
            self._operands_wrong = wrong.any()
            for c in range(self.columns):
                weight = row.weight.word_select(c, self.spec.weight_width)
                m.d.comb += wrong[c].eq(
                    differ(m, residue(m, weight, self.bits), row.weight_residue.word_select(c, self.bits)))
        self._weight_residues, self._psum_residues = row.weight_residue_out, row.psum_residue_out

    def _end(self, m: Module) -> Value:
        m.submodules.deskew_residue = deskew = Deskew(unsigned(self.bits), self.columns)
        wrong = Signal(self.columns)
        m.d.comb += deskew.i.eq(self._psum_residues)
        m.d.comb += [wrong[c].eq(differ(m, residue(m, self.psum[c], self.bits), deskew.o[c])) for c in range(self.columns)]
        return self.valid & wrong.any()
