"""Rows of int8 in the scratchpad × weights that stream from DRAM → float32 rows in DRAM.

For each tile of columns: its weights come in chunks of K through a ring, or for one row past the scratchpad where the engine
takes them (`config.weight_stream`), the engine accumulates, the vector unit scales the result by the columns' and the rows'
scales, adds a bias or what was there (residual), or both, applies GELU, or turns pairs of tiles into SiLU(gate) · up.
While the vector unit is at one tile the engine is at the next.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import MODE_STREAM
from hw.isa import Dataflow, Unit
from sw.kernels.passes.activations import add, gated, gelu, silu
from sw.kernels.passes.command import Accumulator, Floats, Int8, Operand
from sw.kernels.passes.norms import add_rows, no_statistics
from sw.kernels.passes.quantization import dequantize
from sw.kernels.tiles import Extent
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear_shape import WEIGHT_SLOTS, Linear

__all__ = ["Semaphore", "emit_linear", "linear_areas"]


class Semaphore(IntEnum):
    """What each semaphore counts."""

    WEIGHTS_FREE = 0
    WEIGHTS_FULL = 1
    ACC_FREE = 2
    ACC_FULL = 3
    OUT_FREE = 4
    OUT_FULL = 5
    PARAM_FREE = 6
    PARAM_FULL = 7
    IN_FREE = 8
    IN_FULL = 9
    OPERAND = 10            # the vector unit has made what the engine reads
    VALUES_FREE = 11
    VALUES_FULL = 12
    UNPACKED = 13           # the vector unit has made int8 of packed values


def linear_areas(config: AcceleratorConfig, linear: Linear, start: int) -> dict[str, Area]:
    """Return the scratchpad areas of a linear, above the operand that ends at `start`."""
    rows = 4 * linear.m * (linear.tile_n // 2 if linear.gated else linear.tile_n)
    chunk = linear.layout.bytes_of(linear.chunk_k) * ceil_div(linear.tile_n, linear.layout.columns)
    sizes = {"weights": (chunk, WEIGHT_SLOTS),
             "scales": (4 * linear.tile_n * linear.parameter_rows, 2), "out": (rows, 2)}
    if linear.residual:
        sizes["in"] = (rows, 2)
    if linear.gated:
        sizes["gate"] = (rows, 1)
    return place_areas(config, linear.name, sizes, start)


def emit_linear(config: AcceleratorConfig, emitter: StreamEmitter, linear: Linear, areas: dict[str, Area], *, rows: Operand,
                operand: Operand, operand_stride: int, weights: tuple[str, int], row_scale: int, output: tuple[str, int],
                output_stride: int, statistics: Mapping[str, int] | None = None) -> None:
    """Emit a linear; every ring is empty before and after it.

    Parameters
    ----------
    rows : int or str
        Rows, a number or a register.
    operand, operand_stride : Operand, int
        Rows of int8 in the scratchpad.
    weights, output : (register, int)
        DRAM addresses.
    row_scale : int
        First row scalar of the operand's scales.
    output_stride : int
        Bytes between rows of the output.
    statistics : mapping of str to int, or None
        Row scalars that get what the phase behind needs of each output row: "magnitude", for a quantization; where there is a
        residual, that is, before a norm, "squares" (RMS norm) or "total" (layer norm), with "part" for one tile's.
    """
    _Emission(config, emitter, linear, areas, rows, operand, operand_stride, weights, row_scale, output, output_stride,
              statistics).emit()


class _Emission:
    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, linear: Linear, areas: dict[str, Area], rows: Operand,
                 operand: Operand, operand_stride: int, weights: tuple[str, int], row_scale: int, output: tuple[str, int],
                 output_stride: int, statistics: Mapping[str, int] | None):
        self.config, self.emitter, self.linear, self.areas, self.statistics = config, emitter, linear, areas, statistics or {}
        self.sums = next((name for name in ("squares", "total") if linear.residual and name in self.statistics), "")
        self.rows, self.operand, self.operand_stride = rows, operand, operand_stride
        self.weights, self.row_scale, self.output, self.output_stride = weights, row_scale, output, output_stride
        self.columns = Extent(dim="n", total=linear.n, tile=linear.tile_n)
        columns = linear.layout.columns
        self.groups = Extent(dim="n", total=ceil_div(linear.n, columns), tile=linear.tile_n // columns)
        self.steps = Extent(dim="k", total=linear.k, tile=linear.chunk_k)
        self.step_bytes = Extent(dim="k", total=linear.layout.bytes_of(linear.k), tile=linear.layout.bytes_of(linear.chunk_k))
        self.group_bytes = Extent(dim="n", total=linear.layout.size, tile=self.groups.tile * linear.layout.group_stride)
        self.streams = linear.m == 1 and linear.layout.mode > 0 and config.weight_stream
        self.walked = [self.columns, self.group_bytes if self.streams else self.groups, *self._stored]     # from tile to tile
        self.acc_stride = linear.m
        self.acc_slot = config.accumulator_rows // 2
        self.chunks = self.steps.count

    def _ring(self, name: str) -> None:
        area = self.areas[name]
        self.emitter.ring(self.emitter.reg(f"{name} slot"), area.slot_bytes, area.slots)

    def _slot(self, name: str, offset: int = 0) -> Operand:
        area = self.areas[name]
        return (self.emitter.reg(f"{name} slot"), area.addr + offset) if area.slots > 1 else area.addr + offset

    def _chunk(self, *, first: bool, last: bool) -> None:
        """Load a chunk of weights and multiply by it."""
        emitter, linear, config = self.emitter, self.linear, self.config
        stride = self.step_bytes.tile
        emitter.set("load.dram_addr", emitter.reg("chunk"))
        emitter.set("load.dram_stride", linear.layout.group_stride)
        emitter.put_extent("load.rows", self.groups)
        emitter.put_extent("load.row_bytes", self.step_bytes)
        emitter.command(Unit.LOAD, {"addr": self._slot("weights"), "stride": stride, "transpose": 0},
                        [Semaphore.WEIGHTS_FREE], [Semaphore.WEIGHTS_FULL])
        self._multiply(self.steps, {"activation_addr": (emitter.reg("operand"), 0), "weight_addr": self._slot("weights"),
                                    "weight_tile_stride": stride, "accumulate": int(not first), "mode": linear.layout.mode},
                       [Semaphore.WEIGHTS_FULL, *([Semaphore.ACC_FREE] if first else [])],
                       [Semaphore.WEIGHTS_FREE, *([Semaphore.ACC_FULL] if last else [])])
        self._ring("weights")
        if not last:
            emitter.move(emitter.reg("chunk"), emitter.reg("chunk"), self.step_bytes.tile)
            emitter.move(emitter.reg("operand"), emitter.reg("operand"),
                         linear.chunk_k // config.rows * config.activation_slot_bytes)
            emitter.advance([self.steps, self.step_bytes])

    def _stream(self) -> None:
        """Let all weights of a tile go from DRAM into the engine, whose command waits for nothing but room for its results."""
        emitter, linear = self.emitter, self.linear
        emitter.put_extent("load.row_bytes", self.group_bytes)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("tile"), "dram_stride": 0, "rows": 1, "addr": 0, "stride": 0,
                                    "transpose": 0, "stream": 1})
        emitter.set("load.stream", 0)
        self._multiply(Extent(dim="", total=linear.k, tile=linear.k), {
            "activation_addr": self.operand, "weight_addr": 0, "weight_tile_stride": 0, "accumulate": 0,
            "mode": linear.layout.mode | MODE_STREAM}, [Semaphore.ACC_FREE], [Semaphore.ACC_FULL])

    def _multiply(self, k: Extent, fields: dict[str, Operand], wait: list[Semaphore], signal: list[Semaphore]) -> None:
        """Multiply by `k` inputs of the weights."""
        emitter = self.emitter
        emitter.put_extent("matrix.n", self.columns)
        emitter.put_extent("matrix.k", k)
        emitter.command(Unit.MATRIX, {
            **fields, "activation_stride": self.operand_stride, "activation_tile_stride": self.config.activation_slot_bytes,
            "weight_stride": self.linear.layout.weight_stride, "acc_addr": emitter.reg("acc slot"),
            "acc_tile_stride": self.acc_stride, "m": self.rows, "dataflow": int(Dataflow.WS), "serialize": 0}, wait, signal)

    def _chunks(self) -> None:
        """Multiply by the weights of a tile, a chunk after the other, through the scratchpad."""
        emitter = self.emitter
        emitter.move(emitter.reg("chunk"), emitter.reg("tile"))
        emitter.set_register("operand", self.operand)
        emitter.start([self.steps, self.step_bytes])
        self._chunk(first=True, last=self.chunks == 1)
        if self.chunks > 2:
            with emitter.loop(self.chunks - 2):
                self._chunk(first=False, last=False)
        if self.chunks > 1:
            self._chunk(first=False, last=True)

    def _tile(self) -> None:
        """One tile of columns."""
        emitter, linear = self.emitter, self.linear
        if self.streams:
            self._stream()
        else:
            self._chunks()
        emitter.set("load.dram_stride", linear.parameter_bytes if linear.bias else 0)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("scales"), "rows": linear.parameter_rows,
                                    "row_bytes": 4 * linear.tile_n, "addr": self._slot("scales"),
                                    "stride": 4 * linear.tile_n if linear.bias else 0, "transpose": 0},
                        [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])
        if linear.gated:
            self._gate()
        else:
            self._dequantize()
        self._ring("scales")
        emitter.asm.xor(emitter.reg("acc slot"), emitter.reg("acc slot"), "r0", self.acc_slot)
        emitter.move(emitter.reg("tile"), emitter.reg("tile"), self.groups.tile * linear.layout.group_stride)
        emitter.move(emitter.reg("scales"), emitter.reg("scales"), 4 * linear.tile_n)
        emitter.move(emitter.reg("result"), emitter.reg("result"), 4 * linear.tile_n // (2 if linear.gated else 1))
        emitter.advance(self.walked)

    @property
    def _stored(self) -> list[Extent]:
        """Bytes of a stored row."""
        if self.linear.gated:
            return []
        return [Extent(dim="n", total=4 * self.linear.n, tile=4 * self.linear.tile_n)]

    def _sums(self, columns: int = 0) -> tuple[Accumulator, Floats]:
        """Return the tile's sums and its columns' scales, from a column of the tile on."""
        rows = (self.emitter.reg("acc slot"), columns // self.config.columns * self.acc_stride)
        return Accumulator(rows, self.acc_stride), Floats(self._slot("scales", 4 * columns))

    def _dequantize(self) -> None:
        emitter, linear = self.emitter, self.linear
        stride = 4 * linear.tile_n
        wait, signal = [Semaphore.ACC_FULL, Semaphore.PARAM_FULL, Semaphore.OUT_FREE], \
            [Semaphore.ACC_FREE, Semaphore.PARAM_FREE, Semaphore.OUT_FULL]
        biases = Floats(self._slot("scales", 4 * linear.tile_n))
        before = biases if linear.bias else None
        if linear.residual:
            emitter.put_extent("load.row_bytes", self._stored[0])
            emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("result"), "dram_stride": self.output_stride, "rows": self.rows,
                                        "addr": self._slot("in"), "stride": stride, "transpose": 0},
                            [Semaphore.IN_FREE], [Semaphore.IN_FULL])
            before = Floats(self._slot("in"), stride)
            arrived = [Semaphore.IN_FULL]
            if linear.bias:                     # while the engine is still at this tile
                factors = Floats(self._slot("scales", 8 * linear.tile_n))
                emitter.passes(add(self.rows, 0, before, biases, before, factors=factors), [Semaphore.PARAM_FULL, *arrived],
                               columns=self.columns)
                wait.remove(Semaphore.PARAM_FULL)
                arrived = []
            wait += arrived
            signal.append(Semaphore.IN_FREE)
        sums, scales = self._sums()
        magnitude = self.statistics.get("magnitude")
        out = Floats(self._slot("out"), stride)
        if linear.gelu:
            emitter.passes(gelu(self.rows, 0, sums, out, columns=scales, tokens=self.row_scale, bias=biases, amax=magnitude,
                                seed=magnitude), wait, signal, columns=self.columns)
        else:
            found: dict[str, Any] = {} if magnitude is None else {"amax_to": magnitude, "seed": magnitude}
            if linear.limits:
                found["limit"] = linear.limits[0]
            if self.sums:
                found["squares_to" if self.sums == "squares" else "sum_to"] = self.statistics["part"]
            emitter.passes(dequantize(self.rows, 0, sums, out, columns=scales, tokens=self.row_scale, add=before, **found),
                           wait, signal, columns=self.columns)
        if self.sums:
            whole = self.statistics[self.sums]
            emitter.passes(add_rows(self.rows, [whole, self.statistics["part"]], whole))
        if linear.residual:
            self._ring("in")
        emitter.put_extent("store.row_bytes", self._stored[0])
        self._store(stride)

    def _gate(self) -> None:
        emitter, linear = self.emitter, self.linear
        half = linear.tile_n // 2
        stride = 4 * half
        gate, out = Floats(self._slot("gate"), stride), Floats(self._slot("out"), stride)
        sums, scales = self._sums()
        limits = self.linear.limits or (None, None)
        emitter.passes(silu(self.rows, half, sums, gate, columns=scales, tokens=self.row_scale, limit=limits[0]),
                       [Semaphore.ACC_FULL, Semaphore.PARAM_FULL])
        sums, scales = self._sums(half)
        amax = self.statistics.get("magnitude")
        emitter.passes(gated(self.rows, half, sums, gate, out, columns=scales, tokens=self.row_scale, amax=amax, seed=amax,
                             limit=limits[1]),
                       [Semaphore.OUT_FREE], [Semaphore.ACC_FREE, Semaphore.PARAM_FREE, Semaphore.OUT_FULL])
        emitter.set("store.row_bytes", 4 * half)
        self._store(stride)

    def _store(self, stride: int) -> None:
        emitter = self.emitter
        emitter.command(Unit.STORE, {"dram_addr": emitter.reg("result"), "dram_stride": self.output_stride, "rows": self.rows,
                                     "addr": self._slot("out"), "stride": stride}, [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])
        self._ring("out")

    def emit(self) -> None:
        """Emit all tiles, and wait for the last."""
        emitter, linear = self.emitter, self.linear
        rings = [f"{name} slot" for name, area in self.areas.items() if area.slots > 1]
        extents = [*self.walked, self.steps, self.step_bytes]
        names = ["chunk", "tile", "scales", "result", "operand", "acc slot", *rings]
        with emitter.registers(*names), emitter.lending(extents):
            for name in ("acc slot", *rings):
                emitter.asm.set(emitter.reg(name), 0)
            register, offset = self.weights
            emitter.move(emitter.reg("tile"), register, offset)
            emitter.move(emitter.reg("scales"), register, offset + linear.scales_offset)
            emitter.move(emitter.reg("result"), *self.output)
            emitter.start(self.walked)
            if self.statistics:
                emitter.passes(no_statistics(self.rows, Int8(self.areas["out"].addr), amax=self.statistics.get("magnitude"),
                                             sums=self.statistics[self.sums] if self.sums else None))
            with emitter.loop(self.columns.count):
                self._tile()
        emitter.asm.fence()
