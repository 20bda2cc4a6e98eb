"""Fault sites: every bit of state once, with its place, unit and stratum."""

import dataclasses
import functools
import re

import numpy as np
import pytest

from flows.emit import to_rtlil
from flows.fault.netlist.flat_netlist import NetlistError
from flows.fault.netlist.sites import KINDS, STRATA, SiteError, sites_of
from flows.fault.targets.target import Target
from flows.fault.targets.workloads import array_target
from tb.flows.fault.everything import Everything


@functools.cache
def target():
    return Target(name="everything", rtlil=to_rtlil(Everything(), "everything"), top="everything", cycles=4, observed=("sums",),
                  taps={"input": "i"})


@functools.cache
def everything():
    return sites_of(target(), gates=True)


def test_every_bit_of_state_is_a_site_once():
    sites = everything()
    for path, width in (("a", 40), ("b", 40), ("count", 6), ("child.odd", 6), ("memory.read_1", 72)):
        chosen = sites.select(path)
        rows = sites.table[chosen]
        bits = [low + bit for low, width in zip(rows["low"], rows["width"], strict=True) for bit in range(width)]
        assert sorted(bits) == list(range(width))
        assert {KINDS[kind] for kind in rows["kind"]} == {"ff"}
    memory = sites.of_kind("memory")
    assert sites.bits[memory].sum() == 5 * 72
    assert len(memory) == 5 * 3
    assert sites.name(int(memory[4])) == "memory[1][63:32]"
    assert sites.bits[sites.of_kind("bus")].sum() == 8
    assert sites.path(int(sites.of_kind("bus")[0])) == "input"


def test_a_bit_is_found_by_its_name():
    sites = everything()
    site, mask = sites.site_of("a", 37)
    low = int(sites.table["low"][site])
    assert (sites.path(site), low + mask.bit_length() - 1) == ("a", 37)
    site, mask = sites.site_of("memory", 70, address=3)
    assert (sites.name(site), mask) == ("memory[3][71:64]", 1 << 6)
    for bad in ((("a", 40)), ("memory", 0, 5)):
        with pytest.raises(SiteError, match=rf"^{bad[0]} must have bit {bad[1]} of word {bad[2] if len(bad) > 2 else 0}$"):
            sites.site_of(*bad)


def test_gates_are_sites_only_where_they_are_asked_for():
    assert len(everything().of_kind("gate")) > 50
    assert not len(sites_of(target()).of_kind("gate"))


def test_units_are_the_array_s_rows_and_strata_are_told_by_name():
    sites = sites_of(array_target(2, 2))
    assert {"row_0", "row_1", "top"} <= set(sites.units)
    row = sites.table[sites.site_of("mesh.row_1.pe_0.stationary_0")[0]]
    assert (sites.units[row["unit"]], STRATA[row["stratum"]]) == ("row_1", "data")
    assert STRATA[sites.table["stratum"][sites.site_of("mesh.row_1.pe_0.control_out")[0]]] == "control"
    assert STRATA[everything().table["stratum"][everything().of_kind("memory")[0]]] == "memory"


def test_what_matches_nothing_is_refused_with_what_is_near():
    with pytest.raises(SiteError, match=r"^sites must match something: 'child\.od' matches none of \d+ registers and "
                                        r"memories; near: .*child\.odd"):
        everything().select("child.od")
    with pytest.raises(SiteError, match=r"^Target.environment must be globs of instance paths that there are, not 'dram'$"):
        sites_of(dataclasses.replace(target(), environment=("dram",)))
    with pytest.raises(NetlistError, match=re.escape("Target.taps['x'] must be an input of 'everything', not 'y'")):
        sites_of(dataclasses.replace(target(), taps={"x": "y"}))


def test_what_belongs_to_the_environment_is_no_site():
    sites = sites_of(dataclasses.replace(target(), environment=("child",)))
    assert not any(register.path.startswith("child") for register in sites.registers)
    assert np.array_equal(sites.of_kind("ff"), np.arange(len(sites.of_kind("ff"))))
