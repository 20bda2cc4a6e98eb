"""An outer-product core that skips zeros of both operands, as DSTC's."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.errors import ConfigError

__all__ = ["DualSideCore", "side_layout", "vectors_layout"]


def side_layout(tile: int) -> data.StructLayout:
    """Return the layout of an operand's vector of one k: which of `tile` values are not zero, and these, packed from 0 on."""
    return data.StructLayout({"mask": tile, "values": data.ArrayLayout(signed(8), tile)})


def vectors_layout(tile: tuple[int, int], tag_width: int) -> data.StructLayout:
    """Return the layout of both operands' vectors of one k; `last`: of the tile, whose first `rows` rows leave with `tag`."""
    return data.StructLayout({"left": side_layout(tile[0]), "right": side_layout(tile[1]), "last": 1, "rows": range(tile[0] + 1),
                              "tag": tag_width})


class DualSideCore(wiring.Component):
    """A tile of T1×T2 sums: of each k the non-zero values of a column and of a row, packed, L1 × L2 products a cycle.

        vectors ─▶ steps ⌈nnz1/L1⌉·⌈nnz2/L2⌉ ─▶ products ─▶ scatter-add by the bit masks ─▶ rows, emptied as they leave

    A vector pair takes so many cycles, one at least; the next is taken in the last of them. The last one of a tile is followed by
    a cycle for each row, in which no step is made; its first row leaves `latency` cycles after its last step.

    Source: Wang et al., DSTC, ISCA 2021: outer products, bit masks, and 8×16 products of 32×32 tiles as in Sparseloop's artifact
    (found); datapath inferred.

    Parameters
    ----------
    tile, lanes : tuple of int
        T1, T2; L1, L2, divisors of these.
    psum_width, tag_width : int

    Members
    -------
    i : In(stream of `vectors_layout`)
    products : Out(range(L1·L2 + 1))
        Products of the step made in this cycle.
    o_valid : Out(1), o_row : Out(range(T1)), o_last : Out(1), o_tag : Out(tag_width), o : Out(T2 × signed(psum_width))
        A row of sums.
    busy : Out(1)
    """

    latency = 3

    def __init__(self, *, tile: tuple[int, int], lanes: tuple[int, int], psum_width: int = 32, tag_width: int = 0):
        for index, (size, within) in enumerate(zip(lanes, tile, strict=True)):
            if not 1 <= size <= within or within % size:
                raise ConfigError(f"DualSideCore.lanes must divide the tile of {within}, not {size!r} (L{index + 1})")
        self.tile, self.lanes, self.psum_width, self.tag_width = tile, lanes, psum_width, tag_width
        super().__init__({
            "i": In(stream.Signature(vectors_layout(tile, tag_width))),
            "products": Out(range(lanes[0] * lanes[1] + 1)),
            "o_valid": Out(1),
            "o_row": Out(range(tile[0])),
            "o_last": Out(1),
            "o_tag": Out(tag_width),
            "o": Out(data.ArrayLayout(signed(psum_width), tile[1])),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal(vectors_layout(self.tile, self.tag_width), reset_less=True)
        loaded, step, ends = Signal(), Signal(), Signal()
        closed = Signal(range(self.tile[0] + 1))            # cycles until the next step, since rows leave
        m.d.comb += [step.eq(loaded & (closed == 0)), self.i.ready.eq(~loaded | (step & ends))]
        with m.If(self.i.ready):
            m.d.sync += loaded.eq(self.i.valid)
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += held.eq(self.i.p)
        sides = self._steps(m, held, step, ends)
        sums = self._accumulate(m, sides, step)

        finished, leaving = Signal(), Signal(range(self.tile[0] + 1))
        row = Signal(range(self.tile[0]))
        rows, tag = Signal.like(held.rows, reset_less=True), Signal(self.tag_width, reset_less=True)
        m.d.sync += finished.eq(step & ends & held.last)
        with m.If(step & ends & held.last):
            m.d.sync += [closed.eq(held.rows), rows.eq(held.rows), tag.eq(held.tag)]
        with m.Elif(closed != 0):
            m.d.sync += closed.eq(closed - 1)
        with m.If(finished):
            m.d.sync += [leaving.eq(rows), row.eq(0)]
        with m.Elif(leaving != 0):
            m.d.sync += [leaving.eq(leaving - 1), row.eq(row + 1)]
        m.d.sync += [self.o_valid.eq(leaving != 0), self.o_row.eq(row), self.o_last.eq(leaving == 1), self.o_tag.eq(tag),
                     self.o.eq(Array(line.as_value() for line in sums)[row])]
        for index, line in enumerate(sums):
            with m.If((leaving != 0) & (row == index)):
                m.d.sync += line.eq(0)
        m.d.comb += self.busy.eq(loaded | finished | (closed != 0) | (leaving != 0) | self.o_valid)
        return m

    def _steps(self, m: Module, held: data.View, step: Signal, ends: Signal) -> list[tuple[list[Value], list]]:
        """Walk through the steps of a k; return for each side its lanes, and for each coordinate (in the step, its lane)."""
        sides, used = [], []
        outer: Value = step
        all_ends: Value = Const(1)
        for side, (vector, lanes, tile) in enumerate(zip((held.left, held.right), self.lanes, self.tile, strict=True)):
            groups = tile // lanes
            group = Signal(range(groups), name=f"group_{side}")
            count, left = (Signal(range(tile + 1), name=f"{name}_{side}") for name in ("count", "left"))
            m.d.comb += [count.eq(_ones(vector.mask)), left.eq(count - group * lanes)]
            end = left <= lanes
            with m.If(outer):
                m.d.sync += group.eq(Mux(end, 0, group + 1))
            outer, all_ends = outer & end, all_ends & end
            used.append(Mux(end, left, lanes))
            values = [Array(vector.values[first + lane] for first in range(0, tile, lanes))[group] for lane in range(lanes)]
            places = []
            for coordinate in range(tile):
                rank = Signal(range(tile + 1), name=f"rank_{side}_{coordinate}")
                m.d.comb += rank.eq(_ones(vector.mask[:coordinate]))
                there = vector.mask[coordinate] & (rank // lanes == group)
                places.append((there, (rank % lanes)[:max(1, ceil_log2(lanes))]))
            sides.append((values, places))
        m.d.comb += ends.eq(all_ends)
        with m.If(step):
            m.d.comb += self.products.eq(used[0] * used[1])
        return sides

    def _accumulate(self, m: Module, sides: list[tuple[list[Value], list]], step: Signal) -> list[data.View]:
        """Multiply a step's values, then add each product to the sum at its coordinates; return the rows of sums."""
        (left, rows), (right, columns) = sides
        valid = Signal()
        m.d.sync += valid.eq(step)
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
                there = Signal(name=f"{name}_{index}_there", reset_less=True)
                where = Signal(len(lane), name=f"{name}_{index}_lane", reset_less=True)
                m.d.sync += [there.eq(inside), where.eq(lane)]
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
            line = Signal(data.ArrayLayout(signed(self.psum_width), self.tile[1]), name=f"sums_{r}")
            for c in range(self.tile[1]):
                with m.If(valid & there):
                    m.d.sync += line[c].eq(line[c] + Array(lane[c] for lane in spread)[where])
            sums.append(line)
        return sums


def _ones(bits: Value) -> Value:
    """Return how many bits are set."""
    return sum(bits, Const(0, 1)) if len(bits) else Const(0, 1)
