"""Golden model of `hw.array.float_engine`: float16 or bfloat16 operands, products added in trees, sums accumulated in float32."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.elements import BF16, Element
from hw.isa import Dataflow, ErrorCause
from sw.golden.array.operands import accumulator_rows, add_floats, check_sizes, plain_words, slots
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State
from sw.numpy_types import numpy_type

__all__ = ["result_rows", "run_matrix", "tree_sum", "word_products"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint16]

_SMALLEST = np.finfo(np.float32).smallest_normal


def _flushed(values: Floats) -> Floats:
    """Return values with subnormal ones as zeros of their sign."""
    small: Floats = np.where(np.abs(values) < _SMALLEST, np.copysign(np.float32(0), values), values)
    return small


def _values(element: Element, words: Words) -> Doubles:
    """Return what words stand for; subnormal bfloat16 ones count as zero."""
    with np.errstate(invalid="ignore"):                         # signaling NaN
        values = words.view(numpy_type(element)).astype(np.float64)
    return np.where(np.abs(values) < _SMALLEST, 0.0, values) if element == BF16 else values


def word_products(element: Element, a: Words, b: Words) -> Floats:
    """Return products of words as float32: two shapes that broadcast → the common shape. Zero times anything is +0."""
    x, y = _values(element, a), _values(element, b)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = x * y                                           # 22 bits
        small = np.abs(exact) < _SMALLEST
        product = np.where(small, np.copysign(0.0, exact), exact).astype(np.float32)
    return np.where((x == 0) | (y == 0), np.float32(0), product)


def tree_sum(terms: Floats) -> Floats:
    """Return sums along the last axis, a power of two long: neighbours first, then pairs of pairs."""
    with np.errstate(invalid="ignore", over="ignore"):
        while terms.shape[-1] > 1:
            terms = _flushed(terms[..., 0::2] + terms[..., 1::2])
    return terms[..., 0]


def _psums(config: AcceleratorConfig, a: Words, b: Words) -> npt.NDArray[np.uint64]:
    """Return float32 words of the sums of one tile: (…, m, rows), (…, rows, n) → (…, m, n); rows up to R are zero."""
    missing = config.rows - a.shape[-1]
    left = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)])
    right = np.pad(np.swapaxes(b, -1, -2), [(0, 0)] * (b.ndim - 1) + [(0, missing)])
    found = tree_sum(word_products(config.activation, left[..., :, None, :], right[..., None, :, :]))
    words = np.where(np.isnan(found), np.float32(np.nan), found).astype(np.float32).view(np.uint32)
    return np.where(np.isnan(found), np.uint32(0x7FC0_0000), words).astype(np.uint64)


def _operands(state: State, fields: Fields) -> tuple[Words, Words]:
    """Return A (…, m, k), and B in groups of C columns, (groups, …, k, C), as words."""
    config, m, k = state.config, fields["m"], fields["k"]
    packed = slots(state, fields["activation_addr"], m, fields["activation_stride"], ceil_div(k, config.rows),
                   fields["activation_tile_stride"], config.activation_slot_bytes)
    a = np.ascontiguousarray(packed).view(np.uint16)
    return a.reshape(*a.shape[:-2], -1)[..., :k], plain_words(state, fields)


def check_float(config: AcceleratorConfig, fields: Fields) -> None:
    """Refuse what the engine refuses before it reads anything.

    Raises
    ------
    Refusal
        The first rule that is broken.
    """
    check_sizes(fields)
    for name, only in (("dataflow", Dataflow.WS), ("mode", 0)):
        if fields[name] != only:
            raise Refusal(ErrorCause.UNSUPPORTED, fields[name])
    for operand, slot in (("activation", config.activation_slot_bytes), ("weight", config.weight_slot_bytes)):
        for name in ("addr", "stride", "tile_stride"):
            check_aligned(fields[f"{operand}_{name}"], slot)


def result_rows(state: State, fields: Mapping[str, int]) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
    """Yield (accumulator row, accumulate, float32 words (C,)) for each row that the engine writes: n-group → k-group → m."""
    config = state.config
    a, groups = _operands(state, fields)
    for j, b in enumerate(groups):
        for start in range(0, fields["k"], config.rows):
            run = slice(start, start + config.rows)
            for row, words in enumerate(_psums(config, a[:, run], b[run])):
                addr = fields["acc_addr"] + j * fields["acc_tile_stride"] + row
                yield addr, int(fields["accumulate"] or start > 0), words.astype(np.int64)


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator: trees of R products, added to the accumulator in order of k, in float32."""
    config = state.config
    check_float(config, fields)
    a, groups = _operands(state, fields)
    rows_of_groups = accumulator_rows(state, fields)
    state.counters["macs"] += fields["m"] * fields["n"] * fields["k"]
    for rows, b in zip(rows_of_groups, groups, strict=True):
        for start in range(0, fields["k"], config.rows):
            run = slice(start, start + config.rows)
            add_floats(rows, _psums(config, a[..., run], b[..., run, :]), accumulate=bool(fields["accumulate"]) or start > 0)
