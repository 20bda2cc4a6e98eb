"""Curves as data: piecewise polynomials with integer coefficients for 2^x, 1/x, 1/√x and the tails of two distributions.

The argument is a fixed-point fraction x in [0, 1). Its top bits choose a segment, the others are the offset t inside it. With the
coefficients c₀ … c_d of the segment, the value is Horner's rule in integers, each product cut off (towards minus infinity):

    v = c_d;  v = (v·t >> offset_bits) + c_i  for i = d − 1 … 0;  the function is v · 2^−fraction_bits

Each coefficient is the best for what the rounded higher ones leave over: a least-squares fit at Chebyshev nodes, and for c₀ the
middle of what is left at points of the segment, evaluated just so. All in decimal arithmetic of 40 digits, so that every machine
makes the same table.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import NamedTuple

from hw.errors import ConfigError

__all__ = ["CURVES", "Curve", "curve"]

_DIGITS = 40
_SAMPLES = 16               # steps through a segment in which the constant is centred
_GUARD = 4                  # bits of a value below the last place of a result
_PI = Decimal("3.14159265358979323846264338327950288419716939937511")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A piecewise polynomial.

    Attributes
    ----------
    name : str
    index_bits, offset_bits : int
        Of the argument: which segment, and where in it. "rsqrt" and "distribution" have one more index bit, on top. "rsqrt": x
        stands for 1 + x with 0 there, for 2 + 2x with 1. "distribution": with 0 the value is what the logistic distribution has
        beyond 16x, 1 / (1 + e^16x); with 1 what the normal distribution has beyond 8x.
    fraction_bits : int
        A value is v · 2^−fraction_bits; 1/4 ≤ v · 2^−fraction_bits < 4, but that "distribution" goes from 1/2, exactly, to 0, or
        to a few units below it.
    coefficients : tuple of tuples of int
        Of each segment c₀ … c_d.
    """

    name: str
    index_bits: int
    offset_bits: int
    fraction_bits: int
    coefficients: tuple[tuple[int, ...], ...]

    @property
    def degree(self) -> int:
        """Of the polynomials."""
        return len(self.coefficients[0]) - 1

    @property
    def value_bits(self) -> int:
        """Bits of a value, unsigned; the top one is the sign of "distribution"."""
        return self.fraction_bits + 2

    @property
    def table_bits(self) -> int:
        """Bits of all coefficients, each column as wide as its widest."""
        return len(self.coefficients) * sum(self.coefficient_bits(order) for order in range(self.degree + 1))

    def coefficient_bits(self, order: int) -> int:
        """Return the bits of two's complement that hold every c_order."""
        return 1 + max((c if c >= 0 else ~c).bit_length() for c in (segment[order] for segment in self.coefficients))

    def sum_bits(self, order: int) -> int:
        """Return the bits of two's complement that hold every sum of Horner's rule that ends in + c_order."""
        widest = 0
        for segment in self.coefficients:
            low = high = segment[-1]
            for coefficient in reversed(segment[order:-1]):
                low, high = min(low, 0) + coefficient, max(high, 0) + coefficient
            widest = max(widest, *(1 + (bound if bound >= 0 else ~bound).bit_length() for bound in (low, high)))
        return widest

    def value(self, index: int, offset: int) -> int:
        """Return the value in segment `index` at `offset`."""
        return _horner(self.coefficients[index], offset, self.offset_bits)


def _exp2(_: int, x: Decimal) -> Decimal:
    return (x * Decimal(2).ln()).exp()


def _reciprocal(_: int, x: Decimal) -> Decimal:
    return 1 / (1 + x)


def _rsqrt(odd: int, x: Decimal) -> Decimal:
    return 1 / ((1 + odd) * (1 + x)).sqrt()


def _distribution(normal: int, x: Decimal) -> Decimal:
    if not normal:
        return 1 / (1 + (16 * x).exp())
    # Φ(z) = 1/2 + φ(z) · (z + z³/3 + z⁵/(3·5) + …); all terms have one sign.
    z = 8 * x
    total = term = z
    divisor = 1
    while term > total.scaleb(-_DIGITS):
        divisor += 2
        term *= z * z / divisor
        total += term
    return Decimal("0.5") - (-z * z / 2).exp() / (2 * _PI).sqrt() * total


class _Kind(NamedTuple):
    """A function of (branch, x), and how it is made.

    Attributes
    ----------
    function : callable
    branches : int
    extra_bits, coarse_extra_bits : int
        Of x beyond those of a mantissa; the second of fewer than 12.
    halved : bool
        Values are 1 or less.
    degree : int
        By default, from 12 mantissa bits on.
    more_segments : int
        Doublings of the number of segments by default.
    pinned : bool
        The value at x = 0 is exact.
    """

    function: Callable[[int, Decimal], Decimal]
    branches: int = 1
    extra_bits: int = 0
    coarse_extra_bits: int = 0
    halved: bool = True
    degree: int = 2
    more_segments: int = 0
    pinned: bool = False


CURVES = {
    "exp2": _Kind(_exp2, extra_bits=2, coarse_extra_bits=2, halved=False),
    "reciprocal": _Kind(_reciprocal),
    "rsqrt": _Kind(_rsqrt, branches=2),
    "distribution": _Kind(_distribution, branches=2, extra_bits=1, coarse_extra_bits=3, degree=3, more_segments=1, pinned=True),
}
"""What a curve can be of."""


@functools.cache
def curve(name: str, mantissa_bits: int, *, degree: int | None = None, segments_log2: int | None = None) -> Curve:
    """Return the curve for results of `mantissa_bits` (2 to 24) fraction bits.

    Parameters
    ----------
    name : str
        A key of `CURVES`.
    mantissa_bits : int
        The argument has as many bits, two more for "exp2", for "distribution" one more, or three below 12.
    degree : int or None
        1 to 3. None: what keeps the error of a result below one unit in the last place, 2 from 12 mantissa bits on, else 1; of
        "distribution" 3, for the error that `hw.arith.distribution` states, or 1.
    segments_log2 : int or None
        The argument's bits that choose the segment, 1 to 10 and fewer than it has. None: as many as that error needs.

    Raises
    ------
    ConfigError
        If something is out of its range.
    """
    if name not in CURVES:
        raise ConfigError(f"a curve must be one of {', '.join(CURVES)}, not {name!r}")
    if not 2 <= mantissa_bits <= 24:
        raise ConfigError(f"mantissa_bits of a curve must be between 2 and 24, not {mantissa_bits!r}")
    kind = CURVES[name]
    fine = mantissa_bits >= 12
    argument_bits = mantissa_bits + (kind.extra_bits if fine else kind.coarse_extra_bits)
    if degree is None:
        degree = kind.degree if fine else 1
    if not 1 <= degree <= 3:
        raise ConfigError(f"degree of a curve must be between 1 and 3, not {degree!r}")
    most = min(10, argument_bits - 1)
    if segments_log2 is None:
        enough = {1: (mantissa_bits + 2) // 2, 2: -(-(mantissa_bits - 2) // 3), 3: mantissa_bits // 4}[degree]
        segments_log2 = min(most, enough + kind.more_segments)
    if not 1 <= segments_log2 <= most:
        raise ConfigError(f"segments_log2 of a curve must be between 1 and {most}, not {segments_log2!r}")
    offset_bits, fraction_bits = argument_bits - segments_log2, mantissa_bits + _GUARD + kind.halved
    with localcontext(prec=_DIGITS, rounding=ROUND_HALF_EVEN):
        segments = tuple(_segment(functools.partial(kind.function, branch), Decimal(index), Decimal(1 << segments_log2), degree,
                                  offset_bits, fraction_bits, kind.pinned and index == 0)
                         for branch in range(kind.branches) for index in range(1 << segments_log2))
    return Curve(name=name, index_bits=segments_log2 + kind.branches - 1, offset_bits=offset_bits, fraction_bits=fraction_bits,
                 coefficients=segments)


def _segment(function: Callable[[Decimal], Decimal], index: Decimal, segments: Decimal, degree: int, offset_bits: int,
             fraction_bits: int, pinned: bool) -> tuple[int, ...]:
    """Return c₀ … c_degree of one segment, with `pinned` exact at its beginning."""
    def target(u: Decimal) -> Decimal:
        """Return the function at u in [0, 1] of the segment, in units of the value."""
        return function((index + u) / segments) * (1 << fraction_bits)

    nodes = _nodes(degree)
    left = [target(u) for u in nodes]
    coefficients: list[int] = []                # the highest first
    for order in range(degree, 0, -1):
        half = Decimal("0.5") if coefficients else Decimal(0)   # what cutting off the product above loses on average
        coefficients.append(_nearest(_leading(order, nodes, left) + half))
        left = [rest - (coefficients[-1] - half) * u**order for u, rest in zip(nodes, left, strict=True)]
    if pinned:
        return _nearest(target(Decimal(0))), *reversed(coefficients)
    last = (1 << offset_bits) - 1
    offsets = sorted({last * step // _SAMPLES for step in range(_SAMPLES + 1)})
    left = [target(Decimal(t) / (1 << offset_bits)) - _horner((0, *reversed(coefficients)), t, offset_bits) for t in offsets]
    return _nearest((max(left) + min(left)) / 2), *reversed(coefficients)


def _horner(coefficients: tuple[int, ...], offset: int, offset_bits: int) -> int:
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = (value * offset >> offset_bits) + coefficient
    return value


def _nodes(degree: int) -> list[Decimal]:
    """Return the Chebyshev nodes of a polynomial of that degree on [0, 1]."""
    cosines = {1: [Decimal(2).sqrt() / 2], 2: [Decimal(3).sqrt() / 2, Decimal(0)],
               3: [(2 + Decimal(2).sqrt()).sqrt() / 2, (2 - Decimal(2).sqrt()).sqrt() / 2]}[degree]
    return sorted({(1 + sign * cosine) / 2 for cosine in cosines for sign in (1, -1)})


def _leading(order: int, nodes: list[Decimal], values: list[Decimal]) -> Decimal:
    """Return the leading coefficient of the least-squares polynomial of that order, by discrete Chebyshev orthogonality."""
    total = Decimal(0)
    for u, value in zip(nodes, values, strict=True):
        before, chebyshev = Decimal(1), 2 * u - 1
        for _ in range(order - 1):
            before, chebyshev = chebyshev, 2 * (2 * u - 1) * chebyshev - before
        total += value * chebyshev
    return 2 * total / len(nodes) * (1 << (2 * order - 1))


def _nearest(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))
