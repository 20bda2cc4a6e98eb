"""Golden models of `hw.array.bitmod_tile` and `bitmod_engine`: products with group scales, and what a matrix command does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.elements import FP32, Element, FloatFormat
from hw.engines.bitmod import BitmodMode, bitmod_block_bytes, bitmod_modes
from hw.isa import ErrorCause
from sw.golden.arith.floating import encode, float_add
from sw.golden.array.operands import accumulator_rows, add_floats, add_saturating, check_packed
from sw.golden.pe.bitmod import GUARD, PRECISIONS, group_sums, product_sums, weight_value
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State

__all__ = ["check_bitmod", "product", "result_rows", "run_matrix"]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

_ADDRESS_BITS = 24      # of an operand's address in a command


def product(element: Element, activations: Ints, codes: Ints, scales: Ints, specials: npt.NDArray[np.float64], *,
            precision: str, group: int) -> npt.NDArray[np.uint64]:
    """Return Σ over groups of scale · Σ activation · weight as float32 words.

    Each group is rounded as a PE rounds, then to float32; groups are added in order, in float32, to nearest, ties to even.
    Numbers below the smallest normal one count as zero.

    Parameters
    ----------
    element : Element
        Of the activations.
    activations : (m, k) int64
        Words.
    codes : (n, k) int64
        Weights as stored.
    scales, specials : (n, ⌈k / group⌉)
        Unsigned 8-bit scales, and special values.
    precision : str
    group : int
        Weights of a group; the last one may have fewer, and steps of four that k does not fill have zeros.

    Returns
    -------
    (m, n) uint64
    """
    m, n, k = len(activations), len(codes), codes.shape[1]
    sums = np.zeros((m, n), np.uint64)
    for index, start in enumerate(range(0, k, group)):
        part = slice(start, start + group)
        words = _group_words(element, activations[:, part], codes[:, part], scales[:, index], specials[:, index], precision)
        sums = float_add(FP32, sums, words) if start else words
    return sums


def _group_words(element: Element, activations: Ints, codes: Ints, scales: Ints, specials: npt.NDArray[np.float64],
                 precision: str) -> Words:
    """Return scale · Σ activation · weight of one group as float32 words: (m, G), (n, G), (n,), (n,) → (m, n)."""
    m, n = len(activations), len(codes)
    lsb = -element.bias - element.mantissa_bits - GUARD if isinstance(element, FloatFormat) else 0
    lsb -= PRECISIONS[precision].is_float
    padding = ((0, 0), (0, -codes.shape[1] % 4))
    left, right = np.pad(activations, padding), np.pad(codes, padding)
    if isinstance(element, FloatFormat):
        mantissa, exponent = product_sums(element, left, precision, right, specials)
    else:
        sums, _ = group_sums(element, np.repeat(left, n, axis=0), precision, np.tile(right, (m, 1)), np.tile(specials, m))
        mantissa, exponent = sums.reshape(m, n), np.zeros((m, n), np.int64)
    return encode(FP32, np.ldexp((mantissa * scales).astype(np.float64), exponent + lsb))


# The engine: what a command reads -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """Which pieces the steps of a row of K need: pieces are counted from the beginning of a tile's weights.

    `headers`: of each group; `low`, `high`: of each step, with the part of the piece in `low_part`, `high_part`; `first`: the
    first step that needs each piece.
    """

    headers: Ints
    low: Ints
    low_part: Ints
    high: Ints
    high_part: Ints
    first: Ints


@lru_cache(maxsize=64)
def _order(mode: BitmodMode, steps: int) -> _Order:
    headers: list[int] = []
    first: list[int] = []
    low, high = np.zeros((2, steps), np.int64), np.zeros((2, steps), np.int64)
    for step in range(steps):
        inside = step % (mode.group // 4)
        if inside == 0:
            headers.append(len(first))
            first.append(step)
        for plane, width in ((high, mode.high), (low, mode.low)):
            if not width:
                continue
            parts = 4 // width
            if inside % parts == 0:
                plane[0, step:step + parts] = len(first)
                first.append(step)
            plane[1, step] = inside % parts
    return _Order(headers=np.array(headers), low=low[0], low_part=low[1], high=high[0], high_part=high[1], first=np.array(first))


def _fields(pieces: Bytes, width: int) -> Ints:
    """Return the fields of `width` bits of pieces: (…, bytes) → (…, parts, fields of a step)."""
    parts = 4 // width
    bits = np.unpackbits(pieces, axis=-1, bitorder="little")
    worth = (1 << np.arange(width)).astype(np.uint8)
    found: Ints = (bits.reshape(*pieces.shape[:-1], parts, -1, width) * worth).sum(axis=-1, dtype=np.uint8)
    return found


@lru_cache(maxsize=32)
def _value_table(mode: BitmodMode) -> Doubles:
    """Return what each code is worth with each special value, in halves where the weights are floats: (4, codes)."""
    codes = 1 << PRECISIONS[mode.precision].element.bits
    unit = 2 if mode.is_float else 1
    return np.array([[unit * weight_value(mode.precision, code, special) for code in range(codes)] for special in mode.specials])


def _read(scratchpad: Bytes, addr: int, count: int, stride: int, size: int) -> Bytes:
    """Return pieces of the scratchpad, all inside it, (…, count, size)."""
    return scratchpad[..., addr + np.arange(count)[:, None] * stride + np.arange(size)]


def _activations(scratchpad: Bytes, fields: Fields) -> Doubles:
    """Return A of a command, (…, m, k)."""
    rows = _read(scratchpad, fields["activation_addr"], fields["m"], fields["activation_stride"], fields["k"])
    return rows.view(np.int8).astype(np.float64)


def _plain(config: AcceleratorConfig, scratchpad: Bytes, fields: Fields, group: int) -> Bytes:
    """Return plain B of a command in the group `group` of C outputs as stored, (…, k, C)."""
    addr = fields["weight_addr"] + group * fields["weight_tile_stride"]
    return _read(scratchpad, addr, fields["k"], fields["weight_stride"], config.columns)


def _packed(config: AcceleratorConfig, scratchpad: Bytes, fields: Fields, group: int) -> tuple[Ints, Bytes]:
    """Return codes (…, steps, 4, C) of a command in the group `group` of C outputs; scale and special (…, groups of K, C, 2)."""
    mode, columns = bitmod_modes(config)[fields["mode"]], config.columns
    addr, lead = fields["weight_addr"] + group * fields["weight_tile_stride"], scratchpad.shape[:-1]
    steps = ceil_div(fields["k"], 4)
    order = _order(mode, steps)
    pieces = _read(scratchpad, addr, len(order.first), fields["weight_stride"], 2 * columns)
    headers = pieces[..., order.headers, :].reshape(*lead, -1, columns, 2)
    codes = _fields(pieces, mode.low)[..., order.low, order.low_part, :]
    if mode.high:
        codes = codes | _fields(pieces, mode.high)[..., order.high, order.high_part, :] << mode.low
    return codes.reshape(*lead, steps, 4, columns), headers


def _weights(config: AcceleratorConfig, scratchpad: Bytes, fields: Fields, group: int) -> Doubles:
    """Return B of a command in the group `group` of C outputs with the scales, (…, k, C); zeros beyond its last output."""
    mode, columns, k = bitmod_modes(config)[fields["mode"]], config.columns, fields["k"]
    if fields["mode"] == 0:
        values = _plain(config, scratchpad, fields, group).view(np.int8).astype(np.float64)
    else:
        codes, headers = _packed(config, scratchpad, fields, group)
        steps = codes.shape[-3]
        per_step = np.repeat(headers, mode.group // 4, axis=-3)[..., :steps, None, :, :]            # (…, steps, 1, C, 2)
        worth = _value_table(mode)[per_step[..., 1] & 3, codes] * per_step[..., 0]
        values = worth.reshape(*codes.shape[:-3], 4 * steps, columns)[..., :k, :]
    values[..., max(0, fields["n"] - group * columns):] = 0
    return values


def _float_products(config: AcceleratorConfig, scratchpad: Bytes, fields: Fields, group: int, top: int,
                    bottom: int) -> Iterator[Words]:
    """Yield float32 words (rows, C) of each group of K, of rows `top` to `bottom` − 1 and the group `group` of C outputs.

    scratchpad: (bytes,).
    """
    mode, columns, k = bitmod_modes(config)[fields["mode"]], config.columns, fields["k"]
    addr, stride = fields["activation_addr"], fields["activation_stride"]
    rows = _read(scratchpad, addr + top * stride, bottom - top, stride, 2 * k)
    left = rows.view(np.uint16).astype(np.int64)
    if fields["mode"] == 0:
        codes = _plain(config, scratchpad, fields, group).astype(np.int64)
        headers = np.broadcast_to(np.array([1, 0], np.uint8), (ceil_div(k, mode.group), columns, 2))
    else:
        stored, headers = _packed(config, scratchpad, fields, group)
        codes = stored.reshape(-1, columns)[:k].astype(np.int64)
    beyond = max(0, fields["n"] - group * columns)
    for index, start in enumerate(range(0, k, mode.group)):
        run = slice(start, start + mode.group)
        scales = headers[index, :, 0].astype(np.int64)
        specials = np.array(mode.specials)[headers[index, :, 1] & 3]
        words = _group_words(config.activation, left[:, run], codes[run].T, scales, specials, mode.precision)
        words[:, beyond:] = 0
        yield words


# The engine: what it refuses ----------------------------------------------------------------------------------------


def _outside(address: int, limit: int) -> int | None:
    """Return what is reported of an address beyond `limit`: its bits, and one above them once they have overflowed."""
    if address < limit:
        return None
    return address if address < 1 << _ADDRESS_BITS else address % (1 << _ADDRESS_BITS) | 1 << _ADDRESS_BITS


def _blocks(config: AcceleratorConfig, addr: int, stride: int, k: int) -> list[int]:
    """Return where the blocks of a row at `addr` begin, in bytes of the row."""
    size = bitmod_block_bytes(config)
    while stride % size:
        size //= 2
    starts, start = [], 0
    while start < k * config.activation_bytes:
        starts.append(start)
        start += size - (addr + start) % size
    return starts


def _first_fault(config: AcceleratorConfig, fields: Fields) -> Refusal | None:
    """Return the first thing that is wrong: tile by tile its accumulator rows, then step by step activations and weights."""
    limit, rows, m, k = config.scratchpad_bytes, config.rows, fields["m"], fields["k"]
    mode = bitmod_modes(config)[fields["mode"]]
    first = np.arange(k) // 4 if fields["mode"] == 0 else _order(mode, ceil_div(k, 4)).first
    for group in range(ceil_div(fields["n"], config.columns)):
        weight = fields["weight_addr"] + group * fields["weight_tile_stride"]
        wrong = next((piece for piece in range(len(first)) if weight + piece * fields["weight_stride"] >= limit), None)
        for top in range(0, m, rows):
            height = min(rows, m - top)
            acc_end = fields["acc_addr"] + group * fields["acc_tile_stride"] + top + height - 1
            if acc_end >= config.accumulator_rows:
                return Refusal(ErrorCause.ACCUMULATOR_RANGE, acc_end)
            base = fields["activation_addr"] + top * fields["activation_stride"]
            for start in _blocks(config, base, fields["activation_stride"], k):
                if wrong is not None and first[wrong] < start // (4 * config.activation_bytes):
                    break
                for row in range(height):
                    outside = _outside(base + row * fields["activation_stride"] + start, limit)
                    if outside is not None:
                        return Refusal(ErrorCause.SCRATCHPAD_RANGE, outside)
            if wrong is not None:
                address = _outside(weight + wrong * fields["weight_stride"], limit)
                assert address is not None
                return Refusal(ErrorCause.SCRATCHPAD_RANGE, address)
    return None


def check_bitmod(config: AcceleratorConfig, fields: Fields) -> None:
    """Refuse a command that the engine refuses.

    Raises
    ------
    Refusal
        Of several faults the one that the engine reports.
    """
    check_packed(fields)
    if fields["mode"] > len(config.weight_formats):
        raise Refusal(ErrorCause.UNSUPPORTED, fields["mode"])
    steps = {"activation": config.activation_slot_bytes,
             "weight": config.weight_slot_bytes if fields["mode"] == 0 else 2 * config.columns}
    for operand, step in steps.items():
        for name in ("addr", "stride", "tile_stride"):
            check_aligned(fields[f"{operand}_{name}"], step)
    m, k, groups = fields["m"], fields["k"], ceil_div(fields["n"], config.columns)
    pieces = k if fields["mode"] == 0 else len(_order(bitmod_modes(config)[fields["mode"]], ceil_div(k, 4)).first)
    ends = (fields["activation_addr"] + (m - 1) * fields["activation_stride"] + k * config.activation_bytes - 1,
            fields["weight_addr"] + (groups - 1) * fields["weight_tile_stride"] + (pieces - 1) * fields["weight_stride"])
    acc_end = fields["acc_addr"] + (groups - 1) * fields["acc_tile_stride"] + m - 1
    if max(ends) >= config.scratchpad_bytes or acc_end >= config.accumulator_rows:
        fault = _first_fault(config, fields)
        assert fault is not None
        raise fault


# The engine: what it writes -----------------------------------------------------------------------------------------


def result_rows(config: AcceleratorConfig, command: Mapping[str, int], scratchpad: Bytes) -> Iterator[tuple[int, int, Ints]]:
    """Yield (accumulator row, accumulate, products (C,)) for each row that the engine writes: n-group → m-group → group → row."""
    run, rows = bitmod_modes(config)[command["mode"]].group, config.rows
    if config.float_activations:
        yield from _float_rows(config, command, scratchpad)
        return
    activations = _activations(scratchpad, command)
    for j in range(ceil_div(command["n"], config.columns)):
        weights = _weights(config, scratchpad, command, j)
        for top in range(0, command["m"], rows):
            for start in range(0, command["k"], run):
                products = activations[top:top + rows, start:start + run] @ weights[start:start + run]
                for r, row in enumerate(products.astype(np.int64)):
                    addr = command["acc_addr"] + j * command["acc_tile_stride"] + top + r
                    yield addr, int(command["accumulate"] or start > 0), row


def _float_rows(config: AcceleratorConfig, command: Mapping[str, int], scratchpad: Bytes) -> Iterator[tuple[int, int, Ints]]:
    """Yield what `result_rows` does, of floating-point activations: float32 words."""
    for j in range(ceil_div(command["n"], config.columns)):
        for top in range(0, command["m"], config.rows):
            bottom = min(top + config.rows, command["m"])
            for index, words in enumerate(_float_products(config, scratchpad, command, j, top, bottom)):
                for r, row in enumerate(words.astype(np.int64)):
                    addr = command["acc_addr"] + j * command["acc_tile_stride"] + top + r
                    yield addr, int(command["accumulate"] or index > 0), row


def _run_floats(state: State, fields: Fields) -> None:
    """Do what `run_matrix` does, of floating-point activations: groups rounded as a PE rounds, added in order in float32."""
    scratchpads = state.scratchpad.reshape(-1, state.scratchpad.shape[-1])
    for j, rows in enumerate(accumulator_rows(state, fields)):
        for scratchpad, held in zip(scratchpads, rows.reshape(len(scratchpads), *rows.shape[-2:]), strict=True):
            for index, words in enumerate(_float_products(state.config, scratchpad, fields, j, 0, fields["m"])):
                add_floats(held, words, accumulate=bool(fields["accumulate"]) or index > 0)


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator: exact products of groups, added in order; every addition saturates to acc_width.

    Where no sum can leave acc_width, whatever the order, one product does it; float64 holds each exactly.
    """
    config, k = state.config, fields["k"]
    check_bitmod(config, fields)
    state.counters["macs"] += fields["m"] * fields["n"] * k
    if config.float_activations:
        _run_floats(state, fields)
        return
    run, accumulate = bitmod_modes(config)[fields["mode"]].group, bool(fields["accumulate"])
    activations = _activations(state.scratchpad, fields)
    largest = np.abs(activations).max(initial=0)
    for j, rows in enumerate(accumulator_rows(state, fields)):
        weights = _weights(config, state.scratchpad, fields, j)
        bound = largest * np.abs(weights).sum(axis=-2).max(initial=0) + (np.abs(rows).max(initial=0) if accumulate else 0)
        step = k if bound < 1 << (config.acc_width - 1) else run
        for start in range(0, k, step):
            psum = (activations[..., start:start + step] @ weights[..., start:start + step, :]).astype(np.int64)
            add_saturating(state, rows, psum, accumulate=accumulate or start > 0)
