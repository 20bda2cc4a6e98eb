"""HBM-PIM's micro-instructions as one table: the command register file (CRF) of 32 words of 32 bits.

In PIM mode every column command (a read or a write) runs one instruction in all units in lock step; a JUMP takes none. A unit
has 16 lanes of FP16, serves an even and an odd bank, and has GRF_A and GRF_B (8 registers of 256 bits each) and SRF_M, SRF_A (8
scalars each). Its modes change by accesses to reserved rows.

Source: the instruction layout of HBM-PIM (Lee et al., ISCA 2021; Kwon et al., ISSCC 2021), table of its public documents. The
codes of operands are in the order in which those documents list them.
"""

from enum import IntEnum

from hw.isa import Field

__all__ = ["ADD_SOURCES", "ALU_FIELDS", "BANK_ROWS", "CONFIG_COLUMNS", "CRF_WORDS", "GRF_WORDS", "JUMP_FIELDS", "LANES",
           "NOP_FIELDS", "CrfOpcode", "HostAccess", "Operand", "PimMode"]

CRF_WORDS = 32
GRF_WORDS = 8
LANES = 16


class CrfOpcode(IntEnum):
    """Values of bits 31:28."""

    NOP = 0
    ADD = 1
    MUL = 2
    MAC = 3
    MAD = 4
    MOV = 8
    FILL = 9
    JUMP = 14
    EXIT = 15


class Operand(IntEnum):
    """Values of the operand selectors."""

    A_OUT = 0
    M_OUT = 1
    EVEN_BANK = 2
    ODD_BANK = 3
    GRF_A = 4
    GRF_B = 5
    SRF_M = 6
    SRF_A = 7


def _fields(*fields: tuple[str, int, str]) -> tuple[Field, ...]:
    return tuple(Field(name=name, width=width, doc=doc) for name, width, doc in fields)


ALU_FIELDS = _fields(
    ("src1_index", 4, "register number"),
    ("src0_index", 4, "register number"),
    ("dst_index", 4, "register number"),
    ("relu", 1, "MOV: negative values become zero"),
    ("unused", 2, "zero"),
    ("auto", 1, "run for 8 column commands; register numbers are the low 3 bits of the column address"),
    ("src2", 3, "operand; MAD only"),
    ("src1", 3, "operand"),
    ("src0", 3, "operand"),
    ("dst", 3, "operand"),
    ("opcode", 4, "a `CrfOpcode`"),
)
"""Least significant first; 32 bits."""
JUMP_FIELDS = _fields(
    ("offset", 11, "instructions back, at least 1"),
    ("unused", 5, "zero"),
    ("count", 12, "how often it jumps"),
    ("opcode", 4, "14"),
)
NOP_FIELDS = _fields(
    ("count", 11, "further column commands that do nothing"),
    ("unused", 17, "zero"),
    ("opcode", 4, "0"),
)

ADD_SOURCES = (Operand.EVEN_BANK, Operand.ODD_BANK, Operand.GRF_A, Operand.GRF_B)


class PimMode(IntEnum):
    """How column commands are answered."""

    SB = 0          # one bank, as any DRAM
    HAB = 1         # all banks together
    HAB_PIM = 2     # all units run an instruction


class HostAccess(IntEnum):
    """What a host's DRAM command is."""

    ACT = 0
    PRE = 1
    RD = 2
    WR = 3


BANK_ROWS = {"enter_hab": 0x17FF, "exit_hab": 0x1FFF, "config": 0x3FFF}
"""Reserved rows: an ACT and PRE of the first two changes the mode; writes to the third configure."""
CONFIG_COLUMNS = {"mode": range(0x00, 0x01), "srf": range(0x01, 0x02), "crf": range(0x04, 0x08), "grf_a": range(0x08, 0x10),
                  "grf_b": range(0x18, 0x20)}
"""Columns of the configuration row, 32 bytes each."""
