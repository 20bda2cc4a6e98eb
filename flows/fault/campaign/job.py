"""A campaign from its request: sites chosen, engine made, population laid out, identity fixed."""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.fault.campaign.analysis import Accesses, Lifetimes
from flows.fault.campaign.phases import Phases, phases_of
from flows.fault.campaign.plan import Plan
from flows.fault.campaign.population import Population
from flows.fault.campaign.sampler import Sampler
from flows.fault.campaign.words import Words, words_of
from flows.fault.engines.engine import PLACES, Engine
from flows.fault.netlist.sites import SiteError, Sites, sites_of
from flows.fault.records import Kind
from flows.fault.targets.target import Target

__all__ = ["CELLS", "DURATIONS", "ENGINES", "EngineFactory", "Job", "chosen_sites", "open_job"]

ENGINES = {"lanes": ("flows.fault.engines.lanes.lanes_engine", "LanesEngine"),
           "verilator": ("flows.fault.engines.verilator_engine", "VerilatorEngine"),
           "cocotb": ("flows.fault.engines.cocotb_engine", "CocotbEngine")}
"""Name → module and class."""
CELLS = {Kind.SEU: ("ff", "memory"), Kind.MBU: ("ff", "memory"), Kind.INTERMITTENT: ("ff", "memory"), Kind.SET: ("gate",),
         Kind.STUCK0: ("ff", "memory"), Kind.STUCK1: ("ff", "memory"), Kind.BUS: ("bus",)}
"""What a kind of fault hits unless cells are chosen."""
DURATIONS = {Kind.SET: 1, Kind.BUS: 1, Kind.INTERMITTENT: 4}
"""Cycles of a kind of fault unless they are chosen; others are once or for ever."""
_READ, _PARTIAL_WRITE = 0, 2            # `kind` of an engine's ACCESS rows


@dataclass(frozen=True)
class EngineFactory:
    """Makes an engine, in any process.

    Attributes
    ----------
    name : str
        A key of `ENGINES`.
    target : Target
    gates : bool
        Whether outputs of gates are sites.
    """

    name: str
    target: Target
    gates: bool = False

    def __call__(self) -> Engine:
        """Build or find the simulator and open it."""
        module, name = ENGINES[self.name]
        kind = getattr(importlib.import_module(module), name)
        engine: Engine = kind(self.target, gates=self.gates) if self.name == "lanes" else kind(
            self.target, sites_of(self.target, gates=self.gates))
        return engine


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a campaign is made of.

    Attributes
    ----------
    target : Target
    sites : Sites
    engine : Engine
    factory : function
        Makes the same engine in another process.
    words : Words
    lifetimes : Lifetimes
    sampler : Sampler
    phases : Phases
    identity : dict
        What `flows.fault.campaign.store.Store` compares before it goes on with a campaign.
    """

    target: Target
    sites: Sites
    engine: Engine
    factory: Callable[[], Engine]
    words: Words
    lifetimes: Lifetimes
    sampler: Sampler
    phases: Phases
    identity: dict[str, Any]


def chosen_sites(sites: Sites, glob: str, cells: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the sites whose path matches `glob` and whose kind is among `cells`.

    Raises
    ------
    SiteError
        If there are none.
    """
    chosen = np.intersect1d(sites.select(glob), sites.of_kind(*cells))
    if not len(chosen):
        raise SiteError(f"--sites must match {' or '.join(cells)} cells, and {glob!r} matches none of these")
    return chosen


def open_job(target: Target, plan: Plan, *, engine: str, glob: str = "*", cells: tuple[str, ...] | None = None,
             by_group: bool = False, factory: Callable[[], Engine] | None = None) -> Job:
    """Return a campaign that is ready to run.

    Parameters
    ----------
    target : Target
    plan : Plan
    engine : str
        A key of `ENGINES`.
    glob : str
        Of paths of sites.
    cells : tuple of str, or None
        Any of "ff", "memory", "gate", "bus"; by default what the kind of fault hits, `CELLS`.
    by_group : bool
        Strata are register groups and memories, instead of class × unit × half of the word × phase.
    factory : function, or None
        Makes the engine, instead of one by name.

    Raises
    ------
    SiteError
        If there are no such sites, or faults of this kind cannot hit such cells.
    TargetError
        If the run without faults fails.
    """
    cells = cells or CELLS[plan.kind]
    legal, kind = PLACES[plan.kind], plan.kind.name.lower()
    for cell in cells:
        if cell not in legal:
            raise SiteError(f"--cells must be {' or '.join(legal)} with --kind {kind}, not {cell!r}")
    sites = sites_of(target, gates="gate" in cells) if factory is None else None
    chosen = chosen_sites(sites, glob, cells) if sites is not None else None      # before anything is built
    factory = factory or EngineFactory(engine, target, "gate" in cells)
    opened = factory()
    sites = opened.sites
    if chosen is None:
        chosen = chosen_sites(sites, glob, cells)
    words = words_of(sites, chosen)
    phases = phases_of(target, opened)
    labels, classes = words.classes * len(words.unit_names) + words.units, [
        f"{klass}, {unit}" for klass in words.class_names for unit in words.unit_names]
    if by_group:
        labels, classes = words.groups, list(words.group_names)
    population = Population(sites=words.sites, widths=words.widths, labels=labels, classes=classes, phases=phases.labels,
                            phase_names=phases.names, split_bits=not by_group, by_phase=not by_group)
    lifetimes = Lifetimes(words, opened.golden_cycles, _accesses(target, opened) if words.memory.any() else {})
    design = hashlib.sha256(sites.table.tobytes() + "\n".join(register.path for register in sites.registers).encode())
    identity = {"target": target.digest(), "design": design.hexdigest(), "plan": plan.to_json(),
                "population": {"sites": glob, "cells": list(cells), "by_group": by_group, "bits": population.bits,
                               "cycles": population.cycles}}
    return Job(target=target, sites=sites, engine=opened, factory=factory, words=words, lifetimes=lifetimes,
               sampler=Sampler(plan, population), phases=phases, identity=identity)


def _accesses(target: Target, engine: Engine) -> dict[str, Accesses]:
    """Return who touches the memories, where the engine has a trace of that."""
    found = {}
    for path, rows in getattr(engine, "access_trace", dict)().items():
        whole = rows[rows["kind"] != _PARTIAL_WRITE]
        kept = [np.arange(first, end) for first, end in target.observed_memory.get(path, [])]
        found[path] = Accesses(cycles=whole["cycle"].astype(np.int64), addresses=whole["address"].astype(np.int64),
                               reads=whole["kind"] == _READ, kept=np.concatenate([np.zeros(0, np.int64), *kept]))
    return found
