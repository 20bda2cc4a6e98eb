"""Rows of int8 in the scratchpad × weights that stream from DRAM → float32 rows, in DRAM or where they stay on the chip.

For each tile of columns: its weights come in chunks of K through a ring, or for one row past the scratchpad where the engine
takes them (`config.weight_stream`), the engine accumulates, the vector unit scales the result by the columns' and the rows'
scales, adds a bias or what was there (residual), or both, applies GELU, or turns pairs of tiles into SiLU(gate) · up.
While the vector unit is at one tile the engine is at the next.

Where phases overlap, weights are asked for before the operand is made, as many as the ring has room for.
"""

from collections.abc import Callable, Mapping
from typing import Any

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Unit
from sw.kernels.passes.activations import add, gated, gelu, silu
from sw.kernels.passes.command import Accumulator, Floats, Operand
from sw.kernels.passes.norms import add_rows
from sw.kernels.passes.quantization import dequantize
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear_products import LinearProducts
from sw.kernels.transformer.linear_shape import WEIGHT_SLOTS, Linear
from sw.kernels.transformer.places import Address, Dram, Place, Scratchpad
from sw.kernels.transformer.semaphores import Semaphore

__all__ = ["Semaphore", "emit_linear", "linear_areas", "linear_sizes"]


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
                make_operand: Callable[[], None] | None = None, make_row_scale: Callable[[], None] | None = None,
                meanwhile: Callable[[], None] | None = None) -> None:
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
    make_operand : callable or None
        Emits what makes the operand and gives `Semaphore.READY`: behind the first loads of weights.
    make_row_scale, meanwhile : callable or None
        Emit what the vector unit does before it takes the first tile's results: behind the engine's first command.
    """
    _Emission(config, emitter, linear, areas, rows, operand, operand_stride, weights, row_scale, output, statistics or {},
              span or (0, linear.n), make_operand, make_row_scale, meanwhile).emit()


class _Emission(LinearProducts):
    """Products, and what the vector unit makes of them."""

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
        self._before_results()
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
            if self.statistics and not emitter.overlapping:
                self._no_statistics()
            with emitter.loop(self.columns.count):
                self._tile()
        emitter.end_phase()
