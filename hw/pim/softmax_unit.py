"""Softmax unit of a PIM channel: scores from the output buffer, weights to the X buffer, outputs scaled in place."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.arith.float_mul import FloatMultiply
from hw.elements import FP32, FloatFormat
from hw.errors import ConfigError
from hw.pim.isa import PimOpcode
from hw.pim.online_softmax import OnlineSoftmax
from hw.pim.state_merger import StateMerger

__all__ = ["SoftmaxUnit", "softmax_command_layout"]

_WORD = 32
_MINUS_INFINITY = 0xFF80_0000


def softmax_command_layout() -> data.StructLayout:
    """Return the layout of a command: one of `SOFTMAX_OPCODES`, its fields; outputs of the head and of another one: first entry,
    and entries of each.
    """
    return data.StructLayout({"op": 6, "cnt": 7, "entry": 8, "slice": 9, "head": 8, "count": 16, "scale": _WORD, "output": 8,
                              "other": 8, "other_output": 8, "entries": 8})


class SoftmaxUnit(wiring.Component):
    """Carries out MVS, SFM, SFO, MVX, MRG, STS and LDS, one after the other, X rows at once.

    MVS: entries, lane 0, times `scale`, become scores. SFM: `count` scores become weights that add up to one. SFO: they become
    weights, (m, l) of the head move, its output is multiplied by α. MVX: the next weights fill slices; beyond the last one
    zeros. MRG: of a head with itself, the output is divided by l; else (m, l) and output become those of both heads' tokens.
    STS, LDS: m and l ↔ lanes 0 and 1 of an entry. The scores that wait are of one head, the weights are those of the last SFM
    or SFO; `misuse` stays 1 after scores of two heads, more than a block has, or an SFM or SFO of others than those that wait.

    An MVS takes 4 cycles and a multiplication for each entry; an SFM or SFO `OnlineSoftmax`'s cycles, an SFO then for each entry
    of the output its lanes, a multiplication and 4; an MVX X + 1 for each slice; an MRG of two heads `StateMerger`'s latency
    and 5, then for each entry its lanes, that latency and 4.

    Parameters
    ----------
    weight : FloatFormat
        Of the weights, which the X buffer holds.
    lanes, rows, slices, entries, heads : int
    scores : int
        Most of a block.

    Members
    -------
    i : In(stream of `softmax_command_layout`)
    done : Out(1), busy : Out(1), misuse : Out(1)
    clear : In({valid: 1, head})
        A head has seen nothing; not while busy.
    x : Out, x_ready : In(1), write : Out, ready : In(1), entry : Out, o : In
        A row of a slice is written in a cycle with `x_ready`. See `XBuffer` and `OutputBuffer`.

    Raises
    ------
    ConfigError
        If a size is below 1.
    """

    def __init__(self, *, weight: FloatFormat, lanes: int, rows: int, slices: int, entries: int, heads: int, scores: int):
        for name, value in (("lanes", lanes), ("rows", rows), ("heads", heads), ("scores", scores)):
            if value < 1:
                raise ConfigError(f"SoftmaxUnit.{name} must be at least 1, not {value!r}")
        self._weight, self._lanes, self._rows, self._heads, self._scores = weight, lanes, rows, heads, scores
        entry = ceil_log2(entries)
        every = data.ArrayLayout(data.ArrayLayout(_WORD, rows), lanes)
        super().__init__({
            "i": In(stream.Signature(softmax_command_layout())), "done": Out(1), "busy": Out(1), "misuse": Out(1),
            "clear": In(wiring.Signature({"valid": Out(1), "head": Out(8)})),
            "x": Out(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)), "row": Out(ceil_log2(rows)),
                                       "data": Out(data.ArrayLayout(weight.bits, lanes))})),
            "x_ready": In(1),
            "write": Out(wiring.Signature({"valid": Out(1), "entry": Out(entry), "lanes": Out(lanes), "data": Out(every)})),
            "ready": In(1), "entry": Out(entry), "o": In(every),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, rows, bits = self._lanes, self._rows, self._weight.bits
        groups = -(-self._scores // lanes)                  # slices of a block's weights
        command, left = Signal(softmax_command_layout()), Signal(7)
        entry, place, row = Signal(8), Signal(9), Signal(range(max(rows, 2)))
        waiting, owner = Signal(range(self._scores + 1)), Signal(8)
        taken, held_weights = Signal(range(2 * groups + 130)), Signal(range(self._scores + 1))
        timer = Signal(6)
        theirs, paired = Signal(8), Signal()                # entry of the other head; its state and entries are read
        mine = Signal(64 * rows)
        held = Signal(data.ArrayLayout(data.ArrayLayout(_WORD, rows), lanes))
        m.submodules.states = states = memory.Memory(shape=64 * rows, depth=self._heads, init=[])
        state_write, state_read = states.write_port(), states.read_port()
        fresh = C(sum(_MINUS_INFINITY << (64 * r + 32) for r in range(rows)), 64 * rows)
        m.d.comb += [
            state_read.addr.eq(Mux(paired, command.other, command.head)), state_read.en.eq(1),
            state_write.addr.eq(Mux(self.clear.valid, self.clear.head, command.head)),
            state_write.en.eq(self.clear.valid), state_write.data.eq(fresh), self.entry.eq(entry),
            self.write.entry.eq(entry), self.write.lanes.eq((1 << lanes) - 1), Value.cast(self.write.data).eq(held),
            self.x.slice.eq(place), self.x.row.eq(row),
        ]
        softmaxes, products, mergers, weight_words = [], [], [], []
        combines = command.op == PimOpcode.SFM
        lane_in, lane_out = Signal(range(lanes + 1)), Signal(range(lanes))
        scaling, dividing, merges, pairs = Signal(), Signal(), Signal(), Signal()
        for r in range(rows):
            m.submodules[f"softmax_{r}"] = softmax = OnlineSoftmax(scores=self._scores, weight=self._weight)
            m.submodules[f"product_of_row_{r}"] = product = FloatMultiply(fmt=FP32, subnormals=True)
            m.submodules[f"weights_{r}"] = words = memory.Memory(shape=data.ArrayLayout(bits, lanes), depth=groups, init=[])
            into, outof = words.write_port(granularity=1), words.read_port()
            old = state_read.data.word_select(r, 64)
            factor = Mux(dividing, softmax.inverse, softmax.alpha)
            m.d.comb += [
                softmax.write.at.eq(waiting), softmax.write.data.eq(Value.cast(product.o)), softmax.count.eq(command.count),
                softmax.combine.eq(combines), softmax.l_old.eq(Mux(combines, 0, old[:32])),
                softmax.m_old.eq(Mux(combines, _MINUS_INFINITY, old[32:])), product.enable.eq(1),
                Value.cast(product.a).eq(Mux(scaling, held[lane_in][r], self.o[0][r])),
                Value.cast(product.b).eq(Mux(scaling, factor, command.scale)),
                into.addr.eq(softmax.weight.at >> ceil_log2(lanes)),
                into.en.eq(softmax.weight.valid << softmax.weight.at[:ceil_log2(lanes)]), outof.addr.eq(taken), outof.en.eq(1),
            ]
            for lane in range(lanes):
                inside = taken * lanes + lane < held_weights
                m.d.comb += into.data[lane].eq(softmax.weight.data)
                weight_words.append((r, lane, Mux(inside, outof.data[lane], 0)))
            softmaxes.append(softmax)
            products.append(product)
            m.submodules[f"merger_{r}"] = merger = StateMerger(lanes=1)
            theirs_l, own = state_read.data.word_select(r, 64), mine.word_select(r, 64)
            m.d.comb += [
                merger.valid.eq(pairs | merges), merger.m_a.eq(own[32:]), merger.m_b.eq(theirs_l[32:]),
                merger.a[0].eq(Mux(pairs, held[lane_in][r], own[:32])),
                merger.b[0].eq(Mux(pairs, self.o[lane_in][r], theirs_l[:32])),
            ]
            mergers.append(merger)
        for r in range(rows):
            with m.If(row == r):
                m.d.comb += [self.x.data[lane].eq(word) for of, lane, word in weight_words if of == r]
        finished, latency = softmaxes[0].done, products[0].latency
        new_states = Cat(Cat(softmax.l, softmax.m) for softmax in softmaxes)
        merged = mergers[0].o_valid

        def done() -> None:
            m.d.comb += self.done.eq(1)
            m.next = "rest"

        with m.FSM(name="unit") as machine:
            with m.State("rest"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [command.eq(self.i.p), left.eq(self.i.p.cnt), timer.eq(0), row.eq(0), lane_in.eq(0), lane_out.eq(0)]
                with m.If(self.i.valid):
                    m.d.sync += [entry.eq(Mux(self.i.p.op == PimOpcode.MVS, self.i.p.entry, self.i.p.output)),
                                 place.eq(self.i.p.slice)]
                    with m.Switch(self.i.p.op):
                        with m.Case(PimOpcode.MVS):
                            with m.If((waiting != 0) & (owner != self.i.p.head)):
                                m.d.sync += self.misuse.eq(1)
                            m.d.sync += owner.eq(self.i.p.head)
                            m.next = "scores"
                        with m.Case(PimOpcode.SFM, PimOpcode.SFO):
                            with m.If((waiting != self.i.p.count) | (owner != self.i.p.head)):
                                m.d.sync += self.misuse.eq(1)
                            m.next = "start"
                        with m.Case(PimOpcode.MVX):
                            m.next = "slice"
                        with m.Case(PimOpcode.STS):
                            m.d.sync += [entry.eq(self.i.p.entry), left.eq(0)]
                            m.next = "state"
                        with m.Case(PimOpcode.LDS):
                            m.d.sync += entry.eq(self.i.p.entry)
                            m.next = "read"
                        with m.Default():
                            m.d.sync += [left.eq(self.i.p.entries - 1), theirs.eq(self.i.p.other_output)]
                            with m.If(self.i.p.head == self.i.p.other):
                                m.d.sync += dividing.eq(1)
                                m.next = "divide"
                            with m.Else():
                                m.next = "state"
            with m.State("scores"):             # an entry is read, multiplied, and put behind the scores
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == latency + 1):
                    with m.If(waiting == self._scores):
                        m.d.sync += self.misuse.eq(1)
                    with m.Else():
                        m.d.comb += [softmax.write.valid.eq(1) for softmax in softmaxes]
                        m.d.sync += waiting.eq(waiting + 1)
                    m.d.sync += [timer.eq(0), entry.eq(entry + 1), left.eq(left - 1)]
                    with m.If(left == 0):
                        done()
            with m.State("start"):              # (m, l) have been read
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == 1):
                    m.d.comb += [softmax.start.eq(1) for softmax in softmaxes]
                    m.d.sync += [waiting.eq(0), taken.eq(0), held_weights.eq(command.count), timer.eq(0)]
                    m.next = "block"
            with m.State("block"):
                with m.If(finished):
                    m.next = "keep"
                    with m.If(combines):
                        done()
            with m.State("keep"):
                m.d.comb += [state_write.en.eq(1), state_write.data.eq(new_states)]
                m.d.sync += [left.eq(command.entries - 1), dividing.eq(0)]
                m.next = "read"
            with m.State("divide"):             # 1 / l
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == softmaxes[0].inverse_latency + 1):
                    m.d.sync += timer.eq(0)
                    m.next = "read"
            with m.State("read"):
                m.next = "take"
            with m.State("take"):
                m.d.sync += [held.eq(self.o), lane_in.eq(0), timer.eq(0)]
                m.next = "scale"
                with m.If(paired):
                    m.d.comb += self.entry.eq(theirs)
                    m.next = "pair"
                with m.If(command.op == PimOpcode.LDS):
                    m.d.comb += [state_write.en.eq(1),
                                 state_write.data.eq(Cat(Cat(self.o[1][r], self.o[0][r]) for r in range(rows)))]
                    done()
            with m.State("state"):              # (m, l) have been read; of MRG those of the other head come next
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == 1):
                    m.d.sync += [mine.eq(state_read.data), timer.eq(0), paired.eq(1)]
                    m.next = "other"
                    with m.If(command.op == PimOpcode.STS):
                        m.d.sync += [held.eq(0), paired.eq(0)]
                        for r in range(rows):
                            m.d.sync += Cat(held[1][r], held[0][r]).eq(state_read.data.word_select(r, 64))
                        m.next = "write"
            with m.State("other"):
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == 1):
                    m.d.comb += merges.eq(1)
                    m.next = "merge"
            with m.State("merge"):
                with m.If(merged):
                    m.d.comb += [state_write.en.eq(1),
                                 state_write.data.eq(Cat(Cat(merger.o[0], merger.m) for merger in mergers))]
                    m.next = "read"
            with m.State("pair"):               # both entries, lane by lane
                m.d.comb += [self.entry.eq(theirs), pairs.eq(lane_in != lanes)]
                m.d.sync += lane_in.eq(Mux(lane_in == lanes, lane_in, lane_in + 1))
                with m.If(merged):
                    m.d.sync += lane_out.eq(lane_out + 1)
                    for lane in range(lanes):
                        with m.If(lane_out == lane):
                            m.d.sync += [held[lane][r].eq(mergers[r].o[0]) for r in range(rows)]
                    with m.If(lane_out == lanes - 1):
                        m.d.sync += [lane_out.eq(0), theirs.eq(theirs + 1)]
                        m.next = "write"
            with m.State("scale"):              # lane by lane, each back in its place
                m.d.comb += scaling.eq(1)
                m.d.sync += [timer.eq(timer + 1), lane_in.eq(Mux(lane_in == lanes - 1, lane_in, lane_in + 1))]
                with m.If(timer >= latency):
                    m.d.sync += lane_out.eq(lane_out + 1)
                    for lane in range(lanes):
                        with m.If(lane_out == lane):
                            m.d.sync += [held[lane][r].eq(Value.cast(products[r].o)) for r in range(rows)]
                with m.If(timer == latency + lanes - 1):
                    m.d.sync += lane_out.eq(0)
                    m.next = "write"
            with m.State("write"):
                m.d.comb += self.write.valid.eq(1)
                with m.If(self.ready):
                    m.d.sync += [entry.eq(entry + 1), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.d.sync += [dividing.eq(0), paired.eq(0)]
                        done()
                    with m.Else():
                        m.next = "read"
            with m.State("slice"):              # weights are read
                m.d.sync += row.eq(0)
                m.next = "rows"
            with m.State("rows"):
                m.d.comb += self.x.valid.eq(1)
                with m.If(self.x_ready):
                    m.d.sync += row.eq(row + 1)
                with m.If(self.x_ready & (row == rows - 1)):
                    m.d.sync += [taken.eq(taken + 1), place.eq(place + 1), left.eq(left - 1)]
                    with m.If(left == 0):
                        done()
                    with m.Else():
                        m.next = "slice"
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m
