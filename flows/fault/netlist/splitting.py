"""Where to cut wide values into words: between the fields that are put in and taken out, so that a fault stays in few words."""

from collections import defaultdict
from itertools import pairwise

from flows.fault.netlist.flat_netlist import Bit, Cell, Netlist
from flows.fault.netlist.ir import WORD

__all__ = ["BITWISE", "OUTPUTS", "pieces_of"]

BITWISE = frozenset({"$and", "$or", "$xor", "$xnor", "$not", "$mux", "$pmux"})
"""Cells whose output bit i depends on no other data bit than i: they can be cut anywhere."""
OUTPUTS = {"$dff": "Q", "$dffe": "Q", "$sdff": "Q", "$sdffe": "Q", "$sdffce": "Q", "$mem_v2": "RD_DATA"}
"""The output of cells that do not call it Y."""
_NARROW = 8
"""Fields below this many bits do not cut a word."""


def _operands(cell: Cell, width: int) -> list[list[Bit]]:
    """Return the data inputs of a cell that can be cut, in line with its output."""
    ports = cell.connections
    if cell.kind == "$pmux":
        b = ports["B"]
        return [ports["A"], *(b[i:i + width] for i in range(0, len(b), width))]
    if cell.kind in OUTPUTS:
        return [ports["D"]]
    return [ports[name][:width] for name in ("A", "B") if name in ports]


def _cuts(width: int, marks: set[int]) -> list[tuple[int, int]]:
    """Return (low, high) of the pieces between `marks`; narrow neighbours are put together where a word holds them."""
    pieces: list[tuple[int, int]] = []
    for low, high in pairwise(sorted({0, width} | {m for m in marks if 0 < m < width})):
        for start in range(low, high, WORD):
            end = min(start + WORD, high)
            if pieces and end - pieces[-1][0] <= WORD and min(end - start, pieces[-1][1] - pieces[-1][0]) < _NARROW:
                pieces[-1] = (pieces[-1][0], end)
            else:
                pieces.append((start, end))
    return pieces


def pieces_of(netlist: Netlist) -> dict[int | str, list[tuple[int, int]]]:
    """Return (low, high) of each word of wide values that can be cut anywhere: by index of the cell, or by name of the input.

    Marks are set where a run of bits that is used together begins or ends, and spread through registers and bitwise cells
    until nothing changes: a shift register of packed lanes is cut into lanes. What fits into a word and is used as a whole is
    not cut.
    """
    wide: dict[int | str, list[Bit]] = {name: bits for name, bits in netlist.inputs.items() if len(bits) >= 2 * _NARROW}
    driver: dict[Bit, tuple[int | str, int]] = {}
    for index, cell in enumerate(netlist.cells):
        name = OUTPUTS.get(cell.kind, "Y")
        bits = cell.connections[name]
        driver.update((bit, (index, offset)) for offset, bit in enumerate(bits) if isinstance(bit, int))
        if len(bits) > WORD if cell.kind in BITWISE else name == "Q" and len(bits) >= 2 * _NARROW:
            wide[index] = bits
    for port, bits in netlist.inputs.items():
        driver.update((bit, (port, offset)) for offset, bit in enumerate(bits) if isinstance(bit, int))
    marks: dict[int | str, set[int]] = {key: set() for key in wide}
    whole: set[int | str] = set()
    links: dict[tuple[int | str, int], list[tuple[int | str, int]]] = defaultdict(list)

    def runs(bits: list[Bit]) -> list[tuple[int, int]]:
        """Return (first, last + 1) of the runs of `bits` that are neighbours in one driver."""
        found, first = [], 0
        for i in range(1, len(bits) + 1):
            if i < len(bits):
                a, b = driver.get(bits[i - 1]), driver.get(bits[i])
                if b == (a and (a[0], a[1] + 1)):
                    continue
            found.append((first, i))
            first = i
        return found

    work: list[tuple[int | str, int]] = []

    def mark(key: int | str, at: int) -> None:
        if key in wide and 0 < at < len(wide[key]) and at not in marks[key]:
            marks[key].add(at)
            work.append((key, at))

    for index, cell in enumerate(netlist.cells):
        name = OUTPUTS.get(cell.kind, "Y")
        if cell.kind in BITWISE or name == "Q":
            operands = _operands(cell, len(cell.connections[name]))
        else:
            operands = [bits for port, bits in cell.connections.items() if port != name]
        for bits in operands:
            found = runs(bits)
            for first, end in found:
                start = driver.get(bits[first])
                if start is None:
                    continue
                if start[0] in wide and end - first == len(wide[start[0]]) <= WORD:
                    whole.add(start[0])
                if index in wide:
                    for i in range(first + 1, end):
                        links[index, i].append((start[0], start[1] + i - first))
                        links[start[0], start[1] + i - first].append((index, i))
                if end - first >= _NARROW:
                    mark(start[0], start[1])
                    mark(start[0], start[1] + end - first)
            if index in wide:
                for first, end in found:
                    if end - first >= _NARROW:
                        mark(index, first)
                        mark(index, end)
    while work:
        for key, at in links[work.pop()]:
            mark(key, at)
    return {key: _cuts(len(bits), marks[key]) for key, bits in wide.items() if key not in whole}
