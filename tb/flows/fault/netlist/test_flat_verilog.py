"""The flat Verilog: a variable for each cell that holds state, whatever the design calls it; and a memory under all engines."""

import functools
import re

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Module, Mux, ResetSignal, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from flows.emit import to_rtlil
from flows.fault.engines.cocotb_engine import CocotbEngine
from flows.fault.engines.lanes.lanes_engine import LanesEngine
from flows.fault.engines.verilator_engine import VerilatorEngine
from flows.fault.netlist.flat_verilog import flat_verilog
from flows.fault.netlist.sites import sites_of
from flows.fault.records import FAULT, Kind, Outcome
from flows.fault.targets.target import Target, TargetError
from flows.toolchain import ToolError
from tb.flows.fault.faults import GATE_KINDS, assert_same, random_faults

DEPTH, WIDTH, CYCLES = 8, 40, 30


class Store(wiring.Component):
    """A memory that is read and written in turn; a table; a register under two names; one that begins at a value."""

    def __init__(self):
        super().__init__({"data": In(WIDTH), "o": Out(WIDTH), "alias": Out(4), "square": Out(8), "kept": Out(WIDTH)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=WIDTH, depth=DEPTH, init=[])
        m.submodules.table = table = memory.Memory(shape=8, depth=16, init=[i * i for i in range(15)])
        write = words.write_port()
        read = words.read_port(transparent_for=(write,))
        late = words.read_port()
        square = table.read_port(domain="comb")
        count = Signal(4, init=11)
        m.d.sync += count.eq(count + 3)
        m.d.comb += [
            write.addr.eq(count), write.data.eq(self.data), write.en.eq(count[0]),
            read.addr.eq(count ^ (count >> 2)), read.en.eq(1),
            late.addr.eq(count + 1), late.en.eq(count[1]), self.o.eq(Mux(count[2], read.data, late.data)),
            square.addr.eq(count), self.square.eq(square.data), self.alias.eq(count),
        ]
        with m.Switch(count):
            with m.Case(5):
                m.d.sync += self.kept.eq(read.data)
            with m.Case(9):
                m.d.sync += self.kept.eq(late.data)
            with m.Case(12):
                m.d.sync += self.kept.eq(~self.kept)
        return m


@functools.cache
def rtlil():
    return to_rtlil(Store(), "store")


def target(**changes):
    rng = np.random.default_rng(0)
    words = np.stack([rng.integers(0, 1 << 32, DEPTH), rng.integers(0, 1 << 8, DEPTH)], 1).astype(np.uint32)
    data = np.stack([rng.integers(0, 1 << 32, CYCLES), rng.integers(0, 1 << 8, CYCLES)], 1).astype(np.uint32)
    return Target(**{**{"name": "store", "rtlil": rtlil(), "top": "store", "cycles": CYCLES, "stimuli": {"data": data},
                        "contents": {"words": words}, "observed": ("o", "square", "kept"),
                        "observed_memory": {"words": [(0, 3), (5, 8)]}}, **changes})


def test_every_cell_has_a_variable_of_its_own():
    flat = flat_verilog(rtlil(), "store")
    assert sorted(width for _, width in flat.flip_flops.values()) == [4, WIDTH]
    assert sorted(flat.initial.values()) == [0, 11]
    assert {name: (found.depth, found.width, len(found.reads)) for name, found in flat.memories.items()} == {
        "words": (DEPTH, WIDTH, 2), "table": (16, 8, 0)}
    assert flat.memories["words"].init is None
    assert flat.inputs == {"clk": 1, "rst": 1, "data": WIDTH}
    assert flat.outputs == {"o": WIDTH, "alias": 4, "square": 8, "kept": WIDTH}
    for name in (*(name for name, _ in flat.flip_flops.values()), *flat.memories["words"].reads):
        assert len(re.findall(rf"^  reg [^;]*\b{name}\b", flat.text, re.MULTILINE)) == 1
        assert re.search(rf"^ +{name} <= ", flat.text, re.MULTILINE)


def test_saboteurs_stand_behind_gates_only_when_asked_for():
    assert not flat_verilog(rtlil(), "store").gates
    flat = flat_verilog(rtlil(), "store", gates=True)
    assert flat.gates
    assert all(f"input [{width - 1}:0] site_flip_{index};" in flat.text or width == 1 for index, width in flat.gates.values())
    assert set(flat.inputs) == {"clk", "rst", "data"}


def test_all_engines_agree_on_a_memory():
    sites = sites_of(target())
    engines = [kind(target(), sites) for kind in (LanesEngine, VerilatorEngine, CocotbEngine)]
    faults = np.concatenate([random_faults(sites, CYCLES, 100, seed=1, places=("memory",)),
                             random_faults(sites, CYCLES, 60, seed=2)])
    one, other, third = (engine.run(faults) for engine in engines)
    assert_same(one, other, faults, sites)
    assert_same(one, third, faults, sites)
    assert set(one["outcome"]) == {Outcome.MASKED, Outcome.SDC}
    assert np.array_equal(engines[1].golden_outputs()["square"][:, 0], [  # 11, 14, 1, …: the table; its last word was not given
        i * i % 256 if i < 15 else 0 for i in (11 + 3 * np.arange(CYCLES)) % 16])


def test_a_struck_gate_may_select_several_branches_and_the_first_one_counts(capfd):
    sites = sites_of(target(), gates=True)
    lanes, verilator = LanesEngine(target(), sites), VerilatorEngine(target(), sites)
    faults = random_faults(sites, CYCLES, 2000, seed=3, places=("gate",), kinds=GATE_KINDS)
    assert_same(lanes.run(faults), verilator.run(faults), faults, sites)
    assert capfd.readouterr() == ("", "")


def test_a_word_that_is_observed_and_never_written_stays_wrong():
    found = VerilatorEngine(target(observed=("square",)))
    faults = np.zeros(2, FAULT)
    faults["site"] = [found.sites.site_of("words", address=address)[0] for address in (2, 4)]
    faults["mask"], faults["cycle"], faults["kind"] = 1 << 4, CYCLES - 1, Kind.SEU
    outcomes = found.run(faults)
    assert outcomes["outcome"].tolist() == [Outcome.SDC, Outcome.MASKED]        # word 4 is not observed
    assert outcomes[0]["first_difference"] == CYCLES - 1
    assert (outcomes[0]["wrong_words"], outcomes[0]["largest_error"]) == (1, 16)


@pytest.mark.parametrize(("changes", "text"), [
    ({"contents": {"words": np.zeros((DEPTH, 1), np.uint32)}}, "Target.contents['words'] must be of shape (8, 2), not (8, 1)"),
    ({"observed_memory": {"words": [(0, 9)]}}, "Target.observed_memory['words'] must end within 8 words, not at 9"),
])
@pytest.mark.parametrize("kind", [LanesEngine, VerilatorEngine, CocotbEngine])
def test_contents_that_do_not_fit_are_refused(kind, changes, text):
    sites = sites_of(target())
    with pytest.raises(TargetError, match=f"^{re.escape(text)}$"):
        kind(target(**changes), sites)


def test_what_is_no_rtlil_is_refused():
    with pytest.raises(ToolError, match=r"^yosys could not flatten 'store': "):
        flat_verilog("module \\store\nnonsense\nend\n", "store")


class Asynchronous(wiring.Component):
    """A register with an asynchronous reset."""

    def __init__(self):
        super().__init__({"o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.domains.other = ClockDomain(async_reset=True)
        m.d.comb += [ClockSignal("other").eq(ClockSignal()), ResetSignal("other").eq(ResetSignal())]
        m.d.other += self.o.eq(~self.o)
        return m


def test_asynchronous_resets_are_refused():
    with pytest.raises(ToolError, match=r"^flip-flops must be clocked and without asynchronous reset, not \$adff "):
        flat_verilog(to_rtlil(Asynchronous(), "asynchronous"), "asynchronous")
