"""Reader of Liberty (.lib) cell libraries: what synthesis has to know of the cells of a process."""

import functools
import gzip
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Cell", "Liberty", "LibertyError", "parse_liberty", "read_liberty"]

_TOKEN = re.compile(r"""(?P<skip>[ \t\r\n]+|\\\r?\n|/\*.*?\*/|//[^\n]*)
                      |(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[{}():;,])|(?P<word>[^\s{}():;,"]+)""", re.VERBOSE | re.DOTALL)
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12, "fs": 1e-15}
_FARADS = {"ff": 1e-15, "pf": 1e-12, "nf": 1e-9, "f": 1.0}


class LibertyError(ValueError):
    """A cell library that does not exist, cannot be read, or lacks a cell that synthesis needs."""


@dataclass(slots=True)
class _Group:
    """`kind (name) { … }`: attributes, and the groups inside."""

    kind: str
    name: str
    line: int
    values: dict[str, list[str]] = field(default_factory=dict)
    groups: list["_Group"] = field(default_factory=list)

    def of(self, kind: str) -> Iterator["_Group"]:
        """Yield the groups of one kind directly inside."""
        return (group for group in self.groups if group.kind == kind)

    def text(self, name: str, default: str = "") -> str:
        return self.values[name][0] if self.values.get(name) else default

    def number(self, name: str, default: float = 0.0) -> float:
        text = self.text(name)
        try:
            return float(text) if text else default
        except ValueError:
            where = f"{name} of {self.kind} ({self.name}) in line {self.line}"
            raise LibertyError(f"{where} must be a number, not {text!r}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell.

    Attributes
    ----------
    name : str
    area : float
        In the library's unit, µm² by convention.
    kind : str
        "combinational", "flip-flop", "latch", or "other" (no output that always drives a function:
        fillers, antennas, three-state buffers).
    inputs, outputs : tuple of str
    function : str or None
        Of the only output, without blanks and with the inputs named a, b, c … in their order of appearance.
    input_capacitance : float
        Of the first data input, in the library's unit.
    delay : float
        Of the first arc, in ns, with fan-out 4 and an input as steep as the output; 0 if it has none.
    hidden : bool
        Whether the library says `dont_use`.
    """

    name: str
    area: float
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: str | None
    input_capacitance: float
    delay: float
    hidden: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Liberty:
    """A cell library.

    Attributes
    ----------
    name : str
        Of the library.
    digest : str
        First 12 hexadecimal digits of SHA-256 of its text.
    text : str
        Its text, uncompressed.
    cells : dict of str to Cell
    capacitance_unit : float
        In farads.
    """

    name: str
    digest: str
    text: str
    cells: dict[str, Cell]
    capacitance_unit: float

    def smallest(self, kind: str, function: str | None = None) -> Cell | None:
        """Return the cell with the least area of a kind, with this function if given; None if there is none."""
        found = [cell for cell in self.cells.values() if cell.kind == kind and not cell.hidden and cell.area > 0
                 and (function is None or cell.function == function)]
        return min(found, key=lambda cell: (cell.area, cell.name), default=None)

    @property
    def nand2(self) -> Cell:
        """The NAND2 that is the unit of gate counts."""
        cell = self.smallest("combinational", "!(a*b)")
        assert cell is not None     # checked when it was read
        return cell

    @property
    def driver(self) -> Cell:
        """What drives inputs: the smallest buffer, else the smallest inverter."""
        cell = self.smallest("combinational", "a") or self.smallest("combinational", "!a")
        assert cell is not None
        return cell

    @property
    def load(self) -> float:
        """Capacitance at outputs in the library's unit: four inputs of `driver`."""
        return 4 * self.driver.input_capacitance


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and position of every token."""
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _broken(text, position, f"a name, a string or one of {{}}():;,, not {text[position:position + 10]!r}")
        if found.lastgroup != "skip":
            assert found.lastgroup is not None
            yield found.lastgroup, found[0].strip('"') if found.lastgroup == "text" else found[0], position
        position = found.end()


def _broken(text: str, position: int, rule: str) -> LibertyError:
    return LibertyError(f"line {text.count(chr(10), 0, position) + 1} of the liberty must have {rule}")


def _parse(text: str) -> _Group:
    """Return the outermost group, `library (name) { … }`."""
    tokens = _tokens(text)
    root = _Group("", "", 0)
    stack, opened = [root], [0]
    words: list[str] = []           # of the statement so far: name, then its values
    line, counted = 1, 0
    for kind, token, position in tokens:
        if kind != "mark":
            words.append(token)
        elif token == "{":
            if not words:
                raise _broken(text, position, "a name before '{'")
            line, counted = line + text.count("\n", counted, position), position
            group = _Group(words[0], " ".join(words[1:]), line)
            stack[-1].groups.append(group)
            stack.append(group)
            opened.append(position)
            words = []
        elif token in ";}":
            _note(stack[-1], words)
            words = []
            if token == "}":
                if len(stack) == 1:
                    raise _broken(text, position, "no '}' without a '{'")
                stack.pop()
                opened.pop()
    if len(stack) > 1:
        raise _broken(text, opened[-1], f"a '}}' for its '{{' (of {stack[-1].kind} {stack[-1].name})")
    libraries = list(root.of("library"))
    if len(libraries) != 1:
        raise LibertyError(f"a liberty must hold one 'library (name) {{…}}', not {len(libraries)}")
    return libraries[0]


def _note(group: _Group, words: list[str]) -> None:
    if words:
        group.values.setdefault(words[0], []).extend(words[1:])


def _canonical(function: str, inputs: list[str]) -> str:
    """Return a function without blanks, with `*` for and, `!` before its operand, inputs named a, b, … as they appear."""
    order: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return order.setdefault(found[0], chr(ord("a") + len(order))) if found[0] in inputs else found[0]

    text = re.sub(r"\s*([!()*+^&|'])\s*", r"\1", function.strip())
    text = re.sub(r"[A-Za-z_]\w*", name, text).replace("&", "*").replace("|", "+").replace(" ", "*")
    while text.startswith("(") and text.endswith(")") and _matches(text):
        text = text[1:-1]
    if found := re.fullmatch(r"(\w+|\(.*\))'", text):
        text = "!" + found[1]
    if found := re.fullmatch(r"!\((\w+)\)", text):
        text = "!" + found[1]
    return {"!a+!b": "!(a*b)", "(!a)+(!b)": "!(a*b)", "!a*!b": "!(a+b)"}.get(text, text)


def _matches(text: str) -> bool:
    """Return whether the first parenthesis is closed by the last."""
    depth = 0
    for index, mark in enumerate(text):
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if not depth:
            return index == len(text) - 1
    return False


def _numbers(group: _Group, name: str) -> list[float]:
    """Return the numbers of an attribute of a group; none if it has no such attribute."""
    parts = [part for text in group.values.get(name, []) for part in text.replace("\\", " ").replace(",", " ").split()]
    try:
        return [float(part) for part in parts]
    except ValueError as error:
        where = f"{name} of {group.kind} ({group.name}) in line {group.line}"
        raise LibertyError(f"{where} must be numbers: {error}") from None


def _delay(pin: _Group, templates: dict[str, _Group], load: float) -> float:
    """Return the mean of rise and fall of the first arc of an output at `load`, its input as steep as its output."""
    for timing in pin.of("timing"):
        tables = {table.kind: table for table in timing.groups}
        delays = [tables[kind] for kind in ("cell_rise", "cell_fall") if kind in tables]
        slews = [tables[kind] for kind in ("rise_transition", "fall_transition") if kind in tables]
        if delays:
            slew = sum(_look_up(table, templates, load, None) for table in slews) / len(slews) if slews else None
            return sum(_look_up(table, templates, load, slew) for table in delays) / len(delays)
    return 0.0


def _look_up(table: _Group, templates: dict[str, _Group], load: float, slew: float | None) -> float:
    """Return a table between its entries, at a load and an input slew (None: the second steepest)."""
    template = templates.get(table.name)
    values = np.array(_numbers(table, "values"))
    axes = []
    for index in ("1", "2"):
        points = _numbers(table, f"index_{index}") or (_numbers(template, f"index_{index}") if template else [])
        if points:
            is_load = template is not None and template.text(f"variable_{index}") == "total_output_net_capacitance"
            axes.append((points, load if is_load else points[min(1, len(points) - 1)] if slew is None else slew))
    if values.size != math.prod(len(points) for points, _ in axes):
        return float(values.mean()) if values.size else 0.0
    for points, wanted in reversed(axes):
        values = np.array([np.interp(wanted, points, row) for row in values.reshape(-1, len(points))])
    return float(values.reshape(-1)[0])


def _cell(group: _Group, time_unit: float, templates: dict[str, _Group]) -> Cell:
    pins = [pin for pin in group.groups if pin.kind == "pin"]
    inputs = [pin for pin in pins if pin.text("direction") == "input"]
    outputs = [pin for pin in pins if pin.text("direction") == "output"]
    kinds = {inner.kind for inner in group.groups}
    functions = [pin.text("function") for pin in outputs if pin.text("function") and not pin.text("three_state")]
    kind = ("flip-flop" if kinds & {"ff", "ff_bank"} else "latch" if kinds & {"latch", "latch_bank"} else
            "combinational" if functions else "other")
    names = [pin.name for pin in inputs]
    data = [pin for pin in inputs if pin.text("clock") != "true"]
    load = data[0].number("capacitance") if data else 0.0
    return Cell(name=group.name, area=group.number("area"), kind=kind, inputs=tuple(names),
                outputs=tuple(pin.name for pin in outputs),
                function=_canonical(functions[0], names) if len(outputs) == 1 and functions else None,
                input_capacitance=load,
                delay=_delay(outputs[0], templates, 4 * load) * time_unit * 1e9 if outputs else 0.0,
                hidden=group.text("dont_use") == "true")


def _unit(text: str, units: dict[str, float], otherwise: float) -> float:
    found = re.fullmatch(r"\s*([\d.eE+-]*)\s*([a-zA-Z]+)\s*", text)
    if found is None or found[2].lower() not in units:
        return otherwise
    try:
        return float(found[1] or 1) * units[found[2].lower()]
    except ValueError:
        raise LibertyError(f"a unit must be a number and a unit, not {text!r}") from None


def parse_liberty(text: str) -> Liberty:
    """Read the text of a cell library.

    Raises
    ------
    LibertyError
        If it is no Liberty (the text says where), or has no flip-flop, no inverter or no NAND2, without which nothing can be
        mapped.
    """
    library = _parse(text)
    time_unit = _unit(library.text("time_unit"), _SECONDS, 1e-9)
    templates = {group.name: group for group in library.of("lu_table_template")}
    cells = {group.name: _cell(group, time_unit, templates) for group in library.of("cell")}
    found = Liberty(name=library.name, digest=hashlib.sha256(text.encode()).hexdigest()[:12], text=text, cells=cells,
                    capacitance_unit=_unit("".join(library.values.get("capacitive_load_unit", [])), _FARADS, 1e-12))
    for what, cell in (("a flip-flop", found.smallest("flip-flop")), ("a NAND2", found.smallest("combinational", "!(a*b)")),
                       ("an inverter", found.smallest("combinational", "!a"))):
        if cell is None:
            raise LibertyError(f"library {found.name} must have {what} with an area, and none of its {len(cells)} cells is one")
    return found


def read_liberty(path: Path) -> Liberty:
    """Read a .lib or .lib.gz file; see `parse_liberty`."""
    try:
        stamp = path.stat()
        return _read(path, stamp.st_mtime_ns, stamp.st_size)
    except LibertyError as error:
        raise LibertyError(f"--liberty {path}: {error}") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise LibertyError(f"--liberty must be a readable .lib or .lib.gz file, not {str(path)!r}: {error}") from None


@functools.lru_cache(maxsize=4)
def _read(path: Path, *stamp: Any) -> Liberty:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return parse_liberty(data.decode())
