"""What all meshes that check themselves have in common: parity of control, and one flag for everything that was wrong."""

from abc import abstractmethod
from typing import Any

from amaranth import *
from amaranth.lib.wiring import In, Out

from hw.array.mesh import Mesh
from hw.array.row import MeshRow
from hw.array.skew import Deskew, Skew
from hw.errors import ConfigError
from hw.pe import PE_TYPES, PESpec
from hw.pe.mac import MacPE
from hw.protect.checker import Checker
from hw.protect.residue import PARITY_BITS, parity_of
from hw.share import shared

__all__ = ["GuardedMesh", "check_exact"]


def check_exact(spec: PESpec) -> None:
    """Check that a PE adds exact products, so that its sums have residues.

    Raises
    ------
    ConfigError
        If it does anything else.
    """
    kind = PE_TYPES[spec.kind]
    if not issubclass(kind, MacPE) or kind.compute is not MacPE.compute or kind.multiply is not MacPE.multiply:
        raise ConfigError(f"PESpec.kind must be a PE that adds exact products, such as mac, where sums are checked, "
                          f"not {spec.kind!r}")


class GuardedMesh(Mesh, Checker):
    """A mesh that checks its sums: same ports, cycles and results as `Mesh`, and a flag.

    The control word has parity that goes down the rows with it and is checked at the last one, where every wrong bit
    arrives. Each row then has the parity of its own control word, which goes to its right end. A subclass adds the check of
    the sums.

    Checks that need no valid result are silent for the first `latency` + 2 cycles after reset, in which registers without
    reset may hold anything.

    Parameters
    ----------
    spec : PESpec
        The PE; one that adds exact products.
    rows, columns : int
        R and C.

    Members
    -------
    activation, weight, control, psum
        As in a plain mesh.
    valid : In(1)
        The row of psums on `psum` in this cycle is a result.
    detected : Out(1)
        Pulse, `check_latency` cycles after a wrong row of results at the latest.
    corrected : Out(1)
        Never.

    Attributes
    ----------
    check_latency : int
        Cycles from a row at `psum` to the flag that says that it is wrong.

    Raises
    ------
    ConfigError
        If the PE does anything but exact multiply-accumulate: its sums have no checksum.
    """

    check_latency: int

    def __init__(self, *, spec: PESpec, rows: int, columns: int):
        check_exact(spec)
        super().__init__(spec=spec, rows=rows, columns=columns, members={
            "valid": In(1), "detected": Out(1), "corrected": Out(1)})

    @abstractmethod
    def _row(self) -> MeshRow:
        """Return a new row."""

    @abstractmethod
    def _begin(self, m: Module) -> None:
        """Make what the operands at the edges carry with them; may set `_operands_wrong`, high when they do not fit it."""

    @abstractmethod
    def _connect(self, m: Module, r: int, row: Any) -> None:
        """Connect what row r has more than a plain one."""

    @abstractmethod
    def _end(self, m: Module) -> Value:
        """Return whether a result was wrong."""

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
        self._operands_wrong: Value = Const(0)
        self._begin(m)
        weights = skew_weight.o.as_value()
        psums: Value = Const(0, self.columns * self.spec.psum_width)
        control, parity = self.control, parity_of(self.control.as_value())
        wrong = Signal(self.rows + 1)                       # of the rows, and of control between them
        for r in range(self.rows):
            row = self._row()
            m.submodules[f"row_{r}"] = shared(platform, row.module_name, row)
            m.d.comb += [
                row.activation.eq(skew_activation.o[r]),
                row.weight.eq(weights),
                row.psum.eq(psums),
                self._row_control(row, r, control),
                wrong[r].eq(row.wrong),
            ]
            self._connect(m, r, row)
            if r + 1 < self.rows:
                below = Signal.like(self.control, name=f"control_{r + 1}", reset_less=True)
                parity_below = Signal(PARITY_BITS, name=f"parity_{r + 1}", reset_less=True)
                m.d.sync += [below.eq(control), parity_below.eq(parity)]
                control, parity = below, parity_below
            weights, psums = row.weight_out, row.psum_out
        m.d.comb += [
            deskew_psum.i.eq(psums),
            wrong[-1].eq((parity_of(control.as_value()) ^ parity).any()),
        ]

        quiet = Signal(range(self.latency + 3), init=self.latency + 2)
        with m.If(quiet != 0):
            m.d.sync += quiet.eq(quiet - 1)
        m.d.sync += self.detected.eq(((wrong.any() | self._operands_wrong) & (quiet == 0)) | self._end(m))
        return m
