"""The instruction set as one table: the decoder, assembler, C header and docs page are all made from it.

An instruction is 64 bits. A small scalar sequencer runs the program: it does arithmetic on 32 registers of 32 bits, writes the
fields of four *descriptors* (load, matrix, vector, store), and with GO puts a snapshot of a descriptor, a command, into that
unit's queue. Descriptor fields keep their values from one GO to the next. The second ALU operand is always r[c] + imm.
Nothing is truncated: an instruction whose result does not fit its descriptor field stops the program with FIELD_OVERFLOW,
and ERROR_ADDR shows the result. A register number above 31 where a register is read stops it with ILLEGAL_INSTRUCTION.

Commands in one queue run in order. Between queues only semaphores order them: a command starts when every semaphore of
its wait mask is above zero (it takes one from each), and adds one to each of its signal mask when it is done. Program order
itself must be a legal order of execution: a wait may only depend on signals earlier in the program. A semaphore should have one
consumer, a queue or the sequencer: of two that wait for the same one, timing would decide which takes a token.

With the protection ("commands", "parity") of a config, the upper 3 bits of field c are check bits. Each of the three goes over
every third bit of the instruction, itself included, and over every third bit of the instruction's index in the program: the
exclusive-or of bits i, i + 3, i + 6, … of both is 0. So whatever happens to bits within three neighbours of an instruction is
seen, wherever it happens between the assembler and the decoder, and a line fetched from elsewhere but for one in eight. An
instruction with a check that fails does nothing and stops the program with COMMAND_PARITY; ERROR_ADDR shows which fail.
"""

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "ANGLE_BITS", "ANGLE_RECORD_BYTES", "ARGUMENTS", "CHECK_BITS", "CHECK_LOW", "DESCRIPTORS", "DESTINATIONS", "FIRST_ARGUMENT",
    "INSTRUCTION_BYTES", "INSTRUCTION_FIELDS", "LOOP_DEPTH", "OPCODES", "REGISTERS", "SEMAPHORES", "SEMAPHORE_MAX",
    "SEQUENCER", "Dataflow", "DocumentedEnum", "ErrorCause", "Field", "Opcode", "OpcodeInfo", "RowUse", "StreamUse", "Unit",
    "VectorFunction", "VectorOutput", "VectorSource", "destination",
]

INSTRUCTION_BYTES = 8
CHECK_BITS = 3            # of an instruction with parity, from bit CHECK_LOW on
CHECK_LOW = 29
REGISTERS = 32            # r0 reads as zero and ignores writes
ARGUMENTS = 16            # argument CSRs, copied to the registers from r16 on at the doorbell
FIRST_ARGUMENT = 16
SEMAPHORES = 16
SEMAPHORE_MAX = 255
LOOP_DEPTH = 6
ANGLE_BITS = 24           # of a cosine or sine in the load unit's rotary source, two of them before the point
ANGLE_RECORD_BYTES = 16   # of a pair: cosine and sine of the position, then of one step, int32


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One packed field: `width` bits, unsigned, least significant field first in its table."""

    name: str
    width: int
    doc: str


def _field(name: str, width: int, doc: str) -> Field:
    return Field(name=name, width=width, doc=doc)


INSTRUCTION_FIELDS = (
    _field("opcode", 8, "operation"),
    _field("a", 8, "destination: a register 0–31, or a descriptor field from 32 on"),
    _field("b", 8, "first source register"),
    _field("c", 8, "second source register"),
    _field("imm", 32, "immediate"),
)


class Unit(IntEnum):
    """The four queues."""

    LOAD = 0
    MATRIX = 1
    VECTOR = 2
    STORE = 3


SEQUENCER = len(Unit)
"""The unit number, in the ERROR register, of the sequencer and of what is no queue's fault."""


class DocumentedEnum(IntEnum):
    """Values of a descriptor field, each with its meaning in `doc`."""

    doc: str

    def __new__(cls, value: int, doc: str = "") -> "DocumentedEnum":
        """Return the member of a value."""
        member = int.__new__(cls, value)
        member._value_, member.doc = value, doc
        return member


class Dataflow(DocumentedEnum):
    """Values of `matrix.dataflow`."""

    WS = 0, "weight-stationary"
    OS = 1, "output-stationary"


class VectorSource(DocumentedEnum):
    """Values of `vector.source`."""

    ACCUMULATOR = 0, "words of the accumulator: int32, or float32 with floating-point activations"
    FLOAT32 = 1, "float32 rows of the scratchpad"
    INT8 = 2, "int8 rows of the scratchpad"
    ROW = 3, "the row scalar row0: rows of one element"
    SCALAR = 4, "one float32 for each row, at any multiple of 4 bytes: rows of one element"
    UINT4 = 5, "rows of unsigned nibbles of the scratchpad, the lower column in the low nibble"


class StreamUse(DocumentedEnum):
    """Values of `vector.c_use`."""

    NONE = 0, "nothing"
    BIAS = 1, "int32, added to the accumulator word before it is converted (source 0 only, where that is int32)"
    MIDDLE = 2, "operand of `middle`"
    POST = 3, "operand of `post`"


class RowUse(DocumentedEnum):
    """Values of `vector.row1_use`."""

    NONE = 0, "nothing"
    MIDDLE = 1, "operand of `middle`"
    POST = 2, "operand of `post`"
    SEED = 3, "the maximum of the row is not below it"


class VectorFunction(DocumentedEnum):
    """Values of `vector.function`."""

    IDENTITY = 0, "x"
    EXP2 = 1, "2^x"
    SIGMOID = 2, "1 / (1 + e^−x); times its argument: SiLU"
    NORMAL = 3, "Φ(x), the distribution function of the normal distribution; times its argument: GELU"
    RECIPROCAL = 4, "1/x, of a row of one element (sources 3 and 4)"
    RSQRT = 5, "1/√x, likewise"


class VectorOutput(DocumentedEnum):
    """Values of `vector.output`."""

    NONE = 0, "nothing"
    INT8 = 1, "rounded to nearest even, saturated"
    FLOAT32 = 2, "as they are"
    SCALAR = 3, "the row's first element as float32, at any multiple of 4 bytes"
    UINT4 = 4, "rounded to nearest even, saturated to 0 … 15; packed as UINT4 sources are"


class Opcode(IntEnum):
    """Values of the opcode field; zero is illegal, so that a run into empty memory stops."""

    HALT = 0x01
    ADD = 0x02
    SUB = 0x03
    MIN = 0x04
    MAX = 0x05
    AND = 0x06
    XOR = 0x07
    SHL = 0x08
    SHR = 0x09
    LOOP = 0x10
    END = 0x11
    SIGNAL = 0x12
    WAIT = 0x13
    FENCE = 0x14
    LOAD = 0x20
    MATRIX = 0x21
    VECTOR = 0x22
    STORE = 0x23


@dataclass(frozen=True, kw_only=True, slots=True)
class OpcodeInfo:
    """How an opcode is written and what it does.

    Attributes
    ----------
    kind : str
        "alu" (a ← b op (c + imm)), "loop", "tokens" (imm[15:0] a semaphore mask), "go" (wait mask in imm[15:0], signal mask in
        imm[31:16]) or "plain" (no operands).
    """

    opcode: Opcode
    kind: str
    doc: str


OPCODES: dict[Opcode, OpcodeInfo] = {
    op: OpcodeInfo(opcode=op, kind=kind, doc=doc)
    for op, kind, doc in (
        (Opcode.HALT, "plain", "wait until every queue is empty and every unit idle, then stop and raise the interrupt"),
        (Opcode.ADD, "alu", "a ← r[b] + (r[c] + imm)"),
        (Opcode.SUB, "alu", "a ← r[b] − (r[c] + imm)"),
        (Opcode.MIN, "alu", "a ← the unsigned minimum of r[b] and r[c] + imm"),
        (Opcode.MAX, "alu", "a ← the unsigned maximum of r[b] and r[c] + imm"),
        (Opcode.AND, "alu", "a ← r[b] and (r[c] + imm), bit by bit"),
        (Opcode.XOR, "alu", "a ← r[b] exclusive-or (r[c] + imm), bit by bit"),
        (Opcode.SHL, "alu", "a ← r[b] shifted left by the low 5 bits of r[c] + imm"),
        (Opcode.SHR, "alu", "a ← r[b] shifted right by the low 5 bits of r[c] + imm, zero-filled"),
        (Opcode.LOOP, "loop", ("run the body up to the matching END r[b] + imm[15:0] times (modulo 2³²); when zero, skip "
                              "imm[31:16] instructions (the body and its END)")),
        (Opcode.END, "plain", "end of the innermost loop's body"),
        (Opcode.SIGNAL, "tokens", "add one to each semaphore of the mask"),
        (Opcode.WAIT, "tokens", "wait for each semaphore of the mask, take one from each"),
        (Opcode.FENCE, "plain", "wait until every queue is empty and every unit idle"),
        (Opcode.LOAD, "go", "queue a load: DRAM → scratchpad"),
        (Opcode.MATRIX, "go", "queue a matrix command: scratchpad × scratchpad → accumulator"),
        (Opcode.VECTOR, "go", "queue a vector command: accumulator, scratchpad and row scalars → scratchpad and row scalars"),
        (Opcode.STORE, "go", "queue a store: scratchpad → DRAM"),
    )
}

_DRAM_BLOCK = (
    _field("dram_addr", 32, "first byte in DRAM; a multiple of the beat"),
    _field("dram_stride", 32, "bytes between rows in DRAM; a multiple of the beat"),
    _field("rows", 16, "rows of the block, at least 1"),
    _field("row_bytes", 24, "bytes of a row, at least 1"),
    _field("addr", 24, "first byte in the scratchpad; a multiple of the beat"),
    _field("stride", 24, "bytes between rows in the scratchpad; a multiple of the beat"),
)

DESCRIPTORS: dict[Unit, tuple[Field, ...]] = {
    Unit.LOAD: (
        *_DRAM_BLOCK,
        _field("transpose", 1, "1: byte j of DRAM row i goes to scratchpad row j, byte i (int8 operands only)"),
        _field("unpack", 1, "1: each DRAM byte is two elements, low nibble first, and becomes two bytes (before transposing)"),
        _field("stream", 1, ("1: beats go to the matrix engine as packed weights, not to the scratchpad: addr and stride are "
                             "not used (only with an engine that has a weight stream). With `rotary_pairs`, 1 and transpose: "
                             "they set angles of the rotary source, a record of 16 bytes a pair; 1 and unpack: a row of cosines "
                             "and one of sines of its position come from there, not from DRAM, and where dram_stride is not 0 it "
                             "goes on by one position")),
    ),
    Unit.MATRIX: (
        _field("activation_addr", 24, "first activation slot in the scratchpad"),
        _field("activation_stride", 24, "bytes between rows m (WS), or between steps k (OS)"),
        _field("activation_tile_stride", 24, "bytes between groups of R elements along K (WS) or along M (OS)"),
        _field("weight_addr", 24, "first weight slot in the scratchpad"),
        _field("weight_stride", 24, "bytes between steps k"),
        _field("weight_tile_stride", 24, "bytes between groups of C elements along N"),
        _field("acc_addr", 16, "first accumulator row"),
        _field("acc_tile_stride", 16, "accumulator rows between groups of C columns"),
        _field("m", 16, "rows of activations, at least 1"),
        _field("n", 16, "columns of weights, at least 1"),
        _field("k", 16, "reduction length, at least 1"),
        _field("dataflow", 1, "0 weight-stationary, 1 output-stationary"),
        _field("accumulate", 1, "0 overwrite the accumulator rows, 1 add to them"),
        _field("serialize", 1, "1: no overlap: a tile starts when the last one has left the array, its preload takes R slots"),
        _field("mode", 8, "0: plain weights; i: packed weights in the i-th of the config's `weight_formats`"),
    ),
    Unit.VECTOR: (
        _field("source", 3, "where an element a comes from: a `VectorSource`"),
        _field("m", 16, "rows, at least 1"),
        _field("n", 16, "columns, at least 1"),
        _field("acc_addr", 16, "first accumulator row (source 0)"),
        _field("acc_tile_stride", 16, "accumulator rows between groups of C columns (source 0)"),
        _field("a_addr", 24, "first row in the scratchpad (sources 1, 2, 4, 5)"),
        _field("a_stride", 24, "bytes between those rows"),
        _field("b_en", 1, "1: multiply by the stream B, 0: by `scale`"),
        _field("b_addr", 24, "first float32 row of B in the scratchpad"),
        _field("b_stride", 24, "bytes between rows of B; 0: one row for all, a parameter of each column"),
        _field("scale", 32, "float32 that every element is multiplied by, when b_en is 0"),
        _field("row0_en", 1, "1: multiply by the row's scalar row0 as well"),
        _field("row0_addr", 16, "row scalar of row 0 (source 3: where a comes from)"),
        _field("c_use", 2, "what the stream C does: a `StreamUse`"),
        _field("c_addr", 24, "first row of C in the scratchpad; int32 where c_use is 1, else float32"),
        _field("c_stride", 24, "bytes between rows of C; 0: one row for all"),
        _field("row1_use", 2, "what the row's scalar row1 does: a `RowUse`"),
        _field("row1_addr", 16, "row scalar of row 0"),
        _field("row1_negate", 1, "1: row1 with its sign changed"),
        _field("constant", 32, "float32 operand of middle and post, where neither C nor row1 is"),
        _field("middle", 2, ("0 none, 1 add, 2 maximum: of the scaled element with C, row1 or `constant`; 3 limit its magnitude "
                             "to that of `constant`, then add C or row1 if one is for it (only with range restriction)")),
        _field("mask_en", 1, "1: columns beyond a limit count as −Inf"),
        _field("mask", 16, "columns of row 0 that are not masked"),
        _field("mask_step", 1, "1: one more in each further row (causal), 0: as many"),
        _field("function", 3, "a `VectorFunction`"),
        _field("post", 2, "0 none, 1 multiply by C, row1 or `constant`, 2 multiply by the function's own argument"),
        _field("sum", 2, "of a row's function values: 0 nothing, 1 sum, 2 sum of squares (then `post` is 0: one multiplier)"),
        _field("sum_addr", 16, "row scalar that row 0's sum goes to"),
        _field("max", 2, "of a row's results: 0 nothing, 1 maximum, 2 maximum of magnitudes"),
        _field("max_addr", 16, "row scalar that row 0's maximum goes to"),
        _field("output", 3, "what is written to the scratchpad: a `VectorOutput`"),
        _field("addr", 24, "first output row"),
        _field("stride", 24, "bytes between output rows"),
    ),
    Unit.STORE: _DRAM_BLOCK,
}


def _destinations() -> dict[str, int]:
    names = {f"r{i}": i for i in range(REGISTERS)}
    for unit, fields in DESCRIPTORS.items():
        for field in fields:
            names[f"{unit.name.lower()}.{field.name}"] = len(names)
    return names


DESTINATIONS: dict[str, int] = _destinations()
"""Name of each ALU destination → its number: the registers, then the descriptor fields in table order."""


def destination(unit: Unit, field: str) -> int:
    """Return the destination number of a descriptor field."""
    return DESTINATIONS[f"{unit.name.lower()}.{field}"]


class ErrorCause(IntEnum):
    """Why the accelerator stopped; read in the ERROR register."""

    NONE = 0
    ILLEGAL_INSTRUCTION = 1
    PROGRAM_COUNTER = 2
    LOOP_STACK = 3
    SEMAPHORE_OVERFLOW = 4
    BAD_SIZE = 5
    MISALIGNED = 6
    SCRATCHPAD_RANGE = 7
    ACCUMULATOR_RANGE = 8
    UNSUPPORTED = 9
    BUS_READ = 10
    BUS_WRITE = 11
    BUS_FETCH = 12
    WATCHDOG = 13
    ABORTED = 14
    FIELD_OVERFLOW = 15     # a value does not fit the descriptor field
    ROW_SCALAR_RANGE = 16
    PROTECTION = 17         # an error of the hardware that it has noticed itself; the address is PROTECT_DETECTED
    COMMAND_PARITY = 18     # an instruction is not what the assembler made
    METADATA = 19           # coordinates of sparse weights that are out of range or do not increase
