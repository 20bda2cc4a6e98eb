"""The structured-sparsity engine as the runtime sees it: when its commands are done, how its weights lie and are made."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.elements import ELEMENTS
from hw.engines.hss import (
    COMMAND_LATENCY,
    GROUP,
    hss_granule,
    hss_load_cycles,
    hss_modes,
    hss_record_slots,
    hss_result_latency,
    hss_steps,
    hss_tokens,
)
from hw.errors import ConfigError
from hw.families import OutlierFormat, SeriesFormat, SparseFormat
from hw.formats import format_named
from sw.engines.hss_records import compress, group_bytes, sdq_group_bytes
from sw.engines.plain import pack_plain, plain_layout
from sw.engines.runtime import EngineRuntime, WeightLayout, share_a_bank
from sw.formats.groups import ranks
from sw.formats.rows import quantize_rows
from sw.formats.scaled_rounding import rounding
from sw.formats.series import decompose
from sw.formats.sparse import keep_masks
from sw.layout import round_up

__all__ = ["HSS_RUNTIME", "HssTiming", "hss_layout", "pack_hss", "pack_sdq", "pack_series", "pack_sparse"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_FP4_MAX = 12               # in units of the smallest step


class HssTiming:
    """Tiles back to back, as `hw.engines.hss.hss_command_cycles` says, and what passes from command to command.

    Attributes
    ----------
    next : float
        Cycle in which another command can be taken.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.next = 0.0
        self.streamed = 0.0         # cycle after the last token issued
        self.stream_start = 0.0     # cycle in which the last tile began to stream

    def command(self, at: float, fields: Mapping[str, int]) -> float:
        """Return the cycle of `done` of a command that is taken at `at`."""
        config, k = self.config, fields["k"]
        mode = hss_modes(config)[fields["mode"]]
        most, loads, steps = hss_tokens(config), hss_load_cycles(config, mode, k), hss_steps(config, mode, k)
        pieces = [min(most, fields["m"] - first) for first in range(0, fields["m"], most)]
        groups = ceil_div(fields["n"], config.columns)
        before = self.stream_start
        lines = config.line_bytes
        begins = (fields["activation_addr"] + np.arange(fields["m"]) * fields["activation_stride"]) % lines
        shared = self._same_bank(fields, mode_slots=sum(loads))
        tokens, load = [], []
        for number, piece in enumerate(pieces):
            starts = begins[number * most:number * most + piece]
            for step, slots in zip(steps, loads, strict=True):
                # Rows that begin in the middle of a line: a first slice that crosses it takes two reads.
                anew = step.first == 0 or step.again
                tokens.append(piece + int(np.count_nonzero((starts + step.first) % lines + step.depth > lines)) * anew)
                reads = min(piece, ceil_div(piece * hss_granule(config, step.mode), lines)) if shared else 0
                load.append(slots + reads)
        costs = np.maximum(tokens, np.roll(load, -1))               # from the start of a tile to that of the next one
        self.stream_start = max(self.streamed, max(at + COMMAND_LATENCY, self.stream_start) + load[0])
        self.stream_start += int(costs.sum()) * groups - int(costs[-1])
        self.streamed = self.stream_start + tokens[-1]
        tiles = len(costs) * groups
        handed = self.stream_start - (int(costs[-2]) if len(costs) > 1 else int(costs[-1])) if tiles > 1 else before
        self.next = max(at + 3, handed + 1)
        return self.streamed + hss_result_latency(config)

    def _same_bank(self, fields: Mapping[str, int], mode_slots: int) -> bool:
        """Return whether the operands of a matrix command share a scratchpad bank."""
        groups = ceil_div(fields["n"], self.config.columns)
        return share_a_bank(
            self.config, fields, activations=(fields["m"] - 1) * fields["activation_stride"] + fields["k"] - 1,
            weights=(mode_slots - 1) * fields["weight_stride"] + (groups - 1) * fields["weight_tile_stride"])


def hss_layout(config: AcceleratorConfig, mode: int, n: int, k: int) -> WeightLayout:
    """Return how weights of a mode lie.

    Raises
    ------
    ConfigError
        If the config has no such mode.
    """
    if not mode:
        return plain_layout(config, mode, n, k)
    modes = hss_modes(config)
    if mode >= len(modes):
        raise ConfigError(f"mode must be below {len(modes)} for this config, not {mode!r}")
    granule, slot = hss_granule(config, modes[mode]), config.weight_slot_bytes
    record = hss_record_slots(config, modes[mode]) * slot
    return WeightLayout(mode=mode, n=n, k=k, columns=config.columns, granule=granule, record_k=granule, record_bytes=record,
                        weight_stride=slot, beat_bytes=config.beat_bytes)


def pack_hss(config: AcceleratorConfig, layout: WeightLayout, matrix: Floats) -> tuple[Bytes, Floats]:
    """Return the records of weights (N, K), rounded to the format of the layout's mode, and the scale of each output.

    Sparse formats and series: what their codec keeps, int8, a scale a row; everything where it is activations that are sparse.
    SDQ: outliers and inliers chosen as its codec does, int8 in units of the row's scale, and FP4 in units of that times a power
    of two for each 16, for which the accumulator needs no other scale.
    """
    if not layout.mode:
        return pack_plain(config, layout, matrix)
    fmt = format_named(config.weight_formats[layout.mode - 1])
    padded = np.pad(matrix, ((0, 0), (0, -layout.k % layout.granule)))
    if isinstance(fmt, OutlierFormat):
        q, scale = quantize_rows(padded)
        outliers, inliers, shifts = _sdq(fmt, padded, q, scale)
        return pack_sdq(config, layout, outliers, inliers, shifts), scale
    q, scale = quantize_rows(padded)
    if config.activation_pattern:
        return _streams(config, layout, q.view(np.uint8).reshape(len(q), -1, layout.granule)), scale
    if isinstance(fmt, SeriesFormat):
        terms, _ = decompose(q, fmt.terms)
        return pack_series(config, layout, terms), scale
    assert isinstance(fmt, SparseFormat)
    widened = np.pad(np.abs(padded), ((0, 0), (0, -padded.shape[1] % fmt.block)))
    outer, inner = keep_masks(fmt, widened)
    kept = (inner & outer[..., None]).reshape(widened.shape)[:, :padded.shape[1]]
    return pack_sparse(config, layout, np.where(kept, q, np.int8(0))), scale


def _sdq(fmt: OutlierFormat, matrix: Floats, q: npt.NDArray[np.int8],
         scale: Floats) -> tuple[npt.NDArray[np.int8], Bytes, npt.NDArray[np.int64]]:
    """Return outliers and inlier codes (N, K), and the power of two of each 16 inliers."""
    rank = ranks(np.abs(matrix.reshape(len(matrix), -1, fmt.group))).reshape(matrix.shape)
    outliers = np.where(rank < fmt.outliers, q, np.int8(0))
    inner = (rank >= fmt.outliers) & (rank < fmt.outliers + fmt.inliers)
    units = np.where(inner, matrix / scale.reshape(-1, 1), np.float32(0)).reshape(len(matrix), -1, 2 * GROUP)
    peak = np.abs(units).max(axis=-1, keepdims=True)
    shifts = np.clip(np.ceil(np.log2(np.maximum(peak, 1) / _FP4_MAX)), 0, 4).astype(np.int64)
    element = ELEMENTS["float4_e2m1fn"]                 # its smallest step is a half
    codes = rounding(element)((units / (2 << shifts)).astype(np.float32)).astype(np.uint8)
    return outliers, codes.reshape(matrix.shape), shifts[..., 0]


def pack_sparse(config: AcceleratorConfig, layout: WeightLayout, matrix: npt.NDArray[np.int8]) -> Bytes:
    """Return the records of integers (N, K) that keep the pattern of the layout's mode, flat, `layout.size` bytes.

    Raises
    ------
    PatternError
        If they do not.
    """
    return pack_series(config, layout, [matrix])


def pack_series(config: AcceleratorConfig, layout: WeightLayout, terms: Sequence[npt.NDArray[np.int8]]) -> Bytes:
    """Return the records of a series of integers (N, K), each with the pattern of its term of the layout's mode, flat.

    Raises
    ------
    PatternError
        If one does not keep its pattern.
    """
    mode = hss_modes(config)[layout.mode]
    records = []
    for term, matrix in zip(mode.terms, terms, strict=True):
        padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % layout.granule)))
        values, cp1, cp0 = compress(term, padded)
        coordinates, stored = group_bytes(values, cp1, cp0)
        records.append(_records(config, coordinates[..., :0] if term.dense else coordinates, stored))
    if len(records) == 1:
        return _streams(config, layout, records[0])
    taken = [0] * len(records)
    ordered = []
    for step in hss_steps(config, mode, layout.k):          # as they are read; nothing of a term beyond K
        ordered.append(records[step.term][:, taken[step.term]])
        taken[step.term] += 1
    return _streams(config, layout, np.stack(ordered, axis=1))


def pack_sdq(config: AcceleratorConfig, layout: WeightLayout, outliers: npt.NDArray[np.int8], inliers: Bytes,
             shifts: npt.NDArray[np.int64]) -> Bytes:
    """Return the records of weights in SDQ, flat: outliers and inlier codes (N, K), shifts (N, K / 16); K whole granules.

    Raises
    ------
    PatternError
        If an eight has more than one outlier or six inliers.
    """
    return _streams(config, layout, _records(config, *sdq_group_bytes(outliers, inliers, shifts)))


def _records(config: AcceleratorConfig, coordinates: Bytes, values: Bytes) -> Bytes:
    """Return what each output has for its groups, (N, groups, bytes) twice, as records (N, steps, slots): coordinates first."""
    per_step, n = config.rows // GROUP, len(values)

    def of_steps(part: Bytes) -> Bytes:
        return part.reshape(n, part.shape[1] // per_step, per_step * part.shape[-1])

    return np.concatenate([of_steps(coordinates), of_steps(values)], axis=-1)


def _streams(config: AcceleratorConfig, layout: WeightLayout, records: Bytes) -> Bytes:
    """Return records (N, steps, slots) as streams, flat: outputs side by side, a slot after the other."""
    columns, slot = config.columns, config.weight_slot_bytes
    records = np.pad(records, ((0, round_up(len(records), columns) - len(records)), (0, 0), (0, 0)))
    slots = records.reshape(-1, columns, *records.shape[1:]).transpose(0, 2, 3, 1)          # (N groups, steps, slots, C)
    streams = np.pad(slots, ((0, 0), (0, 0), (0, 0), (0, slot - columns))).reshape(len(slots), -1)
    return np.pad(streams, ((0, 0), (0, layout.group_stride - streams.shape[1]))).ravel()


HSS_RUNTIME = EngineRuntime(timing=HssTiming, layout=hss_layout, pack=pack_hss)
