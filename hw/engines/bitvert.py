"""The BitVert engine: what a config of it must be, how its weights lie, and its cycle formulas.

M tokens, N outputs, K reduction; a pass is 16 of K, and takes a cycle for each bit column that its weights have.
"""

from dataclasses import dataclass, replace

from hw.config import AcceleratorConfig, ceil_div, ceil_log2, ceil_power_of_two
from hw.elements import Integer
from hw.engines.info import EngineInfo, check_frame
from hw.errors import ConfigError
from hw.families import ColumnFormat, ScaledFormat
from hw.formats import format_named

__all__ = [
    "BITVERT", "BITVERT_GROUP", "BITVERT_LANES", "BITVERT_RECORD", "STRIPES", "PlanesFormat", "bitvert_command_cycles",
    "bitvert_formats", "bitvert_lane_rows", "bitvert_pace", "bitvert_paper_speedup", "bitvert_piece_bytes", "bitvert_tile_cycles",
]

BITVERT_LANES = 16      # k of a pass
BITVERT_GROUP = 32      # k that share a byte of metadata
BITVERT_RECORD = 64     # k of a record: a slot of metadata, then the columns of four passes
_PLAIN_COLUMNS = 8
_MOST_AVERAGED = 5     # a constant that is added has so many bits


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanesFormat:
    """Weights of a mode as bit columns.

    For each 64 of K a record of slots of 2·C bytes: where there is metadata, a slot of it, byte g·C + c that of channel c and of
    the record's group g of 32 (bits 1 … 0: redundant columns; bits 7 … 2: constant); then for each 16 of K a slot for each
    column, the sign's first, in which channel c has bytes 2·c and 2·c + 1, bit i of weight i.

    Attributes
    ----------
    columns : int
        Columns stored of each weight, and so cycles of a pass: 2 to 8.
    metadata : bool
        Whether groups have redundant columns and a constant.
    subtract : bool
        The constant, two's complement, is subtracted, else added.
    one_of : int
        P: groups of C outputs that share a stream, of which the first has all eight columns; 1: none has. Its records lie one
        after the other, for each 64 of K; that of the first group has in place of metadata, in byte c, which of its P outputs
        lane c keeps: output p·C + c. The lane's others follow in their order. Results go to the rows of the outputs.
    """

    columns: int
    metadata: bool
    subtract: bool
    one_of: int = 1

    @property
    def members(self) -> "tuple[PlanesFormat, ...]":
        """How the groups of C outputs that share a stream lie."""
        if self.one_of == 1:
            return (self,)
        kept = PlanesFormat(columns=_PLAIN_COLUMNS, metadata=True, subtract=False)
        return (kept, *[replace(self, one_of=1)] * (self.one_of - 1))

    @property
    def slots(self) -> int:
        """Slots of a record, of all groups that share a stream."""
        if self.one_of > 1:
            return sum(member.slots for member in self.members)
        return self.metadata + BITVERT_RECORD // BITVERT_LANES * self.columns


def _planes(name: str) -> PlanesFormat:
    fmt = format_named(name)
    if isinstance(fmt, ScaledFormat) and isinstance(fmt.element, Integer) and fmt.name == "int8":
        return PlanesFormat(columns=_PLAIN_COLUMNS, metadata=False, subtract=False)
    if not isinstance(fmt, ColumnFormat):
        raise ConfigError(f"AcceleratorConfig.weight_formats must be int8 or bit columns (bbs-average-g32, bbs-shift-g32) for "
                          f"BitVert, not {name!r}")
    if fmt.block != BITVERT_GROUP:
        raise ConfigError(f"AcceleratorConfig.weight_formats must have groups of {BITVERT_GROUP} for BitVert, not {name!r}")
    if fmt.method == "average" and fmt.pruned > _MOST_AVERAGED:
        raise ConfigError(f"AcceleratorConfig.weight_formats must average {_MOST_AVERAGED} columns at most for BitVert, not "
                          f"{fmt.pruned} ({name!r})")
    return PlanesFormat(columns=8 - fmt.pruned, metadata=True, subtract=fmt.method == "shift", one_of=fmt.one_of)


def bitvert_formats(config: AcceleratorConfig) -> tuple[PlanesFormat, ...]:
    """Return how the weights of modes 1, 2, … lie.

    Raises
    ------
    ConfigError
        If the engine cannot read one of `config.weight_formats`.
    """
    return tuple(_planes(name) for name in config.weight_formats)


def bitvert_lane_rows(config: AcceleratorConfig) -> bool:
    """Return whether a mode splits channels, whose results go to rows of their own."""
    return any(fmt.one_of > 1 for fmt in bitvert_formats(config))


def bitvert_piece_bytes(config: AcceleratorConfig) -> int:
    """Return what addresses and strides of activations must be multiples of: a slot of R, but no more than a pass."""
    return min(BITVERT_LANES, config.activation_slot_bytes)


def bitvert_pace(config: AcceleratorConfig) -> int:
    """Return the cycles of a bit column of 16 weights: Stripes PEs have eight lanes."""
    return 2 if config.engine == "stripes" else 1


def _check(config: AcceleratorConfig) -> None:
    for name in ("rows", "columns"):
        size = getattr(config, name)
        if size & size - 1:
            raise ConfigError(f"AcceleratorConfig.{name} must be a power of two for BitVert (nearest: "
                              f"{ceil_power_of_two(size)}), not {size!r}")
    check_frame(config, "BitVert", dataflow="whose operands lie so", mesh="which has no mesh")
    if config.os_depth % BITVERT_RECORD:
        raise ConfigError(f"AcceleratorConfig.os_depth must be a multiple of {BITVERT_RECORD} for BitVert, not "
                          f"{config.os_depth!r}")
    least = max(BITVERT_LANES, 2 * config.columns)
    if config.line_bytes < least:
        raise ConfigError(f"AcceleratorConfig.bus_width must make lines of at least {least} bytes for BitVert (16 activations, "
                          f"and 2 bytes for each column), not of {config.line_bytes}")
    if config.beat_bytes > 2 * config.columns:
        raise ConfigError(f"AcceleratorConfig.bus_width must be at most {16 * config.columns} for BitVert with {config.columns} "
                          f"columns, not {config.bus_width!r}")
    formats = bitvert_formats(config)
    if config.engine == "stripes" and any(fmt.metadata for fmt in formats):
        raise ConfigError("AcceleratorConfig.weight_formats must be ('int8',) or none for Stripes, not "
                          f"{config.weight_formats!r}")


def _psum_width(config: AcceleratorConfig) -> int:
    """Return bits of a sum over `os_depth`: a weight with its constant reaches −160, so a product 20,480."""
    return 16 + ceil_log2(config.os_depth)


BITVERT = EngineInfo(
    name="bitvert",
    doc="R×C bit-serial PEs of 16 weights, a bit column a cycle, of which at most half the activations are added; BBS formats",
    source="Chen et al., BBS, MICRO 2024",
    model="bitvert",
    check=_check, psum_width=_psum_width, lane_rows=bitvert_lane_rows,
    peak_macs=lambda config: BITVERT_LANES * config.rows * config.columns // min(
        (fmt.columns for fmt in bitvert_formats(config)), default=_PLAIN_COLUMNS))

STRIPES = EngineInfo(
    name="stripes",
    doc="R×C bit-serial PEs of 8 weights without sparsity, 8 cycles each, in the frame of BitVert: its baseline",
    source="Judd et al., Stripes, MICRO 2016",
    model="bitvert",
    check=_check, psum_width=_psum_width, peak_macs=lambda config: config.rows * config.columns)


def bitvert_tile_cycles(config: AcceleratorConfig, k: int, mode: int = 0, group: int = 0) -> int:
    """Return the cycles of an R×C tile's weights, reads never refused: a cycle for each slot.

    Packed: 8/6/4 a pass, Stripes 16, and one of metadata for each 64 k. Plain: a cycle for each k, since a slot holds one.

    Parameters
    ----------
    group : int
        Of C outputs in the command: where channels are split, the first of each `one_of` has eight columns.
    """
    if mode == 0:
        return k
    members = bitvert_formats(config)[mode - 1].members
    fmt = members[group % len(members)]
    return ceil_div(k, BITVERT_LANES) * fmt.columns * bitvert_pace(config) + fmt.metadata * ceil_div(k, BITVERT_RECORD)


def bitvert_command_cycles(config: AcceleratorConfig, m: int, n: int, k: int, mode: int = 0, block: int = 0) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, reads never refused.

    While a block of B bytes of each row is multiplied, the next one is read, a row a cycle; the longer one counts, and two cycles
    a command, in one of which Stripes PEs end their last column. Exact where blocks are alike, else at most a block more or less.

    Parameters
    ----------
    block : int
        B: a line, or what address and stride of the activations are multiples of; 0: a line.
    """
    block = block or config.line_bytes
    heights = [config.rows] * (m // config.rows) + [m % config.rows] * (m % config.rows > 0)
    sizes = [block] * (k // block) + [k % block] * (k % block > 0)
    cycles = 0
    for group in range(ceil_div(n, config.columns)):
        before = 0
        for size in sizes:
            after = before + size
            slots = bitvert_tile_cycles(config, after, mode, group) - bitvert_tile_cycles(config, before, mode, group)
            cycles += sum(max(slots, height) for height in heights)
            before = after
    return cycles + 2 - (bitvert_pace(config) > 1 and mode > 0)


def bitvert_paper_speedup(columns: float) -> float:
    """Return the speedup over Stripes where computing bounds both: 16 weights in `columns` cycles, where that has 8 in 8."""
    return 2 * 8 / columns
