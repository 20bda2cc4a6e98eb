"""Queries, keys and values of a chunk of tokens: positions, int8, and the cache.

Float32 rows of all heads come from DRAM. Queries and keys are turned by their angles (not in a model that adds its positions to
the embeddings), everything is rounded to int8 with a scale for each token and head. Queries stay in the scratchpad, keys and
values are appended to the cache in DRAM. Heads follow each other, with a token in each row; how it goes with one token, whose
heads are the rows: `sw.kernels.transformer.token_heads`.
"""

import math

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.kernels.passes.cache import quantize_int8, quantize_uint4
from sw.kernels.passes.command import Floats, Int8, Operand, Scalars, Uint4, vector_pass
from sw.kernels.passes.rope import rope
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.places import Address, Dram
from sw.kernels.transformer.shape import DecoderShape
from sw.kernels.transformer.token_heads import QueryArea, load_angles
from sw.layout import round_up

__all__ = ["KINDS", "ROTARY_SCALARS", "emit_rotary", "rotary_areas"]

KINDS = ("queries", "keys", "values")
RINGS = ("in slot", "out slot", "scales slot")
ROTARY_SCALARS = ("magnitude", "inverse", "low", "high", "zero")


def rotary_areas(config: AcceleratorConfig, shape: DecoderShape, start: int, *, turned: bool = True) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`; `turned`: with those for positions."""
    rows, row = shape.tokens, 4 * shape.head_dim
    return place_areas(config, "rotary", {
        "in": (rows * row, 2), **({"angles": (rows * row, 1), "turned": (rows * row, 1)} if turned else {}),
        "out": (rows * round_up(shape.head_dim, config.line_bytes), 2),
        "scales": (2 * _scales_bytes(config, shape), 2)}, start)


def _scales_bytes(config: AcceleratorConfig, shape: DecoderShape) -> int:
    """Return the scratchpad bytes from scales to zero points."""
    return round_up(4 * shape.tokens, config.line_bytes)


def emit_rotary(config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                scalars: dict[str, int], queries: QueryArea, *, rows: Operand, position: str, source: Dram,
                table: Address | None, cache: Address, kinds: tuple[str, ...] = KINDS) -> None:
    """Emit it; the rings are empty before and after.

    Parameters
    ----------
    rows : int or str
        Tokens of the chunk.
    position : str
        Register: the first token's.
    source : Dram
        The float32 rows.
    table, cache : (register, int)
        DRAM addresses of the table of angles (None: positions do not turn), and the layer's cache.
    kinds : tuple of str
        Which of `KINDS`.
    """
    if table is not None:
        load_angles(emitter, shape, areas["angles"], rows, position, table, [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])
    emission = _Emission(config, emitter, shape, areas, scalars, queries, rows, position, cache, turning=table is not None)
    first = 0
    with emitter.registers(*RINGS):         # which go on from kind to kind: slots may still be in use
        for ring in RINGS:
            emitter.asm.set(emitter.reg(ring), 0)
        for kind, heads in zip(KINDS, (shape.heads, shape.kv_heads, shape.kv_heads), strict=True):
            if kind in kinds:
                emission.heads(kind, heads, (source.addr[0], source.addr[1] + 4 * first * shape.head_dim), source.stride)
            first += heads
    emitter.asm.fence()
    if table is not None:
        emitter.asm.signal(Semaphore.PARAM_FREE)        # which the angles held


class _Emission:
    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                 scalars: dict[str, int], queries: QueryArea, rows: Operand, position: str, cache: Address, *, turning: bool):
        self.config, self.emitter, self.shape, self.areas, self.scalars = config, emitter, shape, areas, scalars
        self.queries, self.position, self.cache, self.rows = queries, position, cache, rows
        self.row = 4 * shape.head_dim
        self.turning = turning
        self.waiting = [Semaphore.PARAM_FULL] if turning else []        # of the first pass that reads the angles

    def heads(self, kind: str, heads: int, source: Address, stride: int) -> None:
        """Emit all heads of a kind, whose rows are `stride` apart."""
        emitter, queries = self.emitter, self.queries
        self.stride = stride
        with emitter.registers("tile", "target", "scale target" if kind == "queries" else "cache scale"):
            emitter.move(emitter.reg("tile"), *source)
            if kind == "queries":
                emitter.asm.set(emitter.reg("target"), queries.addr)
                emitter.asm.set(emitter.reg("scale target"), queries.scales)
            else:
                self._cache_addresses(kind)
            if self.waiting:
                self._head(kind)
                if heads > 1:
                    self._next_head(kind)
                    with emitter.loop(heads - 1):
                        self._head(kind)
                        self._next_head(kind)
            else:
                with emitter.loop(heads):
                    self._head(kind)
                    self._next_head(kind)

    def _cache_addresses(self, kind: str) -> None:
        """target ← where the first row goes, cache scale ← where its scale goes."""
        emitter, kv = self.emitter, self.shape.kv
        register, offset = self.cache
        target, scale = emitter.reg("target"), emitter.reg("cache scale")
        emitter.asm.shl(target, self.position, "r0", int(math.log2(kv.row_bytes)))
        emitter.asm.add(target, target, register, offset + kv.offset(kind))
        emitter.asm.shl(scale, self.position, "r0", 2)
        emitter.asm.add(scale, scale, register, offset + kv.offset("key scales" if kind == "keys" else "value scales"))

    def _next_head(self, kind: str) -> None:
        emitter, shape, queries = self.emitter, self.shape, self.queries
        emitter.move(emitter.reg("tile"), emitter.reg("tile"), self.row)
        if kind == "queries":
            emitter.move(emitter.reg("target"), emitter.reg("target"), shape.tokens * queries.row_bytes)
            emitter.move(emitter.reg("scale target"), emitter.reg("scale target"), 4 * shape.tokens)
        else:
            emitter.move(emitter.reg("target"), emitter.reg("target"), shape.kv.head_bytes)
            emitter.move(emitter.reg("cache scale"), emitter.reg("cache scale"), shape.kv.scales_bytes)

    def _head(self, kind: str) -> None:
        """One head."""
        emitter, shape, areas, scalars = self.emitter, self.shape, self.areas, self.scalars
        slot = (emitter.reg("in slot"), areas["in"].addr)
        emitter.command(Unit.LOAD, {
            "dram_addr": emitter.reg("tile"), "dram_stride": self.stride, "rows": self.rows,
            "row_bytes": self.row, "addr": slot, "stride": self.row, "transpose": 0}, [Semaphore.IN_FREE], [Semaphore.IN_FULL])
        values = Floats(slot, self.row)
        if kind == "values" or not self.turning:
            emitter.passes([vector_pass("magnitude", a=values, m=self.rows, n=shape.head_dim, amax_to=scalars["magnitude"])],
                           [Semaphore.IN_FULL])
        else:
            values = self._turn(slot[0])
        if kind == "queries":
            to, scales = Int8(emitter.reg("target"), self.queries.row_bytes), Scalars(emitter.reg("scale target"))
            emitter.passes(quantize_int8(self.rows, shape.head_dim, values, to, scales, amax=scalars["magnitude"],
                                         inverse=scalars["inverse"]), [], [Semaphore.IN_FREE])
        else:
            self._append(values)
        emitter.ring(emitter.reg("in slot"), areas["in"].slot_bytes, areas["in"].slots)

    def _turn(self, slot: str) -> Floats:
        """Turn the pairs (i, i + E/2); return where the result is."""
        emitter, areas, scalars = self.emitter, self.areas, self.scalars
        half = self.row // 2
        turned, angles, values = areas["turned"].addr, areas["angles"].addr, areas["in"].addr
        low, high = Floats((slot, values), self.row), Floats((slot, values + half), self.row)
        cos, sin = Floats(angles, self.row), Floats(angles + half, self.row)
        emitter.passes(rope(self.rows, self.shape.head_dim // 2, low, high, cos, sin, Floats(turned, self.row),
                            Floats(turned + half, self.row), amax=scalars["magnitude"]), [Semaphore.IN_FULL, *self.waiting])
        self.waiting = []
        return Floats(turned, self.row)

    def _append(self, values: Floats) -> None:
        """Round into the cache, with scales and zero points."""
        emitter, shape, areas, config = self.emitter, self.shape, self.areas, self.config
        kv, scalars = shape.kv, self.scalars
        out_row = round_up(shape.head_dim * kv.bits // 8, config.line_bytes)
        out: Operand = (emitter.reg("out slot"), areas["out"].addr)
        scales = (emitter.reg("scales slot"), areas["scales"].addr)
        to_zeros = _scales_bytes(config, shape)
        if kv.bits == 4:
            passes = quantize_uint4(self.rows, shape.head_dim, values, Uint4(out, out_row), Scalars(scales),
                                    Scalars((scales[0], scales[1] + to_zeros)), low=scalars["low"], high=scalars["high"],
                                    zero=scalars["zero"])
        else:
            passes = quantize_int8(self.rows, shape.head_dim, values, Int8(out, out_row), Scalars(scales),
                                   amax=scalars["magnitude"], inverse=scalars["inverse"])
        emitter.passes(passes, [Semaphore.OUT_FREE], [Semaphore.IN_FREE, Semaphore.OUT_FULL])
        emitter.command(Unit.STORE, {"dram_addr": emitter.reg("target"), "rows": self.rows, "dram_stride": kv.row_bytes,
                                     "row_bytes": shape.head_dim * kv.bits // 8, "addr": out, "stride": out_row},
                        [Semaphore.OUT_FULL])
        with emitter.registers("scale bytes"):
            self._scale_bytes()
            emitter.command(Unit.STORE, {
                "dram_addr": emitter.reg("cache scale"), "dram_stride": kv.offset("key zeros") - kv.offset("key scales"),
                "rows": 2 if kv.bits == 4 else 1, "row_bytes": emitter.reg("scale bytes"), "addr": scales, "stride": to_zeros},
                [], [Semaphore.OUT_FREE])
        for name in ("out", "scales"):
            emitter.ring(emitter.reg(f"{name} slot"), areas[name].slot_bytes, areas[name].slots)

    def _scale_bytes(self) -> None:
        """scale bytes ← four for each token."""
        emitter = self.emitter
        register = emitter.reg("scale bytes")
        if isinstance(self.rows, int):
            emitter.asm.set(register, 4 * self.rows)
        else:
            assert isinstance(self.rows, str)
            emitter.asm.shl(register, self.rows, "r0", 2)
