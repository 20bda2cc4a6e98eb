"""Golden models of `hw.pe.bitvert`: what a bit column selects, and the weights that stored columns and a constant stand for."""

import numpy as np
import numpy.typing as npt

__all__ = ["group_weights", "schedule"]

Ints = npt.NDArray[np.int64]


def schedule(column: int) -> tuple[list[tuple[int, bool]], bool]:
    """Return which of eight activations a bit column adds: (activation, valid) of each multiplexer, and whether it is inverted.

    The rarer ones of zeros and ones are added, ones where there are four of each. Multiplexer j may add activation j … j + 4;
    each takes the first in its reach that those before it have not taken.
    """
    ones = {place for place in range(8) if column >> place & 1}
    invert = len(ones) > 4
    wanted = set(range(8)) - ones if invert else ones
    chosen = []
    for j in range(4):
        reach = sorted(wanted & set(range(j, j + 5)))
        chosen.append((reach[0] if reach else j, bool(reach)))
        wanted -= set(reach[:1])
    assert not wanted
    return chosen, invert


def group_weights(bits: npt.NDArray[np.uint8], redundant: Ints, constant: Ints, *, subtract: bool) -> Ints:
    """Return the weights of groups.

    Parameters
    ----------
    bits : (…, columns) 0 or 1
        Stored bits of each weight, its sign first.
    redundant : (…)
        Columns below the sign that repeat it and are not stored: the sign counts −2^(7 − redundant). With more than were pruned,
        which no format has, place values go on at 2^7 below 2^0, as the hardware's counter does.
    constant : (…)
        Six bits, two's complement; subtracted where `subtract`, else added.

    Returns
    -------
    (…) int64
    """
    places = 7 - redundant[..., None] - np.arange(bits.shape[-1]) & 7
    signs = np.where(np.arange(bits.shape[-1]) == 0, -1, 1)
    stored = (bits.astype(np.int64) * signs << places).sum(axis=-1)
    value = np.where(constant >= 32, constant - 64, constant)
    return stored - value if subtract else stored + value
