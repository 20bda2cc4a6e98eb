"""Tokens of a whole model of 1.3 G parameters on a preset: predicted cycles of prompts and of tokens behind them."""

from collections.abc import Callable
from dataclasses import replace

from hw.config import AcceleratorConfig
from sw.engines import default_weights
from sw.generate import arguments
from sw.golden.llama import LlamaConfig
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.layout import round_up
from sw.perf import MemoryModel, predict

__all__ = ["MODEL", "SCENARIOS", "model_cycles", "run_cycles"]

MODEL = LlamaConfig(vocab=50304, hidden=2048, ffn=5504, layers=24, heads=16, kv_heads=16, head_dim=128, context=2304,
                    rope_theta=1e4, norm_eps=1e-5, tied=True)
"""RetNet-1.3B's width, layers and vocabulary, with attention and a gated MLP as Llama has them: 1.32 G parameters."""
SCENARIOS = {"long input": (2048, 128), "long output": (128, 2048)}
"""Tokens of the prompt, and behind it; ours, since the paper's are not known."""


def _linear(cycles: Callable[[int], int], first: int, last: int, runs: int) -> float:
    """Return the sum of `runs` runs from position `first` to `last`, whose cycles grow evenly."""
    return runs * (cycles(first) + cycles(last)) / 2


def run_cycles(config: AcceleratorConfig, count: int, position: int, *, chunk: int, head: str, memory: MemoryModel,
               model: LlamaConfig = MODEL) -> int:
    """Return the predicted cycles of a run of `count` tokens from `position` on, all matrices in the config's usual format.

    Layers are alike: programs of one and of two are predicted. Prompts go in chunks of `chunk` tokens. `head`: "none", or "last"
    for the logits of the last token.
    """
    found, weights = [], default_weights(config)
    for layers in (1, 2):
        few = replace(model, layers=layers)
        areas = decoder_memory(config, few, tokens=chunk, plan=WeightPlan.uniform(layers, weights, weights))
        program = decoder_program(config, areas, tokens=count, code_addr=round_up(areas.end, 64), head=head,
                                  make_angles=count == 1 and areas.makes_angles(config))
        found.append(predict(config, program, arguments(program, position, count, resync=False), memory).cycles)
    return found[0] + (model.layers - 1) * (found[1] - found[0])


def model_cycles(config: AcceleratorConfig, prompt: int, tokens: int, model: LlamaConfig = MODEL) -> tuple[float, float]:
    """Return the predicted cycles of a prompt and of the tokens behind it, from their first and last runs.

    Prompts go in chunks of N tokens, which fill the mesh.
    """
    chunk = config.rows

    def cycles(count: int, position: int, head: str) -> int:
        return run_cycles(config, count, position, chunk=chunk, head=head, memory=MemoryModel(), model=model)

    filled = _linear(lambda position: cycles(chunk, position, "none"), 0, prompt - chunk, prompt // chunk)
    return filled, _linear(lambda position: cycles(1, position, "last"), prompt, prompt + tokens - 1, tokens)
