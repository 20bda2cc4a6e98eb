"""A mapped netlist: cells and area of each module, rolled up along the hierarchy, and the depth of its logic."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LogicLoop", "Module", "Netlist"]

_NONE = np.int16(-1)
Levels = npt.NDArray[np.int16]


class LogicLoop(ValueError):
    """Logic that depends on itself without a register."""


@dataclass(slots=True)
class Module:
    """One module.

    Attributes
    ----------
    name : str
    cells : Counter of str
        Library cells directly inside, by type.
    children : Counter of str
        Modules and macros directly inside, by name.
    """

    name: str
    cells: Counter[str] = field(default_factory=Counter)
    children: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Arcs:
    """What a module does between its ports, without its registers.

    through[i, o] is the levels from input bit i to output bit o, -1 where there is no way; `start[o]` the levels from a
    register to output bit o; `end[i]` the levels from input bit i to a register.
    """

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    through: Levels
    start: Levels
    end: Levels


class Netlist:
    """What Yosys' `write_json` says of a mapped design.

    Parameters
    ----------
    design : dict
        The JSON object.
    top : str
    outputs : dict of str to set of str
        Cell type → output pins, of all library cells and macros.
    sequential : set of str
        Cell types that hold state: flip-flops, latches, macros.
    macros : set of str
        Memories that stayed; they count as children, not as cells.
    """

    def __init__(self, design: dict[str, Any], top: str, outputs: dict[str, set[str]], sequential: set[str], macros: set[str]):
        self.top, self._outputs, self._sequential, self._macros = top, outputs, sequential, macros
        self._json = design["modules"]
        self._arcs: dict[str, _Arcs] = {}
        self._deepest: dict[str, int] = {}
        self.modules: dict[str, Module] = {}
        self._visit(top)

    def _visit(self, name: str) -> None:
        """Count what lies below a module; children come before their parents in `modules`."""
        module = Module(name)
        for cell in self._json[name]["cells"].values():
            kind = cell["type"]
            inner = self._json.get(kind)
            if kind in self._macros:
                module.children[kind] += 1
            elif inner is None:
                module.cells[kind] += 1
            else:
                module.children[kind] += 1
                if kind not in self.modules:
                    self._visit(kind)
        self.modules[name] = module

    def instances(self) -> Counter[str]:
        """Return how often each module and macro is in the design."""
        count = Counter({self.top: 1})
        for name in reversed(self.modules):
            for child, times in self.modules[name].children.items():
                count[child] += times * count[name]
        return count

    def total(self, own: dict[str, float]) -> dict[str, float]:
        """Return module → sum of `own` over one instance of it and all that it holds."""
        total: dict[str, float] = dict(own)
        for name, module in self.modules.items():
            total[name] = own.get(name, 0.0) + sum(times * total.get(child, 0.0) for child, times in module.children.items())
        return total

    # Depth ----------------------------------------------------------------------------------------------------------

    def depth(self) -> tuple[int, str]:
        """Return the cells on the longest way between registers, macros and ports, and the module in which that way ends.

        Every library cell counts, buffers too. Ways are followed through the hierarchy.

        Raises
        ------
        LogicLoop
            If there is none because logic depends on itself.
        """
        for name in self.modules:
            self._arcs[name] = self._measure(name)
        top = self._arcs[self.top]
        at_ports = max(int(top.through.max(initial=0)), int(top.start.max(initial=0)))
        deepest = max(self._deepest, key=lambda name: self._deepest[name])
        return max(at_ports, self._deepest[deepest]), self.top if at_ports > self._deepest[deepest] else deepest

    def _measure(self, name: str) -> _Arcs:
        module = self._json[name]
        bit = {(port, i): b for port, p in module["ports"].items() for i, b in enumerate(p["bits"])}
        inputs, outputs = (tuple(pin for pin in bit if module["ports"][pin[0]]["direction"] == direction)
                           for direction in ("input", "output"))
        # One row a net: levels from each input bit, and in the last column from any register.
        rows: dict[int, Levels] = {}
        silent = np.full(len(inputs) + 1, _NONE)
        for column, pin in enumerate(inputs):
            row = rows.setdefault(bit[pin], silent.copy())
            row[column] = 0
        drivers, ends = self._drivers(name)
        for net in drivers:
            self._settle(net, drivers, rows, silent, name)
        end, deepest = silent[:-1].copy(), 0
        for net, beyond in ends:
            if net in rows:
                reached = np.where(rows[net] >= 0, rows[net] + np.int16(beyond), _NONE)
                end = np.maximum(end, reached[:-1])
                deepest = max(deepest, int(reached.max(initial=0)))
        out = [rows.get(bit[pin], silent) if isinstance(bit[pin], int) else silent for pin in outputs]
        table = np.stack(out, axis=1) if out else np.zeros((len(inputs) + 1, 0), dtype=np.int16)
        self._deepest[name] = deepest
        return _Arcs(inputs, outputs, table[:-1], table[-1], end)

    def _drivers(self, name: str) -> tuple[dict[int, list[tuple[int, int]]], list[tuple[int, int]]]:
        """Return net → the (net, levels) that it follows from, with net -1 for a register, and the (net, levels) that end."""
        drivers: dict[int, list[tuple[int, int]]] = {}
        ends: list[tuple[int, int]] = []
        for cell in self._json[name]["cells"].values():
            kind, pins = cell["type"], cell["connections"]
            arcs = self._arcs.get(kind)
            if arcs is not None:
                for column, pin in enumerate(arcs.outputs):
                    net = _net(pins, pin)
                    if net is None:
                        continue
                    sources = [(-1, int(arcs.start[column]))] if arcs.start[column] >= 0 else []
                    for index in np.flatnonzero(arcs.through[:, column] >= 0):
                        source = _net(pins, arcs.inputs[index])
                        if source is not None:
                            sources.append((source, int(arcs.through[index, column])))
                    drivers[net] = sources
                for index in np.flatnonzero(arcs.end >= 0):
                    net = _net(pins, arcs.inputs[index])
                    if net is not None:
                        ends.append((net, int(arcs.end[index])))
                continue
            out = self._outputs[kind]
            nets_in = [b for port, bits in pins.items() if port not in out for b in bits if isinstance(b, int)]
            nets_out = [b for port, bits in pins.items() if port in out for b in bits if isinstance(b, int)]
            if kind in self._sequential:
                ends += [(net, 0) for net in nets_in]
                drivers.update({net: [(-1, 0)] for net in nets_out})
            else:
                drivers.update({net: [(source, 1) for source in nets_in] for net in nets_out})
        return drivers, ends

    def _settle(self, net: int, drivers: dict[int, list[tuple[int, int]]], rows: dict[int, Levels], silent: Levels,
                name: str) -> None:
        """Fill in the row of a net after those that it follows from, without recursion."""
        stack, open_nets = [net], set()
        while stack:
            at = stack[-1]
            if at in rows:
                stack.pop()
                continue
            waiting = [source for source, _ in drivers.get(at, ()) if source >= 0 and source not in rows]
            if waiting and at in open_nets:
                raise LogicLoop(f"logic of module {name} must not depend on itself")
            if waiting:
                open_nets.add(at)
                stack += waiting
                continue
            row = silent.copy()
            for source, levels in drivers.get(at, ()):
                if source < 0:
                    row[-1] = max(row[-1], np.int16(levels))
                else:
                    known = rows[source]
                    np.maximum(row, np.where(known >= 0, known + np.int16(levels), _NONE), out=row)
            rows[at] = row
            stack.pop()


def _net(pins: dict[str, list[Any]], pin: tuple[str, int]) -> int | None:
    """Return the net at one bit of a port; None for a constant or an open pin."""
    bits = pins.get(pin[0], ())
    found = bits[pin[1]] if pin[1] < len(bits) else None
    return found if isinstance(found, int) else None

