"""Choosing tokens: the greatest, and draws whose frequencies are those of the softmax."""

import re

import numpy as np
import pytest

from sw.sampling import Sampler

LOGITS = np.array([1.0, 3.0, -2.0, 3.0, 2.5], np.float32)


def frequencies(sampler, count=20_000):
    return np.bincount([sampler.choose(LOGITS) for _ in range(count)], minlength=LOGITS.size) / count


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def test_the_greatest_of_equal_ones_the_first():
    assert Sampler().choose(LOGITS) == 1
    assert Sampler().choose(np.array([-np.inf, -5, np.inf], np.float32)) == 2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature):
    expected = softmax(LOGITS.astype(np.float64) / temperature)
    # four standard deviations of a share of 20 000 draws
    assert (np.abs(frequencies(Sampler(temperature)) - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_draws_among_the_greatest_only():
    expected = np.zeros(LOGITS.size)
    expected[[1, 3, 4]] = softmax(LOGITS[[1, 3, 4]].astype(np.float64))
    found = frequencies(Sampler(1.0, top_k=3))
    assert (found[[0, 2]] == 0).all()
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / 20_000)
    assert frequencies(Sampler(5.0, top_k=1), 50)[1] == 1
    assert Sampler(1.0, top_k=99).choose(LOGITS) in range(LOGITS.size)


def test_the_seed_decides():
    def draws(seed):
        sampler = Sampler(2.0, seed=seed)
        return [sampler.choose(LOGITS) for _ in range(64)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_great_logits_and_small_temperatures_overflow_nothing():
    with np.errstate(all="raise", under="ignore"):
        assert Sampler(1e-6).choose(np.array([1e30, 3e38, -3e38], np.float32)) == 1
    assert Sampler(1.0).choose(np.array([-np.inf, 0, -np.inf], np.float32)) == 1


@pytest.mark.parametrize(("arguments", "said"), [
    ({"temperature": -1.0}, "temperature must be 0 or a positive number, not -1.0"),
    ({"temperature": float("inf")}, "temperature must be 0 or a positive number, not inf"),
    ({"temperature": float("nan")}, "temperature must be 0 or a positive number, not nan"),
    ({"temperature": 1.0, "top_k": 0}, "top_k must be at least 1, not 0"),
    ({"top_k": 3}, "top_k must go with a temperature above 0, not 3 with 0, which takes the greatest logit"),
    ({"seed": -1}, "seed must be 0 or a positive integer, not -1"),
])
def test_what_cannot_be(arguments, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Sampler(**arguments)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers(temperature):
    with pytest.raises(ValueError, match="logits must be numbers, but 2 of 3 are NaN"):
        Sampler(temperature).choose(np.array([np.nan, 1, np.nan], np.float32))
