"""Scales of blocks against the golden model: every distance of exponents, every factor, the largest sums."""

import numpy as np
import pytest

from hw.array.hybrid_scale import BlockScale
from hw.config import AcceleratorConfig
from hw.engines.hybrid import block_sum_width, mesh_psum_width
from sw.golden.array.hybrid import scaled
from tb.array.hybrid import HYBRID_CONFIGS
from tb.sim import simulate


def results(config: AcceleratorConfig, vectors: list[dict[str, int]]) -> list[int]:
    """Return what the block makes of each vector, one a cycle."""
    dut, found = BlockScale(config), []

    async def bench(ctx):
        for index in range(len(vectors) + dut.latency):
            for name, value in (vectors[index] if index < len(vectors) else {}).items():
                ctx.set(getattr(dut, name), value)
            if index >= dut.latency:
                found.append(ctx.get(dut.o))
            await ctx.tick()

    simulate(dut, bench)
    return found


@pytest.mark.parametrize(("name", "shifts"), [("4-2", 1), ("4-2", 0), ("4-1", 1)])
def test_every_scale(name: str, shifts: int) -> None:
    config = HYBRID_CONFIGS[name]
    rng = np.random.default_rng(1)
    high = 1 << (block_sum_width(config) - 1)
    sums = np.concatenate(([0, 1, -1, high - 1, -high], rng.integers(-high, high, 7)))
    scales = np.arange(256)
    always = {"plain": 3, "of_block": 1, "shifts": shifts}
    vectors = [{"sum": int(x), "scale": int(scale), **always} for scale in scales for x in sums]
    expected = scaled(sums[None], scales[:, None], shifts=bool(shifts), guard_bits=config.guard_bits)
    assert results(config, vectors) == expected.ravel().tolist()


def test_halves_are_rounded_up_and_nothing_is_left_from_32_on() -> None:
    """By hand: G = 3; 5·8 = 40 and −5·8 = −40, moved by 4: 2.5 and −2.5."""
    config = HYBRID_CONFIGS["4-1"]
    cases = {(5, 0): 40, (5, 3): 5, (5, 4): 3, (-5, 4): -2, (-5, 0): -40, (-1, 5): 0, (5, 31): 0, (-5, 31): 0, (5, 32): 0,
             (5, 255): 0}
    vectors = [{"sum": total, "plain": 9, "scale": scale, "of_block": 1, "shifts": 1} for total, scale in cases]
    assert results(config, vectors) == list(cases.values())


def test_plain_psums_pass() -> None:
    config = HYBRID_CONFIGS["4-2"]
    high = 1 << (mesh_psum_width(config) - 1)
    vectors = [{"sum": 7, "plain": x, "scale": 9, "of_block": 0, "shifts": 1} for x in (0, -1, high - 1, -high)]
    assert results(config, vectors) == [0, -1, high - 1, -high]
