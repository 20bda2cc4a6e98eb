"""Range restriction: how large what each linear of a model makes is on a text, and so what is worth a suspicion of a fault.

Reference: Chen et al., A low-cost fault corrector for deep neural networks through range restriction (Ranger), DSN 2021: bounds
of activations from training data, beyond which values are set to the bound. We differ in where: behind each matrix product,
before anything is added to it, since residuals carry large values on purpose; and one bound is for a linear of all layers, whose
code is one loop.
"""

from collections.abc import Sequence

import numpy as np

from hw.config import AcceleratorConfig
from hw.isa import RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from sw.golden.branch import advance, begin, commands_of
from sw.golden.llama import LlamaConfig, LlamaWeights
from sw.golden.sequencer import Event
from sw.golden.state import State
from sw.golden.vector.unit import run_vector
from sw.prompts import PromptPrograms

__all__ = ["calibrate"]

_LINEARS = {"qkv": "qkv", "attention output": "output", "gate and up": "up", "down": "down", "head": "head"}
"""Phase of a program → the linear whose results its vector commands scale."""
_WITHOUT = {"middle": 0, "mask_en": 0, "function": VectorFunction.IDENTITY, "post": 0, "sum": 0, "row1_use": RowUse.NONE,
            "output": VectorOutput.NONE, "max": 2}
SIDE_BY_SIDE = 16


def calibrate(config: AcceleratorConfig, model: LlamaConfig, weights: LlamaWeights, prompts: Sequence[Sequence[int]], *,
              margin: float = 1.0) -> dict[str, float]:
    """Return each of `sw.kernels.transformer.decoder.LIMITS` → `margin` times the largest magnitude that its results have.

    Every prompt runs on the golden device; at each command that scales what the engine has made, the unit's own model says how
    large that is.

    Parameters
    ----------
    config : AcceleratorConfig
    model : LlamaConfig
    weights : LlamaWeights
    prompts : sequence of sequences of int
        Of equal length, 2 to 64 tokens.
    margin : float
        At least 1.

    Raises
    ------
    ValueError
        If there is no prompt, they differ in length, or the margin is less than 1.
    """
    lengths = {len(prompt) for prompt in prompts}
    if len(lengths) != 1:
        raise ValueError(f"prompts must be one or more of equal length, not of {sorted(lengths) or 'none'}")
    if not margin >= 1:
        raise ValueError(f"margin must be at least 1, not {margin!r}")
    programs = PromptPrograms(config, model, weights, lengths.pop(), 1)
    commands = commands_of(programs.prompt, programs.prompt_args)
    found: dict[str, float] = {}
    for start in range(0, len(prompts), SIDE_BY_SIDE):
        group = prompts[start:start + SIDE_BY_SIDE]
        memory = np.repeat(programs.dram[None], len(group), axis=0)
        for row, prompt in zip(memory, group, strict=True):
            programs.place(prompt, row)
        state = begin(config, memory)
        for event in commands:
            kernel = programs.prompt.kernel_at(event.pc)
            if event.unit == Unit.VECTOR and event.fields["source"] == VectorSource.ACCUMULATOR and kernel in _LINEARS:
                name = "gate" if event.fields["function"] == VectorFunction.SIGMOID else _LINEARS[kernel]
                found[name] = max(found.get(name, 0.0), _largest(state, event))
            advance(state, [event])
    return {name: float(np.float32(margin * value)) for name, value in found.items()}


def _largest(state: State, event: Event) -> float:
    """Return the largest magnitude of accumulator words times their scales, as a command has them."""
    fields, m = event.fields, event.fields["m"]
    free = 0 if fields["row0_addr"] >= m else state.config.vector_rows - m
    assert not fields["row0_en"] or abs(free - fields["row0_addr"]) >= m
    rows = state.rows.copy()
    c_use = fields["c_use"] if fields["c_use"] == StreamUse.BIAS else StreamUse.NONE
    run_vector(state.config, {**fields, **_WITHOUT, "c_use": c_use, "max_addr": free}, state.scratchpad, state.accumulator, rows)
    return float(rows[..., free:free + m].max())
