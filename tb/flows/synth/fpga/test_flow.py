# amaranth: UnusedElaboratable=no
"""FPGA flows: a small design through every tool of each target."""

import json

import pytest
from amaranth import *

from flows.emit import to_verilog
from flows.synth.fpga import flow
from flows.synth.fpga.flow import FpgaOptions, implement, without_long_loops
from flows.synth.fpga.parts import DEFAULT_PARTS, part_named
from flows.synth.fpga.resources import DoesNotFit
from flows.synth.tools import ToolStopped, run_tool
from flows.toolchain import ToolError
from hw.bridge.uart_transmitter import UartTransmitter
from hw.memory.bank import MemoryBank
from tb.flows.synth.fpga.designs import Echo, echo

KEYS = {"target", "part", "top", "stage", "luts", "ffs", "dsps", "brams", "available", "fmax_mhz", "critical_path", "freq_mhz",
        "met", "seed", "unrouted", "bitstream", "files", "cells", "seconds", "synthesis_seconds", "route_seconds", "versions",
        "cached"}


FPGAS = tuple(DEFAULT_PARTS)


@pytest.mark.parametrize("target", FPGAS)
def test_a_small_design_becomes_a_bitstream(target, tmp_path):
    part = part_named(target, None)
    result = implement(echo(), "echo", part, FpgaOptions(freq_mhz=20), tmp_path / "out")
    assert result.keys() == KEYS
    assert result["stage"] == "post-route"
    assert 20 < result["ffs"] < 100
    assert 20 < result["luts"] < 400
    assert result["brams"] == 1
    assert result["dsps"] == (target != "ice40")
    assert result["met"]
    assert result["fmax_mhz"] > result["freq_mhz"] == 20
    path = result["critical_path"]
    assert path["ns"] == pytest.approx(1000 / result["fmax_mhz"], rel=0.25)
    assert path["ns"] == pytest.approx(path["logic_ns"] + path["routing_ns"], abs=0.02)
    bitstream = tmp_path / "out" / result["bitstream"].rsplit("/", 1)[-1]
    assert bitstream.stat().st_size > 10_000
    # What the part holds is what the router says it holds.
    report = json.loads((tmp_path / "out" / "report.json").read_text())["utilization"]
    bels = {"ecp5": ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD"),
            "ice40": ("ICESTORM_LC", "ICESTORM_LC", "ICESTORM_DSP", "ICESTORM_RAM"),
            "gowin": ("LUT4", "DFF", "MULT18X18", "BSRAM")}[target]
    assert [report.get(bel, {"available": 0})["available"] for bel in bels] == [part.luts, part.ffs, part.dsps, part.brams]


def test_a_second_time_comes_from_the_cache_and_a_seed_changes_the_placement():
    part, options = part_named("ice40", None), FpgaOptions(freq_mhz=20)
    implement(echo(), "echo", part, options)
    again = implement(echo(), "echo", part, options)
    assert again["cached"]
    other = implement(echo(), "echo", part, FpgaOptions(freq_mhz=20, seed=2))
    assert other["fmax_mhz"] != again["fmax_mhz"]
    assert {name: other[name] for name in ("ffs", "brams", "dsps")} == {name: again[name] for name in ("ffs", "brams", "dsps")}


@pytest.fixture
def stuck_below(monkeypatch, tmp_path):
    """A router that gets stuck with small seeds, and a cache without what it did before."""
    def until(least):
        def run(name, arguments, folder, *, watch=None, **rest):
            seed = int(arguments[arguments.index("--seed") + 1]) if watch else least
            if seed < least:
                (folder / "route.log").write_text("stuck\n")
                raise ToolStopped("round and round")
            return run_tool(name, arguments, folder, watch=watch, **rest)

        monkeypatch.setattr(flow, "run_tool", run)

    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path / "cache"))
    return until


def test_when_the_router_is_stuck_the_next_seed_is_tried(stuck_below, tmp_path):
    stuck_below(3)
    found = implement(echo(), "echo", part_named("ice40", None), FpgaOptions(freq_mhz=20), tmp_path / "out")
    assert found["seed"] == 3
    assert found["unrouted"] == [f"seed {seed} was placed and not routed: round and round" for seed in (1, 2)]
    assert (tmp_path / "out" / "unrouted-2.log").read_text() == "stuck\n"
    assert "stuck" not in (tmp_path / "out" / "route.log").read_text()


def test_what_does_not_fit_once_it_is_packed_is_refused(monkeypatch, tmp_path):
    """Gowin's router counts on after packing, and would look for a place for ever."""
    def run(name, arguments, folder, *, log, watch):
        said = ("Info: Device utilisation:\nInfo: \t                LUT4:   21703/  20736   104%\n"
                "Info: \t                 DFF:   11979/  15552    77%\nInfo: \t                 VCC:       1/      1   100%\n")
        (folder / log).write_text(said)
        assert watch(said) == "21703 of 20736 LUT4 (967 too many)"
        assert watch(said.replace("21703", "20736")) is None
        raise ToolStopped(watch(said))

    monkeypatch.setattr(flow, "run_tool", run)
    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DoesNotFit, match=r"^module echo does not fit gw2ar-lv18qn88c8/i7: packed, it needs "
                       r"21703 of 20736 LUT4 \(967 too many\)$"):
        implement(echo(), "echo", part_named("gowin", None))


def test_not_more_seeds_than_asked_for_are_tried(stuck_below):
    stuck_below(9)
    with pytest.raises(ToolError, match=r"^nextpnr-ice40: seed 5 was placed and not routed: round and round; "
                       r"seed 6 was placed and not routed: round and round; see --seed, --tries$"):
        implement(echo(), "echo", part_named("ice40", None), FpgaOptions(seed=5, tries=2))


@pytest.mark.parametrize(("overused", "says"), [
    ([], None),
    ([90, 3, *[1] * 150], None),
    ([90, 3, *[1] * 151], "wires with two users after 153 rounds of the router: 1"),
    ([90, 3, *[2, 1, 4] * 51], "wires with two users after 155 rounds of the router: 1"),
    (range(400, 0, -1), None),
])
def test_a_router_is_stuck_when_conflicts_do_not_become_fewer(overused, says):
    log = "".join(f"Info:     iter={i} wires=9 overused={n} overuse={n} archfail=NA\n" for i, n in enumerate(overused))
    assert flow._stuck(f"Info: Running router2...\n{log}") == says


def test_synthesis_alone_takes_any_ports():
    verilog = to_verilog(UartTransmitter(5), "transmitter")
    result = implement(verilog, "transmitter", part_named("ecp5", None), FpgaOptions(route=False))
    assert result["stage"] == "post-synthesis"
    assert result["ffs"] == 3 + 4 + 9
    assert result["bitstream"] is result["fmax_mhz"] is result["route_seconds"] is None


def test_without_dsps_multipliers_are_luts():
    part = part_named("ecp5", None)
    without = implement(echo(), "echo", part, FpgaOptions(route=False, dsp=False))
    assert without["dsps"] == 0
    assert without["luts"] > implement(echo(), "echo", part, FpgaOptions(route=False))["luts"]


def test_a_design_with_too_much_memory_is_refused_by_name():
    class Big(Echo):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            m.submodules.big = big = MemoryBank(depth=16384, width=16)
            count = Signal(14)
            m.d.sync += count.eq(count + 1)
            m.d.comb += [big.write_addr.eq(count), big.write_data.eq(Cat(count, self.rx)), big.write_en.eq(self.rx),
                         big.read_en.eq(1), big.read_addr.eq(~count), self.irq.eq(big.read_data.xor())]
            return m

    with pytest.raises(DoesNotFit, match=r"^module big does not fit ice40hx8k-ct256: it needs 6\d of 32 brams \(3\d too many\)$"):
        implement(to_verilog(Big(), "big"), "big", part_named("ice40", None))


def test_long_loops_that_zero_a_memory_are_left_out():
    verilog = to_verilog(MemoryBank(depth=1024, width=8), "bank")
    assert "i < 1024" in verilog
    assert "i < 1024" not in without_long_loops(verilog)
    short = to_verilog(MemoryBank(depth=256, width=8), "bank")
    assert without_long_loops(short) == short
