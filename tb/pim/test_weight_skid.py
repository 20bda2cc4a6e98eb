# amaranth: UnusedElaboratable=no
"""Weight skid: bursts in order as beats, credits that keep it from overflowing, and what happens without them."""

import random

import pytest

from hw.errors import ConfigError
from hw.pim.timing import TIMINGS
from hw.pim.weight_skid import WeightSkid, skid_depth
from tb.sim import check_stream, get_all, simulate


@pytest.mark.parametrize(("beats", "stall"), [(1, 0.0), (2, 0.4), (4, 0.7)])
def test_bursts_leave_in_beats_and_give_their_credit_back(beats, stall):
    rng = random.Random(beats)
    width, depth, count = 32, 3, 40
    dut = WeightSkid(width=width, beats=beats, depth=depth)
    bursts = [rng.getrandbits(width) for _ in range(count)]
    found = []

    async def dram(ctx):
        credits, left = depth, list(bursts)
        while left or credits < depth:
            send = bool(left) and credits > 0 and rng.random() < 0.7
            ctx.set(dut.valid, send)
            ctx.set(dut.data, left.pop(0) if send else rng.getrandbits(width))
            _, _, back = await ctx.tick().sample(dut.credit)
            credits += back - send
            assert 0 <= credits <= depth
        assert not ctx.get(dut.overflow)

    simulate(dut, dram, get_all(dut.o, count * beats, found, stall=stall), background=[check_stream(dut.o)], seed=beats)
    part = width // beats
    assert found == [burst >> part * beat & (1 << part) - 1 for burst in bursts for beat in range(beats)]


def test_a_burst_without_a_place_is_lost_and_reported():
    dut = WeightSkid(width=8, beats=1, depth=2)
    found = []

    async def flood(ctx):
        for word in range(1, 5):
            ctx.set(dut.valid, 1)
            ctx.set(dut.data, word)
            await ctx.tick()
        ctx.set(dut.valid, 0)
        assert ctx.get(dut.overflow)
        await get_all(dut.o, 2, found)(ctx)

    simulate(dut, flood)
    assert found == [1, 2]


def test_the_depth_covers_the_way_to_the_dram_and_back():
    assert {name: skid_depth(timing, 4) for name, timing in TIMINGS.items()} == {
        "hbm3-4.8": 9, "hbm3-5.2": 10, "hbm3-5.6": 10, "hbm3-6.0": 10, "hbm3-6.4": 11, "hbm2": 10, "gddr6-aim": 17, "lpddr5": 9,
        "hbm4-cube": 18}


@pytest.mark.parametrize(("change", "message"), [
    ({"beats": 3}, r"^WeightSkid.beats must be a divisor of the 32 bits, not 3$"),
    ({"depth": 1}, r"^WeightSkid.depth must be at least 2, not 1$"),
])
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        WeightSkid(**{"width": 32, "beats": 2, "depth": 4, **change})
