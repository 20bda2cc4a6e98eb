"""Attention next to DRAM: its order of additions, its error against float64, parts against the whole, its cache."""

import dataclasses
import itertools

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.attention import (
    Numerics,
    attend,
    attend_parts,
    attend_three_stage,
    empty_state,
    finish,
    merge,
    merge_all,
    numerics_of,
    score_scale,
    scores,
)
from sw.golden.pim.kv_cache import ContextError, KvCache, tokens_that_fit
from sw.golden.pim.reduction import bcast_product, pairwise_sum, tree_product
from sw.pim.amma import QWEN3_235B, Partition

NUMERICS = Numerics(lanes=16, slots=4, sm_lanes=16)
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float8_e4m3fn": 2.0**-4, "float8_s0e4m4": 2.0**-5, "float32": 2.0**-24}


def halves(rng, *shape):
    return rng.normal(size=shape).astype(np.float16).astype(np.float32)


def problem(seed, tokens, rows=4, head_dim=64):
    rng = np.random.default_rng(seed)
    return halves(rng, rows, head_dim), halves(rng, tokens, head_dim), halves(rng, tokens, head_dim), score_scale(head_dim)


def reference(q, k, v):
    s = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(q.shape[1])
    p = np.exp(s - s.max(axis=1, keepdims=True))
    return p @ v / p.sum(axis=1, keepdims=True)


def bound(ptype, k, v):
    """Return how far an output may be off: weights by their rounding, in numerator and denominator, and below the smallest."""
    smallest = {"float16": 2.0**-25, "float8_e4m3fn": 2.0**-10, "float8_s0e4m4": 2.0**-19}.get(ptype, 0.0)
    arithmetic = 2.0**-17                   # float32 sums of some hundred terms, scores of magnitude 10
    return 2 * (ROUNDING[ptype] + smallest * len(k) + arithmetic) * np.abs(v).max()


# The order, by a naive program in scalars ---------------------------------------------------------------------------


def scalar_sum(numbers):
    numbers = list(numbers)
    while len(numbers) & (len(numbers) - 1):
        numbers.append(np.float32(0))
    while len(numbers) > 1:
        numbers = [np.float32(a + b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    return numbers[0]


@pytest.mark.parametrize("k", [1, 5, 8, 9, 40, 67])
@pytest.mark.parametrize("slots", [1, 4])
def test_products_add_in_the_order_of_the_hardware(k, slots):
    rng = np.random.default_rng(k)
    w, x = halves(rng, 3, k) * np.float32(100), halves(rng, 2, k)
    expected_tree, expected_bcast = np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float32)
    for n in range(3):
        for r in range(2):
            products = [np.float32(a * b) for a, b in zip(w[n], x[r], strict=True)]
            tree, bcast = ([np.float32(0)] * slots for _ in range(2))
            for beat in range(-(-k // 8)):
                part = products[8 * beat:8 * beat + 8]
                part += [np.float32(0)] * (8 - len(part))
                tree[beat % slots] = np.float32(tree[beat % slots] + scalar_sum(part))
            for i, product in enumerate(products):
                bcast[i % slots] = np.float32(bcast[i % slots] + product)
            expected_tree[n, r], expected_bcast[r, n] = scalar_sum(tree), scalar_sum(bcast)
    np.testing.assert_array_equal(tree_product(w, x, lanes=8, slots=slots), expected_tree)
    np.testing.assert_array_equal(bcast_product(np.ascontiguousarray(w.T), x, slots=slots), expected_bcast)
    if k > 9:
        assert (expected_tree.T != expected_bcast).any()        # the order shows


def test_the_sum_of_an_odd_number():
    assert pairwise_sum(np.array([1, 2, 3], np.float32)) == 6


# Attention ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 64, 65, 200])
@pytest.mark.parametrize("ptype", sorted(ROUNDING))
def test_every_flow_is_as_near_to_float64_as_its_format(tokens, ptype):
    numerics = dataclasses.replace(NUMERICS, ptype=ptype)
    q, k, v, scale = problem(tokens, tokens)
    for flow in (finish(attend(numerics, q, k, v, scale)), attend_three_stage(numerics, q, k, v, scale),
                 attend_parts(numerics, q, k, v, scale, tokens=4, dims=2)):
        assert np.abs(flow - reference(q, k, v)).max() <= bound(ptype, k, v)


def test_at_the_longest_context_of_the_papers():
    q, k, v, scale = problem(1, 4097, rows=1, head_dim=16)
    for tokens in (4095, 4096, 4097):
        got = finish(attend(dataclasses.replace(NUMERICS, block=256), q, k[:tokens], v[:tokens], scale))
        assert np.abs(got - reference(q, k[:tokens], v[:tokens])).max() <= bound("float16", k, v)


@pytest.mark.parametrize("rows", [1, 8, 16])
def test_rows_of_a_group_do_not_touch_each_other(rows):
    q, k, v, scale = problem(rows, 50, rows=rows)
    whole = finish(attend(NUMERICS, q, k, v, scale))
    for row in range(rows):
        np.testing.assert_array_equal(finish(attend(NUMERICS, q[row:row + 1], k, v, scale)), whole[row:row + 1])


@pytest.mark.parametrize("block", [1, 7, 16, 200])
def test_the_size_of_a_block_changes_little(block):
    q, k, v, scale = problem(2, 150)
    got = finish(attend(dataclasses.replace(NUMERICS, block=block), q, k, v, scale))
    assert np.abs(got - reference(q, k, v)).max() <= bound("float16", k, v)


def test_a_lazy_maximum_scales_less_often_and_is_as_good():
    q, k, v, scale = problem(3, 400)
    lazy = dataclasses.replace(NUMERICS, block=16, lazy=8.0)
    moves = {}
    for numerics in (lazy, dataclasses.replace(lazy, lazy=0.0)):
        s = scores(numerics, k, q, scale)
        top, count = s[:, :16].max(axis=1), 0
        for start in range(16, 400, 16):
            block = s[:, start:start + 16].max(axis=1)
            count += int((block > top + numerics.lazy).sum())
            top = np.where(block > top + numerics.lazy, block, top)
        moves[numerics.lazy] = count
        assert np.abs(finish(attend(numerics, q, k, v, scale)) - reference(q, k, v)).max() <= bound("float16", k, v)
    assert moves[8.0] < moves[0.0]


def test_merging_with_nothing_changes_nothing():
    q, k, v, scale = problem(4, 40)
    state, nothing = attend(NUMERICS, q, k, v, scale), empty_state(*q.shape)
    for merged in (merge(state, nothing), merge(nothing, state)):
        for field in ("maximum", "total", "output"):
            np.testing.assert_array_equal(getattr(merged, field), getattr(state, field))
    both = merge(nothing, nothing)
    assert np.isneginf(both.maximum).all()
    assert not both.total.any()
    assert not both.output.any()


@pytest.mark.parametrize("parts", [2, 3, 4, 16])
def test_sharded_equals_unsharded_but_for_the_merge(parts):
    exact = dataclasses.replace(NUMERICS, ptype="float32")
    q, k, v, scale = problem(parts, 257, rows=16)
    whole = finish(attend(exact, q, k, v, scale))
    edges = np.linspace(0, 257, parts + 1).astype(int)
    states = [attend(exact, q, k[a:b], v[a:b], scale) for a, b in itertools.pairwise(edges)]
    # Each of log₂(parts) levels rounds α, its products and their sums; the two orders of addition differ by as much again.
    levels = (parts - 1).bit_length()
    assert np.abs(finish(merge_all(states)) - whole).max() <= (levels + 4) * 2.0**-22 * np.abs(v).max()
    assert np.abs(finish(merge_all(states)) - reference(q, k, v)).max() <= bound("float32", k, v)


def test_sixteen_cubes_find_what_one_finds():
    partition = Partition(shape=QWEN3_235B)
    exact = dataclasses.replace(NUMERICS, ptype="float32", lanes=128)
    rng = np.random.default_rng(5)
    for block in range(partition.tp_h):
        q, k, v = halves(rng, 16, 128), halves(rng, 83, 128), halves(rng, 83, 128)
        states = []
        for shard in range(partition.tp_s):
            mine = partition.tokens_of(block * partition.tp_s + shard, 83)
            states.append(attend(exact, q, k[mine.start:mine.stop], v[mine.start:mine.stop], score_scale(128)))
        whole = finish(attend(exact, q, k, v, score_scale(128)))
        assert np.abs(finish(merge_all(states)) - whole).max() <= 2.0**-19 * np.abs(v).max()


def test_one_part_is_the_whole():
    q, k, v, scale = problem(6, 90)
    np.testing.assert_array_equal(attend_parts(NUMERICS, q, k, v, scale), finish(attend(NUMERICS, q, k, v, scale)))


def test_a_wrong_merge_is_noticed():
    q, k, v, scale = problem(7, 64)
    a, b = (attend(NUMERICS, q, k[part], v[part], scale) for part in (slice(0, 32), slice(32, 64)))
    wrong = dataclasses.replace(merge(a, b), total=a.total + b.total)
    assert np.abs(finish(wrong) - reference(q, k, v)).max() > bound("float16", k, v)


@pytest.mark.parametrize(("changes", "message"), [
    ({"ptype": "int8"}, r"Numerics.ptype must be one of float16, .*, not 'int8'"),
    ({"block": 0}, "Numerics.block must be at least 1, not 0"),
    ({"lazy": 16.0}, "Numerics.lazy must be between 0 and 15 with float16, not 16.0"),
    ({"lazy": 1.0, "ptype": "float8_s0e4m4"}, "Numerics.lazy must be between 0 and 0 with float8_s0e4m4, not 1.0"),
])
def test_impossible_numerics_are_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(NUMERICS, **changes)


def test_impossible_partitions_are_refused():
    q, k, v, scale = problem(8, 4)
    with pytest.raises(ConfigError, match=r"^dims must be a divisor of head_dim \(64\), not 3$"):
        attend_parts(NUMERICS, q, k, v, scale, dims=3)
    with pytest.raises(ConfigError, match=r"^tokens must be at least 1, not 0$"):
        attend_parts(NUMERICS, q, k, v, scale, tokens=0)
    with pytest.raises(ConfigError, match=r"^keys must be of at least one token, not 0$"):
        attend_parts(NUMERICS, q, k[:0], v[:0], scale)


# Cache --------------------------------------------------------------------------------------------------------------


def test_tokens_are_appended_until_memory_is_full():
    config = dataclasses.replace(PimConfig(), dram_rows=1)
    cache = KvCache(config, heads=2, query_heads=4, head_dim=32)
    assert cache.capacity == tokens_that_fit(config, 2, 32) == 16 // 4 * 2048 // 64
    rng = np.random.default_rng(9)
    rows = halves(rng, cache.capacity, 2, 32)
    for key, value in rows:
        cache.append(1, key, value)
    np.testing.assert_array_equal(cache.keys(1), rows[:, 0])
    np.testing.assert_array_equal(cache.values(1), rows[:, 1])
    assert cache.tokens == [0, cache.capacity]
    with pytest.raises(ContextError, match=rf"^tokens of head 1 must be at most {cache.capacity}, what its rows hold, "
                                           rf"not {cache.capacity + 1}$"):
        cache.append(1, rows[0, 0], rows[0, 1])
    np.testing.assert_array_equal(cache.keys(1), rows[:, 0])


def test_attention_from_the_cache_with_shared_heads():
    cache = KvCache(PimConfig(), heads=2, query_heads=4, head_dim=32)
    rng = np.random.default_rng(10)
    queries = halves(rng, 4, 32)
    numerics = numerics_of(cache.config)
    for _ in range(20):
        for head in range(2):
            cache.append(head, halves(rng, 32), halves(rng, 32))
        for head in range(2):
            k, v = cache.keys(head), cache.values(head)
            got = finish(attend(numerics, cache.queries(head, queries), k, v, score_scale(32)))
            assert np.abs(got - reference(queries[2 * head:2 * head + 2], k, v)).max() <= bound("float16", k, v)


@pytest.mark.parametrize(("shape", "message"), [
    ((2, 3, 32), "KvCache.query_heads must be a multiple of the 2 KV heads, not 3"),
    ((1, 1, 24), r"KvCache.head_dim must be a multiple or a divisor of the lanes of a segment \(16\), not 24"),
    ((5, 5, 32), "heads must be between 1 and 4, not 5"),
])
def test_heads_that_do_not_fit_are_refused(shape, message):
    heads, query_heads, head_dim = shape
    with pytest.raises(ConfigError, match=f"^{message}$"):
        KvCache(PimConfig(), heads=heads, query_heads=query_heads, head_dim=head_dim)


def test_numerics_follow_the_config():
    assert numerics_of(PIM_PRESETS["pim-p3"]) == Numerics(lanes=128, segments=2, slots=8, sm_lanes=2, ptype="float8_s0e4m4")
