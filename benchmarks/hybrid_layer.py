"""A decoder layer of a model of 1.3 G parameters on RTL, hybrid beside systolic presets: how busy its weights keep the bus."""

from typing import Any

import numpy as np

from benchmarks.decoder import random_weights
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.presets import preset_named
from sw.engines import default_weights, weight_layout
from sw.generate import arguments
from sw.golden.device import GoldenDevice
from sw.golden.llama import LlamaConfig
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.layout import round_up
from sw.models.llama_image import place_angles, place_embeddings, place_model
from sw.perf import MemoryModel, predict
from sw.program import RESYNC

__all__ = ["LAYER", "decode_layer", "rows", "weight_bytes"]

LAYER = LlamaConfig(vocab=256, hidden=2048, ffn=5504, layers=1, heads=16, kv_heads=16, head_dim=128, context=256, rope_theta=1e4,
                    norm_eps=1e-5, tied=True)
"""TinyLlama's and RetNet-1.3B's width, the MLP of Llama's ratio: 50.6 M weights."""
GOAL = 0.97


def weight_bytes(config: AcceleratorConfig, model: LlamaConfig) -> int:
    """Return the bytes of a layer's weights in the config's first packed format, else plain, with the scales of their blocks."""
    queries, keys = model.heads * model.head_dim, 2 * model.kv_heads * model.head_dim
    matrices = (queries + keys, model.hidden), (model.hidden, queries), (2 * model.ffn, model.hidden), (model.hidden, model.ffn)
    return sum(weight_layout(config, n, k, default_weights(config)).size for n, k in matrices)


def decode_layer(config: AcceleratorConfig, model: LlamaConfig, position: int) -> dict[str, Any]:
    """Return what a token at `position` takes through all layers, without the output matrix; all memory is compared.

    Keys and values of the positions before are zeros, which take as many cycles as others.
    """
    weights, fmt = random_weights(model, 1), default_weights(config)
    memory = decoder_memory(config, model, tokens=1, plan=WeightPlan.uniform(model.layers, fmt))
    program = decoder_program(config, memory, tokens=1, code_addr=memory.end, head="none",
                              make_angles=memory.makes_angles(config))
    args, images, results = arguments(program, position, 1), [], []
    for device in (GoldenDevice(config), RtlDevice(config)):
        session = device.open(round_up(program.memory_bytes, 4096))
        place_model(config, memory, weights, session.memory)
        place_embeddings(memory, weights, [1], session.memory)
        if RESYNC in args:
            place_angles(memory, position, session.memory)
        results.append(session.run(program, args))
        images.append(session.memory.copy())
        session.close()
    assert np.array_equal(*images)
    cycles, counters = results[1].cycles, results[1].counters
    read = model.layers * weight_bytes(config, model)
    return {"cycles": cycles, "weight bytes": read, "other bytes read": counters["bytes_read"] - read,
            "bytes written": counters["bytes_written"],
            "predicted": predict(config, program, args, MemoryModel()).cycles, "utilization": read / config.beat_bytes / cycles}


def rows() -> list[dict[str, Any]]:
    """Return a row for each hybrid preset and position, and for the systolic preset of as many MACs, which has no goal."""
    table = []
    for size in ("16x16", "32x32"):
        for engine, positions in (("systolic", (0,)), ("hybrid", (0, 255))):
            config = preset_named(f"{engine}-{size}")
            for position in positions:
                table.append({"config": f"{engine}-{size}", "position": position, **decode_layer(config, LAYER, position),
                              "goal": GOAL if engine == "hybrid" else "–"})
    return table
