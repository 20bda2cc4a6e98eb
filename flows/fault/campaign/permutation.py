"""A random order of the numbers below N in which any place can be asked for alone."""

import numpy as np
import numpy.typing as npt

__all__ = ["Permutation"]

_ROUNDS = 4
_MIX = tuple(np.uint64(value) for value in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFTS = tuple(np.uint64(value) for value in (30, 27, 31))


class Permutation:
    """A keyed permutation of 0 … size − 1: sampling without replacement, with the i-th draw a function of (seed, part, i).

    A balanced Feistel network of four rounds (Luby and Rackoff, How to construct pseudorandom permutations, SIAM J. Comput. 1988)
    over the least even number of bits that holds `size`; values beyond `size` are sent through again (cycle walking; Black and
    Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002), fewer than three times on average. Its keys come from Philox.

    Parameters
    ----------
    size : int
        At least 1, below 2⁶².
    seed, part : int
        Non-negative; parts of one seed have orders of their own.
    """

    def __init__(self, size: int, seed: int, part: int = 0):
        if not 1 <= size < 1 << 62:
            raise ValueError(f"size must be between 1 and 2^62, not {size!r}")
        self.size = size
        half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._half, self._mask = np.uint64(half), np.uint64((1 << half) - 1)
        self._keys = np.random.Philox(key=[seed, part]).random_raw(_ROUNDS)

    def __call__(self, places: npt.ArrayLike) -> npt.NDArray[np.uint64]:
        """Return what stands at `places`, each below `size`."""
        values = np.array(places, dtype=np.uint64)
        left = np.ones(values.shape, dtype=bool)
        while left.any():
            values[left] = self._network(values[left])
            left = values >= self.size
        return values

    def _network(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        high, low = values >> self._half, values & self._mask
        for key in self._keys:
            mixed = low + key
            for shift, factor in zip(_SHIFTS, _MIX, strict=False):
                mixed = (mixed ^ (mixed >> shift)) * factor
            high, low = low, high ^ ((mixed ^ (mixed >> _SHIFTS[2])) & self._mask)
        result: npt.NDArray[np.uint64] = high << self._half | low
        return result
