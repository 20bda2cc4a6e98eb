"""Rows of int8 in the scratchpad × weights that stream from DRAM → float32 rows, in DRAM or where they stay on the chip.

For each tile of columns: its weights come in chunks of K through a ring, or for one row past the scratchpad where the engine
takes them (`config.weight_stream`), the engine accumulates, the vector unit scales the result by the columns' and the rows'
scales, adds a bias or what was there (residual), or both, applies GELU, or turns pairs of tiles into SiLU(gate) · up.
While the vector unit is at one tile the engine is at the next.

Where phases overlap, weights are asked for before the operand is made, as many as the ring has room for.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from sw.kernels.transformer.places import Address, Dram, Place, Scratchpad
from sw.layout import round_up

__all__ = ["Semaphore", "emit_linear", "linear_areas", "linear_sizes"]


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
    READY = 14              # the vector unit has made a linear's operand, where phases overlap; the sequencer waits for it
    APPENDED = 15           # keys and values are in the cache; the sequencer waits for it


def linear_sizes(linear: Linear) -> dict[str, tuple[int, int]]:
    """Return slot bytes and slots of each of a linear's buffers, whose results go to DRAM."""
    rows = 4 * linear.m * (linear.tile_n // 2 if linear.gated else linear.tile_n)
    chunk = linear.layout.bytes_of(linear.chunk_k) * ceil_div(linear.tile_n, linear.layout.columns)
    sizes = {"weights": (chunk, WEIGHT_SLOTS),
             "scales": (4 * linear.tile_n * linear.parameter_rows, 2), "out": (rows, 2)}
    if linear.residual:
        sizes["in"] = (rows, 2)
    if linear.gated:
        sizes["gate"] = (rows, 1)
    return sizes


def linear_areas(config: AcceleratorConfig, linear: Linear, start: int) -> dict[str, Area]:
    """Return the scratchpad areas of a linear, above the operand that ends at `start`."""
    return place_areas(config, linear.name, linear_sizes(linear), start)


def emit_linear(config: AcceleratorConfig, emitter: StreamEmitter, linear: Linear, areas: dict[str, Area], *, rows: Operand,
                operand: Operand, operand_stride: int, weights: Address, row_scale: int, output: Place,
                statistics: Mapping[str, int] | None = None, span: tuple[int, int] | None = None,
                prepare: Callable[[], None] | None = None, meanwhile: Callable[[], None] | None = None) -> None:
    """Emit a linear; every ring is empty before and after it, unless phases overlap.

    Parameters
    ----------
    rows : int or str
        Rows, a number or a register.
    operand, operand_stride : Operand, int
        Rows of int8 in the scratchpad.
    weights : (register, int)
        DRAM address.
    row_scale : int
        First row scalar of the operand's scales.
    output : Place
        Of the results, of the span's first column.
    statistics : mapping of str to int, or None
        Row scalars that get what the phase behind needs of each output row: "magnitude", for a quantization; where there is a
        residual, that is, before a norm, "squares" (RMS norm) or "total" (layer norm), with "part" for one tile's. Of results
        that stay on the chip only "magnitude".
    span : (int, int) or None
        First column and how many, where not all are made: whole groups that share a stream of weights.
    prepare : callable or None
        Emits what makes the operand and gives `Semaphore.READY`: behind the first loads of weights.
    meanwhile : callable or None
        Emits what the vector unit does before it takes the first tile's results: behind the first loads as well.
    """
    _Emission(config, emitter, linear, areas, rows, operand, operand_stride, weights, row_scale, output, statistics or {},
              span or (0, linear.n), prepare, meanwhile).emit()


class _Emission:
    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, linear: Linear, areas: dict[str, Area], rows: Operand,
                 operand: Operand, operand_stride: int, weights: Address, row_scale: int, output: Place,
                 statistics: Mapping[str, int], span: tuple[int, int], prepare: Callable[[], None] | None,
                 meanwhile: Callable[[], None] | None):
        self.config, self.emitter, self.linear, self.areas, self.statistics = config, emitter, linear, areas, statistics
        self.stays = isinstance(output, Scratchpad)
        self.sums = "" if self.stays else next(
            (name for name in ("squares", "total") if linear.residual and name in self.statistics), "")
        self.rows, self.operand, self.operand_stride = rows, operand, operand_stride
        self.weights, self.row_scale, self.output = weights, row_scale, output
        self.prepare, self.meanwhile = prepare, meanwhile
        layout, (self.first_column, count) = linear.layout, span
        self.columns = Extent(dim="n", total=count, tile=linear.tile_n)
        self.groups = Extent(dim="n", total=ceil_div(count, layout.columns), tile=linear.tile_n // layout.columns)
        self.steps = Extent(dim="k", total=linear.k, tile=linear.chunk_k)
        self.step_bytes = Extent(dim="k", total=layout.bytes_of(linear.k), tile=layout.bytes_of(linear.chunk_k))
        self.group_bytes = Extent(dim="n", total=self.groups.total * layout.group_stride,
                                  tile=self.groups.tile * layout.group_stride)
        self.streams = linear.m == 1 and layout.mode > 0 and config.weight_stream
        self.scale_bytes = Extent(dim="n", total=4 * count if emitter.overlapping else 4 * round_up(count, linear.tile_n),
                                  tile=4 * linear.tile_n)
        self.walked = [self.columns, self.group_bytes if self.streams else self.groups,     # from tile to tile
                       *dict.fromkeys((self.scale_bytes, *self._stored))]
        self.acc_stride = linear.m
        self.acc_slot = config.accumulator_rows // 2
        self.chunks = self.steps.count
        self.ahead = min(self.chunks, WEIGHT_SLOTS) if emitter.overlapping else 1       # chunks loaded before the first is used

    def _ring(self, name: str) -> None:
        area = self.areas[name]
        self.emitter.ring(self.emitter.reg(f"{name} slot"), area.slot_bytes, area.slots)

    def _slot(self, name: str, offset: int = 0) -> Operand:
        area = self.areas[name]
        return (self.emitter.reg(f"{name} slot"), area.addr + offset) if area.slots > 1 else area.addr + offset

    @contextmanager
    def _first_tile(self) -> Iterator[None]:
        """Do the body of a `with` statement in the first tile only."""
        emitter = self.emitter
        with emitter.loop(1 if self.columns.count == 1 else emitter.reg("first")):
            yield

    def _prepare(self) -> None:
        """Make the operand, behind the loads that do not need it, and wait for it."""
        if self.prepare:
            with self._first_tile():
                self.prepare()
                self._no_statistics()           # the operand may have needed those of another linear
                self.emitter.asm.wait(Semaphore.READY)

    def _no_statistics(self) -> None:
        if self.statistics:
            unused = self.output.addr if isinstance(self.output, Scratchpad) else self.areas["out"].addr
            self.emitter.passes(no_statistics(self.rows, Int8(unused), amax=self.statistics.get("magnitude"),
                                              sums=self.statistics[self.sums] if self.sums else None))

    def _load_chunk(self) -> None:
        """Load a chunk of weights."""
        emitter, linear = self.emitter, self.linear
        emitter.set("load.dram_addr", emitter.reg("chunk"))
        emitter.set("load.dram_stride", linear.layout.group_stride)
        emitter.put_extent("load.rows", self.groups)
        emitter.put_extent("load.row_bytes", self.step_bytes)
        emitter.command(Unit.LOAD, {"addr": self._slot("weights"), "stride": self.step_bytes.tile, "transpose": 0},
                        [Semaphore.WEIGHTS_FREE], [Semaphore.WEIGHTS_FULL])
        self._ring("weights")
        if self.chunks > 1:
            emitter.move(emitter.reg("chunk"), emitter.reg("chunk"), self.step_bytes.tile)
            emitter.advance([self.step_bytes])

    def _multiply_chunk(self, *, first: bool, last: bool) -> None:
        """Multiply by a chunk of weights."""
        emitter, linear, config, weights = self.emitter, self.linear, self.config, self.areas["weights"]
        self._multiply(self.steps, {"activation_addr": (emitter.reg("operand"), 0),
                                    "weight_addr": (emitter.reg("read slot"), weights.addr),
                                    "weight_tile_stride": self.step_bytes.tile, "accumulate": int(not first),
                                    "mode": linear.layout.mode},
                       [Semaphore.WEIGHTS_FULL, *([Semaphore.ACC_FREE] if first else [])],
                       [Semaphore.WEIGHTS_FREE, *([Semaphore.ACC_FULL] if last else [])])
        emitter.ring(emitter.reg("read slot"), weights.slot_bytes, weights.slots)
        if not last:
            emitter.move(emitter.reg("operand"), emitter.reg("operand"),
                         linear.chunk_k // config.rows * config.activation_slot_bytes)
            emitter.advance([self.steps])

    def _stream(self) -> None:
        """Let all weights of a tile go from DRAM into the engine, whose command waits for nothing but room for its results."""
        emitter, linear = self.emitter, self.linear
        emitter.put_extent("load.row_bytes", self.group_bytes)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("tile"), "dram_stride": 0, "rows": 1, "addr": 0, "stride": 0,
                                    "transpose": 0, "stream": 1})
        emitter.set("load.stream", 0)
        self._prepare()
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

    def _repeat(self, count: int, *commands: Callable[[], None]) -> None:
        """Emit commands `count` times."""
        if count > 0:
            with self.emitter.loop(count):
                for command in commands:
                    command()

    def _chunks(self) -> None:
        """Multiply by the weights of a tile, a chunk after the other, through the scratchpad."""
        emitter = self.emitter

        def middle() -> None:
            self._multiply_chunk(first=False, last=False)

        emitter.move(emitter.reg("chunk"), emitter.reg("tile"))
        emitter.set_register("operand", self.operand)
        emitter.start([self.steps, self.step_bytes])
        self._repeat(self.ahead, self._load_chunk)
        self._prepare()
        self._multiply_chunk(first=True, last=self.chunks == 1)
        if self.chunks == 1:
            return
        left = self.chunks - self.ahead                 # loads
        if self.ahead == 1:
            self._repeat(left - 1, self._load_chunk, middle)
            self._load_chunk()
        else:
            self._repeat(left, self._load_chunk, middle)
            self._repeat(self.ahead - 2, middle)
        self._multiply_chunk(first=False, last=True)

    def _parameters(self) -> None:
        """Load the columns' scales, biases and factors of the residual."""
        emitter, linear = self.emitter, self.linear
        emitter.set("load.dram_stride", linear.parameter_bytes if linear.bias else 0)
        emitter.put_extent("load.row_bytes", self.scale_bytes)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("scales"), "rows": linear.parameter_rows,
                                    "addr": self._slot("scales"), "stride": 4 * linear.tile_n if linear.bias else 0,
                                    "transpose": 0},
                        [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])

    def _tile(self) -> None:
        """One tile of columns."""
        emitter, linear = self.emitter, self.linear
        if self.stays:              # the last results wait for nothing but the engine
            self._parameters()
        if self.streams:
            self._stream()
        else:
            self._chunks()
        if not self.stays:
            self._parameters()
        if self.meanwhile:
            with self._first_tile():
                self.meanwhile()
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
        if self._once:
            emitter.asm.set(emitter.reg("first"), 0)

    @property
    def _once(self) -> bool:
        """Something is done in the first of several tiles only."""
        return self.columns.count > 1 and bool(self.prepare or self.meanwhile)

    @property
    def _stored(self) -> list[Extent]:
        """Bytes of a stored row."""
        if self.linear.gated or self.stays:
            return []
        return [Extent(dim="n", total=4 * self.linear.n, tile=4 * self.linear.tile_n)]

    def _sums(self, columns: int = 0) -> tuple[Accumulator, Floats]:
        """Return the tile's sums and its columns' scales, from a column of the tile on."""
        rows = (self.emitter.reg("acc slot"), columns // self.config.columns * self.acc_stride)
        return Accumulator(rows, self.acc_stride), Floats(self._slot("scales", 4 * columns))

    def _result(self, stride: int) -> Floats:
        """Return where a tile's results go: where they stay, or a slot from which they are stored."""
        if isinstance(self.output, Scratchpad):
            return Floats(self.emitter.reg("result"), self.output.stride)
        return Floats(self._slot("out"), stride)

    def _dequantize(self) -> None:
        emitter, linear = self.emitter, self.linear
        stride = 4 * linear.tile_n
        wait, signal = [Semaphore.ACC_FULL, Semaphore.PARAM_FULL], [Semaphore.ACC_FREE, Semaphore.PARAM_FREE]
        biases = Floats(self._slot("scales", 4 * linear.tile_n))
        before = biases if linear.bias else None
        out = self._result(stride)
        if isinstance(self.output, Dram):
            wait, signal = [*wait, Semaphore.OUT_FREE], [*signal, Semaphore.OUT_FULL]
        if linear.residual and isinstance(self.output, Dram):
            emitter.put_extent("load.row_bytes", self._stored[0])
            emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("result"), "dram_stride": self.output.stride, "rows": self.rows,
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
        elif linear.residual:
            before = out
        sums, scales = self._sums()
        magnitude = self.statistics.get("magnitude")
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
        if isinstance(self.output, Dram):
            if linear.residual:
                self._ring("in")
            emitter.put_extent("store.row_bytes", self._stored[0])
            self._store(self.output, stride)

    def _gate(self) -> None:
        emitter, linear = self.emitter, self.linear
        half = linear.tile_n // 2
        stride = 4 * half
        gate, out = Floats(self._slot("gate"), stride), self._result(stride)
        sums, scales = self._sums()
        limits = self.linear.limits or (None, None)
        emitter.passes(silu(self.rows, half, sums, gate, columns=scales, tokens=self.row_scale, limit=limits[0]),
                       [Semaphore.ACC_FULL, Semaphore.PARAM_FULL])
        sums, scales = self._sums(half)
        amax = self.statistics.get("magnitude")
        stays = isinstance(self.output, Scratchpad)
        emitter.passes(gated(self.rows, half, sums, gate, out, columns=scales, tokens=self.row_scale, amax=amax, seed=amax,
                             limit=limits[1]),
                       [] if stays else [Semaphore.OUT_FREE],
                       [Semaphore.ACC_FREE, Semaphore.PARAM_FREE, *([] if stays else [Semaphore.OUT_FULL])])
        if isinstance(self.output, Dram):
            emitter.set("store.row_bytes", 4 * half)
            self._store(self.output, stride)

    def _store(self, output: Dram, stride: int) -> None:
        emitter = self.emitter
        emitter.command(Unit.STORE, {"dram_addr": emitter.reg("result"), "dram_stride": output.stride, "rows": self.rows,
                                     "addr": self._slot("out"), "stride": stride}, [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])
        self._ring("out")

    def _begin(self) -> None:
        """Set the registers of what is walked from tile to tile."""
        emitter, linear, output = self.emitter, self.linear, self.output
        register, offset = self.weights
        skipped = self.first_column // linear.layout.columns * linear.layout.group_stride
        emitter.move(emitter.reg("tile"), register, offset + skipped)
        emitter.move(emitter.reg("scales"), register, offset + linear.scales_offset + 4 * self.first_column)
        if isinstance(output, Scratchpad):
            emitter.asm.set(emitter.reg("result"), output.addr)
        else:
            emitter.move(emitter.reg("result"), *output.addr)
        if self._once:
            emitter.asm.set(emitter.reg("first"), 1)
        emitter.start(self.walked)

    def emit(self) -> None:
        """Emit all tiles, and wait for the last."""
        emitter = self.emitter
        rings = [f"{name} slot" for name, area in self.areas.items() if area.slots > 1]
        extents = [*self.walked, self.steps, self.step_bytes]
        names = ["chunk", "tile", "scales", "result", "operand", *(["first"] if self._once else [])]
        with emitter.registers(*names), emitter.lending(extents), emitter.rings("acc slot", "read slot", *rings):
            self._begin()
            if not self.prepare:
                self._no_statistics()
            with emitter.loop(self.columns.count):
                self._tile()
        emitter.end_phase()
