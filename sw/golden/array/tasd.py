"""Golden model of `hw.array.tasd_unit`: blocks of activations as series of N:M terms, and the cycles that each takes."""

import numpy as np
import numpy.typing as npt

__all__ = ["block_cycles", "block_terms", "cut_to_pattern"]

Ints = npt.NDArray[np.int64]


def block_terms(block: npt.NDArray[np.int8], terms: tuple[tuple[int, int], ...]) -> list[list[list[tuple[int, int]]]]:
    """Return (place, value) of each term's values, term → its groups of M → by place, those that are zero left out.

    Greedy: each term has the N largest magnitudes left of every M, of equals the lowest place.
    """
    left = {place: int(value) for place, value in enumerate(block) if value}
    found = []
    for keep, of in terms:
        groups = []
        for low in range(0, len(block), of):
            inside = sorted((-abs(value), place) for place, value in left.items() if low <= place < low + of)
            chosen = sorted(place for _, place in inside[:keep])
            groups.append([(place, left.pop(place)) for place in chosen])
        found.append(groups)
    return found


def block_cycles(block: npt.NDArray[np.int8], terms: tuple[tuple[int, int], ...]) -> int:
    """Return the cycles of extraction: a value each, at least one."""
    return max(1, sum(len(group) for groups in block_terms(block, terms) for group in groups))


def cut_to_pattern(x: npt.NDArray[np.int8], keep: int, of: int) -> npt.NDArray[np.int8]:
    """Return int8 (…, K) with the `keep` largest magnitudes of every `of`, of equals the first, and zeros for the others."""
    blocks = x.reshape(*x.shape[:-1], -1, of)
    order = np.argsort(-np.abs(blocks.astype(np.int64)), axis=-1, kind="stable")
    kept = np.zeros(blocks.shape, np.bool_)
    np.put_along_axis(kept, order[..., :keep], True, axis=-1)
    return np.where(kept, blocks, np.int8(0)).reshape(x.shape)
