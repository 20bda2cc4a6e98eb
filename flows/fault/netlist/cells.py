"""What each of Yosys's logic cells computes, as operations on words; those that can be cut anywhere are in `lowering`."""

from collections.abc import Callable, Iterable

from flows.fault.netlist import arithmetic
from flows.fault.netlist.flat_netlist import Bit, Cell, NetlistError
from flows.fault.netlist.values import Builder, Value

__all__ = ["LOGIC_CELLS", "logic", "operand"]

_ValueOf = Callable[[Iterable[Bit]], Value]
_Handler = Callable[[Builder, Cell, _ValueOf], Value]

_REDUCTIONS = {"$reduce_or": ("any", False), "$reduce_bool": ("any", False), "$reduce_and": ("all", False),
               "$reduce_xor": ("parity", False), "$reduce_xnor": ("parity", True), "$logic_not": ("any", True)}
"""Kind → (reduction, result inverted)."""
_COMPARISONS = {"$lt": (False, False), "$gt": (True, False), "$ge": (False, True), "$le": (True, True)}
"""Kind → (operands swapped, result inverted) of a < b."""
_SHIFTS = {"$shl": (True, False), "$sshl": (True, False), "$shr": (False, False), "$sshr": (False, True),
           "$shift": (False, False), "$shiftx": (False, False)}
"""Kind → (to the left, arithmetic where A is signed)."""


def operand(build: Builder, cell: Cell, value: _ValueOf, name: str, width: int) -> Value:
    """Return input `name` of a cell, extended to `width` bits by its own sign."""
    signed = f"{name}_SIGNED" in cell.parameters and bool(cell.number(f"{name}_SIGNED"))
    return build.extend(value(cell.connections[name]), width, signed)


def _bit(build: Builder, node: int, invert: bool = False) -> Value:
    return [(build.invert(node) if invert else node, 0, 1)]


def _sum(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    width = len(cell.connections["Y"])
    a = operand(build, cell, value, "A", width)
    if cell.kind == "$neg":
        return arithmetic.add(build, [(-1, 0, width)], a, subtract=True)
    return arithmetic.add(build, a, operand(build, cell, value, "B", width), subtract=cell.kind == "$sub")


def _product(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    width = len(cell.connections["Y"])
    return arithmetic.multiply(build, operand(build, cell, value, "A", width), operand(build, cell, value, "B", width))


def _copy(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    return operand(build, cell, value, "A", len(cell.connections["Y"]))


def _reduction(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    kind, invert = _REDUCTIONS[cell.kind]
    return _bit(build, arithmetic.reduce(build, kind, value(cell.connections["A"])), invert)


def _logical(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    a, b = (arithmetic.reduce(build, "any", value(cell.connections[name])) for name in ("A", "B"))
    return _bit(build, (build.both if cell.kind == "$logic_and" else build.either)(a, b))


def _operands(build: Builder, cell: Cell, value: _ValueOf) -> tuple[Value, Value, bool]:
    """Return both operands of a comparison in a width that holds either, and whether they are signed."""
    signs = [bool(cell.number(f"{name}_SIGNED")) for name in ("A", "B")]
    width = max(len(cell.connections["A"]), len(cell.connections["B"])) + (signs[0] != signs[1])
    return operand(build, cell, value, "A", width), operand(build, cell, value, "B", width), any(signs)


def _equality(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    a, b, _ = _operands(build, cell, value)
    return _bit(build, arithmetic.equal(build, a, b), cell.kind in ("$ne", "$nex"))


def _comparison(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    a, b, signed = _operands(build, cell, value)
    swap, invert = _COMPARISONS[cell.kind]
    return _bit(build, arithmetic.less(build, *((b, a) if swap else (a, b)), signed=signed), invert)


def _shifted(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    if cell.number("B_SIGNED"):
        raise NetlistError(f"{cell.path} must shift by an unsigned amount: {cell.kind} in either direction is not simulated")
    left, keeps_sign = _SHIFTS[cell.kind]
    width = len(cell.connections["Y"])
    a = operand(build, cell, value, "A", max(width, len(cell.connections["A"])))
    signed = keeps_sign and bool(cell.number("A_SIGNED"))
    return build.cut(arithmetic.shift(build, a, value(cell.connections["B"]), left=left, arithmetic=signed), 0, width)


_LOGIC: dict[str, _Handler] = {
    **dict.fromkeys(("$add", "$sub", "$neg"), _sum), "$mul": _product, "$pos": _copy, "$buf": _copy,
    **dict.fromkeys(_REDUCTIONS, _reduction), **dict.fromkeys(("$logic_and", "$logic_or"), _logical),
    **dict.fromkeys(("$eq", "$ne", "$eqx", "$nex"), _equality), **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(_SHIFTS, _shifted),
}


LOGIC_CELLS = frozenset(_LOGIC)
"""Kinds of cells that `logic` knows."""


def logic(build: Builder, cell: Cell, value: _ValueOf) -> Value:
    """Return the output of a logic cell, of a kind in `LOGIC_CELLS`.

    Parameters
    ----------
    build : Builder
    cell : Cell
    value : function
        Returns the value of some bits of nets.

    Raises
    ------
    NetlistError
        If it shifts in either direction.
    """
    return _LOGIC[cell.kind](build, cell, value)
