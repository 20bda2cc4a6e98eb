"""A mesh alone whose results are kept in a memory, to compare at the end: what is wrong of a tile, word by word."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from flows.fault.targets.array_bench import mesh_inputs, slot_members
from hw.array.mesh import Mesh
from hw.pe import PESpec

__all__ = ["RESULT_WIDTH", "ResultStore", "TileBench"]

RESULT_WIDTH = 32
"""Bits of a result: a psum, sign-extended."""


class ResultStore(wiring.Component):
    """Writes rows of psums into a memory, one after the other: those of slots that stream, `latency` cycles after the slot.

    Parameters
    ----------
    spec : PESpec
    columns, depth, latency : int

    Members
    -------
    streams : In(1)
        The slot's psums are a result.
    psum : In(C × psum_width)
    inspect : In(1), row : Out(C × 32)
        Reads the row that was written last: what nobody can read is removed from a netlist.
    """

    def __init__(self, *, spec: PESpec, columns: int, depth: int, latency: int):
        self._spec, self._columns, self._depth, self._latency = spec, columns, depth, latency
        super().__init__({"streams": In(1), "psum": In(columns * spec.psum_width), "inspect": In(1),
                          "row": Out(columns * RESULT_WIDTH)})

    def elaborate(self, platform: Any) -> Module:
        """Delay `streams` as the mesh delays a slot, and count rows."""
        m = Module()
        width = self._spec.psum_width
        m.submodules.rows = rows = Memory(shape=self._columns * RESULT_WIDTH, depth=self._depth, init=[])
        write, read = rows.write_port(), rows.read_port()
        pipeline = Signal(self._latency)
        m.d.sync += pipeline.eq(Cat(self.streams, pipeline))
        words = []
        for column in range(self._columns):
            word = Signal(RESULT_WIDTH, name=f"word_{column}")
            m.d.comb += word.eq(self.psum[column * width:(column + 1) * width].as_signed())
            words.append(word)
        m.d.comb += [write.en.eq(pipeline[-1]), write.data.eq(Cat(words)), read.en.eq(self.inspect), read.addr.eq(write.addr - 1),
                     self.row.eq(read.data)]
        with m.If(write.en):
            m.d.sync += write.addr.eq(write.addr + 1)
        return m


class TileBench(wiring.Component):
    """The mesh of `hw.array.mesh`, weight-stationary, with the ports of `ArrayBench` and a `ResultStore`.

    Parameters
    ----------
    spec : PESpec
        The PE; its dataflows must have "ws".
    rows, columns : int
        R and C.
    depth : int
        Results that are kept, a power of two.

    Members
    -------
    activation, weight, select, load, load_row, streams
        As there.
    inspect, row
        As of the `ResultStore`.
    """

    def __init__(self, *, spec: PESpec, rows: int, columns: int, depth: int):
        self.spec, self.rows, self.columns, self.depth = spec, rows, columns, depth
        super().__init__({
            **slot_members(spec, rows, columns), "inspect": In(1), "row": Out(columns * RESULT_WIDTH),
        })

    def elaborate(self, platform: Any) -> Module:
        """Wire the mesh."""
        m = Module()
        m.submodules.mesh = mesh = Mesh(spec=self.spec, rows=self.rows, columns=self.columns)
        m.submodules.results = results = ResultStore(spec=self.spec, columns=self.columns, depth=self.depth,
                                                     latency=self.rows + self.columns - 1)
        m.d.comb += [
            *mesh_inputs(self, mesh),
            results.streams.eq(self.streams),
            results.psum.eq(Cat(mesh.psum[c] for c in range(self.columns))),
            results.inspect.eq(self.inspect),
            self.row.eq(results.row),
        ]
        return m
