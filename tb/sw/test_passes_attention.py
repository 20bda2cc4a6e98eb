"""Passes of attention, positions and the KV cache against float64; bounds as in `tb.sw.bounds`."""

import math

import numpy as np
import pytest

from sw.formats import dequantize, quantize
from sw.kernels.passes import Floats, Mask, Row, Scalars, vector_pass
from sw.kernels.passes.attention import (
    FLOOR,
    SoftmaxRows,
    accumulate,
    context,
    denominator,
    probabilities,
    reference,
    update,
    value_scales,
)
from sw.kernels.passes.cache import negated_zero_points, quantize_int8, quantize_uint4, unpack_uint4, zero_points
from sw.kernels.passes.quantization import inverse_scale
from sw.kernels.passes.quantization import quantize as quantize_rows
from sw.kernels.passes.rope import rope, rope_in_place
from tb.sw.bounds import FUNCTION, U, codes_within, exact, random_rows, within
from tb.sw.vector_memory import SMALL, VectorMemory

LN2 = math.log(2)

each_config = pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)


@pytest.fixture
def rng(request):
    """Numbers that differ from test to test, but not from run to run."""
    return np.random.default_rng(sum(request.node.name.encode()))


# Positions --------------------------------------------------------------------------------------------------------


def angles(positions, half, theta=10000.0):
    """Return cos and sin in float32, (positions, half)."""
    angle = np.asarray(positions)[:, None] * theta ** (-np.arange(half) / half)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@each_config
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize(("m", "half"), [(1, 4), (5, 16), (3, 21)])
def test_rope(config, decode, m, half, rng):
    memory = VectorMemory(config)
    low, high = random_rows(rng, m, half), random_rows(rng, m, half)
    positions = [100_003] if decode else [0, *range(250, 249 + m)]
    cos, sin = angles(positions, half)
    table = [memory.put(part[0] if decode else part) for part in (cos, sin)]
    to_low, to_high, amax = memory.floats(m, half), memory.floats(m, half), memory.row(m=m)
    memory.run(rope(m, half, memory.put(low), memory.put(high), *table, to_low, to_high, amax=amax))
    low, high, cos, sin = exact(low, high, cos, sin)
    found = memory.get(to_low, m, half), memory.get(to_high, m, half)
    for part, expected in zip(found, (low * cos - high * sin, high * cos + low * sin), strict=True):
        within(part, expected, 2.1 * U * np.hypot(low, high) * math.sqrt(2))
    assert (memory.get(amax, m) == np.abs(np.concatenate(found, axis=1)).max(axis=1)).all()
    turned = np.hypot(found[0].astype(np.float64), found[1])
    within(turned, np.hypot(low, high), 5 * U * np.hypot(low, high))


def test_rope_of_heads_side_by_side(rng):
    """Halves lie within one row; the maximum goes on from what other heads had."""
    config = SMALL["c4-l4"]
    memory = VectorMemory(config)
    x = random_rows(rng, 3, 16)
    place, to = memory.put(x), memory.floats(3, 16)
    cos, sin = angles([7, 8, 9], 8)
    before = np.array([0, 1e6, 0], np.float32)
    amax, seed = memory.row(m=3), memory.row(before)

    def half(rows, i):
        return Floats(rows.addr + 4 * 8 * i, rows.stride)

    memory.run(rope(3, 8, half(place, 0), half(place, 1), memory.put(cos), memory.put(sin), half(to, 0), half(to, 1), amax=amax,
                    seed=seed))
    (low, high), (cos, sin) = np.split(x.astype(np.float64), 2, axis=1), exact(cos, sin)
    expected = np.concatenate((low * cos - high * sin, high * cos + low * sin), axis=1)
    within(memory.get(to, 3, 16), expected, 5 * U * np.abs(x).max())
    assert (memory.get(amax, 3) == np.maximum(np.abs(memory.get(to, 3, 16)).max(axis=1), before)).all()


@pytest.mark.parametrize(("m", "half"), [(1, 4), (5, 16)])
def test_rope_where_rows_lie(m, half, rng):
    """The same numbers as with places for the results, but for the sign of zero; what lies behind the rows stays."""
    memory = VectorMemory(SMALL["c4-l4"])
    x = random_rows(rng, m + 1, 2 * half)
    rows, other, to, products = memory.put(x), memory.put(x), memory.floats(m, 2 * half), memory.floats(m, 2 * half)
    cos, sin = (memory.put(part[0]) for part in angles([1234], half))
    amax, minus_one = memory.row(m=m), memory.row(np.full(m, -1, np.float32))
    memory.run(rope_in_place(m, half, rows.addr, products.addr, cos, sin, minus_one=minus_one, amax=amax))
    low, high = (Floats(other.addr + part, 8 * half) for part in (0, 4 * half))
    to_low, to_high = (Floats(to.addr + part, 8 * half) for part in (0, 4 * half))
    memory.run(rope(m, half, low, high, cos, sin, to_low, to_high))
    found = memory.get(rows, m + 1, 2 * half)
    np.testing.assert_array_equal(found[:m], memory.get(to, m, 2 * half))
    np.testing.assert_array_equal(found[m:], x[m:])
    assert (memory.get(amax, m) == np.abs(found[:m]).max(axis=1)).all()


def test_an_inverse_scale_that_comes_sooner_is_the_same(rng):
    memory = VectorMemory(SMALL["c4-l4"])
    amax = memory.row(np.array([0, 1e-30, 3, 127], np.float32))
    late, soon = memory.row(m=4), memory.row(m=4)
    memory.run([*inverse_scale(4, amax, late), *inverse_scale(4, amax, soon, sooner=True)])
    np.testing.assert_array_equal(memory.get(soon, 4), memory.get(late, 4))


# Softmax ----------------------------------------------------------------------------------------------------------


def head(rng, m, s, e, sink=0.0, spread=1.0):
    """Return int8 queries, keys, values and their scales: m queries over s keys, the first of which is a sink of small values."""
    q, k, v = (rng.integers(-127, 128, shape) for shape in ((m, e), (s, e), (s, e)))
    q_scale = (spread * rng.uniform(0.5, 1.5, m) / 127**2 / math.sqrt(e) * 8).astype(np.float32)
    k_scale, v_scale = rng.uniform(0.5, 1.5, s).astype(np.float32), rng.uniform(0.3, 3, s).astype(np.float32)
    if sink:
        k[0] = 127 * np.sign(q.mean(axis=0))
        q = np.clip(q + (sink * np.sign(k[0])).astype(int), -127, 127)
        v_scale[0] = 0.03
    return q, k, v, q_scale, k_scale, v_scale


def rows_of(memory, m):
    """Return new row scalars for softmax."""
    return SoftmaxRows(**{name: memory.row(m=m) for name in ("largest", "partial", "alpha", "before", "floor")})


def scores_of(q, k, q_scale, k_scale, visible):
    """Return the scores in powers of two, (m, s) float64, with −Inf where a query does not see a key."""
    t = (q @ k.T) * q_scale.astype(np.float64)[:, None] * k_scale
    return np.where(visible, t, -np.inf)


@each_config
@pytest.mark.parametrize(("m", "s"), [(1, 1), (1, 37), (6, 20)])
@pytest.mark.parametrize("causal", [False, True])
def test_probabilities(config, m, s, causal, rng):
    """2^(t − r) as float32, and its sum; columns beyond the mask are zeros though their scales were never written."""
    memory = VectorMemory(config)
    q, k, _, q_scale, k_scale, v_scale = head(rng, m, s, 16)
    columns = max(1, s - m) if causal else s
    n = s + config.vector_lanes
    acc = memory.accumulate(np.pad(q @ k.T, ((0, 0), (0, n - s)), constant_values=-2**31))
    keys, values, to = memory.put(k_scale), memory.put(v_scale), memory.floats(m, n)
    rows, queries, mask, amax = rows_of(memory, m), memory.row(q_scale), Mask(columns, causal), memory.row(m=m)
    memory.run([*reference(m, n, acc, rows, keys=keys, queries=queries, mask=mask, first=True),
                *probabilities(m, n, acc, to, rows, keys=keys, queries=queries, mask=mask, values=values, amax=amax)])
    visible = np.arange(s) < columns + causal * np.arange(m)[:, None]
    t = scores_of(q, k, q_scale, k_scale, visible)
    r = memory.get(rows.largest, m)
    within(r, t.max(axis=1), 3.1 * U * np.abs(t.max(axis=1)))
    p = 2.0 ** (t - r[:, None].astype(np.float64))
    finite = np.where(visible, np.abs(t), 0)
    relative = LN2 * (4.2 * U * (finite + np.abs(r)[:, None]) + 2.0**-25) + FUNCTION
    found = memory.get(to, m, n)[:, :s]
    within(found[visible], (p * v_scale)[visible], ((relative + 1.1 * U) * p * v_scale)[visible])
    assert not found[~visible].any()
    within(memory.get(rows.partial, m), p.sum(axis=1), (p * (relative + 12 * U)).sum(axis=1))


def test_what_was_never_written_has_no_weight(rng):
    """Beyond the mask a value scale may be NaN: probabilities in int8 are 0 there."""
    config = SMALL["c16-l8"]
    memory = VectorMemory(config)
    acc, to, rows = memory.accumulate(rng.integers(-99, 99, (2, 32))), memory.int8(2, 32), rows_of(memory, 2)
    scales, queries, mask = memory.floats(1, 32), memory.row(np.ones(2, np.float32)), Mask(20)
    memory.put(np.ones((1, 20), np.float32), scales)
    assert np.isnan(memory.get(scales, 1, 32)[0, 20:]).all()
    scales = Floats(scales.addr)
    memory.run([*reference(2, 32, acc, rows, keys=scales, queries=queries, mask=mask, first=True),
                *probabilities(2, 32, acc, to, rows, keys=scales, queries=queries, mask=mask, values=scales)])
    assert (memory.get(to, 2, 32)[:, 20:] == 0).all()
    assert np.isfinite(memory.get(rows.partial, 2)).all()


def prepare_values(memory, v_scale, e, n, mask):
    """Run `value_scales` on one head's; return the places of column factors and of the unit."""
    scales, ones = memory.floats(1, n), memory.put(np.ones(e, np.float32))
    memory.put(v_scale[None], scales)
    to, unit = memory.floats(1, n), memory.floats(1, e)
    memory.run(value_scales(1, n, e, scales, to, ones, unit, mask=mask, largest=memory.row(m=1), inverse=memory.row(m=1)))
    return Floats(to.addr), Floats(unit.addr)


def attend(memory, case, tile, *, dynamic, start):
    """Run online softmax over tiles of keys; return O / L, (m, e), and the largest magnitude of each row."""
    q, k, v, q_scale, k_scale, v_scale = case
    (m, e), s = q.shape, len(k)
    rows, queries, total, o = rows_of(memory, m), memory.row(q_scale), memory.scalars(m), memory.floats(m, e)
    inverse, amax, largest = memory.row(m=m), memory.row(m=m), memory.row(m=m) if dynamic else None
    for first in range(0, s, tile):
        mask, part = Mask(min(tile, max(0, start + 1 - first)), True), slice(first, first + tile)
        count = min(tile, s - first)
        acc, codes = memory.accumulate(q @ k[part].T), memory.int8(m, count)
        keys = memory.put(k_scale[part])
        memory.run(reference(m, count, acc, rows, keys=keys, queries=queries, mask=mask, first=first == 0))
        if dynamic:
            p, unit = memory.floats(m, count), 1 / 127
            memory.run([*probabilities(m, count, acc, p, rows, keys=keys, queries=queries, mask=mask,
                                       values=memory.put(v_scale[part]), amax=largest),
                        *inverse_scale(m, largest, inverse), *quantize_rows(m, count, p, codes, inverse=inverse)])
        else:
            values, unit = prepare_values(memory, v_scale[part], e, count, None)
            memory.run(probabilities(m, count, acc, codes, rows, keys=keys, queries=queries, mask=mask, values=values))
        p8 = memory.get(codes, m, count).astype(np.int64)
        assert p8.max() == 127 or not dynamic
        memory.run([*update(m, rows, first=first == 0), *denominator(m, total, rows, first=first == 0),
                    *accumulate(m, e, memory.accumulate(p8 @ v[part]), o, rows, values=unit, largest=largest, first=first == 0)])
    memory.run(context(m, e, o, o, total=total, inverse=inverse, amax=amax))
    return memory.get(o, m, e), memory.get(amax, m)


def attention_bound(case, tile, *, dynamic, start):
    """Return float64 attention over the same integers, and how far rounding the probabilities may take it."""
    q, k, v, q_scale, k_scale, v_scale = case
    m, s = len(q), len(k)
    t = scores_of(q, k, q_scale, k_scale, np.arange(s) <= start + np.arange(m)[:, None])
    top = t.max(axis=1, keepdims=True)
    p = 2.0 ** (t - top)
    total = p.sum(axis=1, keepdims=True)
    bound, floor = 0.0, np.full((m, 1), -np.inf)
    for first in range(0, s, tile):
        part = slice(first, first + tile)
        r = np.maximum(t[:, part].max(axis=1, keepdims=True), floor)
        floor = np.maximum(floor, r - FLOOR)
        weight = (p[:, part] * v_scale[part]).max(axis=1, keepdims=True) if dynamic else 2.0 ** (r - top) * v_scale[part].max()
        bound = bound + 0.5 * weight / 127 * np.abs(v[part]).sum(axis=0)
    expected = p @ (v * v_scale.astype(np.float64)[:, None]) / total
    steps = 1e-5 * (np.abs(p) @ np.abs(v * v_scale[:, None]) / total)           # float32, scores of up to 50
    return expected, bound / total * 1.001 + steps


@each_config
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["plain", "sink", "wide"])
@pytest.mark.parametrize(("m", "s", "tile"), [(1, 40, 16), (4, 44, 16), (6, 24, 24), (3, 70, 8)])
def test_online_softmax(config, dynamic, kind, m, s, tile, rng):
    memory = VectorMemory(config)
    case = head(rng, m, s, 16, sink=60.0 if kind == "sink" else 0.0, spread=12.0 if kind == "wide" else 1.0)
    start = s - m
    found, amax = attend(memory, case, tile, dynamic=dynamic, start=start)
    expected, bound = attention_bound(case, tile, dynamic=dynamic, start=start)
    within(found, expected, bound)
    assert (amax == np.abs(found).max(axis=1)).all()


@each_config
@pytest.mark.parametrize("dynamic", [False, True])
def test_softmax_of_one_tile(config, dynamic, rng):
    """One tile with all keys, as in decode: no recurrence; the sum of probabilities straight from the row scalars."""
    memory = VectorMemory(config)
    m, s, e = 4, 29, 16
    case = head(rng, m, s, e)
    q, k, v, q_scale, k_scale, v_scale = case
    rows, queries, keys = rows_of(memory, m), memory.row(q_scale), memory.put(k_scale)
    acc, codes, o, inverse = memory.accumulate(q @ k.T), memory.int8(m, s), memory.floats(m, e), memory.row(m=m)
    memory.run(reference(m, s, acc, rows, keys=keys, queries=queries, mask=None, first=True))
    if dynamic:
        p, largest, unit = memory.floats(m, s), memory.row(m=m), 1 / 127
        memory.run([*probabilities(m, s, acc, p, rows, keys=keys, queries=queries, mask=None, values=memory.put(v_scale),
                                   amax=largest), *inverse_scale(m, largest, inverse),
                    *quantize_rows(m, s, p, codes, inverse=inverse)])
    else:
        (values, unit), largest = prepare_values(memory, v_scale, e, s, None), None
        memory.run(probabilities(m, s, acc, codes, rows, keys=keys, queries=queries, mask=None, values=values))
    acc = memory.accumulate(memory.get(codes, m, s).astype(np.int64) @ v)
    memory.run(context(m, e, acc, o, total=Row(rows.partial), inverse=inverse, values=unit, largest=largest))
    expected, bound = attention_bound(case, s, dynamic=dynamic, start=s)
    within(memory.get(o, m, e), expected, bound)


def test_scores_far_below_a_sink_do_not_overflow(rng):
    """A tile whose scores are 2⁻²⁰⁰ of those before counts for nothing, and neither sums nor context leave float32."""
    memory = VectorMemory(SMALL["c4-l4"])
    rows, total, o = rows_of(memory, 1), memory.scalars(1), memory.floats(1, 4)
    queries, codes = memory.row(np.ones(1, np.float32)), memory.int8(1, 4)
    for number, score in enumerate([0, *[-200] * 8, 5]):
        acc, first = memory.accumulate(np.full((1, 4), score)), number == 0
        memory.run([*reference(1, 4, acc, rows, keys=1.0, queries=queries, mask=None, first=first),
                    *probabilities(1, 4, acc, codes, rows, keys=1.0, queries=queries, mask=None), *update(1, rows, first=first),
                    *denominator(1, total, rows, first=first)])
        values = memory.get(codes, 1, 4).astype(np.int64) @ np.full((4, 4), 1 + number)
        memory.run(accumulate(1, 4, memory.accumulate(values), o, rows, values=1 / 127, first=first))
    memory.run(context(1, 4, o, o, total=total, inverse=memory.row(m=1)))
    within(memory.get(o, 1, 4), np.full((1, 4), (1 * 1 + 32 * 10) / 33), 1e-5)


@each_config
def test_value_scales_of_heads(config, rng):
    """Masked tokens do not count, zeros are no division by zero, every head has its own."""
    memory = VectorMemory(config)
    heads, n, e = 3, 20, 8
    scales = rng.uniform(0.1, 5, (heads, n)).astype(np.float32)
    scales[1] = 0
    place, to, unit = memory.put(scales), memory.floats(heads, n), memory.floats(heads, e)
    memory.run(value_scales(heads, n, e, place, to, memory.put(np.ones(e, np.float32)), unit, mask=Mask(15),
                            largest=memory.row(m=heads), inverse=memory.row(m=heads)))
    largest = exact(scales)[0][:, :15].max(axis=1, keepdims=True)
    within(memory.get(unit, heads, e), np.repeat(largest / 127, e, axis=1), 2.1 * U * largest / 127)
    expected = np.divide(127 * exact(scales)[0], largest, out=np.zeros((heads, n)), where=largest > 0)
    within(memory.get(to, heads, n), expected, (3 * U + FUNCTION) * expected)


# Cache ------------------------------------------------------------------------------------------------------------


@each_config
@pytest.mark.parametrize("kind", ["plain", "zeros"])
def test_int8_cache(config, kind, rng):
    memory = VectorMemory(config)
    m, n = 5, 24
    x = random_rows(rng, m, n, kind)
    place, to, scales, amax = memory.put(x), memory.int8(m, n), memory.scalars(m), memory.row(m=m)
    memory.run([vector_pass("amax", a=place, m=m, n=n, amax_to=amax),
                *quantize_int8(m, n, place, to, scales, amax=amax, inverse=memory.row(m=m))])
    largest = np.abs(exact(x)[0]).max(axis=1)
    within(memory.get(scales, m), largest / 127, 2.1 * U * largest / 127)
    units = np.divide(127 * exact(x)[0], largest[:, None], out=np.zeros((m, n)), where=largest[:, None] > 0)
    codes_within(memory.get(to, m, n), units, 127 * (3 * U + FUNCTION))


def three_rows(memory, m):
    """Return the row scalars of `quantize_uint4`."""
    return {name: memory.row(m=m) for name in ("low", "high", "zero")}


@each_config
@pytest.mark.parametrize("kind", ["plain", "zeros", "positive", "negative"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 24), (4, 35)])
def test_uint4_cache(config, kind, m, n, rng):
    """Scales and zero points as int4-asym has them but for its float16 scale; unpacked, no element is half a step off."""
    memory = VectorMemory(config)
    x = random_rows(rng, m, n, kind)
    x = {"positive": np.abs(x), "negative": -np.abs(x)}.get(kind, x)
    place, packed, scales, zeros = memory.put(x), memory.uint4(m, n), memory.scalars(m), memory.scalars(m)
    memory.run(quantize_uint4(m, n, place, packed, scales, zeros, **three_rows(memory, m)))
    low, high = np.minimum(exact(x)[0].min(axis=1), 0), np.maximum(exact(x)[0].max(axis=1), 0)
    step = (high - low) / 15
    within(memory.get(scales, m), step, 4 * U * step)
    zero = memory.get(zeros, m)
    within(zero, np.divide(-low, step, out=np.zeros(m), where=step > 0), 0.5 + 15 * 8 * U)
    assert (zero == np.rint(zero)).all()
    to, loaded = memory.int8(m, n), memory.row(m=m)
    memory.run([*zero_points(m, zeros, loaded), *unpack_uint4(m, n, packed, to, zeros=loaded)])
    codes, unpacked = memory.get(packed, m, n), memory.get(to, m, n)
    assert codes.max() <= 15
    assert (unpacked == codes.astype(int) - zero[:, None]).all()
    units = np.divide(exact(x)[0], step[:, None], out=np.zeros((m, n)), where=step[:, None] > 0)
    # where the zero point was rounded up or down by half, an end of the range is clipped by as much
    within(unpacked, units, 0.5 + 15 * 12 * U + np.where((codes == 0) | (codes == 15), 0.5, 0))


def test_uint4_cache_is_the_format():
    """int4-asym-g128 gives the same numbers but for its scales, which are float16."""
    memory = VectorMemory(SMALL["c16-l8"])
    x = np.random.default_rng(5).standard_normal((6, 128)).astype(np.float32)
    place, packed, scales, zeros = memory.put(x), memory.uint4(6, 128), memory.scalars(6), memory.scalars(6)
    memory.run(quantize_uint4(6, 128, place, packed, scales, zeros, **three_rows(memory, 6)))
    found = (memory.get(packed, 6, 128) - memory.get(zeros, 6)[:, None]) * memory.get(scales, 6)[:, None]
    format_error = np.square(dequantize(quantize(x, "int4-asym-g128")) - x).mean()
    assert 0.98 < np.square(found - x).mean() / format_error < 1.02


@each_config
def test_zero_points_of_keys(config, rng):
    """Packed keys and the vector of zero points together give the scores of unpacked keys."""
    memory = VectorMemory(config)
    heads, n, e = 2, 21, 16
    x = random_rows(rng, heads * n, e)
    packed, scales, zeros = memory.uint4(heads * n, e), memory.scalars(heads * n), memory.floats(heads, n)
    side_by_side = memory.scalars(heads * n)
    memory.run(quantize_uint4(heads * n, e, memory.put(x), packed, scales, side_by_side, **three_rows(memory, heads * n)))
    memory.put(memory.get(side_by_side, heads * n).reshape(heads, n), zeros)
    to = memory.int8(heads, n)
    memory.run(negated_zero_points(heads, n, zeros, to))
    u, z = memory.get(packed, heads * n, e).astype(int), memory.get(side_by_side, heads * n)
    q = rng.integers(-127, 128, (4, e))
    for h in range(heads):
        part = slice(h * n, h * n + n)
        scores = q @ u[part].T + q @ np.tile(memory.get(to, heads, n)[h].astype(int), (e, 1))
        assert (scores == q @ (u[part] - z[part, None]).T).all()


def test_scalars_have_a_stride():
    """Scales of one head among those of others."""
    memory = VectorMemory(SMALL["c4-l4"])
    place = memory.scalars(12)
    row = memory.row(np.array([1, 2, 3, 4], np.float32))
    memory.run([vector_pass("spread", a=Row(row), m=4, to=Scalars(place.addr + 4, 12))])
    assert np.array_equal(memory.get(Scalars(place.addr + 4, 12), 4), [1, 2, 3, 4])
