"""Tiles of a GEMM: how a piece of each operand is loaded, where it lies in the scratchpad, how the engine walks it."""

import math
from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from sw.engines import weight_layout
from sw.kernels.spec import GemmSpec, groups_apart
from sw.layout import MatrixLayout, round_up

__all__ = [
    "Extent", "OperandTile", "TileShape", "activation_tile", "granularity", "output_tile", "packed_tile", "parameter_tile",
    "weight_tile",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TileShape:
    """Sizes of a tile: at most `m` rows, `n` columns and `k` steps; edges are smaller."""

    m: int
    n: int
    k: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """A size along one dimension, counted in something linear in its tiles (elements, bytes, rows).

    Attributes
    ----------
    dim : str
        "m", "n" or "k"; "" for a size that is the same for every tile.
    total, tile : int
        Of the whole dimension, and of a whole tile; the last tile has what is left.
    """

    dim: str
    total: int
    tile: int

    @property
    def count(self) -> int:
        """Number of tiles."""
        return ceil_div(self.total, self.tile)

    @property
    def constant(self) -> int | None:
        """The size where it is the same for every tile, else None."""
        if self.total <= self.tile:
            return self.total
        return self.tile if self.total % self.tile == 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class OperandTile:
    """One operand's tiles, in DRAM and in the scratchpad.

    Attributes
    ----------
    rows, row_bytes : Extent
        Of the load or store command.
    dram_stride : int
        Bytes between its rows in DRAM.
    steps : dict of str to int
        DRAM bytes from one tile to the next, for each dimension that the operand has.
    batch_step : int
        DRAM bytes from one matrix of the batch to the next.
    transpose : bool
    stride : int
        Bytes between rows in the scratchpad.
    slot_bytes : int
        Scratchpad bytes of one whole tile.
    engine_stride, engine_tile_stride, mode : int
        `stride`, `tile_stride` and, of weights, `mode` of the matrix command.
    """

    rows: Extent
    row_bytes: Extent
    dram_stride: int
    steps: dict[str, int]
    batch_step: int
    transpose: bool
    stride: int
    slot_bytes: int
    engine_stride: int = 0
    engine_tile_stride: int = 0
    mode: int = 0


def _grouped(dim: str, total: int, tile: int, group: int, slot_bytes: int, element_bytes: int = 1) -> Extent:
    """Return the bytes of `total` and `tile` elements in groups; just those of the elements where groups are not padded."""
    if slot_bytes == group * element_bytes:
        return Extent(dim=dim, total=total * element_bytes, tile=tile * element_bytes)
    return Extent(dim=dim, total=ceil_div(total, group) * slot_bytes, tile=ceil_div(tile, group) * slot_bytes)


def granularity(config: AcceleratorConfig, spec: GemmSpec, dataflow: str) -> TileShape:
    """Return what tile sizes must be multiples of, so that tiles start at beats, whole slots and whole groups."""
    beat = config.beat_bytes
    m, n, k = 1, config.columns * max(1, beat // config.output_slot_bytes), 1
    a_groups = config.rows * max(1, beat // config.activation_slot_bytes)
    if dataflow == "ws":
        k = a_groups if spec.a == "rows" else config.rows
        m = 1 if spec.a == "rows" else beat
    else:
        m = config.rows if spec.a == "rows" else a_groups
        k = beat if spec.a == "rows" else 1
    if groups_apart(config, spec):
        m = config.rows
    if spec.b == "rows":
        n = math.lcm(n, config.columns * max(1, beat // config.weight_slot_bytes))
    elif spec.b == "packed":
        layout = weight_layout(config, spec.n, spec.k, spec.weights)
        n, k = math.lcm(n, layout.columns), math.lcm(k, layout.cut(0))
    else:
        k = math.lcm(k, beat)
    return TileShape(m=m, n=n, k=k)


def activation_tile(config: AcceleratorConfig, spec: GemmSpec, layout: MatrixLayout, dataflow: str,
                    tile: TileShape) -> OperandTile:
    """Return A's tiles: M×K slots of R along K (WS), or K×M slots of R along M (OS)."""
    beat, group, slot = config.beat_bytes, config.rows, config.activation_slot_bytes
    sizes = {"m": (spec.m, tile.m), "k": (spec.k, tile.k)}
    across, along = ("m", "k") if dataflow == "ws" else ("k", "m")
    along_bytes = _grouped(along, *sizes[along], group, slot)
    across_rows = Extent(dim=across, total=sizes[across][0], tile=sizes[across][1])
    stride = round_up(ceil_div(min(sizes[along]), group) * slot, beat)
    transpose = (spec.a == "rows") != (dataflow == "ws")
    rows, row_bytes = (along_bytes, across_rows) if transpose else (across_rows, along_bytes)
    steps = {rows.dim: rows.tile * layout.row_stride, row_bytes.dim: row_bytes.tile}
    if groups_apart(config, spec):
        steps["m"] = layout.group_stride
    return OperandTile(
        rows=rows, row_bytes=row_bytes, dram_stride=layout.row_stride, transpose=transpose, batch_step=layout.batch_stride,
        steps=steps, stride=stride, slot_bytes=min(sizes[across]) * stride, engine_stride=stride, engine_tile_stride=slot)


def packed_tile(config: AcceleratorConfig, spec: GemmSpec, tile: TileShape) -> OperandTile:
    """Return the tiles of a packed B: a stream of records for each group along N."""
    layout = weight_layout(config, spec.n, spec.k, spec.weights)
    group = layout.columns
    rows = Extent(dim="n", total=layout.groups, tile=ceil_div(tile.n, group))
    row_bytes = Extent(dim="k", total=layout.bytes_of(spec.k), tile=layout.bytes_of(tile.k))
    stride = round_up(layout.bytes_of(min(spec.k, tile.k)), config.beat_bytes)
    return OperandTile(
        rows=rows, row_bytes=row_bytes, dram_stride=layout.group_stride, transpose=False, batch_step=layout.size,
        steps={"n": rows.tile * layout.group_stride, "k": row_bytes.tile}, stride=stride,
        slot_bytes=ceil_div(min(spec.n, tile.n), group) * stride, engine_stride=layout.weight_stride, engine_tile_stride=stride,
        mode=layout.mode)


def weight_tile(config: AcceleratorConfig, spec: GemmSpec, layout: MatrixLayout, tile: TileShape) -> OperandTile:
    """Return the tiles of a B that is not packed: slots of C along N, a slot for each step k."""
    beat, group, slot = config.beat_bytes, config.columns, config.weight_slot_bytes
    tile_k, tile_n = min(spec.k, tile.k), min(spec.n, tile.n)
    groups = ceil_div(tile_n, group)
    n_bytes = _grouped("n", spec.n, tile.n, group, slot)
    k_steps = Extent(dim="k", total=spec.k, tile=tile.k)
    transpose = spec.b == "transposed"
    rows, row_bytes = (n_bytes, k_steps) if transpose else (k_steps, n_bytes)
    stride = round_up(groups * slot, beat)
    return OperandTile(
        rows=rows, row_bytes=row_bytes, dram_stride=layout.row_stride, transpose=transpose, batch_step=layout.batch_stride,
        steps={rows.dim: rows.tile * layout.row_stride, row_bytes.dim: row_bytes.tile}, stride=stride,
        slot_bytes=tile_k * stride, engine_stride=stride, engine_tile_stride=slot)


def output_tile(config: AcceleratorConfig, spec: GemmSpec, layout: MatrixLayout, tile: TileShape) -> OperandTile:
    """Return C's tiles: M×N int8 or float32, slots of C along N."""
    group, element_bytes = config.columns, spec.output_bits // 8
    slot = config.output_slot_bytes * element_bytes
    rows = Extent(dim="m", total=spec.m, tile=tile.m)
    row_bytes = _grouped("n", spec.n, tile.n, group, slot, element_bytes)
    stride = round_up(ceil_div(min(spec.n, tile.n), group) * slot, config.beat_bytes)
    return OperandTile(
        rows=rows, row_bytes=row_bytes, dram_stride=layout.row_stride, transpose=False, batch_step=layout.batch_stride,
        steps={"m": rows.tile * layout.row_stride, "n": row_bytes.tile}, stride=stride, slot_bytes=min(spec.m, tile.m) * stride)


def parameter_tile(config: AcceleratorConfig, spec: GemmSpec, layout: MatrixLayout, tile: TileShape) -> OperandTile:
    """Return the tiles of biases and scales, or of what there is of them: a row each, of slots of C words.

    The rows lie in rings of their own, `slot_bytes` are those of one row; the plan says how far apart they are (`stride`).
    """
    slot = config.parameter_slot_bytes
    count = spec.bias + spec.per_channel
    row_bytes = Extent(dim="n", total=ceil_div(spec.n, config.columns) * slot, tile=ceil_div(tile.n, config.columns) * slot)
    return OperandTile(
        rows=Extent(dim="", total=count, tile=count), row_bytes=row_bytes, dram_stride=layout.row_stride, transpose=False,
        batch_step=0, steps={"n": row_bytes.tile}, stride=0,
        slot_bytes=round_up(min(row_bytes.total, row_bytes.tile), config.beat_bytes))
