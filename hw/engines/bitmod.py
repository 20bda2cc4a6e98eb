"""The BitMoD engine: what a config of it must be, its modes, and its cycle formulas.

M tokens, N outputs, K reduction; G weights of a group; T terms of a weight, and so cycles of a step of four k.
"""

from dataclasses import dataclass
from math import ceil

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
from hw.elements import ELEMENTS
from hw.engines.info import EngineInfo, check_frame
from hw.errors import ConfigError
from hw.families import Format, ScaledFormat
from hw.formats import format_named

__all__ = [
    "BITMOD", "BITMOD_LANES", "BITMOD_TERMS", "BitmodMode", "bitmod_block_bytes", "bitmod_command_cycles", "bitmod_cycles",
    "bitmod_mode", "bitmod_modes", "bitmod_paper_layer",
]

BITMOD_TERMS = {"int8": 4, "int6": 3, "int5": 3, "int4": 2, "int3": 2, "fp4": 2, "fp3": 2}
"""Bit-serial terms of a weight, and so cycles for four of them in a BitMoD PE."""
BITMOD_LANES = 4
"""Weights of a PE in a step."""
_PRECISIONS = {**{ELEMENTS[name]: name for name in ("int8", "int6", "int5", "int4", "int3")},
               ELEMENTS["float4_e2m1fn"]: "fp4", ELEMENTS["float3_e2m0"]: "fp3"}
_PLANES = {8: (4, 4), 6: (4, 2), 5: (4, 1), 4: (4, 0), 3: (2, 1)}       # bits of a code → bits of its lower and its upper plane
_SCALE_BITS = 8
_PLAIN_RUN = 128                        # of K that mode 0 adds in the array where the config has no other mode
_LARGEST_GROUP = 4096
_BUFFER_BYTES = 512 * 1024              # weight buffer and activation buffer of the paper, each
_DRAM_BITS = 256                        # a cycle, in the authors' model: 128 pins, both edges


@dataclass(frozen=True, kw_only=True, slots=True)
class BitmodMode:
    """Weights of one `matrix.mode`.

    Attributes
    ----------
    precision : str
        Key of `BITMOD_TERMS`.
    group : int
        G; with plain weights how much of K is added before the accumulator.
    specials : tuple of float
        Special values by index.
    low, high : int
        Bits of a code's lower and upper plane; 0: there is none.
    """

    precision: str
    group: int
    specials: tuple[float, float, float, float] = (5.0, -5.0, 8.0, -8.0)
    low: int = 4
    high: int = 4

    @property
    def terms(self) -> int:
        """T."""
        return BITMOD_TERMS[self.precision]

    @property
    def is_float(self) -> bool:
        """Whether what the accumulator gets is in halves."""
        return self.precision in ("fp4", "fp3")

    @property
    def pieces(self) -> int:
        """Pieces of 2·C bytes in a record: the header, and the codes of a group."""
        return 1 + self.group * (self.low + self.high) // 16


def bitmod_mode(fmt: Format) -> BitmodMode:
    """Return how the engine reads weights of a format.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    name = fmt.name
    if not isinstance(fmt, ScaledFormat) or fmt.element not in _PRECISIONS or fmt.zero_point_bits:
        raise ConfigError(f"a format for BitMoD must have elements of {', '.join(BITMOD_TERMS)} and no zero point, not {name!r}")
    if fmt.scale is None or fmt.scale.name != "uint8" or fmt.outer != "row":
        raise ConfigError(f"a format for BitMoD must have 8-bit group scales, as bitmod4-g128 or int6-g128-int8, not {name!r}")
    if fmt.block % 16 or fmt.block > _LARGEST_GROUP:
        raise ConfigError(f"a format for BitMoD must have groups of a multiple of 16, at most {_LARGEST_GROUP}, not {name!r}")
    if fmt.specials and fmt.special_code != 1 << fmt.element.bits - 1:
        raise ConfigError(f"a format for BitMoD must have its special value in the code of −0, not {name!r}")
    if len(fmt.specials) > 4 or not all(_fits(value) for value in fmt.specials):
        raise ConfigError(f"a format for BitMoD must have up to four special values of two terms each, not {name!r}")
    first, second, third, fourth = (*fmt.specials, *(5.0,) * (4 - len(fmt.specials)))
    low, high = _PLANES[fmt.element.bits]
    return BitmodMode(precision=_PRECISIONS[fmt.element], group=fmt.block, specials=(first, second, third, fourth), low=low,
                      high=high)


def _fits(value: float) -> bool:
    """Return whether a special value is one or two different powers of two from 0.5 to 8."""
    halves = abs(value) * 2
    return halves == int(halves) and 1 <= int(halves).bit_count() <= 2 and halves < 32


def bitmod_modes(config: AcceleratorConfig) -> tuple[BitmodMode, ...]:
    """Return the modes of a config by number; mode 0 is plain int8, added in runs as long as the longest group."""
    packed = [bitmod_mode(format_named(name)) for name in config.weight_formats]
    run = max((mode.group for mode in packed), default=_PLAIN_RUN)
    return BitmodMode(precision="int8", group=run), *packed


def bitmod_block_bytes(config: AcceleratorConfig) -> int:
    """Return the bytes of each row that the line buffer fetches at once: a line, but no more than those of 2·R activations.

    Of 2·R each of R rows is read in as many cycles as weights of two terms take for them.
    """
    return min(config.line_bytes, 2 * config.rows * config.activation_bytes)


def _psum_width(config: AcceleratorConfig) -> int:
    """Return bits of a group's products with its scale; those of int8, which every config has, are the largest.

    With floating-point activations they are float32 words.
    """
    if config.float_activations:
        return 32
    return ((1 << 14) * bitmod_modes(config)[0].group).bit_length() + 1 + _SCALE_BITS


def _check(config: AcceleratorConfig) -> None:
    for name, least in (("rows", BITMOD_LANES), ("columns", 2)):
        size = getattr(config, name)
        if size & size - 1 or size < least:
            raise ConfigError(f"AcceleratorConfig.{name} must be a power of two for BitMoD, at least {least} (nearest: "
                              f"{max(least, ceil_power_of_two(size))}), not {size!r}")
    check_frame(config, "BitMoD", dataflow="whose operands lie so", mesh="which has no mesh")
    bitmod_modes(config)
    piece = 2 * config.columns
    if config.line_bytes < piece:
        raise ConfigError(f"AcceleratorConfig.vector_lanes must be such that lines have {piece} bytes for BitMoD (2 of each "
                          f"column), not {config.vector_lanes!r} (lines of {config.line_bytes})")


BITMOD = EngineInfo(
    name="bitmod",
    doc="R×C bit-serial PEs of four lanes: integers of 3 to 8 bits and FP4, FP3 with special values, INT8 group scales",
    source="Chen et al., BitMoD, HPCA 2025",
    model="bitmod",
    check=_check, psum_width=_psum_width, peak_macs=lambda config: BITMOD_LANES * config.rows * config.columns,
    float_activations=True)


def bitmod_cycles(rows: int, columns: int, m: int, n: int, k: int, precision: str, group: int, tile_rows: int = 8) -> int:
    """Return the cycles from the first term of a product to the first term of what follows, in R×C BitMoD PEs.

    Output-stationary: ⌈M/R⌉·⌈N/C⌉ results, each of ⌈K/G⌉ groups of ⌈G/4⌉ steps of `BITMOD_TERMS` cycles; the last group may be
    shorter. Nothing stands between groups or results: scales are multiplied and columns drained behind the next group, as long
    as a group takes the 8 bits of a scale and the rows of a tile; a shorter one takes so long.
    """
    terms, least = BITMOD_TERMS[precision], _SCALE_BITS + tile_rows
    cycles = k // group * max(least, ceil_div(group, BITMOD_LANES) * terms)
    if k % group:
        cycles += max(least, ceil_div(k % group, BITMOD_LANES) * terms)
    return ceil_div(m, rows) * ceil_div(n, columns) * cycles


def bitmod_command_cycles(config: AcceleratorConfig, m: int, n: int, k: int, mode: int = 0) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, reads never refused.

    `bitmod_cycles`, or what reading the activations takes where that is longer: while a block of B bytes of each row is
    multiplied, in B/4·T cycles (B/8·T of 16-bit activations), the next one is read, a line of each of R' valid rows, in R'
    cycles. With lines of 2·R activations that only binds where a block is shorter than B, at a row's end.
    """
    info = bitmod_modes(config)[mode]
    block, steps = bitmod_block_bytes(config) // (BITMOD_LANES * config.activation_bytes), ceil_div(k, BITMOD_LANES)
    sizes = [block] * (steps // block) + [steps % block] * (steps % block > 0)
    heights = [config.rows] * (m // config.rows) + [m % config.rows] * (m % config.rows > 0)
    blocks = [(size, height) for height in heights for size in sizes]
    fetched = sum(max(size * info.terms, height) for (size, _), (_, height) in zip(blocks, blocks[1:] + blocks[:1], strict=True))
    return max(ceil_div(n, config.columns) * fetched,
               bitmod_cycles(config.rows, config.columns, m, n, k, info.precision, info.group, config.rows))


def bitmod_paper_layer(rows: int, columns: int, m: int, n: int, k: int, weight_bits: float) -> int:
    """Return the cycles of a linear layer in the authors' performance model, which has no pipeline to fill.

    There `rows` count output channels and `columns` tokens, float16 activations come in and go out, and `weight_bits` are those
    of a weight with its share of the scale (6.0625 lossless, 4.0625 and 3.0625 lossy). The larger one of computing,
    ⌈K/4⌉·⌈N/rows⌉·⌈M/columns⌉·⌈⌊bits⌋/2⌋, and of moving all operands at 256 bits a cycle; of two that exceed 512 KiB each, one
    is fetched again for each bufferful of the other, whichever is less.

    Source: bitmod_sim of the authors (grade: derived, reproduces their Llama-2-7B figures; `weight_bits` of a row in whole
    bytes). Differs from `bitmod_cycles`, which says what the RTL takes: that has no memory, and counts the scale's groups.
    """
    compute = ceil_div(k, BITMOD_LANES) * ceil_div(n, rows) * ceil_div(m, columns) * ceil_div(int(weight_bits), 2)
    weights, inputs, outputs = n * ceil(k * weight_bits / 8), m * 2 * k, m * 2 * n
    moved = weights + inputs
    if min(weights, inputs) > _BUFFER_BYTES:
        moved = min(weights * ceil_div(inputs, _BUFFER_BYTES) + inputs,
                    inputs * ceil_div(weights, _BUFFER_BYTES) + weights)
    return max(compute, (moved + outputs) * 8 // _DRAM_BITS)
