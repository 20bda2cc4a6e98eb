"""What golden models of all matrix engines share: plain operands in the scratchpad, and sums that saturate in the accumulator."""

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from hw.config import ceil_div
from hw.elements import FP32
from hw.isa import Dataflow, ErrorCause
from sw.golden.arith.floating import float_add
from sw.golden.refusal import Refusal, check_inside
from sw.golden.state import Fields, State

__all__ = [
    "accumulator_rows", "add_floats", "add_saturating", "check_packed", "check_sizes", "elements", "plain_weights",
    "plain_words", "row_activations", "slots",
]


def check_sizes(fields: Fields) -> None:
    """Refuse a command without rows, columns or steps."""
    if 0 in (fields["m"], fields["n"], fields["k"]):
        raise Refusal(ErrorCause.BAD_SIZE, 0)


def check_packed(fields: Fields) -> None:
    """Refuse what engines of one dataflow refuse first: no size, another dataflow, `serialize`."""
    check_sizes(fields)
    for name, only in (("dataflow", Dataflow.WS), ("serialize", 0)):
        if fields[name] != only:
            raise Refusal(ErrorCause.UNSUPPORTED, fields[name])


def slots(state: State, addr: int, steps: int, stride: int, groups: int, tile_stride: int, slot: int) -> npt.NDArray[np.uint8]:
    """Return a view of slots of `slot` bytes in the scratchpad, (…, steps, groups, slot); refuse those outside."""
    last = addr + (steps - 1) * stride + (groups - 1) * tile_stride
    check_inside(addr, last, slot, state.config.scratchpad_bytes, ErrorCause.SCRATCHPAD_RANGE)
    pad = state.scratchpad
    return as_strided(pad[..., addr:], (*pad.shape[:-1], steps, groups, slot), (*pad.strides[:-1], stride, tile_stride, 1),
                      writeable=False)


def elements(packed: npt.NDArray[np.uint8], count: int, bits: int) -> npt.NDArray[np.int8]:
    """Return the first `count` signed elements of 8 or 4 bits of each slot, (…, count)."""
    if bits == 8:
        return packed[..., :count].view(np.int8)
    pairs = packed[..., :ceil_div(count, 2)]
    nibbles = np.stack((pairs & 15, pairs >> 4), axis=-1).reshape(*pairs.shape[:-1], -1)[..., :count]
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)


def row_activations(state: State, fields: Fields) -> npt.NDArray[np.int8]:
    """Return A of a command, (…, m, k), of which each row lies in one piece."""
    rows = slots(state, fields["activation_addr"], fields["m"], fields["activation_stride"], 1, 0, fields["k"])
    return rows[..., 0, :].view(np.int8)


def plain_weights(state: State, fields: Fields) -> npt.NDArray[np.int8]:
    """Return B of a command in groups of C columns, (groups, …, k, C); zeros beyond its last column."""
    config, n, k = state.config, fields["n"], fields["k"]
    groups = ceil_div(n, config.columns)
    packed = slots(state, fields["weight_addr"], k, fields["weight_stride"], groups, fields["weight_tile_stride"],
                   config.weight_slot_bytes)
    weights = np.zeros((groups, *packed.shape[:-3], k, config.columns), np.int8)
    for j in range(groups):
        used = min(config.columns, n - j * config.columns)
        weights[j, ..., :used] = elements(packed[..., j, :], used, config.weight.bits)
    return weights


def plain_words(state: State, fields: Fields) -> npt.NDArray[np.uint16]:
    """Return 16-bit B of a command in groups of C columns, (groups, …, k, C); zeros beyond its last column."""
    config, n, k = state.config, fields["n"], fields["k"]
    groups = ceil_div(n, config.columns)
    packed = slots(state, fields["weight_addr"], k, fields["weight_stride"], groups, fields["weight_tile_stride"],
                   config.weight_slot_bytes)
    words = np.moveaxis(np.ascontiguousarray(packed).view(np.uint16)[..., :config.columns], -2, 0).copy()
    words[-1, ..., n - (groups - 1) * config.columns:] = 0
    return words


def accumulator_rows(state: State, fields: Fields) -> list[npt.NDArray[np.int64]]:
    """Return the accumulator rows of each group of C columns, views (…, m, C); refuse those outside."""
    config, m, stride = state.config, fields["m"], fields["acc_tile_stride"]
    groups = ceil_div(fields["n"], config.columns)
    last = fields["acc_addr"] + (groups - 1) * stride + m - 1
    check_inside(fields["acc_addr"], last, 1, config.accumulator_rows, ErrorCause.ACCUMULATOR_RANGE)
    firsts = [fields["acc_addr"] + j * stride for j in range(groups)]
    return [state.accumulator[..., first:first + m, :] for first in firsts]


def add_floats(rows: npt.NDArray[np.int64], words: npt.NDArray[np.uint64], *, accumulate: bool) -> None:
    """Add float32 words to accumulator rows, or to +0 instead, in place: to nearest, ties to even, subnormal numbers zero."""
    rows[...] = float_add(FP32, rows if accumulate else np.zeros_like(rows), words)


def add_saturating(state: State, rows: npt.NDArray[np.int64], psum: npt.NDArray[np.int64], *, accumulate: bool) -> None:
    """Write psums to accumulator rows, or add them, in place; sums saturate to acc_width, and are counted for each row."""
    high = (1 << (state.config.acc_width - 1)) - 1
    total = rows + psum if accumulate else psum
    rows[...] = np.clip(total, -high - 1, high)
    state.counters["saturations"] += int((rows != total).any(axis=-1).sum())
