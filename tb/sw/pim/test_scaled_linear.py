"""Linears of quantized weights: bit for bit their definition, near the product of the dequantized matrices, on any channels."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.isa import PimOpcode
from hw.pim.presets import PIM_PRESETS
from sw.formats.tensor import dequantize, quantize
from sw.golden.pim.device import GoldenPimDevice
from sw.golden.pim.operands import ways_of
from sw.golden.pim.scaled_product import scaled_product
from sw.pim.assembler import decode
from sw.pim.checker import check
from sw.pim.scaled_linear import ScaledPlan, scaled_inputs, scaled_outputs, scaled_program
from sw.pim.scaled_operands import quantized_activations, quantized_weights, unit_of

P3 = dataclasses.replace(PIM_PRESETS["pim-tiny"], wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn", ptype="float8_s0e4m4",
                         acc="int32", lanes=64, k_tile=256, n_acc_slots=2)
INT8 = dataclasses.replace(P3, wtype="int8", kvtype="int8", xtype="int8", lanes=32, ptype="float8_e4m3fn", xbuf_entries=16)
MX = dataclasses.replace(P3, wtype="mxint4", kvtype="mxint4", streams=1, lanes=32, k_tile=64, xbuf_entries=4)
CASES = {
    "BitMoD × E4M3": (P3, 70, 500, 3), "INT4 with zero points": (dataclasses.replace(P3, wtype="int4-asym"), 33, 300, 2),
    "tiles of X": (dataclasses.replace(P3, k_tile=128), 20, 700, 2),
    "groups of two tiles": (dataclasses.replace(P3, wtype="bitmod4-g256", k_tile=128), 70, 700, 2),
    "two segments": (dataclasses.replace(P3, segments=2, lanes=128, xbuf_entries=8), 70, 500, 3),
    "two segments, a group a beat": (dataclasses.replace(PIM_PRESETS["pim-p3"], n_pch=2, dram_rows=8), 150, 700, 3),
    "INT8, a scale for each row": (INT8, 50, 333, 4), "INT8 of a short K": (INT8, 3, 20, 1),
    "MXINT4, two groups a burst": (MX, 21, 200, 2), "float32 sums": (
        dataclasses.replace(P3, kvtype="bitmod4", xtype="float16", ptype="float16", acc="float32", n_acc_slots=8), 21, 300, 2),
}


def run(config, n, k, rows, channels, seed=4):
    """Return what the device makes, the definition's, and what the dequantized matrices make."""
    rng = np.random.default_rng(seed)
    tensor = quantize(rng.standard_normal((n, k)).astype(np.float32), config.wtype)
    x = rng.standard_normal((rows, k)).astype(np.float32)
    plan = ScaledPlan(config=config, channels=channels, n=n, k=k, addr=config.row_bytes * config.named_sets)
    program = scaled_program(plan, "linear", tensor, passes=-(-rows // config.rows_x))
    inputs, scale = scaled_inputs(plan, program, tensor, x)
    found = scaled_outputs(plan, GoldenPimDevice(config, channels).open().run(program, None, inputs).outputs, scale)
    weights, (codes, _) = quantized_weights(tensor), quantized_activations(x, config.xtype)
    padded = np.zeros((rows, plan.groups * plan.group), codes.dtype)
    padded[:, :k] = codes
    own = np.zeros((n, plan.groups * plan.group), weights.codes.dtype)
    own[:, :weights.codes.shape[1]] = weights.codes
    way = ways_of(config)[0]
    scales = weights.scales * np.float32(2.0) ** unit_of(config, config.wtype, config.xtype)
    expected = scaled_product(way, own, weights.sides, scales, padded, acc=config.acc, lanes=config.width,
                              slots=config.n_acc_slots, tile=plan.tile)
    near = (way[1].values(codes).astype(np.float64) * scale[:, None]) @ dequantize(tensor).T.astype(np.float64)
    return program, found, expected * scale[:, None], near


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_the_definition_on_any_number_of_channels(name):
    for channels in (1, 2):
        program, found, expected, near = run(*CASES[name], channels)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(found, near, atol=2e-5 * np.abs(near).max())
        for words in program.lists:
            assert check(CASES[name][0], [int(word) for word in words]).hazards == ()


def test_a_step_is_four_commands_and_steps_follow_each_other():
    program, *_ = run(P3, 64, 512, 2, 1)
    names = [decode(int(word))[0].name for word in program.lists[0]]
    assert names.count("MAC") == names.count("DQA") == names.count("WRS") == 4 * 4
    assert names.count("RDACC") == 4
    # The products of three further steps are given out before the sums of the first are taken.
    assert names[:names.index("DQA")].count("MAC") == 4
    assert PimOpcode.LOOP.name not in names


def test_weights_that_are_there_already():
    rng = np.random.default_rng(6)
    tensor, x = quantize(rng.standard_normal((20, 256)).astype(np.float32), "bitmod4"), rng.standard_normal((2, 256))
    plan = ScaledPlan(config=P3, channels=1, n=20, k=256)
    session = GoldenPimDevice(P3, 1).open()
    placed, found = scaled_program(plan, "placed", tensor), scaled_program(plan, "found")
    placed.place(P3, session.memory)
    inputs, scale = scaled_inputs(plan, found, tensor, x.astype(np.float32))
    np.testing.assert_allclose(scaled_outputs(plan, session.run(found, None, inputs).outputs, scale), x @ dequantize(tensor).T,
                               atol=1.5)


@pytest.mark.parametrize(("changes", "message"), [
    ({"n": 0}, "ScaledPlan.n must be at least 1, not 0"),
    ({"k": 0}, "ScaledPlan.k must be at least 1, not 0"),
    ({"channels": 3}, "ScaledPlan.channels must be between 1 and 2, the pseudo-channels, not 3"),
    ({"addr": 2048}, "ScaledPlan.addr must be a multiple of 32768, a row of all sets, not 2048"),
    ({"config": PIM_PRESETS["pim-tiny"]}, "PimConfig.wtype must be a format with scales, not 'float16'"),
    ({"config": dataclasses.replace(P3, wtype="bitmod4-g32")}, ("groups of bitmod4-g32 must be whole beats of 64 weights, that "
                                                               "divide a burst of 2 or are whole ones, not of 32")),
    ({"config": dataclasses.replace(P3, k_tile=64)}, ("PimConfig.k_tile must be a multiple of the 128 weights of a segment's "
                                                     "burst to run a linear, not 64")),
    ({"n": 1 << 14, "k": 1 << 10}, ("a linear of 16384 outputs and 1024 inputs must end within 2097152 bytes, a channel's, "
                                   "not at 8388608")),
])
def test_linears_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(ScaledPlan(config=P3, channels=1, n=64, k=64), **changes)


def test_inputs_that_do_not_fit():
    tensor = quantize(np.ones((8, 64), np.float32), "bitmod4")
    plan = ScaledPlan(config=P3, channels=1, n=8, k=64)
    with pytest.raises(ConfigError, match=r"^x must be of 1 to 2 rows of 64 inputs, not of shape \(3, 64\)$"):
        scaled_inputs(plan, scaled_program(plan, "small", tensor), tensor, np.zeros((3, 64), np.float32))
