# amaranth: UnusedElaboratable=no
"""Term generator: every code of every precision with every special value; the published vectors; the register file."""

import re
from typing import Any

import pytest

from hw.engines.bitmod import BITMOD_TERMS
from hw.errors import ConfigError
from hw.pe.bitmod import precision as rtl
from hw.pe.bitmod.specials import SpecialValues
from hw.pe.bitmod.terms import TermGenerator
from sw.golden.pe.bitmod import PRECISIONS, terms, weight_value
from tb.arith.combinational import evaluate
from tb.sim import simulate

LEGAL = [halves for halves in range(-31, 32) if 1 <= abs(halves).bit_count() <= 2]
SPECIALS = {"fp4": [halves / 2 for halves in LEGAL], "fp3": [halves / 2 for halves in LEGAL]}
CODES = {name: range(1 << kind.element.bits) for name, kind in PRECISIONS.items()}

# Codes in order, transcribed from the paper's tables.
FP4_VALUES = (0, .5, 1, 1.5, 2, 3, 4, 6, None, -.5, -1, -1.5, -2, -3, -4, -6)
FP3_VALUES = (0, 1, 2, 4, None, -1, -2, -4)


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_code(name):
    """The terms are the golden model's, one by one, and add up to what the code stands for."""
    dut = TermGenerator()
    kind = PRECISIONS[name]
    compared = 0

    async def bench(ctx: Any) -> None:
        nonlocal compared
        ctx.set(dut.precision, rtl.PRECISIONS[name])
        for special in SPECIALS.get(name, [0.0]):
            ctx.set(dut.special, {"magnitude": round(2 * abs(special)), "sign": special < 0})
            for code in CODES[name]:
                ctx.set(dut.code, code | (0xA5 << kind.element.bits & 0xFF if code & 1 else 0))     # bits above do not count
                total, expected = 0, terms(name, code, special)
                for index, term in enumerate(expected):
                    ctx.set(dut.index, index)
                    found = (ctx.get(dut.o.sign), ctx.get(dut.o.exp), ctx.get(dut.o.man))
                    assert found == (term.sign, term.exp, term.man), (code, special, index)
                    sign, exp, man = found
                    total += (-1)**sign * man * 2**exp * 2**rtl.SIGNIFICANCES[rtl.PRECISIONS[name]][index]
                assert total * (0.5 if kind.is_float else 1) == weight_value(name, code, special)
                compared += 1

    evaluate(dut, bench)
    assert compared == len(CODES[name]) * len(SPECIALS.get(name, [0.0]))


@pytest.mark.parametrize(("name", "table"), [("fp4", FP4_VALUES), ("fp3", FP3_VALUES)])
def test_values_of_floats(name, table):
    assert [weight_value(name, code, 99.0) for code in CODES[name]] == [99.0 if value is None else value for value in table]


@pytest.mark.parametrize("name", [name for name, kind in PRECISIONS.items() if not kind.is_float])
def test_values_of_integers(name):
    bits = int(name.removeprefix("int"))
    assert sorted(weight_value(name, code) for code in CODES[name]) == list(range(-1 << bits - 1, 1 << bits - 1))


@pytest.mark.parametrize(("number", "digits"), [
    (45, [(0, 0, 1), (1, 0, 1), (1, 0, 1), (0, 0, 1)]),
    (-57, [(1, 0, 1), (0, 1, 1), (0, 0, 0), (1, 0, 1)]),
    (-128, [(0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 1)]),
])
def test_booth_vectors(number, digits):
    """Digits from the lowest up, worked out by hand."""
    assert [(term.sign, term.exp, term.man) for term in reversed(terms("int8", number & 0xFF))] == digits


@pytest.mark.parametrize(("value", "first", "second"), [
    (5.0, 8, 2), (-8.0, -16, 0), (3.0, 4, 2), (6.0, 8, 4), (2.5, 4, 1), (0.5, 0, 1), (-12.0, -16, -8)])
def test_special_values_as_two_terms(value, first, second):
    assert [term.value for term in terms("fp4", 0b1000, value)] == [first, second]


@pytest.mark.parametrize("value", [3.5, 7.0, -5.5, 16.0, 0.25])
def test_special_values_of_more_terms(value):
    with pytest.raises(ValueError, match=rf"^a special value must be a sum of two powers of two from 0\.5 to 8, not {value!r}$"):
        terms("fp4", 0b1000, value)


def test_tables_agree():
    """The hardware's table, the golden model's, and the one that cycle formulas use."""
    for name, kind in PRECISIONS.items():
        significances = rtl.SIGNIFICANCES[rtl.PRECISIONS[name]]
        assert [term.significance for term in terms(name, 0)] == list(significances)
        assert len(significances) == kind.terms == BITMOD_TERMS[name]
    assert rtl.PRECISIONS.keys() == PRECISIONS.keys() == BITMOD_TERMS.keys()


def test_register_file():
    """Reset values, every value written, those of three ones and zero refused for good."""
    dut = SpecialValues()

    def held(ctx: Any) -> list[int]:
        return [(-1)**ctx.get(value.sign) * ctx.get(value.magnitude) for value in dut.values]

    async def bench(ctx: Any) -> None:
        expected = [10, -10, 16, -16]
        assert held(ctx) == expected
        for legal in (True, False):
            ctx.set(dut.write, 1)
            for addr, halves in enumerate(value for value in range(-32, 32) if (value in LEGAL) == legal):
                ctx.set(dut.addr, addr % 4)
                ctx.set(dut.value, halves)
                await ctx.tick()
                if legal:
                    expected[addr % 4] = halves
                assert held(ctx) == expected
                assert ctx.get(dut.rejected) == (not legal)
            ctx.set(dut.write, 0)
            await ctx.tick()
        assert ctx.get(dut.rejected) == 1

    simulate(dut, bench)


@pytest.mark.parametrize("initial", [(5.0, -5.0, 8.0), (5.0, -5.0, 8.0, 7.0), (5.0, -5.0, 8.0, 0.0), (0.25, 1.0, 1.0, 1.0),
                                     (17.0, 1.0, 1.0, 1.0)])
def test_register_file_refuses_what_it_cannot_hold(initial):
    with pytest.raises(ConfigError, match=r"^SpecialValues\.initial must be four sums of one or two of 0\.5, 1, 2, 4 and 8, "
                                          rf"not {re.escape(repr(initial))}$"):
        SpecialValues(initial)
