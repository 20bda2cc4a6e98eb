# amaranth: UnusedElaboratable=no
"""Bit-serial scale: every product of small sums, back to back and apart; the result stays until it must go."""

import random
from typing import Any

import pytest

from hw.errors import ConfigError
from hw.pe.bitmod.serial_scale import SerialScale
from tb.sim import simulate


@pytest.mark.parametrize(("width", "bits", "most"), [(4, 3, 0), (4, 3, 3), (29, 8, 0), (29, 8, 2)])
def test_products(width, bits, most):
    """Pairs with pauses of up to `most` cycles between the last bit of one and the start of the next."""
    dut = SerialScale(width=width, bits=bits)
    rng = random.Random(width)
    if width <= 4:
        pairs = [(i, scale) for i in range(-8, 8) for scale in range(1 << bits)]
        rng.shuffle(pairs)
    else:
        pairs = [(rng.choice([rng.randrange(-1 << width - 1, 1 << width - 1), -1 << width - 1, (1 << width - 1) - 1]), scale)
                 for scale in range(256)]
    pauses = [rng.randint(0, most) for _ in pairs]
    starts = [0]
    for pause in pauses:
        starts.append(starts[-1] + bits + pause)
    seen = []

    async def bench(ctx: Any) -> None:
        done_at = {start + bits + 1: i * scale for start, (i, scale) in zip(starts, pairs, strict=False)}
        bit_at = {start + 1 + place: scale >> (bits - 1 - place) & 1
                  for start, (_, scale) in zip(starts, pairs, strict=False) for place in range(bits)}
        start_at = {start: i for start, (i, _) in zip(starts, pairs, strict=False)}
        first_at = {start + 1 for start in start_at}
        expected = None
        for cycle in range(starts[-1] + 2):
            step = cycle in bit_at
            ctx.set(dut.start, cycle in start_at)
            ctx.set(dut.i, start_at.get(cycle, rng.randrange(-1 << width - 1, 1 << width - 1)))
            ctx.set(dut.step, step)
            ctx.set(dut.first, cycle in first_at if step else rng.randrange(2))
            ctx.set(dut.scale_bit, bit_at.get(cycle, rng.randrange(2)))
            expected = done_at.get(cycle, expected if cycle - 1 not in first_at else None)
            if expected is not None:
                assert ctx.get(dut.o) == expected
                seen.append(cycle in done_at)
            await ctx.tick()

    simulate(dut, bench)
    assert seen.count(True) == len(pairs)


@pytest.mark.parametrize("field", ["width", "bits"])
def test_bad_width(field):
    with pytest.raises(ConfigError, match=rf"^SerialScale\.{field} must be at least 1, not 0$"):
        SerialScale(**{"width": 8, "bits": 8} | {field: 0})
