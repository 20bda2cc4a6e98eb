"""HBM-PIM's micro-instructions: fields ↔ 32-bit words, by the tables of `hw.pim.crf`, and the check of a program."""

from collections.abc import Sequence

from hw.isa import Field
from hw.pim.crf import ADD_SOURCES, ALU_FIELDS, CRF_WORDS, GRF_WORDS, JUMP_FIELDS, NOP_FIELDS, CrfOpcode, Operand

__all__ = ["CrfError", "check_instruction", "check_program", "decode_instruction", "encode_instruction"]

_BANKS = (Operand.EVEN_BANK, Operand.ODD_BANK)
_REGISTERS = (Operand.GRF_A, Operand.GRF_B)
_READABLE = {
    CrfOpcode.ADD: (ADD_SOURCES, (*ADD_SOURCES, Operand.SRF_A)),
    CrfOpcode.MUL: (ADD_SOURCES, (*ADD_SOURCES, Operand.SRF_M)),
    CrfOpcode.MAC: (ADD_SOURCES, (*ADD_SOURCES, Operand.SRF_M)),
    CrfOpcode.MAD: (ADD_SOURCES, (*ADD_SOURCES, Operand.SRF_M)),
    CrfOpcode.MOV: (tuple(Operand), ()),
    CrfOpcode.FILL: (_BANKS, ()),
}
"""Opcode → what src0 and src1 may be."""


class CrfError(ValueError):
    """A micro-instruction or a program of them that HBM-PIM cannot run."""


def _fields_of(opcode: CrfOpcode) -> tuple[Field, ...]:
    return {CrfOpcode.JUMP: JUMP_FIELDS, CrfOpcode.NOP: NOP_FIELDS}.get(opcode, ALU_FIELDS)


def encode_instruction(opcode: CrfOpcode, **values: int) -> int:
    """Return the word of an instruction; fields (`hw.pim.crf`) that are not given are 0.

    Raises
    ------
    CrfError
        If it has not got a field, or a value does not fit.
    """
    fields, word, low = _fields_of(opcode), 0, 0
    known = [field.name for field in fields if field.name not in ("opcode", "unused")]
    for name in values:
        if name not in known:
            raise CrfError(f"field of {opcode.name} must be one of {', '.join(known)}, not {name!r}")
    for field in fields:
        value = int(opcode) if field.name == "opcode" else values.get(field.name, 0)
        if not 0 <= value < 1 << field.width:
            raise CrfError(f"{opcode.name}.{field.name} must be between 0 and {(1 << field.width) - 1}, not {value!r}")
        word |= value << low
        low += field.width
    return word


def decode_instruction(word: int) -> tuple[CrfOpcode, dict[str, int]]:
    """Return opcode and fields of a word.

    Raises
    ------
    CrfError
        If the opcode is not one, or an unused bit is set.
    """
    number = word >> 28
    if number not in CrfOpcode.__members__.values():
        raise CrfError(f"opcode must be one of {', '.join(str(int(o)) for o in CrfOpcode)}, not {number}")
    opcode, values = CrfOpcode(number), {}
    low = 0
    for field in _fields_of(opcode):
        values[field.name] = word >> low & (1 << field.width) - 1
        low += field.width
    if values.pop("unused"):
        raise CrfError(f"unused bits of {opcode.name} must be 0, not as in {word:#010x}")
    del values["opcode"]
    return opcode, values


def check_program(words: Sequence[int]) -> None:
    """Refuse a program that would not do what it says.

    Every word must decode; operands must be such as the instruction has; register numbers exist; a JUMP stays inside; EXIT is
    reached.

    Raises
    ------
    CrfError
        At the first word that is wrong, by its number.
    """
    if not 1 <= len(words) <= CRF_WORDS:
        raise CrfError(f"a program must have between 1 and {CRF_WORDS} words, not {len(words)}")
    found = False
    for number, word in enumerate(words):
        try:
            opcode = check_instruction(word, number)
        except CrfError as error:
            raise CrfError(f"word {number}: {error}") from None
        if opcode is CrfOpcode.EXIT:
            found = True
            break
    if not found:
        raise CrfError("a program must have an EXIT")


def check_instruction(word: int, number: int) -> CrfOpcode:
    """Refuse a word that would not do what it says as the word of that number, and return its opcode.

    Raises
    ------
    CrfError
        If it does not decode, its operands are none that the instruction has, or it is a JUMP to before the program.
    """
    opcode, values = decode_instruction(word)
    if opcode is CrfOpcode.JUMP:
        if not number:
            raise CrfError("a JUMP must have an instruction before it")
        _must("offset", 1 <= values["offset"] <= number, f"between 1 and {number}, so that it stays inside", values)
    elif opcode in _READABLE:
        _check_operands(opcode, values)
    return opcode


def _must(name: str, holds: bool, rule: str, values: dict[str, int]) -> None:
    if not holds:
        raise CrfError(f"{name} must be {rule}, not {values[name]}")


def _check_operands(opcode: CrfOpcode, values: dict[str, int]) -> None:
    first, second = _READABLE[opcode]
    dst_may = (*_REGISTERS, *_BANKS) if opcode is CrfOpcode.MOV else _REGISTERS
    if opcode is CrfOpcode.FILL:
        dst_may = (*_REGISTERS, Operand.SRF_M, Operand.SRF_A)
    for name, legal in (("dst", dst_may), ("src0", first), *((("src1", second),) if second else ())):
        _must(name, values[name] in legal, f"one of {', '.join(o.name for o in legal)}", values)
    if second and values["src0"] in _BANKS and values["src1"] in _BANKS:
        raise CrfError(f"src0 and src1 must not both be banks, as in {opcode.name}: one column command reads one of them")
    if opcode is CrfOpcode.MAD:
        _must("src2", values["src2"] in (*_REGISTERS, Operand.SRF_A), "one of GRF_A, GRF_B, SRF_A", values)
    for name in ("dst_index", "src0_index", "src1_index"):
        _must(name, values[name] < GRF_WORDS, f"below {GRF_WORDS}", values)
    _must("relu", not values["relu"] or opcode is CrfOpcode.MOV, f"0 in {opcode.name}", values)
