"""A column of the structured-sparsity engine: R multipliers, each choosing its activation, and the tree that adds them."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.adder_tree import added, selected
from hw.array.hss_fp4 import fp4_product
from hw.array.hss_shape import SHIFT_BITS, HssShape, column_write_layout
from hw.engines.hss import BLOCK, BLOCKS, GROUP, METADATA

__all__ = ["HssColumn"]

_OUTLIER_LANES = (0, BLOCK)                         # of a group in SDQ: first value of the first two blocks
_INLIER_LANES = ((1, 4, 5), (3, 6, 7))              # of its two eights, two inliers each


class HssColumn(wiring.Component):
    """One output's multipliers: rank-1 skip (4 of up to 8 blocks a group), rank-0 skip (a value of its block for each MAC).

        blocks ─▶ 5:1 by cp1 ─▶ 3:1 by cp0 ─▶ operand ─▶ × value ─▶ product ─▶ adder tree ─▶ psum
                  └────────── cycle t ────────┘       t + 1                  t + 2           t + 3

    Latency 3, initiation interval 1. A MAC whose activation or weight is zero is gated: its operand register holds, and its
    product is zero. Of SDQ, a group has two int8 MACs (outliers of its two eights) and six lanes of two FP4 products each; their
    sum is shifted by the powers of two of both operands and added exactly.

    Weights are double-buffered: a byte of a record a cycle goes to the column on `lane`, and what was loaded takes over at once,
    coordinates a cycle before values, since they are used a cycle earlier. Coordinates of a group are four bytes: cp1 as four
    nibbles, then cp0 as eight pairs of bits. Of SDQ: outliers' places (nibbles), the shift, and for either eight the two places
    without inlier (nibbles).

    Inferred: HighLight's skips are 8:1 and 4:1, with a register between them. Here both are one stage, and since coordinates
    increase, narrower.

    Parameters
    ----------
    shape : HssShape

    Members
    -------
    lane : In(8), write : In(column_write_layout)
        Weights. See there for when what is meant.
    activations : In(groups × blocks × values), codes : In(groups × 16 × 4), shifts : In(groups × 3)
        The token's values, and with SDQ the same in FP4.
    valid : In(1), sdq : In(1)
        A token is there; how it is to be multiplied.
    psum : Out(signed(psum_width))
    active : Out(range(macs + 1))
        MACs of the token of two cycles ago that were not gated.
    """

    latency = 3

    def __init__(self, shape: HssShape):
        self.shape = shape
        super().__init__({
            "lane": In(8),
            "write": In(column_write_layout(shape)),
            "activations": In(shape.activations),
            "codes": In(shape.codes if shape.sdq else data.ArrayLayout(unsigned(1), 0)),
            "shifts": In(data.ArrayLayout(unsigned(SHIFT_BITS), shape.groups if shape.sdq else 0)),
            "valid": In(1),
            "sdq": In(1),
            "psum": Out(signed(shape.psum_width)),
            "active": Out(range(shape.macs + 1)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        values, nonzero, coordinates = self._weights(m)
        sdq_1, sdq_2 = Signal(), Signal()
        if shape.sdq:
            m.d.sync += [sdq_1.eq(self.sdq), sdq_2.eq(sdq_1)]
        counts: list[Value] = []
        sums: list[Value] = []
        for group in range(shape.groups):
            chosen = self._choose(m, group, coordinates[group])
            inliers = self._inliers(m, group, coordinates[group]) if shape.sdq else {}
            products = []
            for lane, activation in enumerate(chosen):
                row = group * GROUP + lane
                product, count = self._multiply(m, row, activation, inliers.get(lane), nonzero[row], values[row], sdq_1)
                products.append(product)
                counts.append(count)
            sums.append(self._group_sum(m, group, products, coordinates[group], sdq_2))
        m.d.sync += self.psum.eq(added(sums))
        if shape.gating:
            m.d.sync += self.active.eq(added(counts))
        return m

    def _weights(self, m: Module) -> tuple[list[Signal], Signal, list[Value]]:
        """Make both buffers; return values, which of them are not zero, and the coordinates of each group, all in use."""
        shape, write = self.shape, self.write
        lane = Signal(8, name="lane_held", reset_less=True)
        m.d.sync += lane.eq(self.lane)
        values = []
        nonzero, loaded_nonzero = Signal(shape.rows, reset_less=True), Signal(shape.rows, reset_less=True)
        for row in range(shape.rows):
            loaded = Signal(signed(8), name=f"loaded_{row}", reset_less=True)
            value = Signal(signed(8), name=f"value_{row}", reset_less=True)
            with m.If(write.value[row]):
                m.d.sync += loaded.eq(lane)
            with m.If(write.take_values):
                m.d.sync += value.eq(Mux(write.rows_late[row], loaded, 0))
            values.append(value)
            if shape.gating:
                with m.If(write.ahead[row]):
                    m.d.sync += loaded_nonzero[row].eq(self.lane.any())
                with m.If(write.take_coordinates):
                    m.d.sync += nonzero[row].eq(loaded_nonzero[row] & write.rows[row])
        if not shape.metadata:
            return values, nonzero, [Const(_IDENTITY, 8 * METADATA)] * shape.groups
        coordinates: list[Value] = []
        for group in range(shape.groups):
            loaded = Signal(8 * METADATA, name=f"loaded_coordinates_{group}", reset_less=True)
            used = Signal(8 * METADATA, name=f"coordinates_{group}", reset_less=True)
            for byte in range(METADATA):
                with m.If(write.metadata[group * METADATA + byte]):
                    m.d.sync += loaded.word_select(byte, 8).eq(lane)
            with m.If(write.take_coordinates):
                m.d.sync += used.eq(Mux(write.plain, _IDENTITY, loaded))
            coordinates.append(used)
        return values, nonzero, coordinates

    def _choose(self, m: Module, group: int, coordinates: Value) -> list[Value]:
        """Return the activation of each MAC of a group: its slot's block by cp1, of that the value by cp0.

        Coordinates increase, so slot p finds its block between p and p + H1 − 4, and value q between q and q + H0 − 2.
        """
        shape, found = self.shape, []
        blocks = [view.as_value() for view in self.activations[group]]
        for slot in range(BLOCKS):
            nibble = coordinates.word_select(slot, 4)
            index: Value = nibble[:3]
            places = [coordinates[16:].word_select(BLOCK * slot + q, 2) for q in range(BLOCK)]
            outlier = shape.sdq and slot * BLOCK in _OUTLIER_LANES
            reach = range(slot, slot + shape.blocks - BLOCKS + 1)
            if outlier:                                 # anywhere in its eight, which is two blocks
                index = Mux(self.sdq, Cat(nibble[2], Const(slot, 2)), index)
                places[0] = Mux(self.sdq, nibble[:2], places[0])
                reach = range(min(slot, 2 * slot), max(reach[-1], 2 * slot + 1) + 1)
            block = Signal(8 * shape.length, name=f"block_{group}_{slot}")
            m.d.comb += block.eq(selected({place: blocks[place] for place in reach}, index))
            for q in range(BLOCK):
                reach = range(shape.length) if outlier and q == 0 else range(q, q + shape.length - BLOCK + 1)
                found.append(selected({place: block.word_select(place, 8) for place in reach}, places[q]))
        return found

    def _inliers(self, m: Module, group: int, coordinates: Value) -> dict[int, Value]:
        """Return the two FP4 activations of each of a group's inlier lanes: the six places of an eight that are not left out."""
        found: dict[int, Value] = {}
        for eight, lanes in enumerate(_INLIER_LANES):
            first, second = (coordinates.word_select(4 + 2 * eight + which, 4)[:3] for which in (0, 1))
            codes = []
            for inlier in range(2 * len(lanes)):
                near, next_, far = (self.codes[group][GROUP * eight + inlier + skip] for skip in range(3))
                codes.append(Mux(second <= inlier + 1, far, Mux(first <= inlier, next_, near)))
            found |= {lane: Cat(codes[2 * index:2 * index + 2]) for index, lane in enumerate(lanes)}
        return found

    def _multiply(self, m: Module, row: int, chosen: Value, inliers: Value | None, nonzero: Value, value: Signal,
                  sdq: Signal) -> tuple[Signal, Value]:
        """Make a MAC's operand and product registers; return the product and how many multiplications were not gated."""
        activation = Signal(8, name=f"activation_{row}")
        operand = Signal(signed(8), name=f"operand_{row}", reset_less=True)
        product = Signal(signed(16), name=f"product_{row}", reset_less=True)
        m.d.comb += activation.eq(chosen if inliers is None else Mux(self.sdq, inliers, chosen))
        live = Signal(name=f"live_{row}")
        wanted = self.valid & nonzero & activation.any() if self.shape.gating else Const(1)
        m.d.sync += live.eq(wanted)
        with m.If(wanted):
            m.d.sync += operand.eq(activation)
        result, count = operand * value, live
        if inliers is not None:
            pairs = [(operand.as_unsigned()[low:low + 4], value.as_unsigned()[low:low + 4]) for low in (0, 4)]
            result = Mux(sdq, sum(fp4_product(a, b) for a, b in pairs), result)
            count = Mux(sdq, sum(live & a[:3].any() & b[:3].any() for a, b in pairs), live)
        m.d.sync += product.eq(Mux(live, result, 0))
        return product, count

    def _group_sum(self, m: Module, group: int, products: list[Signal], coordinates: Value, sdq: Signal) -> Value:
        """Return the sum of a group's products; of SDQ, those of FP4 shifted by both operands' powers of two."""
        if not self.shape.sdq:
            return added(products)
        shift, held = (Signal(SHIFT_BITS + 1, name=f"{name}_{group}") for name in ("shift", "shift_held"))
        m.d.sync += [shift.eq(self.shifts[group] + coordinates[8:8 + SHIFT_BITS]), held.eq(shift)]
        inner = added([products[lane] for lanes in _INLIER_LANES for lane in lanes])
        narrow = Signal(signed(13), name=f"inliers_{group}")                # 12 products of at most 144
        m.d.comb += narrow.eq(inner)
        return added([products[lane] for lane in _OUTLIER_LANES]) + Mux(sdq, (narrow << held)[:22].as_signed(), inner)


_IDENTITY = 0b01_00_01_00_01_00_01_00_0011_0010_0001_0000
"""Coordinates of a dense group: block p in slot p, both of its values."""
