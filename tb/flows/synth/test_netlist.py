"""Areas and depth along the hierarchy of a mapped netlist."""

from functools import cache

import numpy as np
import pytest

from flows.synth.netlist import LogicLoop, Netlist


def random_design(rng):
    """Return the modules of a random hierarchical netlist: three leaves of gates and flip-flops, a top that holds four."""
    modules = {}
    for name in ("x", "y", "z"):
        nets, cells = list(range(2, 7)), {}
        for gate in range(int(rng.integers(3, 12))):
            new = 10 + gate
            ins = [int(net) for net in rng.choice(nets, 2)]
            cells[f"g{gate}"] = ({"type": "FF", "connections": {"D": [ins[0]], "Q": [new]}} if rng.random() < 0.25 else
                                 {"type": "NAND2", "connections": {"A": [ins[0]], "B": [ins[1]], "Y": [new]}})
            nets.append(new)
        ports = {"i": {"direction": "input", "bits": [2, 3, 4, 5, 6]},
                 "o": {"direction": "output", "bits": [int(net) for net in rng.choice(nets[5:], 3)]}}
        modules[name] = {"ports": ports, "cells": cells}
    nets, cells = list(range(2, 7)), {}
    for index in range(4):
        out = [100 + 3 * index + bit for bit in range(3)]
        cells[f"u{index}"] = {"type": str(rng.choice(["x", "y", "z"])),
                              "connections": {"i": [int(net) for net in rng.choice(nets, 5)], "o": out}}
        nets += out
    modules["top"] = {"ports": {"i": {"direction": "input", "bits": [2, 3, 4, 5, 6]},
                                "o": {"direction": "output", "bits": nets[-3:]}}, "cells": cells}
    return modules


def flat_depth(modules):
    """Return the depth of a random design, by flattening it and asking every net for its driver."""
    drivers = {}        # (path, net) → (kind, inputs)

    def add(path, name, bound):
        def net(bit):
            return bound.get(bit, (path, bit))

        for cell_name, cell in modules[name]["cells"].items():
            pins = cell["connections"]
            if cell["type"] in modules:
                inner = modules[cell["type"]]["ports"]
                below = {bit: net(outer) for bit, outer in zip(inner["i"]["bits"], pins["i"], strict=True)}
                add((*path, cell_name), cell["type"], below)
                for bit, outer in zip(inner["o"]["bits"], pins["o"], strict=True):
                    drivers[net(outer)] = ("wire", [((*path, cell_name), bit)])
            elif cell["type"] == "FF":
                drivers[net(pins["Q"][0])] = ("register", [net(pins["D"][0])])
            else:
                drivers[net(pins["Y"][0])] = ("gate", [net(pins["A"][0]), net(pins["B"][0])])

    add((), "top", {})

    @cache
    def level(net):
        kind, sources = drivers.get(net, ("input", []))
        return 0 if kind in ("input", "register") else max(map(level, sources)) + (kind == "gate")

    ends = [sources[0] for kind, sources in drivers.values() if kind == "register"]
    return max(map(level, [*ends, *(((), bit) for bit in modules["top"]["ports"]["o"]["bits"])]))


@pytest.mark.parametrize("seed", range(20))
def test_depth_through_the_hierarchy_is_that_of_the_flat_netlist(seed):
    modules = random_design(np.random.default_rng(seed))
    netlist = Netlist({"modules": modules}, "top", {"NAND2": {"Y"}, "FF": {"Q"}}, {"FF"}, set())
    assert netlist.depth()[0] == flat_depth(modules)


def test_instances_and_totals_follow_the_hierarchy():
    modules = {
        "leaf": {"ports": {}, "cells": {"a": {"type": "INV", "connections": {}}, "b": {"type": "INV", "connections": {}}}},
        "row": {"ports": {}, "cells": {f"l{i}": {"type": "leaf", "connections": {}} for i in range(3)}},
        "top": {"ports": {}, "cells": {"r0": {"type": "row", "connections": {}}, "r1": {"type": "row", "connections": {}},
                                       "l": {"type": "leaf", "connections": {}}, "m": {"type": "ram", "connections": {}}}},
    }
    netlist = Netlist({"modules": modules}, "top", {"INV": {"Y"}, "ram": set()}, {"ram"}, {"ram"})
    assert netlist.instances() == {"top": 1, "row": 2, "leaf": 7, "ram": 1}
    assert netlist.total({"leaf": 2.0, "row": 0.5, "top": 1.0}) == {"leaf": 2.0, "row": 6.5, "top": 16.0}


def test_a_loop_of_logic_is_named():
    cells = {"a": {"type": "INV", "connections": {"A": [3], "Y": [2]}}, "b": {"type": "INV", "connections": {"A": [2], "Y": [3]}}}
    netlist = Netlist({"modules": {"ring": {"ports": {}, "cells": cells}}}, "ring", {"INV": {"Y"}}, set(), set())
    with pytest.raises(LogicLoop, match=r"^logic of module ring must not depend on itself$"):
        netlist.depth()
