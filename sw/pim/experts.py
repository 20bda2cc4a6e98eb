"""A mixture-of-experts layer on an array and a PIM: each runs the experts of its list, and the host adds what they make.

An expert is three linears. On the PIM gate and up are one program and down another (`sw.pim.linear`); on an array of float16
they are GEMMs. Between them the host gates and rounds to float16, as the X buffer has it. Weights of an expert lie where its
engine is; one memory for both, as Duplex has it, would need one layout for both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from sw.device import Device
from sw.golden.pim.moe import Expert, Routing, gated
from sw.kernels.spec import GemmSpec
from sw.pim.balance import Split
from sw.pim.device import PimSession
from sw.pim.linear import LinearPlan, linear_inputs, linear_outputs, linear_program
from sw.pim.program import PimProgram
from sw.runtime import compile_gemm, run_gemm

__all__ = ["ArrayExperts", "ExpertEngine", "LayerRun", "PimExperts", "run_layer"]

Floats = npt.NDArray[np.float32]


class ExpertEngine(Protocol):
    """What runs experts."""

    def run(self, number: int, x: Floats) -> tuple[Floats, int]:
        """Return what an expert makes of tokens, (T, d) → (T, d), and the cycles that took, 0 on a device without time."""
        ...


class PimExperts:
    """Experts whose weights lie in the banks of a PIM.

    Parameters
    ----------
    experts : dict of int to Expert
        By number; weights of float16.
    session : PimSession
    config : PimConfig
    channels : int
    addr : int
        First byte in every channel, at a row of all sets.

    Raises
    ------
    ConfigError
        If the channels have no room.
    """

    def __init__(self, experts: Mapping[int, Expert], session: PimSession, config: PimConfig, channels: int, *, addr: int = 0):
        self._session, self._rows_x = session, config.rows_x
        self._matrices: dict[int, tuple[tuple[LinearPlan, Floats], ...]] = {}
        self._programs: dict[tuple[int, int, int], PimProgram] = {}
        for number, expert in experts.items():
            placed = []
            for matrix in (np.concatenate((expert.gate, expert.up)), expert.down):
                plan = LinearPlan(config=config, channels=channels, n=matrix.shape[0], k=matrix.shape[1], addr=addr)
                placed.append((plan, matrix))
                addr = plan.end
            self._matrices[number] = tuple(placed)
        self.end = addr
        """First byte behind the weights in every channel."""

    def run(self, number: int, x: Floats) -> tuple[Floats, int]:
        """See `ExpertEngine.run`."""
        both, first = self._multiply(number, 0, x)
        result, second = self._multiply(number, 1, gated(*np.split(both, 2, axis=1)))
        return result, first + second

    def _multiply(self, number: int, which: int, x: Floats) -> tuple[Floats, int]:
        plan, matrix = self._matrices[number][which]
        passes = ceil_div(len(x), self._rows_x)
        key = number, which, passes
        if key not in self._programs:
            name = f"{('gate and up', 'down')[which]} of expert {number}, {passes} passes"
            self._programs[key] = linear_program(plan, name, matrix, passes=passes)
        program = self._programs[key]
        result = self._session.run(program, None, linear_inputs(plan, program, x))
        return linear_outputs(plan, result.outputs, len(x)), result.cycles


class ArrayExperts:
    """Experts whose weights an array of float16 has.

    Parameters
    ----------
    experts : dict of int to Expert
    device : Device
        An array with activations and weights of float16 and float32 results.

    Raises
    ------
    ConfigError
        If its numbers are others.
    """

    def __init__(self, experts: Mapping[int, Expert], device: Device):
        config: AcceleratorConfig = device.config
        for name, element in (("activation_format", config.activation), ("weight_format", config.weight)):
            if element.name != "float16":
                raise ConfigError(f"AcceleratorConfig.{name} must be float16 for experts, not {element.name}")
        self._device, self._experts = device, dict(experts)

    def run(self, number: int, x: Floats) -> tuple[Floats, int]:
        """See `ExpertEngine.run`."""
        expert = self._experts[number]
        both, first = self._multiply(np.concatenate((expert.gate, expert.up)), x)
        result, second = self._multiply(expert.down, gated(*np.split(both, 2, axis=1)))
        return result, first + second

    def _multiply(self, matrix: Floats, x: Floats) -> tuple[Floats, int]:
        spec = GemmSpec(m=len(x), n=matrix.shape[0], k=matrix.shape[1], output="float32")
        program = compile_gemm(self._device.config, spec, b=matrix.T.astype(np.float16))
        session = self._device.open(program.memory_bytes)
        try:
            found, result = run_gemm(session, program, spec, a=x.astype(np.float16), scale=1.0)
        finally:
            session.close()
        return found.reshape(len(x), -1), result.cycles


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRun:
    """What a layer made, and what it took.

    Attributes
    ----------
    output : (T, d) float32
    cycles : dict of int to int
        Of each expert that has run, in its engine's clock.
    """

    output: Floats
    cycles: dict[int, int]


def run_layer(routing: Routing, x: Floats, split: Split, array: ExpertEngine, pim: ExpertEngine) -> LayerRun:
    """Run the experts of each list on its engine, and add for each token its experts in order of their numbers.

    Parameters
    ----------
    routing : Routing
        Of x.
    x : (T, d) float32
        Values of float16.
    split : Split
        Every expert that has a token is on one list.
    array, pim : ExpertEngine

    Raises
    ------
    ConfigError
        If x has other values or other tokens than the routing, or an expert is on no list or on two.
    """
    if x.ndim != 2 or len(x) != len(routing.experts):
        raise ConfigError(f"x must be of {len(routing.experts)} tokens, those of the routing, not of shape {x.shape}")
    with np.errstate(over="ignore"):
        exact = x.astype(np.float16).astype(np.float32)
    if not np.array_equal(exact, x):
        raise ConfigError(f"x must be values of float16, not such as {x[exact != x][0]:g}")
    listed = sorted((*split.array, *split.pim))
    needed: list[int] = [int(number) for number in np.unique(routing.experts)]
    if listed != needed:
        raise ConfigError(f"split must have each expert with tokens on one list, {needed}, not {listed}")
    parts, cycles = {}, {}
    for engine, numbers in ((array, split.array), (pim, split.pim)):
        for number in numbers:
            token, place = np.nonzero(routing.experts == number)
            made, cycles[number] = engine.run(number, x[token])
            parts[number] = token, made * routing.weights[token, place][:, None]
    output = np.zeros_like(x)
    for number in listed:
        token, part = parts[number]
        output[token] += part
    return LayerRun(output=output, cycles=cycles)
