# amaranth: UnusedElaboratable=no
"""Protected banks: the timing and contents of a plain bank, and every flip of a stored bit put right or detected."""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from hw.errors import ConfigError
from hw.protect.memory import ProtectedBank
from hw.protect.scrubber import Scrubber
from tb.sim import simulate

BANKS: dict[str, dict[str, Any]] = {
    "row, SECDED": {"width": 64, "word": 16, "mechanism": "secded", "transparent": True},
    "row, SECDED, old": {"width": 32, "word": 32, "mechanism": "secded"},
    "row, parity": {"width": 40, "word": 20, "mechanism": "parity", "transparent": True},
    "bytes, parity": {"width": 32, "word": 8, "mechanism": "parity", "enables": 4},
    "bytes, SECDED": {"width": 32, "word": 8, "mechanism": "secded", "enables": 4},
    "words of bytes, SECDED": {"width": 64, "word": 32, "mechanism": "secded", "enables": 8},
    "words of bytes, parity": {"width": 64, "word": 16, "mechanism": "parity", "enables": 8},
    "half bytes, SECDED": {"width": 32, "word": 4, "mechanism": "secded", "enables": 4},
}
SECDED = [name for name in BANKS if "SECDED" in name]


def make(name: str, scrub_period: int = 5) -> ProtectedBank:
    return ProtectedBank(depth=8, scrub_period=scrub_period, **BANKS[name])


def array_of(dut: ProtectedBank) -> Any:
    """Return the memory inside, so that a bench can flip its bits; elaborating again would make another one."""
    module = dut.elaborate(None)
    dut.elaborate = lambda platform: module         # type: ignore[method-assign]
    return module.submodules.array.data


def flip(ctx: Any, array: Any, row: int, bits: Iterable[int]) -> None:
    ctx.set(array[row], ctx.get(array[row]) ^ sum(1 << bit for bit in bits))


async def write(ctx: Any, dut: ProtectedBank, row: int, data: int, enables: int | None = None) -> None:
    ctx.set(dut.write_addr, row)
    ctx.set(dut.write_data, data)
    ctx.set(dut.write_en, (1 << dut.enables) - 1 if enables is None else enables)
    await ctx.tick()
    ctx.set(dut.write_en, 0)


async def read(ctx: Any, dut: ProtectedBank, row: int) -> tuple[int, int, int]:
    """Return the row and the flags of this read."""
    ctx.set(dut.read_addr, row)
    ctx.set(dut.read_en, 1)
    await ctx.tick()
    ctx.set(dut.read_en, 0)
    data = ctx.get(dut.read_data)
    await ctx.tick()
    return data, ctx.get(dut.detected), ctx.get(dut.corrected)


def partial(dut: ProtectedBank, enables: int) -> bool:
    """Return whether the write fills a word in part."""
    per_word = max(1, dut.code.word * dut.enables // dut.width)
    words = [enables >> first & ((1 << per_word) - 1) for first in range(0, dut.enables, per_word)]
    return any(word not in (0, (1 << per_word) - 1) for word in words)


@pytest.mark.parametrize(("name", "flips"), [*((name, False) for name in BANKS), *((name, True) for name in SECDED)])
def test_traffic(name: str, flips: bool) -> None:
    """Random reads and writes agree with a plain memory, also when a bit is wrong now and then."""
    dut, rng = make(name, scrub_period=2), random.Random(name)
    array, rows, seen = array_of(dut), [0] * dut.depth, Counter[str]()
    granule = dut.width // dut.enables

    async def bench(ctx: Any) -> None:
        due: int | None = None
        for cycle in range(900):
            if flips and cycle % 45 == 0:                       # since the last time the scrubber has been everywhere
                for row in range(dut.depth):
                    flip(ctx, array, row, [rng.randrange(dut.code.coded_width)])
            row = rng.randrange(dut.depth)
            target, data = rng.choice((row, rng.randrange(dut.depth))), rng.getrandbits(dut.width)
            # While the scrubber catches up, every port is idle for most of the time.
            busy = cycle % 45 < 20 or rng.random() < 0.1
            enables = rng.choice((0, (1 << dut.enables) - 1, rng.getrandbits(dut.enables))) if busy else 0
            ctx.set(dut.read_addr, row)
            ctx.set(dut.read_en, busy and rng.random() < 0.7)
            ctx.set(dut.write_addr, target)
            ctx.set(dut.write_data, data)
            ctx.set(dut.write_en, enables)
            if due is not None:
                assert ctx.get(dut.read_data) == due, f"cycle {cycle}"
                seen["read"] += 1
            assert ctx.get(dut.merging) == partial(dut, enables)
            assert not ctx.get(dut.detected)
            seen["merging"] += ctx.get(dut.merging)
            seen["corrected"] += ctx.get(dut.corrected)
            old = rows[row]
            mask = sum(((1 << granule) - 1) << granule * index for index in range(dut.enables) if enables >> index & 1)
            rows[target] = (rows[target] & ~mask) | (data & mask)
            taken = ctx.get(dut.read_en) and not ctx.get(dut.merging)
            due = (rows[row] if dut.transparent else old) if taken else None
            await ctx.tick()

    simulate(dut, bench)
    assert seen["read"] > 100
    assert seen["merging"] > 50 or not dut.merges
    assert seen["corrected"] > 100 if flips else not seen["corrected"]


@pytest.mark.parametrize("name", BANKS)
def test_every_stored_bit(name: str) -> None:
    """Any flip in any row is found when the row is read; SECDED puts it right, in the memory too."""
    dut = make(name, scrub_period=1000)
    array, rng = array_of(dut), random.Random(name)

    async def bench(ctx: Any) -> None:
        for bit in range(dut.code.coded_width):
            row, data = rng.randrange(dut.depth), rng.getrandbits(dut.width)
            await write(ctx, dut, row, data)
            await ctx.tick()
            stored = ctx.get(array[row])
            flip(ctx, array, row, [bit])
            found = await read(ctx, dut, row)
            if dut.code.mechanism == "secded":
                assert found == (data, 0, 1)
                assert ctx.get(array[row]) == stored
            else:
                assert found[1:] == (1, 0)
            assert not ctx.get(dut.detected) or dut.code.mechanism == "parity"

    simulate(dut, bench)


@pytest.mark.parametrize("name", SECDED)
def test_two_wrong_bits_of_a_word_are_detected_and_left_alone(name: str) -> None:
    dut = make(name, scrub_period=1000)
    array, rng = array_of(dut), random.Random(name)

    async def bench(ctx: Any) -> None:
        for _ in range(60):
            places = rng.choice(dut.code.places())
            row = rng.randrange(dut.depth)
            await write(ctx, dut, row, rng.getrandbits(dut.width))
            await ctx.tick()
            flip(ctx, array, row, rng.sample(places, 2))
            stored = ctx.get(array[row])
            assert (await read(ctx, dut, row))[1:] == (1, 0)
            assert ctx.get(array[row]) == stored

    simulate(dut, bench)


def test_interleaved_words_survive_adjacent_flips() -> None:
    """Four words of a row: any four adjacent bits are in different ones."""
    dut = make("row, SECDED")
    array = array_of(dut)

    async def bench(ctx: Any) -> None:
        for first in range(dut.code.coded_width - 3):
            await write(ctx, dut, 3, 0x1234_5678_9ABC_DEF0)
            flip(ctx, array, 3, range(first, first + 4))
            assert await read(ctx, dut, 3) == (0x1234_5678_9ABC_DEF0, 0, 1)

    simulate(dut, bench)


@pytest.mark.parametrize("name", [name for name in BANKS if BANKS[name].get("enables") and name.startswith("words")])
def test_merging_into_a_wrong_word(name: str) -> None:
    dut = make(name, scrub_period=1000)
    array, rng = array_of(dut), random.Random(name)

    async def bench(ctx: Any) -> None:
        for _ in range(40):
            data, new = rng.getrandbits(dut.width), rng.getrandbits(dut.width)
            await write(ctx, dut, 2, data)
            await ctx.tick()
            flip(ctx, array, 2, [rng.choice(dut.code.places()[1])])
            await write(ctx, dut, 2, new, 1 << dut.code.word // 8)      # the lowest byte of word 1
            await ctx.tick()
            if dut.code.mechanism == "secded":
                assert (ctx.get(dut.detected), ctx.get(dut.corrected)) == (0, 1)
                mask = 0xFF << dut.code.word
                assert await read(ctx, dut, 2) == (data & ~mask | new & mask, 0, 0)
            else:
                assert (ctx.get(dut.detected), ctx.get(dut.corrected)) == (1, 0)

    simulate(dut, bench)


def test_scrubber_walks_the_memory() -> None:
    """All rows are put right without a single read, unless the write port is taken all the time; what two flips broke stays."""
    dut = make("row, SECDED", scrub_period=3)
    array, seen = array_of(dut), Counter[str]()

    async def bench(ctx: Any) -> None:
        for row in range(8):
            await write(ctx, dut, row, row * 0x0123_4567_89AB)
        right = [ctx.get(array[row]) for row in range(8)]
        for row in range(8):
            flip(ctx, array, row, [7 * row] if row != 4 else dut.code.places()[0][3:5])
        broken = ctx.get(array[4])
        for _ in range(3 * 8 + 3):
            await ctx.tick()
            seen["corrected"] += ctx.get(dut.corrected)
            assert not ctx.get(dut.detected)
        for row in (0, 1, 2, 3, 5, 6, 7):
            assert ctx.get(array[row]) == right[row]
        assert ctx.get(array[4]) == broken
        flip(ctx, array, 5, [0])
        ctx.set(dut.write_en, 1)
        ctx.set(dut.write_addr, 4)
        for _ in range(40):
            await ctx.tick()
        assert ctx.get(array[5]) == right[5] ^ 1
        ctx.set(dut.write_en, 0)
        for _ in range(8):
            await ctx.tick()
        assert ctx.get(array[5]) == right[5]

    simulate(dut, bench)
    assert seen["corrected"] == 7


@pytest.mark.parametrize(("parameters", "text"), [
    ({"mechanism": "crc"}, r"^CodedWords\.mechanism must be one of parity, secded, not 'crc'$"),
    ({"word": 0}, r"^CodedWords\.word must be at least 1, not 0$"),
    ({"width": 0}, r"^CodedWords\.width must be at least 1, not 0$"),
    ({"word": 24}, r"^ProtectedBank\.word must divide width \(64\) and fit its write enables \(8 bits each\), not 24$"),
    ({"transparent": True}, r"^ProtectedBank\.word must be at most 8 where reads are transparent, not 32$"),
])
def test_bad_parameters(parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ProtectedBank(**({"depth": 8, "width": 64, "word": 32, "enables": 8, "mechanism": "secded"} | parameters))


@pytest.mark.parametrize(("parameters", "text"), [
    ({"depth": 0}, r"^Scrubber\.depth must be at least 1, not 0$"),
    ({"period": 1}, r"^Scrubber\.period must be at least 2, not 1$"),
])
def test_bad_scrubber(parameters: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Scrubber(**({"depth": 8, "period": 2} | parameters))
