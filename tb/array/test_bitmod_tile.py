# amaranth: UnusedElaboratable=no
"""BitMoD tiles against the golden product: every precision and group size, back to back and stalled; rows when they must come."""

import functools

import numpy as np
import pytest

from flows.block_sim import BlockSim
from hw.array.bitmod_tile import BitmodTile
from hw.elements import ELEMENTS, FP16, FP32
from hw.engines.bitmod import bitmod_cycles
from hw.errors import ConfigError
from hw.pe.bitmod.shape import BitmodShape
from sw.golden.arith.floating import decode
from sw.golden.array.bitmod import product
from sw.golden.pe.bitmod import PRECISIONS, values, weight_value
from tb.array.bitmod import PythonSim, drive, random_product

ROWS, COLUMNS = 2, 1


def tile() -> BitmodTile:
    return BitmodTile(BitmodShape(), rows=ROWS, columns=COLUMNS)


@functools.cache
def compiled() -> BlockSim:
    return BlockSim(tile(), "bitmod_tile")


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_products_of_every_kind(stall):
    """Sizes from one step to several groups, groups that are too short to hide behind, K that fills neither group nor step."""
    rng = np.random.default_rng(1)
    sizes = ((128, 128), (256, 128), (4, 16), (1, 16), (30, 16), (96, 32), (200, 128))
    products = [random_product(rng, FP16, ROWS, COLUMNS, k, precision, group) for precision in PRECISIONS for k, group in sizes]
    order = rng.permutation(len(products))
    drive(compiled(), tile(), [products[index] for index in order], stall=stall, seed=2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cycles_are_those_of_the_formula(precision):
    """From one product to the next, whole groups, and a last one that is shorter."""
    rng = np.random.default_rng(3)
    for k, group in ((256, 128), (128, 32), (40, 16), (132, 128)):
        products = [random_product(rng, FP16, ROWS, COLUMNS, k, precision, group) for _ in range(3)]
        rows = drive(compiled(), tile(), products)
        cycles = bitmod_cycles(ROWS, COLUMNS, ROWS, COLUMNS, k, precision, group, tile_rows=ROWS)
        assert np.diff(rows).tolist() == [cycles, cycles]


@pytest.mark.parametrize("precision", ["fp4", "fp3"])
def test_programmed_special_values(precision):
    rng = np.random.default_rng(4)
    products = [random_product(rng, FP16, ROWS, COLUMNS, 64, precision, 16) for _ in range(4)]
    for item in products:
        item.codes[:, ::2] = 1 << PRECISIONS[precision].element.bits - 1
    drive(compiled(), tile(), products, program=(3.0, -3.0, 6.0, -2.5))


def test_what_is_flushed_and_what_is_rejected():
    """Both flags, and both stay."""
    words = {"i__payload": np.zeros((8, -(-tile().i.p.shape().size // 64)), np.uint64), "i__valid": [0, 0, 1, 0, 0, 0, 0, 0],
             "special_addr": 0}
    words["i__payload"][2, 0] = 0x7C00
    found = compiled().run({**words, "special_write": [0, 0, 0, 0, 1, 0, 0, 0], "special_value": 7})
    assert found["flushed"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found["rejected"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_integer_activations():
    shape = BitmodShape(activation=ELEMENTS["int8"])
    rng = np.random.default_rng(5)
    small = BitmodTile(shape, rows=1, columns=2)
    products = [random_product(rng, shape.activation, 1, 2, k, precision, 16) for precision in PRECISIONS for k in (16, 40)]
    drive(PythonSim(small), small, products)


@pytest.mark.parametrize(("columns", "sizes"), [(1, (64, 32, 16)), (8, (32,))])
def test_rows_of_the_paper(columns, sizes):
    """Eight rows, groups of 32, which are as short as hide behind each other; eight columns once."""
    rng = np.random.default_rng(6)
    wide = BitmodTile(BitmodShape(precisions=("fp4", "fp3"), group=32), rows=8, columns=columns)
    rows = drive(PythonSim(wide), wide, [random_product(rng, FP16, 8, columns, k, "fp4", 32) for k in sizes])
    assert np.diff(rows).tolist() == [bitmod_cycles(8, 8, 8, 8, k, "fp4", 32) for k in sizes[1:]] == [16] * (len(sizes) - 1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_distance_from_exact_products(precision):
    """Float32 and the PE's rounding together stay within 2^−12 of Σ |scale · activation · weight|."""
    rng = np.random.default_rng(7)
    item = random_product(rng, FP16, 24, 24, 512, precision, 128)
    special = np.array((5.0, -5.0, 8.0, -8.0))[item.specials]
    found = decode(FP32, product(FP16, item.activations, item.codes, item.scales, special, precision=precision, group=128))
    weights = np.array([[weight_value(precision, code, special[column, at // 128]) * item.scales[column, at // 128]
                         for at, code in enumerate(codes)] for column, codes in enumerate(item.codes.tolist())])
    activations = values(FP16, item.activations)
    error = np.abs(found - activations @ weights.T)
    assert (error <= 2.0**-12 * (np.abs(activations) @ np.abs(weights.T))).all()
    assert error.any()


@pytest.mark.parametrize("field", ["rows", "columns"])
def test_refusals(field):
    with pytest.raises(ConfigError, match=rf"^BitmodTile\.{field} must be at least 1, not 0$"):
        BitmodTile(BitmodShape(), **{field: 0})
