# amaranth: UnusedElaboratable=no
"""Column scheduler: every bit column, against the golden model and against what a column means."""

from typing import Any

import numpy as np

from hw.pe.bitvert.scheduler import CHOICES, ColumnScheduler
from hw.pe.bitvert.sums import ActivationSums
from sw.golden.pe.bitvert import schedule
from tb.arith.combinational import evaluate


def _found(ctx: Any, dut: ColumnScheduler) -> tuple[list[tuple[int, bool]], bool]:
    selects = [(ctx.get(chosen.select), bool(ctx.get(chosen.valid))) for chosen in (dut.o.selects[j] for j in range(4))]
    return selects, bool(ctx.get(dut.o.invert))


def test_every_column():
    """At most four activations in the multiplexers' reach, inverted where more than half are ones; the sum is right."""
    dut = ColumnScheduler()
    activations = np.array([1 << 3 * index for index in range(8)])      # any sum shows which were added, and how often
    seen = []

    async def bench(ctx: Any) -> None:
        for column in range(256):
            ctx.set(dut.column, column)
            selects, invert = _found(ctx, dut)
            ones = [index for index in range(8) if column >> index & 1]
            assert invert == (len(ones) > 4)
            assert sum(valid for _, valid in selects) == min(len(ones), 8 - len(ones))
            assert all(select < CHOICES for select, valid in selects if valid)
            added = sum(activations[j + select] for j, (select, valid) in enumerate(selects) if valid)
            assert (activations.sum() - added if invert else added) == activations[ones].sum()
            chosen, inverted = schedule(column)
            assert inverted == invert
            assert [(place - j, valid) for j, (place, valid) in enumerate(chosen) if valid] == [s for s in selects if s[1]]
            assert [valid for _, valid in chosen] == [valid for _, valid in selects]
            seen.append(column)

    evaluate(dut, bench)
    assert seen == list(range(256))


def test_exactly_half_is_not_inverted():
    assert schedule(0b11110000) == ([(4, True), (5, True), (6, True), (7, True)], False)
    assert schedule(0b11110001) == ([(1, True), (2, True), (3, True), (3, False)], True)


def test_sums_reach_both_ends():
    dut = ActivationSums()

    async def bench(ctx: Any) -> None:
        for low, high in ((-128, -128), (127, 127), (-128, 127), (1, -2)):
            ctx.set(dut.activations, [low] * 8 + [high] * 8)
            assert (ctx.get(dut.o[0]), ctx.get(dut.o[1])) == (8 * low, 8 * high)

    evaluate(dut, bench)
