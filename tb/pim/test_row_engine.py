# amaranth: UnusedElaboratable=no
"""Row engine against the timing-checked DRAM: row periods of the published designs, refresh, credits, random jobs."""

import dataclasses
import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.row_engine import RowEngine
from hw.pim.timing import TIMINGS
from hw.pim.timing_tables import DramCommand
from sw.pim.dram import DramChannel
from tb.pim.dram_port import DramModel
from tb.sim import check_stream, put_all, simulate

ACT, ACTM, PRE, REF, REFSB, RD, MAC, WR = DramCommand
# Table, interval, streams, DRAM clocks a cycle, and the row efficiency of the specification.
DESIGNS = {
    "logic-pim": ("hbm3-5.2", 4, 8, 2, 0.753),
    "hbm-pim": ("hbm2", 4, 8, 4, 0.815),
    "aim": ("gddr6-aim", 2, 16, 2, 0.566),
    "attacc-bank": ("hbm3-5.2", 6, 32, 2, 0.828),
}


# Refreshes eight times as often as in HBM3, and each as much shorter, so that a bench sees many of them.
BRISK = dataclasses.replace(TIMINGS["hbm3-5.2"], refi=634, rfc=57)


class System:
    """A row engine, its DRAM, and a consumer that gives credits back."""

    def __init__(self, name="hbm3-5.2", interval=4, streams=8, phases=2, *, refresh=False, rows=64, credits=64, **kwargs):
        timing = TIMINGS[name] if isinstance(name, str) else name
        self.timing, self.credits = timing, credits
        self.engine = RowEngine(timing=timing, interval=interval, streams=streams, phases=phases, rows=rows, credits=credits,
                                **kwargs)
        self.model = DramModel(DramChannel(timing, interval=interval, rows=rows, refresh=refresh), streams=streams, phases=phases)
        self.arrived, self.stalls, self.owned = [], {"row": 0, "refresh": 0, "credit": 0}, credits

    def run(self, jobs, *, writes=(), slow=0.0, stall=0.0, hold=None, seed=0, tail=0, deadline=60_000):
        engine, rng = self.engine, random.Random(seed)
        bursts = sum(job["bursts"] + 1 for job in jobs)
        reads = bursts - len(writes)

        async def consume(ctx):
            waiting = wrote = 0
            while len(self.arrived) < reads or wrote < len(writes):
                back = waiting > 0 and rng.random() >= slow
                ctx.set(engine.credit, back)
                ctx.set(engine.hold, hold is not None and hold(self.model.cycle))
                sampled = (engine.dram.rvalid, engine.dram.rdata, engine.read, engine.wrote, engine.stall_row,
                           engine.stall_refresh, engine.stall_credit)
                _, _, valid, data, read, written, *stalls = await ctx.tick().sample(*sampled)
                self.owned += back - read
                assert 0 <= self.owned <= self.credits
                waiting += valid - back
                wrote += written
                if valid:
                    self.arrived.append(data)
                for name, stalled in zip(self.stalls, stalls, strict=True):
                    self.stalls[name] += stalled
            await ctx.tick().repeat(max(1, tail))

        benches = [put_all(engine.i, jobs, stall=stall, seed=seed), consume]
        if writes:
            benches.append(put_all(engine.write, writes, stall=stall, seed=seed + 1))
        return simulate(engine, *benches, background=[lambda ctx: self.model.serve(ctx, engine.dram), check_stream(engine.i)],
                        seed=seed, deadline=deadline)


def whole_rows(count, sets, columns):
    return [{"set": index % sets, "row": index, "column": 0, "bursts": columns - 1, "write": 0} for index in range(count)]


@pytest.mark.parametrize("design", DESIGNS)
def test_a_row_of_one_bundle_takes_its_period(design):
    name, interval, streams, phases, efficiency = DESIGNS[design]
    system = System(name, interval, streams, phases)
    timing, columns = system.timing, system.timing.columns
    system.run(whole_rows(6, 1, columns))
    starts, reads = system.model.times(ACTM), system.model.times(MAC)
    period = (columns - 1) * interval + timing.rtp_l + timing.rp + timing.rcd_mac
    assert [later - earlier for earlier, later in itertools.pairwise(starts)] == [period] * 5
    assert reads[0] - starts[0] == timing.rcd_mac
    assert reads[-1] + interval - starts[0] == 6 * period - timing.rtp_l - timing.rp + interval
    assert round(columns * interval / period, 3) == efficiency


@pytest.mark.parametrize("design", ["logic-pim", "hbm-pim"])
def test_two_bundles_in_turn_hide_precharge_and_activation(design):
    name, interval, streams, phases, _ = DESIGNS[design]
    system = System(name, interval, streams, phases)
    columns = system.timing.columns
    rows = 10
    system.run(whole_rows(rows, 2, columns))
    start, reads = system.model.times(ACTM)[0], system.model.times(MAC)
    assert reads[-1] + interval - start == system.timing.rcd_mac + rows * columns * interval
    assert {later - earlier for earlier, later in itertools.pairwise(reads)} == {interval}


def test_ping_pong_efficiency_of_logic_pim():
    timing = TIMINGS["hbm3-5.2"]
    rows = 64                                                   # T = RCD + R·ncol·i, as measured above
    assert round(rows * 128 / (timing.rcd_mac + rows * 128), 3) == 0.998


def test_bursts_follow_each_other_in_every_cycle_where_the_interval_is_one():
    system = System("gddr6-aim", 2, 8, 2)
    jobs = [{"set": 0, "row": 3, "column": index, "bursts": 0, "write": 0} for index in range(20)]
    system.run(jobs)
    reads = system.model.times(MAC)
    assert reads == list(range(reads[0], reads[0] + 40, 2))
    assert system.model.times(ACTM, PRE) == [reads[0] - 56]


def test_refreshes_of_ranks_cost_what_they_must():
    system = System(BRISK, refresh=True)
    system.run([{**job, "row": job["row"] % 64} for job in whole_rows(70, 2, 32)])
    timing, reads = system.timing, system.model.times(MAC)
    share = Fraction(sum(later - earlier - 4 for earlier, later in itertools.pairwise(reads)), reads[-1] - reads[0])
    refreshes = len([issued for issued in system.model.log if issued.command is REF and issued.set == 0])
    assert refreshes >= reads[-1] // timing.refi - 4
    around = timing.ras + timing.rp + timing.rcd_mac + 2 * system.model.phases        # rows are closed and opened
    lost = refreshes * (timing.rfc + around)
    assert refreshes * timing.rfc < share * (reads[-1] - reads[0]) <= lost
    assert system.stalls["refresh"] > 0


def test_refreshes_of_idle_banks_cost_next_to_nothing():
    for same_bank in (False, True):
        system = System(dataclasses.replace(BRISK, refi=1268), refresh=True, same_bank=same_bank)
        jobs = [{"set": index // 20 % 2 * 2 + index % 2, "row": index % 64, "column": 0, "bursts": 31, "write": 0}
                for index in range(60)]                         # some 2600 clocks in one rank, then in the other
        system.run(jobs)
        reads = system.model.times(MAC)
        refreshes = len(system.model.times(REF, REFSB)) / (16 if same_bank else 1)
        assert refreshes >= 2 * (reads[-1] // system.timing.refi - 4)
        lost = sum(later - earlier - 4 for earlier, later in itertools.pairwise(reads))
        assert lost < 0.01 * reads[-1]                          # a refresh may have just begun when the first job comes


def test_a_composite_is_not_interrupted_before_the_deadline():
    system = System(BRISK, refresh=True)
    system.run([{**job, "row": job["row"] % 64} for job in whole_rows(50, 2, 32)], hold=lambda cycle: True)
    timing, reads = system.timing, system.model.times(MAC)
    first = min(system.model.times(REF))                        # of the other rank as well: its rows may be wanted next
    assert 8 * timing.refi - timing.refi // 2 <= first < 9 * timing.refi
    assert {later - earlier for earlier, later in itertools.pairwise(reads) if later < first - 200} == {4}


def test_an_idle_engine_refreshes_on():
    system = System(BRISK, refresh=True)
    system.run(whole_rows(1, 1, 4), tail=2500)
    assert abs(len(system.model.times(REF)) - 2 * (5000 // BRISK.refi)) <= 1
    assert system.model.times(PRE)


@pytest.mark.parametrize("credits", [1, 3])
def test_no_read_without_a_place_for_its_data(credits):
    system = System(credits=credits)
    system.run(whole_rows(3, 2, 32), slow=0.5)
    assert system.stalls["credit"] > 0
    assert len(system.arrived) == 96


@pytest.mark.parametrize(("name", "interval", "streams", "phases", "same_bank", "stripes"), [
    ("hbm3-5.2", 4, 8, 2, False, 1), ("hbm3-5.2", 4, 2, 2, True, 1), ("hbm2", 4, 8, 4, False, 1), ("gddr6-aim", 2, 4, 2, True, 1),
    ("hbm3-6.4", 2, 1, 2, False, 1), ("lpddr5", 2, 4, 1, False, 1), ("hbm3-5.2", 6, 32, 2, False, 1),
    ("hbm3-5.2", 2, 1, 2, False, 2)])
def test_random_jobs_break_no_rule_and_bring_the_right_data(name, interval, streams, phases, same_bank, stripes):
    seed = 7
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    timing = dataclasses.replace(TIMINGS[name], refi=TIMINGS[name].refi // 4, rfc=TIMINGS[name].rfc // 4)
    system = System(timing, interval, streams, phases, refresh=True, credits=6, same_bank=same_bank,
                    stripes=stripes)
    model, engine, columns = system.model, system.engine, stripes * system.timing.columns

    def placed(index, row, column):
        return index * stripes + column % stripes, row, column // stripes

    memory, expected, jobs, writes = {}, [], [], []
    for _ in range(100):
        column = rng.randrange(columns)
        job = {"set": rng.randrange(min(4, engine.sets // stripes)), "row": rng.randrange(3), "column": column,
               "bursts": rng.randrange(min(12, columns - column)), "write": int(rng.random() < 0.3)}
        for offset in range(job["bursts"] + 1):
            place = placed(job["set"], job["row"], column + offset)
            if place not in memory:
                memory[place] = noise.integers(0, 256, streams * 32, dtype=np.uint8)
                model.fill(*place, memory[place])
            if job["write"]:
                mask = rng.getrandbits(streams)
                data = noise.integers(0, 256, streams * 32, dtype=np.uint8)
                writes.append({"data": int.from_bytes(data.tobytes(), "little"), "mask": mask})
                chosen = np.repeat([bool(mask >> index & 1) for index in range(streams)], 32)
                memory[place] = np.where(chosen, data, memory[place])
            else:
                expected.append(int.from_bytes(memory[place].tobytes(), "little"))
        jobs.append(job)
    system.run(jobs, writes=writes, slow=0.3, stall=0.3, hold=lambda cycle: cycle % 500 < 250, seed=seed)
    assert system.arrived == expected
    for place, data in memory.items():
        assert (model.burst(*place) == data).all()
    assert {command for command in DramCommand if model.times(command)} >= {PRE, WR, REFSB if same_bank else REF}


def test_bursts_of_two_bank_groups_in_turn_are_twice_as_fast():
    system = System("hbm3-5.2", 2, 1, 2, stripes=2)
    rows, columns, timing = 8, 2 * system.timing.columns, system.timing
    system.run(whole_rows(rows, 2, columns))
    reads = system.model.times(RD)
    gaps = [later - earlier for earlier, later in itertools.pairwise(reads)]
    assert gaps[0] == -(-timing.faw // 4)                       # between the first two ACTs; the others come in time
    assert set(gaps[1:]) == {timing.ccd_s} == {2}
    assert len(reads) == rows * columns
    # A row after another of the same sets, and bursts of one bank group, wait as they must.
    again = System("hbm3-5.2", 2, 1, 2, stripes=2)
    again.run([{"set": 0, "row": row, "column": 0, "bursts": 0, "write": 0} for row in (3, 3)])
    assert again.model.times(RD)[1] - again.model.times(RD)[0] == timing.ccd_l
    for stripes, change in ((3, {}), (2, {"streams": 2}), (2, {"same_bank": True})):
        with pytest.raises(ConfigError, match=r"^RowEngine.stripes must be 1, or 2 with one stream, bank groups and refreshes by "
                                              rf"rank, not {stripes}$"):
            RowEngine(**{"timing": timing, "interval": 2, "streams": 1, "phases": 2, "rows": 64, "credits": 8, **change,
                         "stripes": stripes})


@pytest.mark.parametrize(("change", "message"), [
    ({"streams": 64}, r"^RowEngine.streams must be between 1 and 32, not 64$"),
    ({"streams": 3}, r"^RowEngine.streams must be a divisor of the 32 banks, not 3$"),
    ({"phases": 5}, r"^RowEngine.phases must be between 1 and 4, not 5$"),
    ({"rows": 0}, r"^RowEngine.rows must be between 1 and 65536, not 0$"),
    ({"credits": 0}, r"^RowEngine.credits must be between 1 and 256, not 0$"),
    ({"lookahead": 9}, r"^RowEngine.lookahead must be between 1 and 8, not 9$"),
])
def test_impossible_parameters_are_refused(change, message):
    arguments = {"timing": TIMINGS["hbm3-5.2"], "interval": 4, "streams": 8, "phases": 2, "rows": 64, "credits": 8, **change}
    with pytest.raises(ConfigError, match=message):
        RowEngine(**arguments)
