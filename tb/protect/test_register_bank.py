# amaranth: UnusedElaboratable=no
"""Register banks under every single upset: any flip-flop of small banks, in any cycle of a short run."""

import itertools
import random
from typing import Any

import pytest
from amaranth.hdl import Fragment, Signal
from amaranth.hdl._xfrm import LHSMaskCollector
from amaranth.sim import Simulator

from hw.protect.register_bank import PARITY_GROUP, RegisterBank, parity_groups
from hw.protect.register_copy import BankRegister, RegisterCopy, total_width

SMALL = (BankRegister(name="count", width=3, init=5), BankRegister(name="held", width=2, init=1, reset_less=True),
         BankRegister(name="full", width=1))
CYCLES = 6


def flip_flops(fragment: Fragment) -> list[Signal]:
    """Return every register of a design, the flags included; but for those with bits that are no registers.

    (Amaranth's simulator lets nobody write into such a signal.)
    """
    found, wires = LHSMaskCollector(), LHSMaskCollector()
    for domain, statements in fragment.statements.items():
        (wires if domain == "comb" else found).visit_stmt(statements)
    return [signal for signal, _ in found.masks() if signal not in wires.lhs] + [
        signal for child, _, _ in fragment.subfragments for signal in flip_flops(child)]


def run(mechanism: str, registers: tuple[BankRegister, ...], inputs: list[int], *,
        upset: tuple[int, int, int] | None = None) -> list[tuple[int, int]]:
    """Return (value, flag) of each cycle; `upset` is cycle, number of the flip-flop's signal, mask."""
    bank = RegisterBank(mechanism, registers)
    fragment = Fragment.get(bank, None)
    signals = flip_flops(fragment)
    seen: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        for cycle, word in enumerate(inputs):
            ctx.set(bank.next, word)
            if upset is not None and upset[0] == cycle:
                signal = signals[upset[1]]
                ctx.set(signal, ctx.get(signal) ^ upset[2])
            seen.append((ctx.get(bank.value), ctx.get(bank.flag)))
            await ctx.tick()
        seen.append((ctx.get(bank.value), ctx.get(bank.flag)))

    simulator = Simulator(fragment)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def init_of(registers: tuple[BankRegister, ...]) -> int:
    word, low = 0, 0
    for register in registers:
        word |= register.init << low
        low += register.width
    return word


@pytest.mark.parametrize("mechanism", ["parity", "dmr", "tmr"])
def test_a_bank_holds_what_it_is_given(mechanism: str) -> None:
    rng = random.Random(1)
    registers = (*SMALL, BankRegister(name="wide", width=40, init=0x12_3456_789A))
    inputs = [rng.getrandbits(total_width(registers)) for _ in range(20)]
    assert run(mechanism, registers, inputs) == [(word, 0) for word in (init_of(registers), *inputs)]


@pytest.mark.parametrize("mechanism", ["parity", "dmr", "tmr"])
def test_every_upset_of_one_flip_flop(mechanism: str) -> None:
    """A voter corrects it in the cycle in which it comes; the others tell a cycle later; a flag that flips tells of nothing."""
    rng = random.Random(2)
    inputs = [rng.getrandbits(total_width(SMALL)) for _ in range(CYCLES)]
    golden = [word for word, _ in run(mechanism, SMALL, inputs)]
    signals = flip_flops(Fragment.get(RegisterBank(mechanism, SMALL), None))
    bits = [(index, 1 << bit) for index, signal in enumerate(signals) for bit in range(len(signal))]
    extra = {"parity": 2 + 2, "dmr": 6, "tmr": 12}[mechanism]
    assert len(bits) == total_width(SMALL) + extra + 1
    changed = 0
    for (index, mask), cycle in itertools.product(bits, range(CYCLES)):
        seen = run(mechanism, SMALL, inputs, upset=(cycle, index, mask))
        values, flags = [value for value, _ in seen], [flag for _, flag in seen]
        others = values[:cycle] + values[cycle + 1:]
        assert others == golden[:cycle] + golden[cycle + 1:], "what is not held is forgotten"
        changed += values[cycle] != golden[cycle]
        if signals[index].name == "flag":
            assert flags == [int(at == cycle) for at in range(CYCLES + 1)]
        else:
            assert flags == [int(at == cycle + 1) for at in range(CYCLES + 1)]
        if mechanism == "tmr":
            assert values == golden
    assert changed == (0 if mechanism == "tmr" else total_width(SMALL) * CYCLES)


@pytest.mark.parametrize("mechanism", ["parity", "dmr", "tmr"])
def test_two_neighbours_of_a_copy(mechanism: str) -> None:
    registers = (BankRegister(name="wide", width=37),)
    inputs = [random.Random(3).getrandbits(37) for _ in range(3)]
    for bit in range(36):
        seen = run(mechanism, registers, inputs, upset=(1, 1 if mechanism != "tmr" else 3, 3 << bit))
        assert seen[2][1] == 1, bit
        assert (seen[1][0] == inputs[0]) == (mechanism == "tmr")


def test_the_reset_leaves_what_has_none() -> None:
    from amaranth.hdl import Module, ResetInserter

    for mechanism in ("parity", "dmr", "tmr"):
        m = Module()
        reset = Signal()
        bank = RegisterBank(mechanism, SMALL)
        m.submodules.bank = ResetInserter(reset)(bank)
        seen = []

        async def bench(ctx: Any, bank: RegisterBank = bank, reset: Signal = reset, seen: list[Any] = seen) -> None:
            ctx.set(bank.next, 0b1_10_011)
            await ctx.tick()
            ctx.set(bank.next, 0b1_11_010)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            seen.append((ctx.get(bank.value), ctx.get(bank.flag)))
            await ctx.tick()
            seen.append((ctx.get(bank.value), ctx.get(bank.flag)))

        simulator = Simulator(m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        assert seen == [(0b0_11_101, 0), (0b1_11_010, 0)], mechanism


@pytest.mark.parametrize("width", range(0, 70))
def test_parity_groups_are_small_and_split_neighbours(width: int) -> None:
    groups = parity_groups(width)
    sizes = [len(range(group, width, groups)) for group in range(groups)]
    assert sum(sizes) == width
    assert all(1 <= size <= PARITY_GROUP for size in sizes)
    assert width < 2 or groups >= 2


def test_an_unknown_mechanism_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^RegisterBank\.mechanism must be one of parity, dmr, tmr, not 'secded'$"):
        RegisterBank("secded", SMALL)


def test_a_copy_names_its_flip_flops() -> None:
    names = {signal.name for signal in flip_flops(Fragment.get(RegisterCopy(SMALL), None))}
    assert names == {"count", "held", "full"}
