"""Selective hardening: which registers get which mechanism, so that a target holds at the least area."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.fault.campaign.results import Results
from flows.fault.campaign.words import Words, group_of
from flows.fault.figures.iso26262 import MBIT, Rates
from flows.fault.figures.statistics import Interval
from flows.fault.hardening.knapsack import Frontier, Option, frontier
from flows.fault.hardening.protection import protection_extra
from hw.protect.domains import NONE, REGISTER_MECHANISMS, Rules, mechanism_of

__all__ = ["Group", "Selection", "Vulnerability", "groups_of", "predicted", "rules_for", "select", "vulnerable"]

DUT = "dut."
CORRECTING = ("tmr",)
"""Mechanisms after which nobody sees the upset; the others only tell of it."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Registers that are protected alike.

    Attributes
    ----------
    name : str
    domains : tuple of str
        Register domains of the accelerator; none where registers have no domain: read registers of memories.
    rows : (n,) int
        Rows of `Words`.
    bits : tuple of int
        In each module that has some of them.
    """

    name: str
    domains: tuple[str, ...]
    rows: Any
    bits: tuple[int, ...]


def groups_of(words: Words, domains: Mapping[str, int]) -> list[Group]:
    """Return the groups of the flip-flops among `words`.

    A register belongs to its domain by name; emission renames some, and these are found without what it appended. What is left in
    a module belongs together: all its registers that are left, and all its domains that are left.

    Parameters
    ----------
    words : Words
    domains : mapping of str to int
        Register domain of the accelerator → bits.
    """
    modules: dict[str, set[str]] = defaultdict(set)
    for domain in domains:
        modules[domain.rpartition(".")[0]].add(domain)
    named: dict[str, str] = {}
    for path in dict.fromkeys(path for path, memory in zip(words.paths, words.memory, strict=True) if not memory):
        inside = path.removeprefix(DUT)
        plain = inside.rpartition("$")[0] if inside.rpartition("$")[2].isdigit() else inside
        named[path] = inside if inside in domains else plain if plain in domains else ""
    taken: dict[str, int] = defaultdict(int)
    for domain in named.values():
        taken[domain] += 1
    left = {module: known - {domain for domain in known if taken[domain] == 1} for module, known in modules.items()}
    members: dict[str, list[int]] = defaultdict(list)
    globs: dict[str, set[str]] = defaultdict(set)
    bits: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row, path in enumerate(words.paths):
        if words.memory[row]:
            continue
        module, domain = path.removeprefix(DUT).rpartition(".")[0], named[path]
        if domain and taken[domain] == 1:
            name, known = group_of(domain), {domain}
        else:
            known = left.get(module, set())
            name = f"{group_of(module)}: others" if known else group_of(path.removeprefix(DUT))
        members[name].append(row)
        globs[name] |= known
        bits[name][module] += int(words.widths[row])
    return [Group(name=name, domains=tuple(sorted(globs[name])), rows=np.array(rows), bits=tuple(bits[name].values()))
            for name, rows in sorted(members.items())]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vulnerability:
    """What upsets of a group do.

    Attributes
    ----------
    faults, hits : int
        Simulated, and how many of them were dangerous.
    rate : float
        Share of all upsets that is dangerous, estimated as (hits + ½) / (faults + 1) of what may matter: a group that no fault
        has hit dangerously is not taken to be harmless, the fewer faults the less so.
    protocol : float
        Share of all upsets that breaks a rule of the bus, as measured. To detect the upset does not help: the beat is out.
    """

    faults: int
    hits: int
    rate: float
    protocol: float


def vulnerable(results: Results, groups: Sequence[Group]) -> list[Vulnerability]:
    """Return what a campaign says of each group."""
    words = results.words
    labels = np.full(len(words.sites), len(groups), np.int64)
    for index, group in enumerate(groups):
        labels[group.rows] = index
    rows = results.by_words(labels, [*(group.name for group in groups), ""])
    found = []
    for row in rows[:-1]:
        dangerous = row.rates["dangerous"]
        hits = (dangerous or 0.0) / row.live * row.faults if row.live else 0.0      # as of a plain draw: strata have weights
        found.append(Vulnerability(faults=row.faults, hits=round(hits), rate=row.live * (hits + 0.5) / (row.faults + 1),
                                   protocol=row.rates["protocol"] or 0.0))
    return found


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen.

    Attributes
    ----------
    groups : list of Group
    options : list of lists of Option
        Of each group: areas in NAND2 equivalents, residuals in FIT.
    curve : Frontier
    place : int
        Of the choice on the curve.
    fit : float
        All upsets of the groups.
    """

    groups: list[Group]
    options: list[list[Option]]
    curve: Frontier
    place: int
    fit: float

    @property
    def chosen(self) -> list[Option]:
        """The option of each group."""
        return [options[index] for options, index in zip(self.options, self.curve.choice(self.place), strict=True)]

    @property
    def area(self) -> float:
        """NAND2 equivalents that the choice adds."""
        return sum(option.area for option in self.chosen)

    @property
    def residual(self) -> float:
        """FIT that is left."""
        return sum(option.residual for option in self.chosen)


def select(groups: list[Group], found: Sequence[Vulnerability], rates: Rates, *, spfm: float, slack: float = 0.0,
           mechanisms: Sequence[str] = REGISTER_MECHANISMS) -> Selection:
    """Return the cheapest choice for which at most (1 − spfm) · (1 − slack) of all upsets are left dangerous.

    "tmr" is taken to leave nothing of single upsets of what it protects, the others what breaks a rule of the bus before anything
    can react, and none to add any; whether that is so is what injecting into the result tells.

    Parameters
    ----------
    groups : list of Group
    found : sequence of Vulnerability
        Of each group.
    rates : Rates
    spfm : float
        Target of the single-point fault metric over these registers.
    slack : float
        Share of what may be left that is held back.
    mechanisms : sequence of str
        Those to choose from.

    Raises
    ------
    ValueError
        If a number is impossible, or the target is out of reach.
    """
    for name, value in (("spfm", spfm), ("slack", slack)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, not {value!r}")
    options = []
    for group, known in zip(groups, found, strict=True):
        fit = sum(group.bits) / MBIT * rates.logic
        options.append([Option(name=NONE, area=0.0, residual=fit * known.rate)])
        if group.domains:
            options[-1] += [Option(name=mechanism, area=protection_extra(mechanism, group.bits),
                                   residual=0.0 if mechanism in CORRECTING else fit * known.protocol) for mechanism in mechanisms]
    fit = sum(sum(group.bits) for group in groups) / MBIT * rates.logic
    curve = frontier(options)
    return Selection(groups=groups, options=options, curve=curve, place=curve.cheapest((1 - spfm) * (1 - slack) * fit), fit=fit)


def predicted(results: Results, selection: Selection, rates: Rates) -> tuple[float, Interval]:
    """Return the FIT of dangerous upsets that should be left in the flip-flops, and its interval.

    What stays as it is keeps all of them, what is only told of those that break a rule of the bus.
    """
    words = results.words
    labels = np.full(len(words.sites), 2)
    for group, option in zip(selection.groups, selection.chosen, strict=True):
        labels[group.rows] = 0 if option.name == NONE else 2 if option.name in CORRECTING else 1
    rows = results.by_words(labels, ["as it is", "told of", "corrected, or a memory"])[:2]
    total, below, above = 0.0, 0.0, 0.0
    for row, rate in zip(rows, ("dangerous", "protocol"), strict=True):
        if row.bits:
            fit, share = row.bits / MBIT * rates.logic, row.rates[rate] or 0.0
            low, high = row.intervals.get(rate, Interval(0.0, 1.0))
            total, below, above = total + fit * share, below + (fit * (share - low)) ** 2, above + (fit * (high - share)) ** 2
    return total, Interval(max(0.0, total - math.sqrt(below)), total + math.sqrt(above))


def rules_for(selection: Selection, domains: Mapping[str, int], base: Rules = ()) -> Rules:
    """Return the rules of a config that protect what was chosen, and nothing else.

    Groups are named by globs, most general first, since the last rule that matches counts; where that would still give a
    register something else than what was chosen, it gets a rule of its own.
    """
    wanted = {domain: mechanism_of(base, domain, REGISTER_MECHANISMS) for domain in domains}
    globs: dict[str, str] = {}
    for group, option in zip(selection.groups, selection.chosen, strict=True):
        for domain in group.domains:
            if option.name != NONE:
                wanted[domain] = option.name
                globs[_escaped(group_of(domain))] = option.name
    rules = [*base, *sorted(globs.items(), key=lambda rule: (len(rule[0].replace("*", "")), rule[0]))]
    rules += [(_escaped(domain), mechanism) for domain, mechanism in wanted.items()
              if mechanism_of(tuple(rules), domain, REGISTER_MECHANISMS) != mechanism]
    return tuple(rules)


def _escaped(name: str) -> str:
    """Return a name as a glob that keeps its stars."""
    return name.replace("[", "[[]").replace("?", "[?]")
