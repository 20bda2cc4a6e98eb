"""The command set of the PIM logic die as one table: decoder, assembler and docs page are all made from it.

A command is 64 bits; a list of them ends with EOC. The sequencer runs loops, puts what moves data between buffers, the softmax
unit and the host into the *I/O queue*, and what reads DRAM into the *compute queue*. Each queue is in order; between the two,
order is kept where a buffer entry is shared (dynamic command scheduling), or always (without it). BARRIER drains both.

What a MAC reads and where its results go. A burst of all streams is multiplied in `PimConfig.beats` beats, of a weight for each
lane; `k_beats` is the register K_BEATS. Lanes are in G segments (`PimConfig.segments`) of `width` each; segment g has the streams
from g·S/G on, which it takes in the same beats. A slice of X is `width` elements, an entry of the output buffer `width` words (of
X rows each). TREE: lanes lie along K. Beat j of the command is for output entry aidx + j div k_beats and takes X slice
xidx + j mod k_beats, for all segments alike: outputs are complete after k_beats beats, that of segment g in lane g of the
entry. BCAST: lanes lie along N. In beat j segment g takes element xidx + (j div k_beats)·G + g of X (xidx is a multiple of G),
for output entry aidx + j mod k_beats; entries are complete at the end of the command, when the segments' sums are added up,
neighbours first. What is complete replaces what its entry has, with `clr`, else it is added. Without `last` what the command's
last beat is for is not complete: the next MAC, of the same mode and entry and without `clr`, goes on with it.

Of several segments RDCP, WRCP, EWMUL and EWADD use the first one's streams alone. A head's tokens are dealt out to the segments:
KVAP writes token t to the streams of segment t mod G, in the bursts that t div G says.

Zero points and special values. Weights of asymmetric formats have a zero point, those of BitMoD a special value, of each output
(TREE) or each element of X (BCAST). The side table has a byte for each, that of the output of entry e in lane g at G·e + g, that
of element e at e: the zero point in its low bits, the special value's number in bits 7:6. WRS takes one host word, which is for
as many bytes of the table, aligned to its size; a command stays within such a word.

Sets of banks. `grp` names one of 16. Where there are more, rows from `PimConfig.dram_rows` on are rows of the next 16 sets.

A loop is a MODI for each field that changes, then the LOOP, then its body. MODI says: in the body of the next LOOP, field
`field` of command `target` (0: the body's first) grows by `stride` after each iteration. A loop inside another restarts its
own growth each time; a field that leaves its width stops the list with FIELD_OVERFLOW.

HEADER says that the next `cnt` + 1 commands are one composite: rows stay open and no refresh comes between. The sequencer
refreshes first where the composite would not end before the refresh is due; one that cannot end in any refresh interval is
refused with COMPOSITE_TOO_LONG, as is MODE 1 without a REF of each rank (or set) in every interval. Without a HEADER every
command is a composite of its own.
"""

from dataclasses import dataclass
from enum import IntEnum

from hw.isa import DocumentedEnum, Field

__all__ = [
    "AF_MODES",
    "COMMAND_FIELDS",
    "HEAD_SETTINGS",
    "IMMEDIATE_LOW",
    "IMMEDIATE_WIDTH",
    "LOOP_DEPTH",
    "MODIFIABLE",
    "MODIS",
    "MOST_BEATS",
    "NAMED_SETS",
    "OPCODES",
    "SETTINGS",
    "MacMode",
    "PimErrorCause",
    "PimOpcode",
    "PimOpcodeInfo",
    "PimRegister",
    "Queue",
]

LOOP_DEPTH = 2
MODIS = 4                   # MODIs of one loop at most
MOST_BEATS = 512            # of an output or an element of X: K_BEATS at most


def _field(name: str, width: int, doc: str) -> Field:
    return Field(name=name, width=width, doc=doc)


COMMAND_FIELDS = (
    _field("tag", 1, "a mark of the host's own"),
    _field("aidx", 8, "entry of the output buffer, or head"),
    _field("xidx", 12, "slice of the X buffer (BCAST: element)"),
    _field("cnt", 7, "bursts − 1"),
    _field("col", 6, "first column of the DRAM row"),
    _field("row", 16, "DRAM row"),
    _field("grp", 4, "set of banks, or bundle"),
    _field("last", 1, "what the last burst is for is complete"),
    _field("clr", 1, "results replace what their entries have"),
    _field("mode", 2, "a `MacMode`"),
    _field("op", 6, "operation"),
)
"""Least significant first; 64 bits."""

NAMED_SETS = 16
"""Sets of banks that `grp` names; where there are more, rows beyond a set's last are of the set so many further."""
IMMEDIATE_LOW, IMMEDIATE_WIDTH = 9, 32
"""Bits of a setting's value, in the place of xidx, cnt, col and the low part of row."""


class MacMode(DocumentedEnum):
    """Values of `mode`."""

    TREE = 0, "lanes along K: an adder tree, one sum for each row of X"
    BCAST = 1, "lanes along N: one element of X for all lanes"
    EW = 2, "lane by lane"


class Queue(IntEnum):
    """Where a command waits."""

    SEQUENCER = 0
    IO = 1
    COMPUTE = 2


class PimOpcode(IntEnum):
    """Values of `op`."""

    NOP = 0x00
    SETM = 0x01
    SETH = 0x02
    HEADER = 0x03
    LOOP = 0x04
    MODI = 0x05
    BARRIER = 0x06
    SYNC = 0x07
    EOC = 0x08
    WRX = 0x10
    MVX = 0x11
    WRACC = 0x12
    RDACC = 0x13
    MVS = 0x14
    STS = 0x15
    LDS = 0x16
    WRS = 0x17
    MAC = 0x18
    EWMUL = 0x19
    EWADD = 0x1A
    AF = 0x1B
    DQA = 0x1C
    SFM = 0x20
    SFO = 0x21
    MRG = 0x22
    RDCP = 0x28
    WRCP = 0x29
    KVAP = 0x2A
    ACT = 0x30
    PRE = 0x31
    REF = 0x32
    MODE = 0x33


@dataclass(frozen=True, kw_only=True, slots=True)
class PimOpcodeInfo:
    """How an opcode is written and what it does.

    Attributes
    ----------
    queue : Queue
    fields : tuple of str
        Fields that it has beside `op` and `tag`, in the order in which text has them; all others are 0. "value" is the 32-bit
        immediate of settings.
    doc : str
    """

    opcode: PimOpcode
    queue: Queue
    fields: tuple[str, ...]
    doc: str


_MAC = ("mode", "grp", "row", "col", "cnt", "xidx", "aidx", "clr", "last")
_BANK = ("grp", "row", "col", "cnt", "xidx")

OPCODES: dict[PimOpcode, PimOpcodeInfo] = {
    op: PimOpcodeInfo(opcode=op, queue=queue, fields=fields, doc=doc)
    for op, queue, fields, doc in (
        (PimOpcode.NOP, Queue.SEQUENCER, (), "nothing"),
        (PimOpcode.SETM, Queue.SEQUENCER, ("aidx", "value"), "register aidx (a `PimRegister`) ← value"),
        (PimOpcode.SETH, Queue.SEQUENCER, ("grp", "aidx", "value"), "of head aidx: what grp says (of `HEAD_SETTINGS`) ← value"),
        (PimOpcode.HEADER, Queue.SEQUENCER, ("cnt",), "the next cnt + 1 commands are one composite"),
        (PimOpcode.LOOP, Queue.SEQUENCER, ("aidx", "row", "xidx"),
         "run the next xidx commands register aidx + row times; 0 times skips them"),
        (PimOpcode.MODI, Queue.SEQUENCER, ("xidx", "grp", "row"),
         "in the next LOOP: field grp (one of `MODIFIABLE`) of the body's command xidx grows by row (signed) each iteration"),
        (PimOpcode.BARRIER, Queue.SEQUENCER, (), "wait until both queues are empty and all units idle"),
        (PimOpcode.SYNC, Queue.SEQUENCER, (), "BARRIER, then wait for all pseudo-channels"),
        (PimOpcode.EOC, Queue.SEQUENCER, (), "BARRIER, then stop and raise the interrupt"),
        (PimOpcode.WRX, Queue.IO, ("cnt", "xidx"), "host → X buffer: cnt + 1 slices from xidx on"),
        (PimOpcode.MVX, Queue.IO, ("cnt", "xidx", "aidx"), "next softmax weights of head aidx → X buffer: cnt + 1 slices"),
        (PimOpcode.WRACC, Queue.IO, ("cnt", "aidx"), "host → output buffer: cnt + 1 entries from aidx on (bias)"),
        (PimOpcode.RDACC, Queue.IO, ("cnt", "aidx"), "output buffer → host: cnt + 1 entries from aidx on"),
        (PimOpcode.WRS, Queue.IO, ("cnt", "xidx"), "a host word → side table: cnt + 1 bytes from xidx on"),
        (PimOpcode.MVS, Queue.IO, ("cnt", "aidx", "xidx"),
         "outputs of cnt + 1 entries (lanes up to G), × SCALE → scores of head xidx"),
        (PimOpcode.STS, Queue.IO, ("aidx", "xidx"), "m and l of head xidx → lanes 0 and 1 of entry aidx; other lanes zero"),
        (PimOpcode.LDS, Queue.IO, ("aidx", "xidx"), "lanes 0 and 1 of entry aidx → m and l of head xidx"),
        (PimOpcode.MAC, Queue.COMPUTE, _MAC, "cnt + 1 bursts of weights × X buffer → output buffer"),
        (PimOpcode.EWMUL, Queue.COMPUTE, _BANK, "cnt + 1 bursts × X buffer, lane by lane → X buffer"),
        (PimOpcode.EWADD, Queue.COMPUTE, _BANK, "cnt + 1 bursts + X buffer, lane by lane → X buffer"),
        (PimOpcode.AF, Queue.IO, ("mode", "cnt", "aidx", "xidx", "clr"),
         "activation function `mode` of cnt + 1 entries → X buffer: slice by slice, or with clr their outputs as elements"),
        (PimOpcode.DQA, Queue.IO, ("cnt", "aidx", "xidx", "clr", "last"),
         "outputs of cnt + 1 entries, × scales of the host, are added to float32 sums from xidx on; last: sums → outputs"),
        (PimOpcode.SFM, Queue.IO, ("aidx", "value"), "softmax of head aidx over value scores: maximum, sum, divide"),
        (PimOpcode.SFO, Queue.IO, ("aidx", "value"),
         "online softmax of head aidx, one block of value scores: new (m, l); the outputs so far are scaled"),
        (PimOpcode.MRG, Queue.IO, ("aidx", "xidx"), "(m, l, O) of head xidx is merged into head aidx; of itself: O / l"),
        (PimOpcode.RDCP, Queue.COMPUTE, _BANK, "cnt + 1 bursts of DRAM → X buffer"),
        (PimOpcode.WRCP, Queue.COMPUTE, _BANK, "X buffer → cnt + 1 bursts of DRAM"),
        (PimOpcode.KVAP, Queue.COMPUTE, ("clr", "xidx", "aidx"),
         "X slices from xidx on → the place of the next token of head aidx: clr 0 its K, 1 its V and one more token"),
        (PimOpcode.ACT, Queue.COMPUTE, ("grp", "row"), "open a row"),
        (PimOpcode.PRE, Queue.COMPUTE, ("grp", "row"), "close the row of a set"),
        (PimOpcode.REF, Queue.COMPUTE, ("grp", "row"), "refresh the rank of a set, or with refreshes bank by bank the set"),
        (PimOpcode.MODE, Queue.COMPUTE, ("cnt",),
         "0: rows are opened by the row engine; 1: by ACT and PRE only, from none open on, and refreshed by REF"),
    )
}


class PimRegister(DocumentedEnum):
    """Registers that SETM writes and LOOP reads."""

    ZERO = 0, "reads as zero and ignores writes"
    PCH_MASK = 1, "pseudo-channels that take part, a bit each"
    K_BEATS = 2, "beats of one output (TREE), or of one element of X (BCAST); 1 to 512"
    HEAD_DIM = 3, "elements of a head's K and V"
    GROUP = 4, "query rows that share a head's K and V; at most rows_x"
    MAX_TOKENS = 5, "tokens for which a head has room"
    SCALE = 6, "float32 that scores are multiplied by"
    R7 = 7, "free, for loops"
    R8 = 8, "free, for loops"
    R9 = 9, "free, for loops"
    R10 = 10, "free, for loops"
    R11 = 11, "free, for loops"
    R12 = 12, "free, for loops"
    R13 = 13, "free, for loops"
    R14 = 14, "free, for loops"
    OPERANDS = 15, "formats of MAC: 0 weights × activations, 1 K × queries, 2 V × softmax weights; 0 where all are the same"


SETTINGS = {register.name.lower(): int(register) for register in PimRegister}
"""Name of a register in text → its number."""
HEAD_SETTINGS = ("k_row", "v_row", "tokens", "output")
"""What SETH sets of a head, in order of `grp`: first row of K, first row of V, tokens that are there, first of the
head_dim / width entries of the output buffer in which its output is added up; this also makes (m, l) those of a head that has
seen nothing."""
AF_MODES = ("identity", "silu", "gelu", "gated")
"""Values of `mode` in AF; "gated" multiplies SiLU of an entry by the entry cnt + 1 further on."""
MODIFIABLE = ("row", "col", "xidx", "aidx", "cnt", "grp")
"""Fields that MODI advances, in order of its own `grp`."""


class PimErrorCause(IntEnum):
    """Why a list stopped."""

    NONE = 0
    ILLEGAL_COMMAND = 1         # an opcode that there is not, or a field set that the opcode does not have
    LOOP_RANGE = 2              # nested too deep, too many MODIs, a target or a body beyond the list
    FIELD_OVERFLOW = 3          # MODI made a field that does not fit
    COMPOSITE_TOO_LONG = 4      # HEADER: cannot end before a refresh is due
    COLUMN_RANGE = 5            # col + cnt leaves the row
    ROW_RANGE = 6               # a row that is not there
    XBUF_RANGE = 7
    OBUF_RANGE = 8
    HEAD_RANGE = 9              # a head beyond `heads`, or more query rows than rows_x
    TOKENS_RANGE = 10           # context beyond MAX_TOKENS
    GROUP_RANGE = 11            # a set of banks that there is not
    NO_END = 12                 # the list has no EOC
    UNSUPPORTED = 13            # a command that this die has not got the unit for
    SIDE_RANGE = 15             # WRS: beyond the side table, or over the end of one of its words
    ROW_STATE = 14              # in MODE 1: bursts of a row that ACT has not opened; ACT or REF where one is open
