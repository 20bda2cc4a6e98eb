"""Lockstep: a block twice, and a comparator of all that both put out."""

from typing import Any

from amaranth.hdl import Cat, Fragment, Signal, Value
from amaranth.lib import wiring

from hw.protect.comparator import Comparator
from hw.protect.twin import outputs_of, reset_all, twin_of

__all__ = ["KEEP", "add_twin"]

KEEP = "keep_hierarchy"
"""Attribute of modules that synthesis must not dissolve, since it would merge what is in there twice."""


def add_twin(parent: Fragment, child: Fragment, block: wiring.Component, label: str, flags: dict[str, list[Any]],
             platform: Any) -> None:
    """Give `child`, the instance `label` in `parent`, a twin that gets the same inputs, and a comparator of their outputs.

    What is offered is compared while it is valid: of an interface with an output `…valid`, all outputs that begin alike, but
    `…ready`. Every register of both gets a reset.

    Parameters
    ----------
    parent, child : Fragment
    block : wiring.Component
        The block that `child` is; every output is compared.
    label : str
    flags : dict of str to list
        Flags that leave `child`, by kind; the twin's and the comparator's are added.
    platform : EmissionPlatform or None
    """
    reset_all(child)
    child.attrs[KEEP] = True
    twin, signals = twin_of(child)
    outputs = outputs_of(block)
    words = [_compared(outputs, lambda signal: signal), _compared(outputs, lambda signal: signals[signal])]
    comparator = Comparator(len(words[0]))
    parent.add_subfragment(twin, f"{label}_twin")
    parent.add_subfragment(Fragment.get(comparator, platform), f"{label}_comparator")
    parent.add_statements("comb", comparator.a.eq(words[0]), comparator.b.eq(words[1]))
    for kind in flags.values():
        kind += [signals[flag] for flag in kind if flag in signals]
    flags["detected"].append(comparator.flag)


def _compared(outputs: list[tuple[str, Signal]], of: Any) -> Value:
    """Return the outputs as one word, with zeros for what nobody looks at."""
    valids = {name.removesuffix("valid"): signal for name, signal in outputs if name.endswith("valid") and len(signal) == 1}
    parts = []
    for name, signal in outputs:
        prefix = max((prefix for prefix in valids if prefix and name.startswith(prefix)), key=len, default="")
        value = of(signal).as_unsigned() if signal.shape().signed else of(signal)
        if prefix and not name.endswith(("valid", "ready")):
            value &= of(valids[prefix]).replicate(len(signal))
        parts.append(value)
    return Cat(parts)
