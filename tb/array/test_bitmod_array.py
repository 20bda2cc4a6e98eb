# amaranth: UnusedElaboratable=no
"""BitMoD arrays: products of each group, and what is said of them; the bench of the tile has cycles and the rest."""

from typing import Any

import numpy as np
import pytest

from hw.array.bitmod_array import BitmodArray
from hw.elements import ELEMENTS, FP16, Element
from hw.errors import ConfigError
from hw.pe.bitmod.shape import BitmodShape
from sw.golden.pe.bitmod import group_sums
from tb.array.bitmod import SPECIALS, random_product, step_words
from tb.sim import put_all, simulate

ROWS, COLUMNS, GROUPS = 2, 3, 3


@pytest.mark.parametrize("stall", [0.0, 0.3])
@pytest.mark.parametrize("element", [FP16, ELEMENTS["int8"]], ids=lambda element: element.name)
def test_products_of_groups(element: Element, stall: float) -> None:
    """Results of several precisions; groups of 16, which take 8 to 16 cycles where 10 are the least."""
    rng = np.random.default_rng(1)
    shape = BitmodShape(activation=element)
    dut = BitmodArray(shape, rows=ROWS, columns=COLUMNS)
    items = [random_product(rng, element, ROWS, COLUMNS, 16 * GROUPS, precision, 16)
             for precision in ("fp4", "int6", "fp3", "int8")]
    words = [dut.i.p.shape().from_bits(word) for item in items for word in step_words(dut, item)]
    expected = []
    for item in items:
        for group in range(GROUPS):
            k = slice(16 * group, 16 * group + 16)
            for row in range(ROWS):
                mantissa, exponent = group_sums(element, np.tile(item.activations[row, k], (COLUMNS, 1)), item.precision,
                                                item.codes[:, k], np.array(SPECIALS)[item.specials[:, group]])
                flags = (group == 0, group == GROUPS - 1, item.precision.startswith("int"))
                expected.append((row, (mantissa * item.scales[:, group]).tolist(), exponent.tolist(), flags))
    found: list[Any] = []

    async def collect(ctx: Any) -> None:
        while len(found) < len(expected):
            if ctx.get(dut.o_valid):
                assert ctx.get(dut.busy)
                exponents = [ctx.get(dut.o.exponents[c]) for c in range(COLUMNS)] if shape.is_float else [0] * COLUMNS
                found.append((ctx.get(dut.o_row), [ctx.get(dut.o.products[c]) for c in range(COLUMNS)], exponents,
                              (ctx.get(dut.o.fresh), ctx.get(dut.o.last), ctx.get(dut.o.integer))))
            await ctx.tick()

    simulate(dut, put_all(dut.i, words, stall=stall), collect)
    assert found == expected


@pytest.mark.parametrize("field", ["rows", "columns"])
def test_refusals(field):
    with pytest.raises(ConfigError, match=rf"^BitmodArray\.{field} must be at least 1, not 0$"):
        BitmodArray(BitmodShape(), **{"rows": 8, "columns": 8} | {field: 0})
