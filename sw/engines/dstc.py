"""The dual-side sparse engine as the runtime sees it: how packed weights lie and are made, and when its commands are done."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.dstc import (
    COMMAND_LATENCY,
    RESULT_LATENCY,
    DstcRecord,
    dstc_chunk,
    dstc_lanes,
    dstc_load_cycles,
    dstc_patches,
    dstc_records,
    dstc_tokens,
)
from hw.errors import ConfigError
from hw.families import SparseFormat
from hw.formats import format_named
from sw.engines.plain import pack_plain, plain_layout
from sw.engines.runtime import EngineRuntime, WeightLayout, share_a_bank
from sw.formats.rows import quantize_rows
from sw.formats.sparse import keep_masks
from sw.layout import round_up
from sw.sparsity.density import binomial, expected_chunks
from sw.sparsity.patterns import PatternError

__all__ = ["DSTC", "DstcClock", "DstcTiming", "dstc_layout", "pack_dstc", "pack_masked"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_READY = 4              # from the last read of a chunk to the cycle in which it can be taken


# Weights ------------------------------------------------------------------------------------------------------------


def dstc_layout(config: AcceleratorConfig, mode: int, n: int, k: int) -> WeightLayout:
    """Return how weights of a mode lie.

    Raises
    ------
    ConfigError
        If the config has no such mode.
    """
    if not mode:
        return plain_layout(config, mode, n, k)
    records = dstc_records(config)
    if not 0 < mode <= len(records):
        raise ConfigError(f"mode must be 0 to {len(records)} (weight_formats), not {mode!r}")
    record = records[mode - 1]
    size = record.masks(config.columns) + record.room(config.columns)
    return WeightLayout(mode=mode, n=n, k=k, columns=config.columns, granule=record.k, record_k=record.k, record_bytes=size,
                        weight_stride=config.weight_slot_bytes, beat_bytes=config.beat_bytes)


def pack_dstc(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[Bytes, Floats]:
    """Return the records of weights (N, K), of which the format's pattern keeps the largest, in int8, and each output's scale.

    What is kept and rounds to zero is not stored.
    """
    if not layout.mode:
        return pack_plain(config, layout, matrix)
    fmt = format_named(config.weight_formats[layout.mode - 1])
    assert isinstance(fmt, SparseFormat)
    q, scale = quantize_rows(matrix)
    widened = np.pad(np.abs(matrix), ((0, 0), (0, -layout.k % fmt.block)))
    outer, inner = keep_masks(fmt, widened)
    kept = (inner & outer[..., None]).reshape(widened.shape)[:, :layout.k]
    return pack_masked(config, layout, np.where(kept, q, np.int8(0))), scale


def pack_masked(config: AcceleratorConfig, layout: WeightLayout, matrix: npt.NDArray[np.int8]) -> Bytes:
    """Return the records of integers (N, K), flat, `layout.size` bytes: masks, then what is not zero.

    Raises
    ------
    PatternError
        If C outputs together have more values than a record has room for.
    """
    record, columns = dstc_records(config)[layout.mode - 1], config.columns
    padded = np.pad(matrix, ((0, round_up(layout.n, columns) - layout.n), (0, -layout.k % record.k)))
    steps = padded.reshape(-1, columns, padded.shape[1] // record.k, record.k).transpose(0, 2, 3, 1)
    mask = steps != 0                                                       # (groups, records, k, C)
    count = mask.sum(axis=(2, 3))
    if (count > record.room(columns)).any():
        group, index = (int(places[0]) for places in np.nonzero(count > record.room(columns)))
        raise PatternError(f"values that are not zero must be at most {record.room(columns)} of {record.k}·{columns}, not "
                           f"{int(count[group, index])} (outputs from {group * columns}, inputs from {index * record.k})")
    stored = np.zeros((*count.shape, record.room(columns)), np.uint8)
    stored[np.arange(record.room(columns)) < count[..., None]] = steps[mask].view(np.uint8)
    masks = np.packbits(mask, axis=-1, bitorder="little").reshape(*count.shape, -1)
    streams = np.concatenate([masks, stored], axis=-1).reshape(len(count), -1)
    return np.pad(streams, ((0, 0), (0, layout.group_stride - streams.shape[1]))).ravel()


# Cycles -------------------------------------------------------------------------------------------------------------


class DstcClock:
    """The engine chunk by chunk and pick by pick, to the cycle, reads never refused.

    Attributes
    ----------
    accepted : float
        Cycle in which the last chunk began to load.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.accepted = self.loaded = 0.0       # the last chunk's first cycle, and that of its last read
        self.free = [0.0, 0.0]                  # when the bank of the chunk before the last is free, and that of the last
        self.switch = 0.0                       # when the next chunk can be taken
        self.moved = [0.0, 0.0, 0.0]            # when the last pick left each of the three stages
        self.stepped = -1.0                     # its last step
        self.open = 0.0                         # when the next step can be made, rows having left

    def chunk(self, at: float, load: float, steps: Sequence[float], leaving: int) -> None:
        """Go on by a chunk.

        Parameters
        ----------
        at : float
            Cycle in which it is offered.
        load : float
            Cycles of its reads.
        steps : sequence of float
            Steps of each k that has any.
        leaving : int
            Rows that leave after it; 0: it is not the last of a tile.
        """
        self.accepted = max(at, self.loaded, self.free[0])
        self.loaded = self.accepted + load
        self.switch = max(self.loaded + _READY, self.switch)
        released = self.switch + 1
        if not steps and leaving:
            steps = [1]
        picked = self.switch
        for count in steps:
            picked = max(picked + 1, self.moved[0])
            before = list(self.moved)
            self.moved[0] = max(picked + 1, before[1])
            self.moved[1] = max(self.moved[0] + 1, before[2])
            self.moved[2] = max(self.moved[1] + 1, self.stepped)
            self.stepped = max(self.moved[2] + 1, self.open) + count - 1
            released = self.moved[0]
        if leaving:
            self.open = self.stepped + leaving + 1
        self.switch = picked if steps else self.switch + 1
        self.free = [self.free[1], released + 1]


class DstcTiming:
    """The runtime's clock. Cycles depend on data, of which it knows the format: activations count as having no zeros, packed
    weights as having as many as their pattern keeps, anywhere; so commands with sparser operands are done earlier.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.clock = DstcClock(config)
        self.next = 0.0

    def command(self, at: float, fields: Mapping[str, int],
                counts: Sequence[Sequence[tuple[int, int]]] | None = None) -> float:
        """Return the cycle of `done` of a command that is taken at `at`.

        counts: the non-zeros of each k of each tile (`sw.golden.array.dstc.nonzero_counts`): exact, not expected.
        """
        config, m, k = self.config, fields["m"], fields["k"]
        most, size = dstc_tokens(config), dstc_chunk(config)
        extra, tile, offered = self._shared(fields), 0, at + COMMAND_LATENCY
        for n in range(0, fields["n"], config.columns):
            weights = self._weight_steps(fields["mode"], min(config.columns, fields["n"] - n))
            for first in range(0, m, most):
                tokens = min(most, m - first)
                late = self._late(fields, range(first, first + tokens))
                for start in range(0, k, size):
                    depth = min(size, k - start)
                    if counts is None:
                        total = depth * ceil_div(tokens, config.rows) * weights
                        steps: list[float] = [total - 1, 1] if total > 2 else [total]
                    else:
                        steps = [cost for pair in counts[tile][start:start + depth] if (cost := dstc_patches(config, *pair))]
                    end = start + depth
                    load = dstc_load_cycles(config, fields["mode"], tokens + (0 if start else late), depth)
                    self.clock.chunk(offered, load + (min(tokens, depth) if extra else 0), steps,
                                     tokens if end == k or end % config.os_depth == 0 else 0)
                    offered = self.clock.accepted + 1
                tile += 1
        self.next = self.clock.accepted + 1
        return self.clock.stepped + tokens + RESULT_LATENCY

    def _weight_steps(self, mode: int, columns: int) -> float:
        """Return the expected ⌈weights / (C/2)⌉ of one k."""
        lanes = dstc_lanes(self.config)[1]
        record: DstcRecord | None = dstc_records(self.config)[mode - 1] if mode else None
        if record is None or record.kept == record.k:
            return ceil_div(columns, lanes)
        return expected_chunks(binomial(columns, record.kept / record.k), lanes)

    def _late(self, fields: Mapping[str, int], rows: range) -> int:
        """Return how many rows begin so in a line that their first slice needs another."""
        lines, depth = self.config.line_bytes, min(fields["k"], dstc_chunk(self.config))
        begins = (fields["activation_addr"] + np.array(rows) * fields["activation_stride"]) % lines
        return int(np.count_nonzero(begins + depth > lines))

    def _shared(self, fields: Mapping[str, int]) -> bool:
        """Return whether the operands of a command share a scratchpad bank."""
        config, k = self.config, fields["k"]
        if fields["mode"]:
            record = dstc_records(config)[fields["mode"] - 1]
            weights = ceil_div(k, record.k) * (record.masks(config.columns) + record.room(config.columns))
        else:
            weights = (k - 1) * fields["weight_stride"] + config.weight_slot_bytes
        return share_a_bank(
            config, fields, activations=(fields["m"] - 1) * fields["activation_stride"] + k - 1,
            weights=(ceil_div(fields["n"], config.columns) - 1) * fields["weight_tile_stride"] + weights - 1)


DSTC = EngineRuntime(timing=DstcTiming, layout=dstc_layout, pack=pack_dstc)
