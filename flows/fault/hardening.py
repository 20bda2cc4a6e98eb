"""Selective hardening: which registers get which mechanism, so that a target holds at the least area."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.fault.iso26262 import MBIT, Rates
from flows.fault.knapsack import Frontier, Option, frontier
from flows.fault.protection import protection_extra
from flows.fault.results import Results
from flows.fault.statistics import Interval
from flows.fault.words import Words, group_of
from hw.protect.domains import NONE, REGISTER_MECHANISMS, Rules, mechanism_of

__all__ = ["Group", "Selection", "groups_of", "predicted", "rules_for", "select", "vulnerable"]

DUT = "dut."


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


def vulnerable(results: Results, groups: Sequence[Group]) -> list[tuple[int, int, float]]:
    """Return (faults, dangerous ones, rate) of each group; the rate is (hits + ½) / (faults + 1) of what may matter.

    A group that no fault has hit dangerously is not taken to be harmless: the fewer faults, the less so.
    """
    words = results.words
    labels = np.full(len(words.sites), len(groups), np.int64)
    for index, group in enumerate(groups):
        labels[group.rows] = index
    rows = results.by_words(labels, [*(group.name for group in groups), ""])
    found = []
    for row in rows[:-1]:
        dangerous = row.rates["dangerous"]
        hits = (dangerous or 0.0) / row.live * row.faults if row.live else 0.0      # as of a plain draw: strata have weights
        found.append((row.faults, round(hits), row.live * (hits + 0.5) / (row.faults + 1)))
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


def select(groups: list[Group], rates_of: Sequence[float], rates: Rates, *, spfm: float, slack: float = 0.0,
           mechanisms: Sequence[str] = REGISTER_MECHANISMS) -> Selection:
    """Return the cheapest choice for which at most (1 − spfm) · (1 − slack) of all upsets are left dangerous.

    A mechanism is taken to leave nothing of single upsets of what it protects, and to add none; whether that is so is what
    injecting into the result tells.

    Parameters
    ----------
    groups : list of Group
    rates_of : sequence of float
        Share of each group's upsets that is dangerous.
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
    for group, rate in zip(groups, rates_of, strict=True):
        fit = sum(group.bits) / MBIT * rates.logic
        options.append([Option(name=NONE, area=0.0, residual=fit * rate)])
        if group.domains:
            options[-1] += [Option(name=mechanism, area=protection_extra(mechanism, group.bits), residual=0.0)
                            for mechanism in mechanisms]
    fit = sum(sum(group.bits) for group in groups) / MBIT * rates.logic
    curve = frontier(options)
    return Selection(groups=groups, options=options, curve=curve, place=curve.cheapest((1 - spfm) * (1 - slack) * fit), fit=fit)


def predicted(results: Results, selection: Selection, rates: Rates) -> tuple[float, Interval]:
    """Return the FIT of dangerous upsets that should be left in the flip-flops, and its interval: that of what stays as it is."""
    words = results.words
    labels = np.where(words.memory, 2, 1)
    for group, option in zip(selection.groups, selection.chosen, strict=True):
        labels[group.rows] = 0 if option.name == NONE else 1
    left = results.by_words(labels, ["as it is", "protected", "memories"])[0]
    fit = left.bits / MBIT * rates.logic
    low, high = left.intervals.get("dangerous", (0.0, 1.0))
    return fit * (left.rates["dangerous"] or 0.0), Interval(fit * low, fit * high)


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
