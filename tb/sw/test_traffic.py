"""Bytes of a token: the formula against every command of the program, and nothing of the activations among them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.config import ceil_div
from hw.isa import Unit
from hw.presets import preset_named
from sw.generate import CompiledModel, arguments
from sw.golden.sequencer import run_sequencer
from sw.hazards import find_hazards
from sw.kernels.transformer.shape import ShapeError
from sw.kernels.transformer.traffic import code_bytes, decode_bytes
from sw.models.llama import LlamaModel
from tb.sw.decoders import CONFIGS, MODEL, logits_of, random_weights

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "python-llama-1m"
SMALL = {"hidden": 48, "ffn": 40, "heads": 2, "kv_heads": 1, "head_dim": 32, "vocab": 33, "layers": 2}
STAYS = CONFIGS["8x8"]
GOES = replace(CONFIGS["8x8"], scratchpad_bytes=1 << 14)
"""Too small a scratchpad for all of a token."""


def commands(config, compiled, position, resync):
    """Yield unit, bytes on the bus, and region of DRAM of every load and store of a token."""
    program = compiled.decode
    values = program.argument_values(arguments(program, position, 1, resync=resync))
    for event in run_sequencer(program.code, values, parity=program.parity):
        fields = event.fields
        if event.unit == Unit.STORE:
            moved = fields["rows"] * fields["row_bytes"]
        elif event.unit == Unit.LOAD and not (fields["stream"] and fields["unpack"] and not fields["transpose"]):
            moved = fields["rows"] * ceil_div(fields["row_bytes"], config.beat_bytes) * config.beat_bytes
        else:
            continue
        region = next(region.name for region in program.regions
                      if region.addr <= fields["dram_addr"] < region.addr + max(region.size, 1))
        yield event.unit, moved, region


@pytest.mark.parametrize("kv", ["int8", "int4-asym"])
@pytest.mark.parametrize(("config", "changes"), [
    (CONFIGS["16x16"], {}), (STAYS, SMALL), (CONFIGS["4x4"], {**SMALL, "head_dim": 16}),
    (preset_named("hybrid-16x16"), {"head_dim": 32}), (preset_named("hybrid-16x16"), {"heads": 3, "kv_heads": 3, "head_dim": 8}),
    (preset_named("bitvert-16x32"), {}), (preset_named("hss-8x8"), {})], ids=lambda value: getattr(value, "engine", None))
def test_every_command_is_in_the_formula(config, changes, kv):
    model = replace(MODEL, **changes)
    compiled = CompiledModel(config, model, random_weights(model), chunk=8, kv=kv)
    for position, resync in ((0, True), (1, False), (63, False), (300, True)):
        moved = {unit: 0 for unit in Unit}
        for unit, count, _ in commands(config, compiled, position, resync):
            moved[unit] += count
        found = decode_bytes(config, compiled.memory, position, resync=resync)
        assert (found.bytes_read, found.bytes_written) == (moved[Unit.LOAD], moved[Unit.STORE])


def test_no_activation_moves():
    """What loads and stores touch: the embedding, the angles, weights, the cache and the logits."""
    model = replace(MODEL, **SMALL)
    compiled = CompiledModel(STAYS, model, random_weights(model), chunk=8)
    touched = {(unit, region) for unit, _, region in commands(STAYS, compiled, 40, True)}
    loaded = {(Unit.LOAD, region) for region in ("x", "angles", "weights", "cache")}
    assert touched == loaded | {(Unit.STORE, "cache"), (Unit.STORE, "logits")}


@pytest.mark.parametrize(("preset", "bits"), [("systolic-16x16", 8), ("hybrid-16x16", 4.25)])
def test_the_shipped_model_reads_its_weights_once(preset, bits):
    config, model = preset_named(preset), LlamaModel(SHIPPED)
    compiled = CompiledModel(config, model.config, model.checkpoint.weights())
    sizes = model.config
    layer = sizes.hidden * (sizes.heads + 2 * sizes.kv_heads + sizes.heads) * sizes.head_dim + 3 * sizes.hidden * sizes.ffn
    found = decode_bytes(config, compiled.memory, 99)
    assert found.read["weights"] == sizes.layers * layer * bits / 8 + sizes.vocab * sizes.hidden
    assert found.read["keys and values"] == 100 * sizes.layers * 2 * sizes.kv_heads * sizes.head_dim
    assert found.written["keys and values"] == sizes.layers * 2 * sizes.kv_heads * sizes.head_dim
    assert found.written["logits"] == 4 * sizes.vocab


def test_instructions_have_a_least_and_a_most():
    """A program that the cache holds is fetched once, but for loops that do not run; one that it does not, layer after layer."""
    model = replace(MODEL, **SMALL)
    compiled = CompiledModel(STAYS, model, random_weights(model), chunk=8)
    program, args = compiled.decode, {"position": 3}
    least, most = code_bytes(STAYS, program, args)
    whole = 64 * ceil_div(program.code_bytes, 64)
    assert whole < least < most < 2.5 * whole
    fewest, all_but_skipped = code_bytes(replace(STAYS, command_lines=1024), program, args)
    assert 0.8 * whole < fewest < all_but_skipped <= whole


def test_a_token_that_does_not_fit_goes_to_dram():
    """Its activations wait in DRAM between phases, its logits are the same but for the order of sums."""
    model = replace(MODEL, **SMALL)
    weights, tokens = random_weights(model), np.random.default_rng(0).integers(0, 33, 12).tolist()
    stays, goes = (CompiledModel(config, model, weights, chunk=1) for config in (STAYS, GOES))
    assert stays.memory.on_chip(STAYS) is not None
    assert goes.memory.on_chip(GOES) is None
    logits = [logits_of(compiled, [tokens])[0] for compiled in (stays, goes)]
    assert np.corrcoef(*logits)[0, 1] > 0.9999
    regions = {region for _, _, region in commands(GOES, goes, 40, True)}
    assert {"qkv", "attention", "mlp"} <= regions
    with pytest.raises(ShapeError) as error:
        decode_bytes(GOES, goes.memory, 3)
    assert str(error.value) == ("activations must stay on the chip for a formula of bytes, not need more than the config's "
                                "16384 scratchpad bytes")
    for position in (0, 63, 64, 200):
        assert find_hazards(GOES, goes.decode, arguments(goes.decode, position, 1)) == []
