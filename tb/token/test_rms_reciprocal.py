# amaranth: UnusedElaboratable=no
"""The reciprocal of a root mean square: bit for bit the golden model's, close to float64's, in less than 20 cycles."""

import re

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.token.rms_reciprocal import RmsReciprocal
from sw.golden.token.norm import rms_reciprocal
from tb.sim import simulate

EPSILON = np.float32(1e-5)


def tokens_of(rng: np.random.Generator, width: int, count: int) -> np.ndarray:
    high = 1 << (width - 1)
    tokens = rng.integers(-high, high, (count, 24))
    tokens[0] = 0
    tokens[1] = -high
    tokens[2], tokens[2, 5] = 1, -high
    return tokens


@pytest.mark.parametrize(("lanes", "width"), [(1, 8), (4, 8), (8, 16), (3, 16)])
def test_tokens_back_to_back(lanes: int, width: int) -> None:
    rng = np.random.default_rng(lanes)
    tokens = tokens_of(rng, width, 6)
    factor = np.float32(0.01 / 24)
    dut = RmsReciprocal(lanes=lanes, width=width, longest=24)
    words = [(row[at:at + lanes], at + lanes >= 24) for row in tokens for at in range(0, 24, lanes)]
    ends, found = [index for index, (_, last) in enumerate(words) if last], []

    async def drive(ctx):
        ctx.set(dut.factor.as_value(), int(factor.view(np.uint32)))
        ctx.set(dut.epsilon.as_value(), int(EPSILON.view(np.uint32)))
        for index in range(len(words) + dut.latency + 1):
            ctx.set(dut.valid, index < len(words))
            word, last = words[min(index, len(words) - 1)]
            ctx.set(dut.x, [int(x) for x in word])
            ctx.set(dut.last, last)
            if ctx.get(dut.o_valid):
                found.append((index, ctx.get(dut.o.as_value()), ctx.get(dut.amax)))
            await ctx.tick()

    simulate(dut, drive)
    assert dut.latency == 18
    expected, amax = rms_reciprocal(tokens, factor, EPSILON)
    assert [index - end for (index, _, _), end in zip(found, ends, strict=True)] == [dut.latency] * len(tokens)
    assert [word for _, word, _ in found] == expected.view(np.uint32).tolist()
    assert [largest for _, _, largest in found] == amax.tolist()


@pytest.mark.parametrize("size", [64, 2048, 4096])
def test_error_against_float64(size: int) -> None:
    """10^4 vectors, all zeros and a single outlier of 127 times the rest among them."""
    rng = np.random.default_rng(size)
    count = 10_000 if size == 64 else 2_000
    x = rng.integers(-128, 128, (count, size))
    x[0] = 0
    x[1], x[1, 7] = 1, 127
    factor = np.float32(0.02**2 / size)
    found, _ = rms_reciprocal(x, factor, EPSILON)
    exact = 1 / np.sqrt(np.square(x.astype(np.float64)).sum(axis=1) * np.float64(factor) + np.float64(EPSILON))
    assert np.abs(found / exact - 1).max() < 2.0**-22


@pytest.mark.parametrize(("change", "text"), [
    ({"lanes": 0}, "lanes must be between 1 and 256, not 0"), ({"width": 33}, "width must be between 2 and 32, not 33"),
    ({"longest": 0}, "longest must be between 1 and 1048576, not 0")])
def test_impossible_parameters(change: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"RmsReciprocal.{text}") + "$"):
        RmsReciprocal(**({"lanes": 4, "width": 8, "longest": 64} | change))
