"""Netlists: what is in them, and what cannot be simulated."""

import re

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.emit import to_rtlil
from flows.fault.engines.lanes.segments import segment
from flows.fault.netlist.flat_netlist import NetlistError, read_netlist
from flows.fault.netlist.lowering import design_of
from flows.fault.targets.workloads import array_target
from tb.flows.fault.everything import Everything


class Block(wiring.Component):
    """Two bytes in, one out, made by a function of module, block and what the test wants."""

    def __init__(self, make):
        self.make = make
        super().__init__({"a": In(8), "b": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        self.make(m, self)
        return m


def rtlil(make):
    return to_rtlil(Block(make), "block")


def unread(m, block):
    kept = Signal(8, init=5)
    left = Signal(6)
    m.d.sync += [kept.eq(block.a), left.eq(block.b)]
    m.d.comb += block.o.eq(kept ^ 1)


def test_registers_have_their_names_places_and_initial_values_and_unread_ones_are_counted():
    design = design_of(rtlil(unread), "block")
    assert [(register.path, register.width) for register in design.registers] == [("kept", 8)]
    assert [(state.low, state.init) for state in design.states] == [(0, 5)]
    assert design.unread_bits == 6


def test_registers_below_instances_have_paths():
    design = design_of(to_rtlil(Everything(), "everything"), "everything")
    paths = {register.path: register.width for register in design.registers}
    assert paths == {"a": 40, "b": 40, "count": 6, "child.odd": 6, "memory.read_1": 72, "memory.read_2": 72}


def test_memories_have_contents_and_ports():
    memory, = design_of(to_rtlil(Everything(), "everything"), "everything").memories
    assert (memory.width, memory.depth, memory.chunks, len(memory.reads), len(memory.writes)) == (72, 5, 3, 3, 1)
    assert [[int(word) << 32 * i for i, word in enumerate(row)] for row in memory.init] == [
        [(value := 3 * i << 34 | i) & 0xFFFFFFFF, value & 0xFFFFFFFF << 32, value & 0xFFFFFFFF << 64] for i in range(5)]
    assert sorted(read.enable is None for read in memory.reads) == [False, False, True]


def test_packed_lanes_are_words_of_their_own():
    target = array_target(8, 8)
    design = design_of(target.rtlil, target.top)
    widths = {(design.registers[state.register].path, state.low): design.nodes[state.node].width for state in design.states}
    assert {width for (path, _), width in widths.items() if "skew_activation" in path} == {8}
    assert {width for (path, _), width in widths.items() if "deskew_psum" in path} == {20}


def test_equal_processing_elements_share_functions_and_every_run_finds_the_same():
    target = array_target(8, 8)
    found = segment(design_of(target.rtlil, target.top))
    assert len(found.functions) < len(found.segments) / 8
    outputs = [node for piece in found.segments for node in piece.outputs]
    assert len(outputs) == len(set(outputs))
    made = set()
    for piece in found.segments:        # nothing is needed before it is made
        assert not set(piece.inputs) & set(outputs) - made
        made |= set(piece.outputs)


def divide(m, block):
    m.d.comb += block.o.eq(block.a // block.b)


def other_clock(m, block):
    m.domains.slow = ClockDomain()
    m.d.comb += ClockSignal("slow").eq(block.a[0])
    m.d.slow += block.o.eq(block.b)


def falling(m, block):
    m.domains.down = ClockDomain(clk_edge="neg")
    m.d.comb += ClockSignal("down").eq(ClockSignal())
    m.d.down += block.o.eq(block.b)


def asynchronous(m, block):
    m.domains.now = ClockDomain(async_reset=True)
    m.d.comb += [ClockSignal("now").eq(ClockSignal()), ResetSignal("now").eq(block.a[0])]
    m.d.now += block.o.eq(block.b)


@pytest.mark.parametrize(("make", "text"), [
    (divide, r".* must be a cell that the fault simulator knows, not \$divfloor"),
    (other_clock, r".* must be clocked by the rising edge of `clk`: the lanes have one clock"),
    (falling, r".* must be clocked by the rising edge of `clk`: the lanes have one clock"),
    (asynchronous, r".* must be a cell that the fault simulator knows, not \$adff"),
])
def test_what_cannot_be_simulated_is_refused(make, text):
    with pytest.raises(NetlistError, match=f"^{text}$"):
        design_of(rtlil(make), "block")


LOOP = r"""
module \block
  wire input 1 \a
  wire output 2 \o
  cell $xor $1
    parameter \A_SIGNED 0
    parameter \B_SIGNED 0
    parameter \A_WIDTH 1
    parameter \B_WIDTH 1
    parameter \Y_WIDTH 1
    connect \A \a
    connect \B \o
    connect \Y \o
  end
end
"""


def test_a_loop_of_logic_is_refused():
    with pytest.raises(NetlistError, match=r"^\$1 must not depend on itself within a cycle: a loop of logic$"):
        design_of(LOOP, "block")


SHIFT = r"""
module \block
  wire width 4 input 1 \a
  wire width 4 output 2 \o
  cell $shift $1
    parameter \A_SIGNED 0
    parameter \B_SIGNED 1
    parameter \A_WIDTH 4
    parameter \B_WIDTH 4
    parameter \Y_WIDTH 4
    connect \A \a
    connect \B \a
    connect \Y \o
  end
end
"""
MEMORY = r"""
module \block
  wire input 1 \clk
  wire width 2 input 2 \a
  wire width 2 output 3 \o
  cell $mem_v2 \words
    parameter \MEMID "\\words"
    parameter \SIZE 4
    parameter \OFFSET {offset}
    parameter \ABITS 2
    parameter \WIDTH 2
    parameter \INIT 8'x
    parameter \RD_PORTS 1
    parameter \RD_CLK_ENABLE 1'1
    parameter \RD_CLK_POLARITY 1'1
    parameter \RD_TRANSPARENCY_MASK 1'0
    parameter \RD_COLLISION_X_MASK 1'0
    parameter \RD_WIDE_CONTINUATION 1'0
    parameter \RD_CE_OVER_SRST 1'0
    parameter \RD_ARST_VALUE 2'x
    parameter \RD_SRST_VALUE 2'x
    parameter \RD_INIT_VALUE 2'x
    parameter \WR_PORTS 1
    parameter \WR_CLK_ENABLE 1'{clocked}
    parameter \WR_CLK_POLARITY 1'1
    parameter \WR_PRIORITY_MASK 1'0
    parameter \WR_WIDE_CONTINUATION 1'0
    connect \RD_CLK \clk
    connect \RD_EN 1'1
    connect \RD_ARST 1'0
    connect \RD_SRST {reset}
    connect \RD_ADDR \a
    connect \RD_DATA \o
    connect \WR_CLK \clk
    connect \WR_EN 2'11
    connect \WR_ADDR \a
    connect \WR_DATA \a
  end
end
"""


def test_a_shift_in_either_direction_is_refused():
    text = "$1 must shift by an unsigned amount: $shift in either direction is not simulated"
    with pytest.raises(NetlistError, match=f"^{re.escape(text)}$"):
        design_of(SHIFT, "block")


@pytest.mark.parametrize(("changes", "text"), [
    ({"offset": 1}, "words must begin at address 0 and have addresses of at most 32 bits"),
    ({"clocked": 0}, "words must be written at clock edges: latches are not simulated"),
    ({"reset": r"\a [0]"}, "words must not reset what it has read: RD_SRST is not simulated"),
])
def test_memories_of_other_kinds_are_refused(changes, text):
    plain = {"offset": 0, "clocked": 1, "reset": "1'0"}
    assert design_of(MEMORY.format(**plain), "block").memories[0].depth == 4
    with pytest.raises(NetlistError, match=f"^{re.escape(text)}$"):
        design_of(MEMORY.format(**{**plain, **changes}), "block")


def test_a_top_that_is_not_there_and_a_module_without_contents_are_refused():
    with pytest.raises(NetlistError, match=r"^top must be a module of the RTLIL, one of block, not 'nothing'$"):
        read_netlist(rtlil(unread), "nothing")

    def black_box(m, block):
        m.submodules += Instance("vendor", i_a=block.a, o_o=block.o)

    text = "module 'vendor' must be in the RTLIL of 'block': a black box has no logic to simulate"
    with pytest.raises(NetlistError, match=f"^{re.escape(text)}$"):
        read_netlist(rtlil(black_box), "block")


def test_bits_that_nothing_drives_are_zero():
    def partly(m, block):
        word = Signal(8)
        m.d.sync += word[:4].eq(block.a)
        m.d.comb += block.o.eq(word)

    design = design_of(rtlil(partly), "block")
    assert sum(register.width for register in design.registers) in (4, 8)
    assert np.all([state.init == 0 for state in design.states])
