"""Query and key matrices of models that rotate neighbours (2i, 2i + 1) → the order of Llama, pairs (i, i + E/2)."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["to_half_split"]


def to_half_split(weight: npt.NDArray[Any], head_dim: int) -> npt.NDArray[Any]:
    """Return a q or k matrix with the outputs of each head in half-split order: first the even ones, then the odd ones.

    The vector unit has no exchange of neighbouring lanes. It needs none: a score q·k is the same whatever the order of a head's
    columns, so long as queries and keys have the same, and neighbours of one order are half a head apart in the other.
    Values and the output matrix stay as they are.

    Parameters
    ----------
    weight : ndarray
        (heads · head_dim, inputs), or (heads · head_dim,) of a bias.
    head_dim : int
        E, even.

    Raises
    ------
    ValueError
        If the outputs are no whole heads, or head_dim is odd.
    """
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim must be positive and even, for its columns are rotated in pairs, not {head_dim}")
    if len(weight) % head_dim:
        raise ValueError(f"the outputs of a query or key matrix must be a multiple of head_dim of {head_dim}, not {len(weight)}")
    pairs = weight.reshape(-1, head_dim // 2, 2, *weight.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)
