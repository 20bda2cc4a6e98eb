"""How far float32 passes may be from float64.

U is half a unit in the last place of 1, the relative error of a float32 operation; functions err by less than 2·U of their value
(sigmoid and Φ by an absolute error instead): docs/arithmetic.md. Bounds count the operations between input and result.
"""

import numpy as np

__all__ = ["FUNCTION", "U", "codes_within", "exact", "random_rows", "within"]

U = 2.0**-24
FUNCTION = 2 * U


def random_rows(rng, m, n, kind="plain"):
    """Return rows of quite different magnitudes; one of zeros, or near the ends of float32."""
    x = rng.standard_normal((m, n)) * 10.0**rng.uniform(-2, 2, (m, 1))
    x *= {"large": 1e15, "small": 1e-15}.get(kind, 1.0)
    if kind == "zeros":
        x[rng.integers(m)] = 0
    return x.astype(np.float32)


def exact(*arrays):
    """Return arrays in float64."""
    return [np.asarray(array, np.float64) for array in arrays]


def within(found, expected, bound):
    """Check every element."""
    error = np.abs(found.astype(np.float64) - expected)
    bound = np.broadcast_to(bound, error.shape)
    assert np.isfinite(error).all()
    worst = np.unravel_index(np.argmax(error - bound), error.shape)
    assert (error <= bound).all(), f"{found[worst]} at {worst}, not {expected[worst]}: {error[worst]:.3g} > {bound[worst]:.3g}"


def codes_within(codes, units, doubt):
    """Check int8 codes of values in units of the scale, which are known but for `doubt`."""
    assert codes.dtype == np.int8
    within(codes, np.clip(units, -128, 127), 0.5 + doubt)
