"""What all meshes that check themselves have in common: parity of control, and one flag for everything that was wrong."""

from abc import abstractmethod
from typing import Any

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from hw.array.mesh import Mesh
from hw.array.row import MeshRow
from hw.errors import ConfigError
from hw.pe import PE_TYPES, PESpec
from hw.pe.mac import MacPE
from hw.protect.checker import Checker
from hw.protect.residue import PARITY_BITS, parity_of

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

    def _before_rows(self, m: Module) -> None:
        self._operands_wrong: Value = Const(0)
        self._begin(m)
        self._control_parity = parity_of(self.control.as_value())
        self._wrong = Signal(self.rows + 1, name="wrong")     # of the rows, and of control between them

    def _beside_row(self, m: Module, r: int, row: Any, control: data.View) -> None:
        m.d.comb += self._wrong[r].eq(row.wrong)
        self._connect(m, r, row)
        if r + 1 < self.rows:
            below = Signal(PARITY_BITS, name=f"parity_{r + 1}", reset_less=True)
            m.d.sync += below.eq(self._control_parity)
            self._control_parity = below
        else:
            m.d.comb += self._wrong[-1].eq((parity_of(control.as_value()) ^ self._control_parity).any())

    def _after_rows(self, m: Module) -> None:
        quiet = Signal(range(self.latency + 3), init=self.latency + 2)
        with m.If(quiet != 0):
            m.d.sync += quiet.eq(quiet - 1)
        m.d.sync += self.detected.eq(((self._wrong.any() | self._operands_wrong) & (quiet == 0)) | self._end(m))
