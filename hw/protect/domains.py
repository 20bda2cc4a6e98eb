"""What can be protected, and how: names of mechanisms, blocks and domains, and which rule of a config counts."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from hw.errors import ConfigError

__all__ = ["BLOCKS", "BLOCK_DOMAINS", "LOCKSTEP", "MECHANISMS", "NONE", "REGISTER_MECHANISMS", "Rules", "check_matched",
           "check_rules", "mechanism_of", "no_domain"]

Rules = tuple[tuple[str, str], ...]
"""Pairs of a glob on domain names and a mechanism; of those that match a domain, the last counts."""

NONE = "none"
REGISTER_MECHANISMS = ("parity", "dmr", "tmr")
"""What a `RegisterBank` does; a register domain is named by its instance path inside the accelerator and its own name."""
LOCKSTEP = "lockstep"
BLOCK_DOMAINS: dict[str, tuple[str, ...]] = {
    "scratchpad": ("parity", "secded"),
    "accumulator": ("parity", "secded"),
    "fifos": ("parity", "secded"),
    "engine.mesh": ("abft", "residue3", "residue15"),
    "commands": ("parity",),
    "activations": ("range",),
    "addresses": ("residue3",),
}
"""Domain of a block that protects itself → mechanisms that it knows."""
MECHANISMS = tuple(dict.fromkeys((NONE, *REGISTER_MECHANISMS, LOCKSTEP, *(m for known in BLOCK_DOMAINS.values() for m in known))))
BLOCKS = ("controller", "load", "store", "arbiter", "accumulator", "engine", "vector", "scratchpad")
"""Blocks of the accelerator that report errors, in the order of the bits of PROTECT_DETECTED."""


def check_rules(rules: object) -> Rules:
    """Return `rules` as a tuple of pairs.

    Raises
    ------
    ConfigError
        If they are anything but pairs of a glob and a mechanism.
    """
    wanted = f"AcceleratorConfig.protection must be pairs of a glob on domains and one of {', '.join(MECHANISMS)}"
    if not isinstance(rules, tuple | list):
        raise ConfigError(f"{wanted}, not {rules!r}")
    checked = []
    for rule in rules:
        pair = tuple(rule) if isinstance(rule, tuple | list) else ()
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair) or not pair[0] or pair[1] not in MECHANISMS:
            raise ConfigError(f"{wanted}, not {rule!r}")
        checked.append(pair)
    return tuple(checked)


def mechanism_of(rules: Rules, domain: str, known: Iterable[str]) -> str:
    """Return the mechanism of the last rule that matches `domain` with one of `known` or "none"; "none" if none does."""
    legal = {NONE, *known}
    return next((mechanism for glob, mechanism in reversed(rules) if mechanism in legal and fnmatchcase(domain, glob)), NONE)


def no_domain(glob: str, mechanism: str, domains: Iterable[str]) -> ConfigError:
    """Return the error for a rule that matches nothing."""
    names = sorted(set(domains))
    near = difflib.get_close_matches(glob, names, n=4, cutoff=0.5) or [name for name in names if glob.strip("*.") in name][:4]
    hint = f"; near: {', '.join(near)}" if near else f"; for instance: {', '.join(names[:4])}"
    return ConfigError(f"AcceleratorConfig.protection must name domains that can have {mechanism}, not {glob!r}{hint}")


def check_matched(rules: Rules, registers: Iterable[str], blocks: Iterable[str]) -> None:
    """Check that every rule matches something.

    Parameters
    ----------
    rules : Rules
    registers : iterable of str
        All register domains of the design.
    blocks : iterable of str
        Instance paths, which can have lockstep.

    Raises
    ------
    ConfigError
        If a glob matches no domain that can have its mechanism; the text names near matches.
    """
    registers, blocks = tuple(registers), tuple(blocks)
    for glob, mechanism in rules:
        names = [domain for domain, known in BLOCK_DOMAINS.items() if mechanism == NONE or mechanism in known]
        if mechanism in (NONE, *REGISTER_MECHANISMS):
            names += registers
        if mechanism in (NONE, LOCKSTEP):
            names += blocks
        if not any(fnmatchcase(name, glob) for name in names):
            raise no_domain(glob, mechanism, names)
