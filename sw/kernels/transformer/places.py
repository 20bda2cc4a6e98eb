"""Where phases find and leave rows of float32: in DRAM, or where they stay on the chip, in the scratchpad."""

from dataclasses import dataclass

__all__ = ["Address", "Dram", "Place", "Scratchpad"]

Address = tuple[str, int]
"""A DRAM address: a register, and what is added to it."""


@dataclass(frozen=True, slots=True)
class Dram:
    """Rows in DRAM, which phases load and store: the first one's address, bytes from row to row."""

    addr: Address
    stride: int


@dataclass(frozen=True, slots=True)
class Scratchpad:
    """Rows in the scratchpad, which the vector unit reads and writes where they lie: first byte, bytes from row to row."""

    addr: int
    stride: int


Place = Dram | Scratchpad
