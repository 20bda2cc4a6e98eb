"""A netlist interpreted cell by cell on Python's integers: slow, and nothing of it is shared with the engines but the netlist."""

import functools

from flows.fault.netlist.flat_netlist import read_netlist


def _signed(value, width):
    return value - (value >> (width - 1) << width) if width else 0


@functools.cache
def _plan(rtlil, top):
    """Return the netlist, and its logic cells and asynchronous reads, (cell, port), operands first."""
    netlist = read_netlist(rtlil, top)
    made, order, seen = {}, [], set()
    for cell in netlist.cells:
        if cell.kind == "$mem_v2":
            width = cell.number("WIDTH")
            for i, bit in enumerate(cell.connections["RD_DATA"]):
                if not cell.number("RD_CLK_ENABLE") >> (i // width) & 1:
                    made[bit] = (cell, i // width)
        elif cell.kind != "$dff":
            made.update((bit, (cell, -1)) for bit in cell.connections["Y"])

    def visit(cell, port):
        if (id(cell), port) in seen:
            return
        seen.add((id(cell), port))
        ports = cell.connections
        abits = cell.number("ABITS") if port >= 0 else 0
        if port >= 0:
            wanted = ports["RD_ADDR"][port * abits:(port + 1) * abits]
        else:
            wanted = [bit for name, bits in ports.items() if name != "Y" for bit in bits]
        for bit in wanted:
            if bit in made:
                visit(*made[bit])
        order.append((cell, port))

    for step in made.values():
        visit(*step)
    return netlist, order


class Interpreter:
    """One run of a flat design, cycle by cycle.

    Parameters
    ----------
    rtlil : str
    top : str
    contents : dict of memory path to list of int
        What memories hold at first, whole words; others their initial values.
    """

    def __init__(self, rtlil, top, contents=None):
        self.netlist, self.order = _plan(rtlil, top)
        self.bits = {"0": 0, "1": 1, "x": 0, "z": 0}
        self.registers, self.memories = {}, {}
        for cell in self.netlist.cells:
            ports = cell.connections
            if cell.kind == "$dff":
                path = self.netlist.registers[cell.path][0]
                self.registers[f"{cell.scope}.{path}" if cell.scope else path] = cell
                self.bits.update((bit, int(self.netlist.inits.get(bit, "0"))) for bit in ports["Q"])
            elif cell.kind == "$mem_v2":
                width, depth = cell.number("WIDTH"), cell.number("SIZE")
                init = cell.number("INIT")
                words = (contents or {}).get(cell.path) or [init >> i * width & ((1 << width) - 1) for i in range(depth)]
                self.memories[cell.path] = [cell, list(words)]
                for port in range(cell.number("RD_PORTS")):
                    if cell.number("RD_CLK_ENABLE") >> port & 1:
                        self.bits.update((bit, 0) for bit in ports["RD_DATA"][port * width:(port + 1) * width])

    def number(self, bits):
        """Return what some bits are now, lowest first, as an unsigned integer."""
        return sum(self.bits.get(bit, 0) << i for i, bit in enumerate(bits))

    def _assign(self, bits, value):
        for i, bit in enumerate(bits):
            self.bits[bit] = value >> i & 1

    def flip(self, path, mask, address=0):
        """Invert bits of a register or of a memory's word."""
        if path in self.memories:
            self.memories[path][1][address] ^= mask
        else:
            bits = self.registers[path].connections["Q"]
            self._assign(bits, self.number(bits) ^ mask)

    def settle(self, inputs):
        """Evaluate a cycle up to the clock edge; return output port → value."""
        for port, bits in self.netlist.inputs.items():
            self._assign(bits, int(inputs.get(port, 0)))
        for cell, port in self.order:
            if port >= 0:
                abits, width = cell.number("ABITS"), cell.number("WIDTH")
                words = self.memories[cell.path][1]
                address = self.number(cell.connections["RD_ADDR"][port * abits:(port + 1) * abits])
                self._assign(cell.connections["RD_DATA"][port * width:(port + 1) * width],
                             words[address] if address < len(words) else 0)
            else:
                self._assign(cell.connections["Y"], self._logic(cell))
        return {port: self.number(bits) for port, bits in self.netlist.outputs.items()}

    def edge(self):
        """Let the clock rise."""
        after = [(cell.connections["Q"], self.number(cell.connections["D"])) for cell in self.registers.values()]
        for cell, words in self.memories.values():
            ports, abits, width = cell.connections, cell.number("ABITS"), cell.number("WIDTH")
            writes = [[self.number(ports[name][port * size:(port + 1) * size])
                       for name, size in (("WR_ADDR", abits), ("WR_EN", width), ("WR_DATA", width))]
                      for port in range(cell.number("WR_PORTS"))]
            for port in range(cell.number("RD_PORTS")):
                if cell.number("RD_CLK_ENABLE") >> port & 1 and self.number([ports["RD_EN"][port]]):
                    address = self.number(ports["RD_ADDR"][port * abits:(port + 1) * abits])
                    value = words[address] if address < len(words) else 0
                    for index, (to, mask, data) in enumerate(writes):
                        if cell.number("RD_TRANSPARENCY_MASK") >> (port * len(writes) + index) & 1 and to == address:
                            value = value & ~mask | data & mask
                    after.append((ports["RD_DATA"][port * width:(port + 1) * width], value))
            for to, mask, data in writes:
                if to < len(words):
                    words[to] = words[to] & ~mask | data & mask
        for bits, value in after:
            self._assign(bits, value)

    def _logic(self, cell):
        ports = cell.connections
        width = len(ports["Y"])
        operands = []
        for name in ("A", "B"):
            if name in ports:
                value = self.number(ports[name])
                if name + "_SIGNED" in cell.parameters and cell.number(name + "_SIGNED"):
                    value = _signed(value, len(ports[name]))
                operands.append(value)
        a, b = (*operands, 0)[:2]
        bits = [self.bits.get(bit, 0) for bit in ports["A"]]
        if cell.kind == "$mux":
            return b if self.number(ports["S"]) else a
        if cell.kind == "$pmux":
            chosen = [i for i, bit in enumerate(ports["S"]) if self.bits.get(bit, 0)]
            return self.number(ports["B"][chosen[0] * width:(chosen[0] + 1) * width]) if chosen else a
        return {
            "$and": lambda: a & b, "$or": lambda: a | b, "$xor": lambda: a ^ b, "$not": lambda: ~a, "$neg": lambda: -a,
            "$add": lambda: a + b, "$sub": lambda: a - b, "$mul": lambda: a * b, "$eq": lambda: a == b, "$ne": lambda: a != b,
            "$lt": lambda: a < b, "$le": lambda: a <= b, "$gt": lambda: a > b, "$ge": lambda: a >= b, "$pos": lambda: a,
            "$shl": lambda: a << b, "$shr": lambda: (a & (1 << max(width, len(bits))) - 1) >> b, "$sshr": lambda: a >> b,
            "$sshl": lambda: a << b, "$shift": lambda: a >> b, "$shiftx": lambda: a >> b,
            "$reduce_or": lambda: any(bits), "$reduce_bool": lambda: any(bits), "$reduce_and": lambda: all(bits),
            "$reduce_xor": lambda: sum(bits) & 1, "$logic_not": lambda: not any(bits),
        }[cell.kind]() & (1 << width) - 1
