"""Golden model of `hw.array.bitvert_engine`: what a matrix command does to the accumulator, at once and row by row."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.families import ColumnFormat
from hw.formats import format_named
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.operands import accumulator_rows, add_saturating, check_sizes, plain_weights, row_activations, slots
from sw.golden.pe.bitvert import group_weights
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State

__all__ = ["matrix_weights", "result_rows", "run_matrix"]

Ints = npt.NDArray[np.int64]

_PASS, _GROUP, _RECORD = 16, 32, 64     # of K


def _check(config: AcceleratorConfig, fields: Fields) -> None:
    """Refuse what the engine refuses, in its order."""
    check_sizes(fields)
    for name in ("dataflow", "serialize"):
        if fields[name]:
            raise Refusal(ErrorCause.UNSUPPORTED, fields[name])
    if fields["mode"] > len(config.weight_formats):
        raise Refusal(ErrorCause.UNSUPPORTED, fields["mode"])
    assert Dataflow.WS == 0
    for name in ("activation_addr", "activation_stride"):
        check_aligned(fields[name], min(_PASS, config.activation_slot_bytes))
    packed = fields["mode"] > 0
    slot = 2 * config.columns if packed else config.weight_slot_bytes
    check_aligned(fields["weight_addr"], slot)
    if not packed:
        check_aligned(fields["weight_stride"], slot)
    check_aligned(fields["weight_tile_stride"], slot)


def matrix_weights(state: State, fields: Fields) -> Ints:
    """Return B of a command in groups of C columns, (groups, …, k, C); zeros beyond its last column."""
    if fields["mode"] == 0:
        return plain_weights(state, fields).astype(np.int64)
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
    for rows, weights in zip(groups_of_rows, groups_of_weights, strict=True):
        for start in range(0, fields["k"], config.os_depth):
            run = slice(start, start + config.os_depth)
            psum = (activations[..., run] @ weights[..., run, :]).astype(np.int64)
            add_saturating(state, rows, psum, accumulate=bool(fields["accumulate"]) or start > 0)


def result_rows(state: State, fields: Fields) -> Iterator[tuple[int, int, Ints]]:
    """Yield (accumulator row, accumulate, sums (C,)) for each row that the engine writes: n-group → m-group → run of K → row."""
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
