"""One pseudo-channel of a PIM with its control: a command list in, host words in and out, DRAM commands out."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.utils import ceil_log2

from hw.config import ceil_div
from hw.elements import FloatFormat
from hw.errors import ConfigError
from hw.pim.activation_unit import ActivationUnit
from hw.pim.channel import PimChannel
from hw.pim.config import PimConfig
from hw.pim.explicit_rows import ExplicitRows
from hw.pim.footprint import ENTRY_WIDTH, Footprint
from hw.pim.io_unit import IoUnit
from hw.pim.isa import (
    HEAD_SETTINGS,
    IMMEDIATE_LOW,
    IMMEDIATE_WIDTH,
    MOST_BEATS,
    NAMED_SETS,
    MacMode,
    PimErrorCause,
    PimOpcode,
)
from hw.pim.job_maker import BURST_OPCODES, JobMaker, placed_layout
from hw.pim.kv_place import KvPlace
from hw.pim.multiplier import operand_named
from hw.pim.output_dequantizer import OutputDequantizer
from hw.pim.scoreboard import EntryKind, Scoreboard
from hw.pim.sequencer import PimSequencer
from hw.pim.softmax_unit import SoftmaxUnit
from hw.pim.units import IO_OPCODES, SOFTMAX_OPCODES, missing_unit, opcodes_of

__all__ = ["PimCore"]

_OUTPUT = HEAD_SETTINGS.index("output")
_HEAD_IN_XIDX = (PimOpcode.MVS, PimOpcode.STS, PimOpcode.LDS)
_DEPTH = 8                  # commands of each queue that are not done


class PimCore(wiring.Component):
    """Sequencer, scoreboard, I/O unit and channel.

    It has the units that `hw.pim.units` says; other commands of the queues stop a list with UNSUPPORTED. BCAST's results go to
    the entries that have words for all lanes (`ComputePath.wide`).

    Parameters
    ----------
    config : PimConfig
    commands : int
        Words of the list memory, a power of two.

    Members
    -------
    write, go, busy, error, index : see `PimSequencer`
    host_in, host_out : streams of words, see `IoUnit`
    dram : Out(`DramPort`)
    softmax_misuse : Out(1)
        See `SoftmaxUnit`.
    active, stall_row, stall_refresh, stall_credit, stall_hazard : Out(1)
        See `PimChannel`; hazards also of the scoreboard.

    Raises
    ------
    ConfigError
        If the configuration is none that can be built.
    """

    def __init__(self, config: PimConfig, *, commands: int = 256):
        if config.row_sets > NAMED_SETS and config.dram_rows & (config.dram_rows - 1):
            raise ConfigError(f"PimConfig.dram_rows must be a power of two with more than {NAMED_SETS} sets of banks, "
                              f"not {config.dram_rows!r}")
        self._config = config
        self.channel = PimChannel(config)
        self.wide = self.channel.wide
        self._softmax = self._softmax_unit(config) if config.has_softmax else None
        self._activation = None if missing_unit(config, PimOpcode.AF) else self._activation_unit(config)
        self._sequencer = PimSequencer(commands=commands, heads=config.heads, opcodes=opcodes_of(config))
        self._io = IoUnit(bits=operand_named(config.xtype).element.bits, lanes=config.width, rows=config.rows_x,
                          slices=config.xbuf_entries, entries=config.obuf_entries, wide=self.wide,
                          segments=config.segments, sides=config.sides if config.has_sides else 0)
        self._dequantizer = None if missing_unit(config, PimOpcode.DQA) else OutputDequantizer(
            acc=config.acc, lanes=config.width, rows=config.rows_x, entries=config.obuf_entries, word=8 * config.word_bytes,
            segments=config.segments)
        passed = self._sequencer.signature.members
        word = self._io.signature.members
        super().__init__({
            **{name: passed[name] for name in ("write", "go", "busy", "error", "index")},
            "host_in": word["host_in"], "host_out": word["host_out"], "dram": self.channel.signature.members["dram"],
            "softmax_misuse": Out(1),
            "active": Out(1), "stall_row": Out(1), "stall_refresh": Out(1), "stall_credit": Out(1), "stall_hazard": Out(1),
        })

    @staticmethod
    def _softmax_unit(config: PimConfig) -> SoftmaxUnit:
        element = operand_named(config.ptype).element
        assert isinstance(element, FloatFormat)             # of `PROBABILITY_TYPES`
        return SoftmaxUnit(weight=element, lanes=config.width, rows=config.rows_x, slices=config.xbuf_entries,
                           entries=config.obuf_entries, heads=config.heads, scores=config.k_tile, sm_lanes=config.sm_lanes,
                           together=config.segments)

    @staticmethod
    def _activation_unit(config: PimConfig) -> ActivationUnit:
        element = operand_named(config.xtype).element
        assert isinstance(element, FloatFormat)             # else there is no such unit
        return ActivationUnit(element=element, lanes=config.width, rows=config.rows_x, slices=config.xbuf_entries,
                              entries=config.obuf_entries, segments=config.segments)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.sequencer = sequencer = self._sequencer
        m.submodules.footprint = footprint = Footprint(config)
        m.submodules.scoreboard = scoreboard = Scoreboard(shape=placed_layout(), width=ENTRY_WIDTH, depth=_DEPTH,
                                                          dynamic=config.dcs)
        m.submodules.io = io = self._io
        m.submodules.channel = channel = self.channel
        for name in ("write", "go", "busy", "error", "index"):
            inner, outer = getattr(sequencer, name), getattr(self, name)
            if name == "write":
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += inner.eq(outer) if name == "go" else outer.eq(inner)
        wiring.connect(m, io.host_out, wiring.flipped(self.host_out))
        wiring.connect(m, channel.dram, wiring.flipped(self.dram))
        given, into = sequencer.o, scoreboard.i
        command, slices = given.p.command, _slices(config, given.p)
        m.submodules.jobs = jobs = JobMaker(config)
        m.submodules.place = place = KvPlace(config)
        m.submodules.explicit_rows = rows = ExplicitRows(config)
        m.d.comb += [
            rows.command.eq(command), rows.token_set.eq(place.set), rows.token_row.eq(place.row),
            rows.issued.eq(given.valid & given.ready), rows.clear.eq(self.go & ~self.busy),
        ]
        wiring.connect(m, sequencer.head, place.setting)
        m.d.comb += [
            footprint.i.eq(command), footprint.k_beats.eq(given.p.k_beats), footprint.head_slices.eq(slices),
            footprint.operands.eq(given.p.operands), footprint.output.eq(place.output), place.head.eq(command.aidx),
            place.other.eq(command.xidx),
            place.value.eq(command.clr), place.slices.eq(slices),
            place.max_tokens.eq(given.p.max_tokens),
            place.append.eq(given.valid & given.ready & (command.op == PimOpcode.KVAP)),
            into.valid.eq(given.valid), given.ready.eq(into.ready), into.p.payload.issued.eq(given.p),
            *(getattr(into.p.payload, name).eq(getattr(place, name)) for name in ("set", "row", "column", "beat", "segment")),
            into.p.payload.slices.eq(slices),
            into.p.compute.eq(footprint.compute), into.p.a.eq(footprint.a), into.p.b.eq(footprint.b), into.p.c.eq(footprint.c),
            sequencer.idle.eq(scoreboard.idle & channel.idle), sequencer.spare.eq(channel.slack != 0),
            channel.hold.eq(sequencer.hold | rows.explicit), jobs.managed.eq(channel.managed),
        ]
        self._refuse(m, sequencer, command, footprint, place, given.p, rows.wrong)
        wiring.connect(m, scoreboard.o_compute, jobs.i)
        wiring.connect(m, jobs.job, channel.job)
        self._io_queue(m, scoreboard, io)
        m.d.comb += [
            jobs.multiplied.eq(channel.done), jobs.copied.eq(channel.copied), jobs.stored.eq(channel.stored),
            scoreboard.done_compute.eq(jobs.done),
            self.active.eq(channel.active), self.stall_row.eq(channel.stall_row), self.stall_refresh.eq(channel.stall_refresh),
            self.stall_credit.eq(channel.stall_credit), self.stall_hazard.eq(channel.stall_hazard | scoreboard.stall_hazard),
        ]
        return m

    def _io_queue(self, m: Module, scoreboard: Scoreboard, io: IoUnit) -> None:
        """Carry out the I/O queue by the unit that its first command is for; they take turns at the buffers."""
        config, channel = self._config, self.channel
        softmax, activation, dequantizer = self._softmax, self._activation, self._dequantizer
        m.d.comb += [io.host_in.valid.eq(self.host_in.valid), io.host_in.p.eq(self.host_in.p),
                     self.host_in.ready.eq(io.host_in.ready)]
        first, fields = scoreboard.o_io, scoreboard.o_io.p.issued.command
        units: list[tuple[Any, tuple[PimOpcode, ...]]] = [(io, (*IO_OPCODES, PimOpcode.WRS))]
        if softmax is not None:
            m.submodules.softmax = softmax
            units.append((softmax, SOFTMAX_OPCODES))
            self._give_softmax(m, softmax, scoreboard.o_io.p.issued)
        if activation is not None:
            m.submodules.activation = activation
            units.append((activation, (PimOpcode.AF,)))
            m.d.comb += [activation.i.p.cnt.eq(fields.cnt), activation.i.p.entry.eq(fields.aidx),
                         activation.i.p.slice.eq(fields.xidx), activation.i.p.mode.eq(fields.mode),
                         activation.i.p.gather.eq(fields.clr)]
        if dequantizer is not None:             # of the two that take host words, at most one is ready
            m.submodules.dequantizer = dequantizer
            units.append((dequantizer, (PimOpcode.DQA,)))
            m.d.comb += [*(getattr(dequantizer.i.p, name).eq(getattr(fields, name)) for name in ("cnt", "clr", "last")),
                         dequantizer.i.p.entry.eq(fields.aidx), dequantizer.i.p.first.eq(fields.xidx),
                         dequantizer.ready.eq(channel.ready), dequantizer.host_in.valid.eq(self.host_in.valid),
                         dequantizer.host_in.p.eq(self.host_in.p),
                         self.host_in.ready.eq(io.host_in.ready | dequantizer.host_in.ready)]
        if config.has_sides:
            m.d.comb += [Value.cast(getattr(channel.side, name)).eq(getattr(io.side, name))
                         for name in ("valid", "word", "mask", "data")]
        busy = Cat(unit.busy for unit, _ in units).any()
        m.d.comb += [
            io.i.p.op.eq(fields.op), io.i.p.cnt.eq(fields.cnt),
            io.i.p.first.eq(Mux((fields.op == PimOpcode.WRX) | (fields.op == PimOpcode.WRS), fields.xidx, fields.aidx)),
            first.ready.eq(~busy),
            scoreboard.done_io.eq(Cat(unit.done for unit, _ in units).any()), io.ready.eq(channel.ready),
        ]
        for unit, opcodes in units:
            m.d.comb += [unit.i.valid.eq(first.valid & Cat(fields.op == op for op in opcodes).any() & ~busy),
                         Value.cast(unit.o).eq(Value.cast(channel.o))]
            m.d.comb += unit.readable.eq(channel.readable)
            if "x_ready" in unit.signature.members:
                m.d.comb += unit.x_ready.eq(channel.x_ready)
            with m.If(unit.busy):
                m.d.comb += channel.entry.eq(unit.entry)
                for name, port in (("x", channel.x), ("write", channel.bias)):
                    if name in unit.signature.members:
                        m.d.comb += [Value.cast(getattr(port, member)).eq(Value.cast(getattr(getattr(unit, name), member)))
                                     for member in port.signature.members]

    def _give_softmax(self, m: Module, softmax: SoftmaxUnit, issued: Any) -> None:
        """Give the softmax unit the fields of the first command, and the outputs of heads as SETH has them."""
        config, sequencer, fields = self._config, self._sequencer, issued.command
        width = ceil_log2(config.heads)
        outputs = Array(Signal(8, name=f"output_{head}") for head in range(1 << width))
        sets_output = sequencer.head.valid & (sequencer.head.setting == _OUTPUT)
        with m.If(sets_output):
            m.d.sync += outputs[sequencer.head.head[:width]].eq(sequencer.head.value)
        head = Mux(Cat(fields.op == op for op in _HEAD_IN_XIDX).any(), fields.xidx, fields.aidx)
        m.d.comb += [
            softmax.i.p.op.eq(fields.op), softmax.i.p.cnt.eq(fields.cnt), softmax.i.p.entry.eq(fields.aidx),
            softmax.i.p.slice.eq(fields.xidx), softmax.i.p.head.eq(head),
            softmax.i.p.count.eq(Value.cast(fields)[IMMEDIATE_LOW:]), softmax.i.p.scale.eq(issued.scale),
            softmax.i.p.output.eq(outputs[head[:width]]), softmax.i.p.other.eq(fields.xidx),
            softmax.i.p.other_output.eq(outputs[fields.xidx[:width]]), softmax.i.p.entries.eq(_slices(config, issued)),
            softmax.ready.eq(self.channel.ready), self.softmax_misuse.eq(softmax.misuse),
            softmax.clear.valid.eq(sets_output), softmax.clear.head.eq(sequencer.head.head),
            softmax.restart.eq(self.go & ~self.busy),
        ]

    def _refuse(self, m: Module, sequencer: PimSequencer, command: Any, footprint: Footprint, place: KvPlace,
                issued: Any, wrong_row: Value) -> None:
        """Stop a command that would leave a buffer, a row or the banks."""
        config = self._config
        is_mac, appends, k_beats = command.op == PimOpcode.MAC, command.op == PimOpcode.KVAP, issued.k_beats
        has_bursts = Cat(command.op == op for op in BURST_OPCODES).any()
        of_row = has_bursts | Cat(command.op == op for op in (PimOpcode.ACT, PimOpcode.PRE, PimOpcode.REF)).any()

        def beyond(kind: EntryKind, entries: int) -> Value:
            return Cat((one.kind == kind) & (one.last >= entries) for one in (footprint.a, footprint.b, footprint.c)).any()

        bcast = is_mac & (command.mode == MacMode.BCAST)
        of_state = (command.op == PimOpcode.STS) | (command.op == PimOpcode.LDS)
        all_lanes = bcast | of_state | ((command.op == PimOpcode.AF) & ~command.clr)
        block = Value.cast(command)[IMMEDIATE_LOW:IMMEDIATE_LOW + IMMEDIATE_WIDTH]
        of_block = (command.op == PimOpcode.SFM) | (command.op == PimOpcode.SFO)
        of_head = of_block | Cat(command.op == op for op in (PimOpcode.MVX, PimOpcode.MRG, PimOpcode.KVAP)).any()
        of_output = Cat(command.op == op for op in (PimOpcode.SFO, PimOpcode.MRG)).any()
        ways = len({(config.wtype, config.xtype), (config.kvtype, config.xtype), (config.kvtype, config.ptype)})
        rules = (
            (of_head & (command.aidx >= config.heads), PimErrorCause.HEAD_RANGE),
            (Cat(command.op == op for op in (*_HEAD_IN_XIDX, PimOpcode.MRG)).any() & (command.xidx >= config.heads),
             PimErrorCause.HEAD_RANGE),
            (of_block & ((block == 0) | (block > config.k_tile)), PimErrorCause.TOKENS_RANGE),
            (of_output & (place.slices == 0), PimErrorCause.HEAD_RANGE),
            (is_mac & (issued.operands > (2 if ways > 1 else 0)), PimErrorCause.ILLEGAL_COMMAND),
            (of_output & (place.output + place.slices > self.wide), PimErrorCause.OBUF_RANGE),
            ((command.op == PimOpcode.MRG) & (place.other_output + place.slices > self.wide), PimErrorCause.OBUF_RANGE),
            (appends & (place.odd | (issued.head_dim % config.width != 0)), PimErrorCause.HEAD_RANGE),
            (appends & place.full, PimErrorCause.TOKENS_RANGE),
            (appends & place.beyond, PimErrorCause.ROW_RANGE),
            (is_mac & (command.mode > MacMode.BCAST), PimErrorCause.ILLEGAL_COMMAND),
            (bcast & (command.xidx % config.segments != 0), PimErrorCause.ILLEGAL_COMMAND),
            (is_mac & ((k_beats == 0) | (k_beats > MOST_BEATS)), PimErrorCause.HEAD_RANGE),
            (of_row & (command.grp >= config.row_sets), PimErrorCause.GROUP_RANGE),
            (of_row & (command.row >= config.dram_rows * ceil_div(config.row_sets, NAMED_SETS)), PimErrorCause.ROW_RANGE),
            (has_bursts & (command.col + command.cnt >= config.columns), PimErrorCause.COLUMN_RANGE),
            ((command.op == PimOpcode.MODE) & (command.cnt > 1), PimErrorCause.ILLEGAL_COMMAND),
            (wrong_row, PimErrorCause.ROW_STATE),
            ((command.op == PimOpcode.WRS) & (beyond(EntryKind.SIDE, config.sides) | (
                command.xidx % config.word_bytes + command.cnt >= config.word_bytes)), PimErrorCause.SIDE_RANGE),
            ((command.op == PimOpcode.DQA) & (command.xidx + command.cnt >= config.obuf_entries), PimErrorCause.OBUF_RANGE),
            (beyond(EntryKind.X, config.xbuf_entries), PimErrorCause.XBUF_RANGE),
            (beyond(EntryKind.OUTPUT, config.obuf_entries), PimErrorCause.OBUF_RANGE),
            (all_lanes & beyond(EntryKind.OUTPUT, self.wide), PimErrorCause.OBUF_RANGE),
            (bcast & (footprint.b.last - footprint.b.first >= config.bcast_entries), PimErrorCause.OBUF_RANGE),
        )
        for broken, cause in reversed(rules):
            with m.If(broken):
                m.d.comb += [sequencer.refuse.eq(1), sequencer.refuse_cause.eq(cause)]


def _slices(config: PimConfig, issued: Any) -> Value:
    """Return the slices of a head's elements."""
    return (issued.head_dim + config.width - 1) >> ceil_log2(config.width)
