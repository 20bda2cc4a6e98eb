"""MAC array: lanes × X multipliers, an adder for each, accumulators in rotation."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.arith.float_add import FloatAdd
from hw.arith.float_convert import FloatConvert
from hw.elements import FP32, FloatFormat
from hw.errors import ConfigError
from hw.pim.multiplier import ACC_WIDTH, Multiplier, Operand
from hw.pim.saturating_add import SaturatingAdd
from hw.share import shared

__all__ = ["ADDER_LATENCY", "MacArray", "adder", "beat_layout"]

Adder = FloatAdd | SaturatingAdd
_MINUS_ZERO = 1 << 31
ADDER_LATENCY = {"float32": FloatAdd.latency, "int32": SaturatingAdd.latency}
"""Accumulator words → cycles of an addition."""


def adder(acc: str) -> Adder:
    """Return an adder of accumulator words."""
    return FloatAdd(fmt=FP32, subnormals=True) if acc == "float32" else SaturatingAdd(ACC_WIDTH)


def beat_layout(*, slots: int, groups: int, entries: int) -> data.StructLayout:
    """Return the layout of what goes through the array beside the operands of a beat.

    bcast: mode; slot, group: which accumulator; fresh: it starts from +0; close: the output is complete; filled: accumulators
    that hold something, less one; entry: where the output goes; add: onto what is there; elementwise
    (with bcast): nothing is accumulated, `sums`: the addend is added.
    """
    return data.StructLayout({"bcast": 1, "slot": ceil_log2(slots), "group": ceil_log2(groups), "fresh": 1, "close": 1,
                              "filled": ceil_log2(slots), "entry": ceil_log2(entries), "add": 1, "elementwise": 1, "sums": 1})


class MacArray(wiring.Component):
    """Multiplies a beat of weights with X rows, and adds.

    TREE: the products of a row and a segment (lanes / segments neighbours) are added in a tree, neighbours first, and the sum
    goes to one of the segment's `slots` accumulators in rotation. With `close` these are merged, again neighbours first, those
    that hold nothing as +0, and leave as `tree`. BCAST: each product goes to an accumulator of its own lane, of a group and a
    slot. In TREE the adders are the trees and an accumulator of each segment, in BCAST they all are accumulators: beats of the
    two modes must not be in the array at once.

    Lane by lane (`elementwise`): products of the first segment alone, or with the addend, leave rounded to elements of X; for
    that there is a conversion each way beside each of its adders.

    Between BCAST outputs, `step` runs the same adders over the accumulators: a pair of them, those of two segments, or one and a
    word from outside.

    Initiation interval 1. Beats whose slot and group are the same must be at least `latency_add` + 1 cycles apart; with that many
    slots all may follow each other.

    Parameters
    ----------
    weights, xs : tuple of Operand
        See `Multiplier`.
    acc : str
        "float32" or "int32".
    lanes : int
        A power of two.
    rows : int
        X.
    slots : int
        A power of two, at least 2.
    groups : int
        Of BCAST outputs.
    segments : int
        A power of two that leaves each segment at least 2 lanes.
    entries : int
        Of the output buffer, that `beat.entry` can name.
    elementwise : bool
        Built for that: only with "float32", and floats as X.

    Members
    -------
    valid : In(1), beat : In(`beat_layout`), weight : In(lanes), x : In(rows × lanes), select : In
        A beat; codes.
    zero_point, special : In(segments)
        Of the weights of a segment in that beat.
    tree_valid : Out(1), tree_entry, tree_add : Out, tree : Out(segments × rows × 32)
        Complete outputs of TREE.
    step : In(1), step_a, step_b, step_to : In(accumulator), step_a_on, step_b_on, step_outside : In(1)
        accumulator `step_to` ← a + b, of each lane and row, where a and b are +0 unless on; b is `outside` with `step_outside`.
    step_across : In
        n above 0: b is accumulator `step_a` of the segment 2ⁿ⁻¹ further on.
    outside : In(width × rows × 32)
        For the first segment, of `width` lanes.
    read : In(accumulator), bcast : Out(lanes × rows × 32)
        That accumulator, in the same cycle.
    addend : In(rows × width), elements : Out(rows × width)
        Codes of X; what an elementwise beat adds, with it, and what comes of it, `latency_elementwise` cycles later.
    empty : Out(1)
        No beat and no step is on its way.
    invalid : Out(1)
        A product of a NaN as an integer; a pulse.

    Attributes
    ----------
    latency_multiply, latency_add, latency_elementwise : int

    Raises
    ------
    ConfigError
        If a size is none that can be built.
    """

    def __init__(self, *, weights: tuple[Operand, ...], xs: tuple[Operand, ...], acc: str, lanes: int, rows: int, slots: int,
                 groups: int, entries: int, segments: int = 1, elementwise: bool = False):
        self.check(acc=acc, lanes=lanes, rows=rows, slots=slots, groups=groups, entries=entries, segments=segments)
        self.latency_multiply, self.latency_add = Multiplier.LATENCY[acc], ADDER_LATENCY[acc]
        self._weights, self._xs, self._acc, self._elementwise = weights, xs, acc, elementwise
        self._round_latency = 3                             # of a float32 to an element of X
        self.latency_elementwise = self.latency_multiply + self.latency_add + self._round_latency
        self.lanes, self.rows, self.slots, self.groups, self.segments = lanes, rows, slots, groups, segments
        self.width = width = lanes // segments
        self._beat = beat_layout(slots=slots, groups=groups, entries=entries)
        place = ceil_log2(slots * groups)
        word = ACC_WIDTH
        per_row = data.ArrayLayout(word, rows)
        every = data.ArrayLayout(per_row, lanes)
        codes = data.ArrayLayout(data.ArrayLayout(xs[0].element.bits, lanes), rows)
        elements = data.ArrayLayout(data.ArrayLayout(xs[0].element.bits, width), rows)
        super().__init__({
            "valid": In(1), "beat": In(self._beat),
            "weight": In(data.ArrayLayout(weights[0].element.bits, lanes)),
            "x": In(codes),
            "select": In(range(max(2, len(weights)))),
            "zero_point": In(data.ArrayLayout(6, segments)), "special": In(data.ArrayLayout(2, segments)),
            "tree_valid": Out(1), "tree_entry": Out(ceil_log2(entries)), "tree_add": Out(1),
            "tree": Out(data.ArrayLayout(per_row, segments)),
            "step": In(1), "step_a": In(place), "step_b": In(place), "step_to": In(place),
            **({"addend": In(elements), "elements": Out(elements)} if elementwise else {}),
            "step_a_on": In(1), "step_b_on": In(1), "step_outside": In(1), "outside": In(data.ArrayLayout(per_row, width)),
            "step_across": In(range(ceil_log2(segments) + 1)),
            "read": In(place), "bcast": Out(every), "empty": Out(1), "invalid": Out(1),
        })

    @staticmethod
    def check(*, acc: str, lanes: int, rows: int, slots: int, groups: int, entries: int, segments: int = 1) -> None:
        """Raise what the constructor does."""
        for name, value in (("lanes", lanes), ("slots", slots)):
            if value < 2 or value & (value - 1):
                raise ConfigError(f"MacArray.{name} must be a power of two of at least 2, not {value!r}")
        for name, value in (("rows", rows), ("groups", groups), ("entries", entries)):
            if value < 1:
                raise ConfigError(f"MacArray.{name} must be at least 1, not {value!r}")
        if segments < 1 or segments & (segments - 1) or 2 * segments > lanes:
            raise ConfigError(f"MacArray.segments must be a power of two of at most {lanes // 2}, not {segments!r}")
        if acc not in ADDER_LATENCY:
            raise ConfigError(f"MacArray.acc must be one of {', '.join(ADDER_LATENCY)}, not {acc!r}")
        if slots <= ADDER_LATENCY[acc]:
            raise ConfigError(f"MacArray.slots must be more than the {ADDER_LATENCY[acc]} cycles of an addition, not {slots!r}")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slots = self.slots
        levels, la, lm = ceil_log2(self.width), self.latency_add, self.latency_multiply

        # What a beat is, on its way: after the products, the tree, the accumulation.
        deep = lm + levels * la + la
        travel = [(self.valid, self.beat)]
        for stage in range(1, deep + 1):
            valid, beat = Signal(name=f"valid_{stage}"), Signal(self._beat, name=f"beat_{stage}", reset_less=True)
            m.d.sync += [valid.eq(travel[-1][0]), beat.eq(travel[-1][1])]
            travel.append((valid, beat))
        products, root, summed = travel[lm], travel[lm + levels * la], travel[deep]
        spread = travel[lm + la]                            # where a BCAST beat leaves its adder

        # A step, on its way: the adders take it in the cycle in which it comes.
        steps = [(self.step, self.step_to)]
        for stage in range(1, la + 1):
            valid, to = Signal(name=f"step_{stage}"), Signal.like(self.step_to, name=f"step_to_{stage}", reset_less=True)
            m.d.sync += [valid.eq(steps[-1][0]), to.eq(steps[-1][1])]
            steps.append((valid, to))

        # BCAST accumulators: all lanes and rows have the same address, so one memory. Its first port reads what a BCAST beat adds
        # to, a step's first operand, or what is asked for from outside.
        m.submodules.accumulators = words = memory.Memory(shape=self.bcast.shape(), depth=slots * self.groups, init=[])
        keep, first, second = words.write_port(), words.read_port(domain="comb"), words.read_port(domain="comb")
        at, into, write = Signal.like(self.step_a), Signal.like(self.step_a), Signal()
        broadcast = products[0] & products[1].bcast
        m.d.comb += [
            at.eq(Mux(self.step, self.step_a, Mux(broadcast, products[1].group * slots + products[1].slot, self.read))),
            first.addr.eq(at), second.addr.eq(self.step_b), keep.addr.eq(into), keep.en.eq(write), self.bcast.eq(first.data),
            into.eq(Mux(steps[la][0], steps[la][1], spread[1].group * slots + spread[1].slot)),
            write.eq(steps[la][0] | (spread[0] & spread[1].bcast & ~spread[1].elementwise)),
        ]
        stray, sums = [], []
        for row in range(self.rows):
            invalid, row_sums = self._row(m, platform, row, products, root, summed, first.data, second.data)
            stray.append(invalid)
            sums.append(row_sums)
        # At once: Amaranth goes through all bits of the word for each statement.
        m.d.comb += Value.cast(keep.data).eq(Cat(sums[row][lane] for lane in range(self.lanes) for row in range(self.rows)))
        m.d.comb += self.invalid.eq(Cat(stray).any() & products[0])

        # Merged accumulators of TREE leave log2(slots) additions after the last one.
        done = [(summed[0] & ~summed[1].bcast & summed[1].close, summed[1])]
        for stage in range(1 + ceil_log2(slots) * la):
            valid, beat = Signal(name=f"done_{stage}"), Signal(self._beat, name=f"done_beat_{stage}", reset_less=True)
            m.d.sync += [valid.eq(done[-1][0]), beat.eq(done[-1][1])]
            done.append((valid, beat))
        # A BCAST beat is done when it has left its adder.
        beats = []
        for stage, (valid, beat) in enumerate(travel):
            rounding = beat.elementwise & (stage <= lm + la + self._round_latency)
            beats.append(valid if stage <= lm + la else valid & (~beat.bcast | rounding))
        on_the_way = [*beats, *(valid for valid, _ in (*steps, *done))]
        m.d.comb += [self.empty.eq(~Cat(on_the_way).any()), self.tree_valid.eq(done[-1][0]),
                     self.tree_entry.eq(done[-1][1].entry), self.tree_add.eq(done[-1][1].add)]
        return m

    def _row(self, m: Module, platform: Any, row: int, beat: Any, root: Any, summed: Any, accumulated: Any,
             second: Any) -> tuple[Value, list[Value]]:
        """Build one row of X; return whether a product came of a NaN, and what the adders make."""
        lanes, slots, acc = self.lanes, self.slots, self._acc
        zero = C(0, ACC_WIDTH)
        adders, products, stray = [], [], []
        for lane in range(lanes):
            multiplier = Multiplier(weights=self._weights, xs=self._xs, acc=acc)
            m.submodules[f"multiplier_{row}_{lane}"] = shared(platform, f"pim_multiplier_{self._name()}", multiplier)
            m.d.comb += [multiplier.weight.eq(self.weight[lane]), multiplier.x.eq(self.x[row][lane]),
                         multiplier.select.eq(self.select), multiplier.zero_point.eq(self.zero_point[lane // self.width]),
                         multiplier.special.eq(self.special[lane // self.width])]
            products.append(multiplier.o)
            stray.append(multiplier.invalid)
            adders.append(self._adder(m, platform, f"adder_{row}_{lane}"))

        # TREE accumulators of the row.
        trees = [[Signal(ACC_WIDTH, name=f"tree_{row}_{index}" + (f"_{segment}" if segment else ""), reset_less=True)
                  for index in range(slots)] for segment in range(self.segments)]
        for index in range(slots):
            with m.If(summed[0] & ~summed[1].bcast & (summed[1].slot == index)):
                m.d.sync += [tree[index].eq(_bits(node.o)) for tree, node in zip(trees, adders, strict=False)]

        # A heap: adder k from lanes / 2 on adds products, those before it two adders each, down to the segments' roots, of which
        # the first is as many as there are segments. The adders that are left below are the segments' accumulators.
        for lane, node in enumerate(adders):
            if lane < self.segments:
                a, b = _bits(adders[self.segments + lane].o), Mux(root[1].fresh, zero, Array(trees[lane])[root[1].slot])
            elif lane >= lanes // 2:
                first = 2 * (lane - lanes // 2)
                a, b = products[first], products[first + 1]
            else:
                a, b = _bits(adders[2 * lane].o), _bits(adders[2 * lane + 1].o)
            broadcast = beat[0] & beat[1].bcast
            held = accumulated[lane][row]
            own = Mux(beat[1].fresh, zero, held)
            if self._elementwise and lane < self.width:
                own = Mux(beat[1].elementwise, self._beside(m, platform, row, lane, beat[1].sums, node), own)
            m.d.comb += [
                _eq(node.a, Mux(self.step, Mux(self.step_a_on, held, zero), Mux(broadcast, products[lane], a))),
                _eq(node.b, Mux(self.step, self._step(row, lane, accumulated, second), Mux(broadcast, own, b))),
            ]

        # The merge of the TREE accumulators: those that hold nothing are +0.
        filled = Signal.like(summed[1].filled, name=f"filled_{row}")
        m.d.sync += filled.eq(summed[1].filled)
        for segment, tree in enumerate(trees):
            values: list[Value] = [Mux(filled >= index, word, zero) if index else word for index, word in enumerate(tree)]
            level = 0
            while len(values) > 1:
                level += 1
                merged = []
                for index in range(len(values) // 2):
                    name = f"merge_{row}_{level}_{index}" + (f"_{segment}" if segment else "")
                    node = self._adder(m, platform, name)
                    m.d.comb += [_eq(node.a, values[2 * index]), _eq(node.b, values[2 * index + 1])]
                    merged.append(_bits(node.o))
                values = merged
            m.d.comb += self.tree[segment][row].eq(values[0])
        return Cat(stray).any(), [_bits(node.o) for node in adders]

    def _step(self, row: int, lane: int, accumulated: Any, second: Any) -> Value:
        """Return the second operand of a lane's step."""
        zero = C(0, ACC_WIDTH)
        word = Mux(self.step_b_on, second[lane][row], zero)
        for number in range(1, ceil_log2(self.segments) + 1):       # a segment that has a partner so far on
            further = self.width << (number - 1)
            if lane // further % 2 == 0:
                word = Mux(self.step_across == number, accumulated[lane + further][row], word)
        return Mux(self.step_outside, self.outside[lane][row], word) if lane < self.width else word

    def _beside(self, m: Module, platform: Any, row: int, lane: int, sums: Value, node: Adder) -> Value:
        """Build the conversions of an adder; return what it adds to a product: the addend, or what changes nothing."""
        element = self._xs[0].element
        assert isinstance(element, FloatFormat)
        widen, narrow = FloatConvert(source=element, target=FP32), FloatConvert(source=FP32, target=element)
        assert widen.latency == self.latency_multiply
        assert narrow.latency == self._round_latency
        for name, block in (("widen", widen), ("narrow", narrow)):
            m.submodules[f"{name}_{row}_{lane}"] = shared(platform, f"pim_{name}_{element.name}", block)
            m.d.comb += block.enable.eq(1)
        m.d.comb += [_eq(widen.i, self.addend[row][lane]), _eq(narrow.i, _bits(node.o)),
                     self.elements[row][lane].eq(_bits(narrow.o))]
        return Mux(sums, _bits(widen.o), C(_MINUS_ZERO, ACC_WIDTH))

    def _adder(self, m: Module, platform: Any, name: str) -> Adder:
        node = adder(self._acc)
        m.submodules[name] = shared(platform, f"pim_adder_{self._acc}", node)
        m.d.comb += node.enable.eq(1)
        return node

    def _name(self) -> str:
        """Return the part of a module's name that says what it multiplies."""
        ways = [f"{weight.element.name}_{x.element.name}" for weight, x in zip(self._weights, self._xs, strict=True)]
        return "_".join((*ways, self._acc))


def _bits(word: Any) -> Value:
    return Value.cast(word).as_unsigned()


def _eq(port: Any, value: Value) -> Any:
    return Value.cast(port).eq(value)
