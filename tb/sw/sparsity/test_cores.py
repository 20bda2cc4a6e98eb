"""Laws of sparse cores against plain loops, a cycle at a time, and against the figures that were published."""

import itertools
import math

import numpy as np
import pytest

from sw.sparsity.cores import (
    dense_cycles,
    dstc_cycles,
    dstc_relative,
    eyeriss_pe_cycles,
    flexible_cycles,
    hss_cycles,
    scnn_pe_cycles,
    uniform_pe_cycles,
)

# (outputs, K, tokens) → cycles of dense, 4:4→2:4, 4:6→2:4, 4:8→2:4 on 1024 MACs.
WORKED = {(512, 1024, 256): (131072, 65536, 45056, 32768), (128, 1152, 1024): (147456, 73728, 49152, 36864)}


def masks(*shapes, density=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random(shape) < density for shape in shapes]


def test_eyeriss_pe_a_pair_at_a_time():
    weights, activations = masks((6, 5), (7, 5))
    pairs = sum(1 for output, token, channel in itertools.product(range(6), range(7), range(5))
                if weights[output, channel] and activations[token, channel])
    assert eyeriss_pe_cycles(weights, activations) == pairs > 0
    assert eyeriss_pe_cycles(np.ones((64, 64), bool), np.ones((1024, 64), bool)) == 64 * 64 * 1024


def test_independent_zeros_are_what_random_masks_take():
    weights, activations = masks((256, 256), (64, 256), density=0.55, seed=1)
    exact = eyeriss_pe_cycles(weights, activations)
    assert uniform_pe_cycles(256, 256, 64, weights.mean(), activations.mean()) == pytest.approx(exact, rel=0.01)


def test_scnn_pe_a_channel_at_a_time():
    weights, activations = masks((9, 4), (6, 4), seed=2)
    cycles = 0
    for channel in range(4):
        cycles += math.ceil(weights[:, channel].sum() / 4) * math.ceil(activations[:, channel].sum() / 4)
    assert scnn_pe_cycles(weights, activations) == cycles
    assert scnn_pe_cycles(weights, activations, width=1) == eyeriss_pe_cycles(weights, activations)


@pytest.mark.parametrize("shape", [(32, 5, 32), (64, 3, 96), (40, 7, 33), (1, 1, 1)])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_dstc_a_tile_at_a_time(shape, density):
    rows, k, columns = shape
    left, right = masks((rows, k), (k, columns), density=density, seed=3)
    cycles = 0
    for row, column, step in itertools.product(range(0, rows, 32), range(0, columns, 32), range(k)):
        cycles += (math.ceil(left[row:row + 32, step].sum() / 8) * math.ceil(right[step, column:column + 32].sum() / 16))
    assert dstc_cycles(left, right) == cycles
    if shape == (32, 5, 32) and density == 1:
        assert cycles == 5 * 4 * 2


def test_dstc_at_random_takes_what_is_expected():
    left, right = masks((256, 512), (512, 256), density=0.5, seed=4)
    assert dstc_cycles(left, right) / (8 * 8 * 512 * 8) == pytest.approx(dstc_relative(0.5, 0.5), rel=0.01)


@pytest.mark.parametrize(("left", "right", "relative"), [
    (1, 1, 1.0), (.9, 1, .997), (.7, 1, .799), (.5, 1, .607), (.3, 1, .415),
    (1, .4, .546), (.9, .4, .544), (.7, .4, .437), (.5, .4, .331), (.3, .4, .227)])
def test_dstc_figures_of_the_specification(left, right, relative):
    assert dstc_relative(left, right) == pytest.approx(relative, abs=6e-4)


@pytest.mark.parametrize("shape", WORKED)
def test_worked_examples(shape):
    n, k, m = shape
    found = (dense_cycles(m, n, k), *(hss_cycles(m, n, k, outer, 4) for outer in (4, 6, 8)))
    assert found == WORKED[shape]
    assert hss_cycles(m, n, k, 4, 2) == dense_cycles(m, n, k)


@pytest.mark.parametrize("outer", range(4, 9))
@pytest.mark.parametrize("inner", range(2, 5))
def test_speedup_of_every_mode_is_exact(outer, inner):
    m, n, k = 100, 192, 2 * outer * inner * 8 * 3
    assert dense_cycles(m, n, k) * 8 == hss_cycles(m, n, k, outer, inner) * outer * inner
    assert hss_cycles(m, n, k + 1, outer, inner) == hss_cycles(m, n, k, outer, inner) * (k // (2 * outer * inner) + 1) // (
        k // (2 * outer * inner))


@pytest.mark.parametrize(("keep", "of", "speedup"), [(2, 4, 2), (2, 6, 3), (2, 8, 4), (1, 4, 4), (4, 4, 1)])
def test_structured_tensor_cores(keep, of, speedup):
    assert dense_cycles(512, 1024, 3072) == speedup * flexible_cycles(512, 1024, 3072, keep, of)
    assert flexible_cycles(10, 65, 33, keep, of) == 10 * 2 * math.ceil(33 / (16 // keep * of))


@pytest.mark.parametrize(("call", "text"), [
    (lambda: flexible_cycles(1, 1, 1, 5, 4), r"the pattern must keep between 1 and its group, and at most 16 \(lanes\), not 5:4"),
    (lambda: flexible_cycles(1, 1, 1, 17, 32), r"the pattern must keep .*, not 17:32"),
    (lambda: hss_cycles(1, 1, 1, 3, 2), r"outer_of must be at least 4 and inner_of at least 2, not 3 and 2"),
    (lambda: dstc_cycles(np.ones((2, 3), bool), np.ones((4, 2), bool)), r"both operands must have the same K, not 3 and 4"),
    (lambda: eyeriss_pe_cycles(np.ones((2, 3), bool), np.ones((4, 2), bool)),
     r"both operands must have the same channels, not 3 and 2"),
])
def test_what_is_impossible(call, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        call()
