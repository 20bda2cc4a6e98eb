"""The accelerator's registers by name, over a simulator's AXI4-Lite port."""

from collections.abc import Sequence
from typing import Protocol

from hw.regs import COUNTERS, Counter, register

__all__ = ["RegisterBus", "Registers"]


class RegisterBus(Protocol):
    """Something that reads and writes 32-bit registers by byte offset."""

    def read(self, addr: int) -> int:
        """Return a register."""
        ...

    def write(self, addr: int, value: int) -> None:
        """Write a register."""
        ...


class Registers:
    """Reads and writes registers by the names of `hw.regs`.

    Parameters
    ----------
    bus : RegisterBus
    counters : sequence of hw.regs.Counter
        Those that the accelerator has.
    """

    def __init__(self, bus: RegisterBus, counters: Sequence[Counter] = COUNTERS):
        self._bus, self._counters = bus, tuple(counters)

    def write(self, name: str, value: int | None = None, **fields: int) -> None:
        """Write a whole register, or one put together from its fields; fields left out are zero."""
        entry = register(name)
        if value is None:
            widths = {field.name: field.width for field in entry.fields}
            unknown = fields.keys() - widths.keys()
            if unknown:
                raise KeyError(f"register {name} has fields {', '.join(widths)}, not {', '.join(sorted(unknown))}")
            value, low = 0, 0
            for field, width in widths.items():
                value |= (fields.get(field, 0) & ((1 << width) - 1)) << low
                low += width
        self._bus.write(entry.offset, value)

    def read(self, name: str) -> int:
        """Return a whole register."""
        return self._bus.read(register(name).offset)

    def fields(self, name: str) -> dict[str, int]:
        """Return a register's fields by name."""
        value, found = self.read(name), {}
        for field in register(name).fields:
            found[field.name] = value & ((1 << field.width) - 1)
            value >>= field.width
        return found

    def counter(self, name: str) -> int:
        """Return a 64-bit counter; exact while the accelerator stands still."""
        return self.read(f"{name.upper()}_LO") | self.read(f"{name.upper()}_HI") << 32

    def counters(self) -> dict[str, int]:
        """Return every counter by name."""
        return {counter.name: self.counter(counter.name) for counter in self._counters}
