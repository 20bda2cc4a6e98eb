"""Figures of ISO 26262 against values worked out by hand and the specification's example."""

import math

import pytest

from flows.fault.figures.iso26262 import Rates, Structure, asil_reached, fit_rates, mean_time_to_failure, metrics, sweep
from flows.fault.figures.statistics import Interval


def structure(name="array", bits=3039, dangerous=0.0, width=0.0, **more):
    return Structure(name=name, bits=bits, dangerous=dangerous, **more,
                     interval=Interval(max(0, dangerous - width), min(1, dangerous + width)))


def test_the_array_without_and_with_parity():
    """3,039 flip-flops at 1000 FIT/Mbit: 2.9 FIT raw, 57.4 % of it silent; parity finds 99.245 % of that."""
    bare, parity = metrics([structure(dangerous=0.574)]), metrics([structure(dangerous=0.574 * (1 - 0.99245))])
    assert bare.fit == pytest.approx(2.9, abs=0.005)
    assert bare.residual_fit == pytest.approx(1.66, abs=0.005)
    assert parity.residual_fit == pytest.approx(0.013, abs=0.0005)
    assert (bare.spfm, parity.spfm) == pytest.approx((0.426, 0.99567), abs=1e-5)
    assert (bare.asil, parity.asil) == (None, "D")


def test_by_hand():
    """1 Mbit of each: λ 500 and 200 FIT; dangerous 1 % and 10 %."""
    parts = [structure("logic", 1 << 20, 0.01, 0.002, detected=0.5),
             structure("memory", 1 << 20, 0.10, 0.005, memory=True, detected=0.25)]
    found = metrics(parts, Rates(logic=500, memory=200))
    assert found.fit == 700
    assert found.residual_fit == pytest.approx(5 + 20)
    assert found.detected_fit == pytest.approx(250 + 50)
    half = math.hypot(500 * 0.002, 200 * 0.005)
    assert found.residual_interval == pytest.approx((25 - half, 25 + half))
    assert found.spfm == pytest.approx(1 - 25 / 700)
    assert found.spfm_low == pytest.approx(1 - (25 + half) / 700)
    assert found.lfm is None
    assert (found.pmhf, found.pmhf_high) == pytest.approx((25, 25 + half))
    assert found.asil == "B"


def test_permanent_faults_have_latent_ones():
    """λ 100 FIT of function, 20 FIT of mechanism, of which a tenth is latent; 10⁵ hours."""
    mbit = 1 << 20
    parts = [structure("function", mbit // 10, 0.001), structure("checker", mbit // 50, 0.0, mechanism=True, latent=0.1)]
    found = metrics(parts, permanent=True, lifetime_hours=1e5)
    function, checker = (mbit // 10) / mbit * 1000, (mbit // 50) / mbit * 1000
    assert found.lfm == pytest.approx(1 - 0.1 * checker / (function * 0.999 + checker))
    assert found.pmhf == pytest.approx(0.001 * function + function * 0.1 * checker * 1e5 * 1e-9)
    assert metrics(parts).lfm is None
    assert metrics([structure(dangerous=0.5)], permanent=True).lfm is None      # nothing that could fail unseen
    assert metrics([structure(dangerous=1.0, mechanism=True)], permanent=True).lfm == 0


@pytest.mark.parametrize(("spfm", "lfm", "pmhf", "asil"), [
    (0.99, 0.90, 9.99, "D"), (0.9899, 0.9, 9, "C"), (0.99, 0.89, 9, "C"), (0.99, 0.9, 10, "C"), (0.97, 0.8, 99, "C"),
    (0.96, 0.8, 99, "B"), (0.90, 0.60, 99, "B"), (0.90, 0.59, 99, None), (0.9, 0.6, 100, None), (0.89, 1, 0, None),
    (0.99, None, 1, "D"), (0.9, None, 1, "B")])
def test_targets(spfm, lfm, pmhf, asil):
    assert asil_reached(spfm, lfm, pmhf) == asil


def test_a_point_is_not_a_claim():
    found = metrics([structure(dangerous=0.009, width=0.005)])
    assert (found.asil, found.asil_claimed) == ("D", "C")


def test_sweep_keeps_logic_and_memories_apart():
    rows = sweep([structure("logic", 1 << 20, 0.01), structure("memory", 1 << 22, 0.001, memory=True)], (100, 2000))
    assert [row["fit_per_mbit"] for row in rows] == [100, 2000]
    low, high = rows
    assert (low["logic"]["residual_fit"], low["memory"]["residual_fit"]) == pytest.approx((1, 0.4))
    assert high["total"]["residual_fit"] == pytest.approx(20 * 1.4)
    assert low["total"]["spfm"] == pytest.approx(high["total"]["spfm"])         # a ratio: only sizes of rates matter for the ASIL
    assert (low["total"]["asil"], high["total"]["asil"]) == ("D", "C")
    assert sweep([structure()], (1,))[0]["memory"] is None


def test_rates_have_sources():
    rates = fit_rates()
    assert rates["iec61508-low"].value == 700
    assert rates["iec61508-high"].value == 1200
    assert all(entry.unit == "FIT per Mbit" and entry.source and entry.grade in "FDI" for entry in rates.values())
    assert Rates().logic == rates["reference"].value


def test_time_to_a_failure():
    assert mean_time_to_failure(10) == 1e8
    assert mean_time_to_failure(0) == math.inf


@pytest.mark.parametrize(("call", "said"), [
    (lambda: Rates(logic=0), r"^FIT per Mbit of logic must be a positive number, not 0$"),
    (lambda: Rates(memory=math.inf), r"^FIT per Mbit of memory must be a positive number, not inf$"),
    (lambda: metrics([]), r"^structures must hold at least one bit, not none$"),
])
def test_what_cannot_be(call, said):
    with pytest.raises(ValueError, match=said):
        call()
