"""Sequencer of the PIM logic die: runs a command list, and gives out commands with the settings that hold for them."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.errors import ConfigError
from hw.pim.footprint import command_layout
from hw.pim.isa import (
    COMMAND_FIELDS,
    HEAD_SETTINGS,
    IMMEDIATE_LOW,
    IMMEDIATE_WIDTH,
    MODIFIABLE,
    OPCODES,
    SETTINGS,
    PimErrorCause,
    PimOpcode,
    PimRegister,
    Queue,
)
from hw.pim.loops import Loops

__all__ = ["PimSequencer", "issued_layout"]

_LOWS = {field.name: sum(f.width for f in COMMAND_FIELDS[:i]) for i, field in enumerate(COMMAND_FIELDS)}
_WIDTHS = {field.name: field.width for field in COMMAND_FIELDS}
_NO_COMPOSITE = (PimOpcode.LOOP, PimOpcode.MODI, PimOpcode.HEADER, PimOpcode.BARRIER, PimOpcode.SYNC, PimOpcode.EOC)


def issued_layout() -> data.StructLayout:
    """Return the layout of a command that is given out: its fields, and the settings that hold for it."""
    return data.StructLayout({"command": command_layout(), "k_beats": 10, "head_dim": 16, "scale": 32, "operands": 2,
                              "max_tokens": 32})


def _mask(opcode: PimOpcode) -> int:
    """Return the bits that a command may set."""
    mask = _bits("op") | _bits("tag")
    for name in OPCODES[opcode].fields:
        mask |= ((1 << IMMEDIATE_WIDTH) - 1) << IMMEDIATE_LOW if name == "value" else _bits(name)
    return mask


def _bits(name: str) -> int:
    return ((1 << _WIDTHS[name]) - 1) << _LOWS[name]


def _fitting(value: Value, width: int) -> Value:
    """Return a setting, or 0, which none of them may be, if it is too large."""
    return Mux(value[width:] != 0, 0, value)


class PimSequencer(wiring.Component):
    """Fetches commands from its list memory, runs loops and settings, and offers the others, in order.

    A command takes 3 cycles at least: one to fetch, one to decode, one to advance. BARRIER, SYNC, EOC and SETH wait until `idle`.
    A composite begins and ends with everything done; between, `hold` keeps refreshes off.

    Parameters
    ----------
    commands : int
        Words of the list memory, a power of two.
    heads : int
        Heads that SETH may name.
    opcodes : tuple of PimOpcode
        Commands of the two queues that there are units for; others stop the list with UNSUPPORTED.

    Members
    -------
    write : In({valid: 1, address, data: 64})
        The host writes the list, while not busy.
    go : In(1)
        Run from word 0, when not busy.
    o : Out(stream of `issued_layout`)
    head : Out({valid: 1, head: 8, setting: 4, value: 32})
        A SETH, in its place among the commands.
    idle : In(1)
        Every command that was given out is done.
    spare : In(1)
        At least one refresh may be put off.
    hold : Out(1)
    refuse : In(1), refuse_cause : In
        The command that is offered cannot be carried out: the list stops with that cause.
    busy : Out(1), error : Out, index : Out
        Whether a list runs; a `PimErrorCause`, and the word at which it stopped.

    Raises
    ------
    ConfigError
        If the list memory is none that can be built.
    """

    def __init__(self, *, commands: int, heads: int, opcodes: tuple[PimOpcode, ...]):
        if commands < 4 or commands & (commands - 1):
            raise ConfigError(f"PimSequencer.commands must be a power of two of at least 4, not {commands!r}")
        self._commands, self._heads, self._opcodes = commands, heads, opcodes
        address, cause = ceil_log2(commands), ceil_log2(len(PimErrorCause))
        super().__init__({
            "write": In(wiring.Signature({"valid": Out(1), "address": Out(address), "data": Out(64)})), "go": In(1),
            "o": Out(stream.Signature(issued_layout())),
            "head": Out(wiring.Signature({"valid": Out(1), "head": Out(8), "setting": Out(4), "value": Out(IMMEDIATE_WIDTH)})),
            "idle": In(1), "spare": In(1), "hold": Out(1), "refuse": In(1), "refuse_cause": In(cause),
            "busy": Out(1), "error": Out(cause), "index": Out(address),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.words = words = memory.Memory(shape=64, depth=self._commands, init=[], attrs={"ram_style": "block"})
        m.submodules.loops = loops = Loops(commands=self._commands)
        write, read = words.write_port(), words.read_port()
        pc, word = Signal(range(self._commands)), Signal(64)
        registers = Array(Signal(32, name=f"register_{name}") for name in SETTINGS)
        left, holding = Signal(_WIDTHS["cnt"] + 1), Signal()        # commands of the composite to come
        last_pc = self._commands - 1
        m.d.comb += [
            write.addr.eq(self.write.address), write.data.eq(self.write.data), write.en.eq(self.write.valid & ~self.busy),
            read.addr.eq(pc), read.en.eq(1), word.eq(read.data), loops.pc.eq(pc), Value.cast(loops.command).eq(word),
            self.hold.eq(holding),
        ]
        grown = loops.grown
        command = grown.command
        op = command.op
        value = Value.cast(command)[IMMEDIATE_LOW:IMMEDIATE_LOW + IMMEDIATE_WIDTH]
        known, unused, misgrown, queued, built, composable = (Signal(name=n) for n in (
            "known", "unused", "misgrown", "queued", "built", "composable"))
        with m.Switch(op):
            for opcode, info in OPCODES.items():
                with m.Case(opcode):
                    may_grow = Cat(C(name in info.fields, 1) for name in MODIFIABLE)
                    m.d.comb += [
                        known.eq(1), unused.eq((word & C(((1 << 64) - 1) & ~_mask(opcode), 64)) != 0),
                        misgrown.eq((grown.grows & ~may_grow) != 0), queued.eq(info.queue is not Queue.SEQUENCER),
                        built.eq(info.queue is Queue.SEQUENCER or opcode in self._opcodes),
                        composable.eq(opcode not in _NO_COMPOSITE)]
        bound = registers[command.aidx[:4]] + command.row
        body_fits = (command.xidx != 0) & (pc + command.xidx <= Mux(loops.looping, loops.end, last_pc))
        m.d.comb += [
            loops.bound.eq(bound), self.o.p.command.eq(command),
            self.o.p.k_beats.eq(_fitting(registers[PimRegister.K_BEATS], 10)),
            self.o.p.head_dim.eq(_fitting(registers[PimRegister.HEAD_DIM], 16)),
            self.o.p.operands.eq(Mux(registers[PimRegister.OPERANDS] > 3, 3, registers[PimRegister.OPERANDS])),
            self.o.p.scale.eq(registers[PimRegister.SCALE]), self.o.p.max_tokens.eq(registers[PimRegister.MAX_TOKENS]),
            self.head.head.eq(command.aidx), self.head.setting.eq(command.grp), self.head.value.eq(value),
        ]
        of_register = (op == PimOpcode.SETM) | (op == PimOpcode.LOOP)

        def stop(cause: Any) -> None:
            m.d.sync += [self.error.eq(cause), self.index.eq(pc)]
            m.next = "drain"

        def done() -> None:
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            m.next = "advance"

        with m.FSM(name="sequencer") as machine:
            with m.State("rest"):
                m.d.comb += loops.clear.eq(1)
                with m.If(self.go):
                    m.d.sync += [pc.eq(0), self.error.eq(PimErrorCause.NONE), left.eq(0), holding.eq(0)]
                    m.d.sync += [register.eq(0) for register in registers]
                    m.next = "fetch"
            with m.State("fetch"):
                m.next = "decode"
            with m.State("decode"):
                with m.If(~known | unused | misgrown | (of_register & (command.aidx >= len(SETTINGS)))):
                    stop(PimErrorCause.ILLEGAL_COMMAND)
                with m.Elif(grown.overflow):
                    stop(PimErrorCause.FIELD_OVERFLOW)
                with m.Elif((left != 0) & ~composable):
                    stop(PimErrorCause.ILLEGAL_COMMAND)
                with m.Elif(loops.pending & (op != PimOpcode.MODI) & (op != PimOpcode.LOOP)):
                    stop(PimErrorCause.LOOP_RANGE)
                with m.Elif(~built):
                    stop(PimErrorCause.UNSUPPORTED)
                with m.Elif(holding & (left == 0)):         # a composite is over: refreshes may come again
                    with m.If(self.idle):
                        m.d.sync += holding.eq(0)
                with m.Elif(queued):
                    m.d.comb += self.o.valid.eq(~self.refuse)
                    with m.If(self.refuse):
                        stop(self.refuse_cause)
                    with m.Elif(self.o.ready):
                        done()
                with m.Elif(op == PimOpcode.NOP):
                    done()
                with m.Elif(op == PimOpcode.SETM):
                    with m.If(command.aidx != PimRegister.ZERO):
                        m.d.sync += registers[command.aidx[:4]].eq(value)
                    done()
                with m.Elif(op == PimOpcode.SETH):
                    with m.If(command.grp >= len(HEAD_SETTINGS)):
                        stop(PimErrorCause.ILLEGAL_COMMAND)
                    with m.Elif(command.aidx >= self._heads):
                        stop(PimErrorCause.HEAD_RANGE)
                    with m.Elif(self.idle):                 # commands under way have the settings of before
                        m.d.comb += self.head.valid.eq(1)
                        done()
                with m.Elif(op == PimOpcode.MODI):
                    with m.If(loops.full | loops.nested | (command.grp >= len(MODIFIABLE))):
                        stop(PimErrorCause.LOOP_RANGE)
                    with m.Else():
                        m.d.comb += loops.modi.eq(1)
                        m.next = "advance"
                with m.Elif(op == PimOpcode.LOOP):
                    with m.If(loops.nested | ~body_fits | loops.beyond):
                        stop(PimErrorCause.LOOP_RANGE)
                    with m.Elif(bound == 0):
                        m.d.comb += loops.skip.eq(1)
                        m.d.sync += pc.eq(pc + command.xidx)        # as if the last command of the body were done
                        m.next = "advance"
                    with m.Else():
                        m.d.comb += loops.enter.eq(1)
                        m.d.sync += pc.eq(pc + 1)
                        m.next = "fetch"
                with m.Elif(self.idle & ((op != PimOpcode.HEADER) | self.spare)):
                    with m.If(op == PimOpcode.HEADER):
                        m.d.sync += [left.eq(command.cnt + 1), holding.eq(1)]
                        m.next = "advance"
                    with m.Elif(op == PimOpcode.EOC):
                        m.next = "rest"
                    with m.Else():
                        m.next = "advance"
            with m.State("advance"):
                with m.If((loops.back | loops.left) & loops.pending):
                    stop(PimErrorCause.LOOP_RANGE)
                with m.Else():
                    m.d.comb += loops.advance.eq(1)
                    with m.If(loops.back):
                        m.d.sync += pc.eq(loops.start)
                        m.next = "fetch"
                    with m.Elif(~loops.left):               # if a loop is left, the one around it may end here too
                        with m.If(pc == last_pc):
                            stop(PimErrorCause.NO_END)
                        with m.Else():
                            m.d.sync += pc.eq(pc + 1)
                            m.next = "fetch"
            with m.State("drain"):
                with m.If(self.idle):
                    m.d.sync += holding.eq(0)
                    m.next = "rest"
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m
