"""Attention of a chunk's queries over the cache: scores, online softmax and values, head by head, tile by tile of keys.

The engine multiplies queries by a tile of keys; the vector unit scales the scores by both scales, masks what lies behind each token, and makes
2^(t − m) with m the row's maximum so far. Probabilities times the values' scales are rounded to int8 with a scale for each row and
tile, the engine multiplies them by the values, and the result is added to what earlier tiles gave, scaled by 2^(m_before − m). Scores
stay in the accumulator; only outputs leave for DRAM. Buffers do not depend on the context's length.

Source: Milakov and Gimelshein, Online normalizer calculation for softmax, 2018; Dao et al., FlashAttention, 2022. We differ in base 2,
with log2(e)/√E folded into the queries' scales, and in the rounding of probabilities.
"""

import math

from hw.config import AcceleratorConfig
from hw.isa import Dataflow, RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import Operand, StreamEmitter, float_bits
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.quantize import emit_inverse
from sw.kernels.transformer.rotary import QueryArea
from sw.kernels.transformer.shape import DecoderShape
from sw.layout import round_up

__all__ = ["ATTENTION_SCALARS", "attention_areas", "attention_rows", "emit_attention"]

ATTENTION_SCALARS = ("query scale", "before", "maximum", "correction", "total", "part", "magnitude", "inverse")


def attention_rows(shape: DecoderShape) -> int:
    """Return the rows of a command: tokens, or of one token the query heads that share keys."""
    return shape.repeat if shape.tokens == 1 else shape.tokens


def attention_areas(config: AcceleratorConfig, shape: DecoderShape, start: int) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`."""
    rows, tile, line = attention_rows(shape), shape.key_tile, config.line_bytes
    return place_areas(config, "attention", {
        "keys": (shape.head_dim * tile, 2), "values": (tile * round_up(shape.head_dim, line), 2), "scales": (2 * 4 * tile, 2),
        "probabilities": (4 * rows * tile, 1), "rounded": (rows * tile, 1), "out": (4 * rows * shape.head_dim, 2)}, start)


def emit_attention(config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                   scalars: dict[str, int], queries: QueryArea, *, rows: Operand, position: str, cache: tuple[str, int],
                   output: tuple[str, int]) -> None:
    """Emit it; the rings are empty before and after.

    Parameters
    ----------
    rows : int or str
        Tokens of the chunk.
    position : str
        Register: the first token's.
    cache, output : (register, int)
        DRAM addresses of the layer's cache, which holds the chunk already, and of the float32 rows that are made.
    """
    _Emission(config, emitter, shape, areas, scalars, queries, rows, position, cache, output).emit()


class _Emission:
    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                 scalars: dict[str, int], queries: QueryArea, rows: Operand, position: str, cache: tuple[str, int],
                 output: tuple[str, int]):
        self.config, self.emitter, self.shape, self.areas, self.scalars = config, emitter, shape, areas, scalars
        self.queries, self.tokens, self.position, self.cache, self.output = queries, rows, position, cache, output
        self.single = shape.tokens == 1
        self.rows: Operand = shape.repeat if self.single else rows
        self.row_limit = attention_rows(shape)
        self.values_row = round_up(shape.head_dim, config.line_bytes)

    def emit(self) -> None:
        """Emit all heads, and wait for the last."""
        emitter, shape, kv = self.emitter, self.shape, self.shape.kv
        heads = 1 if self.single else shape.repeat
        names = ["key head", "scale head", "query", "query scale", "out column", "keys slot", "values slot", "scales slot",
                 "out slot", "end", "left", "key tile", "scale tile"]
        with emitter.registers(*names):
            for name in names[5:9]:
                emitter.asm.set(emitter.reg(name), 0)
            register, offset = self.cache
            emitter.move(emitter.reg("key head"), register, offset)
            emitter.move(emitter.reg("scale head"), register, offset + kv.offset("key scales"))
            emitter.asm.set(emitter.reg("query"), self.queries.addr)
            emitter.asm.set(emitter.reg("query scale"), self.queries.scales)
            emitter.move(emitter.reg("out column"), *self.output)
            if isinstance(self.tokens, int):
                emitter.move(emitter.reg("end"), self.position, self.tokens)
            else:
                assert isinstance(self.tokens, str)
                emitter.asm.add(emitter.reg("end"), self.position, self.tokens)
            with emitter.loop(kv.heads):
                with emitter.loop(heads):
                    self._head()
                    emitter.move(emitter.reg("query"), emitter.reg("query"), self.row_limit * self.queries.row_bytes)
                    emitter.move(emitter.reg("query scale"), emitter.reg("query scale"), 4 * self.row_limit)
                    emitter.move(emitter.reg("out column"), emitter.reg("out column"),
                                 4 * shape.head_dim * (shape.repeat if self.single else 1))
                emitter.move(emitter.reg("key head"), emitter.reg("key head"), kv.head_bytes)
                emitter.move(emitter.reg("scale head"), emitter.reg("scale head"), kv.scales_bytes)
        emitter.asm.fence()

    def _head(self) -> None:
        """The queries of one head, or of one token the heads that share keys."""
        emitter, shape, scalars = self.emitter, self.shape, self.scalars
        emitter.vector({"source": VectorSource.SCALAR, "m": self.rows, "n": 1, "a_addr": emitter.reg("query scale"), "a_stride": 4,
                        "scale": float_bits(math.log2(math.e) / math.sqrt(shape.true_head_dim)), "max": 1,
                        "max_addr": scalars["query scale"]})
        emitter.move(emitter.reg("left"), emitter.reg("end"))
        emitter.move(emitter.reg("key tile"), emitter.reg("key head"))
        emitter.move(emitter.reg("scale tile"), emitter.reg("scale head"))
        self._tile(first=True)
        with emitter.registers("more"):
            more = emitter.reg("more")                  # tiles but the first
            emitter.asm.add(more, emitter.reg("end"), "r0", -1)
            emitter.asm.shr(more, more, "r0", int(math.log2(shape.key_tile)))
            with emitter.loop(more):
                self._next_tile()
                self._tile(first=False)
        self._finish()

    def _next_tile(self) -> None:
        emitter, shape = self.emitter, self.shape
        emitter.asm.sub(emitter.reg("left"), emitter.reg("left"), "r0", shape.key_tile)
        emitter.move(emitter.reg("key tile"), emitter.reg("key tile"), shape.key_tile * shape.kv.row_bytes)
        emitter.move(emitter.reg("scale tile"), emitter.reg("scale tile"), 4 * shape.key_tile)

    def _slot(self, name: str, offset: int = 0) -> Operand:
        area = self.areas[name]
        return (self.emitter.reg(f"{name} slot"), area.addr + offset) if area.slots > 1 else area.addr + offset

    def _loads(self) -> None:
        """Load a tile: keys turned around, scales of keys and values, values."""
        emitter, shape, kv = self.emitter, self.shape, self.shape.kv
        tile = shape.key_tile
        emitter.at_most("load.rows", "left", tile)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("key tile"), "dram_stride": kv.row_bytes, "row_bytes": shape.head_dim,
                                    "addr": self._slot("keys"), "stride": tile, "transpose": 1},
                        [Semaphore.IN_FREE], [Semaphore.IN_FULL])
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("scale tile"), "dram_stride": kv.heads * kv.scales_bytes, "rows": 2,
                                    "row_bytes": 4 * tile, "addr": self._slot("scales"), "stride": 4 * tile, "transpose": 0},
                        [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])
        emitter.at_most("load.rows", "left", tile)
        emitter.command(Unit.LOAD, {"dram_addr": (emitter.reg("key tile"), kv.offset("values")), "dram_stride": kv.row_bytes,
                                    "row_bytes": shape.head_dim, "addr": self._slot("values"), "stride": self.values_row,
                                    "transpose": 0}, [Semaphore.VALUES_FREE], [Semaphore.VALUES_FULL])

    def _scores(self) -> dict[str, Operand]:
        """Return the fields of a pass over scaled and masked scores; sets vector.n."""
        emitter, scalars = self.emitter, self.scalars
        emitter.at_most("vector.n", "left", self.shape.key_tile)
        fields: dict[str, Operand] = {
            "source": VectorSource.ACCUMULATOR, "m": self.rows, "acc_addr": 0, "acc_tile_stride": self.row_limit, "b_en": 1,
            "b_addr": self._slot("scales"), "b_stride": 0, "row0_en": 1, "row0_addr": scalars["query scale"]}
        if not self.single:             # row 0 sees the tokens up to its own: all of the tile but those that the chunk adds behind it
            with emitter.registers("visible"):
                visible = emitter.reg("visible")
                emitter.asm.add(visible, self.position, "r0", 1)
                emitter.asm.sub(visible, visible, emitter.reg("end"))
                emitter.asm.add(visible, visible, emitter.reg("left"))
                emitter.at_most("vector.mask", "visible", self.shape.key_tile)
            fields |= {"mask_en": 1, "mask_step": 1}
        return fields

    def _tile(self, *, first: bool) -> None:
        """One tile of keys and values."""
        emitter, shape, config, scalars = self.emitter, self.shape, self.config, self.scalars
        tile, out_row = shape.key_tile, 4 * shape.head_dim
        self._loads()
        emitter.at_most("matrix.n", "left", tile)
        emitter.command(Unit.MATRIX, {
            "activation_addr": emitter.reg("query"), "activation_stride": self.queries.row_bytes,
            "activation_tile_stride": config.activation_slot_bytes, "weight_addr": self._slot("keys"), "weight_stride": tile,
            "weight_tile_stride": config.weight_slot_bytes, "acc_addr": 0, "acc_tile_stride": self.row_limit, "m": self.rows,
            "k": shape.head_dim, "dataflow": int(Dataflow.WS), "accumulate": 0, "serialize": 0,
        }, [Semaphore.IN_FULL, Semaphore.ACC_FREE], [Semaphore.IN_FREE, Semaphore.ACC_FULL])
        row: dict[str, Operand] = {"source": VectorSource.ROW, "m": self.rows, "n": 1}
        maximum = scalars["before" if first else "maximum"]
        fields = self._scores() | {"max": 1, "max_addr": maximum}
        if not first:
            fields |= {"row1_use": RowUse.SEED, "row1_addr": scalars["before"]}
        emitter.vector(fields, [Semaphore.ACC_FULL, Semaphore.PARAM_FULL])
        below: dict[str, Operand] = {"middle": 1, "row1_use": RowUse.MIDDLE, "row1_addr": maximum, "row1_negate": 1,
                                     "function": VectorFunction.EXP2}
        if not first:
            emitter.vector(row | below | {"row0_addr": scalars["before"], "max": 1, "max_addr": scalars["correction"]})
            emitter.vector(row | {"row0_addr": scalars["total"], "post": 1, "row1_use": RowUse.POST,
                                  "row1_addr": scalars["correction"], "max": 1, "max_addr": scalars["total"]})
            emitter.vector(row | {"row0_addr": scalars["maximum"], "max": 1, "max_addr": scalars["before"]})
        emitter.vector(self._scores() | below | {
            "post": 1, "c_use": StreamUse.POST, "c_addr": self._slot("scales", 4 * tile), "c_stride": 0, "sum": 1,
            "sum_addr": scalars["total" if first else "part"], "max": 2, "max_addr": scalars["magnitude"],
            "output": VectorOutput.FLOAT32, "addr": self.areas["probabilities"].addr, "stride": 4 * tile},
            [], [Semaphore.ACC_FREE, Semaphore.PARAM_FREE])
        if not first:
            emitter.vector(row | {"row0_addr": scalars["total"], "middle": 1, "row1_use": RowUse.MIDDLE, "row1_addr": scalars["part"],
                                  "max": 1, "max_addr": scalars["total"]})
        emit_inverse(emitter, self.rows, scalars["magnitude"], scalars["inverse"])
        emitter.at_most("vector.n", "left", tile)
        emitter.vector({"source": VectorSource.FLOAT32, "m": self.rows, "a_addr": self.areas["probabilities"].addr,
                        "a_stride": 4 * tile, "row0_en": 1, "row0_addr": scalars["inverse"], "output": VectorOutput.INT8,
                        "addr": self.areas["rounded"].addr, "stride": tile}, [], [Semaphore.OPERAND])
        self._ring("scales")
        emitter.at_most("matrix.k", "left", tile)
        half = config.accumulator_rows // 2
        emitter.command(Unit.MATRIX, {
            "activation_addr": self.areas["rounded"].addr, "activation_stride": tile, "weight_addr": self._slot("values"),
            "weight_stride": self.values_row, "acc_addr": half, "n": shape.head_dim,
        }, [Semaphore.OPERAND, Semaphore.VALUES_FULL, Semaphore.ACC_FREE], [Semaphore.VALUES_FREE, Semaphore.ACC_FULL])
        self._ring("keys")
        self._ring("values")
        out = self._slot("out")
        result: dict[str, Operand] = {
            "source": VectorSource.ACCUMULATOR, "m": self.rows, "n": shape.head_dim, "acc_addr": half,
            "acc_tile_stride": self.row_limit, "scale": float_bits(1 / 127), "row0_en": 1, "row0_addr": scalars["magnitude"],
            "output": VectorOutput.FLOAT32, "addr": out, "stride": out_row}
        if first:
            emitter.vector(result, [Semaphore.ACC_FULL, Semaphore.OUT_FREE], [Semaphore.ACC_FREE])
        else:
            emitter.vector({"source": VectorSource.FLOAT32, "m": self.rows, "n": shape.head_dim, "a_addr": out, "a_stride": out_row,
                            "row0_en": 1, "row0_addr": scalars["correction"], "output": VectorOutput.FLOAT32, "addr": out,
                            "stride": out_row})
            emitter.vector(result | {"middle": 1, "c_use": StreamUse.MIDDLE, "c_addr": out, "c_stride": out_row},
                           [Semaphore.ACC_FULL], [Semaphore.ACC_FREE])

    def _ring(self, name: str) -> None:
        area = self.areas[name]
        self.emitter.ring(self.emitter.reg(f"{name} slot"), area.slot_bytes, area.slots)

    def _finish(self) -> None:
        """Divide by the total, and store."""
        emitter, shape, scalars = self.emitter, self.shape, self.scalars
        out, out_row = self._slot("out"), 4 * shape.head_dim
        emitter.vector({"source": VectorSource.ROW, "m": self.rows, "n": 1, "row0_addr": scalars["total"],
                        "function": VectorFunction.RECIPROCAL, "max": 1, "max_addr": scalars["inverse"]})
        emitter.vector({"source": VectorSource.FLOAT32, "m": self.rows, "n": shape.head_dim, "a_addr": out, "a_stride": out_row,
                        "row0_en": 1, "row0_addr": scalars["inverse"], "output": VectorOutput.FLOAT32, "addr": out,
                        "stride": out_row}, [], [Semaphore.OUT_FULL])
        emitter.command(Unit.STORE, {"dram_addr": emitter.reg("out column"),
                                     "dram_stride": out_row if self.single else 4 * shape.attention_width, "rows": self.rows,
                                     "row_bytes": out_row, "addr": out, "stride": out_row},
                        [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])
        self._ring("out")
