"""The integers of P3-LLM's unit are those that the MAC array of a `pim-p3` leaves: the same codes through both definitions."""

import dataclasses

import numpy as np
import pytest

from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.machine import PimMachine
from sw.golden.pim.p3_unit import LSB, p3_unit
from sw.pim.assembler import assemble
from sw.pim.scaled_operands import unit_of

CONFIG = dataclasses.replace(PIM_PRESETS["pim-tiny"], wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn",
                             ptype="float8_s0e4m4", acc="int32", lanes=64, k_tile=256, n_acc_slots=2)
K, OUTPUTS = 128, 16


@pytest.mark.parametrize("mode", range(3))
def test_the_array_leaves_what_the_unit_leaves(mode):
    """LINEAR and QK: 16 outputs of 128 inputs. PV: 16 elements of 128 tokens."""
    rng, machine = np.random.default_rng(mode), PimMachine(CONFIG)
    weights = rng.integers(0, 16, (OUTPUTS, K), dtype=np.uint8)
    x = rng.integers(0, 256, (CONFIG.rows_x, K), dtype=np.uint8)
    count = K if mode == 2 else OUTPUTS
    zeros, specials = rng.integers(0, 16, count, dtype=np.uint8), rng.integers(0, 4, count, dtype=np.uint8)
    word = np.zeros((K // CONFIG.word_bytes, CONFIG.word_bytes), np.uint8)
    word.reshape(-1)[:count] = zeros | specials << 6
    slices = list(x.reshape(CONFIG.rows_x, -1, CONFIG.lanes).transpose(1, 0, 2))
    text = f"setm operands, {mode}\nsetm k_beats, {1 if mode == 2 else 2}\nwrx cnt=1\n"
    if mode == 2:
        rows = np.zeros((K, CONFIG.lanes), np.uint8)
        rows[:, :OUTPUTS] = weights.T
        machine.write_row(0, 0, rows[:64])
        machine.write_row(1, 0, rows[64:])
        machine.host_in.extend([*slices, *word])
        text += "wrs cnt=63\nwrs xidx=64 cnt=63\nmac mode=bcast cnt=31 clr\nmac mode=bcast grp=1 cnt=31 xidx=64 last\nrdacc\neoc"
    else:
        machine.write_row(0, 0, weights)
        machine.host_in.extend([*slices, word[0]])
        text += "wrs cnt=15\nmac cnt=15 clr last\nrdacc cnt=15\neoc"
    machine.run(assemble(text))
    out = np.array(machine.host_out)
    found = out[0, :, :OUTPUTS] if mode == 2 else out[:, :, 0].T
    columns = weights.reshape(OUTPUTS, K // 4, 4).transpose(1, 0, 2)
    side = np.zeros((K // 4, OUTPUTS), np.uint8)
    side[:, :4 if mode == 2 else None] = zeros.reshape(-1, 4) if mode == 2 else zeros
    expected, clipped = p3_unit(mode, columns, x.reshape(CONFIG.rows_x, K // 4, 4).transpose(1, 0, 2), zero_point=side,
                                special=np.broadcast_to(specials[:OUTPUTS], side.shape))
    assert not clipped
    np.testing.assert_array_equal(found, expected)
    ways = ((CONFIG.wtype, CONFIG.xtype), (CONFIG.kvtype, CONFIG.xtype), (CONFIG.kvtype, CONFIG.ptype))
    assert unit_of(CONFIG, *ways[mode]) == LSB[mode]
