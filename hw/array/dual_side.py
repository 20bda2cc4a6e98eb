"""An outer-product core that skips zeros of both operands, as DSTC: a baseline for structured sparsity."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.errors import ConfigError

__all__ = ["DualSideCore", "side_layout"]

ACC_WIDTH = 32


def side_layout(tile: int) -> data.StructLayout:
    """Return the layout of an operand's vector of one k: which of `tile` values are not zero, and these, packed from 0 on."""
    return data.StructLayout({"mask": tile, "values": data.ArrayLayout(signed(8), tile)})


class DualSideCore(wiring.Component):
    """A tile of T×T sums: for each k the non-zero values of a column and of a row, packed, L1 × L2 products a cycle.

        operands ─▶ next k with both ─▶ read ─▶ patches ⌈nnz1/L1⌉·⌈nnz2/L2⌉ ─▶ products ─▶ scatter-add by the bit masks

    Cycles from `start` to `done`: Σ over k of ⌈nnz1/L1⌉·⌈nnz2/L2⌉, and 5; a k with an empty side takes none (the outer level of
    both bit masks says which). Sums of earlier runs stay until `clear`.

    Source: Wang et al., DSTC, ISCA 2021: outer products, two-level bit masks, and 8×16 products of 32×32 tiles as in Sparseloop's
    artifact (found); datapath inferred.

    Parameters
    ----------
    tile : int
        T.
    lanes : tuple of int
        L1 and L2.
    depth : int
        Vectors of k that are held of each operand.

    Members
    -------
    write_side, write_k, write : In
        `write_en`: the vector of a k of operand 0 (columns) or 1 (rows).
    start, clear : In(1), busy : Out(1), done : Out(1)
        `done` is a pulse. `clear` empties the sums.
    row : In(range(T)), sums : Out(T × signed(32))
        A row of the tile.
    """

    latency = 5

    def __init__(self, *, tile: int, lanes: tuple[int, int], depth: int):
        for name, size in zip(("L1", "L2"), lanes, strict=True):
            if not 1 <= size <= tile or tile % size:
                raise ConfigError(f"DualSideCore.lanes must divide the tile of {tile}, not {size!r} ({name})")
        self.tile, self.lanes, self.depth = tile, lanes, depth
        super().__init__({
            "write_en": In(1),
            "write_side": In(1),
            "write_k": In(range(depth)),
            "write": In(side_layout(tile)),
            "start": In(1),
            "clear": In(1),
            "busy": Out(1),
            "done": Out(1),
            "row": In(range(tile)),
            "sums": Out(data.ArrayLayout(signed(ACC_WIDTH), tile)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layout = side_layout(self.tile)
        occupied = [Signal(self.depth, name=f"occupied_{side}") for side in (0, 1)]
        pending = Signal(self.depth)
        running, fetched = Signal(), Signal()
        chosen = Signal(range(self.depth))
        for number in reversed(range(self.depth)):
            with m.If(pending[number]):
                m.d.comb += chosen.eq(number)
        fetch, take = Signal(), Signal()
        reads = []
        for side in (0, 1):
            m.submodules[f"vectors_{side}"] = store = memory.Memory(shape=layout, depth=self.depth, init=[])
            port, read = store.write_port(), store.read_port()
            here = self.write_en & (self.write_side == side)
            m.d.comb += [port.addr.eq(self.write_k), port.data.eq(self.write), port.en.eq(here), read.addr.eq(chosen),
                         read.en.eq(fetch)]
            with m.If(here):
                m.d.sync += occupied[side].bit_select(self.write_k, 1).eq(self.write.mask.any())
            reads.append(read.data)

        # A vector waits in the memories' output until the patches of the one before it are through.
        loaded, last = Signal(), Signal()
        m.d.comb += [take.eq(fetched & (~loaded | last)), fetch.eq(pending.any() & (~fetched | take))]
        with m.If(fetch):
            m.d.sync += [fetched.eq(1), pending.eq(pending & ~(1 << chosen)[:self.depth])]
        with m.Elif(take):
            m.d.sync += fetched.eq(0)
        sides = self._patches(m, reads, take, loaded, last)
        self._accumulate(m, sides, loaded)

        moving = [Signal(name=f"moving_{stage}") for stage in range(2)]      # patches in the two stages behind
        m.d.sync += [moving[0].eq(loaded), moving[1].eq(moving[0])]
        with m.If(self.start):
            m.d.sync += [pending.eq(occupied[0] & occupied[1]), running.eq(1)]
        idle = ~(pending.any() | fetched | loaded | moving[0] | moving[1])
        m.d.comb += [self.busy.eq(running), self.done.eq(running & idle)]
        with m.If(self.done):
            m.d.sync += running.eq(0)
        return m

    def _patches(self, m: Module, reads: list[Any], take: Signal, loaded: Signal, last: Signal) -> list[tuple[Any, list]]:
        """Walk through the patches of a k; return for each side its lanes, and for each coordinate (in the patch, its lane)."""
        sides, ends = [], []
        outer: Value = Const(1)
        for side, (read, lanes) in enumerate(zip(reads, self.lanes, strict=True)):
            groups = self.tile // lanes
            vector = Signal(side_layout(self.tile), name=f"vector_{side}", reset_less=True)
            group = Signal(range(groups + 1), name=f"group_{side}")
            count = Signal(range(self.tile + 1), name=f"count_{side}")
            m.d.comb += count.eq(_ones(vector.mask))
            end = (group + 1) * lanes >= count
            with m.If(take):
                m.d.sync += [vector.eq(read), group.eq(0)]
            with m.Elif(loaded & outer):
                m.d.sync += group.eq(Mux(end, 0, group + 1))
            outer = outer & end
            ends.append(end)
            slots = [[vector.values[first + lane] for lane in range(lanes)]
                     for first in range(0, self.tile, lanes)]
            values = [Array(slot[lane] for slot in slots)[group] for lane in range(lanes)]
            places = []
            for coordinate in range(self.tile):
                rank = Signal(range(self.tile + 1), name=f"rank_{side}_{coordinate}")
                m.d.comb += rank.eq(_ones(vector.mask[:coordinate]))
                inside = vector.mask[coordinate] & (rank // lanes == group)
                places.append((inside, (rank % lanes)[:max(1, ceil_log2(lanes))]))
            sides.append((values, places))
        m.d.comb += last.eq(loaded & ends[0] & ends[1])
        with m.If(take):
            m.d.sync += loaded.eq(1)
        with m.Elif(last):
            m.d.sync += loaded.eq(0)
        return sides

    def _accumulate(self, m: Module, sides: list[tuple[Any, list]], loaded: Signal) -> None:
        """Multiply a patch, then add each product to the sum at its coordinates."""
        (left, rows), (right, columns) = sides
        valid = Signal()
        m.d.sync += valid.eq(loaded)
        products: list[list[Signal]] = []
        for i, a in enumerate(left):
            products.append([])
            for j, b in enumerate(right):
                product = Signal(signed(16), name=f"product_{i}_{j}", reset_less=True)
                m.d.sync += product.eq(a * b)
                products[-1].append(product)
        placed = []
        for name, places in (("row", rows), ("column", columns)):
            held = []
            for index, (inside, lane) in enumerate(places):
                there = Signal(name=f"{name}_{index}_there")
                where = Signal(len(lane), name=f"{name}_{index}_lane", reset_less=True)
                m.d.sync += [there.eq(inside & loaded), where.eq(lane)]
                held.append((there, where))
            placed.append(held)
        spread: list[list[Signal]] = []     # for each lane of the left side, what it adds to each column
        for i, of_lane in enumerate(products):
            spread.append([])
            for c, (there, where) in enumerate(placed[1]):
                value = Signal(signed(16), name=f"spread_{i}_{c}")
                m.d.comb += value.eq(Mux(there, Array(of_lane)[where], 0))
                spread[-1].append(value)
        sums = []
        for r, (there, where) in enumerate(placed[0]):
            row = Signal(data.ArrayLayout(signed(ACC_WIDTH), self.tile), name=f"sums_{r}")
            for c in range(self.tile):
                with m.If(self.clear):
                    m.d.sync += row[c].eq(0)
                with m.Elif(valid & there):
                    m.d.sync += row[c].eq(row[c] + Array(lane[c] for lane in spread)[where])
            sums.append(row)
        m.d.comb += self.sums.eq(Array(row.as_value() for row in sums)[self.row])


def _ones(bits: Value) -> Value:
    """Return how many bits are set."""
    return sum(bits, Const(0, 1)) if len(bits) else Const(0, 1)
