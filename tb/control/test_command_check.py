"""The check of an instruction against the bits that the assembler has put into it: every bit of a program, one by one."""

from typing import Any

import numpy as np
from amaranth.sim import Simulator

from hw.control.command_check import CommandCheck
from hw.presets import PRESETS
from sw.command_parity import with_checks
from sw.kernels.spec import GemmSpec
from sw.runtime import compile_gemm


def check_words(cases: list[tuple[int, int]]) -> list[int]:
    """Return which checks fail for each (word, pc)."""
    dut = CommandCheck()
    failing: list[int] = []

    async def bench(ctx: Any) -> None:
        for word, pc in cases:
            ctx.set(dut.word, word)
            ctx.set(dut.pc, pc)
            failing.append(ctx.get(dut.failing))

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    return failing


def test_every_bit_of_a_program() -> None:
    words = [int(w) for w in with_checks(compile_gemm(PRESETS["systolic-4x4"], GemmSpec(m=9, n=20, k=70)).code)]
    assert len(words) > 60
    assert not any(check_words([(word, pc) for pc, word in enumerate(words)]))
    flips = [(pc, bit) for pc in range(len(words)) for bit in range(64)]
    assert check_words([(words[pc] ^ 1 << bit, pc) for pc, bit in flips]) == [1 << bit % 3 for _, bit in flips]


def test_neighbours_and_places() -> None:
    rng = np.random.default_rng(0)
    word = int(with_checks(np.array([0x1234_5678_0123_4502], np.uint64))[0])
    bursts = [word ^ pattern << low for low in range(62) for pattern in range(1, 8) if not pattern << low >> 64]
    assert all(check_words([(burst, 0) for burst in bursts]))
    assert all(check_words([(word, 1 << bit) for bit in range(32)]))
    elsewhere = check_words([(word, int(pc)) for pc in rng.integers(1, 1 << 32, 2000)])
    assert 0.8 < np.mean([bool(failing) for failing in elsewhere]) < 0.94       # 7 of 8
