"""The dual-side sparse engine: what a config of it must be, how its weights lie, and its cycle formulas.

M tokens, N outputs, K reduction. A step multiplies R activations by C/2 weights of one k, of which none is zero, and adds the
products to a tile of 4·R × C sums (8 × 16 products of 32 × 32 sums with R = 8, C = 32: DSTC's).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import lcm

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
from hw.engines.info import EngineInfo, check_frame
from hw.errors import ConfigError
from hw.families import Format, SparseFormat
from hw.formats import format_named

__all__ = [
    "COMMAND_LATENCY", "DSTC", "HIDDEN", "LOADED_LATENCY", "MASKED", "RESULT_LATENCY", "DstcRecord", "dstc_chunk",
    "dstc_command_cycles", "dstc_lanes", "dstc_load_cycles", "dstc_patches", "dstc_record", "dstc_records", "dstc_run_cycles",
    "dstc_tokens",
]

MASKED = 8                  # k whose masks of C bits are C bytes
_MOST_RECORD = 256          # k of a record
_ROW_GROUPS, _COLUMN_GROUPS = 4, 2

COMMAND_LATENCY = 3         # from the cycle in which a command is taken to that in which its first chunk begins to load
LOADED_LATENCY = 9          # from the last read of a chunk to the first step on it
HIDDEN = 7                  # by so many cycles the steps of a chunk must exceed the load of the next but one, to hide it
RESULT_LATENCY = 3          # from the last step of a tile, with its rows, to `done`
_FIRST_MASK = 4             # from the read of masks to the first values that they tell of


@dataclass(frozen=True, kw_only=True, slots=True)
class DstcRecord:
    """A record of packed weights, for C outputs: for each k a mask of C bits, then the values that are not zero, k by k.

    Attributes
    ----------
    k : int
        Inputs of a record, a multiple of 8.
    kept : int
        Values that an output can have of them; so there is room for `kept`·C bytes, wherever they are.
    """

    k: int
    kept: int

    def masks(self, columns: int) -> int:
        """Return the bytes of its masks."""
        return self.k * columns // 8

    def room(self, columns: int) -> int:
        """Return the bytes for its values."""
        return self.kept * columns


def dstc_record(fmt: Format) -> DstcRecord:
    """Return how weights of a format lie: any pattern that keeps so many of so many values of a row, and so none in particular.

    Raises
    ------
    ConfigError
        If it is no such format.
    """
    if not isinstance(fmt, SparseFormat) or lcm(fmt.block, MASKED) > _MOST_RECORD:
        raise ConfigError(f"a format for dual-side sparsity must be N:M or hss-G1:H1-G0:H0 with records of up to {_MOST_RECORD} "
                          f"values, not {fmt.name!r}")
    k = lcm(fmt.block, MASKED)
    return DstcRecord(k=k, kept=k // fmt.block * fmt.outer_keep * fmt.inner_keep)


def dstc_records(config: AcceleratorConfig) -> tuple[DstcRecord, ...]:
    """Return the records of the config's packed modes, from mode 1 on."""
    return tuple(dstc_record(format_named(name)) for name in config.weight_formats)


def dstc_tokens(config: AcceleratorConfig) -> int:
    """Return the tokens of a tile of sums."""
    return _ROW_GROUPS * config.rows


def dstc_lanes(config: AcceleratorConfig) -> tuple[int, int]:
    """Return the activations and the weights of a step."""
    return config.rows, config.columns // _COLUMN_GROUPS


def dstc_chunk(config: AcceleratorConfig) -> int:
    """Return the k that are loaded at once."""
    return config.line_bytes


def dstc_patches(config: AcceleratorConfig, activations: int, weights: int) -> int:
    """Return the steps of one k with so many values that are not zero: ⌈activations / R⌉ · ⌈weights / (C/2)⌉."""
    left, right = dstc_lanes(config)
    return ceil_div(activations, left) * ceil_div(weights, right)


def dstc_load_cycles(config: AcceleratorConfig, mode: int, tokens: int, depth: int) -> int:
    """Return the cycles that a chunk takes to load: a read for each token, and beside it one for each k, packed weights
    with one more for each 8, at least four.
    """
    masks = max(ceil_div(depth, MASKED), _FIRST_MASK) if mode else 0
    return max(tokens, depth + masks)


def dstc_run_cycles(config: AcceleratorConfig, mode: int, tokens: int, counts: Sequence[tuple[int, int]]) -> int:
    """Return the cycles of a tile in an unbroken run of such tiles: Σ over chunks of max(steps, load), and a cycle for each row.

    counts: for each k, at most `os_depth` of them, the activations and the weights that are not zero. Steps are
    Σ over k of ⌈activations / R⌉ · ⌈weights / (C/2)⌉, at least 1 in the last chunk: a k with an empty side takes none. Exact
    where the steps of every chunk exceed its load by `HIDDEN`. Where they do not, rows leave while chunks load, and a chunk may
    take up to `HIDDEN` cycles more, since its bank is free for the next but one only when all its k are picked.
    """
    chunk, total = dstc_chunk(config), 0
    for first in range(0, len(counts), chunk):
        part = counts[first:first + chunk]
        steps = sum(dstc_patches(config, *pair) for pair in part)
        total += max(steps, dstc_load_cycles(config, mode, tokens, len(part)), 1)
    return total + tokens


def dstc_command_cycles(config: AcceleratorConfig, m: int, n: int, k: int, mode: int = 0,
                        counts: Iterable[Sequence[tuple[int, int]]] | None = None) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, reads never refused.

    Σ of `dstc_run_cycles` over groups of C outputs, of 4·R tokens and of `os_depth` of K, in this order.

    Parameters
    ----------
    counts : iterable of sequences, or None
        For each tile (in that order, K whole) the non-zeros of each k; None: nothing is zero.
    """
    tokens = dstc_tokens(config)
    heights = [min(tokens, m - first) for first in range(0, m, tokens)]
    widths = [min(config.columns, n - first) for first in range(0, n, config.columns)]
    tiles = [(height, width) for width in widths for height in heights]
    given = counts if counts is not None else ([(height, width)] * k for height, width in tiles)
    return sum(dstc_run_cycles(config, mode, height, pairs[first:first + config.os_depth])
               for (height, _), pairs in zip(tiles, given, strict=True) for first in range(0, k, config.os_depth))


def _psum_width(config: AcceleratorConfig) -> int:
    return (config.os_depth << 14).bit_length() + 1


def _check(config: AcceleratorConfig) -> None:
    for name, least in (("rows", 2), ("columns", 8)):
        value = getattr(config, name)
        if value & value - 1 or value < least:
            raise ConfigError(f"AcceleratorConfig.{name} must be a power of two for dual-side sparsity, at least {least} "
                              f"(nearest: {max(least, ceil_power_of_two(value))}), not {value!r}")
    check_frame(config, "dual-side sparsity", dataflow="which skips zeros of both operands",
                mesh="whose sums do not check themselves")
    dstc_records(config)
    if config.os_depth % config.line_bytes:
        raise ConfigError(f"AcceleratorConfig.os_depth must be a multiple of {config.line_bytes} (a line) for dual-side "
                          f"sparsity, not {config.os_depth!r}")


DSTC = EngineInfo(
    name="dstc",
    doc="outer products of R activations and C/2 weights, none of them zero, added to a tile of 4·R × C sums: a baseline",
    source="Wang et al., DSTC, ISCA 2021 (lanes and tile as in Sparseloop's artifact; datapath inferred)",
    model="dstc", check=_check, psum_width=_psum_width, peak_macs=lambda config: config.rows * config.columns // _COLUMN_GROUPS,
    tokens=dstc_tokens)
