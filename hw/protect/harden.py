"""Protects the registers and blocks of a design: a pass over what Amaranth makes of them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from amaranth.hdl import Cat, Const, Fragment, Instance, Signal, Value
from amaranth.hdl._ast import SignalDict
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.protect.domains import LOCKSTEP, NONE, REGISTER_MECHANISMS, Rules, check_matched, mechanism_of
from hw.protect.inventory import Contents, Inventory, block_of, checker_of, is_logic, label_of, own_registers, shared_of
from hw.protect.lockstep import add_twin
from hw.protect.register_bank import RegisterBank
from hw.protect.register_copy import BankRegister
from hw.protect.statements import moved, remaining
from hw.protect.twin import reset_all
from hw.share import EmissionPlatform, SharedInstance

__all__ = ["Choice", "HardenedBlock", "harden"]

Flags = dict[str, list[Any]]
"""Kind, "detected" or "corrected" → one-bit values that are high for a cycle in which an error has been."""
KINDS = ("detected", "corrected")


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of each register and each block.

    Attributes
    ----------
    register : callable
        Path of a register → its mechanism.
    block : callable
        Path of an instance → whether it gets a twin.
    """

    register: Callable[[str], str]
    block: Callable[[str], bool]

    @classmethod
    def of_rules(cls, rules: Rules) -> "Choice":
        """Return what the rules of a config say."""
        return cls(lambda path: mechanism_of(rules, path, REGISTER_MECHANISMS),
                   lambda path: mechanism_of(rules, path, (LOCKSTEP,)) == LOCKSTEP)

    @classmethod
    def of_table(cls, table: Mapping[str, str]) -> "Choice":
        """Return what a table says: path of a register → mechanism, path of a block → "lockstep"."""
        return cls(lambda path: table.get(path, NONE), lambda path: table.get(path) == LOCKSTEP)

    def table(self, contents: Contents, path: str) -> dict[str, str]:
        """Return what becomes of what is inside the instance at `path`, as `of_table` takes it."""
        table = {register.path: self.register(f"{path}.{register.path}") for register in contents.registers}
        table |= {block: LOCKSTEP for block in contents.blocks if self.block(f"{path}.{block}")}
        return {name: mechanism for name, mechanism in table.items() if mechanism != NONE}


class HardenedBlock(wiring.Component):
    """A shared block in which something is protected, or that has a checker inside: the block with flags.

    Parameters
    ----------
    block : wiring.Component
        The block; its ports are those of this.
    table : mapping of str to str
        As `Choice.of_table` takes it.
    kinds : tuple of str
        Flags that it has.
    twice : bool
        It is instantiated beside a twin: all registers get a reset, and synthesis leaves it a module.

    Members
    -------
    protect_detected, protect_corrected : Out(1)
        And all of the block.
    """

    def __init__(self, block: wiring.Component, table: Mapping[str, str], kinds: tuple[str, ...], twice: bool):
        self.unprotected = block
        self.table = table
        self.kinds = kinds
        self.keep_hierarchy = twice
        super().__init__({**block.signature.members, **{f"protect_{kind}": Out(1) for kind in kinds}})
        for name in block.signature.members:
            setattr(self, name, getattr(block, name))

    def elaborate(self, platform: Any) -> Fragment:
        before = _shared_blocks(platform)
        fragment = Fragment.get(self.unprotected, platform)
        with _forgetting(fragment, platform, before):
            flags = _Pass(platform, Choice.of_table(self.table), Inventory()).visit(fragment, "")
        if self.keep_hierarchy:
            reset_all(fragment)
        for kind in self.kinds:
            fragment.add_statements("comb", getattr(self, f"protect_{kind}").eq(_any(flags[kind])))
        return fragment


def _any(flags: list[Any]) -> Value:
    return Cat(flags).any() if flags else Const(0, 1)


def _added(flags: Flags, more: Flags) -> None:
    for kind in KINDS:
        flags[kind] += more[kind]


class _Pass:
    """One walk over a design."""

    def __init__(self, platform: Any, choice: Choice, inventory: Inventory):
        self.platform = platform
        self.choice = choice
        self.inventory = inventory

    def visit(self, fragment: Fragment, path: str) -> Flags:
        """Protect what is in `fragment`, at `path` with a dot (the top: without); return its flags, one of a kind at most."""
        flags: Flags = {kind: [] for kind in KINDS}
        if (checker := checker_of(fragment)) is not None:
            _added(flags, {kind: [getattr(checker, kind)] for kind in KINDS})
        if not is_logic(fragment):
            return flags
        for index in range(len(fragment.subfragments)):
            _added(flags, self.instance(fragment, index, path))
        _added(flags, self._protect(fragment, path))
        return self._gathered(fragment, flags)

    def instance(self, parent: Fragment, index: int, path: str) -> Flags:
        """Protect part `index` of `parent` and what is inside it; return the flags."""
        child, name, location = parent.subfragments[index]
        label = label_of(name, index)
        block = block_of(child)
        if block is not None and self.choice.block(f"{path}{label}"):
            once = _Pass(self.platform, replace(self.choice, block=lambda path: False), self.inventory)
            child, flags = once.protected(child, f"{path}{label}", twice=True)
            add_twin(parent, child, block, label, flags, self.platform)
        else:
            child, flags = self.protected(child, f"{path}{label}", twice=False)
        parent.subfragments[index] = (child, name, location)
        return flags

    def protected(self, child: Fragment, path: str, *, twice: bool) -> tuple[Fragment, Flags]:
        """Return what to instantiate instead of `child`, the instance at `path`, and its flags."""
        if (shared := shared_of(child)) is not None:
            return self._variant(shared, child, path, twice=twice)
        return child, self.visit(child, f"{path}.")

    def _gathered(self, fragment: Fragment, flags: Flags) -> Flags:
        """Return flags of which there is one of a kind."""
        gathered: Flags = {}
        for kind, values in flags.items():
            gathered[kind] = values
            if len(values) > 1:
                signal = Signal(name=f"protect_{kind}")
                fragment.add_statements("comb", signal.eq(_any(values)))
                gathered[kind] = [signal]
        return gathered

    def _protect(self, fragment: Fragment, path: str) -> Flags:
        """Move the registers of one module into a bank for each mechanism."""
        flags: Flags = {kind: [] for kind in KINDS}
        wanted: dict[str, list[tuple[str, Signal, int]]] = {}
        for name, signal, mask in own_registers(fragment):
            mechanism = self.choice.register(path + name)
            if mechanism != NONE:
                wanted.setdefault(mechanism, []).append((name, signal, mask))
        if not wanted:
            return flags
        nexts = SignalDict()
        for registers in wanted.values():
            for name, signal, _ in registers:
                nexts[signal] = Signal(signal.shape(), name=f"{name}_next")
                fragment.add_statements("comb", nexts[signal].eq(signal))
        statements = fragment.statements.pop("sync")
        fragment.add_statements("comb", *moved(statements, nexts))
        if left := remaining(statements, nexts):
            fragment.add_statements("sync", *left)
        for mechanism in REGISTER_MECHANISMS:
            if mechanism in wanted:
                bank = self._bank(fragment, mechanism, wanted[mechanism], nexts)
                flags["corrected" if bank.corrects else "detected"].append(bank.flag)
        return flags

    def _bank(self, fragment: Fragment, mechanism: str, registers: list[tuple[str, Signal, int]],
              nexts: SignalDict) -> RegisterBank:
        """Add the bank of one mechanism; only bits that were driven move into it."""
        members, held, coming = [], [], []
        for name, signal, mask in registers:
            bits = [bit for bit in range(len(signal)) if mask >> bit & 1]
            init = sum((signal.init >> bit & 1) << place for place, bit in enumerate(bits))
            members.append(BankRegister(name=name, width=len(bits), init=init, reset_less=signal.reset_less))
            for low, high in _runs(bits):
                held.append(signal[low:high])
                coming.append(nexts[signal][low:high])
        bank = RegisterBank(mechanism, members)
        fragment.add_subfragment(Fragment.get(bank, self.platform), f"registers_{mechanism}")
        fragment.add_statements("comb", bank.next.eq(Cat(coming)), Cat(held).eq(bank.value))
        return bank

    def _variant(self, shared: SharedInstance, instance: Fragment, path: str, *, twice: bool) -> tuple[Fragment, Flags]:
        """Return what to instantiate instead of a shared block, and its flags."""
        contents = self.inventory.of_shared(shared)
        table = self.choice.table(contents, path)
        mechanisms = set(table.values())
        kinds = tuple(kind for kind, known in (("detected", mechanisms - {"tmr"}), ("corrected", mechanisms & {"tmr"}))
                      if known or contents.checks)
        flags: Flags = {kind: [Signal(name=f"protect_{kind}")] if kind in kinds else [] for kind in KINDS}
        if not kinds and not twice:
            return instance, flags
        name = _variant_name(shared.name, table, len(contents.registers)) + ("_twice" if twice else "_flags" if not table else "")
        if name not in self.platform.blocks:
            self.platform.register(name, HardenedBlock(shared.block, table, kinds, twice))
        hardened = SharedInstance(name, self.platform.blocks[name])
        for unelaborated in (hardened, hardened.block):     # one is elaborated here, the other under its name
            unelaborated._MustUse__used = True
        assert isinstance(instance, Instance)
        variant = Instance(name, *((kind, port, value) for port, (value, kind) in instance.ports.items()),
                           *(("o", f"protect_{kind}", flags[kind][0]) for kind in kinds), src_loc=instance.src_loc)
        variant.origins = (hardened,)
        return variant, flags


def _variant_name(name: str, table: Mapping[str, str], registers: int) -> str:
    """Return the module name of a variant: what is done to all its registers, or a digest of what is done to each."""
    mechanisms = set(table.values())
    if not table:
        return name
    if len(mechanisms) == 1 and len(table) == registers and LOCKSTEP not in mechanisms:
        return f"{name}_{mechanisms.pop()}"
    return f"{name}_p{hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest()[:8]}"


def _runs(bits: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of the runs in a rising list."""
    first = None
    for bit, following in zip(bits, [*bits[1:], None], strict=True):
        first = bit if first is None else first
        if following != bit + 1:
            yield first, bit + 1
            first = None


def _shared_blocks(platform: Any) -> list[str]:
    return list(platform.blocks) if isinstance(platform, EmissionPlatform) else []


@contextmanager
def _forgetting(fragment: Fragment, platform: Any, before: Iterable[str]) -> Iterator[None]:
    """Forget the shared blocks that were instantiated in `fragment` and no longer are at the end."""
    yield
    used = {*before, *_instantiated(fragment)}
    for name in _shared_blocks(platform):
        if name not in used:
            del platform.blocks[name]


def _instantiated(fragment: Fragment) -> Iterator[str]:
    for child, _, _ in fragment.subfragments:
        if isinstance(child, Instance):
            yield child.type
        yield from _instantiated(child)


def harden(module: Any, rules: Rules, platform: Any, reports: Mapping[str, tuple[Any, Any]]) -> Fragment:
    """Return the fragment of `module`, protected as `rules` say.

    Every register that a rule matches moves into a `RegisterBank` of its module; every block that a lockstep rule matches gets a
    twin, unless it is inside one that does. Behaviour does not change by a cycle or a bit. What notices errors, banks, twins and
    checkers (`hw.protect.checker`), is led up to `reports`.

    Parameters
    ----------
    module : Elaboratable
        A top that is complete but for this.
    rules : Rules
    platform : EmissionPlatform or None
        What `elaborate` was given.
    reports : mapping of str to (value, value)
        Instance in the top → what its flags drive: detected, corrected.

    Raises
    ------
    ConfigError
        If a rule matches nothing.
    """
    before, inventory = _shared_blocks(platform), Inventory()
    fragment = Fragment.get(module, platform)
    contents = inventory.of(fragment)
    check_matched(rules, (register.path for register in contents.registers), contents.blocks)
    with _forgetting(fragment, platform, before):
        work = _Pass(platform, Choice.of_rules(rules), inventory)
        for index, (_, name, _) in enumerate(list(fragment.subfragments)):
            flags = work.instance(fragment, index, "")
            for value, kind in zip(reports[name], KINDS, strict=True):
                fragment.add_statements("comb", value.eq(_any(flags[kind])))
    return fragment
