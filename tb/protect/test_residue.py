# amaranth: UnusedElaboratable=no
"""Residues: words, sums and products modulo 2^b − 1 against Python's integers."""

import random
from typing import Any

import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.protect.residue import differ, product_terms, residue, residue_sum
from hw.protect.residue_total import ResidueTotal
from tb.arith.combinational import evaluate
from tb.sim import simulate


class Arithmetic(wiring.Component):
    """The residue of a signed word, that word times an unsigned residue plus another one, and whether the two differ."""

    def __init__(self, width: int, bits: int):
        self.bits = bits
        super().__init__({"word": In(signed(width)), "b": In(bits), "c": In(bits), "residue": Out(bits), "total": Out(bits),
                          "unsigned_total": Out(bits), "differ": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        same = Signal(self.bits)
        m.d.comb += [
            self.residue.eq(residue(m, self.word, self.bits)),
            self.total.eq(residue_sum(m, [*product_terms(self.word, self.b, signed=True), self.c], self.bits)),
            self.unsigned_total.eq(residue_sum(m, product_terms(self.c, self.b, signed=False), self.bits)),
            same.eq(self.b),
            self.differ.eq(differ(m, same, self.c)),
        ]
        return m


@pytest.mark.parametrize(("width", "bits"), [(8, 8), (4, 8), (8, 2), (4, 4), (5, 3), (1, 2), (22, 8), (23, 2)])
def test_residue_product_and_comparison(width: int, bits: int) -> None:
    dut, rng, modulus = Arithmetic(width, bits), random.Random(width), (1 << bits) - 1
    words = range(-1 << width - 1, 1 << width - 1) if width <= 8 else [rng.getrandbits(width) - (1 << width - 1)
                                                                       for _ in range(200)]
    equal = 0

    async def bench(ctx: Any) -> None:
        nonlocal equal
        for word in words:
            for b, c in ((rng.getrandbits(bits), rng.getrandbits(bits)), (modulus, 0), (0, 0), (1, modulus)):
                ctx.set(dut.word, word)
                ctx.set(dut.b, b)
                ctx.set(dut.c, c)
                assert ctx.get(dut.residue) % modulus == word % modulus
                assert ctx.get(dut.total) % modulus == (word * b + c) % modulus
                assert ctx.get(dut.unsigned_total) % modulus == b * c % modulus
                assert ctx.get(dut.differ) == (b % modulus != c % modulus)
                equal += b % modulus == c % modulus

    evaluate(dut, bench)
    assert equal >= 2 * len(words)


@pytest.mark.parametrize(("words", "width", "bits", "latency"), [
    (1, 8, 8, 1), (3, 4, 8, 1), (8, 8, 8, 1), (9, 8, 8, 2), (16, 22, 8, 2), (5, 22, 2, 2), (40, 8, 4, 3)])
def test_total(words: int, width: int, bits: int, latency: int) -> None:
    dut, rng, modulus = ResidueTotal(words=words, width=width, bits=bits), random.Random(words), (1 << bits) - 1
    assert dut.latency == latency
    lanes = [[rng.randrange(-1 << width - 1, 1 << width - 1) for _ in range(words)] for _ in range(60)]

    async def bench(ctx: Any) -> None:
        for cycle in range(len(lanes) + latency):
            if cycle < len(lanes):
                ctx.set(dut.i, sum(word % (1 << width) << width * index for index, word in enumerate(lanes[cycle])))
            if cycle >= latency:
                assert ctx.get(dut.o) % modulus == sum(lanes[cycle - latency]) % modulus
            await ctx.tick()

    simulate(dut, bench)


def test_bad_total() -> None:
    with pytest.raises(ConfigError, match=r"^ResidueTotal\.words must be at least 1, not 0$"):
        ResidueTotal(words=0, width=8, bits=8)
