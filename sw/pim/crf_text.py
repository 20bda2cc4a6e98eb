"""HBM-PIM's micro-code as text: one instruction a line, to words that are checked, and back.

`;` or `#` starts a comment. Operands are in the order destination, sources; registers have their number in brackets, banks and
the outputs of adder and multiplier have none; with `auto` no register of GRF_A and GRF_B has one. A label stands before a line,
for JUMPs back to it::

    tile:   mac   grf_b, grf_a, even_bank  auto     ; for 8 column commands
            jump  tile, 7                           ; where to, how often
            nop   3                                 ; further column commands that do nothing
            mad   grf_a[1], odd_bank, srf_m[2], srf_a[2]
            mov   even_bank, grf_b[0]  relu
            exit

Sources 1 and 2 of MAD share the field of their number.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hw.pim.crf import CRF_WORDS, GRF_WORDS, CrfOpcode, Operand
from sw.pim.crf_assembler import CrfError, check_instruction, check_program, decode_instruction, encode_instruction

__all__ = ["assemble_micro_code", "disassemble_micro_code", "read_micro_code"]

_OPERANDS = {
    **dict.fromkeys((CrfOpcode.ADD, CrfOpcode.MUL, CrfOpcode.MAC), ("dst", "src0", "src1")),
    CrfOpcode.MAD: ("dst", "src0", "src1", "src2"),
    **dict.fromkeys((CrfOpcode.MOV, CrfOpcode.FILL), ("dst", "src0")),
}
_INDEX = {"dst": "dst_index", "src0": "src0_index", "src1": "src1_index", "src2": "src1_index"}
_NUMBERED = (Operand.GRF_A, Operand.GRF_B, Operand.SRF_M, Operand.SRF_A)
_WHOLE = (Operand.SRF_M, Operand.SRF_A)         # as destinations: a FILL writes all eight
_FLAGS = ("auto", "relu")
_LABEL = re.compile(r"([A-Za-z_]\w*):\s*")
_OPERAND = re.compile(r"([A-Za-z_]\w*)(?:\[(\w+)\])?")


def assemble_micro_code(text: str) -> list[int]:
    """Return the program written in `text`, checked as `sw.pim.crf_assembler.check_program` does.

    Raises
    ------
    CrfError
        At the first mistake, with its line number; or if the program as a whole cannot run.
    """
    words: list[int] = []
    labels: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        statement = re.split("[;#]", line, maxsplit=1)[0].strip()
        try:
            while found := _LABEL.match(statement):
                if found[1] in labels:
                    raise CrfError(f"a label must stand once, not {found[1]!r} again")
                labels[found[1]] = len(words)
                statement = statement[found.end():]
            if statement:
                if len(words) == CRF_WORDS:
                    raise CrfError(f"a program must have at most {CRF_WORDS} instructions")
                words.append(_instruction(statement, len(words), labels))
                check_instruction(words[-1], len(words) - 1)
        except CrfError as error:
            raise CrfError(f"line {number}: {error}") from None
    check_program(words)
    return words


def read_micro_code(path: Path | str) -> list[int]:
    """Return the program in a text file; errors begin with its name.

    Raises
    ------
    CrfError
        If it cannot be read or assembled.
    """
    try:
        return assemble_micro_code(Path(path).read_text(encoding="utf-8"))
    except CrfError as error:
        raise CrfError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CrfError(f"{path} must be a readable text file: {error}") from None


def _instruction(statement: str, number: int, labels: dict[str, int]) -> int:
    mnemonic, rest = [*statement.split(maxsplit=1), ""][:2]
    if mnemonic.upper() not in CrfOpcode.__members__:
        raise CrfError(f"instruction must be one of {', '.join(o.name.lower() for o in CrfOpcode)}, not {mnemonic!r}")
    opcode, fields = CrfOpcode[mnemonic.upper()], {}
    words = rest.split()
    while words and words[-1] in _FLAGS:
        fields[words.pop()] = 1
    operands = [part.strip() for part in " ".join(words).split(",")] if words else []
    if opcode in _OPERANDS:
        return _arithmetic(opcode, operands, fields)
    wanted = {CrfOpcode.JUMP: ("label", "count"), CrfOpcode.NOP: ("count",), CrfOpcode.EXIT: ()}[opcode]
    least = 0 if opcode is CrfOpcode.NOP else len(wanted)
    if fields or not least <= len(operands) <= len(wanted):
        raise CrfError(f"{opcode.name.lower()} must have {', '.join(wanted) or 'nothing'} behind it, not {rest!r}")
    if opcode is CrfOpcode.JUMP:
        if operands[0] not in labels:
            raise CrfError(f"label of a jump must be one of a line before it, not {operands[0]!r}")
        fields["offset"] = number - labels[operands[0]]
        if not fields["offset"]:
            raise CrfError(f"label of a jump must be of another instruction, not {operands[0]!r}")
    if operands:
        fields["count"] = _number("count", operands[-1])
    return encode_instruction(opcode, **fields)


def _arithmetic(opcode: CrfOpcode, operands: Sequence[str], flags: dict[str, int]) -> int:
    names = _OPERANDS[opcode]
    if len(operands) != len(names):
        raise CrfError(f"{opcode.name.lower()} must have {len(names)} operands, {', '.join(names)}, not {len(operands)}")
    fields = dict(flags)
    for name, text in zip(names, operands, strict=True):
        found = _OPERAND.fullmatch(text)
        if not found or found[1].upper() not in Operand.__members__:
            raise CrfError(f"{name} must be one of {', '.join(o.name.lower() for o in Operand)}, not {text!r}")
        operand = fields[name] = Operand[found[1].upper()]
        numbered = _numbered(name, operand, "auto" in flags)
        if numbered != (found[2] is not None):
            rule = f"a register from 0 to {GRF_WORDS - 1} in brackets" if numbered else "no register in brackets"
            raise CrfError(f"{name} must have {rule}, not as in {text!r}")
        if numbered:
            index, at = _number(f"register of {name}", found[2]), _INDEX[name]
            if not index < GRF_WORDS:
                raise CrfError(f"register of {name} must be below {GRF_WORDS}, not {index}")
            if fields.setdefault(at, index) != index:
                raise CrfError(f"register of src2 must be that of src1, {fields[at]}, not {index}: they share a field")
    return encode_instruction(opcode, **fields)


def _numbered(name: str, operand: Operand, auto: bool) -> bool:
    """Return whether an operand is written with a register's number."""
    if operand in _WHOLE:
        return name != "dst"
    return operand in _NUMBERED and not auto


def _number(name: str, text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise CrfError(f"{name} must be a number from 0 on, not {text!r}")
    return value


def disassemble_micro_code(words: Sequence[int]) -> str:
    """Return the text of a program up to its EXIT, from which `assemble_micro_code` makes the same up to fields that say nothing.

    Raises
    ------
    CrfError
        If `sw.pim.crf_assembler.check_program` refuses it.
    """
    check_program(words)
    lines: list[str] = []
    targets: set[int] = set()
    for number, word in enumerate(words):
        opcode, values = decode_instruction(word)
        operands: list[str] = []
        if opcode is CrfOpcode.JUMP:
            targets.add(number - values["offset"])
            operands = [f"word_{number - values['offset']}", str(values["count"])]
        elif opcode is CrfOpcode.NOP and values["count"]:
            operands = [str(values["count"])]
        for name in _OPERANDS.get(opcode, ()):
            operand = Operand(values[name])
            numbered = _numbered(name, operand, bool(values["auto"]))
            operands.append(operand.name.lower() + (f"[{values[_INDEX[name]]}]" if numbered else ""))
        flags = [flag for flag in _FLAGS if values.get(flag) and opcode in _OPERANDS]
        lines.append("  ".join(part for part in (f"{opcode.name.lower():<5} {', '.join(operands)}".rstrip(), *flags)))
        if opcode is CrfOpcode.EXIT:
            break
    width = max((len(f"word_{number}: ") for number in targets), default=0)
    return "".join(f"{f'word_{number}: ' if number in targets else '':<{width}}{line}\n" for number, line in enumerate(lines))
