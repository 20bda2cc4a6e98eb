"""A table of levels fitted to values: weighted k-means in one dimension."""

import numpy as np
import numpy.typing as npt

from sw.formats.codec import FormatError

__all__ = ["fit_table"]

_SAMPLE = 1 << 18                                           # more values than that hardly move 256 levels
_STRIDE = 2_654_435_761                                     # a prime: its multiples modulo a smaller size hit every value once
_STEPS = 2000                                               # Lloyd steps at most; a step costs microseconds


def fit_table(values: npt.ArrayLike, bits: int, weights: npt.ArrayLike | None = None) -> npt.NDArray[np.float16]:
    """Return 2^bits levels, increasing, (2^bits,) float16, that make the weighted squared error of `values` small.

    Lloyd's algorithm from quantiles on, on sorted values with prefix sums, until nothing moves. A level that no value is nearest
    to goes to the end of the cluster that errs most, if one has different values. The result depends on nothing but the input: of
    more than 262144 values, a fixed selection is taken that is spread evenly over them.

    Parameters
    ----------
    values : array of float
        Any shape; finite, normalized to about ±1.
    bits : int
        1 to 8.
    weights : array of float or None
        Of the shape of `values`, 0 or more: how much the error of each matters. KVQuant takes the diagonal of the Fisher
        information: squared gradients of the loss on calibration data.

    Raises
    ------
    FormatError
        If there are no values, a value is not finite, or weights do not fit.
    """
    x = np.asarray(values, np.float64).ravel()
    w = np.ones(x.size) if weights is None else np.asarray(weights, np.float64).ravel()
    if x.size == 0:
        raise FormatError("a table must be fitted to at least one value, not to none")
    if not np.isfinite(x).all():
        raise FormatError(f"values must be finite, not {x[~np.isfinite(x)][0]}")
    if w.size != x.size:
        raise FormatError(f"weights must be as many as values, {x.size}, not {w.size}")
    if not np.isfinite(w).all() or w.min() < 0 or w.max() == 0:
        raise FormatError("weights must be finite, 0 or more, and not all 0")
    if x.size > _SAMPLE:
        chosen = np.arange(_SAMPLE) * _STRIDE % x.size
        if w[chosen].max() > 0:
            x, w = x[chosen], w[chosen]
    x, w = x[w > 0], w[w > 0] / w.max()
    order = np.argsort(x, kind="stable")
    return _lloyd(x[order], w[order], 1 << bits).astype(np.float16)


def _lloyd(x: npt.NDArray[np.float64], w: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return `count` levels fitted to sorted values `x` of weights `w`."""
    mass, moment, energy = (np.concatenate(([0.0], np.cumsum(sums))) for sums in (w, w * x, w * x * x))
    levels = x[np.searchsorted(mass[1:], (np.arange(count) + 0.5) / count * mass[-1]).clip(max=x.size - 1)]
    for _ in range(_STEPS):
        edges = np.concatenate(([0], np.searchsorted(x, (levels[1:] + levels[:-1]) / 2, side="right"), [x.size]))
        weight = np.diff(mass[edges])
        filled = weight > 0
        moved = levels.copy()
        np.divide(np.diff(moment[edges]), weight, out=moved, where=filled)
        if not filled.all():
            first, last = x[edges[:-1].clip(max=x.size - 1)], x[(edges[1:] - 1).clip(min=0)]
            error = np.diff(energy[edges]) - moved * np.diff(moment[edges])
            error[~filled | (first == last)] = -1.0
            worst = int(error.argmax())
            if error[worst] > 0:
                ends = first[worst], last[worst]
                moved[int(np.argmin(filled))] = ends[0] if moved[worst] - ends[0] > ends[1] - moved[worst] else ends[1]
        moved.sort()
        if np.array_equal(moved, levels):
            break
        levels = moved
    return levels
