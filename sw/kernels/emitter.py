"""An assembler that knows registers and descriptor fields by purpose; it sets fields that never change only once, zeros never."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hw.isa import FIRST_ARGUMENT, REGISTERS, Unit
from sw.assembler import Assembler
from sw.kernels.tiles import Extent

__all__ = ["Emitter", "emit"]


class Emitter:
    """One pass over a kernel; `emit` makes two, the first to learn which fields are constant.

    Attributes
    ----------
    asm : Assembler
    fixed : dict of str to int
        Fields that the prologue has set for good.
    seen : dict of str to set
        Every value put into each field in this pass; None stands for a value known only at run time.
    """

    def __init__(self, arguments: Iterable[str], fixed: dict[str, int]):
        self.asm = Assembler()
        self.fixed = fixed
        self.seen: dict[str, set[int | None]] = {}
        self._registers = {name: FIRST_ARGUMENT + i for i, name in enumerate(arguments)}
        self._left: dict[Extent, str] = {}

    def reg(self, purpose: str) -> str:
        """Return the register of a purpose; the first call of a name chooses it."""
        if purpose not in self._registers:
            used = set(self._registers.values())
            self._registers[purpose] = next(i for i in range(1, REGISTERS) if i not in used)
        return f"r{self._registers[purpose]}"

    def put(self, field: str, value: int | str, imm: int = 0) -> None:
        """Set a descriptor field to a number, or to a register plus a number."""
        constant = value + imm if isinstance(value, int) else None
        self.seen.setdefault(field, set()).add(constant)
        if constant is None or field not in self.fixed:
            self.asm.set(field, value, imm)

    def put_extent(self, field: str, extent: Extent) -> None:
        """Set a descriptor field to the size of the current tile along an extent."""
        if extent.constant is not None:
            self.put(field, extent.constant)
        else:
            self.seen.setdefault(field, set()).add(None)
            self.asm.min(field, self.left(extent), "r0", extent.tile)

    # What is left along a dimension, for extents whose last tile is smaller ---------------------------------------

    def left(self, extent: Extent) -> str:
        """Return the register that holds what is left along `extent`."""
        return self.reg(f"left of {extent.dim}: {extent.total} by {extent.tile}")

    def start(self, extents: Iterable[Extent]) -> None:
        """Before the first tile: everything is left."""
        for extent in _ragged(extents):
            self.asm.set(self.left(extent), extent.total)

    def advance(self, extents: Iterable[Extent]) -> None:
        """After a tile: less is left."""
        for extent in _ragged(extents):
            self.asm.sub(self.left(extent), self.left(extent), "r0", extent.tile)

    def ring(self, register: str, size: int, slots: int) -> None:
        """Advance an offset by `size`, wrapping at `slots` · `size`; two instructions for any size.

        Past the end, offset − total is zero; before it, it is huge as an unsigned number: the minimum is right in both cases.
        """
        if slots > 1:
            self.asm.add(register, register, "r0", size)
            self.asm.min(register, register, register, -size * slots)

    def go(self, unit: Unit, wait: Iterable[int], signal: Iterable[int]) -> None:
        """Queue a command."""
        self.asm.go(unit, wait=wait, signal=signal)


def _ragged(extents: Iterable[Extent]) -> list[Extent]:
    return list(dict.fromkeys(extent for extent in extents if extent.constant is None))


Kind = TypeVar("Kind", bound=Emitter)


def emit(kind: type[Kind], arguments: Iterable[str], body: Callable[[Kind], None], *,
         parity: bool = False) -> npt.NDArray[np.uint64]:
    """Return the code of a kernel.

    Parameters
    ----------
    kind : type
        `Emitter` or a subclass.
    arguments : iterable of str
        Names of the argument registers, in CSR order; `Emitter.reg` knows them.
    body : callable
        Emits the kernel; called twice, the first time to learn which fields are constant.
    parity : bool
        Instructions get check bits.
    """
    arguments = list(arguments)
    trial = kind(arguments, {})
    body(trial)
    fixed = {field: next(iter(values)) for field, values in trial.seen.items() if len(values) == 1}
    known = {field: value for field, value in fixed.items() if value is not None}
    final = kind(arguments, known)
    for field, value in known.items():
        if value:                   # descriptors are zero when a program starts
            final.asm.set(field, value)
    body(final)
    return final.asm.words(parity=parity)
