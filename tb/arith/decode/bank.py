"""Many small blocks in one simulator: built once, run side by side, each with vectors of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from flows.block_sim import BlockSim

__all__ = ["Bank"]

Vectors = Mapping[str, npt.ArrayLike]
"""Port of a block → its values, as `BlockSim.run` takes them."""


class _Side(wiring.Component):
    """The blocks next to each other, the ports of block i inside an interface b<i>."""

    def __init__(self, blocks: list[Any]):
        self._blocks = blocks
        super().__init__({f"b{index}": Out(block.signature) for index, block in enumerate(blocks)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for index, block in enumerate(self._blocks):
            m.submodules[f"block_{index}"] = block
            connect(m, block=block, ports=flipped(getattr(self, f"b{index}")))
        return m


class Bank:
    """Blocks by name, built together: one call of the compiler instead of one for each."""

    def __init__(self, blocks: Mapping[str, Any], name: str):
        self.blocks = dict(blocks)
        self._sim = BlockSim(_Side(list(self.blocks.values())), name)

    def run(self, vectors: Mapping[str, Vectors]) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Return the outputs of every block for its vectors, as late as its attribute `latency` says (none: combinational).

        vectors: block → port → values (wide ports: rows of words), as many for all ports of a block, or one number. Blocks may
        have different numbers of them; the last one of a block is repeated until all are done.
        """
        counts = {name: max(len(column) if np.ndim(column) else 1 for column in ports.values())
                  for name, ports in vectors.items()}
        latencies = {name: getattr(block, "latency", 0) for name, block in self.blocks.items()}
        cycles = max(counts[name] + latencies[name] for name in self.blocks)
        inputs = {}
        for index, name in enumerate(self.blocks):
            for port, column in vectors[name].items():
                column = np.asarray(column)
                if column.ndim:
                    padding = [(0, cycles - len(column)), (0, 0)][:column.ndim]
                    column = np.pad(column, padding, mode="edge")
                inputs[f"b{index}__{port}"] = column
        outputs = self._sim.run(inputs)
        found: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for index, name in enumerate(self.blocks):
            rows, prefix = slice(latencies[name], latencies[name] + counts[name]), f"b{index}__"
            found[name] = {port.removeprefix(prefix): column[rows] for port, column in outputs.items() if port.startswith(prefix)}
        return found
