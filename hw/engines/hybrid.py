"""Cycle formulas of the hybrid engine, its packed formats, and what a config of it must be.

N×N processing elements, blocks of B weights, P = B / N passes to a block, S clusters; M tokens, N_out outputs, K reduction.
"""

from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div, ceil_log2
from hw.elements import Integer
from hw.engines.info import EngineInfo, check_frame
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import format_named

__all__ = [
    "COMMAND_LATENCY", "ELEMENT_BITS", "EMPTY_BLOCK", "FLUSHED", "FOOT_LATENCY", "HYBRID", "MODE_FORMAT", "MODE_MESH",
    "MODE_STREAM", "OPERAND_LATENCY", "PASS_ROWS", "RESULT_LATENCY", "STREAM_BEATS", "WORDS_LATENCY", "WORD_BEATS",
    "BlockShape", "block_shape", "block_shapes", "block_sum_width", "cluster_slots", "clusters_last_output", "command_slots",
    "element_beats", "mesh_cycles", "mesh_psum_width", "record_bytes", "scale_beats", "scaled_width", "uses_clusters",
]

MODE_FORMAT = 0x3F      # bits of `matrix.mode` that choose the format; 0: plain weights
MODE_STREAM = 0x40      # weights come from the load unit's stream, not from the scratchpad
MODE_MESH = 0x80        # the mesh, even for one token

ELEMENT_BITS = 4
PASS_ROWS = 64          # tokens whose block sums wait for the block's next pass; more are cut into pieces of so many
BLOCKS = (32, 64, 128)
FLUSHED = 32            # a block whose exponent lies so far below the largest of its output is flushed to zero
EMPTY_BLOCK = 255       # stands for the distance of a block without weights, which is not counted

# Around the array.
COMMAND_LATENCY = 3     # from the cycle in which a command is taken to the first in which a slot of its may be issued
WORDS_LATENCY = 5       # from a packed command that is taken to its first words, besides beats of scales
STREAM_BEATS = 64       # beats of the load unit's stream that wait in the engine
WORD_BEATS = 8          # beats of elements that the weight reader reads ahead
OPERAND_LATENCY = 2     # from the issue of a slot to the slot on the array's edge
FOOT_LATENCY = 4        # from psums that leave the array to the row for the accumulator
RESULT_LATENCY = 1      # from a command's last row to `done`


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockShape:
    """A packed weight format as the array takes it.

    Attributes
    ----------
    block : int
        B: weights along K with one scale.
    passes : int
        P: tiles of N weights along K that a block is cut into.
    shifts : bool
        The scale is a power of two, applied as a shift; else an unsigned integer of 8 bits, multiplied.
    """

    block: int
    passes: int
    shifts: bool


def block_shape(config: AcceleratorConfig, mode: int) -> BlockShape:
    """Return the shape of the blocks of matrix mode `mode` (its format bits, at least 1)."""
    fmt = format_named(config.weight_formats[mode - 1])
    assert isinstance(fmt, ScaledFormat)
    return BlockShape(block=fmt.block, passes=fmt.block // config.rows, shifts=fmt.outer == "none")


def block_shapes(config: AcceleratorConfig) -> list[BlockShape]:
    """Return the shapes of the blocks of all packed modes, from mode 1 on."""
    return [block_shape(config, mode) for mode in range(1, len(config.weight_formats) + 1)]


def scale_beats(config: AcceleratorConfig) -> int:
    """Return the beats of a record's scales: one byte for each of C outputs."""
    return ceil_div(config.columns, config.beat_bytes)


def element_beats(config: AcceleratorConfig, passes: int) -> int:
    """Return the beats of a record's elements."""
    return passes * config.rows * config.columns * ELEMENT_BITS // 8 // config.beat_bytes


def record_bytes(config: AcceleratorConfig, mode: int) -> int:
    """Return the bytes of a record, the block of K of C outputs: whole beats of scales, then of elements."""
    return (scale_beats(config) + element_beats(config, block_shape(config, mode).passes)) * config.beat_bytes


def uses_clusters(mode: int, m: int) -> bool:
    """Return whether a command of this mode and so many tokens runs on the clusters."""
    return bool(mode & MODE_FORMAT) and m == 1 and not mode & MODE_MESH


def cluster_slots(config: AcceleratorConfig) -> int:
    """Return N / S: slots of a tile on the clusters."""
    return config.columns // config.hybrid_clusters


def mesh_cycles(n: int, tiles: int, m: int) -> int:
    """Return the cycles of T back-to-back tiles of m tokens on the N×N mesh: 3N + (T−1)·max(m,N) + m − 1.

    From the cycle in which the first preloaded column enters to the one in which the last sum leaves the foot, both included.
    """
    return 3 * n + (tiles - 1) * max(m, n) + m - 1


def clusters_last_output(n: int, clusters: int, k: int, outputs: int) -> int:
    """Return the cycle, counted from the first slot, in which the last PE of the last cluster adds: slots + N + S − 3.

    (K/N)·(outputs/S) slots, each of a word of N weights for each of S clusters.
    """
    return k // n * (outputs // clusters) + n + clusters - 3


def command_slots(config: AcceleratorConfig, mode: int, m: int, n: int, k: int) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, operands never waiting.

    Plain: max(m, valid rows of K) for each tile. Packed on the mesh: max(tokens, N) for each tile, tokens in pieces of at most
    `PASS_ROWS` where a block takes several passes. On the clusters: N / S slots for each tile, and, where a word for every
    cluster is a whole beat, the beats of the record's scales for each block.
    """
    rows = config.rows
    groups = ceil_div(n, config.columns)
    if not mode & MODE_FORMAT:
        return groups * (k // rows * max(m, rows) + (max(m, k % rows) if k % rows else 0))
    shape = block_shape(config, mode & MODE_FORMAT)
    blocks = groups * ceil_div(k, shape.block)
    if uses_clusters(mode, m):
        slots = shape.passes * cluster_slots(config)
        return blocks * max(slots, scale_beats(config) + element_beats(config, shape.passes))
    pieces = [PASS_ROWS] * (m // PASS_ROWS) + [m % PASS_ROWS] * (m % PASS_ROWS > 0) if shape.passes > 1 else [m]
    return blocks * shape.passes * sum(max(piece, rows) for piece in pieces)


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _check_format(config: AcceleratorConfig, name: str) -> None:
    fmt = format_named(name)
    fits = isinstance(fmt, ScaledFormat) and isinstance(fmt.element, Integer) and fmt.element.signed \
        and fmt.element.bits == ELEMENT_BITS and fmt.scale is not None and not fmt.zero_point_bits
    if fits:
        assert isinstance(fmt, ScaledFormat)
        assert fmt.scale is not None
        shifts, multiplies = fmt.scale.name == "float8_e8m0fnu" and fmt.outer == "none", fmt.outer == "row"
        fits = (shifts or multiplies) and fmt.block in BLOCKS and fmt.block % config.rows == 0
    if not fits:
        raise ConfigError("AcceleratorConfig.weight_formats must be mxint4 or int4-g…-int8, in blocks of "
                          f"{', '.join(map(str, BLOCKS))} and of whole tiles, for the hybrid engine, not {name!r}")


def _check(config: AcceleratorConfig) -> None:
    def must(name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"AcceleratorConfig.{name} must be {rule} for the hybrid engine, not {getattr(config, name)!r}")

    must("columns", config.columns == config.rows, f"rows ({config.rows})")
    must("rows", _power_of_two(config.rows) and 4 <= config.rows <= 64, "a power of two between 4 and 64")
    must("pe", config.pe == "mac", "'mac'")
    check_frame(config, "the hybrid engine", dataflow="which has no other", mesh="whose mesh does not check itself")
    must("acc_width", config.acc_width == 32, "32")
    must("hybrid_clusters", _power_of_two(config.hybrid_clusters) and config.hybrid_clusters <= config.columns // 2,
         f"a power of two up to half of the columns ({config.columns})")
    word = config.rows * ELEMENT_BITS // 8
    must("hybrid_clusters", config.hybrid_clusters * word <= config.beat_bytes,
         f"at most {max(1, config.beat_bytes // word)} (words of {word} bytes in a beat of {config.bus_width} bits)")
    must("bus_width", config.columns * word % config.beat_bytes == 0, f"at most {8 * config.columns * word}, the bits of a tile,")
    must("weight_formats", 1 <= len(config.weight_formats) <= MODE_FORMAT, f"1 to {MODE_FORMAT} formats")
    for name in config.weight_formats:
        _check_format(config, name)
    must("guard_bits", _psum_width(config) <= config.acc_width, "small enough for sums of 32 bits")


def block_sum_width(config: AcceleratorConfig) -> int:
    """Return the bits of a block's sum before it is scaled."""
    largest = max(shape.block for shape in block_shapes(config))
    return config.activation.bits + ELEMENT_BITS + ceil_log2(largest)


def mesh_psum_width(config: AcceleratorConfig) -> int:
    """Return the bits of a psum inside the mesh."""
    return config.activation.bits + config.weight.bits + ceil_log2(config.rows)


def scaled_width(config: AcceleratorConfig) -> int:
    """Return the bits of a block's sum after it is scaled."""
    return block_sum_width(config) + max(config.guard_bits if shape.shifts else 8 for shape in block_shapes(config))


def _psum_width(config: AcceleratorConfig) -> int:
    return max(mesh_psum_width(config), scaled_width(config))


HYBRID = EngineInfo(
    name="hybrid",
    doc="N×N mesh whose first columns become matrix-vector clusters for one token; 4-bit weights in blocks with one scale",
    source="HSA, arXiv 2507.09010 (abstract only; the design is inferred)",
    model="hybrid",
    check=_check, psum_width=_psum_width, peak_macs=lambda config: config.rows * config.columns,
    weight_stream=True, counters=("blocks_rounded", "blocks_flushed", "blocks_padded"), fields=("hybrid_clusters", "guard_bits"))
