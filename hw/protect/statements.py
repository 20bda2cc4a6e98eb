"""Assignments to registers, turned into assignments to what the registers shall be next."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Signal, Value
from amaranth.hdl._ast import Assign, Concat, Operator, Part, SignalDict, Slice, Switch, SwitchValue
from amaranth.hdl._ast import Signal as _Signal

__all__ = ["moved", "remaining"]


def moved(statements: Iterable[Any], nexts: SignalDict) -> list[Any]:
    """Return the assignments to the signals in `nexts`, to their values there instead, under the same conditions."""
    return _filtered(statements, lambda signal: nexts[signal] if signal in nexts else None, others=False)


def remaining(statements: Iterable[Any], nexts: SignalDict) -> list[Any]:
    """Return all that `moved` does not: assignments to other signals, checks and messages."""
    return _filtered(statements, lambda signal: None if signal in nexts else signal, others=True)


def _filtered(statements: Iterable[Any], target: Any, *, others: bool) -> list[Any]:
    """Return the statements with `target(signal)` for each signal that they assign to; None drops the assignment."""
    kept: list[Any] = []
    for statement in statements:
        if isinstance(statement, Switch):
            cases = [(patterns, _filtered(body, target, others=others), location) for patterns, body, location in statement.cases]
            if any(body for _, body, _ in cases):       # an empty case still keeps later ones from being taken
                kept.append(Switch(statement.test, cases, src_loc=statement.src_loc))
        elif isinstance(statement, Assign):
            if any(target(signal) is not None for signal in statement.lhs._lhs_signals()):
                kept.append(Assign(_assigned(statement.lhs, target), statement.rhs))
        elif others:
            kept.append(statement)
    return kept


def _assigned(value: Value, target: Any) -> Value:
    """Return the left side of an assignment with other signals; offsets and selectors inside it are read, and stay."""
    if isinstance(value, _Signal):
        found = target(value)
        return Signal(value.shape(), name="unused") if found is None else found     # part of a concatenation: nobody reads it
    if isinstance(value, Operator):
        return Operator(value.operator, [_assigned(operand, target) for operand in value.operands])
    if isinstance(value, Slice):
        return Slice(_assigned(value.value, target), value.start, value.stop)
    if isinstance(value, Part):
        return Part(_assigned(value.value, target), value.offset, value.width, value.stride)
    if isinstance(value, Concat):
        return Concat(_assigned(part, target) for part in value.parts)
    assert isinstance(value, SwitchValue), f"no assignment goes to {value!r}"
    return SwitchValue(value.test, [(patterns, _assigned(part, target)) for patterns, part in value.cases])
