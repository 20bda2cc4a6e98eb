"""A decoder layer of a model of 1.3 G parameters: its weights keep the bus busy; a small one on the RTL, as predicted."""

import pytest

from benchmarks.hybrid_layer import GOAL, LAYER, decode_layer, weight_bytes
from hw.presets import preset_named
from sw.generate import arguments
from sw.golden.llama import LlamaConfig
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.perf import MemoryModel, predict
from tb.flows.test_generate_hybrid import CONFIG


@pytest.mark.parametrize("preset", ["hybrid-16x16", "hybrid-32x32"])
def test_weights_keep_the_bus_busy(preset: str) -> None:
    """What `python -m benchmarks hybrid_layer` measures on the RTL."""
    config = preset_named(preset)
    memory = decoder_memory(config, LAYER, tokens=1, plan=WeightPlan.uniform(1, "mxint4"))
    program = decoder_program(config, memory, tokens=1, code_addr=memory.end, head="none", make_angles=True)
    cycles = predict(config, program, arguments(program, 0, 1), MemoryModel()).cycles
    weights = 4 * 2048**2 + 3 * 2048 * 5504
    assert weight_bytes(config, LAYER) == weights * 4.25 / 8
    assert weights * 4.25 / 8 / config.beat_bytes >= GOAL * cycles


@pytest.mark.xdist_group("hybrid-8x8")
def test_a_small_layer_on_the_rtl() -> None:
    """All of memory as the golden device; measured as predicted, every byte of weights read once."""
    model = LlamaConfig(vocab=32, hidden=256, ffn=512, layers=1, heads=16, kv_heads=16, head_dim=16, context=256, rope_theta=1e4,
                        norm_eps=1e-5, tied=True)
    found = decode_layer(CONFIG, model, 3)
    assert found["cycles"] == pytest.approx(found["predicted"], rel=0.04)
    assert found["weight bytes"] == (4 * 256**2 + 3 * 256 * 512) * 4.25 / 8
    assert found["utilization"] == pytest.approx(found["weight bytes"] / CONFIG.beat_bytes / found["cycles"])
    assert 0.75 < found["utilization"] < 1
