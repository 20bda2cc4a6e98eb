"""How a design is cut into modules, and what the text looks like to a reader."""

import re

import numpy as np
import pytest
from amaranth import C, Cat, Elaboratable, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.block_sim import BlockSim
from flows.emission.memories import MemoryPlatform
from flows.emission.pieces import cut
from flows.emission.verilog import ascii_text
from flows.emit import EmitOptions, to_verilog
from hw.memory.bank import MemoryBank
from hw.share import shared


class Count(wiring.Component):
    """Counts – modulo 2**width."""

    def __init__(self, *, width: int):
        self.width = width
        self.spare = Signal(width)          # no port: it crosses the border all the same
        super().__init__({"o": Out(width), "end": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.o + 1)
        m.d.comb += [self.spare.eq(~self.o), self.end.eq(self.o == 3)]
        return m


class Pair(wiring.Component):
    """Two equal counters, one of them behind a reset of its own, and a wider one."""

    def __init__(self) -> None:
        super().__init__({"clear": In(1), "a": Out(4), "b": Out(4), "c": Out(6), "spare": Out(4), "end": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.first = first = Count(width=4)
        m.submodules.second = second = Count(width=4)
        held = Count(width=6)
        m.submodules.held = ResetInserter(self.clear)(held)
        m.d.comb += [self.a.eq(first.o), self.b.eq(second.o), self.c.eq(held.o), self.spare.eq(first.spare),
                     self.end.eq(second.end)]
        return m


class Half(wiring.Component):
    """Drives one half of a signal that its parent drives the other half of; has a port without bits."""

    def __init__(self) -> None:
        self.word = Signal(4)
        super().__init__({"nothing": In(0), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.word[:2].eq(self.word[:2] + 1)
        m.d.comb += self.o.eq(self.word[0])
        return m


class Outer(Elaboratable):
    """Holds one of them, and a shared one."""

    def __init__(self) -> None:
        self.inner, self.other = Half(), Half()

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        m.submodules.other = shared(platform, "half", self.other)
        return m


class Halves(wiring.Component):
    """A word driven from two places, and a shared block with a port without bits."""

    def __init__(self) -> None:
        super().__init__({"step": In(2), "word": Out(4), "o": Out(1), "also": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.low = low = Outer()
        m.d.sync += low.inner.word[2:].eq(low.inner.word[2:] - self.step)
        m.d.comb += [self.word.eq(low.inner.word), self.o.eq(low.inner.o), self.also.eq(low.other.o)]
        return m


class Differ(wiring.Component):
    """Compares two words of 2¹⁶ bits, and passes one of them on."""

    def __init__(self) -> None:
        super().__init__({"a": In(65_536), "b": In(65_536), "o": Out(1), "kept": Out(65_536)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.kept.eq(self.a ^ self.b)
        m.d.comb += self.o.eq((self.a ^ self.b).any())
        return m


class Wide(wiring.Component):
    """Compares a counter with an input, at the far end of wide words."""

    def __init__(self) -> None:
        super().__init__({"i": In(4), "o": Out(1), "late": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.count = count = Count(width=4)
        m.submodules.differ = differ = Differ()
        m.d.comb += [differ.a.eq(Cat(C(0, 65_532), count.o)), differ.b.eq(Cat(C(0, 65_532), self.i)), self.o.eq(differ.o),
                     self.late.eq(differ.kept[-4:])]
        return m


def modules(verilog: str) -> dict[str, str]:
    """Return module name → its text, the comment before it included."""
    found = re.findall(r"((?:^//[^\n]*\n)*^module (\w+)\(\n.*?^endmodule)", verilog, re.MULTILINE | re.DOTALL)
    return {name: text for text, name in found}


def test_equal_blocks_are_one_module_and_others_are_told_apart_by_place():
    design = cut(Pair(), "pair", platform=MemoryPlatform())
    children = {child.name: child.module for child in design.top.children}
    assert children["held"] == "pair_count_held"
    assert len(set(children.values())) == len(design.pieces) - 1
    assert {child.name for child in design.top.children} == {"first", "second", "held"}


def test_cut_modules_do_what_the_block_does():
    """A reset from outside and a signal that is no port both reach across the border of a module."""
    clear = np.array([0, 0, 0, 1, 0, 0, 0, 0])
    got = BlockSim(Pair(), "pair").run({"clear": clear})
    assert got["a"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert got["b"].tolist() == got["a"].tolist()
    assert got["c"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert got["spare"].tolist() == [15, 14, 13, 12, 11, 10, 9, 8]
    assert got["end"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_a_signal_driven_from_two_places_stays_whole():
    got = BlockSim(Halves(), "halves").run({"step": [1, 1, 1, 1, 1, 2]})
    assert got["word"].tolist() == [0, 13, 10, 7, 0, 13]
    assert got["o"].tolist() == got["also"].tolist() == [0, 1, 0, 1, 0, 1]
    text = to_verilog(Halves(), "halves")
    assert "nothing" not in text
    assert sorted(re.findall(r"^module (\w+)", text, re.MULTILINE)) == ["half", "halves", "halves_low", "halves_low_inner"]


def test_a_block_may_have_more_bits_than_the_netlist_of_amaranth_numbers():
    design = cut(Wide(), "wide", platform=MemoryPlatform())
    assert [piece.kind for piece in design.pieces.values()] == ["Wide", "Count", "Differ"]
    got = BlockSim(Wide(), "wide").run({"i": [5] * 8})
    assert got["o"].tolist() == [1, 1, 1, 1, 1, 0, 1, 1]
    assert got["late"].tolist() == [0, 5, 4, 7, 6, 1, 0, 3]


def test_text_is_plain_to_read():
    text = to_verilog(Pair(), "pair")
    assert text.isascii()
    assert "\\" not in text                                  # no escaped identifier
    found = modules(text)
    assert next(iter(found)) == "pair"
    assert found["pair"].startswith("// Pair: Two equal counters, one of them behind a reset of its own, and a wider one.\n")
    assert found["pair_count_held"].startswith("// Count: Counts - modulo 2**width.\n// Parameters: width = 6\n")
    ports = re.findall(r"^  (?:input|output) +(?:wire|reg) +(?:\[\S+ )?(\w+)", found["pair"], re.MULTILINE)
    assert ports == ["clk", "rst", "clear", "a", "b", "c", "spare", "end_"]      # signature's order; `end` is Verilog's
    assert "  output wire end_" in found["pair_count_held"]
    assert all(name.islower() for name in found)


def test_characters_outside_ascii_have_replacements():
    assert ascii_text("R×C → acc ≥ 0, Σ a·b – naïve") == "RxC -> acc >= 0, sum a*b - naive".replace("sum ", "sum  ", 1)


@pytest.mark.parametrize(("reset", "edge"), [("sync", "always @(posedge clk)"), ("async", "always @(posedge clk, posedge rst)")])
def test_reset_style(reset, edge):
    assert set(re.findall(r"always @\(.*\)", to_verilog(Pair(), "pair", EmitOptions(reset=reset)))) == {edge}


@pytest.mark.parametrize(("fields", "text"), [
    ({"reset": "none"}, r"EmitOptions\.reset must be one of sync, async, not 'none'"),
    ({"memories": "flops"}, r"EmitOptions\.memories must be one of inferred, macro, not 'flops'"),
    ({"macro_bits": 0}, r"EmitOptions\.macro_bits must be a positive integer, not 0"),
])
def test_impossible_options_are_refused(fields, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        EmitOptions(**fields)




def run_bank(*, enables: int, transparent: bool) -> list[int]:
    """Write and read a bank at random, with many reads of the word that is written; return what it read."""
    random, size = np.random.default_rng(3), 1000
    write_addr, write_en = random.integers(0, 16, size), random.integers(0, 1 << enables, size)
    read_addr = np.where(random.integers(0, 2, size), write_addr, random.integers(0, 16, size))
    read_en = random.integers(0, 2, size)
    write_addr[:16], write_en[:16], read_en[:17] = np.arange(16), (1 << enables) - 1, 0        # a macro starts without contents
    read_en[16] = 1
    assert ((read_en == 1) & (write_addr == read_addr) & (write_en != 0)).sum() > 100
    bank = MemoryBank(depth=16, width=16, enables=enables, transparent=transparent)
    got = BlockSim(bank, "bank").run({"read_addr": read_addr, "read_en": read_en, "write_addr": write_addr, "write_en": write_en,
                                      "write_data": random.integers(0, 1 << 16, size)})
    return got["read_data"][17:].tolist()


@pytest.mark.parametrize(("enables", "transparent"), [(1, True), (2, True), (2, False)])
def test_a_macro_does_what_the_inferred_memory_does(enables, transparent, monkeypatch):
    inferred = run_bank(enables=enables, transparent=transparent)
    texts = []

    def with_macros(component, name):
        texts.append(to_verilog(component, name, EmitOptions(memories="macro", macro_bits=256)))
        return texts[-1]

    monkeypatch.setattr("flows.block_sim._verilog", with_macros)
    assert run_bank(enables=enables, transparent=transparent) == inferred
    assert f"module heddle_ram_16x16{'_e2' if enables == 2 else ''}{'_new' if transparent else ''} (" in texts[0]
    assert len(set(inferred)) > 100


def test_a_memory_below_the_size_stays_inferred():
    text = to_verilog(MemoryBank(depth=16, width=16), "bank", EmitOptions(memories="macro", macro_bits=257))
    assert "heddle_ram" not in text
    assert "reg [15:0] array [15:0];" in text
    assert "array_read <= array[read_addr];" in text
    assert not re.search(r"\b_\d+_\b", text)
