"""Golden model of `hw.array.hss`: what a matrix command with structured-sparse weights does, at once and row by row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import HssMode, hss_granule, hss_modes, hss_record_slots, hss_tokens
from hw.isa import ErrorCause
from sw.golden.array.hss_records import bad_coordinates, dense_weights
from sw.golden.array.operands import add_saturating, check_packed
from sw.golden.array.tasd import cut_to_pattern
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State

__all__ = ["fp4_activations", "result_rows", "run_matrix"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12], np.float64)
_VECTOR = 16                # activations that share a power of two in SDQ
_OVERFLOW = {"addr": 1 << 24, "row": 1 << 16}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """One step of K: the number and the pattern of its term, its first input and how many, its first slot and how many."""

    term: int
    mode: HssMode
    first: int
    inputs: int
    slot: int
    slots: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Geometry:
    """What follows from a command's sizes and mode: its steps in order, K padded to whole ones, most tokens of a piece."""

    mode: HssMode
    steps: tuple[_Step, ...]
    padded: int
    slots: int
    tokens: int

    @classmethod
    def of(cls, config: AcceleratorConfig, fields: Mapping[str, int]) -> "_Geometry":
        mode, k = hss_modes(config)[fields["mode"]], fields["k"]
        granule = hss_granule(config, mode)
        steps, slot, first = [], 0, 0
        while first < k:                                # a granule: all of its inputs for each term in turn
            for term, pattern in enumerate(mode.terms):
                inputs = hss_granule(config, pattern)
                for start in range(first, min(first + granule, k), inputs):
                    slots = hss_record_slots(config, pattern) if mode.packed else min(inputs, k - start)
                    steps.append(_Step(term=term, mode=pattern, first=start, inputs=inputs, slot=slot, slots=slots))
                    slot += slots
            first += granule
        return cls(mode=mode, steps=tuple(steps), padded=ceil_div(k, granule) * granule, slots=slot, tokens=hss_tokens(config))


def fp4_activations(x: npt.NDArray[np.int8]) -> Ints:
    """Return activations (…, K) as FP4 times the power of two that each 16 of them share, as integers.

    The power is the least, up to 16, with which the largest fits 12 units; to nearest, ties to the even mantissa.
    """
    k = x.shape[-1]
    values = np.pad(x.astype(np.float64), [(0, 0)] * (x.ndim - 1) + [(0, -k % _VECTOR)])
    vectors = values.reshape(*values.shape[:-1], -1, _VECTOR)
    peak = np.abs(vectors).max(axis=-1, keepdims=True)
    unit = 2.0 ** np.clip(np.ceil(np.log2(np.maximum(peak, 1) / 12)), 0, 4)
    magnitude = np.abs(vectors) / unit
    above = np.searchsorted(_FP4, magnitude).clip(1, len(_FP4) - 1)         # the nearest two of the table
    low, high = _FP4[above - 1], _FP4[above]
    nearer_high = (magnitude - low > high - magnitude) | ((magnitude - low == high - magnitude) & (above % 2 == 0))
    rounded = np.where(nearer_high, high, low) * unit * np.sign(vectors)
    return rounded.reshape(values.shape)[..., :k].astype(np.int64)


def _weights(config: AcceleratorConfig, fields: Mapping[str, int], scratchpad: Bytes, geometry: _Geometry,
             j: int) -> list[list[Ints]]:
    """Return for each step what multiplies activations as they are, (…, inputs, C), and with SDQ what multiplies those in FP4."""
    columns, used = config.columns, min(config.columns, fields["n"] - j * config.columns)
    addr = fields["weight_addr"] + j * fields["weight_tile_stride"]
    packed = _slots(scratchpad, addr, geometry.slots, fields["weight_stride"], columns)
    packed = np.where(np.arange(columns) < used, packed, np.uint8(0))
    if not geometry.mode.packed:
        padding = [(0, 0)] * (packed.ndim - 2) + [(0, geometry.padded - geometry.slots), (0, 0)]
        values = np.pad(packed.view(np.int8), padding).astype(np.int64)
        return [[values[..., step.first:step.first + step.inputs, :]] for step in geometry.steps]
    found: dict[_Step, list[Ints]] = {}
    for term, pattern in enumerate(geometry.mode.terms):
        steps = [step for step in geometry.steps if step.term == term]
        places = np.add.outer([step.slot for step in steps], np.arange(steps[0].slots))
        parts = dense_weights(pattern, packed[..., places, :])
        for number, step in enumerate(steps):
            inputs = slice(number * step.inputs, (number + 1) * step.inputs)
            found[step] = [part[..., inputs, :] for part in parts]
    return [found[step] for step in geometry.steps]


def _slots(scratchpad: Bytes, addr: int, count: int, stride: int, size: int) -> Bytes:
    """Return a view (…, count, size) of equally spaced pieces."""
    lead = scratchpad.shape[:-1]
    return as_strided(scratchpad[..., addr:], (*lead, count, size), (*scratchpad.strides[:-1], stride, 1), writeable=False)


def _activations(fields: Mapping[str, int], scratchpad: Bytes, geometry: _Geometry) -> list[Ints]:
    """Return A (…, M, K padded with zeros), and with SDQ the same in FP4."""
    rows = _slots(scratchpad, fields["activation_addr"], fields["m"], fields["activation_stride"], fields["k"]).view(np.int8)
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, geometry.padded - fields["k"])])
    if geometry.mode.activations:
        rows = cut_to_pattern(rows, *geometry.mode.activations)
    return [rows.astype(np.int64), fp4_activations(rows)] if geometry.mode.sdq else [rows.astype(np.int64)]


def result_rows(config: AcceleratorConfig, command: Mapping[str, int],
                scratchpad: Bytes) -> Iterator[tuple[int, int, Ints, int]]:
    """Yield (accumulator row, accumulate, sums (C,), multiplications not gated) for each row that the engine writes, in order."""
    geometry = _Geometry.of(config, command)
    left = _activations(command, scratchpad, geometry)
    for j in range(ceil_div(command["n"], config.columns)):
        right = _weights(config, command, scratchpad, geometry, j)
        for first in range(0, command["m"], geometry.tokens):
            for number, (step, b) in enumerate(zip(geometry.steps, right, strict=True)):
                inputs = slice(step.first, step.first + step.inputs)
                for m in range(first, min(first + geometry.tokens, command["m"])):
                    sums = sum(a[m, inputs] @ part for a, part in zip(left, b, strict=True))
                    live = sum(int((a[m, inputs] != 0) @ (part != 0).sum(axis=1)) for a, part in zip(left, b, strict=True))
                    row = command["acc_addr"] + j * command["acc_tile_stride"] + m
                    yield row, int(command["accumulate"] or number > 0), np.asarray(sums), live


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator, a step of K after the other; every addition saturates to acc_width."""
    config = state.config
    check_packed(fields)
    if fields["mode"] > len(config.weight_formats):
        raise Refusal(ErrorCause.UNSUPPORTED, fields["mode"])
    for part in ("addr", "stride", "tile_stride"):
        check_aligned(fields[f"weight_{part}"], config.weight_slot_bytes)
    geometry = _Geometry.of(config, fields)
    _check_tiles(state, fields, geometry)
    left = _activations(fields, state.scratchpad, geometry)
    for j in range(ceil_div(fields["n"], config.columns)):
        right = _weights(config, fields, state.scratchpad, geometry, j)
        first = fields["acc_addr"] + j * fields["acc_tile_stride"]
        rows = state.accumulator[..., first:first + fields["m"], :]
        _accumulate(state, rows, left, right, geometry, bool(fields["accumulate"]))


def _accumulate(state: State, rows: Ints, left: list[Ints], right: list[list[Ints]], geometry: _Geometry,
                accumulate: bool) -> None:
    """Add the products to accumulator rows, in place, and count; at once where no sum can leave acc_width."""
    factors = [(a.astype(np.float64), _of_term(geometry, right, term, part).astype(np.float64))
               for term in range(len(geometry.mode.terms)) for part, a in enumerate(left)]
    live = sum(((a != 0).sum(axis=-2) * (b != 0).sum(axis=-1)).sum(axis=-1) for a, b in factors)
    state.counters["macs"] += int(np.max(live))
    limit = 1 << state.config.acc_width - 1
    bound = sum(a.shape[-1] * np.abs(a).max() * np.abs(b).max() for a, b in factors)
    if bound + (np.abs(rows).max() if accumulate else 0) < limit:
        total = sum(a @ b for a, b in factors)
        rows[...] = rows + np.asarray(total).astype(np.int64) if accumulate else total
        return
    for number, (step, parts) in enumerate(zip(geometry.steps, right, strict=True)):
        inputs = slice(step.first, step.first + step.inputs)
        psum = np.asarray(sum(a[..., inputs].astype(np.float64) @ b for a, b in zip(left, parts, strict=True))).astype(np.int64)
        add_saturating(state, rows, psum, accumulate=accumulate or number > 0)


def _of_term(geometry: _Geometry, right: list[list[Ints]], term: int, part: int) -> Ints:
    """Return all weights of a term, or of SDQ its outliers or inliers: (…, K padded, C); zeros for steps that lie beyond K."""
    blocks = [parts[part] for step, parts in zip(geometry.steps, right, strict=True) if step.term == term]
    joined = np.concatenate(blocks, axis=-2)
    return np.pad(joined, [(0, 0)] * (joined.ndim - 2) + [(0, geometry.padded - joined.shape[-2]), (0, 0)])


# Refusals: the first violation in the order in which tiles are loaded and streamed -----------------------------------


def _check_tiles(state: State, fields: Fields, geometry: _Geometry) -> None:
    config, size = state.config, state.config.scratchpad_bytes
    m, k = fields["m"], fields["k"]
    groups = ceil_div(fields["n"], config.columns)
    last_group = fields["weight_addr"] + (groups - 1) * fields["weight_tile_stride"]
    last_weight = last_group + (geometry.slots - 1) * fields["weight_stride"]
    inside = (last_weight < size and fields["activation_addr"] + (m - 1) * fields["activation_stride"] + k <= size
              and fields["acc_addr"] + (groups - 1) * fields["acc_tile_stride"] + m <= config.accumulator_rows)
    for j in range(groups):
        if inside and (geometry.mode.dense or not _any_bad(state, fields, geometry, j)):
            continue
        for first in range(0, m, geometry.tokens):
            for step in geometry.steps:
                _check_slots(state, fields, step, j)
                _check_tokens(state, fields, step, j, range(first, min(first + geometry.tokens, m)))


def _any_bad(state: State, fields: Fields, geometry: _Geometry, j: int) -> bool:
    """Return whether any slot of a group of outputs holds coordinates that no record may have; all must be inside."""
    used = min(state.config.columns, fields["n"] - j * state.config.columns)
    addr = fields["weight_addr"] + j * fields["weight_tile_stride"]
    packed = _slots(state.scratchpad, addr, geometry.slots, fields["weight_stride"], state.config.columns)[..., :used]
    for pattern in dict.fromkeys(geometry.mode.terms):
        steps = [step for step in geometry.steps if step.mode == pattern]
        places = np.add.outer([step.slot for step in steps], np.arange(steps[0].slots))
        if bad_coordinates(pattern, packed[..., places, :]).any():
            return True
    return False


def _check_slots(state: State, fields: Fields, step: _Step, j: int) -> None:
    """Refuse the first slot of a tile that is outside, or has bad coordinates."""
    base = fields["weight_addr"] + j * fields["weight_tile_stride"] + step.slot * fields["weight_stride"]
    inside = step.slots
    for slot in range(step.slots):
        if base + slot * fields["weight_stride"] >= state.config.scratchpad_bytes:
            inside = slot
            break
    if not step.mode.dense:
        used = min(state.config.columns, fields["n"] - j * state.config.columns)
        tile = np.zeros((*state.scratchpad.shape[:-1], 1, step.slots, used), np.uint8)
        if inside:
            tile[..., 0, :inside, :] = _slots(state.scratchpad, base, inside, fields["weight_stride"], used)
        bad = np.flatnonzero(bad_coordinates(step.mode, tile).reshape(-1, step.slots)[:, :inside].any(axis=0))
        if bad.size:
            raise Refusal(ErrorCause.METADATA, base + int(bad[0]) * fields["weight_stride"])
    if inside < step.slots:
        raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(base + inside * fields["weight_stride"], "addr"))


def _check_tokens(state: State, fields: Fields, step: _Step, j: int, tokens: range) -> None:
    """Refuse the first token of a tile whose slice, or else whose row, is outside."""
    depth = min(step.inputs, fields["k"] - step.first)
    for m in tokens:
        addr = fields["activation_addr"] + m * fields["activation_stride"] + step.first
        row = fields["acc_addr"] + j * fields["acc_tile_stride"] + m
        if addr + depth > state.config.scratchpad_bytes:
            raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(addr, "addr"))
        if row >= state.config.accumulator_rows:
            raise Refusal(ErrorCause.ACCUMULATOR_RANGE, _reported(row, "row"))


def _reported(address: int, kind: str) -> int:
    """Return an address as reports have it: its bits, and one more that says that it went past them."""
    limit = _OVERFLOW[kind]
    return address % limit + (limit if address >= limit else 0)
