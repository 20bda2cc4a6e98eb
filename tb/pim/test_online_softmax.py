# amaranth: UnusedElaboratable=no
"""Online softmax of one row against the golden one: weights, maxima, sums and scale factors, word by word."""

import numpy as np
import pytest

from hw.elements import BF16, ELEMENTS, FP16
from hw.errors import ConfigError
from hw.pim.online_softmax import OnlineSoftmax
from sw.golden.pim.attention import Numerics, State, combine_weights, online_weights
from tb.sim import simulate

SCORES = 32


def word(value):
    return int(np.float32(value).view(np.uint32))


def run(blocks, fmt, *, lanes=1, together=1, combine=0):
    """Run blocks (m, l, scores); return of each its weights, m, l and alpha."""
    dut = OnlineSoftmax(scores=SCORES, weight=fmt, lanes=lanes, together=together)
    found, weights = [], {}

    async def bench(ctx):
        ctx.set(dut.combine, combine)
        ctx.set(dut.enable, 1)
        for m_old, l_old, scores in blocks:
            weights.clear()
            padded = [*scores, *[np.inf] * (-len(scores) % together)]       # what is beyond `count` does not count
            for at in range(len(padded) // together):
                ctx.set(dut.write.at, at)
                ctx.set(dut.write.data, [word(score) for score in padded[at * together:(at + 1) * together]])
                ctx.set(dut.write.valid, 1)
                await ctx.tick()
            ctx.set(dut.write.valid, 0)
            for port, value in ((dut.m_old, word(m_old)), (dut.l_old, word(l_old)), (dut.count, len(scores)), (dut.start, 1)):
                ctx.set(port, value)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 1
            while not ctx.get(dut.done):
                await ctx.tick()
                cycles += 1
            passes = -(-len(scores) // lanes)
            assert cycles == (2 * passes + dut.combine_latency if combine else passes + dut.weight_latency)
            while not (combine or ctx.get(dut.summed)):
                await ctx.tick()
                cycles += 1
            assert combine or cycles == passes + dut.sum_latency
            await ctx.tick()
            assert sorted(weights) == list(range(passes * lanes))
            found.append(([weights[at] for at in range(len(scores))], ctx.get(dut.m), ctx.get(dut.l), ctx.get(dut.alpha)))

    async def collect(ctx):
        async for _, _, valid, at, data in ctx.tick().sample(dut.weight.valid, dut.weight.at, dut.weight.data):
            if valid:
                weights.update({at * lanes + lane: data[lane] for lane in range(lanes)})

    simulate(dut, bench, background=[collect], deadline=20_000)
    return found


@pytest.mark.parametrize(("fmt", "lanes", "together"), [(FP16, 1, 1), (BF16, 4, 1), (ELEMENTS["float8_e4m3fn"], 2, 2)])
def test_blocks_are_those_of_the_golden_model(fmt, lanes, together):
    rng = np.random.default_rng(fmt.bits)
    numerics = Numerics(lanes=1, slots=1, sm_lanes=lanes, ptype=fmt.name)
    blocks, expected = [], []
    for number in range(9):
        count = [1, 2, 7, 8, 9, SCORES][number % 6]
        scores = (rng.normal(size=(1, count)) * [1, 10, 100][number % 3]).astype(np.float32)
        m_old = np.array([[-np.inf, 0.0, 30.0, scores.max()][number % 4]], np.float32)
        l_old = np.array([0.0 if np.isneginf(m_old[0]) else abs(rng.normal()) * 20 + 1], np.float32)
        state, weights = online_weights(numerics, State(m_old, l_old, np.ones((1, 1), np.float32)), scores)
        blocks.append((m_old[0], l_old[0], scores[0]))
        expected.append((weights[0], state))
    found = run(blocks, fmt, lanes=lanes, together=together)
    for (weights, m, total, alpha), (golden, state) in zip(found, expected, strict=True):
        bits = golden.astype({16: np.float16}.get(fmt.bits, np.float32) if fmt is FP16 else np.float32)
        if fmt is FP16:
            assert weights == [int(w) for w in bits.view(np.uint16)]
        elif fmt is BF16:
            assert weights == [int(w) >> 16 for w in bits.view(np.uint32)]
        else:
            assert [fmt.value(code) for code in weights] == [float(w) for w in golden]
        assert m == word(state.maximum[0])
        assert total == word(state.total[0])
        assert alpha == word(state.output[0, 0])


@pytest.mark.parametrize("lanes", [1, 4])
def test_all_at_once_is_the_golden_model(lanes):
    rng = np.random.default_rng(3)
    numerics = Numerics(lanes=1, slots=1, sm_lanes=lanes, ptype="float16")
    blocks = [(-np.inf, 0.0, (rng.normal(size=count) * 10).astype(np.float32)) for count in (1, 2, 9, SCORES)]
    for (weights, *_), (_, _, scores) in zip(run(blocks, FP16, lanes=lanes, combine=1), blocks, strict=True):
        golden = combine_weights(numerics, scores[None])[0].astype(np.float16)
        assert weights == [int(w) for w in golden.view(np.uint16)]


@pytest.mark.parametrize(("sizes", "message"), [
    ({"scores": 0}, "OnlineSoftmax.scores must be at least 1, not 0"),
    ({"lanes": 3}, "OnlineSoftmax.lanes must be a power of two, not 3"),
    ({"together": 4}, "OnlineSoftmax.together must be a power of two of at most 2, the lanes, not 4"),
])
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        OnlineSoftmax(**{"scores": SCORES, "weight": FP16, "lanes": 2, **sizes})
