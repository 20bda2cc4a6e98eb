"""The random order of a campaign: complete, the same from any place, without a pattern."""

import numpy as np
import pytest

from flows.fault.campaign.permutation import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000, 340_368])
def test_every_number_once(size):
    assert np.array_equal(np.sort(Permutation(size, 7)(np.arange(size))), np.arange(size))


def test_any_place_alone():
    order = Permutation(1000, 3)
    whole = order(np.arange(1000))
    assert [int(order([place])[0]) for place in (0, 17, 999)] == whole[[0, 17, 999]].tolist()
    assert np.array_equal(Permutation(1000, 3)(np.arange(1000)), whole)


def test_seeds_and_parts_differ():
    orders = [tuple(Permutation(1000, seed, part)(np.arange(1000)).tolist()) for seed, part in ((0, 0), (1, 0), (0, 1))]
    assert len(set(orders)) == 3


@pytest.mark.parametrize("size", [100, 340_368, 10**13])
def test_beginnings_are_spread_evenly(size):
    """χ² of the first draws over ten equal parts: nine degrees of freedom, 33.7 is exceeded once in 10⁴."""
    draws = min(20_000, size // 4)
    places = Permutation(size, 11)(np.arange(draws)).astype(float) / size
    counts = np.bincount((places * 10).astype(int), minlength=10)
    assert ((counts - draws / 10) ** 2 / (draws / 10)).sum() < 33.7
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 5 / np.sqrt(draws)


@pytest.mark.parametrize("size", [0, 1 << 62])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match=rf"^size must be between 1 and 2\^62, not {size}$"):
        Permutation(size, 0)
