"""Layouts: every element where the formula says, padding zero, and back again."""

import re

import numpy as np
import pytest

from hw.config import ceil_div
from sw.layout import (
    LayoutError,
    MatrixLayout,
    column_matrix,
    output_rows,
    packed_weights,
    parameter_rows,
    row_activations,
    weight_rows,
)
from tb.sw.configs import CONFIGS

SHAPES = [(1, 1), (3, 17), (16, 16), (33, 20)]


def layouts(config, rows, columns, batch):
    """Return one layout of each kind."""
    return {
        "row_activations": row_activations(config, rows, columns, batch),
        "row_activations apart": row_activations(config, rows, columns, batch, apart=True),
        "column_matrix R": column_matrix(config, rows, columns, config.rows, batch),
        "column_matrix C": column_matrix(config, rows, columns, config.columns, batch),
        "column_matrix apart": column_matrix(config, rows, columns, config.rows, batch, apart=config.rows),
        "weight_rows": weight_rows(config, rows, columns, batch),
        "packed_weights": packed_weights(config, rows, columns, batch),
        "output_rows": output_rows(config, rows, columns, batch),
    }


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(name, shape):
    config, rng = CONFIGS[name], np.random.default_rng(sum(shape))
    for kind, layout in layouts(config, *shape, batch=2).items():
        low, high = (-8, 8) if layout.bits == 4 else (-128, 128)
        array = rng.integers(low, high, layout.shape).astype(np.int16 if layout.bits == 16 else np.int8)
        data = layout.pack(array)
        assert data.dtype == np.uint8, kind
        assert data.shape == (layout.size,), kind
        np.testing.assert_array_equal(layout.unpack(data), array, err_msg=kind)
        assert layout.row_stride % config.beat_bytes == 0 or kind == "packed_weights", kind
        assert layout.batch_stride % config.beat_bytes == 0, kind
        assert MatrixLayout.from_dict(layout.to_dict()) == layout


@pytest.mark.parametrize("name", CONFIGS)
def test_elements_lie_where_offset_says(name):
    config, rng = CONFIGS[name], np.random.default_rng(7)
    for kind, layout in layouts(config, 9, 11, batch=2).items():
        array = rng.integers(1, 8, layout.shape).astype(np.int16 if layout.bits == 16 else np.int8)
        data = layout.pack(array)
        expected = np.zeros(layout.size, np.uint8)
        for (b, i, j), value in np.ndenumerate(array):
            offset = layout.offset(b, i, j)
            shift = 4 * (j % layout.column_group % 2) if layout.bits == 4 else 0
            assert expected[offset] >> shift & (15 if layout.bits == 4 else 255) == 0, f"{kind}: two elements in one place"
            expected[offset] |= value << shift
            lower = j - (shift != 0)
            assert layout.locate(offset) == (b, i, lower), kind
        np.testing.assert_array_equal(data, expected, err_msg=kind)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_weights_are_tiles_of_the_array(name):
    config = CONFIGS[name]
    k, n = 10, 2 * config.columns + 1
    layout = packed_weights(config, k, n)
    for j in range(n):
        group, lane = divmod(j, config.columns)
        slot = group * layout.group_stride + 3 * config.weight_slot_bytes
        assert layout.offset(0, 3, j) == slot + lane * config.weight.bits // 8
    assert layout.size == ceil_div(n, config.columns) * layout.group_stride


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters(name):
    config = CONFIGS[name]
    n = config.columns + 1
    layout = parameter_rows(config, n)
    scale = np.linspace(0.1, 2, n, dtype=np.float32)
    rows = np.stack((np.arange(n, dtype=np.int32) - 3, scale.view(np.int32)))
    data = layout.pack(rows)
    np.testing.assert_array_equal(layout.unpack(data)[0], rows)
    slot = config.parameter_slot_bytes
    assert data[slot:slot + 4].view(np.int32)[0] == n - 1 - 3
    assert data[layout.row_stride:layout.row_stride + 4].view(np.float32)[0] == scale[0]


def test_bad_arrays():
    config = CONFIGS["systolic-4x4"]
    nibbles = weight_rows(CONFIGS["w4-4x4-bus64"], 2, 3)
    layout, batched = output_rows(config, 2, 3), output_rows(config, 2, 3, batch=2)
    for array, of, text in (
        (np.zeros((3, 2), np.int8), layout, "array must have shape (2, 3), not (3, 2)"),
        (np.zeros((2, 3), np.int8), batched, "array must have shape (2, 2, 3), not (2, 3)"),
        (np.zeros((2, 3), np.int16), layout, "array must be int8, not int16"),
        (np.zeros((2, 3), np.float64), layout, "array must be int8, not float64"),
        (np.zeros((2, 3), np.float64), parameter_rows(config, 3), "array must be of a 32-bit type, not float64"),
        (np.full((2, 3), 8, np.int8), nibbles, "int4 values must be between -8 and 7, not 8 to 8"),
    ):
        with pytest.raises(LayoutError, match=f"^{re.escape(text)}$"):
            of.pack(array)


def test_padding_has_no_element():
    layout = output_rows(CONFIGS["systolic-4x4"], 2, 3)
    assert layout.locate(2) == (0, 0, 2)
    assert layout.locate(3) is None
