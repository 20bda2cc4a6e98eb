"""Language models on the RTL: a decoder layer against the engine's peak and the bus, and tokens of the shipped model."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from flows.rtl_device import RtlDevice
from hw.presets import preset_named
from sw.generate import CompiledModel, Generator
from sw.golden.device import GoldenDevice
from sw.golden.llama import LlamaConfig, LlamaLayer, LlamaWeights
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.layout import round_up
from sw.models.llama import LlamaModel
from sw.models.llama_image import place_embeddings, place_model
from sw.perf import MemoryModel, predict
from sw.program import Program

SHIPPED = Path(__file__).parents[1] / "models" / "python-llama-1m"
PRESET = "systolic-16x16"
LAYER = LlamaConfig(vocab=256, hidden=1024, ffn=2816, layers=1, heads=16, kv_heads=16, head_dim=64, context=256, rope_theta=1e4,
                    norm_eps=1e-5, tied=True)
PROMPT_TOKENS, CHUNK = 128, 32
GOALS = {"prefill": 0.85, "decode": 1.1}


def random_weights(model: LlamaConfig, seed: int) -> LlamaWeights:
    """Return weights whose products have about the variance of what they are multiplied by."""
    rng = np.random.default_rng(seed)
    width, kv_width = model.heads * model.head_dim, model.kv_heads * model.head_dim

    def matrix(outputs: int, inputs: int) -> Any:
        return (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)

    ones = np.ones(model.hidden, np.float32)
    layers = [LlamaLayer(
        attention_norm=ones, q=matrix(width, model.hidden), k=matrix(kv_width, model.hidden), v=matrix(kv_width, model.hidden),
        o=matrix(model.hidden, width), mlp_norm=ones, gate=matrix(model.ffn, model.hidden), up=matrix(model.ffn, model.hidden),
        down=matrix(model.hidden, model.ffn)) for _ in range(model.layers)]
    embedding = matrix(model.vocab, model.hidden)
    return LlamaWeights(embedding=embedding, layers=layers, norm=ones, head=embedding)


def layer_rows(model: LlamaConfig = LAYER, prompt: int = PROMPT_TOKENS, chunk: int = CHUNK) -> list[dict[str, Any]]:
    """Return a row for the prompt's chunks together and one for the token behind it; every byte of memory is compared."""
    config = preset_named(PRESET)
    weights = random_weights(model, 1)
    memory = decoder_memory(config, model, tokens=chunk)
    fill = decoder_program(config, memory, tokens=chunk, code_addr=memory.end, head="none")
    step = decoder_program(config, memory, tokens=1, code_addr=round_up(memory.end + fill.code_bytes, 64), head="none")
    sessions = [device.open(round_up(step.memory_bytes, 4096)) for device in (RtlDevice(config), GoldenDevice(config))]
    for session in sessions:
        place_model(config, memory, weights, session.memory)
    tokens = np.random.default_rng(2).integers(0, model.vocab, prompt + 1)

    def run(program: Program, position: int, count: int) -> tuple[int, int]:
        """Return cycles and MACs of one run on the RTL."""
        args = {"position": position, "count": count} if "count" in program.arguments else {"position": position}
        for session in sessions:
            place_embeddings(memory, weights, tokens[position:position + count], session.memory)
        results = [session.run(program, args) for session in sessions]
        assert np.array_equal(sessions[0].memory, sessions[1].memory)
        return results[0].cycles, results[0].counters["macs"]

    cycles, macs = np.sum([run(fill, position, chunk) for position in range(0, prompt, chunk)], axis=0)
    utilization = macs / cycles / config.peak_macs_per_cycle
    step_cycles, _ = run(step, prompt, 1)
    for session in sessions:
        session.close()
    busy = predict(config, step, {"position": prompt}, MemoryModel()).busy
    bound = max(memory.runs[0].layer_bytes / config.beat_bytes, busy["matrix"])
    return [
        {"what": f"prefill of {prompt} tokens, a layer of {model.hidden}", "cycles": int(cycles), "figure": float(utilization),
         "of": "utilization", "goal": GOALS["prefill"]},
        {"what": f"decode of a token, a layer of {model.hidden}", "cycles": step_cycles, "figure": step_cycles / bound,
         "of": "cycles / max(bus, engine)", "goal": GOALS["decode"]},
    ]


def token_rows(count: int = 16) -> list[dict[str, Any]]:
    """Return a row of the shipped model's tokens a second in simulation."""
    config = preset_named(PRESET)
    model = LlamaModel(SHIPPED)
    compiled = CompiledModel(config, model.config, model.checkpoint.weights())
    device = RtlDevice(config)
    generator = Generator(device.open(len(compiled.dram)), compiled)
    for fed in generator.feed([0, *b"def fibonacci(n):\n"]):
        step = fed
    cycles, start = 0, time.perf_counter()
    for _ in range(count):
        assert step.logits is not None
        step, = generator.feed([int(np.argmax(step.logits))])
        cycles += step.result.cycles
    seconds = time.perf_counter() - start
    return [{"what": "tokens of python-llama-1m in simulation", "cycles": cycles // count, "figure": count / seconds,
             "of": "tokens/s", "goal": 1.0}]


def rows() -> list[dict[str, Any]]:
    """Return all rows."""
    return layer_rows() + token_rows()
