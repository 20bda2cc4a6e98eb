"""An array of BitMoD PEs: operands in by steps of four, the products of every group out, row by row."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitmod_weights import WeightColumn
from hw.config import ceil_log2
from hw.errors import ConfigError
from hw.pe.bitmod.pe import BitmodPE
from hw.pe.bitmod.precision import LANES, WeightPrecision, term_significance, terms_less_one
from hw.pe.bitmod.shape import SCALE_BITS, BitmodShape
from hw.pe.bitmod.specials import SpecialValues
from hw.pe.bitmod.timing import BitmodTiming
from hw.pe.bitmod.unpack import ActivationUnpack
from hw.share import shared

__all__ = ["BitmodArray", "bitmod_product_layout", "bitmod_step_layout"]


def bitmod_step_layout(shape: BitmodShape, rows: int, columns: int, tag_width: int = 0,
                       special_sets: int = 1) -> data.StructLayout:
    """Return the layout of a step: four of K for each row and each column of the tile.

    `activations` of each row, `codes` of each column, in its lowest bits; `scales` and `specials`, the index of a special
    value, of each column's group, the same in all steps of a group; `special_set`, in which set that index counts, and
    `precision`, a `WeightPrecision`, the same in all steps of a result; `group_last`, the last step of a group; `last`, that of a
    result, which is the last of its group too.
    """
    return data.StructLayout({
        "activations": data.ArrayLayout(data.ArrayLayout(shape.activation.bits, LANES), rows),
        "codes": data.ArrayLayout(data.ArrayLayout(8, LANES), columns),
        "specials": data.ArrayLayout(2, columns),
        "scales": data.ArrayLayout(SCALE_BITS, columns),
        "special_set": ceil_log2(special_sets),
        "precision": 3,
        "group_last": 1,
        "last": 1,
        "tag": tag_width,
    })


def bitmod_product_layout(shape: BitmodShape, columns: int, tag_width: int = 0) -> data.StructLayout:
    """Return the layout of a row of products: `products` of each column, and what all columns have in common.

    `exponents` of each column, only of float activations; `fresh` and `last`: the group is the first, or the last, of its result;
    `integer`: weights were integers, so that products are in whole units, else in halves; `tag`: that of the group's last step.
    """
    members: dict[str, Any] = {"products": data.ArrayLayout(signed(shape.product_width), columns)}
    if shape.is_float:
        members["exponents"] = data.ArrayLayout(shape.exponent_width, columns)
    return data.StructLayout({**members, "fresh": 1, "last": 1, "integer": 1, "tag": tag_width})


class BitmodArray(wiring.Component):
    """R×C BitMoD PEs, output-stationary: for each group scale · Σ activation[r] · weight[c], one row after the other.

    Weights go down the columns as terms, activations along the rows; every PE is told the same in the same cycle. A step takes
    4, 3 or 2 cycles (`WeightPrecision`); steps, groups and results follow each other without a gap. Behind the next group,
    scales are multiplied and rows put out; that hides if a group takes R + 8 cycles, and a shorter one waits for so long.

    From the step that ends a group, of T cycles, to its first row: `latency` + T cycles; then a row a cycle, which cannot wait.

    Parameters
    ----------
    shape : BitmodShape
    rows, columns : int
        R and C, at least 1.
    tag_width : int
        Bits that come out again with the products of a group, whatever they mean.
    specials : tuple of tuple of float
        Sets of special values after reset (`SpecialValues`); each step chooses one.

    Members
    -------
    i : In(stream of `bitmod_step_layout`)
    special_write : In(1), special_addr : In, special_value : In(signed(6))
        Program a special value (`SpecialValues`), while no step is inside; the address is its index, and above it the set.
    o_valid : Out(1), o_row : Out(range(R)), o : Out(`bitmod_product_layout`)
        A row of a group's products.
    busy : Out(1)
        A step or a product is inside.
    flushed, rejected : Out(1)
        Since reset: an activation was NaN or an infinity and counted as zero; a special value did not fit.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If there is no row or no column, or special values cannot be held.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Section IV-C. Inferred: stages, widths, when columns are drained.
    """

    latency = 1 + BitmodTiming.latency + 2

    def __init__(self, shape: BitmodShape, *, rows: int, columns: int, tag_width: int = 0,
                 specials: tuple[tuple[float, ...], ...] = ((5.0, -5.0, 8.0, -8.0),)):
        for name, value in (("rows", rows), ("columns", columns)):
            if value < 1:
                raise ConfigError(f"BitmodArray.{name} must be at least 1, not {value!r}")
        self.shape, self.rows, self.columns = shape, rows, columns
        self._tag_width, self._specials = tag_width, [SpecialValues(listed) for listed in specials]
        super().__init__({
            "i": In(stream.Signature(bitmod_step_layout(shape, rows, columns, tag_width, len(specials)))),
            "special_write": In(1),
            "special_addr": In(2 + ceil_log2(len(specials))),
            "special_value": In(signed(6)),
            "o_valid": Out(1),
            "o_row": Out(range(rows)),
            "o": Out(bitmod_product_layout(shape, columns, tag_width)),
            "busy": Out(1),
            "flushed": Out(1),
            "rejected": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.timing = timing = BitmodTiming()
        step = Signal(self.i.p.shape(), reset_less=True)
        for index, held in enumerate(self._specials):
            m.submodules[f"specials_{index}"] = held
            m.d.comb += [held.write.eq(self.special_write & (self.special_addr[2:] == index)),
                         held.addr.eq(self.special_addr[:2]), held.value.eq(self.special_value)]
        m.d.comb += self.rejected.eq(Cat(held.rejected for held in self._specials).any())
        specials = Signal(self._specials[0].values.shape(), name="special_values")
        m.d.comb += specials.eq(self._specials[0].values)
        with m.Switch(step.special_set):
            for index, held in enumerate(self._specials[1:], 1):
                with m.Case(index):
                    m.d.comb += specials.eq(held.values)
        index, issue, ending = self._issue(m, step, timing)
        weights = self._weights(m, platform, step, index, ending, timing, specials)
        columns = self._pes(m, platform, timing, weights, self._activations(m, step, issue))
        self._drain(m, step, ending, timing, columns)
        return m

    def _issue(self, m: Module, step: data.View, timing: BitmodTiming) -> tuple[Value, Value, Value]:
        """Take steps, count their terms; return the index of the term issued in this cycle, whether one is, and ends a group."""
        occupied, inside_group = Signal(), Signal()
        index = Signal(2)
        gap = Signal(range(self.rows + SCALE_BITS))                 # cycles for which no group may end
        left = Signal(range(self.latency + self.rows + 1))          # cycles until everything is out
        last_index, ending, issue = Signal(), Signal(), Signal()
        m.d.comb += [
            last_index.eq(index == terms_less_one(step.precision)),
            ending.eq(issue & last_index & step.group_last),
            issue.eq(occupied & ~(last_index & step.group_last & (gap != 0))),
            self.i.ready.eq(~occupied | (issue & last_index)),
            self.busy.eq(occupied | (left != 0)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [step.eq(self.i.p), occupied.eq(1)]
        with m.Elif(issue & last_index):
            m.d.sync += occupied.eq(0)
        with m.If(issue):
            m.d.sync += [index.eq(Mux(last_index, 0, index + 1)), inside_group.eq(~ending), left.eq(self.latency + self.rows)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(ending):
            m.d.sync += gap.eq(self.rows + SCALE_BITS - 1)
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)

        valid = Signal()
        first, last = Signal(reset_less=True), Signal(reset_less=True)
        significance = Signal(3, reset_less=True)
        m.d.sync += [valid.eq(issue), first.eq(~inside_group), last.eq(ending),
                     significance.eq(term_significance(step.precision, index))]
        m.d.comb += [timing.valid.eq(valid), timing.first.eq(first), timing.last.eq(last), timing.significance.eq(significance)]
        return index, issue, ending

    def _weights(self, m: Module, platform: Any, step: data.View, index: Value, ending: Value, timing: BitmodTiming,
                 specials: data.View) -> list[WeightColumn]:
        columns = []
        for c in range(self.columns):
            column = WeightColumn()
            m.submodules[f"weights_{c}"] = shared(platform, "bitmod_weight_column", column)
            m.d.comb += [
                column.codes.eq(step.codes[c]), column.precision.eq(step.precision), column.index.eq(index),
                column.special.eq(step.specials[c]), column.specials.eq(specials), column.scale.eq(step.scales[c]),
                column.scale_take.eq(ending), column.scale_load.eq(timing.accumulate.valid & timing.accumulate.last),
                column.scale_step.eq(timing.scale.step),
            ]
            columns.append(column)
        return columns

    def _activations(self, m: Module, step: data.View, issue: Value) -> list[tuple[Signal, Signal]]:
        """Return each row's activations for the two stages of its PEs that need them."""
        found = []
        flushed = Signal(self.rows)
        for r in range(self.rows):
            m.submodules[f"unpack_{r}"] = unpack = ActivationUnpack(self.shape)
            width = unpack.o.shape().size
            held, later = (Signal(width, name=f"{name}_{r}", reset_less=True) for name in ("activations", "lane_activations"))
            m.d.comb += [unpack.words.eq(step.activations[r]), flushed[r].eq(unpack.flushed)]
            with m.If(issue):
                m.d.sync += held.eq(unpack.o)
            m.d.sync += later.eq(held)
            found.append((held, later))
        with m.If(issue & flushed.any()):
            m.d.sync += self.flushed.eq(1)
        return found

    def _pes(self, m: Module, platform: Any, timing: BitmodTiming, weights: list[WeightColumn],
             activations: list[tuple[Signal, Signal]]) -> list[list[BitmodPE]]:
        """Return the PEs, column by column."""
        columns = []
        for c, column in enumerate(weights):
            pes = []
            for r, (held, later) in enumerate(activations):
                pe = BitmodPE(self.shape)
                m.submodules[f"pe_{r}_{c}"] = shared(platform, pe.module_name, pe)
                m.d.comb += [
                    pe.accumulate.eq(timing.accumulate), pe.scale.eq(timing.scale), pe.scale_bit.eq(column.scale_bit),
                    pe.lane_activations.eq(later), pe.lane_terms.eq(column.lane_terms),
                ]
                if self.shape.is_float:
                    m.d.comb += [pe.align.eq(timing.align), pe.activations.eq(held), pe.terms.eq(column.terms)]
                pes.append(pe)
            columns.append(pes)
        return columns

    def _drain(self, m: Module, step: data.View, ending: Value, timing: BitmodTiming, columns: list[list[BitmodPE]]) -> None:
        """Put out the products of a group, row by row."""
        # What is known when a group ends is needed when its scale is done, after the next one may have ended.
        flags = data.StructLayout({"fresh": 1, "last": 1, "integer": 1, "tag": self._tag_width})
        ended, scaled, drained = (Signal(flags, name=f"flags_{name}", reset_less=True) for name in ("ended", "scaled", "drained"))
        inside_result, draining = Signal(), Signal()
        row = Signal(range(self.rows))
        with m.If(ending):
            m.d.sync += [
                inside_result.eq(~step.last), ended.fresh.eq(~inside_result), ended.last.eq(step.last), ended.tag.eq(step.tag),
                ended.integer.eq((step.precision != WeightPrecision.FP4) & (step.precision != WeightPrecision.FP3)),
            ]
        with m.If(timing.scale.first):
            m.d.sync += scaled.eq(ended)
        with m.If(timing.done):
            m.d.sync += [drained.eq(scaled), draining.eq(1), row.eq(0)]
        with m.Elif(draining):
            m.d.sync += row.eq(row + 1)
            with m.If(row == self.rows - 1):
                m.d.sync += draining.eq(0)

        picked = Signal(self.o.shape().size, reset_less=True)
        out = data.View(self.o.shape(), picked)
        m.d.sync += [self.o_valid.eq(draining), self.o_row.eq(row), out.fresh.eq(drained.fresh), out.last.eq(drained.last),
                     out.integer.eq(drained.integer), out.tag.eq(drained.tag)]
        for c, pes in enumerate(columns):
            m.d.sync += out.products[c].eq(Array(pe.product for pe in pes)[row])
            if self.shape.is_float:
                m.d.sync += out.exponents[c].eq(Array(pe.exponent for pe in pes)[row])
        m.d.comb += self.o.eq(picked)
