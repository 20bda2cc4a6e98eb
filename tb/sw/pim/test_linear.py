"""Linears over channels: bit for bit the golden product, tile after tile of K, whatever the number of channels."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.isa import PimOpcode
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.device import GoldenPimDevice
from sw.golden.pim.reduction import tree_product
from sw.pim.assembler import decode
from sw.pim.checker import check
from sw.pim.linear import LinearPlan, linear_inputs, linear_outputs, linear_program

TINY = PIM_PRESETS["pim-tiny"]
DUPLEX = dataclasses.replace(PIM_PRESETS["pim-duplex"], dram_rows=32)
HALVES = dataclasses.replace(TINY, segments=2, xbuf_entries=16, sm_lanes=2)
AIM = dataclasses.replace(PIM_PRESETS["pim-aim"], wtype="float16", kvtype="float16", xtype="float16", ptype="float16",
                          dram_rows=32)
P3 = dataclasses.replace(PIM_PRESETS["pim-p3"], n_pch=1)
SHAPES = {"resident": (TINY, 100, 128, 1), "tiles": (TINY, 37, 390, 2), "fewer outputs than a row": (TINY, 3, 200, 1),
          "one output": (TINY, 1, 1, 1), "rows of X": (TINY, 70, 64, 5), "Logic-PIM": (DUPLEX, 300, 1100, 9),
          "two segments": (HALVES, 101, 390, 3),
          "one output of two": (HALVES, 1, 1, 1), "GDDR6-AiM": (AIM, 333, 700, 1)}


def halves(rng, *shape):
    return rng.normal(size=shape).astype(np.float16).astype(np.float32)


def expected(config, weights, x):
    """Return x · weightsᵀ as the PIM adds: tiles of K one after the other."""
    total = None
    for first in range(0, weights.shape[1], config.k_tile):
        part = slice(first, first + config.k_tile)
        missing = -len(x[0, part]) % (config.burst_weights // config.segments)
        padded = [np.pad(a[:, part], ((0, 0), (0, missing))) for a in (weights, x)]
        product = tree_product(*padded, lanes=config.width, slots=config.n_acc_slots)
        total = product if total is None else total + product
    return total.T


@pytest.mark.parametrize("name", SHAPES)
def test_results_are_those_of_the_golden_product_on_any_number_of_channels(name):
    config, n, k, rows = SHAPES[name]
    rng = np.random.default_rng(5)
    weights, x = halves(rng, n, k), halves(rng, rows, k)
    for channels in (1, 2):
        plan = LinearPlan(config=config, channels=channels, n=n, k=k, addr=3 * config.row_bytes * min(16, config.row_sets))
        program = linear_program(plan, name, weights, passes=-(-rows // config.rows_x))
        session = GoldenPimDevice(config, channels).open()
        result = session.run(program, None, linear_inputs(plan, program, x))
        np.testing.assert_array_equal(linear_outputs(plan, result.outputs, rows), expected(config, weights, x))


def test_weights_that_are_there_already():
    rng = np.random.default_rng(6)
    weights, x = halves(rng, 40, 128), halves(rng, 1, 128)
    plan = LinearPlan(config=TINY, channels=1, n=40, k=128)
    session = GoldenPimDevice(TINY, 1).open()
    linear_program(plan, "placed", weights).place(TINY, session.memory)
    program = linear_program(plan, "found")
    result = session.run(program, None, linear_inputs(plan, program, x))
    np.testing.assert_array_equal(linear_outputs(plan, result.outputs, 1), expected(TINY, weights, x))


def test_rows_in_one_run_are_a_loop():
    plan = LinearPlan(config=TINY, channels=1, n=512, k=64)
    words = linear_program(plan, "wide", passes=3).lists[0]
    names = [decode(int(word))[0] for word in words]
    # 512 outputs of two bursts are 32 rows; a chunk of 32 outputs is two of them; the passes are the outer loop.
    assert names.count(PimOpcode.MAC) == 16
    assert names.count(PimOpcode.LOOP) == 17
    assert names.count(PimOpcode.WRX) == 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"n": 0}, "LinearPlan.n must be at least 1, not 0"),
    ({"k": 0}, "LinearPlan.k must be at least 1, not 0"),
    ({"channels": 3}, "LinearPlan.channels must be between 1 and 2, the pseudo-channels, not 3"),
    ({"addr": 2048}, "LinearPlan.addr must be a multiple of 32768, a row of all sets, not 2048"),
    ({"n": 1 << 14, "k": 1 << 10}, ("a linear of 16384 outputs and 1024 inputs must end within 2097152 bytes, a channel's, "
                                   "not at 33554432")),
    ({"config": dataclasses.replace(TINY, k_tile=16)}, ("PimConfig.k_tile must be a multiple of the 32 weights of a segment's "
                                                       "burst to run a linear, not 16")),
    ({"config": dataclasses.replace(TINY, obuf_entries=1)}, ("PimConfig.obuf_entries must be above 1 to run a linear of 64 "
                                                             "inputs, not 1")),
    ({"config": dataclasses.replace(TINY, obuf_entries=2, k_tile=128, xbuf_entries=16), "k": 96},
     "PimConfig.obuf_entries must be above 2 to run a linear of 96 inputs, not 2"),
    ({"config": P3}, ("PimConfig.wtype must be one of float16, bfloat16, float8_e4m3fn, int8 to run a linear without scales, "
                      "not 'bitmod4'")),
])
def test_linears_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        dataclasses.replace(LinearPlan(config=TINY, channels=1, n=64, k=64), **changes)


@pytest.mark.parametrize(("config", "k", "chunk"), [
    ("pim-duplex-tiny", 128, 32), ("pim-duplex-tiny", 96, 29), ("pim-duplex-tiny", 732, 29), ("pim-aim", 821, 7),
    ("pim-aim", 302, 7), ("pim-duplex", 380, 125), ("pim-hbm", 1000, 4)])
def test_lists_are_sound_whatever_the_beats_of_an_output(config, k, chunk):
    # Of six beats an output the footprints of hardware are half as long again.
    plan = LinearPlan(config=PIM_PRESETS[config], channels=1, n=400, k=k)
    assert plan.chunk == chunk
    (words,) = linear_program(plan, "odd", None).lists
    assert check(plan.config, [int(word) for word in words]).hazards == ()


def test_one_chunk_needs_no_second_half():
    assert LinearPlan(config=dataclasses.replace(TINY, obuf_entries=1), channels=1, n=1, k=64).chunk == 1


@pytest.mark.parametrize("shape", [(3, 64), (1, 65), (0, 64), (64,)])
def test_inputs_that_do_not_fit(shape):
    plan = LinearPlan(config=TINY, channels=1, n=64, k=64)
    with pytest.raises(ConfigError, match=r"^x must be of 1 to 2 rows of 64 inputs, not of shape \("):
        linear_inputs(plan, linear_program(plan, "small"), np.zeros(shape, np.float32))
