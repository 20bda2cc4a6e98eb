"""Emit a block once, instantiate it many times.

Amaranth writes one Verilog module per instance, so a 32×32 array would hold a thousand copies of its PE. `shared` returns an
`Instance` of a module that is emitted once when the design is converted with an `EmissionPlatform`, and the block itself
otherwise (Amaranth's own simulator, where an `Instance` does nothing).
"""

from typing import Any

from amaranth import *
from amaranth.lib import wiring

__all__ = ["EmissionPlatform", "mark_used", "shared"]


class EmissionPlatform:
    """Collects the shared blocks of one design while it is converted; pass it as `platform` to `amaranth.back.verilog`.

    Attributes
    ----------
    blocks : dict of str to wiring.Component
        Module name → the block to emit under it, in order of first use.
    """

    def __init__(self) -> None:
        self.blocks: dict[str, wiring.Component] = {}

    def register(self, name: str, block: wiring.Component) -> None:
        """Note that `block` must be emitted as module `name`; the first of a name is kept.

        Raises
        ------
        ValueError
            If another block with other ports already has this name.
        """
        known = self.blocks.setdefault(name, block)
        if known.signature != block.signature or type(known) is not type(block):
            raise ValueError(f"module name {name!r} must stand for one block, not {known!r} and {block!r}")


class SharedInstance(Elaboratable):
    """An `Instance` of a shared module, wired to the ports of the (never elaborated) block."""

    def __init__(self, name: str, block: wiring.Component):
        self.name = name
        self.block = block

    def elaborate(self, platform: Any) -> Instance:
        mark_used(self.block)
        ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, value in self.block.signature.flatten(self.block):
            if not len(Value.cast(value)):      # Verilog has no ports without bits
                continue
            prefix = "o" if member.flow == wiring.Out else "i"
            ports[f"{prefix}_{'__'.join(str(part) for part in path)}"] = Value.cast(value)
        return Instance(self.name, **ports)


def mark_used(part: Any) -> None:
    """Note that a block and what it holds are used, though never elaborated; Amaranth would warn of each."""
    if isinstance(part, list | tuple):
        for one in part:
            mark_used(one)
    elif isinstance(part, wiring.Component) and not part._MustUse__used:
        part._MustUse__used = True
        mark_used(list(vars(part).values()))


def shared(platform: Any, name: str, block: wiring.Component) -> Elaboratable:
    """Return what to put into `m.submodules` for `block`, so that it is emitted once as Verilog module `name`.

    Blocks with the same `name` must be built with the same parameters. A shared block has a clock and a reset, no
    parameters at instantiation, and reaches its surroundings through its signature alone.

    Parameters
    ----------
    platform : EmissionPlatform or None
        What `elaborate` was given.
    name : str
        Verilog module name; it states block and parameters, for instance `pe_mac_a8_w8_p24`.
    block : wiring.Component
        The block; connect to its ports as usual.
    """
    if not isinstance(platform, EmissionPlatform):
        return block
    platform.register(name, block)
    return SharedInstance(name, block)
