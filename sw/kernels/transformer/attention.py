"""Attention of a chunk's queries over the cache: scores, online softmax and values, head by head, tile by tile of keys.

The engine multiplies queries by a tile of keys; the vector unit makes probabilities of the scores
(`sw.kernels.passes.attention`: base 2, a reference of each tile), times the values' scales, in int8 with a scale for each row
and tile; the engine multiplies them by the values, and the result is added to what earlier tiles gave. Scores stay on the chip;
only outputs leave for DRAM, and those of one token not even they where they fit. Buffers do not depend on the context's length.
"""

import math
from dataclasses import replace

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Dataflow, Unit
from sw.kernels.passes.attention import SoftmaxRows, accumulate, context, denominator, probabilities, reference, update
from sw.kernels.passes.cache import negated_zero_points, unpack_uint4, zero_points
from sw.kernels.passes.command import Accumulator, Floats, Int8, Mask, Operand, Scalars, Uint4, vector_pass
from sw.kernels.passes.quantization import INT8_MAX, inverse_scale, quantize
from sw.kernels.transformer.areas import Area, AreaError, place_areas, row_scalars
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.places import Address, Dram, Place, Scratchpad
from sw.kernels.transformer.quantize import SCALARS
from sw.kernels.transformer.shape import DecoderShape, Sizes, decoder_shape
from sw.kernels.transformer.token_heads import SCALE_PLACE, QueryArea, head_scalars, query_area
from sw.layout import round_up

__all__ = [
    "attention_areas", "attention_rows", "attention_scalars", "attention_sizes", "emit_attention", "fitted_shape",
    "token_scalars",
]

ATTENTION_SCALARS: tuple[str, ...] = ("query scale", "largest", "partial", "alpha", "before", "floor", "magnitude", "inverse")


def attention_rows(shape: DecoderShape) -> int:
    """Return the rows of a command: tokens, or of one token the query heads that share keys."""
    return shape.repeat if shape.tokens == 1 else shape.tokens


def attention_sizes(config: AcceleratorConfig, shape: DecoderShape) -> dict[str, tuple[int, int]]:
    """Return slot bytes and slots of each buffer, of outputs that go to DRAM."""
    rows, tile, line = attention_rows(shape), shape.key_tile, config.line_bytes
    row = round_up(shape.head_dim, line)
    packed = {"negated": (tile, 1), "unpacked": (tile * row, 1)} if shape.kv.bits == 4 else {}
    return packed | {
        "keys": (shape.head_dim * tile, 2), "values": (tile * round_up(shape.head_dim * shape.kv.bits // 8, line), 2),
        "cache scales": (_parameters(shape) * 4 * tile, 2),
        "probabilities": (4 * rows * tile, 1), "rounded": (rows * tile, 1), "total": (4 * rows, 1),
        "out": (4 * rows * shape.head_dim, 2)}


def attention_areas(config: AcceleratorConfig, shape: DecoderShape, start: int) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`."""
    return place_areas(config, "attention", attention_sizes(config, shape), start)


def fitted_shape(config: AcceleratorConfig, model: Sizes, tokens: int, ffn_tile: int, context: int | None = None,
                 kv: str = "int8") -> DecoderShape:
    """Return `decoder_shape` with the largest tile of keys whose buffers fit."""
    shape = decoder_shape(config, model, tokens, ffn_tile, context=context, kv=kv)
    while True:
        try:
            attention_areas(config, shape, query_area(config, shape, 0).end)
            attention_scalars(config, shape)
            return shape
        except AreaError:
            if shape.key_tile <= max(tokens, config.columns, config.beat_bytes):
                raise
            shape = replace(shape, key_tile=shape.key_tile // 2)


def attention_scalars(config: AcceleratorConfig, shape: DecoderShape) -> dict[str, int]:
    """Return the row scalars; of uint4 values, "zeros" of a tile's tokens as well."""
    rows = attention_rows(shape)
    names = ATTENTION_SCALARS
    if shape.kv.bits == 4:
        names += tuple(f"zeros {i}" if i else "zeros" for i in range(ceil_div(shape.key_tile, rows)))
    return row_scalars(config, "attention", names, rows)


def token_scalars(config: AcceleratorConfig, shape: DecoderShape) -> tuple[dict[str, int], dict[str, int]]:
    """Return the row scalars of attention and of the heads of one token; "minus one" of these, set once, lies behind both."""
    attention, (names, rows) = attention_scalars(config, shape), head_scalars(shape)
    rotary = row_scalars(config, "rotary", names, rows, len(SCALARS))
    used = max(*attention.values(), *rotary.values()) + max(rows, shape.repeat)
    return attention, rotary | row_scalars(config, "rotary", ("minus one",), shape.heads + shape.kv_heads, used)


def _parameters(shape: DecoderShape) -> int:
    """Return the float32 of a token: scales of key and value, and their zero points."""
    return 4 if shape.kv.bits == 4 else 2


def emit_attention(config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                   scalars: dict[str, int], queries: QueryArea, *, rows: Operand, position: str, cache: Address, output: Place,
                   length: str | None = None) -> None:
    """Emit it; the rings are empty before and after, unless phases overlap.

    Parameters
    ----------
    rows : int or str
        Tokens of the chunk.
    position : str
        Register: the first token's.
    cache : (register, int)
        DRAM address of the layer's cache, which holds the chunk already.
    output : Place
        Of the float32 rows that are made; of one token they may stay on the chip.
    length : str or None
        Register: tokens of the cache that every query attends to; None: those up to its own (causal).
    """
    _Emission(config, emitter, shape, areas, scalars, queries, rows, position, cache, output, length).emit()


class _Emission:
    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                 scalars: dict[str, int], queries: QueryArea, rows: Operand, position: str, cache: Address, output: Place,
                 length: str | None):
        self.config, self.emitter, self.shape, self.areas, self.scalars = config, emitter, shape, areas, scalars
        self.queries, self.tokens, self.position, self.cache, self.output = queries, rows, position, cache, output
        self.single, self.length = shape.tokens == 1, length
        self.masked = length is None and not self.single
        self.rows: Operand = shape.repeat if self.single else rows
        self.row_limit = attention_rows(shape)
        self.softmax = SoftmaxRows(**{name: scalars[name] for name in ("largest", "partial", "alpha", "before", "floor")})
        self.packed = shape.kv.bits == 4
        self.values_row = round_up(shape.head_dim * shape.kv.bits // 8, config.line_bytes)      # as they are loaded

    def emit(self) -> None:
        """Emit all heads, and wait for the last."""
        emitter, shape, kv = self.emitter, self.shape, self.shape.kv
        heads = 1 if self.single else shape.repeat
        names = ["key head", "scale head", "query", "query scale", "out column", "end", "left", "here", "key tile", "scale tile",
                 *(["visible"] if self.masked else [])]
        rings = [f"{name} slot" for name, area in self.areas.items() if area.slots > 1]
        with emitter.registers(*names), emitter.rings("acc slot", *rings):
            register, offset = self.cache
            emitter.move(emitter.reg("key head"), register, offset)
            emitter.move(emitter.reg("scale head"), register, offset + kv.offset("key scales"))
            emitter.asm.set(emitter.reg("query"), self.queries.addr)
            emitter.asm.set(emitter.reg("query scale"), self.queries.scales)
            if self.single:
                emitter.asm.add(emitter.reg("query scale"), emitter.reg("query scale"), emitter.reg(SCALE_PLACE))
            if isinstance(self.output, Dram):
                emitter.move(emitter.reg("out column"), *self.output.addr)
            else:
                emitter.asm.set(emitter.reg("out column"), self.output.addr)
            if self.length is not None:
                emitter.move(emitter.reg("end"), self.length)
            elif isinstance(self.tokens, int):
                emitter.move(emitter.reg("end"), self.position, self.tokens)
            else:
                assert isinstance(self.tokens, str)
                emitter.asm.add(emitter.reg("end"), self.position, self.tokens)
            with emitter.loop(kv.heads):
                with emitter.loop(heads):
                    self._head()
                    emitter.move(emitter.reg("query"), emitter.reg("query"), self.row_limit * self.queries.row_bytes)
                    emitter.move(emitter.reg("query scale"), emitter.reg("query scale"),
                                 self.queries.scale_stride * self.row_limit)
                    emitter.move(emitter.reg("out column"), emitter.reg("out column"),
                                 4 * shape.head_dim * (shape.repeat if self.single else 1))
                emitter.move(emitter.reg("key head"), emitter.reg("key head"), kv.head_bytes)
                emitter.move(emitter.reg("scale head"), emitter.reg("scale head"), kv.scales_bytes)
        emitter.end_phase()

    def _head(self) -> None:
        """The queries of one head, or of one token the heads that share keys."""
        emitter, shape, scalars = self.emitter, self.shape, self.scalars
        to = scalars["query scale"]
        emitter.passes([vector_pass("query scale", a=Scalars(emitter.reg("query scale"), self.queries.scale_stride), m=self.rows,
                                    scale=math.log2(math.e) / math.sqrt(shape.true_head_dim),
                                    max_to=to if self.single else None, sum_to=None if self.single else to)])
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
        """Load a tile: keys turned around, scales (and zero points) of keys and values, values."""
        emitter, shape, kv = self.emitter, self.shape, self.shape.kv
        tile, row_bytes = shape.key_tile, shape.head_dim * kv.bits // 8
        rows = emitter.reg("here")
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("key tile"), "dram_stride": kv.row_bytes, "rows": rows,
                                    "row_bytes": row_bytes, "addr": self._slot("keys"), "stride": tile, "transpose": 1,
                                    "unpack": int(self.packed)}, [Semaphore.IN_FREE], [Semaphore.IN_FULL])
        if self.single:
            emitter.put_times("load.row_bytes", rows, 2)                # of as many tokens as there are
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("scale tile"), "dram_stride": kv.heads * kv.scales_bytes,
                                    "rows": _parameters(shape), **({} if self.single else {"row_bytes": 4 * tile}),
                                    "addr": self._slot("cache scales"),
                                    "stride": 4 * tile, "transpose": 0, "unpack": 0},
                        [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])
        emitter.command(Unit.LOAD, {"dram_addr": (emitter.reg("key tile"), kv.offset("values")), "dram_stride": kv.row_bytes,
                                    "rows": rows, "row_bytes": row_bytes, "addr": self._slot("values"),
                                    "stride": self.values_row},
                        [Semaphore.VALUES_FREE], [Semaphore.VALUES_FULL])

    def _mask(self) -> Mask | None:
        """Return what row 0 sees of a tile, in a register: all but what the chunk adds behind its own token."""
        if not self.masked:
            return None
        emitter = self.emitter
        visible = emitter.reg("visible")
        emitter.asm.add(visible, self.position, "r0", 1)
        emitter.asm.sub(visible, visible, emitter.reg("end"))
        emitter.asm.add(visible, visible, emitter.reg("left"))
        emitter.asm.min(visible, visible, "r0", self.shape.key_tile)
        return Mask(visible, causal=True)

    def _tile(self, *, first: bool) -> None:
        """One tile of keys and values."""
        emitter, shape, config, scalars = self.emitter, self.shape, self.config, self.scalars
        tile = shape.key_tile
        here = emitter.reg("here")
        emitter.asm.min(here, emitter.reg("left"), "r0", tile)
        self._loads()
        emitter.command(Unit.MATRIX, {
            "activation_addr": emitter.reg("query"), "activation_stride": self.queries.row_bytes,
            "activation_tile_stride": config.activation_slot_bytes, "weight_addr": self._slot("keys"), "weight_stride": tile,
            "weight_tile_stride": config.weight_slot_bytes, "acc_addr": emitter.reg("acc slot"),
            "acc_tile_stride": self.row_limit, "m": self.rows, "n": here, "k": shape.head_dim, "dataflow": int(Dataflow.WS),
            "accumulate": 0, "serialize": 0, "mode": 0,
        }, [Semaphore.IN_FULL, Semaphore.ACC_FREE], [Semaphore.IN_FREE, *([] if self.packed else [Semaphore.ACC_FULL])])
        known = [Semaphore.PARAM_FULL]
        if self.packed:
            known = []
            self._correct_scores()
        rows, softmax, amax = self.rows, self.softmax, scalars["magnitude"]
        scores, keys, queries = self._sums(), Floats(self._slot("cache scales")), scalars["query scale"]
        mask = self._mask()
        unrounded = Floats(self.areas["probabilities"].addr, 4 * tile)
        emitter.passes(reference(rows, here, scores, softmax, keys=keys, queries=queries, mask=mask, first=first),
                       [Semaphore.ACC_FULL, *known])
        emitter.passes(probabilities(rows, here, scores, unrounded, softmax, keys=keys, queries=queries, mask=mask,
                                     values=Floats(self._slot("cache scales", 4 * tile)), amax=amax), [], [Semaphore.ACC_FREE])
        emitter.passes([*inverse_scale(rows, amax, scalars["inverse"], sooner=self.single),
                        *quantize(rows, here, unrounded, Int8(self.areas["rounded"].addr, tile), inverse=scalars["inverse"])],
                       [], [Semaphore.OPERAND])
        values: Operand = self._slot("values")
        if self.packed:
            values = self.areas["unpacked"].addr
            self._unpack_values(values)
        emitter.passes([*update(rows, softmax, first=first),
                        *denominator(rows, Scalars(self.areas["total"].addr), softmax, first=first)], [], [Semaphore.PARAM_FREE])
        self._ring("cache scales")
        self._other_sums()
        emitter.command(Unit.MATRIX, {
            "activation_addr": self.areas["rounded"].addr, "activation_stride": tile, "weight_addr": values,
            "weight_stride": round_up(shape.head_dim, config.line_bytes), "acc_addr": emitter.reg("acc slot"),
            "n": shape.head_dim, "k": here, "accumulate": 0,
        }, [Semaphore.OPERAND, Semaphore.ACC_FREE, Semaphore.UNPACKED if self.packed else Semaphore.VALUES_FULL],
            [Semaphore.ACC_FULL, *([] if self.packed else [Semaphore.VALUES_FREE])])
        self._ring("keys")
        self._ring("values")
        stays = isinstance(self.output, Scratchpad)
        emitter.passes(accumulate(rows, shape.head_dim, self._sums(), self._out(), softmax, values=1 / INT8_MAX, largest=amax,
                                  first=first),
                       [Semaphore.ACC_FULL, *([Semaphore.OUT_FREE] if first and not stays else [])], [Semaphore.ACC_FREE])
        self._other_sums()

    def _sums(self) -> Accumulator:
        """Return the half of the accumulator that the engine writes now."""
        return Accumulator(self.emitter.reg("acc slot"), self.row_limit)

    def _other_sums(self) -> None:
        """Go on to the other half."""
        self.emitter.asm.xor(self.emitter.reg("acc slot"), self.emitter.reg("acc slot"), "r0", self.config.accumulator_rows // 2)

    def _out(self) -> Floats:
        """Return where the head's rows go: where they stay, or a slot from which they are stored."""
        stays = isinstance(self.output, Scratchpad)
        return Floats(self.emitter.reg("out column") if stays else self._slot("out"), 4 * self.shape.head_dim)

    def _correct_scores(self) -> None:
        """Add queries · (−zero points of the keys): the same weights in all of k, as the zero point is of a whole key."""
        emitter, shape, here = self.emitter, self.shape, self.emitter.reg("here")
        zeros, negated = Floats(self._slot("cache scales", 2 * 4 * shape.key_tile)), self.areas["negated"].addr
        emitter.passes(negated_zero_points(1, here, zeros, Int8(negated)), [Semaphore.PARAM_FULL], [Semaphore.OPERAND])
        emitter.command(Unit.MATRIX, {"weight_addr": negated, "weight_stride": 0, "accumulate": 1},
                        [Semaphore.OPERAND], [Semaphore.ACC_FULL])

    def _unpack_values(self, to: Operand) -> None:
        """Values less their zero points, as int8."""
        emitter, shape, here = self.emitter, self.shape, self.emitter.reg("here")
        zeros = Scalars(self._slot("cache scales", 3 * 4 * shape.key_tile))
        packed = Uint4(self._slot("values"), self.values_row)
        unpacked = Int8(to, round_up(shape.head_dim, self.config.line_bytes))
        emitter.passes(zero_points(here, zeros, self.scalars["zeros"]))
        emitter.passes(unpack_uint4(here, shape.head_dim, packed, unpacked, zeros=self.scalars["zeros"]),
                       [Semaphore.VALUES_FULL], [Semaphore.VALUES_FREE, Semaphore.UNPACKED])

    def _ring(self, name: str) -> None:
        area = self.areas[name]
        self.emitter.ring(self.emitter.reg(f"{name} slot"), area.slot_bytes, area.slots)

    def _finish(self) -> None:
        """Divide by the total, and store what does not stay."""
        emitter, shape, scalars = self.emitter, self.shape, self.scalars
        out_row, rows = 4 * shape.head_dim, self._out()
        stays = isinstance(self.output, Scratchpad)
        emitter.passes(context(self.rows, shape.head_dim, rows, rows, total=Scalars(self.areas["total"].addr),
                               inverse=scalars["inverse"], sooner=self.single), [], [] if stays else [Semaphore.OUT_FULL])
        if stays:
            return
        emitter.command(Unit.STORE, {"dram_addr": emitter.reg("out column"),
                                     "dram_stride": out_row if self.single else 4 * shape.attention_width, "rows": self.rows,
                                     "row_bytes": out_row, "addr": self._slot("out"), "stride": out_row},
                        [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])
        self._ring("out")
