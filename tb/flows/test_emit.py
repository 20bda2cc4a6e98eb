"""Emission: the same bytes every time, each shared block once, files written whole."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from flows.emit import ports_of, to_verilog
from flows.headers import isa_header, regs_header
from hw.isa import DESTINATIONS, OPCODES
from hw.regs import REGISTERS
from hw.share import shared
from tb.flows.adder import VectorAdder

ROOT = Path(__file__).resolve().parents[2]


class Inverter(wiring.Component):
    """No clock, no reset: a block that is shared must still fit its instance."""

    def __init__(self) -> None:
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(~self.i)
        return m


class Twice(Inverter):
    """A shared block that shares another."""

    def elaborate(self, platform):
        m = Module()
        first, second = Inverter(), Inverter()
        m.submodules.first = shared(platform, "inverter", first)
        m.submodules.second = shared(platform, "inverter", second)
        m.d.comb += [first.i.eq(self.i), second.i.eq(first.o), self.o.eq(second.o)]
        return m


class Top(Inverter):
    """A module that shares `Twice`."""

    def elaborate(self, platform):
        m = Module()
        inner = Twice()
        m.submodules.inner = shared(platform, "twice", inner)
        m.d.comb += [inner.i.eq(self.i), self.o.eq(inner.o)]
        return m


def modules(verilog: str) -> list[str]:
    return [name.removeprefix("\\") for name in re.findall(r"^module (\\?[^\s(]+)", verilog, re.MULTILINE)]


def test_shared_blocks_appear_once():
    assert modules(to_verilog(VectorAdder(64), "heddle"))[:2] == ["heddle", "reader_64"]
    nested = to_verilog(Top(), "heddle")
    assert modules(nested) == ["heddle", "twice", "inverter"]
    assert len(re.findall(r"^  inverter \w+ \(", nested, re.MULTILINE)) == 2  # the instances
    assert "input  wire clk" in nested.split("module inverter")[1]


class Memories(Inverter):
    """One memory that starts cleared, one that does not."""

    def elaborate(self, platform):
        m = Module()
        for name, init in (("cleared", []), ("filled", [0] * 15 + [1])):
            m.submodules[name] = memory = Memory(shape=32, depth=16, init=init)
            memory.write_port()
            port = memory.read_port(domain="comb")
            m.d.comb += port.addr.eq(self.i)
            m.d.comb += self.o[name == "filled"].eq(port.data[0])
        return m


def test_cleared_memories_are_cleared_in_a_loop():
    verilog = to_verilog(Memories(), "heddle")
    assert """  initial begin : clear_cleared
    integer i;
    for (i = 0; i < 16; i = i + 1)
      cleared[i] = 32'd0;
  end
""" in verilog
    assert "cleared[0] =" not in verilog
    assert "filled[15] = 32'd1;" in verilog
    assert "filled[0] = 32'd0;" in verilog


def test_bytes_depend_neither_on_the_hash_seed_nor_on_places(tmp_path):
    """Two processes, two seeds, two working directories, and two copies of the sources."""
    script = """from flows.emit import TOP, to_verilog; from hw.config import AcceleratorConfig; from hw.top import Accelerator
print(to_verilog(Accelerator(AcceleratorConfig()), TOP))"""
    for package in ("hw", "flows"):
        shutil.copytree(ROOT / package, tmp_path / "copy" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "elsewhere").mkdir()
    running = [subprocess.Popen([sys.executable, "-c", script], cwd=cwd, stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(sources)})
               for seed, cwd, sources in (("0", ROOT, ROOT), ("1", tmp_path / "elsewhere", tmp_path / "copy"))]
    texts = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    (text,) = texts
    assert len(text) > 100_000
    assert str(ROOT) not in text
    assert str(tmp_path) not in text
    assert "(* src" not in text
    assert "generator" not in text


def test_ports_state_direction_and_width():
    adder = VectorAdder(128)
    verilog = to_verilog(adder, "heddle")
    ports = {port["name"]: (port["direction"], port["width"]) for port in ports_of(adder)}
    for name, (direction, width) in ports.items():
        slice_ = f"[{width - 1}:0] " if width > 1 else ""
        assert re.search(rf"^  {direction}put +(wire|reg) +{re.escape(slice_)}{name}( = \S+)?,?$", verilog, re.MULTILINE)
    assert ports["clk"] == ("in", 1)
    assert ports["m_axi_araddr"] == ("out", 32)
    assert ports["m_axi_rdata"] == ("in", 128)
    assert ports["s_axil_rdata"] == ("out", 32)
    assert ports["irq"] == ("out", 1)


@pytest.mark.parametrize(("text", "guard"), [(regs_header(), "HEDDLE_REGS_H"), (isa_header(), "HEDDLE_ISA_H")])
def test_headers_are_c_and_name_everything(text, guard, tmp_path):
    names = re.findall(r"^#define (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    for register in REGISTERS if guard == "HEDDLE_REGS_H" else ():
        assert f"HEDDLE_{register.name}" in names
    for op in OPCODES if guard == "HEDDLE_ISA_H" else ():
        assert f"HEDDLE_OP_{op.name}" in names
    for name in DESTINATIONS if guard == "HEDDLE_ISA_H" else ():
        assert f"HEDDLE_DST_{name.upper().replace('.', '_')}" in names
    source = tmp_path / "header.c"
    source.write_text(text + "unsigned sum = 0u" + "".join(f" + {name}" for name in names if name != guard) + ";\n")
    subprocess.run(["gcc", "-std=c99", "-pedantic", "-Wall", "-Werror", "-fsyntax-only", str(source)], check=True)
