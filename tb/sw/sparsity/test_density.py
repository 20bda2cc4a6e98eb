"""Models of how many non-zeros a tile holds: closed forms, counts by hand, and drawn data."""

import itertools
import math

import numpy as np
import pytest

from sw.sparsity.density import banded, binomial, expected, expected_chunks, of_data, structured, uniform


@pytest.mark.parametrize(("size", "nonzero", "tile"), [(8, 3, 4), (7, 7, 3), (6, 0, 2), (9, 4, 9), (5, 2, 0)])
def test_uniform_counts_every_choice(size, nonzero, tile):
    counts = np.zeros(tile + 1)
    for chosen in itertools.combinations(range(size), nonzero):
        counts[sum(place < tile for place in chosen)] += 1
    assert uniform(size, nonzero, tile) == pytest.approx(counts / counts.sum(), abs=1e-15)


@pytest.mark.parametrize(("tile", "nonzero", "empty"), [(8, 1024, .100), (16, 204, .441), (4, 2048, .062)])
def test_empty_tiles_of_the_specification(tile, nonzero, empty):
    found = uniform(4096, nonzero, tile)
    assert found[0] == pytest.approx(math.comb(4096 - nonzero, tile) / math.comb(4096, tile))
    assert found[0] == pytest.approx(empty, abs=5e-4)


def test_distributions_add_up_and_have_their_mean():
    for found, mean in ((uniform(4096, 1000, 32), 32 * 1000 / 4096), (binomial(32, 0.3), 9.6), (structured(8, 3), 3),
                        (binomial(5, 0), 0), (binomial(5, 1), 5)):
        assert found.sum() == pytest.approx(1)
        assert expected(found) == pytest.approx(mean)


def test_binomial_is_the_limit_of_uniform():
    assert uniform(1 << 20, 3 << 18, 16) == pytest.approx(binomial(16, 0.75), abs=1e-4)


def test_chunks():
    assert expected_chunks(structured(32, 17), 16) == 2
    assert expected_chunks(structured(32, 16), 16) == 1
    assert expected_chunks(structured(32, 0), 16) == 0
    found = uniform(100, 30, 20)
    assert expected_chunks(found, 8) == pytest.approx(sum(p * math.ceil(k / 8) for k, p in enumerate(found)))
    assert expected_chunks(found, 1) == pytest.approx(expected(found))


def test_data_and_bands():
    mask = np.zeros((5, 9), bool)
    mask[0, 0] = mask[1, 3] = mask[3, 4] = mask[4, 8] = True        # the last lies in no whole tile
    assert of_data(mask, 2, 4).tolist() == [.5, .25, .25, 0, 0, 0, 0, 0, 0]
    assert banded(8, 8, 0, 2, 2).tolist() == [.75, 0, .25, 0, 0]
    wide = banded(8, 8, 1, 2, 2)
    # Of 16 tiles 4 lie on the diagonal, whole, and 6 beside it with one value each.
    assert wide.tolist() == [6 / 16, 6 / 16, 0, 0, 4 / 16]


def test_drawn_data_are_uniform():
    rng = np.random.default_rng(0)
    mask = rng.permutation(np.arange(512 * 512) < 100_000).reshape(512, 512)
    assert of_data(mask, 4, 4) == pytest.approx(uniform(mask.size, 100_000, 16), abs=0.01)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: structured(4, 5), r"nonzero must be between 0 and the tile's 4 values, not 5"),
    (lambda: uniform(8, 9, 2), r"nonzero and tile must be between 0 and the tensor's 8 values, not 9 and 2"),
    (lambda: uniform(8, 2, 9), r"nonzero and tile must be between 0 and the tensor's 8 values, not 2 and 9"),
    (lambda: binomial(4, 1.5), r"density must be between 0 and 1, not 1\.5"),
    (lambda: banded(4, 4, -1, 2, 2), r"half_width must not be negative, not -1"),
    (lambda: of_data(np.ones((3, 9), bool), 4, 2), r"a tile must fit the mask of 3×9, not 4×2"),
    (lambda: expected_chunks(structured(4, 2), 0), r"lanes must be at least 1, not 0"),
])
def test_what_is_impossible(call, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        call()
