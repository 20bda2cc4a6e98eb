"""Quantization: ranges, rounding, scales, and a bound on the error."""

import numpy as np
import pytest

from sw.formats import FormatError
from sw.quantize import dequantize, quantize, quantize_bias, requantize_scale


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_error_is_at_most_half_a_step(bits, axis):
    rng = np.random.default_rng(bits)
    values = rng.normal(size=(20, 30)).astype(np.float32) * rng.uniform(0.01, 10, (20, 1)).astype(np.float32)
    q, scale = quantize(values, bits=bits, axis=axis)
    largest = 2 ** (bits - 1) - 1
    assert q.dtype == np.int8
    assert np.abs(q).max() == largest
    step = scale if axis is None else np.expand_dims(scale, [i for i in range(2) if i != axis % 2])
    assert (np.abs(q * step - values) <= step * 0.5001).all()
    if axis is not None:
        assert scale.shape == (values.shape[axis],)
        assert (np.abs(q).max(axis=1 - axis % 2) == largest).all()


def test_zeros_and_ties():
    q, scale = quantize(np.zeros((2, 3), np.float32))
    assert scale == 1
    assert not q.any()
    q, _ = quantize(np.array([127.0, 0.5, 1.5, 2.5, -0.5], np.float32))
    np.testing.assert_array_equal(q, [127, 0, 2, 2, 0])


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^bits must be 4 or 8, not 7$"):
        quantize(np.zeros(3), bits=7)
    with pytest.raises(FormatError, match=r"^values must be finite, not nan \(row 0, column 1\)$"):
        quantize(np.array([1.0, np.nan]))


def test_a_linear_layer_in_integers():
    """Quantized product, bias and requantization give the float layer within the sum of their steps."""
    rng = np.random.default_rng(1)
    x, w, bias = rng.normal(size=(8, 64)), rng.normal(size=(64, 16)), rng.normal(size=16)
    (xq, xs), (wq, ws) = quantize(x), quantize(w, axis=1)
    y = x @ w + bias
    ys = np.float32(np.abs(y).max() / 127)
    acc = xq.astype(np.int64) @ wq + quantize_bias(bias, xs, ws)
    found = dequantize(np.rint(acc * requantize_scale(xs, ws, ys)), ys)
    assert np.abs(found - y).max() < ys / 2 + 64 * (xs * np.abs(w).max() / 2 + ws.max() * np.abs(x).max() / 2) / 4


def test_bias_saturates():
    np.testing.assert_array_equal(quantize_bias(np.array([1e9, -1e9, 0.5]), 1e-3, 1e-3), [2**31 - 1, -(2**31), 500_000])
