"""Golden model of `hw.array.systolic`: the result rows of a matrix command, in the order in which they leave the array."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import Dataflow
from sw.golden.pe import pe_model

__all__ = ["result_rows"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def _slot(scratchpad: Bytes, addr: int, lanes: int, bits: int, valid: int) -> Ints:
    """Return a slot of `lanes` signed elements of 8 or 4 bits, zero from lane `valid` on; shape (lanes,)."""
    size = (lanes * bits + 7) // 8
    word = int.from_bytes(scratchpad[addr:addr + size].tobytes(), "little")
    values = [(word >> (lane * bits)) & ((1 << bits) - 1) for lane in range(lanes)]
    half = 1 << (bits - 1)
    return np.array([(value ^ half) - half if lane < valid else 0 for lane, value in enumerate(values)], np.int64)


def result_rows(config: AcceleratorConfig, command: Mapping[str, int], scratchpad: Bytes) -> Iterator[tuple[int, int, Ints]]:
    """Yield (accumulator row, accumulate, psums (C,)) for each row that the engine writes.

    WS: n-group → k-group → m. OS: n-group → m-group → run of at most os_depth steps, rows of a group from the last to the first.
    """
    c, rows, columns = command, config.rows, config.columns
    model = pe_model(config)

    def activation(step: int, group: int, valid: int) -> Ints:
        addr = c["activation_addr"] + step * c["activation_stride"] + group * c["activation_tile_stride"]
        return _slot(scratchpad, addr, rows, config.activation.bits, valid)

    def weights(first: int, count: int, group: int, valid: int) -> Ints:
        base = c["weight_addr"] + group * c["weight_tile_stride"]
        return np.array([_slot(scratchpad, base + k * c["weight_stride"], columns, config.weight.bits, valid)
                         for k in range(first, first + count)])

    for j in range(-(-c["n"] // columns)):
        valid_columns = min(columns, c["n"] - j * columns)
        acc_addr = c["acc_addr"] + j * c["acc_tile_stride"]
        along = c["k"] if c["dataflow"] == Dataflow.WS else c["m"]
        for g in range(-(-along // rows)):
            valid_rows = min(rows, along - g * rows)
            if c["dataflow"] == Dataflow.WS:
                tile = weights(g * rows, valid_rows, j, valid_columns)
                for m in range(c["m"]):
                    row = activation(m, g, valid_rows)[None, :valid_rows]
                    yield acc_addr + m, int(c["accumulate"] or g > 0), model.product(row, tile)[0]
                continue
            for start in range(0, c["k"], config.os_depth):
                steps = min(config.os_depth, c["k"] - start)
                left = np.array([activation(k, g, valid_rows) for k in range(start, start + steps)])
                sums = model.product(left.T, weights(start, steps, j, valid_columns))
                for r in reversed(range(valid_rows)):
                    yield acc_addr + g * rows + r, int(c["accumulate"] or start > 0), sums[r]
