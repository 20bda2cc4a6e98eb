"""The BitMoD engine as the runtime sees it: how packed weights lie, how they are rounded, and when its commands are done."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitmod import BITMOD_LANES, BitmodMode, bitmod_block_bytes, bitmod_mode, bitmod_modes
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import format_named
from sw.engines.plain import pack_plain, plain_layout
from sw.engines.runtime import EngineRuntime, WeightLayout, share_a_bank
from sw.formats import QuantizedTensor, quantize
from sw.layout import LayoutError

__all__ = ["BITMOD", "BitmodTiming", "bitmod_layout", "bitmod_stream", "pack_bitmod"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_FIRST_TILE = 2         # from the cycle in which a command is taken to its first tile
_PIECES = 3             # from a tile to its first step, and one for each piece of weights that this needs
_ARRAY = 14             # from the end of a group to its first row
_SCALE = 8              # cycles of a group's scale
_FLOAT = 8              # of a product that becomes float32 (2), and of what its addition takes more than that of integers (6)


# Weights ------------------------------------------------------------------------------------------------------------


def bitmod_layout(config: AcceleratorConfig, mode: int, n: int, k: int) -> WeightLayout:
    """Return how weights of a mode lie: a record is a group, of pieces of 2·C bytes (`hw.array.bitmod_stream`).

    Raises
    ------
    ConfigError
        If the config has no such mode.
    """
    modes = bitmod_modes(config)
    if not 0 <= mode < len(modes):
        raise ConfigError(f"mode must be 0 to {len(modes) - 1} (weight_formats), not {mode!r}")
    if mode == 0:
        return plain_layout(config, mode, n, k)
    piece = 2 * config.columns
    return WeightLayout(mode=mode, n=n, k=k, columns=config.columns, granule=modes[mode].group, record_k=modes[mode].group,
                        record_bytes=modes[mode].pieces * piece, weight_stride=piece, beat_bytes=config.beat_bytes)


def bitmod_stream(tensor: QuantizedTensor, columns: int, *, halves: bool = True) -> tuple[Bytes, Floats]:
    """Return a quantized matrix (N, K), blocks along K, as the engine of C columns reads it.

    Columns beyond N and k beyond K have zeros; the last record is a whole one.

    Parameters
    ----------
    tensor : QuantizedTensor
        In a format that the engine reads.
    columns : int
        C.
    halves : bool
        Whether the accumulator has integers, those of FP4 and FP3 in halves; else float32 words.

    Returns
    -------
    stream : (⌈N / C⌉, groups, pieces, 2·C) uint8
    column_scale : (N,) float32
        What one in the accumulator is worth; of FP4 and FP3 in `halves`, half the scale of the row.

    Raises
    ------
    ConfigError
        If the format is none that the engine reads.
    LayoutError
        If the tensor is no matrix, or its blocks lie along N.
    """
    mode = bitmod_mode(tensor.format)
    if len(tensor.shape) != 2 or tensor.axis != 1:
        raise LayoutError(f"weights for BitMoD must be of shape (N, K) with blocks along K, not {tensor.shape} along axis "
                          f"{tensor.axis}")
    fmt, fields = tensor.format, tensor.encoded.fields
    assert isinstance(fmt, ScaledFormat)
    outputs = ceil_div(tensor.shape[0], columns) * columns
    codes, scale = (_padded(fields[name], outputs) for name in ("codes", "scale"))
    special = _padded(fields["special"], outputs) if fmt.special_bits else np.zeros_like(scale)
    groups = codes.shape[1]
    headers = np.concatenate([scale, special], axis=2).reshape(-1, columns, groups, 2).swapaxes(1, 2)
    steps = codes.reshape(-1, columns, groups, fmt.block // BITMOD_LANES, BITMOD_LANES).transpose(0, 2, 3, 4, 1)
    pieces = [headers.reshape(-1, groups, 1, 2 * columns), *_planes(mode, steps.reshape(*steps.shape[:3], -1))]
    unit = np.float32(0.5 if mode.is_float and halves else 1)
    return np.concatenate(pieces, axis=2), tensor.side["outer_scale"].astype(np.float32) * unit


def _padded(field: npt.NDArray[np.uint8], rows: int) -> Bytes:
    return np.pad(field.astype(np.uint8), ((0, rows - len(field)), (0, 0), (0, 0)))


def _planes(mode: BitmodMode, codes: Bytes) -> list[Bytes]:
    """Return the pieces of both planes of codes (groups of C, groups of K, steps, 4·C), in order of the steps that need them."""
    planes = {"high": _plane(codes >> np.uint8(mode.low), mode.high),
              "low": _plane(codes & np.uint8((1 << mode.low) - 1), mode.low)}
    found = []
    for step in range(codes.shape[2]):
        for name, width in (("high", mode.high), ("low", mode.low)):
            if width and step % (4 // width) == 0:
                piece = step * width // 4
                found.append(planes[name][:, :, piece:piece + 1])
    return found


def _plane(values: Bytes, width: int) -> Bytes:
    """Return fields of `width` bits, four bits a field and step together: (…, steps, fields) → (…, pieces, bytes)."""
    if not width:
        return values[:, :, :0]
    parts = 4 // width
    bits = np.unpackbits(values[..., None], axis=-1, bitorder="little")[..., :width]
    together = bits.reshape(*values.shape[:2], values.shape[2] // parts, -1)
    return np.packbits(together, axis=-1, bitorder="little")


def pack_bitmod(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[Bytes, Floats]:
    """Return the bytes of a matrix (N, K), rounded to its mode's format, and what one in the accumulator is worth."""
    if layout.mode == 0:
        return pack_plain(config, layout, matrix)
    stream, scale = bitmod_stream(quantize(matrix, format_named(config.weight_formats[layout.mode - 1])), config.columns,
                                  halves=not config.float_activations)
    flat = stream.reshape(layout.groups, -1)
    return np.pad(flat, ((0, 0), (0, layout.group_stride - flat.shape[1]))).ravel(), scale


# Cycles -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Segment:
    """Steps of a tile that are of one block of lines and of one group, `block` the steps of the whole block if they begin it."""

    steps: int
    block: int
    ends_block: bool
    ends_group: bool


class BitmodTiming:
    """Steps one behind the other, held up by lines that are not there yet and by groups that must last R + 8 cycles.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.modes = bitmod_modes(config)
        self.after_array = _ARRAY + (_FLOAT if config.float_activations else 0)
        self.next = 0.0
        self.free = 0.0             # when the array can take a step
        self.group_end = 0.0        # when it ended its last group
        self.read = 0.0             # cycle after the line buffer read its last line
        self.freed = (0.0, 0.0)     # when the last step of the block before the last was taken, and that of the last

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at `at`."""
        rows, m, mode = self.config.rows, fields["m"], self.modes[fields["mode"]]
        pieces = min(fields["k"], BITMOD_LANES) if fields["mode"] == 0 else 2 + (mode.high > 0)
        shared = self._reads(fields["mode"]) if self._same_bank(fields) else 0.0
        segments = self._segments(fields)
        shown, tile_end = at + _FIRST_TILE, self.freed[1]
        heights = ([rows] * (m // rows) + [m % rows] * (m % rows > 0)) * ceil_div(fields["n"], self.config.columns)
        for height in heights:
            ready = shown + _PIECES + pieces
            self.next = max(shown, tile_end) + 1        # the tile is handed on when the steps of the one before are taken
            owed = 0.0
            for segment in segments:
                if segment.block:
                    self.read = max(self.read, shown + 1, self.freed[0] + 1) + height
                    ready = max(ready, self.read + 1)
                    owed = max(self.free, ready) + shared * segment.block + (height if shared else 0)
                self.free = max(self.free, ready) + segment.steps * mode.terms
                tile_end = self.free - mode.terms
                if segment.ends_group:
                    self.free = self.group_end = max(self.free, self.group_end + rows + _SCALE)
                if segment.ends_block:
                    self.freed = self.freed[1], tile_end
                    self.free = max(self.free, owed)
            shown = self.next
        return self.group_end + self.after_array + heights[-1]

    def _reads(self, number: int) -> float:
        """Return the pieces of weights that a step needs."""
        mode = self.modes[number]
        return BITMOD_LANES if number == 0 else mode.pieces * BITMOD_LANES / mode.group

    def _segments(self, fields: Mapping[str, int]) -> list[_Segment]:
        """Return a tile's steps, cut where a block of lines or a group ends."""
        steps, group = ceil_div(fields["k"], BITMOD_LANES), self.modes[fields["mode"]].group // BITMOD_LANES
        size, stride = bitmod_block_bytes(self.config), fields["activation_stride"]
        step_bytes = BITMOD_LANES * self.config.activation_bytes
        while stride % size:
            size //= 2
        found, step = [], 0
        block_end, first = 0, True
        while step < steps:
            if step == block_end:
                block_end = min(steps, step + (size - (fields["activation_addr"] + step_bytes * step) % size) // step_bytes)
                first = True
            end = min(block_end, (step // group + 1) * group)
            found.append(_Segment(end - step, block_end - step if first else 0, end == block_end,
                                  end == steps or end % group == 0))
            step, first = end, False
        return found

    def _same_bank(self, fields: Mapping[str, int]) -> bool:
        """Return whether the operands of a command share a scratchpad bank."""
        config, k, mode = self.config, fields["k"], self.modes[fields["mode"]]
        pieces = k if fields["mode"] == 0 else ceil_div(k, mode.group) * mode.pieces
        return share_a_bank(
            config, fields, activations=(fields["m"] - 1) * fields["activation_stride"] + k * config.activation_bytes - 1,
            weights=(ceil_div(fields["n"], config.columns) - 1) * fields["weight_tile_stride"]
            + (pieces - 1) * fields["weight_stride"])


BITMOD = EngineRuntime(timing=BitmodTiming, layout=bitmod_layout, pack=pack_bitmod)
