"""Packed blocks of the hybrid engine: where each bit lies, what is lost, what a config must be, and what the formulas promise."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.engines.hybrid import clusters_last_output, command_slots, mesh_cycles, record_bytes
from hw.errors import ConfigError
from hw.isa import DESCRIPTORS, Unit
from hw.presets import preset_named
from sw.assembler import assemble
from sw.device import DeviceHang
from sw.engines import engine_runtime, pack_weights, weight_layout
from sw.engines.hybrid import lost_blocks
from sw.generate import CompiledModel
from sw.golden.device import GoldenDevice
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.program import Program
from tb.array.hybrid import HYBRID_CONFIGS, SMALL_HYBRID
from tb.sw.decoders import MODEL, logits_of, random_weights, reference

BIG = preset_named("hybrid-32x32")


def test_a_record_has_distances_of_exponents_then_columns_of_tiles() -> None:
    """Two blocks of two passes, each weight by itself: output 1 has one block a factor 4 below the other, output 2 nothing."""
    config = replace(HYBRID_CONFIGS["8-2"], weight_formats=("mxint4", ), rows=16, columns=16, bus_width=128, vector_lanes=16)
    matrix = np.zeros((3, 64), np.float32)
    matrix[0, [0, 17, 63]] = [1.75, -0.25, 1.0]
    matrix[1, 5], matrix[1, 40] = 1.0, 0.25
    layout = weight_layout(config, 3, 64, "mxint4")
    packed, worth = pack_weights(config, layout, matrix)
    assert (layout.record_bytes, layout.group_stride, packed.size) == (16 + 2 * 128, 544, 544)
    first, second = packed.reshape(2, 272)
    assert first[:3].tolist() == [0, 0, 255]
    assert second[:3].tolist() == [0, 2, 255]
    nibbles = np.stack((packed & 15, packed >> 4), axis=-1).reshape(2, 544)[:, 32:].reshape(2, 2, 16, 16)
    found = {tuple(int(i) for i in where): int(nibbles[tuple(where)]) for where in np.argwhere(nibbles)}
    # (block, pass, output, element): 1.75 is 7 quarters; two's complement; output 1's second block is scaled by itself.
    assert found == {(0, 0, 0, 0): 7, (0, 1, 0, 1): 15, (1, 1, 0, 15): 4, (0, 0, 1, 5): 4, (1, 0, 1, 8): 4}
    assert worth.tolist() == [2.0**-10, 2.0**-10, 1.0]


def test_integer_scales_of_groups_are_stored_as_they_are() -> None:
    config = HYBRID_CONFIGS["8-2"]
    matrix = np.zeros((8, 64), np.float32)
    matrix[:, 3], matrix[:, 40] = 7.0, 14.0
    packed, worth = pack_weights(config, weight_layout(config, 8, 64, "int4-g32-int8"), matrix)
    first, second = packed.reshape(2, -1)[:, :8]
    assert set(first.tolist()) == {64}
    assert set(second.tolist()) == {127}
    assert worth.tolist() == pytest.approx([2 / 127] * 8)


def test_blocks_that_lose_bits_are_counted() -> None:
    config = replace(HYBRID_CONFIGS["4-1"], weight_formats=("mxint4", "int4-g32-int8"))
    matrix = np.zeros((4, 32 * 5), np.float32)
    matrix[:, ::32] = [1.0, 2.0**-3, 2.0**-4, 2.0**-31, 2.0**-32]
    matrix[3] = 0
    assert lost_blocks(config, weight_layout(config, 4, 160, "mxint4"), matrix) == (6, 3)     # beyond 3 guard bits; from 32 on
    assert lost_blocks(config, weight_layout(config, 4, 160, "int4-g32-int8"), matrix) == (0, 0)


@pytest.mark.parametrize(("field", "value", "default"), [("hybrid_clusters", 4, 2), ("guard_bits", 5, 8)])
def test_other_engines_have_no_use_for_its_fields(field: str, value: int, default: int) -> None:
    with pytest.raises(ConfigError, match=rf"^AcceleratorConfig\.{field} must be {default}, its default, with the engine "
                       rf"'systolic', which has no use for it, not {value}$"):
        AcceleratorConfig(**{field: value})
    assert AcceleratorConfig(**{field: default}) == AcceleratorConfig()


FORMATS = "mxint4 or int4-g…-int8, in blocks of 32, 64, 128 and of whole tiles,"


@pytest.mark.parametrize(("change", "rule", "given"), [
    ({"columns": 16}, "columns must be rows (8)", "16"),
    ({"rows": 12, "columns": 12, "vector_lanes": 12}, "rows must be a power of two between 4 and 64", "12"),
    ({"acc_width": 24}, "acc_width must be 32", "24"),
    ({"hybrid_clusters": 3}, "hybrid_clusters must be a power of two up to half of the columns (8)", "3"),
    ({"hybrid_clusters": 4}, "hybrid_clusters must be at most 2 (words of 4 bytes in a beat of 64 bits)", "4"),
    ({"bus_width": 512}, "bus_width must be at most 256, the bits of a tile,", "512"),
    ({"weight_formats": ()}, "weight_formats must be 1 to 63 formats", "()"),
    ({"weight_formats": ("mxint4-b32", "mxint4-b16")}, f"weight_formats must be {FORMATS}", "'mxint4-b16'"),
    ({"weight_formats": ("int4-g32",)}, f"weight_formats must be {FORMATS}", "'int4-g32'"),
    ({"weight_formats": ("mxint4-b128",), "guard_bits": 16}, "guard_bits must be small enough for sums of 32 bits", "16"),
])
def test_a_config_that_cannot_be_built_is_refused(change: dict, rule: str, given: str) -> None:
    text = f"AcceleratorConfig.{rule} for the hybrid engine, not {given}"
    with pytest.raises(ConfigError, match="^" + re.escape(text) + "$"):
        replace(HYBRID_CONFIGS["8-2"], **change)


@pytest.mark.parametrize(("change", "text"), [
    ({"dataflows": ("ws", "os")}, "dataflows must be ('ws',) for the hybrid engine, which has no other, not ('ws', 'os')"),
    ({"weight_format": "int4"}, "weight_format must be 'int8' for the hybrid engine (others are weight_formats), not 'int4'"),
    ({"protection": (("engine.mesh", "abft"),)},
     "protection must ask 'none' of engine.mesh for the hybrid engine, whose mesh does not check itself, not 'abft'"),
])
def test_what_no_engine_of_packed_weights_has_is_refused(change: dict, text: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"AcceleratorConfig.{text}") + "$"):
        replace(HYBRID_CONFIGS["8-2"], **change)


def test_a_mode_that_the_config_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^mode must be between 0 and 1 for this config, not 2$"):
        engine_runtime(HYBRID_CONFIGS["8-4"]).layout(HYBRID_CONFIGS["8-4"], 2, 8, 32)


@pytest.mark.parametrize(("block", "bits"), [(32, 4.25), (64, 4.125), (128, 4.0625)])
def test_bytes_of_weights_are_those_of_the_formula(block: int, bits: float) -> None:
    """Elements and one byte of scale for each block, to the byte, where outputs and inputs are whole groups and blocks."""
    config = replace(BIG, weight_formats=(f"mxint4-b{block}",))
    assert weight_layout(config, 2048, 5632, f"mxint4-b{block}").size * 8 == 2048 * 5632 * bits
    assert record_bytes(config, 1) * 8 == 32 * block * bits


def test_a_program_that_waits_for_weights_that_nothing_streams_hangs() -> None:
    config = HYBRID_CONFIGS["8-2"]
    code = assemble("set matrix.m, 1\nset matrix.n, 8\nset matrix.k, 32\nset matrix.mode, 65\nmatrix\nhalt")
    program = Program(name="hungry", config_digest=config.digest(), code=code, code_addr=0, regions=(), kernels=((0, "only"),))
    text = ("kernel 'only' of program 'hungry' hangs: MATRIX at instruction 4 waits for 136 bytes of weights that no load before "
            "it streams")
    with pytest.raises(DeviceHang, match=f"^{text}$"):
        GoldenDevice(config).open(1 << 12).run(program)


def matrix_fields(m: int, n: int, k: int) -> dict[str, int]:
    return {field.name: 0 for field in DESCRIPTORS[Unit.MATRIX]} | {"m": m, "n": n, "k": k, "mode": 1}


@pytest.mark.parametrize(("size", "least"), [(1024, 0.985), (2048, 0.99)])
@pytest.mark.parametrize("name", ["hybrid-16x16", "hybrid-32x32"])
def test_decode_keeps_the_weight_stream_busy(name: str, size: int, least: float) -> None:
    """K·M = 2^20 and 2^22 weights: beats over the cycles of the command alone, from its taking to `done`."""
    config = preset_named(name)
    beats = command_slots(config, 1, 1, size, size)
    assert beats * config.beat_bytes == weight_layout(config, size, size, "mxint4").size
    assert beats / engine_runtime(config).timing(config).command(0, matrix_fields(1, size, size)) >= least


def test_a_decoder_layer_keeps_the_weight_stream_busy() -> None:
    """Matrices of a 1.3 B-parameter layer, d = 2048, each waiting until the one before it is done."""
    done = beats = 0.0
    timing = engine_runtime(BIG).timing(BIG)
    for n, k in ((3 * 2048, 2048), (2048, 2048), (2 * 5504, 2048), (2048, 5504)):
        done = timing.command(done + 1, matrix_fields(1, n, k))
        beats += command_slots(BIG, 1, 1, n, k)
    assert beats / done >= 0.97


@pytest.mark.parametrize(("tiles", "least"), [(100, 0.965), (200, 0.98)])
def test_prefill_keeps_the_array_busy(tiles: int, least: float) -> None:
    """As many tokens as rows; formula of the array, which the bench of the mesh meets."""
    assert tiles * 32 / mesh_cycles(32, tiles, 32) >= least


def test_the_specifications_example() -> None:
    """2^20 weights, N = 32, 8 clusters: 4096 slots, and 39 cycles more until the last PE has added."""
    assert clusters_last_output(32, 8, 1024, 1024) == 4096 + 37
    assert 4096 / (clusters_last_output(32, 8, 1024, 1024) + 1) >= 0.985


@pytest.mark.parametrize("weights", ["mxint4", "int4-g32-int8"])
def test_one_token_streams_every_weight_once_past_the_scratchpad(weights: str) -> None:
    config = replace(preset_named("systolic-8x8"), **SMALL_HYBRID | {"scratchpad_bytes": 1 << 17, "accumulator_rows": 512},
                     weight_formats=("mxint4", "int4-g32-int8"))
    model = replace(MODEL, layers=1, hidden=64, ffn=128, context=64)
    random = random_weights(model)
    compiled = CompiledModel(config, model, random, plan=WeightPlan.uniform(model.layers, weights))
    session = GoldenDevice(config).open(len(compiled.dram))
    tokens = [5, 17, 80, 3, 44]
    logits, _ = logits_of(compiled, [tokens[:4], tokens[4:]], session)
    loads = [event.fields for event in session.trace if event.unit == Unit.LOAD and event.fields["stream"]]
    streamed = sum(fields["rows"] * fields["row_bytes"] for fields in loads)
    shapes = [(4 * 24 + 2 * 2 * 24, 64), (64, 4 * 24), (2 * 128, 64), (64, 128)]
    assert streamed == sum(weight_layout(config, n, k, weights).size for n, k in shapes)
    exact = reference(model, random, tokens)
    assert np.corrcoef(logits, exact)[0, 1] > 0.95
