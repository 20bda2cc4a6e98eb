"""What the four units do to the memories, one command at a time: load, matrix, vector, store in plain numpy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Dataflow, ErrorCause, Unit
from sw.golden.pe import PEModel, pe_model
from sw.golden.pe.base import largest
from sw.golden.refusal import Refusal
from sw.golden.vector import unit as vector_unit
from sw.layout import round_up

__all__ = ["UNITS", "State", "matrix_operands", "run_load", "run_matrix", "run_store", "run_vector"]

Fields = Mapping[str, int]
ADDRESS_SPACE = 1 << 32
PAGE = 4096                 # no burst crosses a multiple of it


@dataclass(kw_only=True)
class State:
    """The memories that commands work on.

    The arrays may all have one more axis in front: runs side by side, of one program on different data.

    Attributes
    ----------
    config : AcceleratorConfig
    memory : ndarray
        DRAM, uint8.
    scratchpad : ndarray
        uint8, shape (scratchpad_bytes,).
    accumulator : ndarray
        int64 holding values of acc_width bits, shape (accumulator_rows, columns).
    rows : ndarray
        Row scalars of the vector unit, float32, shape (vector_rows,).
    counters : dict of str to int
        macs, bytes_written and saturations so far.
    """

    config: AcceleratorConfig
    memory: npt.NDArray[np.uint8]
    scratchpad: npt.NDArray[np.uint8]
    accumulator: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    counters: dict[str, int]


def _aligned(value: int, step: int) -> None:
    if value % step:
        raise Refusal(ErrorCause.MISALIGNED, value)


def _inside(first: int, last: int, unit: int, limit: int, cause: ErrorCause) -> None:
    """Check that pieces of `unit` at addresses up to `last` lie below `limit`; name `first` where that is outside already."""
    if first + unit > limit:
        raise Refusal(cause, first)
    if last + unit > limit:
        raise Refusal(cause, last)


# Load and store -----------------------------------------------------------------------------------------------


def _check_block(config: AcceleratorConfig, fields: Fields) -> None:
    for name in ("rows", "row_bytes"):
        if fields[name] == 0:
            raise Refusal(ErrorCause.BAD_SIZE, 0)
    for name in ("dram_addr", "dram_stride", "addr", "stride"):
        _aligned(fields[name], config.beat_bytes)


def _check_dram(state: State, start: int, size: int, cause: ErrorCause) -> None:
    """Check a row of `size` bytes in DRAM; what is reported is where its first burst beyond the end starts."""
    if start >= ADDRESS_SPACE:
        raise Refusal(ErrorCause.BAD_SIZE, start % ADDRESS_SPACE)
    limit = state.memory.shape[-1]
    if start + size > limit:
        raise Refusal(cause, max(start, limit // PAGE * PAGE))
    if start + size > ADDRESS_SPACE:
        raise Refusal(ErrorCause.BAD_SIZE, 0)


def _check_scratchpad(state: State, start: int, size: int) -> None:
    """Check whole beats of the scratchpad; what is reported is the first one outside."""
    limit = state.scratchpad.shape[-1]
    if start + size > limit:
        raise Refusal(ErrorCause.SCRATCHPAD_RANGE, max(start, limit))


def run_load(state: State, fields: Fields) -> None:
    """DRAM → scratchpad; whole beats, zero past the end of a row and, turned around, past the last row."""
    beat = state.config.beat_bytes
    _check_block(state.config, fields)
    rows, row_bytes, addr, stride = (fields[name] for name in ("rows", "row_bytes", "addr", "stride"))
    columns = 2 * row_bytes if fields["unpack"] else row_bytes
    width = round_up(columns, beat)
    lead = state.scratchpad.shape[:-1]
    turned = np.zeros((*lead, width, round_up(rows, beat)), np.uint8) if fields["transpose"] else None
    for i in range(rows):
        start = fields["dram_addr"] + i * fields["dram_stride"]
        _check_dram(state, start, round_up(row_bytes, beat), ErrorCause.BUS_READ)
        row = state.memory[..., start:start + row_bytes]
        if fields["unpack"]:
            row = np.stack([row & 15, row >> 4], axis=-1).reshape(*row.shape[:-1], -1)
        if turned is not None:
            turned[..., :columns, i] = row
            continue
        place = addr + i * stride
        _check_scratchpad(state, place, width)
        state.scratchpad[..., place:place + columns] = row
        state.scratchpad[..., place + columns:place + width] = 0
    if turned is None:
        return
    step = 2 * beat if fields["unpack"] else beat
    for first_column in range(0, columns, step):                    # block by block, as the transposer gives them
        for first_row in range(0, rows, beat):
            for j in range(first_column, min(first_column + step, columns)):
                place = addr + j * stride + first_row
                _check_scratchpad(state, place, beat)
                state.scratchpad[..., place:place + beat] = turned[..., j, first_row:first_row + beat]


def run_store(state: State, fields: Fields) -> None:
    """Scratchpad → DRAM; only the bytes of a row are written."""
    _check_block(state.config, fields)
    row_bytes = fields["row_bytes"]
    width = round_up(row_bytes, state.config.beat_bytes)
    for i in range(fields["rows"]):
        source = fields["addr"] + i * fields["stride"]
        _check_scratchpad(state, source, width)
        start = fields["dram_addr"] + i * fields["dram_stride"]
        _check_dram(state, start, width, ErrorCause.BUS_WRITE)
        state.memory[..., start:start + row_bytes] = state.scratchpad[..., source:source + row_bytes]
        state.counters["bytes_written"] += row_bytes


# Matrix -------------------------------------------------------------------------------------------------------


def _slots(state: State, addr: int, steps: int, stride: int, groups: int, tile_stride: int,
           slot: int) -> npt.NDArray[np.uint8]:
    """Return a view of slots in the scratchpad: shape (…, steps, groups, slot)."""
    last = addr + (steps - 1) * stride + (groups - 1) * tile_stride
    _inside(addr, last, slot, state.config.scratchpad_bytes, ErrorCause.SCRATCHPAD_RANGE)
    pad = state.scratchpad
    return as_strided(pad[..., addr:], (*pad.shape[:-1], steps, groups, slot), (*pad.strides[:-1], stride, tile_stride, 1),
                      writeable=False)


def _elements(slots: npt.NDArray[np.uint8], count: int, bits: int) -> npt.NDArray[np.int8]:
    """Return the first `count` signed elements of each slot: shape (steps, groups, count)."""
    if bits == 8:
        return slots[..., :count].view(np.int8)
    pairs = slots[..., :ceil_div(count, 2)]
    nibbles = np.stack((pairs & 15, pairs >> 4), axis=-1).reshape(*pairs.shape[:-1], -1)[..., :count]
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)


def _activations(state: State, fields: Fields) -> npt.NDArray[np.int8]:
    """Return A of a command, shape (…, m, k), int8."""
    config, m, k = state.config, fields["m"], fields["k"]
    stationary = fields["dataflow"] == Dataflow.WS
    steps, along = (m, k) if stationary else (k, m)
    slots = _slots(state, fields["activation_addr"], steps, fields["activation_stride"], ceil_div(along, config.rows),
                   fields["activation_tile_stride"], config.activation_slot_bytes)
    matrix = _elements(slots, config.rows, 8).reshape(*slots.shape[:-2], -1)[..., :along]
    return matrix if stationary else np.swapaxes(matrix, -1, -2)


def _weights(state: State, fields: Fields) -> npt.NDArray[np.int8]:
    """Return B of a command in groups of C columns, shape (groups, …, k, C), int8; zeros beyond its last column."""
    config, n, k = state.config, fields["n"], fields["k"]
    groups = ceil_div(n, config.columns)
    slots = _slots(state, fields["weight_addr"], k, fields["weight_stride"], groups, fields["weight_tile_stride"],
                   config.weight_slot_bytes)
    weights = np.zeros((groups, *slots.shape[:-3], k, config.columns), np.int8)
    for j in range(groups):
        used = min(config.columns, n - j * config.columns)
        weights[j, ..., :used] = _elements(slots[..., j, :], used, config.weight.bits)
    return weights


def matrix_operands(state: State, fields: Fields) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Return A (…, m, k) and B (…, k, n) of a matrix command that the unit does not refuse, int8."""
    groups = _weights(state, fields)
    weights = np.moveaxis(groups, 0, -2)                # (…, k, groups, C)
    return _activations(state, fields), weights.reshape(*weights.shape[:-2], -1)[..., :fields["n"]]


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator, psums as the config's PE makes them; every addition saturates to acc_width."""
    config, m, n, k = state.config, fields["m"], fields["n"], fields["k"]
    if 0 in (m, n, k):
        raise Refusal(ErrorCause.BAD_SIZE, 0)
    if Dataflow(fields["dataflow"]).name.lower() not in config.dataflows:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["dataflow"])
    for operand, slot in (("activation", config.activation_slot_bytes), ("weight", config.weight_slot_bytes)):
        for name in ("addr", "stride", "tile_stride"):
            _aligned(fields[f"{operand}_{name}"], slot)
    groups = ceil_div(n, config.columns)
    groups_of_weights = _weights(state, fields)
    last = fields["acc_addr"] + (groups - 1) * fields["acc_tile_stride"] + m - 1
    _inside(fields["acc_addr"], last, 1, config.accumulator_rows, ErrorCause.ACCUMULATOR_RANGE)
    state.counters["macs"] += m * n * k

    step = config.rows if fields["dataflow"] == Dataflow.WS else config.os_depth
    model = pe_model(config)
    activations = _activations(state, fields).astype(np.float32)    # once, since models may multiply in floating point
    for j, weights in enumerate(groups_of_weights):
        first = fields["acc_addr"] + j * fields["acc_tile_stride"]
        rows = state.accumulator[..., first:first + m, :]
        _accumulate(state, rows, model, activations, weights.astype(np.float32), step, bool(fields["accumulate"]))


def _accumulate(state: State, rows: npt.NDArray[np.int64], model: PEModel, activations: npt.NDArray[np.float32],
                weights: npt.NDArray[np.float32], step: int, accumulate: bool) -> None:
    """Add activations × weights to accumulator rows, in place, `step` of k at a time as the array does.

    Where psums are exact and no sum can leave acc_width, whatever the order, one product does it.
    """
    high = (1 << (state.config.acc_width - 1)) - 1
    k = weights.shape[-2]
    bound = k * largest(activations) * largest(weights) + (largest(rows) if accumulate else 0)
    if model.exact and bound <= high:
        product = model.product(activations, weights)
        rows[...] = rows + product if accumulate else product
        return
    for start in range(0, k, step):
        psum = model.product(activations[..., start:start + step], weights[..., start:start + step, :])
        total = rows + psum if accumulate or start else psum
        rows[...] = np.clip(total, -high - 1, high)
        state.counters["saturations"] += int((rows != total).any(axis=-1).sum())


# Vector -------------------------------------------------------------------------------------------------------


def run_vector(state: State, fields: Fields) -> None:
    """Accumulator, scratchpad and row scalars → scratchpad and row scalars."""
    vector_unit.run_vector(state.config, fields, state.scratchpad, state.accumulator, state.rows)


UNITS: Mapping[Unit, Callable[[State, Fields], None]] = {
    Unit.LOAD: run_load, Unit.MATRIX: run_matrix, Unit.VECTOR: run_vector, Unit.STORE: run_store}
"""What does each unit's commands."""
