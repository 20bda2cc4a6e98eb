"""Choosing what to protect, on a design whose every rate is known: groups, costs, the choice, the rules, the prediction."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from flows.fault.campaign.campaign import Campaign
from flows.fault.campaign.plan import Plan
from flows.fault.campaign.words import Words
from flows.fault.figures.iso26262 import Rates
from flows.fault.hardening.protection import bank_area, measured_areas, mesh_extra, protection_data, protection_extra
from flows.fault.hardening.selection import Group, Vulnerability, groups_of, predicted, rules_for, select, vulnerable
from hw.protect.domains import mechanism_of
from tb.flows.fault.toy import CYCLES, STAGES, WIDTH, parts

FIT = Rates(logic=1 << 20)          # a FIT a bit
DOMAINS = {**{f"pipe.stage_{i}": WIDTH for i in range(STAGES)}, "control.state": 2, "control.parity_value": 3, "voter.copy_0": 5}


def rates_of(*rates, protocol=0.0):
    return [Vulnerability(faults=100, hits=round(100 * rate), rate=rate, protocol=protocol) for rate in rates]


def whole():
    return Campaign(**parts(Plan(method="exhaustive"))).exhaust()


def test_areas_of_banks():
    assert bank_area("none", 16) == 120
    assert bank_area("parity", 16) == 217.5
    assert bank_area("parity", 24) == pytest.approx((217.5 + 417.5) / 2)
    assert bank_area("tmr", 128) == pytest.approx(1915.5 + 2 * (1915.5 - 962.5))
    assert bank_area("dmr", 0) == 0
    assert protection_extra("parity", (16, 16)) == pytest.approx(2 * 97.5)
    for mechanism in ("parity", "dmr", "tmr"):
        extra = [protection_extra(mechanism, (bits,)) for bits in range(1, 200)]
        assert all(b >= a > 0 for a, b in pairwise(extra))
    assert all(entry.source for entry in protection_data().values())
    with pytest.raises(ValueError, match=r"^mechanism must be one of none, parity, dmr, tmr, not 'ecc'$"):
        bank_area("ecc", 3)


def test_areas_of_meshes_that_check_themselves() -> None:
    """A part for each PE and for each row: what was measured where it was, and a smaller share of a larger array."""
    data = protection_data()
    for mechanism in ("abft", "residue3", "residue15"):
        measured = [area - plain for area, plain in zip(data[f"mesh_area_{mechanism}"].value, data["mesh_area_none"].value,
                                                        strict=True)]
        assert [mesh_extra(mechanism, size, size) for size in data["mesh_sizes"].value] == pytest.approx(measured)
    assert mesh_extra("none", 5, 9) == 0
    assert 0 < mesh_extra("abft", 32, 32) < 4 * mesh_extra("abft", 16, 16)
    with pytest.raises(ValueError, match=r"^mechanism must be one of none, abft, residue3, residue15, not 'tmr'$"):
        mesh_extra("tmr", 8, 8)



@pytest.mark.full
@pytest.mark.parametrize("mechanism", ["none", "parity", "dmr", "tmr"])
def test_areas_are_those_of_a_synthesis(mechanism):
    assert measured_areas(mechanism, [1, 16]) == pytest.approx([bank_area(mechanism, width) for width in (1, 16)], rel=0.02)


def test_groups_are_registers_that_differ_in_numbers_only():
    groups = {group.name: group for group in groups_of(parts()["words"], DOMAINS)}
    assert set(groups) == {"pipe.stage_*", "control.state", "control.parity_value", "voter.copy_*"}
    assert groups["pipe.stage_*"].bits == (STAGES * WIDTH,)         # all in one module
    assert groups["pipe.stage_*"].domains == tuple(f"pipe.stage_{i}" for i in range(STAGES))


def test_names_that_emission_has_changed():
    names = ["dut.a.x", "dut.a.y$12", "dut.a.$signal$3", "dut.a.$signal$4", "dut.b.read", "dut.row_0.c$1", "dut.row_1.c$7"]
    words = Words.of(sites=range(7), widths=[4, 5, 6, 7, 8, 2, 2], lows=[0] * 7, paths=names, units=["u"] * 7,
                     classes=["data"] * 7)
    domains = {"a.x": 4, "a.y": 5, "a.$signal": 6, "a.$signal_1": 7, "row_0.c": 2, "row_1.c": 2}
    groups = {group.name: group for group in groups_of(words, domains)}
    assert set(groups) == {"a.x", "a.y", "a: others", "b.read", "row_*.c"}
    assert groups["a: others"].domains == ("a.$signal", "a.$signal_1")
    assert groups["a: others"].bits == (13,)
    assert groups["b.read"].domains == ()                           # a read register of a memory: nothing to protect it by
    assert groups["row_*.c"].bits == (2, 2)
    assert sum(len(group.rows) for group in groups.values()) == 7


def test_rates_of_groups():
    results = whole()
    groups = groups_of(results.words, DOMAINS)
    found = {group.name: entry for group, entry in zip(groups, vulnerable(results, groups), strict=True)}
    state = found["control.state"]
    assert (state.faults, state.hits, state.protocol) == (2 * CYCLES, CYCLES, 0)
    assert state.rate == pytest.approx((CYCLES + 0.5) / (2 * CYCLES + 1))
    assert found["voter.copy_*"].hits == 0
    assert found["voter.copy_*"].rate == pytest.approx(0.5 / (5 * CYCLES + 1))          # never quite harmless


def test_the_choice_by_hand():
    groups = [Group(name=name, domains=(name,), rows=np.array([0]), bits=bits) for name, bits in
              (("wide", (64,)), ("narrow", (1,)), ("many", (8, 8, 8, 8)))]
    shares = rates_of(0.5, 1.0, 0.01)               # 32, 1 and 0.32 of 97 FIT
    nothing = select(groups, shares, FIT, spfm=0.5)
    assert [option.name for option in nothing.chosen] == ["none"] * 3
    assert nothing.fit == pytest.approx(97)
    chosen = select(groups, shares, FIT, spfm=0.98)          # 1.94 FIT may be left
    assert [option.name for option in chosen.chosen] == ["parity", "none", "none"]
    assert chosen.residual == pytest.approx(1.32)
    assert chosen.area == pytest.approx(829 - 480)
    tighter = select(groups, shares, FIT, spfm=0.98, slack=0.5)
    assert [option.name for option in tighter.chosen] == ["parity", "parity", "none"]
    assert [option.name for option in select(groups, shares, FIT, spfm=0.98, mechanisms=("tmr",)).chosen] == ["tmr", "none",
                                                                                                              "none"]


def test_what_breaks_a_bus_must_be_corrected_not_told():
    groups = [Group(name="address", domains=("address",), rows=np.array([0]), bits=(32,))]
    assert [o.name for o in select(groups, rates_of(0.5, protocol=0.1), FIT, spfm=0.95).chosen] == ["tmr"]
    told = select(groups, rates_of(0.5, protocol=0.1), FIT, spfm=0.85)
    assert [o.name for o in told.chosen] == ["parity"]
    assert told.residual == pytest.approx(3.2)


def test_what_cannot_be_protected_may_be_too_much():
    bare = [Group(name="read", domains=(), rows=np.array([0]), bits=(10,))]
    with pytest.raises(ValueError,
                       match=r"^the residual rate must be at least 5, which is left with everything protected, not 0\.1$"):
        select(bare, rates_of(0.5), FIT, spfm=0.99)
    for name, value in (("spfm", 1.0), ("slack", -0.1)):
        with pytest.raises(ValueError, match=rf"^{name} must be at least 0 and less than 1, not {value}$"):
            select(bare, rates_of(0.0), FIT, **{"spfm": 0.9, name: value})


def test_rules_protect_what_was_chosen_and_nothing_else():
    domains = {"a.x": 1, "a.x_next": 1, "row_0.c": 4, "row_1.c": 4, "row_0.pe_0.c": 4, "row_1.pe_3.c": 4, "b.$signal[2]": 3}
    groups = [Group(name=name, domains=tuple(d for d in domains if d in own), rows=np.array([0]), bits=(4,)) for name, own in
              (("a.x", {"a.x"}), ("next", {"a.x_next"}), ("row_*.c", {"row_0.c", "row_1.c"}),
               ("pe", {"row_0.pe_0.c", "row_1.pe_3.c"}), ("b", {"b.$signal[2]"}))]
    for chosen in (("row_*.c", "b"), ("pe",), ("a.x", "pe"), ("row_*.c", "pe", "next"), ()):
        shares = rates_of(*(1.0 if group.name in chosen else 0.0 for group in groups))
        selection = select(groups, shares, FIT, spfm=0.999)
        rules = rules_for(selection, domains, (("scratchpad", "secded"),))
        assert rules[0] == ("scratchpad", "secded")
        for group in groups:
            for domain in group.domains:
                got = mechanism_of(rules, domain, ("parity", "dmr", "tmr"))
                assert (got != "none") == (group.name in chosen), (chosen, domain, rules)


def test_what_is_predicted_is_what_stays():
    results = whole()
    groups = groups_of(results.words, DOMAINS)
    selection = select(groups, vulnerable(results, groups), FIT, spfm=0.95)
    left = {group.name for group, option in zip(groups, selection.chosen, strict=True) if option.name == "none"}
    assert "pipe.stage_*" not in left
    fit, (low, high) = predicted(results, selection, FIT)
    exact = {"control.state": 1.0, "control.parity_value": 0.0, "voter.copy_*": 0.0}
    assert fit == pytest.approx(sum(exact[name] for name in left))
    assert low == pytest.approx(fit)
    assert high == pytest.approx(fit)
    assert dataclasses.replace(selection, place=0).residual > selection.residual
