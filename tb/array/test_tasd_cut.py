"""Cutting of activations, a token a cycle: what is kept, always as late, whatever the values; tokens between that are not cut."""

from typing import Any

import numpy as np
import pytest

from hw.array.tasd_cut import ActivationCut
from hw.array.tasd_shape import TasdShape
from sw.golden.array.tasd import block_terms
from tb.sim import simulate


def expected_of(shape: TasdShape, token: np.ndarray, cut: int) -> tuple[list[int], list[int]]:
    """Return what each lane gets and where it was."""
    if not cut:
        return token[:shape.lanes].tolist(), [lane % shape.keep for lane in range(shape.lanes)]
    values, places = [], []
    for block in token.reshape(-1, shape.of):
        kept = block_terms(block, ((shape.keep, shape.of),))[0][0]
        kept += [(0, 0)] * (shape.keep - len(kept))
        values += [int(value) for _, value in kept]
        places += [place for place, _ in kept]
    return values, places


@pytest.mark.parametrize(("keep", "of"), [(4, 8), (2, 4), (2, 8), (1, 8), (1, 4)])
def test_every_token_is_cut_in_time(keep: int, of: int) -> None:
    """Runs without a pause, pauses, tokens as they are in between; zeros and few values too, whose extraction ends early."""
    shape = TasdShape(lanes=8, keep=keep, of=of, psum_width=20)
    rng = np.random.default_rng(keep * of)
    count = 200
    tokens = rng.integers(-128, 128, (count, shape.rows))
    tokens = (tokens * (rng.random(tokens.shape) < rng.choice([0, 0.2, 0.6, 1], (count, 1)))).astype(np.int8)
    valid = rng.random(count) < np.where(np.arange(count) < 100, 1, 0.6)
    cut = rng.random(count) < np.where(np.arange(count) < 50, 1, 0.7)
    dut = ActivationCut(shape)
    found: list[tuple[list[int], ...]] = []

    async def drive(ctx: Any) -> None:
        for number in range(count + shape.latency):
            here = number < count
            ctx.set(dut.valid, bool(here and valid[number]))
            if here:
                ctx.set(dut.cut, bool(cut[number]))
                ctx.set(dut.i, tokens[number].view(np.uint8).tolist())
            found.append(tuple([ctx.get(lanes[lane]) for lane in range(8)] for lanes in (dut.activations, dut.places)))
            await ctx.tick()

    simulate(dut, drive)
    for number in np.flatnonzero(valid):
        assert found[number + shape.latency] == expected_of(shape, tokens[number], cut[number]), number
