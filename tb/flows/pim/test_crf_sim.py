# amaranth: UnusedElaboratable=no
"""HBM-PIM's pseudo-channel in Verilator, eight units at its preset's clock: against the interpreter, and how a run ends."""

import dataclasses

import numpy as np
import pytest

from flows.pim import crf_sim
from flows.pim.crf_sim import CrfHang, CrfSim
from hw.errors import ConfigError
from hw.pim.crf import HostAccess
from hw.pim.crf_channel import CrfFault
from hw.pim.presets import PIM_PRESETS
from hw.pim.timing_tables import DramCommand
from sw.golden.pim.hbm_pim import UNITS, HbmPim
from sw.pim.dram import DramViolation
from sw.pim.hbm_access import HbmAccess, reserved
from sw.pim.hbm_gemv import GemvPlan, gemv_tck
from tb.pim.crf_bench import random_runs

HBM = PIM_PRESETS["pim-hbm"]
SIM = CrfSim(HBM)


def product(outputs, inputs, **options):
    """Run a product on both; return the run and the plan, after everything is compared."""
    rng = np.random.default_rng(outputs + inputs)
    plan = GemvPlan(outputs=outputs, inputs=inputs)
    weights, x = rng.normal(size=(outputs, inputs)).astype(np.float16), rng.normal(size=inputs).astype(np.float16)
    pim = HbmPim()
    with SIM.open(**options) as session:
        for row, odd, values in plan.banks(weights):
            session.row(row, odd=odd)[:] = values
            pim.fill(row, odd, values)
        run = session.run(plan.accesses(x))
    assert run.reads == pim.run(plan.accesses(x))
    assert run.instructions == pim.instructions == plan.instructions
    assert run.refusals == []
    return run, plan


@pytest.mark.parametrize(("shape", "stall"), [((64, 256), 0.0), ((70, 300), 0.4)])
def test_a_product_is_what_the_interpreter_computes(shape, stall):
    run, plan = product(*shape, stall=stall, seed=3)
    read_back = 8 * UNITS * plan.blocks
    assert run.dram[DramCommand.MAC] == UNITS * (plan.instructions - 8 * plan.blocks + read_back)


def test_a_tile_takes_what_its_rows_and_registers_take():
    (short, _), (long, _) = product(64, 256), product(64, 768)
    tile = (long.clocks - short.clocks) / 4
    # Between both closed forms: registers through an open row, or rows around each write of them.
    assert 2 * HBM.dram.row_period(HBM.interval) + 8 * HBM.interval < tile < gemv_tck(64, 128)
    assert DramCommand.REF not in long.dram


def test_random_programs_leave_what_the_interpreter_leaves():
    recorder, cells = random_runs(7, programs=12, units=UNITS)
    names = list(HostAccess)
    accesses = [HbmAccess(names[access["kind"]], access["row"], access["column"], access["unit"], access["odd"],
                          access["data"].to_bytes(32, "little")) for access in recorder.accesses]
    with SIM.open(stall=0.2, seed=7) as session:
        for (odd, row, column), values in cells.items():
            session.row(row, odd=odd)[column] = values
        run = session.run(accesses)
    assert run.refusals == recorder.refusals
    assert {fault for _, fault in run.refusals} == {CrfFault.BANK}
    assert run.instructions == recorder.instructions
    for found, golden in zip(run.reads, recorder.reads, strict=True):
        # NaN is NaN, whatever its bits.
        np.testing.assert_array_equal(np.frombuffer(found, np.float16), np.frombuffer(golden.to_bytes(32, "little"), np.float16))


def test_sessions_are_apart_and_a_closed_one_runs_nothing():
    first, second = SIM.open(), SIM.open()
    write = [HbmAccess(HostAccess.ACT, row=3), HbmAccess(HostAccess.WR, column=2, unit=5, data=bytes(range(32)))]
    read = HbmAccess(HostAccess.RD, column=2, unit=5)
    assert first.run([*write, read]).reads == [bytes(range(32))]
    assert second.run([write[0], read]).reads == [bytes(32)]
    assert first.run([HbmAccess(HostAccess.PRE), *reserved("enter_hab")]).refusals == []
    assert first.run([]).reads == []
    second.close()
    with pytest.raises(ValueError, match=r"^the session is closed$"):
        second.run([])


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"^PimConfig.streams must be half of the 16 banks, not 4$"):
        CrfSim(dataclasses.replace(HBM, streams=4, lanes=64, xbuf_entries=4))
    with pytest.raises(ValueError, match=r"^stall must be between 0 and 0.95, not 1.0$"):
        SIM.open(stall=1.0)
    with SIM.open() as session, pytest.raises(ValueError, match=r"^row of a command must be between 0 and 16383, not 16384$"):
        session.run([HbmAccess(HostAccess.ACT, row=1 << 14)])
    with SIM.open() as session, pytest.raises(ValueError, match=r"^data of command 1 must be 32 bytes, not 31$"):
        session.run([HbmAccess(HostAccess.ACT), HbmAccess(HostAccess.WR, data=bytes(31))])


def test_a_hang_and_a_broken_rule_are_found_out(monkeypatch):
    read = [HbmAccess(HostAccess.ACT), *[HbmAccess(HostAccess.RD)] * 4]
    with SIM.open(watchdog=3) as session, pytest.raises(
            CrfHang, match=r"^the channel waits for something that does not come, after 5 of 5 commands and \d+ cycles$"):
        session.run(read)
    tables = crf_sim.DramTables
    monkeypatch.setattr(crf_sim, "DramTables", lambda timing, *, interval, **more: tables(timing, interval=2 * interval, **more))
    with SIM.open() as session, pytest.raises(DramViolation, match=r"^CCDMAC: MAC at \d+: 4 clocks after MAC"):
        session.run(read)
