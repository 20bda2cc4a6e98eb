# amaranth: UnusedElaboratable=no
"""Merger of attention states against the golden one, word by word."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.state_merger import StateMerger
from sw.golden.pim.attention import Numerics, State, attend, empty_state, finish, merge, merge_all, score_scale
from tb.sim import simulate

LANES = 2


def words(values):
    return [int(word) for word in np.ascontiguousarray(values, np.float32).view(np.uint32)]


def run(beats):
    """Return (m, o) of beats (m_a, m_b, a, b) that follow each other without a gap, now and then with one."""
    dut = StateMerger(lanes=LANES)
    found = []

    async def feed(ctx):
        for number, (m_a, m_b, a, b) in enumerate(beats):
            ctx.set(dut.valid, 1)
            ctx.set(dut.m_a, words([m_a])[0])
            ctx.set(dut.m_b, words([m_b])[0])
            for lane in range(LANES):
                ctx.set(dut.a[lane], words(a)[lane])
                ctx.set(dut.b[lane], words(b)[lane])
            await ctx.tick()
            if number % 7 == 3:
                ctx.set(dut.valid, 0)
                await ctx.tick()
        ctx.set(dut.valid, 0)
        await ctx.tick().repeat(dut.latency + 1)

    async def collect(ctx):
        cycle, given = 0, []
        outputs = dut.o_valid, dut.m, *(dut.o[lane] for lane in range(LANES))
        async for _, _, into, valid, m, *o in ctx.tick().sample(dut.valid, *outputs):
            given += [cycle] * into
            if valid:
                assert cycle == given[len(found)] + dut.latency
                found.append((m, o))
            cycle += 1

    simulate(dut, feed, background=[collect])
    assert len(found) == len(beats)
    return found


def beats_of(a, b, row):
    """Return the beats that merge one row of two states: l, then the output."""
    parts = [np.concatenate(([part.total[row]], np.zeros(LANES - 1, np.float32), part.output[row])) for part in (a, b)]
    return [(a.maximum[row], b.maximum[row], parts[0][i:i + LANES], parts[1][i:i + LANES])
            for i in range(0, len(parts[0]), LANES)]


def random_states(rng, count, head_dim):
    """Return states as attention makes them, some of which have seen nothing, some with equal maxima, or far apart."""
    states = []
    for number in range(count):
        if number % 5 == 4:
            states.append(empty_state(1, head_dim))
            continue
        top = np.array([rng.choice([0.0, 1.5, float(rng.normal() * 10), float(rng.normal() * 200)])], np.float32)
        states.append(State(top, np.abs(rng.normal(size=1)).astype(np.float32) * 30 + 1,
                            rng.normal(size=(1, head_dim)).astype(np.float32) * 10))
    return states


def test_words_are_those_of_the_golden_merge():
    rng = np.random.default_rng(1)
    firsts, seconds = random_states(rng, 30, 6), random_states(rng, 29, 6) + random_states(rng, 1, 6)
    beats, expected = [], []
    for a, b in zip(firsts, reversed(seconds), strict=True):
        beats += beats_of(a, b, 0)
        merged = merge(a, b)
        flat = [merged.total[0], *np.zeros(LANES - 1, np.float32), *merged.output[0]]
        for i in range(0, len(flat), LANES):
            expected.append((words([merged.maximum[0]])[0], words(flat[i:i + LANES])))
    assert run(beats) == expected


def test_parts_of_an_attention_become_the_whole():
    rng = np.random.default_rng(2)
    numerics = Numerics(lanes=8, slots=4, sm_lanes=8, ptype="float32")
    q, k, v = (rng.normal(size=shape).astype(np.float16).astype(np.float32) for shape in ((1, 8), (60, 8), (60, 8)))
    states = [attend(numerics, q, k[part::4], v[part::4], score_scale(8)) for part in range(4)]
    golden = merge_all(states)
    while len(states) > 1:
        beats = [beats_of(a, b, 0) for a, b in zip(states[::2], states[1::2], strict=True)]
        found = run([beat for pair in beats for beat in pair])
        each, merged = len(beats[0]), []
        for i in range(0, len(found), each):
            flat = np.array([o for _, o in found[i:i + each]], np.uint32).view(np.float32).reshape(-1)
            merged.append(State(np.array([found[i][0]], np.uint32).view(np.float32), flat[:1], flat[None, LANES:]))
        states = merged
    np.testing.assert_array_equal(finish(states[0]), finish(golden))


def test_no_lanes_are_refused():
    with pytest.raises(ConfigError, match=r"^StateMerger.lanes must be at least 1, not 0$"):
        StateMerger(lanes=0)
