"""Golden model of `hw.array.bitvert_engine`: what a matrix command does to the accumulator, at once and row by row."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.families import ColumnFormat
from hw.formats import format_named
from hw.isa import ErrorCause
from sw.golden.array.operands import accumulator_rows, add_saturating, check_packed, plain_weights, row_activations, slots
from sw.golden.pe.bitvert import group_weights
from sw.golden.refusal import Refusal, check_aligned, check_inside
from sw.golden.state import Fields, State

__all__ = ["lane_groups", "matrix_weights", "result_rows", "run_matrix"]

Ints = npt.NDArray[np.int64]

_PASS, _GROUP, _RECORD = 16, 32, 64     # of K


def _check(config: AcceleratorConfig, fields: Fields) -> None:
    """Refuse what the engine refuses, in its order."""
    check_packed(fields)
    if fields["mode"] > len(config.weight_formats):
        raise Refusal(ErrorCause.UNSUPPORTED, fields["mode"])
    for name in ("activation_addr", "activation_stride"):
        check_aligned(fields[name], min(_PASS, config.activation_slot_bytes))
    packed = fields["mode"] > 0
    slot = 2 * config.columns if packed else config.weight_slot_bytes
    check_aligned(fields["weight_addr"], slot)
    if not packed:
        check_aligned(fields["weight_stride"], slot)
    check_aligned(fields["weight_tile_stride"], slot)


def _split(config: AcceleratorConfig, fields: Fields) -> int:
    """Return P of a command: of so many groups of C outputs that share a stream, the first has all columns; 1: none."""
    fmt = format_named(config.weight_formats[fields["mode"] - 1]) if fields["mode"] else None
    return fmt.one_of if isinstance(fmt, ColumnFormat) else 1


def _read(state: State, fields: Fields, group: int, slots_read: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return slots of the stream that a group is in, (…, slots, 2·C); refuse those outside."""
    size, config = 2 * state.config.columns, state.config
    base = fields["weight_addr"] + group // _split(config, fields) * fields["weight_tile_stride"]
    check_inside(base, base + int(slots_read.max()) * size, size, config.scratchpad_bytes, ErrorCause.SCRATCHPAD_RANGE)
    return state.scratchpad[..., base + slots_read[:, None] * size + np.arange(size)]


def _split_weights(state: State, fields: Fields) -> Ints:
    """Return what `matrix_weights` does where groups share streams, in the order in which they lie."""
    config, k, n, shared = state.config, fields["k"], fields["n"], _split(state.config, fields)
    fmt = format_named(config.weight_formats[fields["mode"] - 1])
    assert isinstance(fmt, ColumnFormat)
    passes = np.arange(ceil_div(k, _PASS))
    pruned = 1 + 4 * (8 - fmt.pruned)                       # slots of a record: metadata, then columns of four passes
    found = []
    for group in range(ceil_div(n, config.columns)):
        member = group % shared
        bits = 8 - fmt.pruned if member else 8
        starts = passes // 4 * (33 + (shared - 1) * pruned) + (33 + (member - 1) * pruned if member else 0)
        places = starts[:, None] + 1 + passes[:, None] % 4 * bits + np.arange(bits)
        read = _read(state, fields, group, places.ravel())
        planes = np.unpackbits(read.reshape(*read.shape[:-2], len(passes), bits, config.columns, 2), axis=-1, bitorder="little")
        planes = np.moveaxis(planes, (-3, -1), (-1, -3))
        planes = planes.reshape(*planes.shape[:-4], len(passes) * _PASS, config.columns, bits)
        redundant = constant = np.zeros(planes.shape[:-1], np.int64)
        described = _read(state, fields, group, starts).astype(np.int64)
        if member:
            halves = described.reshape(*described.shape[:-1], 2, config.columns)
            mine = np.where((passes % 4 < 2)[:, None], halves[..., 0, :], halves[..., 1, :])
            mine = np.repeat(mine, _PASS, axis=-2)
            redundant, constant = mine & 3, mine >> 2
        found.append(group_weights(planes, redundant, constant, subtract=member > 0 and fmt.method == "shift")[..., :k, :])
    weights = np.stack(found)
    weights[-1, ..., (n - 1) % config.columns + 1:] = 0
    return weights


def lane_groups(state: State, fields: Fields) -> Ints:
    """Return in which group of C outputs each lane's result belongs, by groups in the order in which they lie, (groups, …, C)."""
    groups, shared = ceil_div(fields["n"], state.config.columns), _split(state.config, fields)
    found = []
    for group in range(groups):
        first, member = group // shared * shared, group % shared
        chosen = _read(state, fields, group, np.zeros(1, np.int64))[..., 0, :state.config.columns].astype(np.int64) & 7
        others = member - 1 + (chosen < member) if member else chosen
        found.append(first + others)
    return np.stack(found)


def _add_to_lanes(state: State, fields: Fields, group: int, psum: Ints, *, accumulate: bool) -> None:
    """Add sums (…, m, C) of a group to each lane's rows."""
    config = state.config
    within = (lane_groups(state, fields)[group] - group) * fields["acc_tile_stride"]                # (…, C)
    first = fields["acc_addr"] + group * fields["acc_tile_stride"]
    rows = (first + within[..., None, :] + np.arange(fields["m"])[:, None]) % config.accumulator_rows
    held = np.take_along_axis(state.accumulator, rows, axis=-2)
    add_saturating(state, held, psum, accumulate=accumulate)
    np.put_along_axis(state.accumulator, rows, held, axis=-2)


def matrix_weights(state: State, fields: Fields) -> Ints:
    """Return B of a command in groups of C columns, (groups, …, k, C), as they lie; zeros beyond its last column."""
    if fields["mode"] == 0:
        return plain_weights(state, fields).astype(np.int64)
    if _split(state.config, fields) > 1:
        return _split_weights(state, fields)
    config, k, n = state.config, fields["k"], fields["n"]
    fmt = format_named(config.weight_formats[fields["mode"] - 1])
    bits = 8 - fmt.pruned if isinstance(fmt, ColumnFormat) else 8
    lead, size = int(isinstance(fmt, ColumnFormat)), 2 * config.columns
    passes, records = ceil_div(k, _PASS), ceil_div(k, _RECORD)
    count = passes * bits + lead * records
    stream = slots(state, fields["weight_addr"], count, size, ceil_div(n, config.columns), fields["weight_tile_stride"], size)
    stream = np.moveaxis(stream, -2, 0)                                                 # (groups, …, slots, bytes)
    per_record = lead + _RECORD // _PASS * bits
    place = np.arange(passes)[:, None] // 4 * per_record + lead + np.arange(passes)[:, None] % 4 * bits + np.arange(bits)
    columns = stream[..., place, :].reshape(*stream.shape[:-2], passes, bits, config.columns, 2)
    unpacked = np.unpackbits(columns, axis=-1, bitorder="little")                       # (…, passes, bits, C, 16)
    planes = np.moveaxis(unpacked, (-3, -1), (-1, -3))                                  # (…, passes, 16, C, bits)
    planes = planes.reshape(*planes.shape[:-4], passes * _PASS, config.columns, bits)
    redundant = constant = np.zeros(planes.shape[:-1], np.int64)
    if isinstance(fmt, ColumnFormat):
        described = stream[..., np.arange(records) * per_record, :].astype(np.int64)
        described = described.reshape(*stream.shape[:-2], records * 2, config.columns)
        described = np.repeat(described, _GROUP, axis=-2)[..., :passes * _PASS, :]
        redundant, constant = described & 3, described >> 2
    subtract = isinstance(fmt, ColumnFormat) and fmt.method == "shift"
    weights = group_weights(planes, redundant, constant, subtract=subtract)[..., :k, :]
    weights[-1, ..., (n - 1) % config.columns + 1:] = 0
    return weights


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator; sums over `os_depth` are exact, and each is added, saturated to acc_width."""
    config = state.config
    _check(config, fields)
    activations = row_activations(state, fields).astype(np.float64)     # products stay far below 2⁵³
    groups_of_rows = accumulator_rows(state, fields)
    groups_of_weights = matrix_weights(state, fields).astype(np.float64)
    state.counters["macs"] += fields["m"] * fields["n"] * fields["k"]
    split = _split(config, fields) > 1
    for group, (rows, weights) in enumerate(zip(groups_of_rows, groups_of_weights, strict=True)):
        for start in range(0, fields["k"], config.os_depth):
            run = slice(start, start + config.os_depth)
            psum = (activations[..., run] @ weights[..., run, :]).astype(np.int64)
            accumulate = bool(fields["accumulate"]) or start > 0
            if split:
                _add_to_lanes(state, fields, group, psum, accumulate=accumulate)
            else:
                add_saturating(state, rows, psum, accumulate=accumulate)


def result_rows(state: State, fields: Fields) -> Iterator[tuple[int, int, Ints]]:
    """Yield (accumulator row, accumulate, sums (C,)) for each row that the engine writes: n-group → m-group → run of K → row.

    Where channels are split, rows are those of the groups as they lie; `lane_groups` says where lanes belong.
    """
    config, m = state.config, fields["m"]
    activations = row_activations(state, fields).astype(np.int64)
    for j, weights in enumerate(matrix_weights(state, fields)):
        for first in range(0, m, config.rows):
            for start in range(0, fields["k"], config.os_depth):
                run = slice(start, start + config.os_depth)
                sums = activations[first:first + config.rows, run] @ weights[run]
                for r, row in enumerate(sums):
                    yield (fields["acc_addr"] + j * fields["acc_tile_stride"] + first + r,
                           int(fields["accumulate"] or start > 0), row)
