"""Campaigns on a design whose every outcome is known: counts, AVFs, intervals, stops, workers, interrupted and resumed runs."""

import dataclasses
import functools
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from flows.fault.campaign.campaign import Campaign
from flows.fault.campaign.plan import Plan
from flows.fault.campaign.results import Results, outcome_counts
from flows.fault.campaign.store import Store, StoreError
from flows.fault.figures.iso26262 import Rates
from flows.fault.figures.statistics import Looks
from flows.fault.records import Kind, Outcome
from flows.toolchain import ToolError
from tb.flows.fault.toy import CYCLES, MEMORY_DEPTH, MEMORY_READ, STAGES, WIDTH, ToyEngine, parts

BITS = STAGES * WIDTH + 2 + 3 + 5 + 40 * MEMORY_DEPTH
DEAD = 40 * ((MEMORY_DEPTH - 2) * CYCLES + CYCLES - MEMORY_READ - 1)
SHIFT_SDC = sum(WIDTH * (CYCLES - (STAGES - 1 - stage)) for stage in range(STAGES))
MEMORY_SDC = 40 * (CYCLES + MEMORY_READ + 1)


def by_name(rows):
    return {row.name: row for row in rows}


def test_exhaustive_gives_what_was_worked_out_by_hand():
    campaign = Campaign(**parts(Plan(method="exhaustive")))
    results = campaign.exhaust()
    assert campaign.masked_by_analysis == DEAD
    assert len(results.rows) == BITS * CYCLES - DEAD
    counts = outcome_counts(results.rows["outcome"])
    assert sum(counts["outcomes"].values()) == len(results.rows)
    assert counts["outcomes"]["sdc"] == SHIFT_SDC + MEMORY_SDC
    assert counts["outcomes"]["hang"] == counts["subclasses"]["hang"]["hang"] == 2 * CYCLES // 2
    assert counts["outcomes"]["detected"] == 3 * CYCLES
    assert counts["subclasses"]["detected"] == {"due": 3 * CYCLES // 2, "detected_benign": 3 * CYCLES // 2}
    assert counts["outcomes"]["corrected"] == 5 * CYCLES
    total = results.total()
    assert total.rates["sdc"] == pytest.approx((SHIFT_SDC + MEMORY_SDC) / (BITS * CYCLES))
    assert total.intervals["sdc"] == pytest.approx([total.rates["sdc"]] * 2)         # nothing is left to doubt
    assert (total.bits, total.population) == (BITS, BITS * CYCLES)
    units = by_name(results.by_unit())
    assert units["pipe"].rates["sdc"] == pytest.approx(SHIFT_SDC / (STAGES * WIDTH * CYCLES))
    assert units["bank"].rates["sdc"] == pytest.approx((CYCLES + MEMORY_READ + 1) / (MEMORY_DEPTH * CYCLES))
    assert units["bank"].live == pytest.approx(units["bank"].rates["sdc"])
    assert units["voter"].rates == {**dict.fromkeys(("sdc", "due", "hang", "protocol", "dangerous", "detected"), 0),
                                    "corrected": 1, "effect": 1}
    assert units["control"].rates["dangerous"] == pytest.approx(0.5 * 2 / 5)
    assert units["control"].rates["detected"] == pytest.approx(3 / 5)


def test_analysis_changes_what_is_simulated_and_no_rate():
    with_trace, without = (Campaign(**parts(Plan(method="exhaustive"), trace=trace)).exhaust() for trace in (True, False))
    assert len(without.rows) == BITS * CYCLES > len(with_trace.rows)
    for a, b in zip((*with_trace.by_unit(), *with_trace.by_bit()), (*without.by_unit(), *without.by_bit()), strict=True):
        for rate in a.rates:
            assert a.rates[rate] == pytest.approx(b.rates[rate]), (a.name, rate)


def test_parts_of_the_population():
    phases = (np.arange(CYCLES) >= 10).astype(np.int64)
    results = Campaign(**parts(Plan(method="exhaustive"), phases=phases)).exhaust()
    groups = by_name(results.by_group())
    assert set(groups) == {"dut.pipe.stage_*", "dut.control.state", "dut.control.parity_value", "dut.voter.copy_*",
                           "dut.bank.array"}
    assert groups["dut.pipe.stage_*"].bits == STAGES * WIDTH
    by_phase = by_name(results.by_phase())
    assert by_phase["first"].population == BITS * 10
    assert by_phase["first"].rates["dangerous"] == pytest.approx((STAGES * WIDTH + 2 + 80) / BITS)
    late = sum(WIDTH * (CYCLES - (STAGES - 1 - s) - 10) for s in range(STAGES)) + 2 * 10 + 40 * (30 + MEMORY_READ + 1 - 10)
    assert by_phase["second"].rates["dangerous"] == pytest.approx(late / (BITS * 30))
    bits = results.by_bit()
    assert [row.name for row in bits] == [str(i) for i in range(40)]
    assert bits[39].rates["sdc"] == pytest.approx((CYCLES + MEMORY_READ + 1) / (MEMORY_DEPTH * CYCLES))
    assert bits[4].bits == 1 + MEMORY_DEPTH                                           # of the voted register and the memory
    storage = by_name(results.by_storage())
    assert storage["memories"].bits == 40 * MEMORY_DEPTH
    assert {row.name: row.bits for row in results.by_class()} == {"control": 2, "data": STAGES * WIDTH + 8, "memory": 240}
    units, cycles, rates = results.by_unit_and_time(4)
    assert cycles.tolist() == [0, 10, 20, 30, 40]
    assert rates[units.index("control")] == pytest.approx([2 / 5, 2 / 5, 0, 0])
    assert rates[units.index("bank"), 0] == pytest.approx(2 / 6)
    structures = {s.name: s for s in results.structures()}
    assert set(structures) == {"pipe, flip-flops", "control, flip-flops", "voter, flip-flops", "bank, memories"}
    assert structures["bank, memories"].memory


@pytest.mark.parametrize("plan", [Plan(seed=4), Plan(seed=4, method="stratified"),
                                  Plan(seed=4, method="importance", boosts=(("control*", 10.0), ("data*", 3.0)))])
def test_samples_find_it_within_their_intervals(plan):
    truth = Campaign(**parts(Plan(method="exhaustive"))).exhaust()
    found = Campaign(**parts(plan)).sample(1500)
    assert len(found.rows) == 1500
    for which in ("total", "by_unit", "by_class"):
        exacts, rows = ([made] if which == "total" else made for made in (getattr(truth, which)(), getattr(found, which)()))
        for exact, row in zip(exacts, rows, strict=True):
            for rate, (low, high) in row.intervals.items():
                slack = 0.5 * (high - low)                        # 95 %, many at once
                assert low - slack <= exact.rates[rate] <= high + slack, (which, row.name, rate)


def test_strata_that_matter_get_more():
    uniform = Campaign(**parts(Plan())).sample(800).total().intervals["dangerous"]
    stratified = Campaign(**parts(Plan(method="stratified"))).sample(800)
    assert len(stratified.rows) == pytest.approx(800, abs=3)
    assert stratified.total().intervals["dangerous"].half_width < 1.05 * uniform.half_width
    least = min(np.bincount(stratified.rows["stratum"]))
    assert least >= 30


def test_it_stops_when_it_knows_enough():
    campaign = Campaign(**parts(Plan(method="stratified")))
    results = campaign.until(Looks(target=0.05, first=100))
    assert [look["met"] for look in campaign.looks] == [False] * (len(campaign.looks) - 1) + [True]
    assert 100 < len(results.rows) < 4000
    assert campaign.looks[-1]["widest"] <= 0.05 < campaign.looks[-2]["widest"]
    assert results.total().intervals["sdc"].half_width < 0.05
    assert campaign.confidence == campaign.looks[-1]["confidence"] == 1 - 0.05 / 2 ** len(campaign.looks)
    plain = Results(campaign.words, campaign.lifetimes, campaign.sampler, results.rows)
    assert results.total().intervals["sdc"].half_width > 1.1 * plain.total().intervals["sdc"].half_width    # looks have a price


def test_strata_are_known_by_their_share_of_the_failure_rate():
    results = Campaign(**parts(Plan(method="stratified"))).sample(3000)
    names = [name for name, *_ in results.strata()]
    shares = {logic: dict(zip(names, (share for _, share, *_ in results.strata(Rates(logic=logic, memory=1.0))), strict=True))
              for logic in (1.0, 1000.0)}
    memory = [name for name in names if name.startswith("memory")]
    bits = {name: size for name, size in zip(names, results.sampler.sizes, strict=True)}
    for name in memory:
        assert shares[1.0][name] >= bits[name] / sum(bits.values())
        assert shares[1000.0][name] < 0.01 < shares[1.0][name]          # hardly ever hit: need not be known
    harmful = max((n for n in names if n.startswith("control")), key=lambda n: shares[1.0][n])
    assert shares[1.0][harmful] > bits[harmful] / sum(bits.values())    # few bits, but most of what is dangerous


def test_it_stops_when_there_is_nothing_left():
    campaign = Campaign(**parts(Plan(), "dut.control.state"))
    results = campaign.until(Looks(target=0.0001, first=50))
    assert len(results.rows) == 2 * CYCLES
    assert results.total().intervals["dangerous"].half_width == pytest.approx(0)
    assert len(Campaign(**parts(Plan(), "dut.control.state")).sample(10**6).rows) == 2 * CYCLES


def test_an_mbu_campaign_counts():
    results = Campaign(**parts(Plan(kind=Kind.MBU, seed=1))).sample(2000)
    assert sum(outcome_counts(results.rows["outcome"])["outcomes"].values()) == 2000
    assert results.total().rates["sdc"] > 0
    assert sum(row.bits for row in results.by_unit()) == results.words.bits
    whole = Campaign(**parts(Plan(kind=Kind.MBU, adjacent=2, method="exhaustive"), "dut.pipe*")).exhaust()
    assert len(whole.rows) == (WIDTH - 1) * STAGES * CYCLES == whole.sampler.population.size
    assert whole.total().rates["sdc"] == (whole.rows["outcome"] == Outcome.SDC).mean()
    assert whole.total().intervals["sdc"].half_width == pytest.approx(0)
    assert [row.faults for row in whole.by_bit()] == [STAGES * CYCLES] * (WIDTH - 1)
    assert whole.total().bits == STAGES * WIDTH


@pytest.mark.parametrize("kind", [Kind.STUCK1, Kind.INTERMITTENT])
def test_what_outlives_a_write_is_not_proven_masked(kind):
    campaign = Campaign(**parts(Plan(kind=kind, duration=4), "dut.bank*"))
    results = campaign.sample(300)
    assert campaign.masked_by_analysis == 0
    total, silent = results.total(), np.count_nonzero(results.rows["outcome"] == Outcome.SDC)
    assert total.live == 1
    assert total.rates["sdc"] == pytest.approx(silent / 300)


def test_an_engine_without_a_trace_goes_on(tmp_path):
    """What it has simulated and the trace proves to be masked is not counted twice when one with a trace goes on."""
    rates = []
    for trace, faults in ((True, 400), (False, 500), (True, 500)):
        with Store(tmp_path, identity(), resume=bool(rates)) as store:
            rates.append(Campaign(**parts(trace=trace), store=store).sample(faults).total())
    assert rates[1].live == 1
    assert rates[1].faults > rates[0].faults == 400
    assert rates[2].faults >= 400
    assert rates[2].rates["sdc"] == pytest.approx(rates[1].rates["sdc"], abs=0.05)


def test_workers_find_the_same():
    alone = Campaign(**parts(Plan(seed=2), engine=ToyEngine())).sample(700)
    campaign = Campaign(**parts(Plan(seed=2)), workers=2, factory=functools.partial(ToyEngine))
    together = campaign.sample(700)
    assert np.array_equal(np.sort(alone.rows, order="index"), np.sort(together.rows, order="index"))
    assert campaign.spent.faults == 700


def identity(**changed):
    return {"target": "t", "design": "d", "plan": Plan().to_json(), "population": {"sites": "*"}, **changed}


def kept_in(folder):
    with Store(folder, identity(), resume=True) as store:
        return store.rows


def test_interrupted_and_resumed_is_what_it_would_have_been(tmp_path):
    whole = Campaign(**parts(Plan(seed=3), trace=True)).sample(900)
    engine = ToyEngine(dies_after=1)
    engine.batch = 300
    with Store(tmp_path, identity()) as store, pytest.raises(KeyboardInterrupt):
        Campaign(**parts(Plan(seed=3), engine=engine), store=store).sample(900)
    with Store(tmp_path, identity(), resume=True) as store:
        assert len(store.rows) == 300
        again = Campaign(**parts(Plan(seed=3)), store=store)
        results = again.sample(900)
    assert again.spent.faults == 600
    assert np.array_equal(np.sort(results.rows, order="index"), np.sort(whole.rows, order="index"))
    with Store(tmp_path, identity(), resume=True) as store:
        more = Campaign(**parts(Plan(seed=3)), store=store)
        assert len(more.sample(1200).rows) == 1200
    assert more.spent.faults == 300
    kept = kept_in(tmp_path)
    assert np.array_equal(kept["outcome"], np.sort(more.results.rows, order="index")["outcome"])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("method", ["uniform", "stratified"])
def test_a_campaign_does_not_shrink(tmp_path, method):
    """What analysis proves masked is counted as far as rows go, however few faults are asked for afterwards."""
    plan = Plan(seed=3, method=method)
    with Store(tmp_path, identity()) as store:
        whole = Campaign(**parts(plan, trace=True), store=store)
        whole.sample(900)
    assert whole.masked_by_analysis > 0
    with Store(tmp_path, identity(), resume=True) as store:
        again = Campaign(**parts(plan, trace=True), store=store)
        small = again.sample(10)
    assert len(small.rows) == len(whole.results.rows)
    assert again.spent.faults == 0
    assert again.masked_by_analysis >= whole.masked_by_analysis * 0.95      # but what lay behind the last row
    assert again.masked_by_analysis <= whole.masked_by_analysis


@pytest.mark.parametrize(("name", "value"), [("outcome", 99), ("site", 9999), ("mask", 0), ("stratum", 1), ("index", 1 << 50),
                                             ("cycle", 77)])
def test_rows_that_are_not_of_the_plan(tmp_path, name, value):
    with Store(tmp_path, identity()) as store:
        Campaign(**parts(), store=store).sample(50)
    store.rows = kept_in(tmp_path)
    store.rows[name][7:10] = value
    with pytest.raises(StoreError, match=r"^rows that a campaign goes on from must be of its plan, not what 3 of 50 say: "
                                         r"files in the folder have been changed$"):
        Campaign(**parts(), store=store)


def test_an_importance_sample_that_says_nothing():
    plan = Plan(method="importance", boosts=(("control*", 1000.0),))
    with pytest.raises(ValueError, match=r"^an importance sample must be worth at least 100 draws, not \d+\.\d: draw more "):
        Campaign(**parts(plan)).sample(200)
    campaign = Campaign(**parts(Plan(method="importance", boosts=(("control*", 2.0),))))
    campaign.sample(500)
    assert 400 < campaign.effective_sample_size < 500


def test_a_folder_that_cannot_take_it(tmp_path):
    with pytest.raises(StoreError, match=r"^--resume needs a folder with a campaign, not '.*none'$"):
        Store(tmp_path / "none", identity(), resume=True)
    Store(tmp_path, identity()).close()
    with pytest.raises(StoreError, match=r"^-o must be a folder without a campaign, not '.*': add --resume to go on with "
                                         r"that one$"):
        Store(tmp_path, identity())
    with pytest.raises(StoreError, match=r'^--resume must go on with the campaign in .*, but its design has changed from "d" to '
                                         r'"e": start another one in another folder$'):
        Store(tmp_path, identity(design="e"), resume=True)
    with pytest.raises(StoreError, match=r"^--resume must go on with the campaign in .*, but its plan has changed from .*…"):
        Store(tmp_path, identity(plan=Plan(seed=8).to_json()), resume=True)
    (tmp_path / "campaign.json").write_text("{")
    with pytest.raises(StoreError, match=r"^--resume needs a readable campaign\.json, not '.*': Expecting"):
        Store(tmp_path, identity(), resume=True)
    (tmp_path / "campaign.json").write_text("[]")
    with pytest.raises(StoreError, match=r"^--resume needs a readable campaign\.json, not '.*': it must hold an object, not "
                                         r"\[\]$"):
        Store(tmp_path, identity(), resume=True)
    Store(tmp_path, identity(), replace=True).close()
    assert json.loads((tmp_path / "campaign.json").read_text()) == identity()
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"index": pyarrow.array([None], pyarrow.uint64())}),
                                tmp_path / "faults" / "w.parquet")
    with pytest.raises(StoreError, match=r"^rows must be Parquet as this program writes it, not '.*w\.parquet': index is missing "
                                         r"in some rows$"):
        Store(tmp_path, identity(), resume=True)
    (tmp_path / "faults" / "w.parquet").unlink()
    (tmp_path / "faults" / "x.parquet").write_bytes(b"no")
    with pytest.raises(StoreError, match=r"^rows must be Parquet as this program writes it, not '.*x\.parquet': "):
        Store(tmp_path, identity(), resume=True)


def test_pyarrow_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ToolError, match=r"^pyarrow not found \(it keeps a row for each fault\): install it with "
                                        r"pip install 'heddle\[fault\]'$"):
        Store(tmp_path, identity())


@pytest.mark.parametrize(("call", "said"), [
    (lambda: Campaign(**parts()).sample(0), r"^--faults must be at least 1, not 0$"),
    (lambda: Campaign(**parts(), workers=0), r"^--workers must be at least 1, not 0$"),
    (lambda: Campaign(**parts(), workers=2).sample(1),
     r"^--workers must be 1 where there is no way to make another engine, not 2$"),
])
def test_what_cannot_be(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_nothing_that_can_matter():
    """A campaign on a memory that nobody reads says so instead of dividing by nothing."""
    made = parts(Plan(), "dut.bank*")
    from flows.fault.campaign.analysis import Accesses, Lifetimes

    empty = np.zeros(0, np.int64)
    nobody = Accesses(cycles=empty, addresses=empty, reads=empty.astype(bool), kept=empty)
    made["lifetimes"] = Lifetimes(made["words"], CYCLES, {"dut.bank.array": nobody})
    with pytest.raises(ValueError, match=r"^a campaign must have faults that can matter, not 9,600 that the access trace "
                                         r"proves to be masked$"):
        Campaign(**made).sample(10)
    assert Outcome.MASKED == 0


def test_what_a_safety_mechanism_hides_is_latent():
    made = parts(Plan(method="exhaustive", kind=Kind.STUCK1))
    made["words"] = dataclasses.replace(made["words"], paths=[
        path.replace("dut.control.parity_value", "dut.control.registers_parity.check.parity").replace(
            "dut.pipe.stage_0", "dut.pipe.registers_tmr.copy_0.stage_0") for path in made["words"].paths])
    structures = {structure.name: structure for structure in Campaign(**made).exhaust().structures()}
    assert structures["control, flip-flops of mechanisms"].mechanism
    assert structures["control, flip-flops of mechanisms"].latent == 0                          # each is told of
    assert structures["pipe, flip-flops of mechanisms"].bits == WIDTH
    assert structures["pipe, flip-flops of mechanisms"].latent == pytest.approx((STAGES - 1) / CYCLES)   # too late to show
    assert structures["control, flip-flops"].latent == 0                                        # no mechanism, nothing latent
    assert not structures["bank, memories"].mechanism


class DyingEngine(ToyEngine):
    """Takes its process with it."""

    def run(self, faults):
        os._exit(1)


def test_a_worker_that_dies(tmp_path):
    store = Store(tmp_path, identity())
    campaign = Campaign(**parts(Plan(seed=2)), workers=2, factory=DyingEngine, store=store)
    with pytest.raises(ToolError, match=r"^a worker of the campaign died \(of memory, perhaps\): rows so far are kept; go on "
                                        r"with --resume and fewer --workers$"):
        campaign.sample(200)
    store.close()
    assert len(kept_in(tmp_path)) == 0


class TellingEngine(ToyEngine):
    """Says which process it is in, by a file, and takes its time."""

    def __init__(self, folder):
        super().__init__(seconds=5)
        (folder / str(os.getpid())).touch()


def _endless(folder):
    Campaign(**parts(Plan(seed=2), engine=ToyEngine()), workers=2, factory=functools.partial(TellingEngine, folder)).exhaust()


def _runs(process):
    """Return whether a process is there; one that waits for its parent to look is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_of_a_campaign_that_was_killed_leave(tmp_path):
    campaign = multiprocessing.get_context("spawn").Process(target=_endless, args=(tmp_path,))
    campaign.start()
    try:
        wait_for(lambda: list(tmp_path.iterdir()))
        workers = [int(file.name) for file in tmp_path.iterdir()]
        assert all(_runs(worker) for worker in workers)
    finally:
        campaign.kill()
        campaign.join()
    wait_for(lambda: not any(_runs(worker) for worker in workers))


def wait_for(holds, seconds=60):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)
