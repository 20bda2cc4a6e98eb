# amaranth: UnusedElaboratable=no
"""Multiplier of a PIM lane: every pair of codes of narrow formats, random and special ones of wide ones, against their values."""

import itertools
import math
import random

import numpy as np
import pytest

from hw.elements import ELEMENTS
from hw.errors import ConfigError
from hw.pim.multiplier import Multiplier, Operand, operand_named
from tb.sim import simulate

# P3-LLM: weights × activations, K × queries, V × probabilities.
P3 = (("bitmod4", "float8_e4m3fn"), ("p3-kv", "float8_e4m3fn"), ("p3-kv", "float8_s0e4m4"))
P3_LSB = (-12, -11, -19)


def run(dut, cases):
    """Return (o, invalid) of each case, a dict of ports."""
    found = []

    async def bench(ctx):
        for index in range(len(cases) + dut.latency):
            if index >= dut.latency:
                found.append((ctx.get(dut.o), ctx.get(dut.invalid)))
            if index < len(cases):
                for port, value in cases[index].items():
                    ctx.set(getattr(dut, port), value)
            await ctx.tick()

    simulate(dut, bench, deadline=len(cases) + 100)
    return found


def value(way, code, *, zero_point=0, special=0):
    """Return what a code stands for, its block scale aside."""
    if way.specials and code == way.special_code:
        return way.specials[special]
    return way.element.value(code) - (zero_point if way.zero_point_bits else 0)


def signed(word):
    return word - (1 << 32) if word >> 31 else word


@pytest.mark.parametrize("select", range(3))
def test_every_product_of_p3_is_the_integer_of_its_value(select):
    dut = Multiplier(weights=tuple(operand_named(weight) for weight, _ in P3), xs=tuple(operand_named(x) for _, x in P3),
                     acc="int32")
    weight, x = (operand_named(name) for name in P3[select])
    rng = random.Random(select)
    cases = [{"weight": w, "x": code, "select": select, "zero_point": rng.randrange(16) if select else 0, "special": side}
             for w, code, side in itertools.product(range(16), range(256), range(1 if select else 4))]
    if select == 1:                                             # and every code with every zero point
        cases += [{"weight": w, "x": 0x39, "select": 1, "zero_point": zero, "special": 0}
                  for w, zero in itertools.product(range(16), repeat=2)]
    rng.shuffle(cases)
    invalid = 0
    for case, (word, flag) in zip(cases, run(dut, cases), strict=True):
        other = value(x, case["x"])
        assert flag == math.isnan(other)
        invalid += flag
        if not flag:
            exact = value(weight, case["weight"], zero_point=case["zero_point"], special=case["special"]) * other
            assert signed(word) == exact * 2.0**-P3_LSB[select]
            assert abs(signed(word)) < 1 << 25
    assert (invalid > 0) == (select < 2)


@pytest.mark.parametrize("name", ["int8", "mxint4", "int4-asym"])
def test_products_with_int8(name):
    weight, x = operand_named(name), operand_named("int8")
    dut = Multiplier(weights=(weight,), xs=(x,), acc="int32")
    rng = random.Random(1)
    codes = 1 << weight.element.bits
    cases = [{"weight": rng.randrange(codes), "x": rng.randrange(256), "zero_point": rng.randrange(16)} for _ in range(3000)]
    cases += [{"weight": w, "x": 0x80, "zero_point": 0} for w in range(codes)]
    lsb = -2 if name == "mxint4" else 0
    for case, (word, flag) in zip(cases, run(dut, cases), strict=True):
        exact = value(weight, case["weight"], zero_point=case["zero_point"]) * value(x, case["x"])
        assert (signed(word), flag) == (exact * 2.0**-lsb, 0)


@pytest.mark.parametrize(("wname", "xname"), [
    ("float16", "float16"), ("bfloat16", "bfloat16"), ("float8_e4m3fn", "float8_e4m3fn"), ("int8", "float16"),
    ("int4-asym", "float16"), ("mxint4", "bfloat16"), ("bitmod4", "float16"), ("p3-kv", "float8_s0e4m4")])
def test_products_as_float32(wname, xname):
    weight, x = operand_named(wname), operand_named(xname)
    dut = Multiplier(weights=(weight,), xs=(x,), acc="float32")
    rng = random.Random(wname + xname)
    cases = []
    for _ in range(2500):
        case = {"zero_point": rng.randrange(16), "special": rng.randrange(4)}
        for port, way in (("weight", weight), ("x", x)):
            bits = way.element.bits
            top = rng.random() < 0.15                           # zeros, subnormals, infinities and NaNs more often than by chance
            case[port] = rng.choice([0, 1 << bits - 1, 1, 0x7C00, 0xFC00, 0x7E00, 0x7F80, 0x7F, 0x80]) % (1 << bits) if top \
                else rng.getrandbits(bits)
        cases.append(case)
    kinds = set()
    for case, (word, _) in zip(cases, run(dut, cases), strict=True):
        with np.errstate(all="ignore"):
            exact = np.float32(np.float64(value(weight, case["weight"], zero_point=case["zero_point"], special=case["special"]))
                               * np.float64(value(x, case["x"])))
        if np.isnan(exact):
            assert word == 0x7FC00000
        elif exact == 0 and wname not in ("float16", "bfloat16", "float8_e4m3fn"):
            assert word & 0x7FFFFFFF == 0                       # integers have no −0
        else:
            assert word == int(exact.view(np.uint32))
        kinds.add("nan" if np.isnan(exact) else "inf" if np.isinf(exact) else "zero" if exact == 0 else "number")
    assert {"zero", "number"} <= kinds
    assert wname != "float16" or kinds == {"zero", "number", "inf", "nan"}


@pytest.mark.parametrize(("arguments", "message"), [
    ({"acc": "int16"}, r"^Multiplier.acc must be float32 or int32, not 'int16'$"),
    ({"xs": ()}, r"^Multiplier.xs must be one for each of weights, and one alone with float32, not 0 for 1$"),
    ({"weights": (operand_named("int8"),) * 2, "xs": (operand_named("int8"),) * 2},
     r"^Multiplier.xs must be one for each of weights, and one alone with float32, not 2 for 2$"),
    ({"weights": (operand_named("int8"), operand_named("mxint4")), "xs": (operand_named("int8"),) * 2, "acc": "int32"},
     r"^Multiplier.weights must be of one width, not int8, mxint4$"),
    ({"weights": (operand_named("float16"),), "xs": (operand_named("float16"),), "acc": "int32"},
     r"^Multiplier.acc must be float32 for products of more than 32 bits, not 'int32' \(float16 × float16\)$"),
])
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Multiplier(**{"weights": (operand_named("int8"),), "xs": (operand_named("int8"),), "acc": "float32", **arguments})


def test_a_format_without_plain_elements_is_refused():
    with pytest.raises(ConfigError, match=r"^a PIM operand must be of a format of integers or floats with scales, not 'nf4'$"):
        operand_named("nf4")
    assert operand_named("int8") == Operand(element=ELEMENTS["int8"])
