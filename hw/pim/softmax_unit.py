"""Softmax unit of a PIM channel: scores from the output buffer, weights to the X buffer, outputs scaled in place."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.elements import FloatFormat
from hw.errors import ConfigError
from hw.pim.head_states import HeadStates, state_layout
from hw.pim.isa import PimOpcode
from hw.pim.online_softmax import OnlineSoftmax
from hw.pim.output_walk import OutputWalk
from hw.pim.state_merger import StateMerger
from hw.share import shared

__all__ = ["SoftmaxUnit", "softmax_command_layout"]

_WORD = 32
_MINUS_INFINITY = 0xFF80_0000
_WALKS = (PimOpcode.MVS, PimOpcode.SFO, PimOpcode.MRG, PimOpcode.LDS)


def softmax_command_layout() -> data.StructLayout:
    """Return the layout of a command: one of `hw.pim.units.SOFTMAX_OPCODES`, its fields; outputs of the head and of another one:
    first entry, and entries of each.
    """
    return data.StructLayout({"op": 6, "cnt": 7, "entry": 8, "slice": 9, "head": 8, "count": 16, "scale": _WORD, "output": 8,
                              "other": 8, "other_output": 8, "entries": 8})


class SoftmaxUnit(wiring.Component):
    """Carries out MVS, SFM, SFO, MVX, MRG, STS and LDS, one after the other, X rows at once.

    MVS: of each entry the first lanes, `together` of them, times `scale`, become scores. SFM: the `count` scores that wait (what
    is behind them in the last entry does not count) become weights that add up to one. SFO: they become weights, (m, l) of the
    head move, its output is multiplied by α. MVX: the next weights fill slices; beyond the last one zeros. MRG: of a head with
    itself, the output is divided by l; else (m, l) and output become those of both heads' tokens. STS, LDS: m and l ↔ lanes 0
    and 1 of an entry. The scores that wait are of one head, the weights are those of the last SFM or SFO; `misuse` stays 1 after
    scores of two heads, more than a block has, or an SFM or SFO of others than those that wait.

    Cycles from a command to the next are those of `sw.pim.softmax_times`: an entry of MVS a cycle, `sm_lanes` scores of a row a
    cycle in each pass of SFM and SFO, `sm_lanes` words of an output in a cycle, in two if they are merged, beside the passes of
    SFO; a slice of a row in a cycle. An SFO is done when weights and output are; its l comes later, and what needs it waits.

    Parameters
    ----------
    weight : FloatFormat
        Of the weights, which the X buffer holds.
    lanes, rows, slices, entries, heads : int
    scores : int
        Most of a block.
    sm_lanes : int
        Scores, and words of outputs, of each row in a cycle, a power of two of at most `lanes`.
    together : int
        Scores of each row in an entry, a power of two of at most `sm_lanes`.

    Members
    -------
    i : In(stream of `softmax_command_layout`)
    done : Out(1), busy : Out(1), misuse : Out(1)
    clear : In({valid: 1, head})
        A head has seen nothing, and its scores that wait are dropped; not while busy.
    restart : In(1)
        All scores that wait are dropped; not while busy.
    x : Out({valid: 1, slice, row, data: lanes × code}), x_ready : In(1)
        One row of a slice of the X buffer, written with `x_ready`.
    write, ready, entry, o : see `OutputBuffer`
    readable : In(1)
        `entry` is read in this cycle.

    Raises
    ------
    ConfigError
        If a size is none that can be built.
    """

    def __init__(self, *, weight: FloatFormat, lanes: int, rows: int, slices: int, entries: int, heads: int, scores: int,
                 sm_lanes: int = 1, together: int = 1):
        for name, value in (("lanes", lanes), ("rows", rows), ("slices", slices), ("entries", entries), ("heads", heads),
                            ("scores", scores)):
            if value < 1:
                raise ConfigError(f"SoftmaxUnit.{name} must be at least 1, not {value!r}")
        if lanes < 2 or lanes & (lanes - 1):
            raise ConfigError(f"SoftmaxUnit.lanes must be a power of two of at least 2, not {lanes!r}")
        for name, value, most in (("sm_lanes", sm_lanes, lanes), ("together", together, sm_lanes)):
            if value < 1 or value & (value - 1) or value > most:
                raise ConfigError(f"SoftmaxUnit.{name} must be a power of two of at most {most}, not {value!r}")
        self._weight, self._lanes, self._rows, self._heads, self._scores = weight, lanes, rows, heads, scores
        self._width, self._together = sm_lanes, together
        entry = ceil_log2(entries)
        every = data.ArrayLayout(data.ArrayLayout(_WORD, rows), lanes)
        super().__init__({
            "i": In(stream.Signature(softmax_command_layout())), "done": Out(1), "busy": Out(1), "misuse": Out(1),
            "clear": In(wiring.Signature({"valid": Out(1), "head": Out(8)})), "restart": In(1),
            "x": Out(wiring.Signature({"valid": Out(1), "slice": Out(ceil_log2(slices)), "row": Out(ceil_log2(rows)),
                                       "data": Out(data.ArrayLayout(weight.bits, lanes))})),
            "x_ready": In(1),
            "write": Out(wiring.Signature({"valid": Out(1), "entry": Out(entry), "lanes": Out(lanes), "data": Out(every)})),
            "ready": In(1), "entry": Out(entry), "o": In(every), "readable": In(1, init=1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, rows, width, together = self._lanes, self._rows, self._width, self._together
        most = -(-self._scores // together)
        command, new, resting = Signal(softmax_command_layout()), self.i.p, Signal()
        owner, waiting = Signal(8), Signal(range(most + 1))     # head, and entries, of the scores that wait
        moves, merging = command.op == PimOpcode.MVS, Signal()
        drops = self.restart | (self.clear.valid & (self.clear.head == owner))
        other, mine = Signal(), Signal(data.ArrayLayout(state_layout(), rows))
        m.submodules.head_states = states = HeadStates(heads=self._heads, rows=rows)
        m.submodules.walk = walk = OutputWalk(lanes=lanes, width=width)
        wiring.connect(m, wiring.flipped(self.clear), states.clear)
        puts_state, writes_state, merges, scaling, merged = Signal(), Signal(), Signal(), Signal(), Signal()
        one_entry = (new.op == PimOpcode.MVS) | (new.op == PimOpcode.LDS)
        is_pair = (new.op == PimOpcode.MRG) & (new.head != new.other)
        m.d.comb += [
            states.head.eq(Mux(other, command.other, Mux(resting, new.head, command.head))), states.to.eq(command.head),
            states.put.eq(puts_state),
            walk.start.eq(self.i.valid & resting & Cat(new.op == op for op in _WALKS).any()),
            walk.first.eq(Mux(one_entry, new.entry, new.output)),
            walk.last.eq(Mux(new.op == PimOpcode.MVS, new.cnt, Mux(one_entry, 0, new.entries - 1))), walk.whole.eq(one_entry),
            walk.paired.eq(is_pair), walk.offset.eq(new.other_output - new.output), walk.readable.eq(self.readable),
            walk.ready.eq(self.ready), self.entry.eq(walk.entry), self.write.valid.eq(walk.lands | writes_state),
            self.write.entry.eq(Mux(writes_state, command.entry, walk.to)),
            self.write.lanes.eq(Mux(writes_state, ~C(0, lanes), walk.to_lanes)),
        ]

        # Rows: their softmax, whose multipliers scale scores and outputs, their merger, and memory of weights.
        taken, next_taken = (Signal(range(2 * -(-self._scores // lanes) + 130), name=name) for name in ("taken", "next_taken"))
        moved, row = Signal(), Signal(range(max(rows, 2)))
        softmaxes, mergers, weights = [], [], []
        for r in range(rows):
            softmax = OnlineSoftmax(scores=self._scores, weight=self._weight, lanes=width, together=together)
            m.submodules[f"softmax_{r}"] = shared(platform, f"pim_online_softmax_{self._weight.name}_{width}", softmax)
            merger = StateMerger(lanes=width)
            m.submodules[f"merger_{r}"] = shared(platform, f"pim_state_merger_{width}", merger)
            words = [Array(self.o[lane][r] for lane in range(first, lanes, width))[walk.beat] for first in range(width)]
            old, own, all_at_once = states.o[r], mine[r], command.op == PimOpcode.SFM
            m.d.comb += [
                softmax.write.at.eq(waiting), softmax.write.valid.eq(moved & (waiting != most)),
                softmax.drop.eq(drops), softmax.count.eq(command.count),
                softmax.combine.eq(all_at_once), softmax.l_old.eq(Mux(all_at_once, 0, old.l)),
                softmax.m_old.eq(Mux(all_at_once, _MINUS_INFINITY, old.m)), softmax.enable.eq(walk.advance),
                softmax.b.eq(Mux(moves, command.scale, Mux(command.op == PimOpcode.MRG, softmax.inverse, softmax.alpha))),
                merger.enable.eq(walk.advance), merger.valid.eq(merges | (walk.takes & walk.second)), merger.m_a.eq(own.m),
                merger.m_b.eq(old.m), states.late_data[r].l.eq(softmax.l), states.late_data[r].m.eq(softmax.m),
            ]
            for lane, word in enumerate(words):
                held = Signal(_WORD, name=f"held_{r}_{lane}")
                with m.If(walk.takes & ~walk.second):
                    m.d.sync += held.eq(word)
                m.d.comb += [
                    softmax.a[lane].eq(Mux(moves, self.o[lane][r], word)),
                    merger.a[lane].eq(Mux(merges, own.l if lane == 0 else 0, held)),
                    merger.b[lane].eq(Mux(merges, old.l if lane == 0 else 0, word)),
                ]
            for lane in range(together):
                m.d.comb += softmax.write.data[lane].eq(softmax.product[lane])
            for lane in range(lanes):
                result = Mux(merging, merger.o[lane % width], softmax.product[lane % width])
                m.d.comb += self.write.data[lane][r].eq(Mux(writes_state, (old.m, old.l)[lane] if lane < 2 else 0, result))
            loads = command.op == PimOpcode.LDS
            m.d.comb += [states.data[r].m.eq(Mux(loads, self.o[0][r], merger.m)),
                         states.data[r].l.eq(Mux(loads, self.o[1][r], merger.o[0]))]
            weights.append(self._weights(m, r, softmax, next_taken))
            softmaxes.append(softmax)
            mergers.append(merger)
        first, pairs = softmaxes[0], mergers[0]
        m.d.comb += states.late.eq(first.summed)

        # Products on their way; scores go into the block, other results back to where they come from.
        flags = Cat(walk.takes & ~merging & (moves | scaling), walk.ends)
        for stage in range(first.product_latency):      # a reset takes back what is on its way
            later = Signal(2, name=f"product_{stage}")
            with m.If(walk.advance):
                m.d.sync += later.eq(flags)
            flags = later
        m.d.comb += [moved.eq(flags[0] & moves), walk.go.eq(moves | scaling),
                     walk.lands.eq(Mux(merging, pairs.o_valid & merged, flags[0] & ~moves))]
        with m.If(moved & (waiting == most)):
            m.d.sync += self.misuse.eq(1)
        with m.Elif(moved):
            m.d.sync += waiting.eq(waiting + 1)

        m.d.comb += [self.x.slice.eq(command.slice), self.x.row.eq(row), next_taken.eq(taken)]
        m.d.sync += taken.eq(next_taken)
        held_weights = Signal(range(self._scores + 1))
        for r in range(rows):
            with m.If(row == r):
                m.d.comb += [self.x.data[lane].eq(Mux(taken * lanes + lane < held_weights, weights[r][lane], 0))
                             for lane in range(lanes)]

        timer, there, stored = Signal(range(first.inverse_latency)), Signal(), Signal()
        with m.FSM(name="unit") as machine:

            def done() -> None:
                m.d.comb += self.done.eq(1)
                m.d.sync += [scaling.eq(0), merging.eq(0), other.eq(0)]
                m.next = "rest"

            with m.State("rest"):
                m.d.comb += [self.i.ready.eq(1), resting.eq(1)]
                m.d.sync += [timer.eq(0), row.eq(0), merged.eq(0), there.eq(0), stored.eq(0)]
                with m.If(drops):
                    m.d.sync += waiting.eq(0)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(new)
                    m.next = "wait"
                    with m.If(~states.pending):
                        m.next = "start"
                    with m.Switch(new.op):
                        with m.Case(PimOpcode.MVS):
                            m.d.sync += [owner.eq(new.head), self.misuse.eq(self.misuse | ((waiting != 0) & (owner != new.head)))]
                            m.next = "scores"
                        with m.Case(PimOpcode.SFM, PimOpcode.SFO):
                            entries = (new.count + (together - 1)) >> ceil_log2(together)
                            m.d.sync += self.misuse.eq(self.misuse | (waiting != entries) | (owner != new.head))
                        with m.Case(PimOpcode.MVX):
                            m.next = "slices"
            with m.State("scores"):
                with m.If(moved & flags[1]):
                    done()
            with m.State("wait"):
                with m.If(~states.pending):
                    m.next = "start"
            with m.State("start"):                      # (m, l) have been read
                with m.Switch(command.op):
                    with m.Case(PimOpcode.SFM, PimOpcode.SFO):
                        m.d.comb += [softmax.start.eq(1) for softmax in softmaxes]
                        m.d.comb += states.owed.eq(command.op == PimOpcode.SFO)
                        m.d.sync += [waiting.eq(0), taken.eq(0), held_weights.eq(command.count)]
                        m.next = "block"
                    with m.Case(PimOpcode.STS):
                        m.d.comb += writes_state.eq(1)
                        with m.If(self.ready):
                            done()
                    with m.Case(PimOpcode.LDS):
                        m.d.comb += walk.go.eq(1)
                        with m.If(walk.takes):
                            m.d.comb += puts_state.eq(1)
                            done()
                    with m.Default():
                        m.d.sync += mine.eq(states.o)
                        with m.If(command.head == command.other):
                            m.next = "divide"
                        with m.Else():
                            m.d.sync += [other.eq(1), merging.eq(1)]
                            m.next = "other"
            with m.State("block"):
                m.d.sync += [scaling.eq(scaling | (first.scalable & (command.op == PimOpcode.SFO))), there.eq(there | first.done),
                             stored.eq(stored | walk.done)]
                with m.If((there | first.done) & (stored | walk.done | (command.op == PimOpcode.SFM))):
                    done()
            with m.State("divide"):                     # 1 / l
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == first.inverse_latency - 2):
                    m.d.sync += scaling.eq(1)
                    m.next = "output"
            with m.State("other"):
                m.next = "merge"
            with m.State("merge"):                      # (m, l) of the other head have been read
                m.d.comb += merges.eq(1)
                m.d.sync += scaling.eq(1)
                m.next = "output"
            with m.State("output"):
                with m.If(merging & pairs.o_valid & ~merged):
                    m.d.comb += puts_state.eq(1)
                    m.d.sync += merged.eq(1)
                with m.If(walk.done):
                    done()
            with m.State("slices"):
                m.d.comb += self.x.valid.eq(1)
                with m.If(self.x_ready):
                    m.d.sync += row.eq(row + 1)
                with m.If(self.x_ready & (row == rows - 1)):
                    m.d.comb += next_taken.eq(taken + 1)
                    m.d.sync += [command.slice.eq(command.slice + 1), command.cnt.eq(command.cnt - 1), row.eq(0)]
                    with m.If(command.cnt == 0):
                        done()
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m

    def _weights(self, m: Module, row: int, softmax: OnlineSoftmax, slice_: Value) -> Any:
        """Keep a row's weights; return those of the slice that is read, a cycle later."""
        lanes, groups = self._lanes, self._lanes // self._width
        m.submodules[f"weights_{row}"] = words = memory.Memory(
            shape=data.ArrayLayout(self._weight.bits, lanes), depth=-(-self._scores // lanes), init=[])
        into, outof = words.write_port(granularity=self._width), words.read_port()
        m.d.comb += [
            into.addr.eq(softmax.weight.at >> ceil_log2(groups)), outof.addr.eq(slice_), outof.en.eq(1),
            into.en.eq(softmax.weight.valid << (softmax.weight.at & (groups - 1))),
        ]
        for lane in range(lanes):
            m.d.comb += into.data[lane].eq(softmax.weight.data[lane % self._width])
        return outof.data
