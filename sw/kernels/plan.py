"""A plan: everything that decides a GEMM's program; built from the few choices of the mapper, or refused where it cannot be."""

from dataclasses import dataclass, replace

from hw.config import AcceleratorConfig, ceil_div
from sw.kernels.spec import GemmSpec, groups_apart, operand_layouts
from sw.kernels.tiles import (
    OperandTile,
    TileShape,
    activation_tile,
    granularity,
    output_tile,
    packed_tile,
    parameter_tile,
    weight_tile,
)
from sw.layout import MatrixLayout, round_up

__all__ = ["Mapping", "Plan", "PlanError", "make_plan"]

FIELD_LIMIT = (1 << 16) - 1       # of m, n, k and rows in a command
LOOP_LIMIT = (1 << 16) - 1        # iterations of a loop whose count is in the instruction
LARGEST_RING = 255                # slots: a semaphore counts them


class PlanError(ValueError):
    """A mapping that the config cannot hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapping:
    """What the mapper chooses.

    Attributes
    ----------
    dataflow : str
        "ws" or "os".
    outer : str
        "m": a panel of A stays while the tiles of B stream by, "n": the other way round.
    tile : TileShape
    resident : bool
        False: no panel stays, both operands stream by (where a panel is too large).
    inner_slots : int
        Ring of the streamed operand, in tiles.
    """

    dataflow: str
    outer: str
    tile: TileShape
    resident: bool = True
    inner_slots: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A mapping with every address.

    Attributes
    ----------
    spec, mapping
    layouts : dict of str to MatrixLayout
        DRAM layouts of "a", "b" (but of one in a format), "c" and "parameters".
    tiles : dict of str to OperandTile
    counts : dict of str to int
        Tiles along "m", "n" and "k".
    slots : dict of str to int
        Tiles that the scratchpad holds of each operand.
    addresses : dict of str to int
        Scratchpad address of each operand's ring; "scales" is that of the scales where "parameters" are biases as well.
    separate : bool
        True if no two rings share a scratchpad bank (but those of biases and scales, which may).
    acc_slot_rows : int
        Accumulator rows from one of the two result tiles to the other.
    """

    spec: GemmSpec
    mapping: Mapping
    layouts: dict[str, MatrixLayout]
    tiles: dict[str, OperandTile]
    counts: dict[str, int]
    slots: dict[str, int]
    addresses: dict[str, int]
    separate: bool
    acc_slot_rows: int

    @property
    def inner(self) -> str:
        """The dimension of the inner loop, "m" or "n"."""
        return "n" if self.mapping.outer == "m" else "m"

    @property
    def outer_operand(self) -> str:
        """The operand that stays during the inner loop, "a" or "b"."""
        return "a" if self.mapping.outer == "m" else "b"

    @property
    def inner_operand(self) -> str:
        """The operand that streams, "a" or "b"."""
        return "b" if self.mapping.outer == "m" else "a"


def make_plan(config: AcceleratorConfig, spec: GemmSpec, mapping: Mapping) -> Plan:
    """Return the plan of a mapping.

    Raises
    ------
    PlanError
        If tiles are not aligned, too long for a command, or too large for scratchpad or accumulator.
    """
    tile = mapping.tile
    step = granularity(config, spec, mapping.dataflow)
    totals = {"m": spec.m, "n": spec.n, "k": spec.k}
    counts = {}
    for dim, total in totals.items():
        size, least = getattr(tile, dim), getattr(step, dim)
        counts[dim] = ceil_div(total, size)
        if size % least and counts[dim] > 1:
            raise PlanError(f"Mapping.tile.{dim} must be a multiple of {least}, not {size}")
        if dim == "m" and size > least and groups_apart(config, spec):
            raise PlanError(f"Mapping.tile.m must be at most {least} (groups of A lie apart), not {size}")
        if counts[dim] > LOOP_LIMIT:
            raise PlanError(f"Mapping.tile.{dim} must give at most {LOOP_LIMIT} tiles, not {counts[dim]}")
        if min(size, total) > FIELD_LIMIT:
            raise PlanError(f"Mapping.tile.{dim} must be at most {FIELD_LIMIT}, not {size}")
    acc_slot_rows = config.accumulator_rows // 2
    acc_rows = min(tile.m, spec.m) * ceil_div(min(tile.n, spec.n), config.columns)
    if acc_rows > acc_slot_rows:
        raise PlanError(f"Mapping.tile must need at most {acc_slot_rows} accumulator rows, not {acc_rows}")
    layouts = operand_layouts(config, spec, mapping.dataflow)
    tiles = {
        "a": activation_tile(config, spec, layouts["a"], mapping.dataflow, tile),
        "b": packed_tile(config, spec, tile) if spec.b == "packed" else weight_tile(config, spec, layouts["b"], tile),
        "c": output_tile(config, spec, layouts["c"], tile),
    }
    if spec.has_parameters:
        tiles["parameters"] = parameter_tile(config, spec, layouts["parameters"], tile)
    inner_operand, outer_operand = ("b", "a") if mapping.outer == "m" else ("a", "b")
    if not mapping.resident:
        panel = mapping.inner_slots
    elif spec.batch * counts[mapping.outer] == 1:
        panel = counts["k"]
    else:
        panel = max(counts["k"], mapping.inner_slots)
    slots = {inner_operand: mapping.inner_slots, outer_operand: panel, "c": 2, "parameters": 2}
    if panel > LARGEST_RING:
        raise PlanError(f"Mapping.tile.k must give at most {LARGEST_RING} tiles, not {panel}")
    sizes = {name: round_up(operand.slot_bytes, config.line_bytes) * slots[name] for name, operand in tiles.items()}
    if spec.bias and spec.per_channel:
        sizes["scales"] = sizes["parameters"]
    addresses, separate = _place(config, sizes)
    if "scales" in addresses:
        tiles["parameters"] = replace(tiles["parameters"], stride=addresses["scales"] - addresses["parameters"])
    return Plan(spec=spec, mapping=mapping, layouts=layouts, tiles=tiles, counts=counts, slots=slots, addresses=addresses,
                separate=separate, acc_slot_rows=acc_slot_rows)


def _place(config: AcceleratorConfig, sizes: dict[str, int]) -> tuple[dict[str, int], bool]:
    """Return the scratchpad address of each ring, in banks of its own where there are enough of them, or scales with biases."""
    bank, line = config.scratchpad_bank_bytes, config.line_bytes
    alone = [[name] for name in sizes]
    paired = [[name, "scales"] if name == "parameters" and "scales" in sizes else [name] for name in sizes if name != "scales"]
    for groups, step in ((alone, bank), (paired, bank), (alone, line)):
        addresses, end = {}, 0
        for group in groups:
            end = round_up(end, step)
            for name in group:
                addresses[name] = end
                end += sizes[name]
        if end <= config.scratchpad_bytes:
            return addresses, step == bank
    raise PlanError(f"Mapping.tile must need at most {config.scratchpad_bytes} scratchpad bytes, not {end}")
