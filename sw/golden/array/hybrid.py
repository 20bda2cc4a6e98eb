"""Golden model of `hw.array.hybrid`: what a matrix command does to the accumulator, whichever mode does it."""

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.engines.hybrid import MODE_FORMAT, MODE_STREAM, PASS_ROWS, BlockShape, block_shape
from hw.isa import ErrorCause
from sw.golden.array.operands import accumulator_rows, add_saturating, check_packed, plain_weights, row_activations, slots
from sw.golden.refusal import Refusal, Starved, check_aligned
from sw.golden.state import Fields, State

__all__ = ["block_sums", "run_matrix", "scaled"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

FLUSHED = 32        # from this distance of exponents on, nothing is left of a sum
EMPTY = 255         # for a block without weights


def scaled(sums: Ints, scales: Ints, *, shifts: bool, guard_bits: int) -> Ints:
    """Return what the accumulator adds for sums of blocks: shifted and rounded to nearest, halves up, or multiplied.

    Parameters
    ----------
    sums : int64
    scales : int64
        Broadcast with `sums`: distances of exponents, or factors.
    shifts : bool
    guard_bits : int
    """
    if not shifts:
        return sums * scales
    half = np.where(scales > 0, np.left_shift(1, np.clip(scales - 1, 0, FLUSHED)), 0)
    rounded = (np.left_shift(sums, guard_bits) + half) >> np.minimum(scales, FLUSHED)
    return np.where(scales < FLUSHED, rounded, 0)


def block_sums(activations: npt.NDArray[np.int8], elements: Ints, block: int) -> Ints:
    """Return the sum of each block of K: (…, m, k) × (…, padded k, C) → (blocks, …, m, C)."""
    k = activations.shape[-1]
    padding = [(0, 0)] * (activations.ndim - 1) + [(0, elements.shape[-2] - k)]
    # Exact in float32: at most 128 products of 7 and 3 bits besides the sign.
    left, right = np.pad(activations, padding).astype(np.float32), elements.astype(np.float32)
    return np.array([left[..., at:at + block] @ right[..., at:at + block, :] for at in range(0, elements.shape[-2], block)],
                    np.int64)


def _records(state: State, fields: Fields, shape: BlockShape, blocks: int) -> tuple[Ints, Ints]:
    """Return elements (groups, …, padded k, C) and scales (groups, …, blocks, C) of a command's packed weights."""
    config = state.config
    columns, beat = config.columns, config.beat_bytes
    head = ceil_div(columns, beat) * beat
    size = head + shape.block * columns // 2
    groups = ceil_div(fields["n"], columns)
    if fields["mode"] & MODE_STREAM:
        records = _taken(state, groups, blocks, size)
    else:
        records = slots(state, fields["weight_addr"], blocks, size, groups, fields["weight_tile_stride"], size)
        records = np.moveaxis(records, -2, 0)
    scales = records[..., :columns].astype(np.int64)
    words = records[..., head:].reshape(*records.shape[:-1], shape.passes, columns, config.rows // 2)
    nibbles = np.stack((words & 15, words >> 4), axis=-1).reshape(*words.shape[:-1], config.rows).astype(np.int64)
    elements = np.swapaxes((nibbles ^ 8) - 8, -1, -2)                   # (groups, …, blocks, passes, rows, C)
    return elements.reshape(*elements.shape[:-4], -1, columns), scales


def _taken(state: State, groups: int, blocks: int, size: int) -> Bytes:
    """Take records (groups, …, blocks, size) from the load unit's stream."""
    count = groups * blocks * size
    if state.stream.shape[-1] < count:
        raise Starved(f"{count - state.stream.shape[-1]} bytes of weights that no load before it streams")
    taken, state.stream = state.stream[..., :count], state.stream[..., count:]
    return np.moveaxis(taken.reshape(*taken.shape[:-1], groups, blocks, size), -3, 0)


def _check(state: State, fields: Fields) -> None:
    config, mode = state.config, fields["mode"]
    index = mode & MODE_FORMAT
    check_packed(fields)
    pieces = 0 < index <= len(config.weight_formats) and fields["m"] > PASS_ROWS and block_shape(config, index).passes > 1
    if index > len(config.weight_formats) or (mode and not index) or (mode & MODE_STREAM and pieces):
        raise Refusal(ErrorCause.UNSUPPORTED, mode)
    for name in ("activation_addr", "activation_stride"):
        check_aligned(fields[name], config.activation_slot_bytes)
    if not index:
        for name in ("weight_addr", "weight_stride", "weight_tile_stride"):
            check_aligned(fields[name], config.weight_slot_bytes)
    elif not mode & MODE_STREAM:
        for name in ("weight_addr", "weight_tile_stride"):
            check_aligned(fields[name], config.beat_bytes)


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator; every block (plain: every R of K) is added by itself, and saturates."""
    _check(state, fields)
    config, index = state.config, fields["mode"] & MODE_FORMAT
    if index:
        shape = block_shape(config, index)
        weights, scales = _records(state, fields, shape, ceil_div(fields["k"], shape.block))
        block = shape.block
        _count(state, fields, shape, scales)
    else:
        weights, block = plain_weights(state, fields).astype(np.int64), config.rows
    groups_of_rows = accumulator_rows(state, fields)
    activations = row_activations(state, fields)
    state.counters["macs"] += fields["m"] * fields["n"] * fields["k"]
    for j, rows in enumerate(groups_of_rows):
        sums = block_sums(activations, _whole(weights[j], block), block)
        if index:
            of_blocks = np.moveaxis(scales[j], -2, 0)[..., None, :]     # (blocks, …, 1, C)
            sums = scaled(sums, of_blocks, shifts=shape.shifts, guard_bits=config.guard_bits)
        _accumulate(state, rows, sums, bool(fields["accumulate"]))


def _count(state: State, fields: Fields, shape: BlockShape, scales: Ints) -> None:
    """Count blocks whose shift takes bits, or all, from them, and those that K does not fill."""
    rounded = flushed = 0
    if shape.shifts:
        flushed = int(((scales >= FLUSHED) & (scales != EMPTY)).sum())
        rounded = int(((scales < FLUSHED) & (scales > state.config.guard_bits)).sum())
    padded = fields["n"] if fields["k"] % shape.block else 0
    for name, count in (("blocks_rounded", rounded), ("blocks_flushed", flushed), ("blocks_padded", padded)):
        state.counters[name] = state.counters.get(name, 0) + count


def _whole(weights: Ints, block: int) -> Ints:
    """Return weights (…, k, C) with zeros up to whole blocks."""
    padding = [(0, 0)] * (weights.ndim - 2) + [(0, -weights.shape[-2] % block), (0, 0)]
    return np.pad(weights, padding)


def _accumulate(state: State, rows: Ints, sums: Ints, accumulate: bool) -> None:
    """Add the sums of blocks in order; where none can saturate, whatever the order, at once."""
    high = (1 << (state.config.acc_width - 1)) - 1
    if np.abs(sums).sum(axis=0).max(initial=0) + (np.abs(rows).max(initial=0) if accumulate else 0) <= high:
        total = sums.sum(axis=0)
        rows[...] = rows + total if accumulate else total
        return
    for at, psum in enumerate(sums):
        add_saturating(state, rows, psum, accumulate=accumulate or at > 0)
