"""Passes for linears, norms and MLPs against float64."""

import math

import numpy as np
import pytest

from hw.config import ceil_div
from sw.kernels.passes import Floats, vector_pass
from sw.kernels.passes.activations import add, gated, gelu, mean_rows, multiply, silu, unit_length
from sw.kernels.passes.norms import (
    add_rows,
    layer_norm,
    maximum_rows,
    no_statistics,
    rms_norm,
    rms_norm_int8,
    rms_statistics,
)
from sw.kernels.passes.quantization import LEAST_SCALE, dequantize, inverse_scale, quantize, requantize, token_scale
from tb.sw.bounds import FUNCTION, U, codes_within, exact, random_rows, within
from tb.sw.vector_memory import SMALL, VectorMemory

SIGMOID, NORMAL = 2.0**-19.0, 2.0**-22.3            # absolute, of x times the function

SHAPES = ((1, 1), (1, 37), (5, 24), (7, 50))
EXTREMES = ("plain", "zeros", "large", "small")

each_config = pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
shapes = pytest.mark.parametrize(("m", "n"), SHAPES)


@pytest.fixture
def rng(request):
    """Numbers that differ from test to test, but not from run to run."""
    return np.random.default_rng(sum(request.node.name.encode()))


def random_sums(rng, m, n):
    """Return accumulator words, the ends of int32 among them."""
    words = rng.integers(-1 << 20, 1 << 20, (m, n))
    words.flat[rng.integers(words.size, size=2)] = 2**31 - 1, -2**31
    return words


def depth(config, n):
    """Return how many additions are between an element and the sum of its row."""
    slices = ceil_div(n, config.columns) * (config.columns // config.vector_lanes)
    return math.ceil(math.log2(config.vector_lanes)) + ceil_div(slices, 8) + 3


# Linears ----------------------------------------------------------------------------------------------------------


@each_config
@shapes
@pytest.mark.parametrize("relu", [False, True])
def test_requantize(config, m, n, relu, rng):
    memory = VectorMemory(config)
    words, bias = random_sums(rng, m, n), rng.integers(-1 << 18, 1 << 18, n).astype(np.int32)
    scale = (rng.uniform(0.5, 2, n) * 1e-4).astype(np.float32)
    acc, to = memory.accumulate(words), memory.int8(m, n)
    sums = np.clip(words + bias, -2**31, 2**31 - 1).astype(np.float32)
    memory.run(requantize(m, n, acc, to, scale=memory.put(scale), bias=memory.put(bias), relu=relu))
    assert (memory.get(to, m, n) == np.clip(np.rint(sums * scale), 0 if relu else -128, 127)).all()
    memory.run(requantize(m, n, acc, to, scale=2.0**-13))
    assert (memory.get(to, m, n) == np.clip(np.rint(words * 2.0**-13), -128, 127)).all()


@each_config
@shapes
def test_dequantize(config, m, n, rng):
    memory = VectorMemory(config)
    words = random_sums(rng, m, n)
    columns, tokens = rng.uniform(0.5, 2, n).astype(np.float32), (10.0**rng.uniform(-9, 1, m)).astype(np.float32)
    residual = random_rows(rng, m, n)
    acc, place = memory.accumulate(words), memory.put(residual)
    total, amax = memory.row(m=m), memory.row(m=m)
    memory.run(dequantize(m, n, acc, place, columns=memory.put(columns), tokens=memory.row(tokens), add=place, squares_to=total,
                          amax_to=amax))
    words, columns, tokens, residual = exact(words, columns, tokens, residual)
    product = words * columns * tokens[:, None]
    expected, found = product + residual, memory.get(place, m, n)
    within(found, expected, 3.1 * U * np.abs(product) + U * np.abs(expected))
    squares = np.square(found.astype(np.float64)).sum(axis=1)
    within(memory.get(total, m), squares, (depth(config, n) + 1.1) * U * squares)
    assert (memory.get(amax, m) == np.abs(found).max(axis=1)).all()


@each_config
def test_dequantize_with_bias_and_other_statistics(config, rng):
    memory = VectorMemory(config)
    m, n = 5, 37
    words, bias = random_sums(rng, m, n), rng.standard_normal(n).astype(np.float32)
    acc, to, total, largest = memory.accumulate(words), memory.floats(m, n), memory.row(m=m), memory.row(m=m)
    seed = memory.row(np.array([-np.inf, 1e30, 0, 0, 0], np.float32))
    memory.run(dequantize(m, n, acc, to, columns=0.5, add=memory.put(bias), sum_to=total, max_to=largest, seed=seed))
    found = memory.get(to, m, n)
    within(found, words * 0.5 + exact(bias)[0], 2.1 * U * (np.abs(words * 0.5) + np.abs(bias)))
    within(memory.get(total, m), found.sum(axis=1, dtype=np.float64), depth(config, n) * 1.1 * U * np.abs(found).sum(axis=1))
    assert (memory.get(largest, m) == np.maximum(found.max(axis=1), memory.get(seed, m))).all()


# Dynamic quantization ---------------------------------------------------------------------------------------------


@each_config
@shapes
@pytest.mark.parametrize("kind", EXTREMES)
def test_quantize_tokens(config, m, n, kind, rng):
    memory = VectorMemory(config)
    x = random_rows(rng, m, n, kind)
    place, to, amax, inverse, scale = memory.put(x), memory.int8(m, n), memory.row(m=m), memory.row(m=m), memory.row(m=m)
    beside = memory.scalars(m)
    memory.run([vector_pass("amax", a=place, m=m, n=n, amax_to=amax), *inverse_scale(m, amax, inverse),
                *token_scale(m, amax, scale), *token_scale(m, amax, beside), *quantize(m, n, place, to, inverse=inverse)])
    largest = np.abs(exact(x)[0]).max(axis=1)
    within(memory.get(scale, m), largest / 127, 2.1 * U * largest / 127)
    assert (memory.get(beside, m) == memory.get(scale, m)).all()
    units = np.divide(127 * exact(x)[0], largest[:, None], out=np.zeros((m, n)), where=largest[:, None] > 0)
    codes = memory.get(to, m, n)
    codes_within(codes, units, 127 * (3 * U + FUNCTION))
    assert (np.abs(codes).max(axis=1) == np.where(largest > 0, 127, 0)).all()


def test_tokens_below_the_least_scale_become_zeros():
    memory = VectorMemory(SMALL["c4-l4"])
    x = np.array([[LEAST_SCALE / 4, -1e-45, 0, 0], [LEAST_SCALE * 127, -LEAST_SCALE, 0, 0]], np.float32)
    place, to, amax, inverse = memory.put(x), memory.int8(2, 4), memory.row(m=2), memory.row(m=2)
    memory.run([vector_pass("amax", a=place, m=2, n=4, amax_to=amax), *inverse_scale(2, amax, inverse),
                *quantize(2, 4, place, to, inverse=inverse)])
    assert np.isfinite(memory.get(inverse, 2)).all()
    assert memory.get(to, 2, 4).tolist() == [[0, 0, 0, 0], [127, -1, 0, 0]]


# Norms ------------------------------------------------------------------------------------------------------------


@each_config
@shapes
@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("folded", [False, True])
def test_rms_norm_to_int8(config, m, n, kind, folded, rng):
    memory = VectorMemory(config)
    x, eps = random_rows(rng, m, n, kind), 1e-5
    weight = np.ones(n, np.float32) if folded else rng.uniform(0.1, 2, n).astype(np.float32)
    place, to, gamma = memory.put(x), memory.int8(m, n), None if folded else memory.put(weight)
    squares, amax, scale, inverse = (memory.row(m=m) for _ in range(4))
    memory.run([*rms_statistics(m, n, place, squares=squares, amax=amax, gamma=gamma),
                *rms_norm_int8(m, n, place, to, squares=squares, amax=amax, scale=scale, inverse=inverse, eps=eps, gamma=gamma)])
    x, weight = exact(x, weight)
    y = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + eps) * weight
    step = np.abs(y).max(axis=1) / 127
    within(memory.get(scale, m), step, (depth(config, n) / 2 + 6 + 2) * U * step)
    units = np.divide(y, step[:, None], out=np.zeros((m, n)), where=step[:, None] > 0)
    codes_within(memory.get(to, m, n), units, 127 * (6 * U + FUNCTION))


@each_config
def test_rms_norm_to_int8_of_parts(config, rng):
    """Statistics over parts of the columns, and codes part by part, are those of the whole row."""
    memory = VectorMemory(config)
    m, parts = 3, 3
    n = parts * config.columns
    x, weight = random_rows(rng, m, n), rng.uniform(0.1, 2, n).astype(np.float32)
    place, gamma = memory.put(x), memory.put(weight)
    slot = 4 * config.output_slot_bytes
    xs = [Floats(place.addr + i * slot, place.stride) for i in range(parts)]
    gammas = [Floats(gamma.addr + i * slot) for i in range(parts)]
    squares, amax = [memory.row(m=m) for _ in range(parts)], [memory.row(m=m) for _ in range(parts)]
    scale, inverse = memory.row(m=m), memory.row(m=m)
    for i in range(parts):
        memory.run(rms_statistics(m, config.columns, xs[i], squares=squares[i], amax=amax[i], gamma=gammas[i]))
    memory.run([*add_rows(m, squares, squares[0]), *maximum_rows(m, amax, amax[0])])
    places = [memory.int8(m, config.columns) for _ in range(parts)]
    for i in range(parts):
        memory.run(rms_norm_int8(m, n, xs[i], places[i], squares=squares[0], amax=amax[0], scale=scale, inverse=inverse, eps=1e-5,
                                 gamma=gammas[i], columns=config.columns))
    x, weight = exact(x, weight)
    y = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-5) * weight
    step = np.abs(y).max(axis=1) / 127
    within(memory.get(scale, m), step, 20 * U * step)
    codes = np.concatenate([memory.get(place, m, config.columns) for place in places], axis=1)
    codes_within(codes, y / step[:, None], 127 * (6 * U + FUNCTION))
    # a seed carries the maximum from part to part as well
    carried = memory.row(np.zeros(m, np.float32))
    for i in range(parts):
        memory.run(rms_statistics(m, config.columns, xs[i], squares=squares[0], amax=carried, gamma=gammas[i], seed=carried))
    assert (memory.get(carried, m) == memory.get(amax[0], m)).all()
    # where the squares are known, only the maximum is looked for
    assert len(rms_statistics(m, config.columns, xs[0], squares=None, amax=carried, gamma=gammas[0])) == 1


@each_config
def test_statistics_begin_as_zeros(config):
    memory = VectorMemory(config)
    squares, amax = memory.row(m=4), memory.row(m=4)
    memory.scratchpad[:] = 0xFF
    memory.run(no_statistics(4, memory.int8(4, 1), sums=squares, amax=amax))
    assert memory.get(squares, 4).tolist() == memory.get(amax, 4).tolist() == [0.0] * 4


@each_config
@shapes
@pytest.mark.parametrize("kind", EXTREMES)
def test_rms_norm(config, m, n, kind, rng):
    memory = VectorMemory(config)
    x, weight, eps = random_rows(rng, m, n, kind), rng.uniform(0.1, 2, n).astype(np.float32), 1e-5
    place, gamma, squares, amax = memory.put(x), memory.put(weight), memory.row(m=m), memory.row(m=m)
    memory.run([*rms_statistics(m, n, place, squares=squares, amax=amax),
                *rms_norm(m, n, place, place, squares=squares, eps=eps, gamma=gamma, amax=amax)])
    x, weight = exact(x, weight)
    y = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + eps) * weight
    found = memory.get(place, m, n)
    within(found, y, (depth(config, n) / 2 + 5 + 2) * U * np.abs(y) + 1e-45)
    assert (memory.get(amax, m) == np.abs(found).max(axis=1)).all()


@each_config
@shapes
@pytest.mark.parametrize("kind", EXTREMES)
def test_layer_norm(config, m, n, kind, rng):
    memory = VectorMemory(config)
    x, eps = random_rows(rng, m, n, kind) + np.float32({"large": 1e15, "small": 1e-15}.get(kind, 3.0)), 1e-12
    weight, shift = rng.uniform(0.1, 2, n).astype(np.float32), rng.standard_normal(n).astype(np.float32)
    place, total, squares, amax = memory.put(x), memory.row(m=m), memory.row(m=m), memory.row(m=m)
    memory.run([vector_pass("sum", a=place, m=m, n=n, sum_to=total),
                *layer_norm(m, n, place, place, total=total, squares=squares, eps=eps, gamma=memory.put(weight),
                            beta=memory.put(shift), amax=amax)])
    x, weight, shift = exact(x, weight, shift)
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + eps)
    y = centred / deviation * weight + shift
    # the mean's error, in proportion to the magnitudes that were added, moves the whole row
    moved = (depth(config, n) + 3) * U * np.abs(x).mean(axis=1, keepdims=True) + U * np.abs(centred)
    spread = np.sqrt(np.square(moved).mean(axis=1, keepdims=True)) / deviation
    bound = (moved / deviation + np.abs(centred / deviation) * (spread + (depth(config, n) / 2 + 6) * U)) * weight + U * np.abs(y)
    found = memory.get(place, m, n)
    within(found, y, 1.1 * bound)
    assert (memory.get(amax, m) == np.abs(found).max(axis=1)).all()


# MLPs, residuals, sentence embeddings -----------------------------------------------------------------------------


@each_config
@shapes
def test_gated_silu(config, m, n, rng):
    memory = VectorMemory(config)
    gates, ups = rng.integers(-20000, 20000, (m, n)), rng.integers(-20000, 20000, (m, n))
    columns, tokens = rng.uniform(0.5, 2, n).astype(np.float32), rng.uniform(1e-4, 2e-3, m).astype(np.float32)
    column_scales, token_scales, to, amax = memory.put(columns), memory.row(tokens), memory.floats(m, n), memory.row(m=m)
    memory.run(silu(m, n, memory.accumulate(gates), to, columns=column_scales, tokens=token_scales))
    columns, tokens = exact(columns, tokens)
    x = gates * columns * tokens[:, None]
    sigmoid = 0.5 + 0.5 * np.tanh(x / 2)
    bound = SIGMOID + 4 * U * np.abs(x) + 2 * U * np.abs(x)
    within(memory.get(to, m, n), x * sigmoid, bound)
    memory.run(gated(m, n, memory.accumulate(ups), to, to, columns=column_scales, tokens=token_scales, amax=amax))
    up = ups * columns * tokens[:, None]
    found = memory.get(to, m, n)
    within(found, x * sigmoid * up, bound * np.abs(up) + 4 * U * np.abs(x * sigmoid * up))
    assert (memory.get(amax, m) == np.abs(found).max(axis=1)).all()


@each_config
@shapes
def test_gelu(config, m, n, rng):
    memory = VectorMemory(config)
    words, bias = rng.integers(-20000, 20000, (m, n)), rng.standard_normal(n).astype(np.float32)
    columns, tokens = rng.uniform(0.5, 2, n).astype(np.float32), rng.uniform(1e-4, 2e-3, m).astype(np.float32)
    to, amax = memory.floats(m, n), memory.row(m=m)
    memory.run(gelu(m, n, memory.accumulate(words), to, columns=memory.put(columns), tokens=memory.row(tokens),
                    bias=memory.put(bias), amax=amax))
    columns, tokens, bias = exact(columns, tokens, bias)
    product = words * columns * tokens[:, None]
    x = product + bias
    y = x * (0.5 + 0.5 * np.vectorize(math.erf)(x / math.sqrt(2)))
    found = memory.get(to, m, n)
    within(found, y, NORMAL + 1.2 * (3 * U * np.abs(product) + U * np.abs(x)) + 2 * U * np.abs(y))
    assert (memory.get(amax, m) == np.abs(found).max(axis=1)).all()


@each_config
@shapes
def test_add_and_multiply(config, m, n, rng):
    memory = VectorMemory(config)
    x, y = random_rows(rng, m, n), random_rows(rng, m, n)
    a, b, to, total, amax = memory.put(x), memory.put(y), memory.floats(m, n), memory.row(m=m), memory.row(m=m)
    memory.run(multiply(m, n, a, b, to, amax_to=amax))
    assert (memory.get(to, m, n) == x * y).all()
    assert (memory.get(amax, m) == np.abs(x * y).max(axis=1)).all()
    memory.run(add(m, n, a, b, a, sum_to=total, amax_to=amax))
    assert (memory.get(a, m, n) == x + y).all()
    within(memory.get(total, m), (x + y).sum(axis=1, dtype=np.float64), depth(config, n) * 1.1 * U * np.abs(x + y).sum(axis=1))
    assert (memory.get(amax, m) == np.abs(x + y).max(axis=1)).all()


@each_config
@pytest.mark.parametrize("m", [1, 2, 3, 8, 13])
def test_sentence_embedding(config, m, rng):
    memory = VectorMemory(config)
    n = 37
    x = random_rows(rng, m, n)
    place, squares = memory.put(x), memory.row(m=1)
    memory.run([*mean_rows(m, n, place.addr, place.stride), *unit_length(1, n, place, place, squares=squares)])
    mean = exact(x)[0].mean(axis=0, keepdims=True)
    moved = (math.ceil(math.log2(m)) + 1) * U * np.abs(x).mean(axis=0, keepdims=True)
    length = np.linalg.norm(mean)
    bound = moved / length + np.abs(mean) / length * (np.linalg.norm(moved) / length + (depth(config, n) / 2 + 6) * U)
    within(memory.get(place, 1, n), mean / length, 1.1 * bound)


@each_config
def test_a_row_of_zeros_has_no_direction(config):
    memory = VectorMemory(config)
    place, squares = memory.put(np.zeros((2, 5), np.float32)), memory.row(m=2)
    memory.run(unit_length(2, 5, place, place, squares=squares))
    assert (memory.get(place, 2, 5) == 0).all()
