"""Memories of a design: macros or flip-flops, and the coefficients of their areas."""

import pytest

from flows.synth.asic import synthesize
from flows.synth.memories import keep_macros, write_enables
from flows.synth.options import AsicOptions
from flows.synth.technology import technology
from hw.memory.bank import MemoryBank
from tb.flows.synth.designs import rtlil_memory


def test_large_clocked_memories_stay_macros_and_tables_are_logic():
    text = "\n".join(["module \\a.b", rtlil_memory("big", 64, 64), rtlil_memory("small", 8, 8), rtlil_memory("direct", 64, 64, 0),
                      rtlil_memory("table", 64, 64, 0, 0), "end", ""])
    changed, memories = keep_macros(text, 4096)
    assert [(memory.module, memory.name, memory.bits, memory.macro) for memory in memories] == [
        ("a.b", "big", 4096, True), ("a.b", "small", 64, False), ("a.b", "direct", 4096, False)]
    assert "  cell \\memory_64x64_1r1w \\big\n    connect \\RD_CLK \\clk\n  end\n" in changed
    assert changed.count("$mem_v2") == 3
    assert changed.splitlines()[-1] == "end"


def test_bits_that_are_written_together_have_one_enable():
    def cell(kind, enables):
        return {"type": kind, "connections": {"WR_EN": enables}}

    design = {"modules": {"a": {"cells": {"m": cell("one", [5] * 8), "n": cell("two", [5] * 4 + [6] * 4), "g": cell("INV", [])}},
                          "b": {"cells": {"m": cell("one", [2, 2, 2, 2, 3, 3, "0", "0"])}}}}
    assert write_enables(design, {"one", "two", "three"}) == {"one": 3, "two": 2}


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
