"""The hybrid engine as the runtime sees it: how packed blocks lie, and when commands are done."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import (
    COMMAND_LATENCY,
    EMPTY_BLOCK,
    FLUSHED,
    FOOT_LATENCY,
    MODE_FORMAT,
    MODE_STREAM,
    OPERAND_LATENCY,
    PASS_ROWS,
    RESULT_LATENCY,
    WORD_BEATS,
    WORDS_LATENCY,
    block_shape,
    cluster_slots,
    command_slots,
    record_bytes,
    scale_beats,
    uses_clusters,
)
from hw.errors import ConfigError
from sw.engines.plain import pack_plain, plain_layout
from sw.engines.runtime import EngineRuntime, WeightLayout, share_a_bank
from sw.formats.tensor import quantize

__all__ = ["HYBRID", "HybridTiming", "hybrid_layout", "lost_blocks", "pack_hybrid"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_FRACTION_BITS = 2          # of an MXINT4 element
_BIAS = 127                 # of an E8M0 exponent
_WORDS_AHEAD = WORD_BEATS - 3   # a full queue, less the way from the scratchpad into it


def hybrid_layout(config: AcceleratorConfig, mode: int, n: int, k: int) -> WeightLayout:
    """Return how weights of a mode lie: for each group of C outputs a record for each block of K.

    A record has a byte of scale for each output, in whole beats, then its tiles of N inputs: words of N elements, one for each
    output, element i in nibble i.

    Raises
    ------
    ConfigError
        If the config has no such mode.
    """
    mode &= MODE_FORMAT
    if not mode:
        return plain_layout(config, mode, n, k)
    if not 0 < mode <= len(config.weight_formats):
        raise ConfigError(f"mode must be between 0 and {len(config.weight_formats)} for this config, not {mode!r}")
    size, block = record_bytes(config, mode), block_shape(config, mode).block
    return WeightLayout(mode=mode, n=n, k=k, columns=config.columns, granule=block, record_k=block, record_bytes=size,
                        weight_stride=size, beat_bytes=config.beat_bytes)


def pack_hybrid(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[Bytes, Floats]:
    """Return the bytes of finite weights (N, K) and what one in the accumulator is worth for each output, (N,) float32.

    A power-of-two scale is stored as its distance below the largest of its output, so that all shifts are to the right; that
    largest one, the elements' fraction bits and the engine's guard bits are in the output's scale.
    """
    if not layout.mode:
        return pack_plain(config, layout, matrix)
    shape, name = block_shape(config, layout.mode), config.weight_formats[layout.mode - 1]
    encoded = quantize(matrix, name).encoded
    codes, stored = encoded.fields["codes"], encoded.fields["scale"][..., 0]        # (N, blocks, block), (N, blocks)
    if shape.shifts:
        distance, largest = _distances(stored, (codes != 0).any(axis=-1))
        worth = np.where(largest >= 0, np.ldexp(1.0, largest - _BIAS - _FRACTION_BITS - config.guard_bits), 1.0)
        scales, worth = distance.astype(np.uint8), worth.astype(np.float32)
    else:
        scales, worth = stored.astype(np.uint8), encoded.side["outer_scale"]

    rows, columns, blocks = config.rows, config.columns, stored.shape[1]
    padding = layout.groups * columns - layout.n
    codes = np.pad(codes, ((0, padding), (0, 0), (0, 0))).reshape(layout.groups, columns, blocks, shape.passes, rows)
    words = codes.transpose(0, 2, 3, 1, 4)                                          # group, block, pass, output, element
    elements = (words[..., ::2] | words[..., 1::2] << 4).astype(np.uint8).reshape(layout.groups, blocks, -1)
    head = np.zeros((layout.groups, blocks, scale_beats(config) * config.beat_bytes), np.uint8)
    head[..., :columns] = np.pad(scales, ((0, padding), (0, 0))).reshape(layout.groups, columns, blocks).transpose(0, 2, 1)
    return np.concatenate((head, elements), axis=-1).ravel(), worth


def _distances(stored: npt.NDArray[np.uint8], used: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how far each block's exponent lies below the largest of its output, and that; −1 where all blocks are zero.

    Where a block is zero, or so far below that its record could not say it, it is `EMPTY_BLOCK`, or as far as can be said.
    """
    exponents = np.where(used, stored.astype(np.int64), -1)
    largest = exponents.max(axis=1)
    return np.where(used, np.minimum(largest[:, None] - exponents, EMPTY_BLOCK - 1), EMPTY_BLOCK), largest


def lost_blocks(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[int, int]:
    """Return how many blocks of weights (N, K) that are not zero are rounded when they are shifted, and how many flushed to zero.

    A block is rounded where its exponent lies further below the largest of its output than there are guard bits.
    """
    if not layout.mode or not block_shape(config, layout.mode).shifts:
        return 0, 0
    fields = quantize(matrix, config.weight_formats[layout.mode - 1]).encoded.fields
    used = (fields["codes"] != 0).any(axis=-1)
    distance, _ = _distances(fields["scale"][..., 0], used)
    flushed = int((used & (distance >= FLUSHED)).sum())
    return int((used & (distance > config.guard_bits)).sum()) - flushed, flushed


class HybridTiming:
    """Tiles back to back, as `hw.engines.hybrid.command_slots` says, and what passes from command to command.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.next = 0.0
        self.streamed = 0.0         # cycle after the last slot issued
        self.stream_start = 0.0     # cycle in which the last tile began to stream
        self.mesh_end = 0.0         # cycle after the last slot of the mesh
        self.words_end = 0.0        # cycle in which words for the mesh are there again after the clusters

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at `at`."""
        config, before = self.config, self.stream_start
        slots = command_slots(config, fields["mode"], fields["m"], fields["n"], fields["k"])
        if uses_clusters(fields["mode"], fields["m"]):
            tiles, last_cost = self._clusters(at, fields, slots)
            way_out = config.rows + config.hybrid_clusters - 1
        else:
            tiles, last_cost = self._mesh(at, fields, slots)
            way_out = 2 * config.rows - 1
        # The next command is taken when the last tile has been handed on, that is, when the one before it began to stream.
        self.next = max(at + 2 + tiles, self.stream_start - last_cost if tiles > 1 else before)
        return self.streamed - 1 + OPERAND_LATENCY + way_out + FOOT_LATENCY + RESULT_LATENCY

    def _clusters(self, at: float, fields: Mapping[str, int], slots: int) -> tuple[int, int]:
        """Stream a command on the clusters; return the tiles that matter for the next one, and the cycles of the last."""
        config, of_tile = self.config, cluster_slots(self.config)
        passes = block_shape(config, fields["mode"] & MODE_FORMAT).passes
        blocks = ceil_div(fields["n"], config.columns) * ceil_div(fields["k"], passes * config.rows)
        scales = slots // blocks - passes * of_tile         # slots of each block without words
        words = max(at + WORDS_LATENCY + scale_beats(config), self.words_end)
        start = max(self.streamed, words, self.mesh_end + config.rows - config.hybrid_clusters)
        words = max(words, start - _WORDS_AHEAD)            # what the reader has gained while the clusters waited
        self.streamed = max(start + blocks * passes * of_tile, words + slots - scales)
        self.words_end = words + slots
        self.stream_start = self.streamed - of_tile
        return min(2, passes * blocks), of_tile + (scales if passes == 1 else 0)

    def _mesh(self, at: float, fields: Mapping[str, int], slots: int) -> tuple[int, int]:
        """Stream a command on the mesh; return as `_clusters` does."""
        config, size, m, k = self.config, self.config.rows, fields["m"], fields["k"]
        index = fields["mode"] & MODE_FORMAT
        groups = ceil_div(fields["n"], config.columns)
        if index:
            shape = block_shape(config, index)
            tiles = groups * ceil_div(k, shape.block) * shape.passes
            first_load = max(at + WORDS_LATENCY + scale_beats(config), self.stream_start, self.words_end)
            first_rows = last_rows = size
            if shape.passes > 1:
                tiles *= ceil_div(m, PASS_ROWS)
                m = (m - 1) % PASS_ROWS + 1
        else:
            tiles = groups * ceil_div(k, size)
            first_load = max(at + COMMAND_LATENCY, self.stream_start)
            first_rows, last_rows = min(k, size), (k - 1) % size + 1
        start = max(self.streamed, first_load + first_rows)
        waits = self._turns(fields, min(m, size)) if not fields["mode"] & MODE_STREAM else 0
        self.streamed = self.mesh_end = start + slots + (tiles - 1) * waits - max(m, first_rows) + m
        self.stream_start = self.streamed - m
        return min(2, tiles), max(m, last_rows) + waits

    def _turns(self, fields: Mapping[str, int], m: int) -> int:
        """Return the cycles of a tile of `m` tokens in which weights wait for activations of the same scratchpad bank."""
        config, k = self.config, fields["k"]
        index, groups = fields["mode"] & MODE_FORMAT, ceil_div(fields["n"], self.config.columns)
        reads, last = min(k, config.rows), (k - 1) * fields["weight_stride"]
        if index:
            passes = block_shape(config, index).passes
            reads = ceil_div(record_bytes(config, index) // config.beat_bytes, passes)
            last = hybrid_layout(config, index, fields["n"], k).bytes_of(k) - 1
        shared = share_a_bank(config, fields, activations=(fields["m"] - 1) * fields["activation_stride"] + k - 1,
                              weights=last + (groups - 1) * fields["weight_tile_stride"])
        return max(0, m + reads - max(m, config.rows)) if shared else 0


HYBRID = EngineRuntime(timing=HybridTiming, layout=hybrid_layout, pack=pack_hybrid)
