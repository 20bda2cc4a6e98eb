"""Neighbours rotated in the model's order, and halves in ours, give the same scores."""

import numpy as np
import pytest

from sw.golden.llama import rotate
from sw.models.rope_order import to_half_split


def rotate_neighbours(x, cos, sin):
    """Return (T, E) with the pairs (2i, 2i + 1) of each token turned by its angles, as the RoFormer paper has it."""
    turned = (x[:, 0::2] + 1j * x[:, 1::2]) * (cos + 1j * sin)
    return np.stack((turned.real, turned.imag), axis=-1).reshape(x.shape)


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 2), (3, 10), (4, 32)])
def test_scores_are_the_same(heads, head_dim):
    rng = np.random.default_rng(head_dim)
    x, tokens = rng.standard_normal((5, 12)), np.arange(5)
    q, k = rng.standard_normal((2, heads * head_dim, 12))
    bias = rng.standard_normal(heads * head_dim)
    angle = tokens[:, None] * 100.0 ** (-np.arange(head_dim // 2) / (head_dim // 2))
    cos, sin = np.cos(angle), np.sin(angle)
    for h in range(heads):
        part = slice(h * head_dim, (h + 1) * head_dim)
        theirs = [rotate_neighbours((x @ w.T + bias)[:, part], cos, sin) for w in (q, k)]
        ours = [rotate((x @ to_half_split(w, head_dim).T + to_half_split(bias, head_dim))[:, part], cos, sin) for w in (q, k)]
        np.testing.assert_allclose(ours[0] @ ours[1].T, theirs[0] @ theirs[1].T, atol=1e-10)
        if head_dim > 2:
            assert not np.allclose(ours[0], theirs[0])


def test_type_and_memory_of_the_result():
    weight = np.arange(16, dtype=np.float16).reshape(8, 2)
    result = to_half_split(weight, 4)
    assert result.dtype == np.float16
    assert result.flags.c_contiguous
    assert result[:, 0].tolist() == [0, 4, 2, 6, 8, 12, 10, 14]


def test_what_is_no_whole_heads_is_refused():
    with pytest.raises(ValueError, match=r"^head_dim must be positive and even, for its columns are rotated in pairs, not 3$"):
        to_half_split(np.zeros((6, 2)), 3)
    with pytest.raises(ValueError, match=r"^the outputs of a query or key matrix must be a multiple of head_dim of 4, not 6$"):
        to_half_split(np.zeros((6, 2)), 4)
