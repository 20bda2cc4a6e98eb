"""A command list as the sequencer runs it: loops unrolled, fields advanced, settings kept apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hw.pim.isa import (
    COMMAND_FIELDS,
    HEAD_SETTINGS,
    LOOP_DEPTH,
    MODIFIABLE,
    MODIS,
    SETTINGS,
    PimErrorCause,
    PimOpcode,
    PimRegister,
)
from sw.pim.assembler import decode

__all__ = ["MOST_MET", "Command", "CommandError", "Settings", "expand"]

MOST_MET = 1 << 22
_MOST = {f.name: (1 << f.width) - 1 for f in COMMAND_FIELDS}
_COMPOSITE_WITHOUT = (PimOpcode.LOOP, PimOpcode.MODI, PimOpcode.HEADER, PimOpcode.BARRIER, PimOpcode.SYNC, PimOpcode.EOC)


class CommandError(ValueError):
    """What stops a list; `cause` says why, `index` is the number of the command."""

    def __init__(self, cause: PimErrorCause, index: int, text: str):
        super().__init__(f"command {index}: {text} ({cause.name})")
        self.cause, self.index = cause, index


@dataclass(slots=True)
class Settings:
    """What SETM and SETH have set so far: registers, and of each head what `HEAD_SETTINGS` names."""

    registers: list[int] = field(default_factory=lambda: [0] * len(SETTINGS))
    heads: dict[int, dict[str, int]] = field(default_factory=dict)

    def of(self, register: PimRegister) -> int:
        """Return the value of a register."""
        return self.registers[register]


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is issued.

    Attributes
    ----------
    index : int
        Its number in the list.
    opcode : PimOpcode
    fields : dict
        Its fields, advanced as loops have it.
    composite : int
        Number of the composite that it belongs to: those of one number stand together.
    """

    index: int
    opcode: PimOpcode
    fields: dict[str, int]
    composite: int


def expand(words: Sequence[int], settings: Settings, *, most: int = MOST_MET) -> Iterator[Command]:
    """Yield the commands in the order in which the sequencer meets them, up to and with EOC.

    SETM and SETH change `settings` before they are yielded; HEADER, LOOP and MODI are carried out and not yielded, but count
    among the `most` that are met, so that loops of nothing end.

    Raises
    ------
    CommandError
        When a command cannot be carried out; those before it have been yielded.
    """
    code = [int(word) for word in words]
    composite, left, ended = 0, 0, False
    for met, (index, opcode, fields) in enumerate(_walk(code, 0, len(code), {}, 0, settings)):
        if met == most:
            raise CommandError(PimErrorCause.LOOP_RANGE, index,
                               f"a list must go through at most {most} commands, loops among them")
        if left and opcode in _COMPOSITE_WITHOUT:
            raise CommandError(PimErrorCause.ILLEGAL_COMMAND, index, f"a composite must be without {opcode.name}")
        if opcode in (PimOpcode.LOOP, PimOpcode.MODI):
            continue
        if opcode is PimOpcode.HEADER:
            left, composite = fields["cnt"] + 1, composite + 1
            continue
        if opcode is PimOpcode.SETM:
            _set_register(index, fields, settings)
        elif opcode is PimOpcode.SETH:
            if fields["grp"] >= len(HEAD_SETTINGS):
                raise CommandError(PimErrorCause.ILLEGAL_COMMAND, index,
                                   f"setting of a head must be below {len(HEAD_SETTINGS)}, not {fields['grp']}")
            settings.heads.setdefault(fields["aidx"], {})[HEAD_SETTINGS[fields["grp"]]] = fields["value"]
        composite += not left
        left -= bool(left)
        yield Command(index, opcode, fields, composite)
        if opcode is PimOpcode.EOC:
            ended = True
            break
    if not ended:
        raise CommandError(PimErrorCause.NO_END, len(code), "a list must have an EOC")


def _set_register(index: int, fields: dict[str, int], settings: Settings) -> None:
    if fields["aidx"] >= len(SETTINGS):
        raise CommandError(PimErrorCause.ILLEGAL_COMMAND, index, f"register must be below {len(SETTINGS)}, not {fields['aidx']}")
    if fields["aidx"] != PimRegister.ZERO:
        settings.registers[fields["aidx"]] = fields["value"]


Growth = dict[int, dict[str, int]]
"""Command → field → how much it has grown so far."""


def _walk(code: list[int], start: int, end: int, growth: Growth, depth: int,
          settings: Settings) -> Iterator[tuple[int, PimOpcode, dict[str, int]]]:
    """Yield the commands from `start` to `end`, fields advanced by `growth`; LOOP and MODI are carried out after they are."""
    modis: list[tuple[int, str, int]] = []
    at = start
    while at < end:
        opcode, fields = _grown(code, at, growth)
        if opcode is PimOpcode.MODI:
            yield at, opcode, fields
            if depth == LOOP_DEPTH:
                raise CommandError(PimErrorCause.LOOP_RANGE, at, f"MODI must be for a loop, at most {LOOP_DEPTH} deep")
            if len(modis) == MODIS or fields["grp"] >= len(MODIFIABLE):
                raise CommandError(PimErrorCause.LOOP_RANGE, at, f"a loop must have at most {MODIS} MODIs, of known fields")
            modis.append((fields["xidx"], MODIFIABLE[fields["grp"]], fields["row"]))
            at += 1
        elif opcode is PimOpcode.LOOP:
            body = fields["xidx"]
            if fields["aidx"] >= len(SETTINGS):
                raise CommandError(PimErrorCause.ILLEGAL_COMMAND, at,
                                   f"register must be below {len(SETTINGS)}, not {fields['aidx']}")
            yield at, opcode, fields
            _check_loop(at, end, depth, fields, modis)
            inner = {command: dict(of) for command, of in growth.items()}
            for target, name, _ in modis:
                inner.setdefault(at + 1 + target, {}).setdefault(name, 0)
            for _ in range(settings.registers[fields["aidx"]] + fields["row"]):
                yield from _walk(code, at + 1, at + 1 + body, inner, depth + 1, settings)
                for target, name, stride in modis:
                    inner[at + 1 + target][name] += stride
            modis = []
            at += 1 + body
        elif modis:
            raise CommandError(PimErrorCause.LOOP_RANGE, at, f"MODI must stand before a LOOP, not before {opcode.name}")
        else:
            yield at, opcode, fields
            at += 1
    if modis:
        raise CommandError(PimErrorCause.LOOP_RANGE, end - 1, "MODI must stand before a LOOP, not at the end")


def _grown(code: list[int], at: int, growth: Growth) -> tuple[PimOpcode, dict[str, int]]:
    """Return a command with its fields advanced."""
    found = decode(code[at])
    if found is None:
        raise CommandError(PimErrorCause.ILLEGAL_COMMAND, at, f"a word must be a command, not {code[at]:#018x}")
    opcode, fields = found
    for name in growth.get(at, {}):
        if name not in fields:
            raise CommandError(PimErrorCause.ILLEGAL_COMMAND, at, f"a field that MODI advances must be one of {opcode.name}, "
                                                                  f"not {name!r}")
    for name, more in growth.get(at, {}).items():
        fields[name] += more
        if not 0 <= fields[name] <= _MOST[name]:
            raise CommandError(PimErrorCause.FIELD_OVERFLOW, at,
                               f"{name} must be between 0 and {_MOST[name]}, not {fields[name]}")
    return opcode, fields


def _check_loop(at: int, end: int, depth: int, fields: dict[str, int], modis: list[tuple[int, str, int]]) -> None:
    body = fields["xidx"]
    if depth == LOOP_DEPTH:
        raise CommandError(PimErrorCause.LOOP_RANGE, at, f"loops must be nested at most {LOOP_DEPTH} deep")
    if not 1 <= body <= end - at - 1:
        raise CommandError(PimErrorCause.LOOP_RANGE, at,
                           f"the body of a loop must be between 1 and {end - at - 1} commands, not {body}")
    if any(target >= body for target, _, _ in modis):
        raise CommandError(PimErrorCause.LOOP_RANGE, at, f"MODI must name one of the {body} commands of the body")
