"""The BitVert engine as the runtime sees it: how packed weights lie, how they are rounded, and when its commands are done."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitvert import BITVERT_GROUP, BITVERT_LANES, BITVERT_RECORD, PlanesFormat, bitvert_formats, bitvert_pace
from hw.errors import ConfigError
from hw.families import ColumnFormat
from hw.formats import format_named
from sw.engines.plain import pack_plain, plain_layout
from sw.engines.runtime import EngineRuntime, WeightLayout, share_a_bank
from sw.formats.columns import encode_groups
from sw.formats.rows import quantize_rows
from sw.layout import round_up

__all__ = ["BITVERT", "BitvertTiming", "bitvert_layout", "bitvert_stream", "pack_bitvert", "split_order"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_FIRST_READ = 2         # from the cycle in which a command is taken to its first activations
_FIRST_SLOT = 4         # … and to its first weights
_STORED = 3             # from the last read of a block to its first pass
_COLUMN = 2             # from the last slot of a result to its last column at the array; of plain weights one more to their first
_ROWS = 5               # from there to `done`, less the result's rows


# Weights ------------------------------------------------------------------------------------------------------------


def bitvert_layout(config: AcceleratorConfig, mode: int, n: int, k: int) -> WeightLayout:
    """Return how weights of a mode lie: a record is 64 of K, as `hw.engines.bitvert.PlanesFormat` says.

    Raises
    ------
    ConfigError
        If the config has no such mode.
    """
    formats = bitvert_formats(config)
    if not 0 <= mode <= len(formats):
        raise ConfigError(f"mode must be 0 to {len(formats)} (weight_formats), not {mode!r}")
    if mode == 0:       # commands start at whole passes of activations
        return dataclasses.replace(plain_layout(config, mode, n, k), granule=max(BITVERT_LANES, config.rows))
    slot, shared = 2 * config.columns, formats[mode - 1].one_of
    return WeightLayout(mode=mode, n=n, k=k, columns=shared * config.columns, granule=BITVERT_RECORD, record_k=BITVERT_RECORD,
                        record_bytes=formats[mode - 1].slots * slot, weight_stride=slot, beat_bytes=config.beat_bytes)


def bitvert_stream(planes: Bytes, metadata: Bytes | None, columns: int) -> Bytes:
    """Return bit columns as an engine of C columns reads them.

    Parameters
    ----------
    planes : (N, K, T) 0 or 1
        Stored bits of each weight, its sign first; K a multiple of 64.
    metadata : (N, K / 32) uint8, or None
        Redundant columns in the lower two bits, the constant above them.
    columns : int
        C.

    Returns
    -------
    (⌈N / C⌉, K / 64, slots, 2·C) uint8
    """
    n, k, count = planes.shape
    groups, records = ceil_div(n, columns), k // BITVERT_RECORD
    padded = np.pad(planes, ((0, groups * columns - n), (0, 0), (0, 0)))
    passes = padded.reshape(groups, columns, records, BITVERT_RECORD // BITVERT_LANES, BITVERT_LANES, count)
    words = np.packbits(passes, axis=4, bitorder="little")                              # (groups, C, records, 4, 2, T)
    slots = words.transpose(0, 2, 3, 5, 1, 4).reshape(groups, records, -1, 2 * columns)
    if metadata is None:
        return slots
    described = np.pad(metadata, ((0, groups * columns - n), (0, 0))).reshape(groups, columns, records, 2)
    return np.concatenate([described.transpose(0, 2, 3, 1).reshape(groups, records, 1, 2 * columns), slots], axis=2)


def pack_bitvert(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[Bytes, Floats]:
    """Return the bytes of a matrix (N, K), rounded to its mode's format, and each output's scale; zeros beyond K."""
    if layout.mode == 0:
        return pack_plain(config, layout, matrix)
    fmt = format_named(config.weight_formats[layout.mode - 1])
    integers, scale = quantize_rows(matrix)
    weights = np.pad(integers, ((0, 0), (0, round_up(layout.k, BITVERT_RECORD) - layout.k)))
    if isinstance(fmt, ColumnFormat) and fmt.one_of > 1:
        stream = _split_stream(fmt, weights, split_order(scale, config.columns, fmt.one_of))
    elif isinstance(fmt, ColumnFormat):
        stream = bitvert_stream(*_pruned(fmt, weights), config.columns)
    else:
        stream = bitvert_stream(_planes(weights), None, config.columns)
    flat = stream.reshape(layout.groups, -1)
    return np.pad(flat, ((0, 0), (0, layout.group_stride - flat.shape[1]))).ravel(), scale.astype(np.float32)


def _planes(weights: npt.NDArray[np.int8]) -> Bytes:
    """Return the eight bits of weights (N, K), (N, K, 8); the sign comes first."""
    return np.unpackbits(weights.view(np.uint8)[..., None], axis=-1)


def _pruned(fmt: ColumnFormat, weights: npt.NDArray[np.int8]) -> tuple[Bytes, Bytes]:
    """Return the stored columns of weights (N, K), (N, K, T), and bytes of metadata, (N, K / 32)."""
    fields = encode_groups(fmt, weights.reshape(len(weights), -1, BITVERT_GROUP))
    words = np.ascontiguousarray(fields["columns"], "<u4").view(np.uint8).reshape(*fields["columns"].shape, 4)
    planes = np.unpackbits(words, axis=-1, bitorder="little").swapaxes(-1, -2)          # (N, groups, 32, T)
    metadata = (fields["redundant"] | fields["constant"] << 2)[..., 0].astype(np.uint8)
    return planes.reshape(*weights.shape, 8 - fmt.pruned), metadata


def split_order(scale: npt.NDArray[np.floating], columns: int, one_of: int) -> npt.NDArray[np.int64]:
    """Return the order in which an engine of C columns has channels of which one of P keeps its columns.

    Lane c has channels c, C + c, 2·C + c, …; of each P of them in a row the one of the largest scale is kept.

    Parameters
    ----------
    scale : (N,) float
    columns, one_of : int
        C, P.

    Returns
    -------
    (⌈N / (P·C)⌉, P, C) int64
        Channels: the kept ones first, then the others in their order; N and more where there is none.
    """
    spans = ceil_div(len(scale), columns * one_of)
    channels = np.arange(spans * one_of * columns).reshape(spans, one_of, columns)
    sizes = np.full(channels.size, -1.0)
    sizes[:len(scale)] = scale
    chosen = sizes.reshape(channels.shape).argmax(axis=1)[:, None]                      # where there is no channel: the first
    places = np.arange(one_of)[:, None]
    order = np.where(places == 0, chosen, places - (places <= chosen))
    return np.take_along_axis(channels, order, axis=1)


def _split_stream(fmt: ColumnFormat, weights: npt.NDArray[np.int8], order: npt.NDArray[np.int64]) -> Bytes:
    """Return weights in the order of `split_order` as the engine reads them, (spans, K / 64, slots, 2·C)."""
    _, shared, columns = order.shape
    padded = np.pad(weights, ((0, order.size - len(weights)), (0, 0)))
    kept = bitvert_stream(_planes(padded[order[:, 0].ravel()]), None, columns)
    lead = np.zeros((*kept.shape[:2], 1, 2 * columns), np.uint8)
    lead[..., :columns] = (order[:, 0] // columns % shared)[:, None, None]
    parts = [lead, kept]
    for member in range(1, shared):
        parts.append(bitvert_stream(*_pruned(fmt, padded[order[:, member].ravel()]), columns))
    return np.concatenate(parts, axis=2)


# Cycles -------------------------------------------------------------------------------------------------------------


class BitvertTiming:
    """Slots of weights one a cycle, held up where activations are not there yet, or rows of the last result not out.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.formats, self.pace = bitvert_formats(config), bitvert_pace(config)
        self.plain_later = 1 + 7 * self.pace        # what the last column of plain weights comes later than a packed one
        self.next = 0.0
        self.slot = 0.0             # when the next slot can be read
        self.column = 0.0           # when the next one that is a column can
        self.read = 0.0             # when the next activations can be
        self.freed = (0.0, 0.0)     # when the bank of the block before the last is free, and that of the last
        self.plain_end = -100.0     # when the last slot of plain weights was read
        self.drained = -100.0       # when the next result's last column may come, at the array

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at `at`."""
        config, m = self.config, fields["m"]
        fmt = self.formats[fields["mode"] - 1] if fields["mode"] else None
        self.read = max(self.read, at + _FIRST_READ)
        self.slot = max(self.slot + 2, at + _FIRST_SLOT)
        passes, shared = self._passes(fields), self._same_bank(fields)
        heights = [config.rows] * (m // config.rows) + [m % config.rows] * (m % config.rows > 0)
        members = fmt.members if fmt else (None,)
        tiles = [(members[group % len(members)], height) for group in range(ceil_div(fields["n"], config.columns))
                 for height in heights]
        for part, height in tiles:
            ready = 0.0
            for index, (depth, blocks, ends, run_ends) in enumerate(passes):
                if blocks:
                    self.read = max(self.read, self.freed[0]) + height * blocks
                    ready = self.read - 1 + _STORED
                    self.slot += height * blocks if shared else 0
                self._pass(part, index, depth, ready, height, run_ends)
                if ends:
                    self.freed = self.freed[1], self.taken + 1
        self.next = self.read
        latency = _COLUMN + _ROWS + (self.pace > 1) + (self.plain_later if fmt is None else 0)
        return self.last + latency + heights[-1]

    def _pass(self, fmt: PlanesFormat | None, index: int, depth: int, ready: float, height: int, run_ends: bool) -> None:
        """Read the slots of a pass."""
        if fmt is None:
            last = max(self.slot + depth - 1, ready, self.plain_end + 8 * self.pace)
            last = max(last, self.drained - self.plain_later) if run_ends else last
            self.taken = self.plain_end = last
        else:
            self.slot += fmt.metadata and index % (BITVERT_RECORD // BITVERT_LANES) == 0
            self.taken = max(self.slot, ready, self.plain_end + 8 * self.pace + 1, self.column)
            last = self.taken + (fmt.columns - 1) * self.pace
            last = max(last, self.drained) if run_ends else last
            self.column = last + self.pace
        self.last, self.slot = last, last + 1
        if run_ends:
            self.drained = last + height + (self.plain_later if fmt is None else 0)

    def _passes(self, fields: Mapping[str, int]) -> list[tuple[int, int, bool, bool]]:
        """Return the passes of a tile: k, blocks of activations that it waits for, whether it ends a bank, and a run."""
        k, size = fields["k"], self.config.line_bytes
        while (fields["activation_addr"] | fields["activation_stride"]) % size:
            size //= 2
        found = []
        for start in range(0, k, BITVERT_LANES):
            end = min(start + BITVERT_LANES, k)
            blocks = int(start % size == 0) if size >= BITVERT_LANES else ceil_div(end - start, size)
            found.append((end - start, blocks, end % size == 0 or end == k,
                          end % self.config.os_depth == 0 or end == k))
        return found

    def _same_bank(self, fields: Mapping[str, int]) -> bool:
        """Return whether the operands of a command share a scratchpad bank."""
        config, k = self.config, fields["k"]
        groups = ceil_div(fields["n"], config.columns)
        if fields["mode"]:
            fmt = self.formats[fields["mode"] - 1]
            groups = ceil_div(groups, fmt.one_of)
            weights = ceil_div(k, BITVERT_RECORD) * fmt.slots * 2 * config.columns
        else:
            weights = (k - 1) * fields["weight_stride"] + config.weight_slot_bytes
        return share_a_bank(config, fields, activations=(fields["m"] - 1) * fields["activation_stride"] + k - 1,
                            weights=(groups - 1) * fields["weight_tile_stride"] + weights - 1)


BITVERT = EngineRuntime(timing=BitvertTiming, layout=bitvert_layout, pack=pack_bitvert)
