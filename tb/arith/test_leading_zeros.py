# amaranth: UnusedElaboratable=no
"""Leading-zero count: all words of small widths, the edges of large ones."""

import random
from typing import Any

import pytest

from hw.arith.leading_zeros import LeadingZeroCount
from hw.errors import ConfigError
from tb.arith.combinational import evaluate


def words(width: int) -> list[int]:
    """Return every word of up to 10 bits; else, for each leading position, the least, the largest and a random word."""
    if width <= 10:
        return list(range(1 << width))
    rng = random.Random(width)
    return [0, *(word for top in range(width)
                 for word in (1 << top, (2 << top) - 1, 1 << top | rng.getrandbits(top + 1)))]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 9, 10, 24, 31, 32, 33, 48, 64])
def test_counts_every_position(width):
    dut = LeadingZeroCount(width=width)
    seen = set()

    async def bench(ctx: Any) -> None:
        for word in words(width):
            ctx.set(dut.i, word)
            expected = width - word.bit_length()
            assert ctx.get(dut.o) == expected, f"{word:#x}"
            seen.add(expected)

    evaluate(dut, bench)
    assert seen == set(range(width + 1))


def test_bad_width():
    with pytest.raises(ConfigError, match=r"^LeadingZeroCount\.width must be at least 1, not 0$"):
        LeadingZeroCount(width=0)
