"""Assembler and disassembler of PIM command lists, made from the table `hw.pim.isa`.

Text syntax: one command a line; `;` or `#` starts a comment; fields as NAME=NUMBER in any order, zero where missing::

    setm   k_beats, 2                  ; a register (`hw.pim.isa.SETTINGS`) ← value
    seth   tokens, 0, 4096             ; a setting of a head ← value
    modi   2, row, 1                   ; in the next loop: command 2 of the body, its field `row` + 1 each iteration
    loop   r7 + 4, 3                   ; the next 3 commands, r7 + 4 times
    mac    mode=tree grp=1 row=0x20 cnt=31 aidx=4 clr last tag=3
    eoc
    .word  0x0123456789abcdef          ; 64 bits as they are

`clr` and `last` are 1 where they stand. `disassemble` writes what `assemble` reads; words → text → words gives the same words
whatever they are.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.pim.isa import (
    COMMAND_FIELDS,
    HEAD_SETTINGS,
    IMMEDIATE_LOW,
    IMMEDIATE_WIDTH,
    MODIFIABLE,
    OPCODES,
    SETTINGS,
    MacMode,
    PimOpcode,
)

__all__ = ["PimAssemblyError", "assemble", "command", "decode", "disassemble"]

_WIDTHS = {field.name: field.width for field in COMMAND_FIELDS}
_LOWS = {field.name: sum(f.width for f in COMMAND_FIELDS[:i]) for i, field in enumerate(COMMAND_FIELDS)}
_FLAGS = ("clr", "last")
_REGISTERS = {number: name for name, number in SETTINGS.items()}
_ROW_SIGN = 1 << (_WIDTHS["row"] - 1)


class PimAssemblyError(ValueError):
    """A command list that cannot be assembled; the text of one made from text starts with "line N: "."""


def command(opcode: PimOpcode, **fields: int) -> int:
    """Return the 64-bit word of a command.

    Parameters
    ----------
    opcode : PimOpcode
    **fields : int
        Fields that the opcode has (`hw.pim.isa.OPCODES`), and `tag`; those not given are 0. `row` of MODI is signed.

    Raises
    ------
    PimAssemblyError
        If it has not got a field, or a value does not fit.
    """
    name, known = opcode.name.lower(), (*OPCODES[opcode].fields, "tag")
    word = int(opcode) << _LOWS["op"]
    for field, value in fields.items():
        if field not in known:
            raise PimAssemblyError(f"field of {name} must be one of {', '.join(known)}, not {field!r}")
        low, width = (IMMEDIATE_LOW, IMMEDIATE_WIDTH) if field == "value" else (_LOWS[field], _WIDTHS[field])
        signed = opcode is PimOpcode.MODI and field == "row"
        least, most = (-_ROW_SIGN, _ROW_SIGN - 1) if signed else (0, (1 << width) - 1)
        if not least <= value <= most:
            raise PimAssemblyError(f"{name}.{field} must be between {least} and {most}, not {value!r}")
        word |= (int(value) & (1 << width) - 1) << low
    return word


def decode(word: int) -> tuple[PimOpcode, dict[str, int]] | None:
    """Return opcode and fields (with `tag`) of a word, or None if no command is written so."""
    op = word >> _LOWS["op"]
    if op not in PimOpcode.__members__.values():
        return None
    opcode = PimOpcode(op)
    fields = {}
    for name in (*OPCODES[opcode].fields, "tag"):
        low, width = (IMMEDIATE_LOW, IMMEDIATE_WIDTH) if name == "value" else (_LOWS[name], _WIDTHS[name])
        fields[name] = word >> low & (1 << width) - 1
    if opcode is PimOpcode.MODI and fields["row"] >= _ROW_SIGN:
        fields["row"] -= 2 * _ROW_SIGN
    return (opcode, fields) if command(opcode, **fields) == word else None


def assemble(text: str) -> npt.NDArray[np.uint64]:
    """Return the command list written in `text`: uint64, one word a command.

    Raises
    ------
    PimAssemblyError
        At the first mistake, with its line number.
    """
    words = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement = re.split("[;#]", line, maxsplit=1)[0].strip()
        if statement:
            try:
                words.append(_statement(*[*statement.split(maxsplit=1), ""][:2]))
            except PimAssemblyError as error:
                raise PimAssemblyError(f"line {number}: {error}") from None
    return np.array(words, dtype=np.uint64)


def _statement(mnemonic: str, rest: str) -> int:
    name = mnemonic.upper()
    if name == ".WORD":
        word = _number(rest)
        if not 0 <= word < 1 << 64:
            raise PimAssemblyError(f"word must be between 0 and {(1 << 64) - 1}, not {word!r}")
        return word
    if name not in PimOpcode.__members__:
        raise PimAssemblyError(f"command must be an opcode or .word, not {mnemonic!r}")
    opcode = PimOpcode[name]
    rest, tag = _tag(rest)
    fields = _positional(opcode, rest) if opcode in _SYNTAX else _named(rest)
    return command(opcode, **fields, **tag)


def _tag(rest: str) -> tuple[str, dict[str, int]]:
    match = re.search(r"\btag=(\S+)\s*$", rest)
    return (rest[:match.start()].strip(), {"tag": _number(match[1])}) if match else (rest.strip(), {})


_SYNTAX = {
    PimOpcode.SETM: "setm REGISTER, VALUE",
    PimOpcode.SETH: "seth SETTING, HEAD, VALUE",
    PimOpcode.MODI: "modi COMMAND, FIELD, STRIDE",
    PimOpcode.LOOP: "loop REGISTER + NUMBER, COMMANDS",
}
_BOUND = re.compile(r"(?:(?P<register>[a-z]\w*)\s*(?:\+\s*(?P<more>\w+))?)|(?P<number>\w+)", re.IGNORECASE)


def _positional(opcode: PimOpcode, rest: str) -> dict[str, int]:
    parts = [part.strip() for part in rest.split(",")]
    if len(parts) != _SYNTAX[opcode].count(",") + 1:
        raise PimAssemblyError(f"command must be written as {_SYNTAX[opcode]}, not with operands {rest!r}")
    match opcode:
        case PimOpcode.SETM:
            return {"aidx": _register(parts[0]), "value": _number(parts[1])}
        case PimOpcode.SETH:
            return {"grp": _index("setting", parts[0], HEAD_SETTINGS), "aidx": _number(parts[1]), "value": _number(parts[2])}
        case PimOpcode.MODI:
            return {"xidx": _number(parts[0]), "grp": _index("field", parts[1], MODIFIABLE), "row": _number(parts[2])}
        case _:
            match = _BOUND.fullmatch(parts[0])
            if match is None:
                raise PimAssemblyError(f"bound must be a register, a number, or a register + a number, not {parts[0]!r}")
            register = _register(match["register"]) if match["register"] else 0
            return {"aidx": register, "row": _number(match["more"] or match["number"] or "0"), "xidx": _number(parts[1])}


def _named(rest: str) -> dict[str, int]:
    fields: dict[str, int] = {}
    for part in rest.split():
        name, _, text = part.lower().partition("=")
        if name in fields:
            raise PimAssemblyError(f"field {name} must be given once, not again in {rest!r}")
        if not text and name not in _FLAGS:
            raise PimAssemblyError(f"field must be written as NAME=NUMBER, not {part!r}")
        fields[name] = 1 if not text else MacMode[text.upper()] if text.upper() in MacMode.__members__ else _number(text)
    return fields


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise PimAssemblyError(f"number must be decimal or 0x…, not {text!r}") from None


def _index(what: str, text: str, names: Sequence[str]) -> int:
    if text.lower() not in names:
        raise PimAssemblyError(f"{what} must be one of {', '.join(names)}, not {text!r}")
    return names.index(text.lower())


def _register(text: str) -> int:
    if text.lower() not in SETTINGS:
        raise PimAssemblyError(f"register must be one of {', '.join(SETTINGS)}, not {text!r}")
    return SETTINGS[text.lower()]


def disassemble(words: Sequence[int] | npt.NDArray[np.uint64]) -> str:
    """Return the text of a command list, one line a word; a word that no text stands for becomes a `.word`."""
    return "".join(_text(int(word)) + "\n" for word in words)


def _text(word: int) -> str:
    found = decode(word)
    if found is None:
        return f".word {word:#018x}"
    opcode, fields = found
    name, tag = opcode.name.lower(), f" tag={fields['tag']}" if fields["tag"] else ""
    positional = _operands(opcode, fields)
    if opcode in _SYNTAX:
        return f"{name} {positional}{tag}" if positional is not None else f".word {word:#018x}"
    parts = [field if field in _FLAGS else f"{field}={_value(field, fields[field], opcode)}"
             for field in OPCODES[opcode].fields if fields[field]]
    return " ".join((name, *parts)) + tag


def _value(field: str, value: int, opcode: PimOpcode) -> str:
    named = field == "mode" and opcode is PimOpcode.MAC and value in MacMode.__members__.values()
    return MacMode(value).name.lower() if named else str(value)


def _operands(opcode: PimOpcode, fields: Mapping[str, int]) -> str | None:
    """Return the operands of a command written by position, or None if a number in it has no name."""
    match opcode:
        case PimOpcode.SETM if fields["aidx"] in _REGISTERS:
            return f"{_REGISTERS[fields['aidx']]}, {fields['value']}"
        case PimOpcode.SETH if fields["grp"] < len(HEAD_SETTINGS):
            return f"{HEAD_SETTINGS[fields['grp']]}, {fields['aidx']}, {fields['value']}"
        case PimOpcode.MODI if fields["grp"] < len(MODIFIABLE):
            return f"{fields['xidx']}, {MODIFIABLE[fields['grp']]}, {fields['row']}"
        case PimOpcode.LOOP if fields["aidx"] in _REGISTERS:
            bound = f"{_REGISTERS[fields['aidx']]} + {fields['row']}" if fields["aidx"] else str(fields["row"])
            return f"{bound}, {fields['xidx']}"
        case _:
            return None
