"""What the runtime must know of a matrix engine: how packed weights lie, and how long commands take."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from sw.layout import round_up

__all__ = ["EngineRuntime", "MatrixTiming", "WeightLayout", "share_a_bank"]

Floats = npt.NDArray[np.float32]


class MatrixTiming(Protocol):
    """The engine's clock while the matrix commands of a program go by.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    next: float

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at cycle `at`."""
        ...


def share_a_bank(config: AcceleratorConfig, fields: Mapping[str, int], *, activations: int, weights: int) -> bool:
    """Return whether the operands of a matrix command lie in one scratchpad bank, at least in part, so that reads take turns.

    Parameters
    ----------
    activations, weights : int
        Bytes from an operand's address to the last slot, or byte, that is read.
    """
    bank = config.scratchpad_bank_bytes
    (first, first_end), (second, second_end) = (
        (fields[f"{name}_addr"] // bank, (fields[f"{name}_addr"] + last) // bank)
        for name, last in (("activation", activations), ("weight", weights)))
    return first <= second_end and second <= first_end


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightLayout:
    """Constant weights (N, K) in DRAM: for each group of outputs one stream of records along K.

    Attributes
    ----------
    mode : int
        Of the matrix commands that read them.
    n, k : int
    columns : int
        Outputs of a group: C, or several times C where the engine's format has more in one stream.
    granule : int
        K is cut into commands at multiples of it.
    record_k, record_bytes : int
        Inputs of a record, a divisor of the granule, and its bytes.
    weight_stride : int
        What a command is given under this name.
    beat_bytes : int
        What streams are padded to.
    """

    mode: int
    n: int
    k: int
    columns: int
    granule: int
    record_k: int
    record_bytes: int
    weight_stride: int
    beat_bytes: int

    def bytes_of(self, k: int) -> int:
        """Return the bytes of `k` inputs of a group's stream; the last record is a whole one."""
        return ceil_div(k, self.record_k) * self.record_bytes

    def cut(self, k: int, multiple: int = 1) -> int:
        """Return the largest step ≤ `k` by which K can be cut, at least the smallest: whole granules, whole beats, a multiple."""
        beats = self.granule * (self.beat_bytes // math.gcd(self.beat_bytes, self.bytes_of(self.granule)))
        step = math.lcm(beats, multiple)
        return max(step, k // step * step)

    @property
    def group_stride(self) -> int:
        """Bytes from one group's stream to the next one's."""
        return round_up(self.bytes_of(self.k), self.beat_bytes)

    @property
    def groups(self) -> int:
        """Groups of outputs."""
        return ceil_div(self.n, self.columns)

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self.groups * self.group_stride


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRuntime:
    """An engine as kernels, models and predictions see it.

    Attributes
    ----------
    timing : callable
        config → its clock.
    layout : callable
        (config, mode, n, k) → how weights of that mode lie; `ConfigError` if the config has no such mode.
    pack : callable
        (config, layout, float32 (N, K), finite) → (bytes, flat uint8 of `layout.size`; scales, (N,) float32): weights rounded
        to the mode's format, and what one in the accumulator is worth for each output.
    """

    timing: Callable[[AcceleratorConfig], MatrixTiming]
    layout: Callable[[AcceleratorConfig, int, int, int], WeightLayout]
    pack: Callable[[AcceleratorConfig, WeightLayout, Floats], tuple[npt.NDArray[np.uint8], Floats]]
