"""What a design has that can be protected: registers and blocks by their paths, and checkers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Fragment, Instance, Signal, Value
from amaranth.hdl._ast import SignalDict
from amaranth.hdl._ir import IOBufferInstance, RequirePosedge
from amaranth.hdl._mem import MemoryInstance
from amaranth.hdl._xfrm import LHSMaskCollector
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from hw.protect.checker import Checker
from hw.share import EmissionPlatform, SharedInstance

__all__ = ["Contents", "Inventory", "Register", "block_of", "checker_of", "is_logic", "label_of", "own_registers",
           "registers_of", "shared_of"]


@dataclass(frozen=True, slots=True)
class Register:
    """A register domain: its path, and its bits."""

    path: str
    bits: int


def label_of(name: str | None, index: int) -> str:
    """Return what a part of a module is called in a path."""
    return name or f"part_{index}"


def is_logic(fragment: Fragment) -> bool:
    """Return whether a fragment has statements and parts, and is no memory or instance."""
    return not isinstance(fragment, Instance | MemoryInstance | IOBufferInstance | RequirePosedge)


def shared_of(fragment: Fragment) -> SharedInstance | None:
    """Return the shared block of which `fragment` is an instance."""
    return next((origin for origin in fragment.origins or () if isinstance(origin, SharedInstance)), None)


def block_of(fragment: Fragment) -> wiring.Component | None:
    """Return the component that became `fragment`, or is instantiated by it; memories have no inside."""
    if shared := shared_of(fragment):
        return shared.block
    return next((origin for origin in fragment.origins or () if isinstance(origin, wiring.Component)
                 and not isinstance(origin, Memory)), None)


def checker_of(fragment: Fragment) -> Checker | None:
    """Return the checker that became `fragment`."""
    return next((origin for origin in fragment.origins or () if isinstance(origin, Checker)), None)


def _ports_below(fragment: Fragment) -> SignalDict:
    """Return port signal of a child → the name that it has in the emitted module."""
    names = SignalDict()
    for index, (child, name, _) in enumerate(fragment.subfragments):
        for origin in child.origins or ():
            block = origin.block if isinstance(origin, SharedInstance) else origin
            if isinstance(block, wiring.Component):
                for path, _, value in block.signature.flatten(block):
                    signal = Value.cast(value)
                    if isinstance(signal, Signal):
                        names.setdefault(signal, f"{label_of(name, index)}__{'__'.join(map(str, path))}")
    return names


def own_registers(fragment: Fragment) -> Iterator[tuple[str, Signal, int]]:
    """Yield name, signal and mask of driven bits of each register that `fragment` itself drives, in a stable order."""
    statements = fragment.statements.get("sync")
    if statements is None:
        return
    assert set(fragment.statements) <= {"comb", "sync"}, "blocks have one clock"
    masks = LHSMaskCollector()
    masks.visit_stmt(statements)
    ports, taken = _ports_below(fragment), set()
    for signal, mask in masks.masks():
        if not mask:
            continue
        name, number = ports.get(signal) or signal.name or "unnamed", 1
        while name in taken:
            name, number = f"{ports.get(signal) or signal.name or 'unnamed'}_{number}", number + 1
        taken.add(name)
        yield name, signal, mask


@dataclass(slots=True)
class Contents:
    """What is in a block, at any depth.

    Attributes
    ----------
    registers : list of Register
    blocks : list of str
        Instance paths of components, which can have lockstep.
    checks : bool
        Whether there is a checker, the block itself included.
    """

    registers: list[Register] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    checks: bool = False


class Inventory:
    """What is inside blocks; a shared one is elaborated once, beside the design."""

    def __init__(self) -> None:
        self._platform = EmissionPlatform()
        self._known: dict[str, Contents] = {}

    def of_shared(self, shared: SharedInstance) -> Contents:
        """Return what is inside a shared block."""
        if shared.name not in self._known:
            self._known[shared.name] = self.of(Fragment.get(shared.block, self._platform))
        return self._known[shared.name]

    def of(self, fragment: Fragment) -> Contents:
        """Return what is inside `fragment`."""
        if shared := shared_of(fragment):
            return self.of_shared(shared)
        contents = Contents(checks=checker_of(fragment) is not None)
        if not is_logic(fragment):
            return contents
        contents.registers += [Register(name, mask.bit_count()) for name, _, mask in own_registers(fragment)]
        for index, (child, name, _) in enumerate(fragment.subfragments):
            inner, path = self.of(child), label_of(name, index)
            contents.registers += [Register(f"{path}.{register.path}", register.bits) for register in inner.registers]
            contents.blocks += [path] if block_of(child) is not None else []
            contents.blocks += [f"{path}.{block}" for block in inner.blocks]
            contents.checks |= inner.checks
        return contents


def registers_of(block: Any) -> list[Register]:
    """Return the register domains of a block, by their paths in it; of a hardened one those that it has now."""
    return Inventory().of(Fragment.get(block, EmissionPlatform())).registers
