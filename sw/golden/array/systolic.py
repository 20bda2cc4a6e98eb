"""Golden model of `hw.array.systolic`: what a matrix command does to the accumulator, at once and row by row.

`run_matrix` is for whole programs: one product where that is exact. `result_rows` is for benches: row by row as they leave.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.operands import accumulator_rows, add_saturating, check_sizes, elements, plain_weights, slots
from sw.golden.pe import PEModel, pe_model
from sw.golden.pe.base import largest
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State

__all__ = ["matrix_operands", "result_rows", "run_matrix"]

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


def _activations(state: State, fields: Fields) -> npt.NDArray[np.int8]:
    """Return A of a command, shape (…, m, k), int8."""
    config, m, k = state.config, fields["m"], fields["k"]
    stationary = fields["dataflow"] == Dataflow.WS
    steps, along = (m, k) if stationary else (k, m)
    packed = slots(state, fields["activation_addr"], steps, fields["activation_stride"], ceil_div(along, config.rows),
                   fields["activation_tile_stride"], config.activation_slot_bytes)
    matrix = elements(packed, config.rows, 8).reshape(*packed.shape[:-2], -1)[..., :along]
    return matrix if stationary else np.swapaxes(matrix, -1, -2)


def matrix_operands(state: State, fields: Fields) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Return A (…, m, k) and B (…, k, n) of a matrix command that the unit does not refuse, int8."""
    weights = np.moveaxis(plain_weights(state, fields), 0, -2)          # (…, k, groups, C)
    return _activations(state, fields), weights.reshape(*weights.shape[:-2], -1)[..., :fields["n"]]


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator, psums as the config's PE makes them; every addition saturates to acc_width."""
    config = state.config
    check_sizes(fields)
    if Dataflow(fields["dataflow"]).name.lower() not in config.dataflows:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["dataflow"])
    if fields["mode"]:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["mode"])
    for operand, slot in (("activation", config.activation_slot_bytes), ("weight", config.weight_slot_bytes)):
        for name in ("addr", "stride", "tile_stride"):
            check_aligned(fields[f"{operand}_{name}"], slot)
    groups_of_weights = plain_weights(state, fields)
    groups_of_rows = accumulator_rows(state, fields)
    state.counters["macs"] += fields["m"] * fields["n"] * fields["k"]

    step = config.rows if fields["dataflow"] == Dataflow.WS else config.os_depth
    model = pe_model(config)
    activations = _activations(state, fields).astype(np.float32)    # once, since models may multiply in floating point
    for rows, weights in zip(groups_of_rows, groups_of_weights, strict=True):
        _accumulate(state, rows, model, activations, weights.astype(np.float32), step, bool(fields["accumulate"]))


def _accumulate(state: State, rows: npt.NDArray[np.int64], model: PEModel, activations: npt.NDArray[np.float32],
                weights: npt.NDArray[np.float32], step: int, accumulate: bool) -> None:
    """Add activations × weights to accumulator rows, in place, `step` of k at a time as the array does.

    Where psums are exact and no sum can leave acc_width, whatever the order, one product does it.
    """
    k = weights.shape[-2]
    bound = k * largest(activations) * largest(weights) + (largest(rows) if accumulate else 0)
    if model.exact and bound < 1 << (state.config.acc_width - 1):
        product = model.product(activations, weights)
        rows[...] = rows + product if accumulate else product
        return
    for start in range(0, k, step):
        psum = model.product(activations[..., start:start + step], weights[..., start:start + step, :])
        add_saturating(state, rows, psum, accumulate=accumulate or start > 0)
