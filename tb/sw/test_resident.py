"""What lies where in a program of one token whose activations stay on the chip."""

from dataclasses import replace
from itertools import combinations

import pytest

from hw.presets import preset_named
from sw.golden.llama import LlamaConfig
from sw.kernels.transformer.decoder import decoder_memory
from sw.kernels.transformer.resident import GROUPS
from tb.sw.decoders import CONFIGS, MODEL

LARGE = LlamaConfig(vocab=32000, hidden=2048, ffn=5504, layers=1, heads=16, kv_heads=16, head_dim=128, context=2048,
                    rope_theta=1e4, norm_eps=1e-5, tied=False)
PRESETS = ("systolic-16x16", "hybrid-16x16", "hybrid-32x32", "bitmod-16x16", "bitvert-16x32", "hss-8x8")


@pytest.mark.parametrize("kv", ["int8", "int4-asym"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", [MODEL, LARGE], ids=["small", "2048 wide"])
def test_nothing_overlaps(preset, model, kv):
    """But for what only one phase needs: queries, keys and values, and the MLP's row."""
    config = preset_named(preset)
    found = decoder_memory(config, model, tokens=1, kv=kv).on_chip(config)
    ends = {name: area.addr + area.slot_bytes * area.slots for name, area in found.areas.items()}
    assert max(ends.values()) <= config.scratchpad_bytes
    for one, other in combinations(found.areas, 2):
        assert ends[one] <= found.areas[other].addr or ends[other] <= found.areas[one].addr
    assert found.areas.keys() == {name for names in GROUPS.values() for name in names} - (
        set() if kv == "int4-asym" else {"packed", "negated", "unpacked"})
    assert found.places["qkv"] == found.places["mlp"]
    assert found.areas["wide"].slot_bytes >= 4 * max(found.shape.qkv_width, found.shape.ffn)
    assert found.queries.addr == found.areas["queries"].addr
    assert found.queries.end <= ends["queries"]


def test_banks_of_their_own_where_there_are_enough():
    """Tiles of keys are as large as leaves each group a bank; where none does, as large as fits."""
    config = CONFIGS["16x16"]
    memory = decoder_memory(config, MODEL, tokens=1)
    found = memory.on_chip(config)
    bank = config.scratchpad_bank_bytes
    banks = [{byte // bank for name in names if name in found.areas
              for byte in (found.areas[name].addr, found.areas[name].addr + found.areas[name].slot_bytes - 1)}
             for names in GROUPS.values()]
    assert all(not one & other for one, other in combinations(banks, 2))
    few = replace(config, scratchpad_banks=2)
    assert decoder_memory(few, MODEL, tokens=1).on_chip(few).shape.key_tile == memory.shape(config, 1).key_tile
