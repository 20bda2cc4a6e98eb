"""Arithmetic modulo 2^b − 1, the residues by which products and sums are checked."""

from collections.abc import Sequence

from amaranth import *

from hw.config import ceil_div

__all__ = ["PARITY_BITS", "differ", "digits", "groups", "parity_of", "product_terms", "residue", "residue_sum",
           "sign_correction", "signless"]

PARITY_BITS = 2
"""Parity bits that go along with a word; two, so that two neighbours that flip at once are in different ones."""


def parity_of(word: Value) -> Value:
    """Return the parities of the bits of a word in even and in odd places."""
    return Cat(Cat(word[place] for place in range(first, len(word), PARITY_BITS)).xor() if first < len(word) else C(0, 1)
               for first in range(PARITY_BITS))


def _kept(m: Module, value: Value, bits: int, name: str) -> Value:
    """Return a signal that has `value`: an expression that is used twice would be written out twice."""
    kept = Signal(bits, name=name)
    m.d.comb += kept.eq(value)
    return kept


def _add(m: Module, a: Value, b: Value) -> Value:
    """Return a + b modulo 2^n − 1 for words of n bits: the carry comes in again at the other end."""
    total = _kept(m, a + b, len(a) + 1, "total")
    return _kept(m, total[:len(a)] + total[len(a)], len(a), "residue")


def residue_sum(m: Module, words: Sequence[Value], bits: int) -> Value:
    """Return the sum of words of `bits` bits modulo 2^bits − 1; zero may come out as all ones.

    Carry-save adders whose highest carry goes to the lowest place, since 2^bits ≡ 1, then an adder with an end-around carry.
    """
    left = list(words)
    while len(left) > 2:
        whole = len(left) - len(left) % 3
        reduced = left[whole:]
        for a, b, c in zip(left[0:whole:3], left[1:whole:3], left[2:whole:3], strict=True):
            half = _kept(m, a ^ b, bits, "half")
            carry = _kept(m, (a & b) | (c & half), bits, "carry")
            reduced += [_kept(m, half ^ c, bits, "save"), Cat(carry[bits - 1], carry[:bits - 1])]
        left = reduced
    if len(left) == 2:
        return _add(m, left[0], left[1])
    return left[0] if left else C(0, bits)


def digits(word: Value, bits: int) -> list[Value]:
    """Return the digits of a word to the base 2^bits, whose sum is the word, taken as unsigned, modulo 2^bits − 1."""
    parts = (word[first:first + bits] for first in range(0, len(word), bits))
    return [Cat(part, C(0, bits - len(part))) if len(part) < bits else part for part in parts]


def signless(word: Value) -> Value:
    """Return a signed word of w bits plus 2^(w−1), which is not negative: its sign bit is inverted."""
    return Cat(word[:-1], ~word[-1])


def sign_correction(width: int, count: int, bits: int) -> Value:
    """Return what the sum of `count` words of `signless` has too much, negated, modulo 2^bits − 1."""
    return C(-count * (1 << width - 1) % ((1 << bits) - 1), bits)


def residue(m: Module, word: Value, bits: int) -> Value:
    """Return a signed word modulo 2^bits − 1."""
    return residue_sum(m, [*digits(signless(word), bits), sign_correction(len(word), 1, bits)], bits)


def product_terms(a: Value, b: Value, *, signed: bool) -> list[Value]:
    """Return words whose sum is a·b modulo 2^n − 1, for b of n bits: b, rotated by i places, for each bit i of a.

    a may have any width; if it is signed, its highest bit counts negative, and the complement of a residue is its negative.
    """
    bits = len(b)
    terms: list[Value] = []
    for place in range(len(a)):
        turn = place % bits
        turned = Cat(b[bits - turn:], b[:bits - turn])
        if signed and place == len(a) - 1:
            turned = ~turned
        terms.append(turned & a[place].replicate(bits))
    return terms


def differ(m: Module, a: Value, b: Value) -> Value:
    """Return whether two residues are different; all ones and zero are the same."""
    difference = _add(m, a, ~b)
    return difference.any() & ~difference.all()


def groups(words: Sequence[Value], size: int) -> list[list[Value]]:
    """Return words in as few groups of at most `size` as there can be, about equally long."""
    count = ceil_div(len(words), size)
    return [list(words[index * len(words) // count:(index + 1) * len(words) // count]) for index in range(count)]
