"""A second instance of a block that has been elaborated: the same inputs, all signals and memories of its own."""

import copy
from typing import Any

from amaranth.hdl import Fragment, Instance, Shape, Signal, Value
from amaranth.hdl._ast import SignalDict
from amaranth.hdl._mem import MemoryData, MemoryInstance
from amaranth.hdl._xfrm import FragmentTransformer, StatementTransformer, ValueTransformer
from amaranth.lib.wiring import Component, Out

__all__ = ["outputs_of", "reset_all", "twin_of"]


def _driven(fragment: Fragment) -> list[Signal]:
    """Return the signals that `fragment` and what is below it drive, outputs that are constant included, in a stable order."""
    driven = SignalDict()
    values: list[Value] = []
    if isinstance(fragment, Instance):
        values = [value for value, kind in fragment.ports.values() if kind == "o"]
    elif isinstance(fragment, MemoryInstance):
        values = [port._data for port in fragment._read_ports]
    for statements in (*values, *fragment.statements.values()):
        for signal in statements._lhs_signals():
            driven[signal] = None
    for origin in fragment.origins or ():
        if isinstance(origin, Component):
            for _, signal in outputs_of(origin):        # constants as well
                driven[signal] = None
    for child, _, _ in fragment.subfragments:
        for signal in _driven(child):
            driven[signal] = None
    return list(driven)


class _Twin(FragmentTransformer, ValueTransformer, StatementTransformer):
    """Copies a fragment; `signals` maps what it drives to the twin's."""

    def __init__(self, signals: SignalDict):
        self.signals = signals

    def on_Signal(self, value: Signal) -> Signal:
        return self.signals.get(value, value)

    def on_fragment(self, fragment: Fragment) -> Fragment:
        twin = super().on_fragment(fragment)
        if isinstance(twin, MemoryInstance):
            memory = twin._data
            twin._data = MemoryData(shape=Shape.cast(memory.shape).width, depth=memory.depth, init=list(memory.init._raw))
        twin.origins = tuple(self._origin(origin) for origin in fragment.origins or ()
                             if not type(origin).__module__.startswith("amaranth.hdl"))
        return twin

    def _origin(self, origin: Any) -> Any:
        """Return what says of the twin's block what it is; `replaced_signals` are those of its ports that are others."""
        other = copy.copy(origin)
        other.replaced_signals = self.signals
        return other


def twin_of(fragment: Fragment) -> tuple[Fragment, SignalDict]:
    """Return a twin of `fragment`, and what stands in it for each signal that `fragment` drives."""
    signals = SignalDict()
    for signal in _driven(fragment):
        signals[signal] = Signal(signal.shape(), name=signal.name, init=signal.init, reset_less=signal.reset_less,
                                 attrs=signal.attrs)
    return _Twin(signals)(fragment), signals


def reset_all(fragment: Fragment) -> None:
    """Give every register of `fragment` a reset: two copies that power up with different contents would never agree."""
    for domain, statements in fragment.statements.items():
        if domain != "comb":
            for signal in statements._lhs_signals():
                signal._reset_less = False
    for child, _, _ in fragment.subfragments:
        reset_all(child)


def outputs_of(block: Component) -> list[tuple[str, Signal]]:
    """Return name and signal of each output of a block."""
    found = []
    for path, member, value in block.signature.flatten(block):
        signal = Value.cast(value)
        if member.flow is Out and isinstance(signal, Signal) and len(signal):
            found.append(("__".join(map(str, path)), signal))
    return found
