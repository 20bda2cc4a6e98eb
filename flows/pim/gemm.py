"""A product of random matrices on a PIM: its program, with plain or quantized weights, and what it should be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.pim.config import PimConfig
from sw.formats.tensor import dequantize, quantize
from sw.golden.pim.operands import operand_named
from sw.pim.linear import LinearPlan, linear_inputs, linear_outputs, linear_program
from sw.pim.plain import PLAIN_TYPES
from sw.pim.program import PimProgram
from sw.pim.scaled_linear import ScaledPlan, scaled_inputs, scaled_outputs, scaled_program
from sw.pim.scaled_operands import quantized_activations

__all__ = ["PimGemm", "gemm_plan", "random_gemm"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class PimGemm:
    """A program and what comes of it.

    Attributes
    ----------
    program : PimProgram
    inputs : dict of str to ndarray
    results : function of the program's outputs
        (m, n) float32.
    exact : (m, n) float64
        Product of the rounded, or quantized, matrices.
    """

    program: PimProgram
    inputs: dict[str, npt.NDArray[Any]]
    results: Callable[[Mapping[str, Bytes]], Floats]
    exact: npt.NDArray[np.float64]


def gemm_plan(config: PimConfig, channels: int, n: int, k: int) -> LinearPlan | ScaledPlan:
    """Return where the weights of n outputs and k inputs lie: with scales in formats that have them.

    Raises
    ------
    ConfigError
        If they do not fit.
    """
    plan = ScaledPlan if config.dequantizes else LinearPlan
    return plan(config=config, channels=channels, n=n, k=k)


def random_gemm(plan: LinearPlan | ScaledPlan, m: int, seed: int) -> PimGemm:
    """Return a product of m rows of X, of normally distributed numbers."""
    config, rng = plan.config, np.random.default_rng(seed)
    name, passes = f"GEMM {m}×{plan.n}×{plan.k}", ceil_div(m, config.rows_x)
    weights, x = rng.standard_normal((plan.n, plan.k)), rng.standard_normal((m, plan.k))
    if isinstance(plan, LinearPlan):
        of_plan, w, y = plan, _rounded(weights, config.wtype), _rounded(x, config.xtype)
        program = linear_program(plan, name, w, passes=passes)
        return PimGemm(program=program, inputs=linear_inputs(plan, program, y),
                       exact=y.astype(np.float64) @ w.T.astype(np.float64),
                       results=lambda outputs: linear_outputs(of_plan, dict(outputs), m))
    scaled, tensor = plan, quantize(weights, config.wtype)
    program = scaled_program(plan, name, tensor, passes=passes)
    inputs, scale = scaled_inputs(plan, program, tensor, x.astype(np.float32))
    codes, _ = quantized_activations(x.astype(np.float32), config.xtype)
    values = operand_named(config.xtype).values(codes).astype(np.float64) * scale[:, None]
    return PimGemm(program=program, inputs=inputs, exact=values @ dequantize(tensor).T.astype(np.float64),
                   results=lambda outputs: scaled_outputs(scaled, dict(outputs), scale))


def _rounded(values: npt.NDArray[np.float64], kind: str) -> Floats:
    return values.astype(PLAIN_TYPES[kind]).astype(np.float32)
