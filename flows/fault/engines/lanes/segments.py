"""The logic cut into segments: small pieces in a fixed order, each evaluated only where one of its inputs is not as it should be.

A segment is a connected piece of one instance's logic. Going from one instance to another, or through a value that many cells
use, begins a new one, so that a wrong word wakes little. Segments that are alike share one function: all processing elements do.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.fault.netlist.ir import SOURCES, Design

__all__ = ["Function", "Operation", "Segment", "Segmentation", "roots_of", "segment"]

_SHARED = 6
"""A value with this many users stands between segments."""
_WIRES = frozenset({"slice", "sext", "const"})
"""Operations that are repeated in each segment that wants them, where nobody needs their result as a word of its own."""
_OPERATIONS = {op: index for index, op in enumerate((
    "const", "and", "or", "xor", "add", "sub", "mul", "not", "eq", "ltu", "lts", "mux", "any", "all", "parity", "shl", "shr",
    "sar", "slice", "sext", "cat"))}
"""Numbers, because what Python hashes text to differs from run to run."""


@dataclass(slots=True)
class Segment:
    """One piece: a function, the nodes that go in and that come out, in the function's order.

    Attributes
    ----------
    function : int
    inputs, outputs : list of int
        Nodes.
    members : list of int
        Nodes in order of computation: member i of any segment of a function is its operation i.
    rank : int
        Segments of a lower one come first.
    """

    function: int
    inputs: list[int]
    outputs: list[int]
    members: list[int]
    rank: int


class Operation(NamedTuple):
    """What a node does, in a function: operand i ≥ 0 is operation i, −1 − i is input i."""

    op: str
    args: tuple[int, ...]
    width: int
    number: int


class Function(NamedTuple):
    """Operations in order, which of them come out, and the width of each input."""

    code: tuple[Operation, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


@dataclass(slots=True)
class Segmentation:
    """All segments in order, the functions, and the rank of each node."""

    segments: list[Segment] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)


def roots_of(design: Design) -> list[int]:
    """Return the nodes whose value somebody outside of the logic wants: registers, memories, outputs."""
    roots = [state.next for state in design.states]
    for memory in design.memories:
        for read in memory.reads:
            roots += [read.address] if read.enable is None else [read.address, read.enable]
        for write in memory.writes:
            roots += [write.address, *write.data, *write.mask]
    roots += [piece.node for pieces in design.outputs.values() for piece in pieces]
    return roots


class _Cutter:
    """One design on its way into segments."""

    def __init__(self, design: Design):
        self.design = design
        self.nodes = design.nodes
        self.roots = set(roots_of(design))
        self.wants: dict[int, tuple[int, ...]] = {}
        self.live = self._live()
        self.rank = [0] * len(self.nodes)
        self.parent: dict[int, int] = {}

    def _live(self) -> list[int]:
        """Return the nodes that a root depends on, operands first; what a read wants comes before its data."""
        for memory in self.design.memories:
            for read in memory.reads:
                wants = (read.address,) if read.enable is None else (read.address, read.enable)
                self.wants.update((node, wants) for node in read.data)
        state = bytearray(len(self.nodes))
        order: list[int] = []
        for root in self.roots:
            stack = [root]
            while stack:
                node = stack[-1]
                if state[node] == 2:
                    stack.pop()
                    continue
                args = self.wants.get(node, self.nodes[node].args)
                if state[node] == 1:
                    state[node] = 2
                    order.append(node)
                    stack.pop()
                    continue
                state[node] = 1
                stack += [arg for arg in args if not state[arg]]
        return order

    def is_wire(self, node: int) -> bool:
        """Return whether a node is repeated where it is used."""
        return self.nodes[node].op in _WIRES and node not in self.roots

    def _find(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def through(self, node: int) -> int:
        """Return what a chain of wires comes from."""
        while self.is_wire(node) and self.nodes[node].args:
            node = self.nodes[node].args[0]
        return node

    def run(self) -> Segmentation:
        """Cut."""
        nodes = self.nodes
        users: dict[int, int] = defaultdict(int)
        for node in self.live:
            if not self.is_wire(node):
                for arg in set(map(self.through, nodes[node].args)):
                    users[arg] += 1
        for node in self.live:
            made = nodes[node]
            if made.op == "read":
                self.rank[node] = 1 + max(self.rank[self.through(wanted)] for wanted in self.wants[node])
            elif made.op not in SOURCES and not self.is_wire(node):
                self.parent[node] = node
                rank = 0
                for arg in map(self.through, made.args):
                    if nodes[arg].op == "read":
                        rank = max(rank, self.rank[arg] + 1)
                    elif nodes[arg].op not in SOURCES:
                        near = nodes[arg].scope == made.scope and users[arg] < _SHARED
                        rank = max(rank, self.rank[arg] + (not near))
                self.rank[node] = rank
                for arg in map(self.through, made.args):
                    if nodes[arg].op not in SOURCES and nodes[arg].scope == made.scope and self.rank[arg] == rank:
                        self.parent[self._find(arg)] = self._find(node)
        groups: dict[int, list[int]] = defaultdict(list)
        for node in self.live:
            if node in self.parent:
                groups[self._find(node)].append(node)
        wanted = set(self.roots)
        for node in self.live:
            if not self.is_wire(node):
                for arg in map(self.through, nodes[node].args):
                    if arg in self.parent and (node not in self.parent or self._find(node) != self._find(arg)):
                        wanted.add(arg)
        return self._functions(groups, wanted)

    def _functions(self, groups: dict[int, list[int]], wanted: set[int]) -> Segmentation:
        """Bring the members of each group into an order that depends on their structure alone, and find equal ones."""
        found = Segmentation()
        known: dict[Function, int] = {}
        for group in groups.values():
            members = set(group)
            hashes: dict[int, int] = {}
            for node in group:
                self._hash(node, members, hashes)
            outputs = sorted((node for node in group if node in wanted), key=lambda node: hashes[node])
            inputs: dict[int, int] = {}
            index: dict[int, int] = {}
            code: list[Operation] = []
            order: list[int] = []

            def visit(root: int, members: set[int] = members, inputs: dict[int, int] = inputs, index: dict[int, int] = index,
                      code: list[Operation] = code, order: list[int] = order) -> None:
                stack = [root]
                while stack:
                    node = stack[-1]
                    made = self.nodes[node]
                    if node in index:
                        stack.pop()
                    elif node not in members and not self.is_wire(node):
                        stack.pop()
                        index[node] = -1 - inputs.setdefault(node, len(inputs))
                    elif missing := [arg for arg in reversed(made.args) if arg not in index]:
                        stack += missing
                    else:
                        stack.pop()
                        index[node] = len(code)
                        code.append(Operation(made.op, tuple(index[arg] for arg in made.args), made.width, made.number))
                        order.append(node)

            for node in outputs:
                visit(node)
            widths = tuple(self.nodes[node].width for node in inputs)
            key = Function(tuple(code), tuple(index[node] for node in outputs), widths)
            if key not in known:
                known[key] = len(found.functions)
                found.functions.append(key)
            found.segments.append(Segment(known[key], list(inputs), outputs, order, max(self.rank[node] for node in group)))
        found.segments.sort(key=lambda piece: (piece.rank, piece.function))
        found.ranks = self.rank
        return found

    def _hash(self, node: int, members: set[int], hashes: dict[int, int]) -> int:
        if node not in hashes:
            made = self.nodes[node]
            if node in members or self.is_wire(node):
                below = (self._hash(arg, members, hashes) for arg in made.args)
                hashes[node] = hash((_OPERATIONS[made.op], made.width, made.number, *below))
            else:
                hashes[node] = -made.width
        return hashes[node]


def segment(design: Design) -> Segmentation:
    """Return the segments of a design."""
    return _Cutter(design).run()
