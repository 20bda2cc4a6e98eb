"""Golden model of `hw.array.hss`: what a matrix command with structured-sparse weights does, at once and row by row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import HssMode, hss_granule, hss_modes, hss_record_slots, hss_tokens
from hw.isa import ErrorCause
from sw.golden.array.hss_records import bad_coordinates, dense_weights
from sw.golden.array.operands import add_saturating, check_packed
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State

__all__ = ["fp4_activations", "result_rows", "run_matrix"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12], np.float64)
_VECTOR = 16                # activations that share a power of two in SDQ
_OVERFLOW = {"addr": 1 << 24, "row": 1 << 16}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Geometry:
    """What follows from a command's sizes and mode: inputs and slots of a step, steps, most tokens of a piece."""

    mode: HssMode
    granule: int
    slots: int
    steps: int
    tokens: int

    @classmethod
    def of(cls, config: AcceleratorConfig, fields: Mapping[str, int]) -> "_Geometry":
        mode = hss_modes(config)[fields["mode"]]
        granule = hss_granule(config, mode)
        return cls(mode=mode, granule=granule, slots=hss_record_slots(config, mode), steps=ceil_div(fields["k"], granule),
                   tokens=hss_tokens(config))

    def slots_of(self, step: int, k: int) -> int:
        """Return the slots that are read for a step."""
        return self.slots if self.mode.packed else min(self.slots, k - step * self.slots)


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


def _weights(config: AcceleratorConfig, fields: Mapping[str, int], scratchpad: Bytes, geometry: _Geometry, j: int) -> list[Ints]:
    """Return what multiplies activations as they are, (…, K padded, C), and with SDQ what multiplies those in FP4."""
    columns, used = config.columns, min(config.columns, fields["n"] - j * config.columns)
    count = geometry.steps * geometry.slots if geometry.mode.packed else fields["k"]
    packed = _slots(scratchpad, fields["weight_addr"] + j * fields["weight_tile_stride"], count, fields["weight_stride"], columns)
    packed = np.where(np.arange(columns) < used, packed, np.uint8(0))
    if geometry.mode.packed:
        return dense_weights(geometry.mode, packed.reshape(*packed.shape[:-2], geometry.steps, geometry.slots, columns))
    padding = [(0, 0)] * (packed.ndim - 2) + [(0, geometry.steps * geometry.granule - count), (0, 0)]
    return [np.pad(packed.view(np.int8), padding).astype(np.int64)]


def _slots(scratchpad: Bytes, addr: int, count: int, stride: int, size: int) -> Bytes:
    """Return a view (…, count, size) of equally spaced pieces."""
    lead = scratchpad.shape[:-1]
    return as_strided(scratchpad[..., addr:], (*lead, count, size), (*scratchpad.strides[:-1], stride, 1), writeable=False)


def _activations(fields: Mapping[str, int], scratchpad: Bytes, geometry: _Geometry) -> list[Ints]:
    """Return A (…, M, K padded with zeros), and with SDQ the same in FP4."""
    rows = _slots(scratchpad, fields["activation_addr"], fields["m"], fields["activation_stride"], fields["k"]).view(np.int8)
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, geometry.steps * geometry.granule - fields["k"])])
    return [rows.astype(np.int64), fp4_activations(rows)] if geometry.mode.sdq else [rows.astype(np.int64)]


def result_rows(config: AcceleratorConfig, command: Mapping[str, int],
                scratchpad: Bytes) -> Iterator[tuple[int, int, Ints, int]]:
    """Yield (accumulator row, accumulate, sums (C,), multiplications not gated) for each row that the engine writes, in order."""
    geometry = _Geometry.of(config, command)
    left = _activations(command, scratchpad, geometry)
    for j in range(ceil_div(command["n"], config.columns)):
        right = _weights(config, command, scratchpad, geometry, j)
        for first in range(0, command["m"], geometry.tokens):
            for step in range(geometry.steps):
                inputs = slice(step * geometry.granule, (step + 1) * geometry.granule)
                for m in range(first, min(first + geometry.tokens, command["m"])):
                    sums = sum(a[m, inputs] @ b[inputs] for a, b in zip(left, right, strict=True))
                    live = sum(int((a[m, inputs] != 0) @ (b[inputs] != 0).sum(axis=1)) for a, b in zip(left, right, strict=True))
                    row = command["acc_addr"] + j * command["acc_tile_stride"] + m
                    yield row, int(command["accumulate"] or step > 0), np.asarray(sums), live


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
        _accumulate(state, rows, left, right, geometry.granule, bool(fields["accumulate"]))


def _accumulate(state: State, rows: Ints, left: list[Ints], right: list[Ints], granule: int, accumulate: bool) -> None:
    """Add the products to accumulator rows, in place, and count; at once where no sum can leave acc_width."""
    factors = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(left, right, strict=True)]
    live = sum(((a != 0).sum(axis=-2) * (b != 0).sum(axis=-1)).sum(axis=-1) for a, b in zip(left, right, strict=True))
    state.counters["macs"] += int(np.max(live))
    limit = 1 << state.config.acc_width - 1
    bound = sum(a.shape[-1] * np.abs(a).max() * np.abs(b).max() for a, b in factors)
    if bound + (np.abs(rows).max() if accumulate else 0) < limit:
        total = sum(a @ b for a, b in factors)
        rows[...] = rows + np.asarray(total).astype(np.int64) if accumulate else total
        return
    for start in range(0, left[0].shape[-1], granule):
        end = start + granule
        psum = np.asarray(sum(a[..., start:end] @ b[..., start:end, :] for a, b in factors)).astype(np.int64)
        add_saturating(state, rows, psum, accumulate=accumulate or start > 0)


# Refusals: the first violation in the order in which tiles are loaded and streamed -----------------------------------


def _check_tiles(state: State, fields: Fields, geometry: _Geometry) -> None:
    config, size = state.config, state.config.scratchpad_bytes
    m, k = fields["m"], fields["k"]
    groups = ceil_div(fields["n"], config.columns)
    count = geometry.steps * geometry.slots if geometry.mode.packed else k
    last_weight = fields["weight_addr"] + (groups - 1) * fields["weight_tile_stride"] + (count - 1) * fields["weight_stride"]
    inside = (last_weight < size and fields["activation_addr"] + (m - 1) * fields["activation_stride"] + k <= size
              and fields["acc_addr"] + (groups - 1) * fields["acc_tile_stride"] + m <= config.accumulator_rows)
    for j in range(groups):
        if inside and (geometry.mode.dense or not _bad_slots(state, fields, geometry, j).any()):
            continue
        for first in range(0, m, geometry.tokens):
            for step in range(geometry.steps):
                _check_slots(state, fields, geometry, j, step)
                _check_tokens(state, fields, geometry, j, step, range(first, min(first + geometry.tokens, m)))


def _bad_slots(state: State, fields: Fields, geometry: _Geometry, j: int) -> npt.NDArray[Any]:
    """Return which slots (steps, slots) of a group of outputs hold coordinates that no record may have; all must be inside."""
    columns, used = state.config.columns, min(state.config.columns, fields["n"] - j * state.config.columns)
    addr = fields["weight_addr"] + j * fields["weight_tile_stride"]
    packed = _slots(state.scratchpad, addr, geometry.steps * geometry.slots, fields["weight_stride"], columns)[..., :used]
    bad = bad_coordinates(geometry.mode, packed.reshape(*packed.shape[:-2], geometry.steps, geometry.slots, used))
    return np.asarray(bad.reshape(-1, *bad.shape[-2:]).any(axis=0))


def _check_slots(state: State, fields: Fields, geometry: _Geometry, j: int, step: int) -> None:
    """Refuse the first slot of a tile that is outside, or has bad coordinates."""
    base = fields["weight_addr"] + j * fields["weight_tile_stride"] + step * geometry.slots * fields["weight_stride"]
    count = geometry.slots_of(step, fields["k"])
    inside = count
    for slot in range(count):
        if base + slot * fields["weight_stride"] >= state.config.scratchpad_bytes:
            inside = slot
            break
    if not geometry.mode.dense:
        used = min(state.config.columns, fields["n"] - j * state.config.columns)
        tile = np.zeros((*state.scratchpad.shape[:-1], 1, geometry.slots, used), np.uint8)
        if inside:
            tile[..., 0, :inside, :] = _slots(state.scratchpad, base, inside, fields["weight_stride"], used)
        bad = np.flatnonzero(bad_coordinates(geometry.mode, tile).reshape(-1, geometry.slots)[:, :inside].any(axis=0))
        if bad.size:
            raise Refusal(ErrorCause.METADATA, base + int(bad[0]) * fields["weight_stride"])
    if inside < count:
        raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(base + inside * fields["weight_stride"], "addr"))


def _check_tokens(state: State, fields: Fields, geometry: _Geometry, j: int, step: int, tokens: range) -> None:
    """Refuse the first token of a tile whose slice, or else whose row, is outside."""
    depth = min(geometry.granule, fields["k"] - step * geometry.granule)
    for m in tokens:
        addr = fields["activation_addr"] + m * fields["activation_stride"] + step * geometry.granule
        row = fields["acc_addr"] + j * fields["acc_tile_stride"] + m
        if addr + depth > state.config.scratchpad_bytes:
            raise Refusal(ErrorCause.SCRATCHPAD_RANGE, _reported(addr, "addr"))
        if row >= state.config.accumulator_rows:
            raise Refusal(ErrorCause.ACCUMULATOR_RANGE, _reported(row, "row"))


def _reported(address: int, kind: str) -> int:
    """Return an address as reports have it: its bits, and one more that says that it went past them."""
    limit = _OVERFLOW[kind]
    return address % limit + (limit if address >= limit else 0)
