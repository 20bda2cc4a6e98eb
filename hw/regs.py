"""The CSRs as one table: the CSR bank, the C header, the register page and the driver's names are all made from it."""

from collections.abc import Collection
from dataclasses import dataclass

from hw.isa import ARGUMENTS, Field, Unit
from hw.protect.domains import BLOCKS

__all__ = [
    "COUNTERS", "ENGINE_COUNTERS", "REGISTERS", "REGISTER_SPACE", "Counter", "Register", "counters_of", "register",
    "registers_of",
]

REGISTER_SPACE = 0x400     # bytes of the AXI4-Lite window
ID_VALUE = 0x4845_444C     # "HEDL"
VERSION_VALUE = 1          # of this table and of the instruction set


@dataclass(frozen=True, kw_only=True, slots=True)
class Register:
    """One 32-bit register.

    Attributes
    ----------
    name : str
        Upper case.
    offset : int
        Byte offset in the window.
    access : str
        "R" (hardware sets it), "RW" (software sets it), "W" (a one written is a pulse; reads as zero), "RW1C" (hardware sets
        bits, software clears them by writing ones).
    fields : tuple of hw.isa.Field
        From bit 0 up.
    reset : int
        Value after reset.
    doc : str
        One line.
    """

    name: str
    offset: int
    access: str
    fields: tuple[Field, ...]
    reset: int = 0
    doc: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counter:
    """One 64-bit event counter, cleared at the doorbell; `name` is its key in a Result."""

    name: str
    doc: str


def _word(doc: str, name: str = "value") -> tuple[Field, ...]:
    return (Field(name=name, width=32, doc=doc),)


def _bits(*fields: tuple[str, int, str]) -> tuple[Field, ...]:
    return tuple(Field(name=name, width=width, doc=doc) for name, width, doc in fields)


def _per_unit(width: int, doc: str) -> tuple[tuple[str, int, str], ...]:
    return tuple((unit.name.lower(), width, doc.format(unit=unit.name.lower())) for unit in Unit)


COUNTERS: tuple[Counter, ...] = tuple(
    Counter(name=name, doc=doc)
    for name, doc in (
        ("cycles", "cycles from the doorbell to the stop"),
        ("instructions", "instructions executed by the sequencer"),
        ("macs", "useful multiply-accumulates: M×N×K summed over the commands"),
        ("macs_gated", "multiply-accumulates of array slots that hold zero padding in an active cycle"),
        ("bytes_read", "bytes of the read beats, instruction fetch included"),
        ("bytes_written", "bytes strobed in the write beats"),
        ("load_busy", "cycles in which the load unit has a command"),
        ("load_stall", "busy cycles of the load unit in which no beat arrives"),
        ("load_wait", "cycles in which the head of the load queue waits for semaphores"),
        ("matrix_busy", "cycles in which the matrix unit has a command"),
        ("matrix_active", "cycles in which the matrix unit feeds activations into the array"),
        ("matrix_wait", "cycles in which the head of the matrix queue waits for semaphores"),
        ("vector_busy", "cycles in which the vector unit has a command"),
        ("vector_wait", "cycles in which the head of the vector queue waits for semaphores"),
        ("store_busy", "cycles in which the store unit has a command"),
        ("store_stall", "busy cycles of the store unit in which no beat leaves"),
        ("store_wait", "cycles in which the head of the store queue waits for semaphores"),
        ("saturations", "accumulator rows in which at least one word saturated"),
    )
)

ENGINE_COUNTERS: tuple[Counter, ...] = tuple(
    Counter(name=name, doc=doc)
    for name, doc in (
        ("blocks_rounded", "blocks of weights that lose bits when they are shifted: further down than there are guard bits"),
        ("blocks_flushed", "blocks of weights that are flushed to zero, since they would be shifted by 32 or more"),
        ("blocks_padded", "blocks of weights that K does not fill"),
    )
)
"""Counters that only some engines have (`hw.engines.EngineInfo.counters`); elsewhere their registers are not there."""


def _registers() -> tuple[Register, ...]:
    table = [
        Register(name="ID", offset=0x00, access="R", reset=ID_VALUE, fields=_word("the letters HEDL"),
                 doc="identifies the block"),
        Register(name="VERSION", offset=0x04, access="R", reset=VERSION_VALUE, fields=_word("number"),
                 doc="version of the registers and of the instruction set"),
        Register(name="CONTROL", offset=0x08, access="W", doc="doorbell and abort", fields=_bits(
            ("start", 1, "clear counters, semaphores and error; copy the arguments; run the program"),
            ("abort", 1, "stop as an error does, with cause ABORTED"))),
        Register(name="STATUS", offset=0x0C, access="R", doc="what the accelerator is doing", fields=_bits(
            ("busy", 1, "between doorbell and stop"),
            ("done", 1, "stopped by HALT since the last doorbell"),
            ("error", 1, "stopped by an error since the last doorbell"),
            ("saturated", 1, "an accumulator word has saturated since the last doorbell"))),
        Register(name="IRQ_ENABLE", offset=0x10, access="RW", doc="which events raise the interrupt", fields=_bits(
            ("done", 1, "HALT"), ("error", 1, "error stop"))),
        Register(name="IRQ_STATUS", offset=0x14, access="RW1C", doc="which events have happened", fields=_bits(
            ("done", 1, "HALT"), ("error", 1, "error stop"))),
        Register(name="PROGRAM_ADDR", offset=0x18, access="RW", fields=_word("byte address, a multiple of 64", "addr"),
                 doc="where the program starts"),
        Register(name="PROGRAM_LENGTH", offset=0x1C, access="RW", fields=_word("instructions of 8 bytes", "length"),
                 doc="running past it is an error"),
        Register(name="WATCHDOG", offset=0x20, access="RW",
                 fields=_word("cycles without progress after which it stops with cause WATCHDOG; 0: never", "limit"),
                 doc=("ends a hang (progress: an instruction, a bus beat, a step or result row of the matrix unit, a write "
                      "of the vector unit, or a finished command)")),
        Register(name="ERROR", offset=0x24, access="R", doc="the first error since the doorbell", fields=_bits(
            ("cause", 8, "ErrorCause"),
            ("unit", 3, "0 load, 1 matrix, 2 vector, 3 store, 4 the sequencer"))),
        Register(name="ERROR_PC", offset=0x28, access="R", fields=_word("index of the instruction that queued it", "pc"),
                 doc="which command failed"),
        Register(name="ERROR_ADDR", offset=0x2C, access="R", doc="what was wrong",
                 fields=_word("address, size, opcode or value that was wrong", "addr")),
        Register(name="PC", offset=0x30, access="R", fields=_word("instruction index", "pc"), doc="where the sequencer is"),
        Register(name="QUEUES", offset=0x34, access="R", doc="commands in each queue, the running ones included", fields=_bits(
            *_per_unit(8, "commands of the {unit} queue"))),
        Register(name="WAITING", offset=0x38, access="R", doc="which queue heads wait for semaphores", fields=_bits(
            *_per_unit(1, "1: the {unit} queue waits"), ("sequencer", 1, "1: the sequencer waits"))),
    ]
    table += [
        Register(name=f"SEMAPHORES{i}", offset=0x40 + 4 * i, access="R", doc="semaphore counts", fields=_bits(
            *((f"s{4 * i + j}", 8, "count") for j in range(4))))
        for i in range(4)
    ]
    table += [
        Register(name="PROTECT_DETECTED", offset=0x50, access="RW1C",
                 doc="which blocks have detected an error; while any bit is set, a program stops with cause PROTECTION",
                 fields=_bits(*((block, 1, f"an error in the block {block}, not corrected") for block in BLOCKS))),
        Register(name="PROTECT_CORRECTED", offset=0x54, access="RW1C", doc="which blocks have corrected an error",
                 fields=_bits(*((block, 1, f"an error in the block {block}, corrected") for block in BLOCKS))),
        Register(name="PROTECT_COUNTS", offset=0x58, access="R", doc="errors since the doorbell; a count stops at 65535",
                 fields=_bits(("detected", 16, "cycles in which one was detected"),
                              ("corrected", 16, "cycles in which one was corrected"))),
        Register(name="PROTECT_CYCLE", offset=0x5C, access="R", doc="when the first error since the doorbell came",
                 fields=_word("cycles of the program before it; all ones without one", "cycle")),
    ]
    table += [
        Register(name=f"ARG{i}", offset=0x80 + 4 * i, access="RW", fields=_word(f"copied to r{16 + i} at the doorbell"),
                 doc="program argument")
        for i in range(ARGUMENTS)
    ]
    for i, counter in enumerate(COUNTERS + ENGINE_COUNTERS):
        for half, suffix in enumerate(("LO", "HI")):
            table.append(Register(name=f"{counter.name.upper()}_{suffix}", offset=0x100 + 8 * i + 4 * half, access="R",
                                  fields=_word(("low" if half == 0 else "high") + " word"), doc=counter.doc))
    return tuple(table)


REGISTERS: tuple[Register, ...] = _registers()
_BY_NAME = {r.name: r for r in REGISTERS}


def register(name: str) -> Register:
    """Return the register called `name` (upper case)."""
    return _BY_NAME[name]


def counters_of(engine: Collection[str]) -> tuple[Counter, ...]:
    """Return the counters of an accelerator whose engine has those of `ENGINE_COUNTERS` with these names."""
    return COUNTERS + tuple(counter for counter in ENGINE_COUNTERS if counter.name in engine)


def registers_of(engine: Collection[str]) -> tuple[Register, ...]:
    """Return the registers of an accelerator whose engine has those of `ENGINE_COUNTERS` with these names."""
    absent = {f"{counter.name.upper()}_{suffix}" for counter in ENGINE_COUNTERS if counter.name not in engine
              for suffix in ("LO", "HI")}
    return tuple(entry for entry in REGISTERS if entry.name not in absent)
