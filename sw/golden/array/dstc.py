"""Golden model of `hw.array.dstc_engine`: what a matrix command does to the accumulator, at once and row by row."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.dstc import DstcRecord, dstc_chunk, dstc_records, dstc_tokens
from hw.isa import ErrorCause
from sw.golden.array.operands import add_saturating, check_packed, plain_weights, row_activations
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State

__all__ = ["nonzero_counts", "result_rows", "run_matrix"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_OVERFLOW = {"addr": 1 << 24, "row": 1 << 16}


def _check(config: AcceleratorConfig, fields: Fields) -> None:
    """Refuse what the sequencer refuses, in its order."""
    check_packed(fields)
    if fields["mode"] > len(config.weight_formats):
        raise Refusal(ErrorCause.UNSUPPORTED, fields["mode"])
    slot = config.weight_slot_bytes
    check_aligned(fields["weight_addr"], slot)
    if not fields["mode"]:
        check_aligned(fields["weight_stride"], slot)
    check_aligned(fields["weight_tile_stride"], slot)


def _record(config: AcceleratorConfig, fields: Fields) -> DstcRecord | None:
    return dstc_records(config)[fields["mode"] - 1] if fields["mode"] else None


def _masks(state: State, fields: Fields, record: DstcRecord, base: int) -> Bools:
    """Return the masks of a stream's K inputs, (…, k, C); those outside the scratchpad are zero."""
    columns, k = state.config.columns, fields["k"]
    size = record.masks(columns) + record.room(columns)
    starts = base + np.arange(k) // record.k * size + np.arange(k) % record.k * (columns // 8)
    places = starts[:, None] + np.arange(columns // 8)
    inside = places < state.config.scratchpad_bytes
    found = np.where(inside, state.scratchpad[..., np.where(inside, places, 0)], np.uint8(0))
    return np.unpackbits(found, axis=-1, bitorder="little").astype(np.bool_)


def _value_places(record: DstcRecord, columns: int, base: int, counts: Ints) -> tuple[Ints, Ints]:
    """Return for each k of (…, k) where its first value lies, and how many its record has, it included."""
    k = counts.shape[-1]
    padded = np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(0, -k % record.k)])
    summed = padded.reshape(*counts.shape[:-1], -1, record.k).cumsum(axis=-1).reshape(padded.shape)[..., :k]
    size = record.masks(columns) + record.room(columns)
    starts = base + np.arange(k) // record.k * size + record.masks(columns)
    return starts + summed - counts, summed


def _weights(state: State, fields: Fields) -> tuple[Ints, Bools]:
    """Return weights in groups of C outputs and which of them are multiplied, (groups, …, k, C) both."""
    config, record = state.config, _record(state.config, fields)
    if record is None:
        plain = plain_weights(state, fields).astype(np.int64)
        return plain, plain != 0
    values, masks = [], []
    for j in range(ceil_div(fields["n"], config.columns)):
        base = fields["weight_addr"] + j * fields["weight_tile_stride"]
        mask = _masks(state, fields, record, base)
        starts, _ = _value_places(record, config.columns, base, mask.sum(axis=-1))
        places = starts[..., None] + mask.cumsum(axis=-1) - 1
        taken = np.take_along_axis(state.scratchpad, np.where(mask, places, 0).reshape(*mask.shape[:-2], -1), axis=-1)
        used = np.arange(config.columns) < fields["n"] - j * config.columns
        mask = mask & used
        values.append(np.where(mask, taken.reshape(mask.shape).view(np.int8), 0).astype(np.int64))
        masks.append(mask)
    return np.stack(values), np.stack(masks)


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator; sums over `os_depth` are exact, and each is added, saturated to acc_width."""
    config, m, k = state.config, fields["m"], fields["k"]
    _check(config, fields)
    _check_chunks(state, fields)
    activations = row_activations(state, fields)
    weights, masks = _weights(state, fields)
    per_k = (activations != 0).sum(axis=-2)
    state.counters["macs"] += int(np.max(sum((per_k * mask.sum(axis=-1)).sum(axis=-1) for mask in masks)))
    left = activations.astype(np.float64)                               # products stay far below 2⁵³
    for j, group in enumerate(weights.astype(np.float64)):
        first = fields["acc_addr"] + j * fields["acc_tile_stride"]
        rows = state.accumulator[..., first:first + m, :]
        for start in range(0, k, config.os_depth):
            run = slice(start, start + config.os_depth)
            psum = (left[..., run] @ group[..., run, :]).astype(np.int64)
            add_saturating(state, rows, psum, accumulate=bool(fields["accumulate"]) or start > 0)


def result_rows(state: State, fields: Fields) -> Iterator[tuple[int, int, Ints]]:
    """Yield (accumulator row, accumulate, sums (C,)) for each row that the engine writes: n-group → tile → run of K → row."""
    config, tokens = state.config, dstc_tokens(state.config)
    activations = row_activations(state, fields).astype(np.int64)
    for j, weights in enumerate(_weights(state, fields)[0]):
        for first in range(0, fields["m"], tokens):
            for start in range(0, fields["k"], config.os_depth):
                run = slice(start, start + config.os_depth)
                for r, row in enumerate(activations[first:first + tokens, run] @ weights[run]):
                    yield (fields["acc_addr"] + j * fields["acc_tile_stride"] + first + r,
                           int(fields["accumulate"] or start > 0), row)


def nonzero_counts(state: State, fields: Fields) -> list[list[tuple[int, int]]]:
    """Return for each tile of a command, in the engine's order, the non-zeros of each k: of activations, of weights."""
    tokens = dstc_tokens(state.config)
    activations, (_, masks) = row_activations(state, fields) != 0, _weights(state, fields)
    return [list(zip(activations[first:first + tokens].sum(axis=0).tolist(), mask.sum(axis=-1).tolist(), strict=True))
            for mask in masks for first in range(0, fields["m"], tokens)]


# Refusals: the first violation in the order in which chunks are loaded, rows of activations before weights --------------


def _check_chunks(state: State, fields: Fields) -> None:
    config, size, m, k = state.config, state.config.scratchpad_bytes, fields["m"], fields["k"]
    groups, record = ceil_div(fields["n"], config.columns), _record(config, fields)
    last = fields["weight_addr"] + (groups - 1) * fields["weight_tile_stride"]
    whole = ((k - 1) * fields["weight_stride"] + config.weight_slot_bytes if record is None
             else ceil_div(k, record.k) * (record.masks(config.columns) + record.room(config.columns)))
    inside = (last + whole <= size and fields["activation_addr"] + (m - 1) * fields["activation_stride"] + k <= size
              and fields["acc_addr"] + (groups - 1) * fields["acc_tile_stride"] + m <= config.accumulator_rows)
    chunk, tokens = dstc_chunk(config), dstc_tokens(config)
    for j in range(groups):
        base = fields["weight_addr"] + j * fields["weight_tile_stride"]
        counts = _masks(state, fields, record, base).sum(axis=-1) if record else None
        if inside and (record is None or counts is None or bool(
                (_value_places(record, config.columns, base, counts)[1] <= record.room(config.columns)).all())):
            continue
        for first in range(0, m, tokens):
            for start in range(0, k, chunk):
                inputs = range(start, min(start + chunk, k))
                _check_rows(config, fields, j, range(first, min(first + tokens, m)), inputs)
                if record is None or counts is None:
                    _check_slots(config, base, fields["weight_stride"], inputs)
                else:
                    _check_records(config, record, base, inputs, counts)


def _check_rows(config: AcceleratorConfig, fields: Fields, j: int, tokens: range, inputs: range) -> None:
    for m in tokens:
        addr = fields["activation_addr"] + m * fields["activation_stride"] + inputs.start
        row = fields["acc_addr"] + j * fields["acc_tile_stride"] + m
        if addr + len(inputs) > config.scratchpad_bytes:
            raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(addr, "addr"))
        if row >= config.accumulator_rows:
            raise Refusal(ErrorCause.ACCUMULATOR_RANGE, _reported(row, "row"))


def _check_slots(config: AcceleratorConfig, base: int, stride: int, inputs: range) -> None:
    for k in inputs:
        if base + k * stride >= config.scratchpad_bytes:
            raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(base + k * stride, "addr"))


def _check_records(config: AcceleratorConfig, record: DstcRecord, base: int, inputs: range, counts: Ints) -> None:
    """Refuse masks that are outside, then values that are outside, or more than a record has room for."""
    columns, size = config.columns, config.scratchpad_bytes
    record_bytes = record.masks(columns) + record.room(columns)
    for k in range(inputs.start, inputs.stop, 8):
        addr = base + k // record.k * record_bytes + k % record.k * (columns // 8)
        if addr >= size:
            raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(addr, "addr"))
    places, used = _value_places(record, columns, base, counts)
    most = used.reshape(-1, used.shape[-1]).max(axis=0)                 # runs side by side stop at the first that is wrong
    ends = (places + counts).reshape(-1, used.shape[-1]).max(axis=0)
    for k in inputs:
        addr = int(places.reshape(-1, used.shape[-1])[0, k])
        if most[k] > record.room(columns):
            raise Refusal(ErrorCause.METADATA, _reported(addr, "addr"))
        if counts[..., k].any() and ends[k] > size:
            raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(addr, "addr"))


def _reported(address: int, kind: str) -> int:
    """Return an address as reports have it: its bits, and one more that says that it went past them."""
    limit = _OVERFLOW[kind]
    return address % limit + (limit if address >= limit else 0)
