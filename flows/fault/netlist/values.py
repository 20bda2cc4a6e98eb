"""Values of any width as runs of bits of words, and the making of words from them."""

from collections.abc import Iterable

from flows.fault.netlist.ir import WORD, Design, Node

__all__ = ["Builder", "Run", "Value", "mask", "width_of"]

Run = tuple[int, int, int]
"""Bits of a node: (node, first bit, bits); of a constant: (-1, the bits' value, bits)."""
Value = list[Run]
"""Runs, lowest first."""


def mask(width: int) -> int:
    """Return `width` ones."""
    return (1 << width) - 1


def width_of(value: Value) -> int:
    """Return the bits of a value."""
    return sum(run[2] for run in value)


class Builder:
    """Adds nodes to a design; folds what is constant. All words are of at most 32 bits.

    Parameters
    ----------
    design : Design
    """

    def __init__(self, design: Design):
        self.design = design
        self.scope = 0
        self._wires: dict[tuple[int, tuple[Run, ...]], int] = {}
        self._constants: dict[int, int] = {}

    def add(self, op: str, args: tuple[int, ...], width: int, number: int = 0) -> int:
        """Add a node and return its index."""
        self.design.nodes.append(Node(op, args, width, number, self.scope))
        return len(self.design.nodes) - 1

    def constant(self, number: int) -> int:
        """Return the node of a constant."""
        if number not in self._constants:
            self._constants[number] = self.add("const", (), max(1, number.bit_length()), number)
        return self._constants[number]

    def is_constant(self, node: int, number: int | None = None) -> bool:
        """Return whether a node is a constant, `number` if one is given."""
        made = self.design.nodes[node]
        return made.op == "const" and (number is None or made.number == number)

    def join(self, runs: Iterable[Run]) -> Value:
        """Return the same bits with neighbours in one node, and neighbouring constants, put together."""
        value: Value = []
        for node, low, width in runs:
            if not width:
                continue
            if value:
                before = value[-1]
                if node >= 0 and before[0] == node and before[1] + before[2] == low:
                    value[-1] = (node, before[1], before[2] + width)
                    continue
                if node < 0 and before[0] < 0:
                    value[-1] = (-1, before[1] | low << before[2], before[2] + width)
                    continue
            value.append((node, low, width))
        return value

    def cut(self, value: Value, low: int, high: int) -> Value:
        """Return bits `low` to `high` − 1; those beyond the end are 0."""
        found: Value = []
        at = 0
        for node, first, width in value:
            start, end = max(low, at), min(high, at + width)
            if start < end:
                found.append((node, first + start - at, end - start) if node >= 0
                             else (-1, first >> (start - at) & mask(end - start), end - start))
            at += width
        if high > max(at, low):
            found.append((-1, 0, high - max(at, low)))
        return self.join(found)

    def extend(self, value: Value, width: int, signed: bool) -> Value:
        """Return `value` cut off or extended to `width` bits."""
        own = width_of(value)
        if width <= own or not signed or not own:
            return self.cut(value, 0, width)
        sign = self.cut(value, own - 1, own)[0]
        return self.join([*value, *([sign] * (width - own))])

    def word(self, value: Value) -> int:
        """Return a node that holds `value`, of at most 32 bits."""
        value = self.join(value)
        if not value:
            return self.constant(0)
        if len(value) == 1:
            node, low, width = value[0]
            if node < 0:
                return self.constant(low)
            if low == 0 and width == self.design.nodes[node].width:
                return node
        while len(value) > 1 and value[-1][0] < 0 and value[-1][1] == 0:
            value = value[:-1]                  # zeros above are there anyway
        key = (self.scope, tuple(value))
        if key not in self._wires:
            self._wires[key] = self._assemble(value)
        return self._wires[key]

    def _assemble(self, value: Value) -> int:
        parts: list[int] = []
        width, i = 0, 0
        while i < len(value):
            node, low, bits = value[i]
            copies = 1                          # a run of one bit, again and again: a sign, or a mask of one enable
            while bits == 1 and node >= 0 and i + copies < len(value) and value[i + copies] == value[i]:
                copies += 1
            i += copies
            if node < 0:
                parts.append(self.add("const", (), bits, low))
            elif low == 0 and bits == self.design.nodes[node].width:
                parts.append(node)
            else:
                parts.append(self.add("slice", (node,), bits, low))
            if copies > 1:
                parts[-1] = self.add("sext", (parts[-1],), copies, 1)
                bits = copies
            width += bits
        return parts[0] if len(parts) == 1 else self.add("cat", tuple(parts), width)

    def words(self, value: Value) -> list[int]:
        """Return nodes of 32 bits each, lowest first, the last one with what is left."""
        return [self.word(self.cut(value, low, min(low + WORD, width_of(value)))) for low in range(0, width_of(value), WORD)]

    def runs(self, nodes: list[int], width: int) -> Value:
        """Return the value that 32-bit words make, `width` bits of it."""
        value: Value = []
        for i, node in enumerate(nodes):
            made, bits = self.design.nodes[node], min(WORD, width - WORD * i)
            if made.op == "const":
                value.append((-1, made.number & mask(bits), bits))
            else:
                value += [(node, 0, min(bits, made.width)), (-1, 0, max(0, bits - made.width))]
        return self.join(value)

    def both(self, a: int, b: int, width: int = 1) -> int:
        """Return a & b."""
        if self.is_constant(a, 0) or self.is_constant(b, 0):
            return self.constant(0)
        if self.is_constant(b, mask(width)):
            return a
        return b if self.is_constant(a, mask(width)) else self.add("and", (a, b), width)

    def either(self, a: int, b: int, width: int = 1) -> int:
        """Return a | b."""
        if self.is_constant(a, 0):
            return b
        return a if self.is_constant(b, 0) else self.add("or", (a, b), width)

    def plus(self, a: int, b: int, width: int = WORD) -> int:
        """Return a + b, cut off at `width` bits."""
        if self.is_constant(a, 0):
            return b
        return a if self.is_constant(b, 0) else self.add("add", (a, b), width)

    def invert(self, a: int, width: int = 1) -> int:
        """Return ~a."""
        if self.is_constant(a):
            return self.constant(self.design.nodes[a].number ^ mask(width))
        return self.add("not", (a,), width)

    def choose(self, select: int, zero: int, one: int, width: int) -> int:
        """Return `one` where the bit `select` is 1, else `zero`."""
        if zero == one:
            return zero
        if self.is_constant(select):
            return one if self.design.nodes[select].number & 1 else zero
        return self.add("mux", (select, zero, one), width)

    def signed(self, node: int, width: int) -> int:
        """Return a word of `width` bits, its sign repeated up to bit 31."""
        return node if width >= WORD else self.add("sext", (node,), WORD, width)
