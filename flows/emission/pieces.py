"""A design cut into modules: one for each distinct block, with the ports that the block's signature names."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flows.emission.wide_cells import allow_wide_cells

__all__ = ["Child", "Design", "MemoryArray", "Piece", "cut"]

# Words that a port or an instance of ours may be called and that Verilog reserves.
KEYWORDS = frozenset("""
    always and assign automatic begin buf case cell config deassign default design disable edge else end endcase
    endmodule event for force forever function generate if initial inout input instance integer join library module nand
    negedge nor not or output parameter posedge primitive pull0 pull1 pulldown pullup real reg release repeat scalared
    signed small specify strength strong0 strong1 supply0 supply1 table task time tran tri use vectored wait wand weak0
    weak1 while wire wor xnor xor
""".split())
_SELF = "heddle@self"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryArray:
    """A memory of a module.

    Attributes
    ----------
    name : str
        In the module.
    depth, width : int
        Words, and bits of a word.
    write_ports, read_ports : int
        Synchronous ports and asynchronous reads together.
    enables : int
        Write enables of a port.
    transparent : bool
        Whether a read of a word that is written in the same cycle gives the new word.
    style : str
        "inferred" from the Verilog, or the name of the macro that stands for it.
    """

    name: str
    depth: int
    width: int
    write_ports: int
    read_ports: int
    enables: int
    transparent: bool
    style: str = "inferred"


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """An instance in a module; `module` is a key of `Design.pieces`."""

    name: str
    module: str


@dataclass(kw_only=True, slots=True)
class Piece:
    """One module.

    Attributes
    ----------
    name : str
        Verilog module name.
    ports : tuple of str
        In the order in which a reader wants them: clock, reset, the signature.
    kind, doc : str
        Class of the block, and the first line of its docstring.
    parameters : dict of str to str
        Constructor arguments that are numbers, words or lists of them.
    rtlil : str
        The module, its children by their keys.
    children : tuple of Child
    memories : tuple of MemoryArray
    path : str
        Instance path at which it was first met.
    keep_hierarchy : bool
        Whether synthesis must leave it a module: copies that are flattened together would be merged.
    """

    name: str
    ports: tuple[str, ...]
    kind: str
    doc: str
    parameters: dict[str, str]
    rtlil: str
    children: tuple[Child, ...]
    memories: tuple[MemoryArray, ...]
    path: str
    keep_hierarchy: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """All modules of a design.

    Attributes
    ----------
    pieces : dict of str to Piece
        Module name → module, the top first, each before the modules that it alone made necessary.
    rtlil : str
        Text of all modules.
    """

    pieces: dict[str, Piece]
    rtlil: str

    @property
    def top(self) -> Piece:
        """The top module."""
        return next(iter(self.pieces.values()))


def _plain(name: str) -> str:
    name = re.sub(r"\W", "_", name)
    return f"{name}_" if name in KEYWORDS else name


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.lstrip("_")).lower()


def _parameters(block: Any) -> dict[str, str]:
    """Return the constructor arguments of `block` that can be told in a word."""
    found = {}
    for name in inspect.signature(type(block).__init__).parameters:
        value = getattr(block, name, getattr(block, f"_{name}", None))
        values = value if isinstance(value, tuple) else (value,)
        if values and all(isinstance(item, int | str) for item in values):
            found[name] = ",".join(map(str, values))
    return found


def _block_of(fragment: Any) -> Any:
    """Return the block that became `fragment`, not the module or the transformer around it; None for a bare module."""
    for origin in fragment.origins or ():
        if not type(origin).__module__.startswith("amaranth.hdl"):
            return origin
    return None


def _signature_ports(block: Any) -> list[tuple[str, Any, bool]]:
    """Return (name, signal, whether it is an input) of every port of a component; constants are not ports."""
    from amaranth.hdl import Signal, Value
    from amaranth.hdl._ast import SignalDict
    from amaranth.lib import wiring

    if not isinstance(block, wiring.Component):
        return []
    ports, replaced = [], getattr(block, "replaced_signals", SignalDict())       # of a twin (hw.protect.twin)
    for path, member, value in block.signature.flatten(block):
        signal = Value.cast(value)
        if isinstance(signal, Signal):
            signal = replaced.get(signal, signal)
        if isinstance(signal, Signal) and len(signal):        # Verilog has no ports without bits
            ports.append(("__".join(map(str, path)), signal, member.flow == wiring.In))
    return ports


def _drivers(fragment: Any) -> Any:
    """Return signal → in how many places of `fragment` and of what lies below it is driven."""
    from amaranth.hdl import Instance, MemoryInstance, Value
    from amaranth.hdl._ast import SignalDict

    places = SignalDict()
    signals: list[Any] = []
    if isinstance(fragment, Instance):
        signals += [value._lhs_signals() for value, kind in fragment.ports.values() if kind != "i" and isinstance(value, Value)]
    elif isinstance(fragment, MemoryInstance):
        signals += [port._data._lhs_signals() for port in fragment._read_ports]
    else:
        signals += [statements._lhs_signals() for statements in fragment.statements.values()]
        for inner, _, _ in fragment.subfragments:
            for signal, count in _drivers(inner).items():
                places[signal] = places.get(signal, 0) + count
    for driven in signals:
        for signal in driven:
            places[signal] = places.get(signal, 0) + 1
    return places


@contextmanager
def _named(names: list[tuple[Any, str]]) -> Iterator[None]:
    """Give signals other names for a while; the first name of a signal counts."""
    known: dict[int, tuple[Any, str]] = {}
    for signal, name in names:
        if id(signal) not in known:
            known[id(signal)] = (signal, signal.name)
            signal.name = name
    try:
        yield
    finally:
        for signal, name in known.values():
            signal.name = name


class _Cutter:
    """Cuts one design; blocks that `platform` has collected are designs of their own and share the modules."""

    def __init__(self, platform: Any, async_reset: bool):
        self.platform = platform
        self.async_reset = async_reset
        self.pieces: dict[str, Piece] = {}       # key → module
        self._known: dict[tuple[str, str, str], str] = {}

    def root(self, component: Any, name: str) -> str:
        """Cut `component`, whose module gets `name`; return its key."""
        from amaranth.hdl import ClockDomain, Fragment
        from amaranth.hdl._ir import PortDirection

        self.domain = ClockDomain("sync", async_reset=self.async_reset)
        self.clocking = [("clk", self.domain.clk, True), ("rst", self.domain.rst, True)]
        fragment = Fragment.get(component, self.platform)
        fragment.add_domains(self.domain)
        ports = [*self.clocking, *_signature_ports(component)]
        directions = {name: (signal, PortDirection.Input if is_input else PortDirection.Output)
                      for name, signal, is_input in ports}
        self.analysis = fragment.prepare(directions, hierarchy=(name,))
        self.driven = _drivers(self.analysis.fragment)
        return self._piece(fragment, self.analysis.fragment, ports, component, (name,), name)

    def _cut_ports(self, fragment: Any, lowered: Any, parent: Any, block: Any) -> list[tuple[str, Any, bool]] | None:
        """Return the ports that a module made of `fragment` needs, or None if it cannot be one."""
        from amaranth.hdl import Fragment

        if type(fragment) is not Fragment or not (fragment.statements or fragment.subfragments):
            return None
        if any(domain is not self.domain for domain in fragment.domains.values()):
            return None
        driven, info = _drivers(lowered), self.analysis.fragments
        ports = _signature_ports(block)
        if any(is_input and signal in driven for _, signal, is_input in ports):
            return None
        taken, named = {name for name, _, _ in ports}, {id(signal) for _, signal, _ in (*self.clocking, *ports)}
        for signal in info[lowered].used_signals:        # what crosses the border without being in the signature
            if len(signal) and signal in info[parent].used_signals and id(signal) not in named:
                name, number = signal.name, 1
                while name in taken:
                    name, number = f"{signal.name}_{number}", number + 1
                taken.add(name)
                ports.append((name, signal, signal not in driven))
        if any(0 < driven.get(signal, 0) < self.driven[signal] for _, signal, _ in ports):
            return None        # other bits of it are driven outside, so it cannot be one port
        return [(_plain(name), signal, is_input) for name, signal, is_input in (*self.clocking, *ports)]

    def _piece(self, fragment: Any, lowered: Any, ports: list[tuple[str, Any, bool]], block: Any, path: tuple[str, ...],
               name: str) -> str:
        """Emit `fragment` as a module, what lies below it first; return its key."""
        from amaranth.back import rtlil
        from amaranth.hdl import Instance
        from amaranth.hdl._ir import PortDirection

        children, memories, names = [], [], [(signal, name) for name, signal, _ in ports]
        for index, ((inner, label, location), (inner_lowered, _, _)) in enumerate(
                zip(list(fragment.subfragments), lowered.subfragments, strict=True)):
            label = _plain(label or f"part_{index}")
            if array := self.platform.memory_of(inner, label):
                memories.append(array)
            if isinstance(inner, Instance):
                children.append(Child(name=label, module=inner.type))
                names += [(value, f"{label}__{port}") for port, (value, _) in inner.ports.items() if hasattr(value, "name")]
            inner_block = _block_of(inner)
            inner_ports = self._cut_ports(inner, inner_lowered, lowered, inner_block)
            if inner_ports is None:
                continue
            key = self._piece(inner, inner_lowered, inner_ports, inner_block, (*path, label), "")
            children.append(Child(name=label, module=key))
            instance = Instance(key, *(("i" if is_input else "o", port, signal) for port, signal, is_input in inner_ports),
                                src_loc=location)
            instance.domains = inner.domains
            fragment.subfragments[index] = (instance, label, location)
            names += [(signal, f"{label}__{port}") for port, signal, _ in inner_ports]
        directions = {port: (signal, PortDirection.Input if is_input else PortDirection.Output)
                      for port, signal, is_input in ports}
        with _named(names):
            text, _ = rtlil.convert_fragment(fragment, directions, _SELF, emit_src=False, propagate_domains=False)
        described = getattr(block, "unprotected", block)
        kind = type(described).__name__ if block is not None else ""
        doc = (inspect.getdoc(described) or "").split("\n")[0] if block is not None else ""
        parameters = _parameters(described) if block is not None else {}
        comment = f"{kind} {doc} {parameters}"
        known = self._known.get((text, comment, name))
        if known is not None:
            return known
        key = f"heddle@{len(self.pieces)}" if not name else name
        self._known[(text, comment, name)] = key
        self.pieces[key] = Piece(name=name, ports=tuple(port for port, _, _ in ports), kind=kind, doc=doc, parameters=parameters,
                                 rtlil=text, children=tuple(children), memories=tuple(memories), path=".".join(path),
                                 keep_hierarchy=fragment.attrs.get("keep_hierarchy", getattr(block, "keep_hierarchy", False)))
        return key


def _name_all(pieces: dict[str, Piece], top: str) -> dict[str, str]:
    """Return key → module name: the class's if it has one module, else the class's and the place's."""
    kinds: dict[str, list[str]] = {}
    for key, piece in pieces.items():
        if not piece.name:
            kinds.setdefault(piece.kind, []).append(key)
    names, taken = {}, {piece.name for piece in pieces.values()}
    for key, piece in pieces.items():
        name = piece.name
        if not name:
            words = [top, _snake(piece.kind)] if piece.kind else [top]
            if not piece.kind or len(kinds[piece.kind]) > 1:
                words += [_plain(part) for part in piece.path.split(".")[1:]]
            name = "_".join(words)
            while name in taken:
                name = f"{name}_"
        taken.add(name)
        names[key] = name
    return names


def cut(component: Any, name: str, *, async_reset: bool = False, platform: Any) -> Design:
    """Return the modules of `component`, whose own is called `name`.

    Every block becomes a module with the ports of its signature, in which the instances are those of its submodules; blocks that
    come out the same are one module.

    Parameters
    ----------
    component : wiring.Component
        No member of its signature may be `always_ready` or `always_valid`.
    name : str
        Name of the top module, and the beginning of the names of all that have none of their own.
    async_reset : bool
        Registers are reset at once, not at the next clock edge.
    platform : flows.emission.memories.MemoryPlatform
        Collects shared blocks, and decides what memories become.
    """
    allow_wide_cells()
    cutter = _Cutter(platform, async_reset)
    top = cutter.root(component, name)
    done = 0
    while done < len(platform.blocks):  # a shared block may share blocks of its own
        shared_name, block = list(platform.blocks.items())[done]
        cutter.root(block, shared_name)
        done += 1
    names = _name_all(cutter.pieces, name)
    pieces: dict[str, Piece] = {}

    def visit(key: str) -> None:
        if key not in cutter.pieces or names[key] in pieces:
            return
        piece = cutter.pieces[key]
        piece.name = names[key]
        pieces[piece.name] = piece
        for child in piece.children:
            visit(child.module)

    visit(top)
    for key in cutter.pieces:       # what only a block that could not be cut instantiates
        visit(key)
    for piece in pieces.values():
        piece.children = tuple(Child(name=child.name, module=names.get(child.module, child.module)) for child in piece.children)
        piece.rtlil = re.sub(r"heddle@\d+", lambda found: names[found[0]], piece.rtlil.replace(_SELF, piece.name))
    return Design(pieces=pieces, rtlil="\n".join(piece.rtlil for piece in pieces.values()))
