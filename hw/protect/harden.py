"""Moves the registers of a design into banks that protect them: a pass over what Amaranth makes of the blocks."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Fragment, Instance, Signal, Value
from amaranth.hdl._ast import SignalDict
from amaranth.hdl._ir import IOBufferInstance, RequirePosedge
from amaranth.hdl._mem import MemoryInstance
from amaranth.hdl._xfrm import LHSMaskCollector
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.protect.checker import Checker
from hw.protect.domains import NONE, REGISTER_MECHANISMS, Rules, check_matched, mechanism_of
from hw.protect.register_bank import RegisterBank
from hw.protect.register_copy import BankRegister
from hw.protect.statements import moved, remaining
from hw.share import EmissionPlatform, SharedInstance

__all__ = ["Flags", "HardenedBlock", "Register", "harden", "registers_of"]

Choice = Callable[[str], str]
"""Name of a register domain → its mechanism."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register domain: its path, and its bits."""

    path: str
    bits: int


@dataclass(slots=True)
class Flags:
    """One-bit values that are high for a cycle in which an error has been detected, or corrected."""

    detected: list[Any] = field(default_factory=list)
    corrected: list[Any] = field(default_factory=list)

    def add(self, other: "Flags") -> None:
        """Take those of `other` as well."""
        self.detected += other.detected
        self.corrected += other.corrected


def _label(name: str | None, index: int) -> str:
    return name or f"part_{index}"


def _is_logic(fragment: Fragment) -> bool:
    return not isinstance(fragment, Instance | MemoryInstance | IOBufferInstance | RequirePosedge)


def _shared_of(fragment: Fragment) -> SharedInstance | None:
    return next((origin for origin in fragment.origins or () if isinstance(origin, SharedInstance)), None)


def _checker_of(fragment: Fragment) -> Checker | None:
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
                        names.setdefault(signal, f"{_label(name, index)}__{'__'.join(map(str, path))}")
    return names


def _own_registers(fragment: Fragment) -> Iterator[tuple[str, Signal, int]]:
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


class _Shared:
    """What is inside each shared block, found by elaborating it once beside the design."""

    def __init__(self) -> None:
        self.platform = EmissionPlatform()
        self._known: dict[str, tuple[list[Register], list[str], bool]] = {}

    def of(self, shared: SharedInstance) -> tuple[list[Register], list[str], bool]:
        """Return registers and instance paths inside, and whether there is a checker."""
        if shared.name not in self._known:
            fragment = Fragment.get(shared.block, self.platform)
            registers: list[Register] = []
            paths: list[str] = []
            checks = self.walk(fragment, "", registers, paths)
            self._known[shared.name] = registers, paths, checks
        return self._known[shared.name]

    def walk(self, fragment: Fragment, path: str, registers: list[Register], paths: list[str]) -> bool:
        """Collect registers and instance paths of `fragment` and below; return whether there is a checker."""
        checks = _checker_of(fragment) is not None
        if shared := _shared_of(fragment):
            inner, inner_paths, checks = self.of(shared)
            registers += [Register(path + register.path, register.bits) for register in inner]
            paths += [path + name for name in inner_paths]
        if not _is_logic(fragment):
            return checks
        registers += [Register(path + name, mask.bit_count()) for name, _, mask in _own_registers(fragment)]
        for index, (child, name, _) in enumerate(fragment.subfragments):
            if _is_logic(child) or _shared_of(child):
                paths.append(path + _label(name, index))
                checks |= self.walk(child, f"{path}{_label(name, index)}.", registers, paths)
        return checks


class HardenedBlock(wiring.Component):
    """A shared block whose registers are protected, or in which there is a checker: the block with flags.

    Parameters
    ----------
    block : wiring.Component
        The block; its ports are those of this.
    chosen : mapping of str to str
        Register inside → mechanism.

    Members
    -------
    protect_detected, protect_corrected : Out(1)
        And all of the block.
    """

    def __init__(self, block: wiring.Component, chosen: Mapping[str, str]):
        self.unprotected = block
        self.chosen = chosen
        super().__init__({**block.signature.members, "protect_detected": Out(1), "protect_corrected": Out(1)})
        for name in block.signature.members:
            setattr(self, name, getattr(block, name))

    def elaborate(self, platform: Any) -> Fragment:
        before = list(platform.blocks)
        fragment = Fragment.get(self.unprotected, platform)
        with _forgetting(fragment, platform, before):
            flags = _Pass(platform, lambda path: self.chosen.get(path, NONE), _Shared()).visit(fragment, "")
        fragment.add_statements("comb", self.protect_detected.eq(_any(flags.detected)))
        fragment.add_statements("comb", self.protect_corrected.eq(_any(flags.corrected)))
        return fragment


def _any(flags: Iterable[Any]) -> Value:
    from amaranth.hdl import Cat, Const

    flags = list(flags)
    return Cat(flags).any() if flags else Const(0, 1)


class _Pass:
    """One walk over a design; `choose` says what becomes of each register."""

    def __init__(self, platform: Any, choose: Choice, shared: _Shared):
        self.platform = platform
        self.choose = choose
        self.shared = shared

    def instance(self, fragment: Fragment, path: str) -> tuple[Fragment, Flags]:
        """Return what to put in the place of `fragment`, the instance at `path`, and its flags, one signal of a kind at most."""
        if shared := _shared_of(fragment):
            return self._variant(shared, fragment, path)
        return fragment, self.visit(fragment, path)

    def visit(self, fragment: Fragment, path: str) -> Flags:
        """Protect the registers of `fragment` and of all below it; return the flags of all, two signals at most."""
        flags = Flags()
        if (checker := _checker_of(fragment)) is not None:
            flags.add(Flags([checker.detected], [checker.corrected]))
        if not _is_logic(fragment):
            return flags
        for index, (child, name, location) in enumerate(list(fragment.subfragments)):
            label = _label(name, index)
            child, found = self.instance(child, f"{path}{label}.")
            fragment.subfragments[index] = (child, name, location)
            flags.add(found)
        flags.add(self._protect(fragment, path))
        return self._gathered(fragment, flags)

    def _gathered(self, fragment: Fragment, flags: Flags) -> Flags:
        """Return flags that are one signal each."""
        gathered = Flags()
        for name in ("detected", "corrected"):
            values = getattr(flags, name)
            if len(values) > 1:
                signal = Signal(name=f"protect_{name}")
                fragment.add_statements("comb", signal.eq(_any(values)))
                values = [signal]
            getattr(gathered, name).extend(values)
        return gathered

    def _protect(self, fragment: Fragment, path: str) -> Flags:
        """Move the registers of one module into a bank for each mechanism."""
        wanted: dict[str, list[tuple[str, Signal, int]]] = {}
        for name, signal, mask in _own_registers(fragment):
            mechanism = self.choose(path + name)
            if mechanism != NONE:
                wanted.setdefault(mechanism, []).append((name, signal, mask))
        if not wanted:
            return Flags()
        nexts = SignalDict()
        for registers in wanted.values():
            for name, signal, _ in registers:
                nexts[signal] = Signal(signal.shape(), name=f"{name}_next")
                fragment.add_statements("comb", nexts[signal].eq(signal))
        statements = fragment.statements.pop("sync")
        fragment.add_statements("comb", *moved(statements, nexts))
        if left := remaining(statements, nexts):
            fragment.add_statements("sync", *left)
        flags = Flags()
        for mechanism in REGISTER_MECHANISMS:
            if mechanism in wanted:
                flags.add(self._bank(fragment, mechanism, wanted[mechanism], nexts))
        return flags

    def _bank(self, fragment: Fragment, mechanism: str, registers: list[tuple[str, Signal, int]], nexts: SignalDict) -> Flags:
        """Add the bank of one mechanism."""
        from amaranth.hdl import Cat

        members, chunks, sources = [], [], []
        for name, signal, mask in registers:
            bits = [bit for bit in range(len(signal)) if mask >> bit & 1]
            init = sum((signal.init >> bit & 1) << index for index, bit in enumerate(bits))
            members.append(BankRegister(name=name, width=len(bits), init=init, reset_less=signal.reset_less))
            for low, high in _runs(bits):
                chunks.append(signal[low:high])
                sources.append(nexts[signal][low:high])
        bank = RegisterBank(mechanism, members)
        fragment.add_subfragment(Fragment.get(bank, self.platform), f"registers_{mechanism}")
        fragment.add_statements("comb", bank.next.eq(Cat(sources)), Cat(chunks).eq(bank.value))
        return Flags([], [bank.flag]) if bank.corrects else Flags([bank.flag], [])

    def _variant(self, shared: SharedInstance, instance: Fragment, path: str) -> tuple[Fragment, Flags]:
        """Return what to instantiate instead of a shared block, and its flags."""
        registers, _, checks = self.shared.of(shared)
        chosen = {register.path: mechanism for register in registers if (mechanism := self.choose(path + register.path)) != NONE}
        if not chosen and not checks:
            return instance, Flags()
        name = _variant_name(shared.name, chosen, len(registers))
        if name not in self.platform.blocks:
            self.platform.register(name, HardenedBlock(shared.block, chosen))
        detected, corrected = Signal(name="protect_detected"), Signal(name="protect_corrected")
        assert isinstance(instance, Instance)
        variant = Instance(name, *((kind, port, value) for port, (value, kind) in instance.ports.items()),
                           o_protect_detected=detected, o_protect_corrected=corrected, src_loc=instance.src_loc)
        variant.origins = instance.origins
        mechanisms = set(chosen.values())
        return variant, Flags([detected] if checks or mechanisms - {"tmr"} else [],
                              [corrected] if checks or "tmr" in mechanisms else [])


def _variant_name(name: str, chosen: Mapping[str, str], registers: int) -> str:
    """Return the module name of a variant: what is done to all its registers, or a digest of what is done to each."""
    mechanisms = set(chosen.values())
    if not chosen:
        return f"{name}_flags"
    if len(mechanisms) == 1 and len(chosen) == registers:
        return f"{name}_{mechanisms.pop()}"
    return f"{name}_p{hashlib.sha256(repr(sorted(chosen.items())).encode()).hexdigest()[:8]}"


def _runs(bits: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of the runs in a rising list."""
    first = None
    for bit, following in zip(bits, [*bits[1:], None], strict=True):
        first = bit if first is None else first
        if following != bit + 1:
            yield first, bit + 1
            first = None


@contextmanager
def _forgetting(fragment: Fragment, platform: Any, before: Iterable[str] = ()) -> Iterator[None]:
    """Forget the shared blocks that were instantiated in `fragment` and no longer are at the end."""
    yield
    if isinstance(platform, EmissionPlatform):
        used = {*before, *_instantiated(fragment)}
        for name in [name for name in platform.blocks if name not in used]:
            del platform.blocks[name]


def _instantiated(fragment: Fragment) -> Iterator[str]:
    for child, _, _ in fragment.subfragments:
        if isinstance(child, Instance):
            yield child.type
        yield from _instantiated(child)


def registers_of(block: Any) -> list[Register]:
    """Return the register domains of a block, by their paths in it."""
    registers: list[Register] = []
    shared = _Shared()
    shared.walk(Fragment.get(block, shared.platform), "", registers, [])
    return registers


def harden(module: Any, rules: Rules, platform: Any, reports: Mapping[str, tuple[Any, Any]]) -> Fragment:
    """Return the fragment of `module` with its registers protected as `rules` say.

    Parameters
    ----------
    module : Elaboratable
        A top that is complete but for this.
    rules : Rules
    platform : EmissionPlatform or None
        What `elaborate` was given.
    reports : mapping of str to (value, value)
        Submodule → what its flags drive: detected, corrected.

    Raises
    ------
    ConfigError
        If a rule matches nothing.
    """
    registers: list[Register] = []
    paths: list[str] = []
    before = list(platform.blocks) if isinstance(platform, EmissionPlatform) else []
    shared, fragment = _Shared(), Fragment.get(module, platform)
    shared.walk(fragment, "", registers, paths)
    check_matched(rules, (register.path for register in registers), paths)

    def choose(path: str) -> str:
        return mechanism_of(rules, path, REGISTER_MECHANISMS)

    with _forgetting(fragment, platform, before):
        work = _Pass(platform, choose, shared)
        for index, (child, name, location) in enumerate(list(fragment.subfragments)):
            child, flags = work.instance(child, f"{name}.")
            fragment.subfragments[index] = (child, name, location)
            for value, found in zip(reports[name], (flags.detected, flags.corrected), strict=True):
                fragment.add_statements("comb", value.eq(_any(found)))
    return fragment
