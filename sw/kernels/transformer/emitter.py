"""An emitter for kernels of many different commands: it knows what the descriptors hold, and lends registers."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from hw.isa import Unit
from sw.kernels.emitter import Emitter
from sw.kernels.passes.command import Operand, Pass
from sw.kernels.tiles import Extent

__all__ = ["StreamEmitter"]


class StreamEmitter(Emitter):
    """An emitter that leaves out what a descriptor field holds already.

    Within straight code it remembers the number that each field was set to last; at the beginning and the end of a loop it
    forgets all. Loops must be opened through `loop`.

    Attributes
    ----------
    overlapping : bool
        Phases follow each other without fences, and the rings that are kept go on from phase to phase; set by `keep_rings`.
    """

    def __init__(self, arguments: Iterable[str], fixed: dict[str, int]):
        super().__init__(arguments, fixed)
        self._held: dict[str, int] = {}
        self._kept: set[str] = set()
        self.overlapping = False

    # Registers ------------------------------------------------------------------------------------------------

    @contextmanager
    def registers(self, *purposes: str) -> Iterator[list[str]]:
        """Lend a register for each purpose, to be given back at the end of a `with` statement."""
        yield [self.reg(purpose) for purpose in purposes]
        for purpose in purposes:
            del self._registers[purpose]

    def keep_rings(self, *rings: str) -> None:
        """Let phases overlap from here on, the program's first instruction, and keep the registers of rings for all of it."""
        self.overlapping = True
        for ring in rings:
            self.reg(ring)              # zero, as all registers are when a program starts
        self._kept.update(rings)

    @contextmanager
    def rings(self, *rings: str) -> Iterator[None]:
        """Lend a register for the offset of each ring, from its first slot on; those of kept rings stay as they are."""
        lent = [ring for ring in rings if ring not in self._kept]
        with self.registers(*lent):
            for ring in lent:
                self.asm.set(self.reg(ring), 0)
            yield

    def end_phase(self) -> None:
        """End a phase: wait for all of it, unless phases overlap."""
        if not self.overlapping:
            self.asm.fence()

    @contextmanager
    def lending(self, extents: Iterable[Extent]) -> Iterator[None]:
        """Lend the registers of what is left along extents, to be given back at the end of a `with` statement."""
        yield
        for extent in dict.fromkeys(extents):
            self._registers.pop(f"left of {extent.dim}: {extent.total} by {extent.tile}", None)

    def set_register(self, purpose: str, value: Operand) -> None:
        """Set the register of a purpose."""
        if isinstance(value, int):
            self.asm.set(self.reg(purpose), value)
        else:
            register, imm = value if isinstance(value, tuple) else (value, 0)
            self.move(self.reg(purpose), register, imm)

    # Descriptors ----------------------------------------------------------------------------------------------

    def set(self, field: str, value: Operand) -> None:
        """Set a descriptor field."""
        if isinstance(value, int):
            self.seen.setdefault(field, set()).add(value)
            if field not in self.fixed and self._held.get(field) != value:
                self.asm.set(field, value)
            self._held[field] = value
            return
        register, imm = value if isinstance(value, tuple) else (value, 0)
        self.seen.setdefault(field, set()).add(None)
        self._held.pop(field, None)
        self.asm.set(field, register, imm)

    def put(self, field: str, value: int | str, imm: int = 0) -> None:
        """Set a descriptor field to a number, or to a register plus a number."""
        self.set(field, (value, imm) if isinstance(value, str) else value + imm)

    def put_extent(self, field: str, extent: Extent) -> None:
        """Set a descriptor field to the size of the current tile along an extent."""
        self._held.pop(field, None)
        super().put_extent(field, extent)

    def at_most(self, field: str, purpose: str, most: int) -> None:
        """Set a descriptor field to the register of a purpose, or to `most` if that is less."""
        self.seen.setdefault(field, set()).add(None)
        self._held.pop(field, None)
        self.asm.min(field, self.reg(purpose), "r0", most)

    def put_times(self, field: str, register: str, bits: int) -> None:
        """Set a descriptor field to a register times 2^bits."""
        self.seen.setdefault(field, set()).add(None)
        self._held.pop(field, None)
        self.asm.shl(field, register, "r0", bits)

    def describe(self, unit: Unit, fields: Mapping[str, Operand]) -> None:
        """Set descriptor fields."""
        for name, value in fields.items():
            self.set(f"{unit.name.lower()}.{name}", value)

    def command(self, unit: Unit, fields: Mapping[str, Operand], wait: Iterable[int] = (), signal: Iterable[int] = ()) -> None:
        """Set descriptor fields and queue the command; it waits for, and when done signals, semaphores."""
        self.describe(unit, fields)
        self.asm.go(unit, wait=wait, signal=signal)

    def passes(self, passes: Iterable[Pass], wait: Iterable[int] = (), signal: Iterable[int] = (), *,
               columns: Extent | None = None, at_most: tuple[str, int] | None = None) -> None:
        """Queue vector passes, one after the other; the first waits, the last signals.

        Parameters
        ----------
        columns : Extent or None
            What n is where it is the size of the current tile along an extent.
        at_most : (purpose, int) or None
            What n is where it is the register of a purpose, but not more than a number.
        """
        commands = list(passes)
        for number, command in enumerate(commands):
            fields = dict(command.needed)
            if (columns or at_most) and "n" in fields:
                del fields["n"]
                if columns:
                    self.put_extent("vector.n", columns)
                elif at_most:
                    self.at_most("vector.n", *at_most)
            self.command(Unit.VECTOR, fields, wait if number == 0 else (), signal if number == len(commands) - 1 else ())

    # Control --------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, count: int | str, imm: int = 0) -> Iterator[None]:
        """Repeat the body of a `with` statement; a loop that runs once is none."""
        if count == 1 and not imm:
            yield
            return
        self._held.clear()
        with self.asm.loop(count, imm):
            yield
        self._held.clear()

    def move(self, register: str, source: str, imm: int = 0) -> None:
        """register ← source + imm."""
        if register != source or imm:
            self.asm.add(register, source, "r0", imm)
