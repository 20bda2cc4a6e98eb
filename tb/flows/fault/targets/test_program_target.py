"""Programs as targets: the accelerator among its memory, host and monitor, against the golden device and with faults."""

import dataclasses
import functools
import re

import numpy as np
import pytest
from amaranth.hdl import Shape

from flows.fault.campaign.job import open_job
from flows.fault.campaign.plan import Plan
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.engines.verilator_engine import VerilatorEngine
from flows.fault.netlist.sites import sites_of
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.target import TargetError
from flows.fault.targets.workloads import DRAM, program_target, workload_target
from hw.bridge.fault_bench import bus_channels
from hw.presets import preset_named
from sw.golden.device import GoldenDevice
from sw.kernels.case import random_case
from sw.kernels.spec import GemmSpec
from sw.program import REGION_ALIGNMENT, ProgramError, Region
from sw.runtime import compile_case, gemm_args, place_operands, run_case
from sw.workloads import gemm_workload
from tb.flows.fault.faults import assert_same, random_faults

PRESET = preset_named("systolic-4x4")
DRAM_BYTES = 32768


@functools.cache
def gemm():
    """Return the program of a GEMM, what the DRAM holds before it, its arguments, and the DRAM after it on the golden device."""
    case = random_case("gemm", GemmSpec(m=6, n=8, k=12, bias=True, per_channel=True), PRESET.weight, 3)
    program = compile_case(PRESET, case)
    session = GoldenDevice(PRESET).open(DRAM_BYTES)
    place_operands(session, program, case.spec, a=case.a, b=case.b, bias=case.bias, scale=case.scale)
    before = session.memory.copy()
    run_case(session, program, case)
    return program, before, gemm_args(program), session.memory


@functools.cache
def target():
    program, before, args, _ = gemm()
    return program_target(PRESET, program, before, args, dram_bytes=DRAM_BYTES)


@functools.cache
def engine():
    return VerilatorEngine(target(), sites_of(target()))


def test_the_result_is_that_of_the_golden_device():
    assert np.array_equal(engine().golden_memory(DRAM).astype("<u4").view(np.uint8).reshape(-1), gemm()[3])


def test_no_site_lies_outside_of_the_accelerator():
    sites = sites_of(target(), gates=True)          # among them what the bench itself has between its instances
    assert {sites.path(int(site)).split(".")[0] for site in sites.of_kind("ff", "memory", "gate")} == {"dut"}
    assert {sites.path(int(site)) for site in sites.of_kind("bus")} == set(target().taps)


@pytest.mark.parametrize("bus_width", [64, 128, 512])
def test_all_of_the_dram_but_scratch_regions_is_compared(bus_width):
    config = dataclasses.replace(PRESET, bus_width=bus_width)
    program, before, args, _ = gemm()
    used = max(region.addr + region.size for region in program.regions)
    at = -(-used // REGION_ALIGNMENT) * REGION_ALIGNMENT
    scratch = Region(name="scratch", addr=at, size=REGION_ALIGNMENT + 1, role="scratch")
    behind = Region(name="behind", addr=at + 2 * REGION_ALIGNMENT, size=3, role="output")
    program = dataclasses.replace(program, regions=(*program.regions, scratch, behind), config_digest=config.digest())
    ranges = program_target(config, program, before, args, dram_bytes=DRAM_BYTES).observed_memory[DRAM]
    beat = bus_width // 8
    compared = {byte // beat for first, end in ranges for byte in range(first * beat, end * beat, beat)}
    missing = set(range(DRAM_BYTES // beat)) - compared
    assert missing == set(range(at // beat, -(-(at + REGION_ALIGNMENT + 1) // beat)))
    for region in (*program.regions[:-2], behind):
        assert not missing & {byte // beat for byte in range(region.addr, region.addr + region.size)}


def test_snapshots_change_nothing():
    found = engine()
    faults = np.concatenate([
        random_faults(found.sites, found.golden_cycles, 300, seed=1),
        random_faults(found.sites, found.golden_cycles, 60, seed=2, places=("memory",), kinds=(Kind.SEU, Kind.STUCK1)),
        random_faults(found.sites, found.golden_cycles, 60, seed=3, places=("bus",), kinds=(Kind.BUS,))])
    outcomes = found.run(faults)
    assert_same(outcomes, found.run_from_reset(faults), faults, found.sites)
    assert {Outcome.MASKED, Outcome.SDC, Outcome.DUE} <= set(outcomes["outcome"])


def test_lanes_and_verilator_agree():
    one, other = engine(), LanesEngine(target(), engine().sites)
    assert one.golden_cycles == other.golden_cycles
    faults = np.concatenate([
        random_faults(one.sites, one.golden_cycles, 1200, seed=4),
        random_faults(one.sites, one.golden_cycles, 200, seed=5, places=("memory",)),
        random_faults(one.sites, one.golden_cycles, 200, seed=6, places=("bus",), kinds=(Kind.BUS,))])
    outcomes = one.run(faults)
    assert_same(outcomes, other.run(faults), faults, one.sites)
    assert {Outcome.MASKED, Outcome.DETECTED_BENIGN, Outcome.DUE, Outcome.SDC, Outcome.PROTOCOL, Outcome.HANG} <= set(
        outcomes["outcome"])


def test_what_the_access_trace_proves_to_be_masked_is_masked():
    job = open_job(target(), Plan(seed=5), engine="lanes", cells=("memory",))
    faults = job.sampler.faults(job.sampler.indices(0, 0, 20_000))
    alive = job.lifetimes.alive(job.words.rows_of(faults["site"]), faults["cycle"].astype(np.int64))
    assert 0.5 < (~alive).mean() < 1
    assert not job.engine.run(faults[~alive])["outcome"].any()
    assert job.engine.run(faults[alive])["outcome"].any()


def outcome_of(path, bit, cycle, *, address=0, kind=Kind.SEU, duration=1):
    found = engine()
    site, mask = found.sites.site_of(path, bit, address)
    faults = random_faults(found.sites, 1, 1, seed=0)
    faults[0] = site, mask, cycle, duration, kind
    return found.run(faults)[0]


def bit_of(channel, member):
    low = 0
    for name, found in bus_channels(PRESET)[channel].items():
        if name == member:
            return low
        low += Shape.cast(found.shape).width
    raise KeyError(member)


def test_a_memory_that_never_takes_an_address_ends_by_the_watchdog_as_detected():
    outcome = outcome_of("m_axi_ar", bit_of("m_axi_ar", "arready"), 0, kind=Kind.BUS, duration=1 << 30)
    assert outcome["outcome"] == Outcome.DUE
    assert outcome["first_flag"] > engine().golden_cycles


def test_a_host_that_is_never_interrupted_hangs():
    outcome = outcome_of("dut.controller.csr.irq_enable", 0, engine().golden_cycles - 60, kind=Kind.STUCK0, duration=0)
    assert outcome["outcome"] == Outcome.HANG
    assert outcome["end"] == target().deadline(engine().golden_cycles)


def test_data_without_a_burst_break_a_rule_of_the_bus():
    outcome = outcome_of("m_axi_aw", bit_of("m_axi_aw", "awvalid"), 60, kind=Kind.BUS, duration=1 << 30)
    assert outcome["outcome"] == Outcome.PROTOCOL


def test_a_flip_in_an_operand_in_the_scratchpad_is_silent():
    found = engine()
    words = found.sites.select("dut.scratchpad.bank_*.array")
    words = words[found.sites.table["address"][words] < 8]
    faults = np.zeros((len(words), 10), FAULT)
    faults["site"], faults["mask"], faults["cycle"] = words[:, None], 1 << 6, np.arange(60, 260, 20)
    faults = faults.reshape(-1)
    outcomes = found.run(faults)["outcome"]
    assert 0 < (outcomes == Outcome.SDC).sum() < len(faults) // 2
    assert set(outcomes) <= {Outcome.SDC, Outcome.MASKED}


def test_a_program_that_fails_without_faults_is_refused():
    program, before, args, _ = gemm()
    elsewhere = program_target(PRESET, program, before, {**args, "a": 1 << 20}, dram_bytes=DRAM_BYTES)
    with pytest.raises(TargetError, match=r"^workload 'gemm' fails without faults, after \d+ cycles: it flags an error$"):
        VerilatorEngine(elsewhere, engine().sites)


def test_a_program_that_is_none_is_refused_before_anything_is_built():
    program, before, args, _ = gemm()
    spoilt = program.code.copy()
    spoilt[2] = 0xFF
    with pytest.raises(TargetError, match=r"^workload 'gemm' fails without faults: ILLEGAL_INSTRUCTION at instruction 2$"):
        program_target(PRESET, dataclasses.replace(program, code=spoilt), before, args)


def test_memories_that_do_not_fit_are_refused():
    program, before, args, _ = gemm()
    for size in (8192, 50_000):
        with pytest.raises(TargetError, match=rf"^dram_bytes must be a power of two of at least {DRAM_BYTES} bytes, not {size}$"):
            program_target(PRESET, program, before, args, dram_bytes=size)
    with pytest.raises(ProgramError, match=r"^program 'gemm' must be compiled for config \w+, not \w+$"):
        program_target(preset_named("systolic-8x8"), program, before, args)


def test_a_gemm_of_a_workload_is_chosen_by_index_or_name():
    found = workload_target(PRESET, gemm_workload(8, 8, 8), gemm="gemm", seed=4)
    assert found.digest() == workload_target(PRESET, gemm_workload(8, 8, 8), seed=4).digest()
    assert found.digest() != workload_target(PRESET, gemm_workload(8, 8, 8), seed=5).digest()
    text = "gemm of workload 'gemm-8x8x8' must be an index below 1 or one of gemm, not 3"
    with pytest.raises(TargetError, match=f"^{re.escape(text)}$"):
        workload_target(PRESET, gemm_workload(8, 8, 8), gemm=3)
