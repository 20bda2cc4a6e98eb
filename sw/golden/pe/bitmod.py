"""Golden models of `hw.pe.bitmod`: terms of weights, sums of groups with their rounding, and how far those may be off."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hw.elements import ELEMENTS, Element, FloatFormat

__all__ = [
    "PRECISIONS", "Precision", "Term", "error_bound", "group_sums", "is_special", "product_sums", "terms", "values",
    "weight_value",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NOWHERE = -1000
_HALVINGS = np.append(np.ldexp(np.float32(1), -np.arange(31)), np.float32(0))    # what is shifted further is nothing: 14 bits
GUARD = 3       # bits that an aligned product keeps below the last place of the activation's significand


@dataclass(frozen=True, slots=True)
class Term:
    """(−1)^sign · man · 2^exp · 2^significance."""

    sign: int
    exp: int
    man: int
    significance: int

    @property
    def value(self) -> int:
        """What it is worth; of FP4 and FP3 in halves."""
        return (-1)**self.sign * self.man << self.exp + self.significance


@dataclass(frozen=True, slots=True)
class Precision:
    """Weights of one precision: the element of a code, and how many terms each weight has."""

    element: Element
    terms: int

    @property
    def is_float(self) -> bool:
        """Whether weights count in halves, and −0 means a special value."""
        return isinstance(self.element, FloatFormat)


PRECISIONS = {
    **{f"int{bits}": Precision(ELEMENTS[f"int{bits}"], -(-bits // 2)) for bits in (8, 6, 5, 4, 3)},
    "fp4": Precision(ELEMENTS["float4_e2m1fn"], 2),
    "fp3": Precision(ELEMENTS["float3_e2m0"], 2),
}


def is_special(precision: str, codes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which codes mean the special value."""
    kind = PRECISIONS[precision]
    return (np.asarray(codes) == 1 << kind.element.bits - 1) & kind.is_float


def weight_value(precision: str, code: int, special: float = 0.0) -> float:
    """Return what a code stands for, by the element's own table."""
    return special if is_special(precision, code) else PRECISIONS[precision].element.value(code)


def terms(precision: str, code: int, special: float = 0.0) -> list[Term]:
    """Return the terms of one weight in the order in which the hardware makes them.

    Integers: digit k is what the number loses of its upper part when it is rounded, ties upwards, to a multiple of 4^(k+1)
    rather than of 4^k. Floats: the largest power of two that is left in whole units, then in halves.

    Raises
    ------
    ValueError
        If two terms are not enough for a special value.
    """
    kind = PRECISIONS[precision]
    value = weight_value(precision, code, special)
    if kind.is_float:
        return _powers(value)
    rounded = [int(value) + (4**k >> 1) >> 2 * k for k in range(kind.terms)] + [0]
    return [_term(rounded[k] - 4 * rounded[k + 1], 2 * k) for k in reversed(range(kind.terms))]


def _term(digit: int, significance: int) -> Term:
    """Return a digit of 0, ±1, ±2 (floats: ±1, ±2, ±4, ±8) as a term."""
    return Term(int(digit < 0), max(0, abs(digit).bit_length() - 1), int(digit != 0), significance)


def _powers(value: float) -> list[Term]:
    halves, sign = round(abs(value) * 2), -1 if value < 0 else 1
    whole = 1 << (halves >> 1).bit_length() - 1 if halves > 1 else 0
    half = halves - 2 * whole
    if halves != abs(value) * 2 or half & half - 1 or max(whole, half) > 8:
        raise ValueError(f"a special value must be a sum of two powers of two from 0.5 to 8, not {value!r}")
    return [_term(sign * whole, 1), _term(sign * half, 0)]


def values(element: Element, words: npt.ArrayLike) -> Floats:
    """Return the values of activation words, NaN and infinities as zero: integers of any shape → float64."""
    table = np.nan_to_num(np.array(element.values), nan=0.0, posinf=0.0, neginf=0.0)
    found: Floats = table[np.asarray(words)]
    return found


def _split(element: FloatFormat, words: Ints) -> tuple[Ints, Ints, Ints]:
    """Return sign, stored exponent (at least 1) and significand of words, NaN and infinities as zero."""
    exponent = words >> element.mantissa_bits & element.exponent_max
    fraction = words & (1 << element.mantissa_bits) - 1
    significand = np.where(exponent > 0, fraction | 1 << element.mantissa_bits, fraction)
    significand[exponent == element.exponent_max] = 0
    return words >> element.bits - 1, np.maximum(exponent, 1), significand


def _term_fields(precision: str, codes: Ints, specials: Floats) -> Ints:
    """Return sign, exp and man of the terms of weights: codes (n, G), specials (n,) → (terms, 3, n, G)."""
    found = np.zeros((PRECISIONS[precision].terms, 3, *codes.shape), np.int64)
    for special in np.unique(specials):
        rows = specials == special
        found[:, :, rows] = np.moveaxis(_term_table(precision, float(special))[codes[rows]], (2, 3), (0, 1))
    return found


@lru_cache(maxsize=64)
def _term_table(precision: str, special: float) -> Ints:
    """Return sign, exp and man of the terms of every code: (codes, terms, 3)."""
    return np.array([[(term.sign, term.exp, term.man) for term in terms(precision, code, special)]
                     for code in range(1 << PRECISIONS[precision].element.bits)])


def group_sums(element: Element, words: Ints, precision: str, codes: Ints, specials: npt.ArrayLike = 0.0) -> tuple[Ints, Ints]:
    """Return mantissa and exponent of Σ activation · weight of groups, rounded as the PE rounds.

    Parameters
    ----------
    element : Element
        Of the activations: a float, or a signed integer, of which sums are exact and exponents 0.
    words, codes : (n, G) int64
        Activations and weights as stored; G a multiple of 4. Elements 4i … 4i + 3 are step i.
    precision : str
        Key of `PRECISIONS`.
    specials : (n,) or one number
        Special value of each group.

    Returns
    -------
    mantissa, exponent : (n,) int64
        Integer weights: sum = mantissa · 2^(exponent − bias − mantissa_bits − 3) (integers: mantissa); floats: half of that.
    """
    specials = np.broadcast_to(np.asarray(specials, np.float64), len(words))
    kind = PRECISIONS[precision]
    if not isinstance(element, FloatFormat):
        weights = np.array([[weight_value(precision, int(code), float(special)) for code in row]
                            for row, special in zip(codes, specials, strict=True)])
        exact = (values(element, words) * weights).sum(axis=1) * (2 if kind.is_float else 1)
        return exact.astype(np.int64), np.zeros(len(words), np.int64)
    parts, fields = _split(element, words), _term_fields(precision, codes, specials)
    return _aligned(precision, np.stack([part.T for part in parts]), np.swapaxes(fields, -1, -2))


def product_sums(element: FloatFormat, words: Ints, precision: str, codes: Ints,
                 specials: npt.ArrayLike = 0.0) -> tuple[Ints, Ints]:
    """Return what `group_sums` does for every pair of a row of words (m, G) and a row of codes (n, G): (m, n), of floats only."""
    specials = np.broadcast_to(np.asarray(specials, np.float64), len(codes))
    parts, fields = _split(element, words), _term_fields(precision, codes, specials)
    return _aligned(precision, np.stack([part.T for part in parts])[..., None], np.swapaxes(fields, -1, -2)[..., None, :])


def _aligned(precision: str, activations: Ints, fields: Ints) -> tuple[Ints, Ints]:
    """Return mantissa and exponent of sums of aligned terms, whatever shape the two have together behind the axis G.

    activations: sign, exponent and significand, (3, G, …). fields: sign, exp and man of terms, (terms, 3, G, …).
    """
    sign, exponent, significand = activations
    # What is zero has no say in the exponent: it is put below every other one, and shifted out.
    own_exponent = np.where(significand != 0, exponent, _NOWHERE).astype(np.int16)
    value = np.where(sign != 0, -(significand << GUARD), significand << GUARD).astype(np.float32)
    negative, exp, man = (fields[:, part] for part in range(3))
    own_exp, factor = np.where(man == 1, exp, _NOWHERE).astype(np.int16), np.where(negative != 0, -1, 1).astype(np.float32)
    significances = [term.significance for term in terms(precision, 0)]
    shape = np.broadcast_shapes(value.shape[1:], factor.shape[2:])
    anchor, acc = np.zeros(shape, np.int16), np.zeros(shape)
    for step in range(0, len(value), 4):
        lanes = slice(step, step + 4)
        for significance, exps, factors in zip(significances, own_exp[:, lanes], factor[:, lanes], strict=True):
            own = own_exponent[lanes] + exps
            highest = np.maximum(anchor, own.max(axis=0))
            shifted = value[lanes] * factors * _HALVINGS[np.minimum(highest - own, len(_HALVINGS) - 1)]
            acc = np.rint(np.ldexp(acc, anchor - highest)) + np.rint(shifted).sum(axis=0, dtype=np.float64) * 2**significance
            anchor = highest
    return acc.astype(np.int64), anchor.astype(np.int64)


def error_bound(precision: str, group: int) -> float:
    """Return the largest possible error of a group's sum with float activations, in last places of that sum's mantissa.

    Only two things round. Each term of each weight: by half a last place of the exponent that the group has then, which is at
    most the final one, times 2^significance. The sum, where the exponent rises: by half a last place of the new one; rises are
    to distinct exponents, so together at most by 1/2 + 1/4 + … = 1 last place of the final one.
    """
    worth = sum(2**term.significance for term in terms(precision, 0))
    return group * worth / 2 + 1
