# amaranth: UnusedElaboratable=no
"""The pass that protects registers: same behaviour as without, every upset corrected or told, whatever drives a register how."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from flows.emit import to_rtlil, to_verilog
from flows.synth.asic import synthesize
from flows.synth.options import AsicOptions
from hw.errors import ConfigError
from hw.protect.inventory import registers_of
from tb.protect.odd import INPUT_BITS, Design, Odd
from tb.protect.test_register_bank import flip_flops

CYCLES = 60
Rules = tuple[tuple[str, str], ...]
EVERYTHING: dict[str, Rules] = {
    "parity": (("*", "parity"),),
    "dmr": (("*", "dmr"),),
    "tmr": (("*", "tmr"),),
    "mixed": (("*", "tmr"), ("odd.[f-s]*", "parity"), ("odd.second", "dmr"), ("*.row_?", "none"), ("*cell_1*", "parity")),
    "some": (("odd.first", "tmr"), ("odd.cell_0.held", "dmr")),
    "lockstep": (("odd", "lockstep"),),
    "lockstep of a part": (("odd.cell_1", "lockstep"), ("odd.*", "tmr")),
}


def stimuli(seed: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    return [(rng.getrandbits(INPUT_BITS), int(rng.random() < 0.1)) for _ in range(CYCLES)]


class Bench:
    """One design, simulated again and again."""

    def __init__(self, rules: Rules):
        self.design = Design(rules)
        fragment = Fragment.get(self.design, None)
        self.signals = flip_flops(fragment)
        self._simulator = Simulator(fragment)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._run)
        self._fresh = True

    async def _run(self, ctx: Any) -> None:
        design = self.design
        for cycle, (i, reset) in enumerate(self._inputs):
            ctx.set(design.i, i)
            ctx.set(design.reset, reset)
            if self._upset is not None and self._upset[0] == cycle:
                signal = self.signals[self._upset[1]]
                ctx.set(signal, ctx.get(signal) ^ self._upset[2])
            self._seen.append((ctx.get(design.o), ctx.get(design.valid), ctx.get(design.detected), ctx.get(design.corrected)))
            await ctx.tick()

    def run(self, inputs: list[tuple[int, int]], *, upset: tuple[int, int, int] | None = None) -> list[tuple[int, ...]]:
        """Return (outputs, valid, detected, corrected) of every cycle; `upset`: cycle, number of the flip-flop's signal, mask."""
        if not self._fresh:
            self._simulator.reset()
        self._fresh, self._inputs, self._upset = False, inputs, upset
        self._seen: list[tuple[int, ...]] = []
        self._simulator.run()
        return self._seen

    def bits(self) -> list[tuple[int, int, str]]:
        """Return number of the signal, mask and name of every flip-flop."""
        return [(index, -(1 << bit) if signal.shape().signed and bit == len(signal) - 1 else 1 << bit, signal.name)
                for index, signal in enumerate(self.signals) for bit in range(len(signal))]


@pytest.fixture(scope="module")
def golden() -> Callable[[int], list[tuple[int, ...]]]:
    bench = Bench(())
    return lambda seed: bench.run(stimuli(seed))


@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_changes_and_no_flag_rises(name: str, golden: Callable[[int], list[tuple[int, ...]]]) -> None:
    bench = Bench(EVERYTHING[name])
    for seed in range(3):
        expected = golden(seed)
        assert len({outputs for outputs, *_ in expected}) > CYCLES // 2
        assert bench.run(stimuli(seed)) == expected


@pytest.mark.parametrize("name", ["parity", "dmr", "tmr", "mixed"])
def test_every_flip_flop_of_a_hardened_design(name: str, golden: Callable[[int], list[tuple[int, ...]]]) -> None:
    """Where all registers are protected, no upset changes an output without a flag: it is corrected, or told a cycle later."""
    inputs, expected, rng = stimuli(9), golden(9), random.Random(4)
    bench = Bench(EVERYTHING[name])
    told = corrected = 0
    for index, mask, signal in bench.bits():
        cycle = rng.randrange(1, CYCLES - 3)
        seen = bench.run(inputs, upset=(cycle, index, mask))
        wrong = [outputs[:2] for outputs in seen] != [outputs[:2] for outputs in expected]
        detections = [at for at, (_, _, detected, _) in enumerate(seen) if detected]
        corrections = [at for at, (_, _, _, flag) in enumerate(seen) if flag]
        flagged = cycle + (signal != "flag")
        if name != "mixed":
            assert (corrections if name == "tmr" else detections) == [flagged], (signal, cycle)
            assert not (detections if name == "tmr" else corrections)
        told += bool(detections)
        corrected += bool(corrections)
        if wrong and signal[:4] != "row_":
            assert detections == [flagged], (signal, cycle)
    assert told + corrected > 50


def test_every_flip_flop_of_a_design_in_lockstep(golden: Callable[[int], list[tuple[int, ...]]]) -> None:
    """The first wrong output is told a cycle later; so is whatever the twin puts out that nobody reads."""
    inputs, expected, rng = stimuli(10), golden(10), random.Random(5)
    bench = Bench(EVERYTHING["lockstep"])
    told = wrong = 0
    for index, mask, signal in bench.bits():
        cycle = rng.randrange(1, CYCLES // 2)
        seen = bench.run(inputs, upset=(cycle, index, mask))
        first_wrong = next((at for at in range(CYCLES) if seen[at][:2] != expected[at][:2]), None)
        first_told = next((at for at in range(CYCLES) if seen[at][2]), None)
        wrong += first_wrong is not None
        told += first_told is not None
        assert signal == "flag" or first_wrong is None or first_told == first_wrong + 1, (signal, cycle)
    assert told > 3 * wrong // 2 > 30


def test_the_registers_of_a_design_have_names() -> None:
    registers = {register.path: register.bits for register in registers_of(Odd())}
    assert registers == {"sliced": 8, "parted": 8, "first": 3, "second": 5, "row_0": 2, "row_1": 2, "row_2": 2, "pair": 3,
                         "write_addr": 2, "write_en": 1, "shared_by_two": 3, "fsm_state": 2, "cell_0.held": 5, "cell_1.held": 5}


@pytest.mark.parametrize("flatten", [False, True])
def test_synthesis_keeps_every_copy(flatten: bool) -> None:
    """Merged copies would be missing among the flip-flops, hierarchical or flat."""
    registers = sum(register.bits for register in registers_of(Odd()))
    memory, banks = 4 * 4 + 4, 3
    expected = {"dmr": 2 * registers + banks, "tmr": 3 * registers + banks, "parity": registers + 9 + banks}
    for name, count in expected.items():
        design = Design(EVERYTHING[name], asserts=False)
        result = synthesize(design, top="top", options=AsicOptions(flatten=flatten, timing=False))
        assert result["flip_flops"] == count + memory, name
    plain, twice = (synthesize(Design(rules, asserts=False), top="top", options=AsicOptions(flatten=flatten, timing=False))
                    for rules in ((), EVERYTHING["lockstep"]))
    assert twice["flip_flops"] == 2 * plain["flip_flops"] + 1


def test_a_shared_block_has_a_module_for_each_way_it_is_protected() -> None:
    def modules(rules: Rules) -> set[str]:
        return set(re.findall(r"^module (\w+)", to_verilog(Design(rules), "top"), re.MULTILINE))

    assert {"odd_cell"} == {name for name in modules(()) if "cell" in name}
    assert {"odd_cell_tmr"} == {name for name in modules((("*", "tmr"),)) if name.startswith("odd_cell")}
    both = {name for name in modules((("*cell_0*", "parity"),)) if name.startswith("odd_cell")}
    assert both == {"odd_cell", "odd_cell_parity"}
    twice = {name for name in modules((("*cell_0", "lockstep"),)) if name.startswith("odd_cell")}
    assert twice == {"odd_cell", "odd_cell_twice"}


def test_the_same_text_every_time() -> None:
    for rules in EVERYTHING.values():
        assert to_rtlil(Design(rules), "top") == to_rtlil(Design(rules), "top")


@pytest.mark.parametrize(("rules", "text"), [
    ((("odd.sliced_", "tmr"),), r"domains that can have tmr, not 'odd\.sliced_'; near: odd\.sliced.*"),
    ((("odd.cell_0.held", "lockstep"),), r"domains that can have lockstep, not 'odd\.cell_0\.held'; near: odd\.cell_0, .*"),
    ((("*", "tmr"), ("xyz*", "none")), r"domains that can have none, not 'xyz\*'; for instance: .*"),
])
def test_a_rule_that_matches_nothing_is_refused(rules: Rules, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^AcceleratorConfig\.protection must name {text}$"):
        Fragment.get(Design(rules), None)
