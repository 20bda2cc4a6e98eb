"""The design as a fault simulator wants it: words of at most 32 bits, operations on them, state, memories."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["SOURCES", "WORD", "Design", "Gate", "Memory", "Node", "Piece", "ReadPort", "Register", "State", "WritePort"]

WORD = 32
"""Most bits of a word."""

SOURCES = frozenset({"state", "input", "read", "const"})
"""Operations without operands: values that logic begins with."""


class Node(NamedTuple):
    """One word: an operation on other words. Bits above `width` are 0.

    `op` is one of `state`, `input`, `read` (memory data), `const` (`number`);
    `and or xor add sub mul` (the low `width` bits), `not`, `eq ne ltu lts` (1 bit; `lts` of 32-bit two's complement), `mux`
    (select, if 0, if 1), `any` (≠ 0), `all` (equal to `number`), `parity`, `shl shr sar` (amounts up to 31; `sar` of 32 bits),
    `slice` (from bit `number`), `sext` (bit `number` − 1 repeated upwards), and `cat` (each operand shifted by the sum of
    the widths of those before it).
    """

    op: str
    args: tuple[int, ...]
    width: int
    number: int
    scope: int


class Piece(NamedTuple):
    """A word of a port, or of a register's next value: the node and its place in the whole."""

    node: int
    low: int
    width: int


@dataclass(frozen=True, slots=True)
class Register:
    """A flip-flop cell: `path` is its instance path and its name in the module that it stands in; `cell` the path of the cell."""

    path: str
    width: int
    scope: int
    source: str = ""
    cell: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A word of a register: its node, the node of its next value, its value in cycle 0, where it is in the register."""

    node: int
    next: int
    init: int
    register: int
    low: int


@dataclass(frozen=True, slots=True)
class ReadPort:
    """An asynchronous read: the address, a node for each 32-bit chunk of the data, and where they are captured only if that is
    1 (a register behind it), the enable."""

    address: int
    data: tuple[int, ...]
    enable: int | None = None


@dataclass(frozen=True, slots=True)
class WritePort:
    """A write at the end of the cycle: data and mask of written bits for each 32-bit chunk."""

    address: int
    data: tuple[int, ...]
    mask: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Words of any width in 32-bit chunks, lowest first; later write ports win; addresses beyond `depth` read 0."""

    path: str
    width: int
    depth: int
    scope: int
    init: npt.NDArray[np.uint32]
    reads: tuple[ReadPort, ...]
    writes: tuple[WritePort, ...]

    @property
    def chunks(self) -> int:
        """32-bit chunks of a word."""
        return -(-self.width // WORD)


class Gate(NamedTuple):
    """A word of a logic cell's output, where a transient can strike."""

    node: int
    path: str
    low: int


@dataclass(slots=True)
class Design:
    """The whole: nodes in topological order, and what stands at their ends."""

    top: str
    nodes: list[Node] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    inputs: dict[str, list[Piece]] = field(default_factory=dict)
    outputs: dict[str, list[Piece]] = field(default_factory=dict)
    unread_bits: int = 0
