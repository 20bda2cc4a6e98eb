"""Every bit of every register of small meshes, wrong in every cycle: what each check finds, and what gets past it."""

import numpy as np
import pytest

from flows.fault.engines.verilator_engine import VerilatorEngine
from flows.fault.records import Kind, Outcome
from flows.fault.targets.workloads import CHECK_CYCLES, array_target
from tb.protect.mesh_bench import by_group, exhaustive, mesh_target


@pytest.mark.parametrize("kind", ["ws", "os"])
def test_a_checksum_lets_no_single_upset_pass(kind: str) -> None:
    """Both dataflows in the same mesh: no silent error, and none that is called corrected or ends late."""
    engine = VerilatorEngine(mesh_target("abft", 2, 2, kind=kind))
    faults = exhaustive(engine)
    outcomes = engine.run(faults)
    counts = np.bincount(outcomes["outcome"], minlength=len(Outcome))
    assert counts.sum() == len(faults) > 20_000
    assert counts[Outcome.DUE] > 2_500
    assert set(np.flatnonzero(counts)) == {Outcome.MASKED, Outcome.DETECTED_BENIGN, Outcome.DUE}
    # The lowest bit of each word, and the next one with it.
    neighbours = faults[(faults["mask"] == 1) & (engine.sites.table["width"][faults["site"]] > 1)]
    neighbours["mask"], neighbours["kind"] = 3, Kind.MBU
    assert Outcome.SDC not in engine.run(neighbours)["outcome"]
    assert len(neighbours) > 1_000
    late = outcomes[outcomes["outcome"] == Outcome.DUE]
    assert (late["first_flag"] - late["first_difference"]).max() <= 3


def test_a_checked_array_as_a_target() -> None:
    """What `array_target` makes of a checksum: checks that are on in time, and a run that is long enough for the last flag."""
    target = array_target(2, 2, protection="abft")
    assert target.cycles == array_target(2, 2).cycles + 6 + CHECK_CYCLES
    engine = VerilatorEngine(target)
    faults = exhaustive(engine)
    counts = np.bincount(engine.run(faults)["outcome"], minlength=len(Outcome))
    assert counts[Outcome.DUE] > 5_000
    assert set(np.flatnonzero(counts)) == {Outcome.MASKED, Outcome.DETECTED_BENIGN, Outcome.DUE}


def test_residues_miss_weights_at_rest_alone() -> None:
    """A stationary weight whose activations are multiples of 3, until the tile ends; everything else is found."""
    engine = VerilatorEngine(mesh_target("residue3", 2, 2))
    faults = exhaustive(engine)
    outcomes = engine.run(faults)
    groups = by_group(engine, faults, outcomes)
    assert {name for name, counted in groups.items() if Outcome.SDC in counted} == {"stationary"}
    assert groups["stationary"][Outcome.SDC] < groups["stationary"][Outcome.DUE] / 10
    assert sum(counted.get(Outcome.DUE, 0) for counted in groups.values()) > 2_500
