"""Cycles of one token that RMSNorm and RoPE add, which the weights' bytes do not cover, on the RTL of some presets."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.presets import preset_named
from sw.generate import CompiledModel, arguments
from sw.golden.llama import LlamaConfig, LlamaWeights
from sw.kernels.passes.command import Floats, vector_pass
from sw.kernels.transformer.token_heads import TokenHeads
from sw.models.llama import LlamaModel
from sw.models.llama_image import place_angles
from sw.program import RESYNC, Program

__all__ = ["exposed", "measured", "rows"]

PRESETS = ("systolic-16x16", "hybrid-16x16", "bitvert-16x32")
POSITION = 17


def _only_magnitudes(heads: TokenHeads) -> None:
    """Find the largest magnitudes of queries and keys in one pass instead of turning them."""
    shape = heads.shape
    heads.emitter.passes([vector_pass("magnitude", a=Floats(heads.at, heads.row), m=shape.heads + shape.kv_heads,
                                      n=shape.head_dim, amax_to=heads.scalars["magnitude"])])


def exposed(config: AcceleratorConfig, model: LlamaConfig, weights: LlamaWeights,
            cycles: Callable[[CompiledModel, Program], int]) -> dict[str, float]:
    """Return the cycles of a token, and those that each of its norms and the positions of each of its layers add.

    The same program without norms has codes and their scale as for rows that are not normalized; the one without positions
    has the largest magnitudes of queries and keys, which are needed either way.

    Parameters
    ----------
    cycles : function of CompiledModel and Program
        The cycles of a program of one token.
    """
    bare: Any = replace(model, norm_eps=None)          # a row scale without the norm's factor
    variants: Mapping[str, tuple[LlamaConfig, AbstractContextManager[Any]]] = {
        "token": (model, nullcontext()), "norm": (bare, nullcontext()),
        "positions": (model, patch.object(TokenHeads, "turn", _only_magnitudes))}
    found = {}
    for name, (variant, patched) in variants.items():
        with patched:
            compiled = CompiledModel(config, variant, weights, chunk=1)
        found[name] = cycles(compiled, compiled.decode)
    return {"cycles": found["token"], "RMSNorm, each": (found["token"] - found["norm"]) / (2 * model.layers + 1),
            "RoPE, a layer": (found["token"] - found["positions"]) / model.layers}


def measured(compiled: CompiledModel, program: Program) -> int:
    """Return the cycles on the RTL, of the run behind the one that sets the source of angles; the cache before it is zero."""
    session = RtlDevice(compiled.config).open(len(compiled.dram))
    session.memory[:] = compiled.dram
    try:
        if RESYNC in program.arguments:
            place_angles(compiled.memory, POSITION - 1, session.memory)
            session.run(program, arguments(program, POSITION - 1, 1))
        return session.run(program, arguments(program, POSITION, 1, resync=False)).cycles
    finally:
        session.close()


def rows() -> list[dict[str, Any]]:
    """Return a row for each preset, with the shipped model."""
    model = LlamaModel(Path(__file__).resolve().parents[1] / "models" / "python-llama-1m")
    weights = model.checkpoint.weights()
    return [{"config": preset, **exposed(preset_named(preset), model.config, weights, measured)} for preset in PRESETS]
