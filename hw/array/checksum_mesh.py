"""A mesh with a column of checksums: algorithm-based fault tolerance."""

from typing import Any

from amaranth import *

from hw.arith.pipeline import registered
from hw.array.checksum_row import CHECKSUM_BITS, ChecksumRow
from hw.array.guarded_mesh import GuardedMesh
from hw.array.skew import Skew
from hw.pe import PESpec
from hw.protect.residue import PARITY_BITS, differ, parity_of
from hw.protect.residue_total import ResidueTotal, total_latency

__all__ = ["ChecksumMesh"]


class ChecksumMesh(GuardedMesh):
    """A mesh with one column more, modulo 255, whose psum must be the sum of all others.

    With s[k] = Σ_n w[k,n] mod 255, made where the weights come in, Σ_k a[k]·s[k] ≡ Σ_n Σ_k a[k]·w[k,n], so what the last column
    sums up in the time of the others (either dataflow, drain included) is compared with Σ_n psum[n] for every row of results
    (K.-H. Huang, J. A. Abraham, Algorithm-based fault tolerance for matrix operations, IEEE Trans. Comput. C-33(6), 1984; there
    in full width and for both operands, here modulo 255 and for one, with parity for the other).

    What it finds. Modulo 255 = 2^8 − 1 no power of two is zero. So one wrong bit

    * of a psum, an accumulator or a drain register, ±2^i, is always found; a psum uses at most half of its range, so that
      2^i does not make it wrap, except for the highest two bits, where ±2^i ∓ 2^p with i = p − 1, p − 2 is not zero either;
    * of a weight, on its way or at rest, makes ±a·2^i in each product: zero modulo 255 = 3·5·17 only if a is, and |a| ≤ 128, so
      only if a = 0, which hides the wrong bit anyway;
    * of an activation or of control would do the same in every column that it still comes to, and could so agree with the
      checksum that it comes to as well: its parity, which goes with it, is checked where it meets the checksum.

    A wrong bit in what checks is at worst an alarm. Up to three neighbours that flip at once are found as well: there is one
    parity for even places and one for odd ones, and of a number they make ±2^i times 1, 3, 5 or 7, which for a psum is never
    zero, and for a weight, times an activation, only if that is 0, ±85 or ±51.

    Parameters and members are those of `GuardedMesh`.
    """

    def __init__(self, *, spec: PESpec, rows: int, columns: int):
        super().__init__(spec=spec, rows=rows, columns=columns)
        self.check_latency = total_latency(columns, spec.psum_width, CHECKSUM_BITS) + 1

    def _row(self) -> ChecksumRow:
        return ChecksumRow(spec=self.spec, columns=self.columns)

    def _begin(self, m: Module) -> None:
        weights = ResidueTotal(words=self.columns, width=self.spec.weight_width, bits=CHECKSUM_BITS)
        m.submodules.weight_total = weights
        m.submodules.skew_parity = self._parity = Skew(unsigned(PARITY_BITS), self.rows)
        m.d.comb += [self._parity.i[r].eq(parity_of(self.activation[r])) for r in range(self.rows)]
        m.d.comb += weights.i.eq(self.weight.as_value())
        # The checksum's column meets the slot C cycles after the first one does.
        self._sum_weight = registered(m, C(1), weights.o, "sum_weight", self.columns - weights.latency)
        self._sum_psum: Value = C(0, CHECKSUM_BITS)

    def _connect(self, m: Module, r: int, row: Any) -> None:
        m.d.comb += [
            row.parity.eq(self._parity.o[r] ^ parity_of(row.control.as_value())),
            row.sum_weight.eq(self._sum_weight),
            row.sum_psum.eq(self._sum_psum),
        ]
        self._sum_weight, self._sum_psum = row.sum_weight_out, row.sum_psum_out

    def _end(self, m: Module) -> Value:
        psums = ResidueTotal(words=self.columns, width=self.spec.psum_width, bits=CHECKSUM_BITS)
        m.submodules.psum_total = psums
        m.d.comb += psums.i.eq(self.psum.as_value())
        # The last checksum leaves its column in the cycle after the row of psums.
        expected = registered(m, C(1), self._sum_psum, "sum_psum", psums.latency - 1)
        valid = Signal(psums.latency, name="valid_held")
        m.d.sync += valid.eq(Cat(self.valid, valid))
        return valid[-1] & differ(m, psums.o, expected)
