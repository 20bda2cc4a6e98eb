"""Targets: an array on two tiles, and a program on an accelerator."""

import numpy as np
import numpy.typing as npt

from flows.emit import to_rtlil
from flows.fault.array_bench import ArrayBench
from flows.fault.target import Target, TargetError
from hw.config import ceil_log2
from hw.pe import PESpec

__all__ = ["array_operands", "array_target"]

TILES = 2


def array_operands(rows: int, columns: int, *, steps: int = 40, seed: int = 0,
                   width: int = 8) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the operands of an array's tiles, `width` bits each: activations (tiles, steps, R) and weights (tiles, R, C)."""
    rng = np.random.default_rng(seed)
    half = 1 << (width - 1)
    return rng.integers(-half, half, (TILES, steps, rows)), rng.integers(-half, half, (TILES, rows, columns))


def _packed(lanes: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint32]:
    """Return lanes (T, n) of `width` bits each as 32-bit words (T, words), lane 0 lowest."""
    bits = (lanes[:, :, None] >> np.arange(width)) & 1
    bits = bits.reshape(len(lanes), -1).astype(np.uint32)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 32))).reshape(len(lanes), -1, 32)
    words: npt.NDArray[np.uint32] = (bits << np.arange(32, dtype=np.uint32)).sum(2, dtype=np.uint32)
    return words


def array_target(rows: int, columns: int, *, steps: int = 40, seed: int = 0, pe: str = "mac", width: int = 8) -> Target:
    """Return a weight-stationary mesh that multiplies two random tiles, one after the other.

    A tile takes R slots that load its weights, bottom row first, and `steps` slots that stream activations against them; the
    last results leave R + C cycles later: 112 cycles on an 8×8 array.

    Parameters
    ----------
    rows, columns : int
        R and C, 1 to 256.
    steps : int
        Rows of activations streamed against each tile.
    seed : int
        Of the operands, `array_operands`.
    pe : str
        Processing element, a key of `hw.pe.PE_TYPES`.
    width : int
        Bits of an operand; a psum has 2·width + ⌈log2 R⌉ + 1.

    Raises
    ------
    TargetError
        If there is no such array.
    ConfigError
        If there is no such PE.
    """
    for name, value, low, high in (("rows", rows, 1, 256), ("columns", columns, 1, 256), ("steps", steps, 1, 1 << 16),
                                   ("width", width, 1, 12)):
        if not low <= value <= high:
            raise TargetError(f"{name} of an array must be between {low} and {high}, not {value!r}")
    spec = PESpec(kind=pe, activation_width=width, weight_width=width, psum_width=2 * width + ceil_log2(rows) + 1,
                  dataflows=("ws",))
    activations, weights = array_operands(rows, columns, steps=steps, seed=seed, width=width)
    tile = rows + steps
    cycles = TILES * tile + rows + columns
    lanes = {"activation": np.zeros((cycles, rows), np.int64), "weight": np.zeros((cycles, columns), np.int64)}
    control = {name: np.zeros(cycles, np.uint32) for name in ("select", "load", "load_row", "streams")}
    for index in range(TILES):
        loading, streaming = slice(index * tile, index * tile + rows), slice(index * tile + rows, (index + 1) * tile)
        lanes["weight"][loading] = weights[index, ::-1]
        lanes["activation"][streaming] = activations[index]
        control["load"][loading] = control["streams"][streaming] = 1
        control["load_row"][loading] = np.arange(rows)[::-1]
        control["select"][loading], control["select"][streaming] = 1 - index, index     # the bank that is not loaded multiplies
    psums = tuple(f"psum_{c}" for c in range(columns))
    name = f"array {rows}x{columns}"
    return Target(
        name=name, rtlil=to_rtlil(ArrayBench(spec=spec, rows=rows, columns=columns), "array_bench"), top="array_bench",
        stimuli={**{port: _packed(values, width) for port, values in lanes.items()}, **control}, cycles=cycles,
        observed=("valid", *psums), valid=dict.fromkeys(psums, "valid"))
