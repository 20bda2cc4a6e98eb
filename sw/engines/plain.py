"""Plain weights (mode 0), which every engine reads: a slot of C integers for each step of K, a scale for each output."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.elements import FloatFormat
from hw.errors import ConfigError
from hw.isa import Dataflow
from sw.engines.runtime import WeightLayout, share_a_bank
from sw.layout import packed_weights
from sw.numpy_types import numpy_type

__all__ = ["pack_plain", "plain_layout", "slots_share_a_bank"]

Floats = npt.NDArray[np.float32]


def plain_layout(config: AcceleratorConfig, mode: int, n: int, k: int) -> WeightLayout:
    """Return how plain weights lie.

    Raises
    ------
    ConfigError
        If `mode` is not 0.
    """
    if mode:
        raise ConfigError(f"mode must be 0 for plain weights, not {mode!r}")
    slot = config.weight_slot_bytes
    return WeightLayout(mode=0, n=n, k=k, columns=config.columns, granule=1, record_k=1, record_bytes=slot,
                        weight_stride=slot, beat_bytes=config.beat_bytes)


def pack_plain(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return the bytes of a matrix (N, K), rounded to symmetric integers to nearest even, and the scale of each output.

    Of floating-point weights rounded to those, with scales of 1.
    """
    if isinstance(config.weight, FloatFormat):
        words = np.ascontiguousarray(matrix.T).astype(numpy_type(config.weight))
        return packed_weights(config, layout.k, layout.n).pack(words), np.ones(layout.n, np.float32)
    largest = np.float32(config.weight.maximum)
    magnitude = np.abs(matrix).max(axis=1)
    scale = np.where(magnitude > 0, magnitude / largest, np.float32(1)).astype(np.float32)
    rounded = np.clip(np.rint(matrix / scale[:, None]), -largest, largest).astype(np.int8)
    return packed_weights(config, layout.k, layout.n).pack(np.ascontiguousarray(rounded.T)), scale


def slots_share_a_bank(config: AcceleratorConfig, fields: Mapping[str, int]) -> bool:
    """Return whether plain operands of a command, both in slots and tiles of slots, share a scratchpad bank."""
    m, k = fields["m"], fields["k"]
    along, across = (m, k) if fields["dataflow"] == Dataflow.WS else (k, m)
    last = {name: (steps - 1) * fields[f"{name}_stride"] + (tiles - 1) * fields[f"{name}_tile_stride"]
            for name, steps, tiles in (("activation", along, ceil_div(across, config.rows)),
                                       ("weight", k, ceil_div(fields["n"], config.columns)))}
    return share_a_bank(config, fields, activations=last["activation"], weights=last["weight"])
