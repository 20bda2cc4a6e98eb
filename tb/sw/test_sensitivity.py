"""Plans by sensitivity: shares of a config, what is chosen over the whole model, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.presets import PRESETS
from sw.formats import FormatError
from sw.kernels.transformer.weight_plan import LinearFormats
from sw.models.sensitivity import column_shares, linear_matrices, sensitive_plan

BASE = "bbs-shift-g32"
CONFIG = replace(PRESETS["bitvert-8x8"], weight_formats=("int8", BASE, f"{BASE}-1of2", f"{BASE}-1of8", "bbs-average-g32-1of4"))


def layer_of(gains, hidden=16, ffn=32):
    """Return a layer whose linears' channels have these largest weights."""
    rng = np.random.default_rng(0)

    def matrix(rows, columns, gain):
        found = rng.uniform(-1, 1, (rows, columns))
        found[:, 0] = 1
        return (found * np.resize(gain, rows)[:, None]).astype(np.float32)

    qkv, output, gate_up, down = gains
    return SimpleNamespace(
        attention_norm=np.full(hidden, 2, np.float32), mlp_norm=np.ones(hidden, np.float32),
        q=matrix(16, hidden, qkv), k=matrix(8, hidden, qkv), v=matrix(8, hidden, qkv), o=matrix(hidden, 16, output),
        gate=matrix(ffn, hidden, gate_up), up=matrix(ffn, hidden, gate_up), down=matrix(hidden, ffn, down))


def test_shares_of_a_config():
    assert column_shares(CONFIG, BASE) == [(0.0, BASE), (1 / 8, f"{BASE}-1of8"), (1 / 2, f"{BASE}-1of2"), (1.0, "int8")]


def test_the_most_sensitive_channels_of_the_model():
    """128 channels a layer. One of 8 of 16 channels would be stored as of 64: all are kept instead."""
    layers = [layer_of((0.1, 5, [9, *[0.1] * 7], 0.1)), layer_of((6, 0.1, [9, *[0.1] * 3], [8, 8, 0.1]))]
    plan, choices = sensitive_plan(CONFIG, layers, BASE, 83 / 256, head="int8")
    assert plan.head == "int8"
    assert [choice.sensitive for choice in choices] == [0, 16, 8, 0, 32, 0, 16, 11]
    assert plan.layers == (LinearFormats(BASE, "int8", f"{BASE}-1of8", BASE),
                           LinearFormats("int8", BASE, f"{BASE}-1of2", "int8"))
    assert [choice.kept for choice in choices] == [0, 1, 1 / 8, 0, 1, 0, 1 / 2, 1]


def test_none_and_all():
    layers = [layer_of((1, 1, 1, 1))]
    assert sensitive_plan(CONFIG, layers, BASE, 0)[0].formats == (BASE,)
    assert sensitive_plan(CONFIG, layers, BASE, 1)[0].formats == ("int8",)
    few = replace(CONFIG, weight_formats=(BASE, f"{BASE}-1of8"))
    assert sensitive_plan(few, layers, BASE, 1)[0].formats == (f"{BASE}-1of8",)


def test_matrices_of_linears():
    layer = layer_of((1, 1, 1, 1))
    found = linear_matrices(layer)
    assert {name: matrix.shape for name, matrix in found.items()} == {
        "qkv": (32, 16), "output": (16, 16), "gate_up": (64, 16), "down": (16, 32)}
    assert np.array_equal(found["qkv"][16:24], layer.k)


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"^a plan by sensitivity must start from a format of bit columns, such as "
                                          r"bbs-shift-g32, not 'int8'$"):
        column_shares(CONFIG, "int8")
    with pytest.raises(ConfigError, match=r"^a plan by sensitivity must start .* not 'bbs-shift-g32-1of2'$"):
        column_shares(CONFIG, f"{BASE}-1of2")
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.weight_formats must have 'bbs-average-g32' for a plan that "
                                          r"starts from it, not int8, bbs-shift-g32, .*$"):
        column_shares(CONFIG, "bbs-average-g32")
    with pytest.raises(FormatError, match=r"^fraction must be between 0 and 1, not 1\.5$"):
        sensitive_plan(CONFIG, [layer_of((1, 1, 1, 1))], BASE, 1.5)
