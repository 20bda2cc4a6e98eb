"""Queries, keys and values of one token: positions, int8, and the cache. Heads are the rows of every command.

Queries and keys are turned where they lie, then everything is rounded, with a scale for each head. Queries stay in the
scratchpad, keys and values are appended to the cache in DRAM. A scale there is a word in the beat of its head, which is loaded,
written into, and stored again.
"""

import math
from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.kernels.passes.cache import quantize_int8, quantize_uint4
from sw.kernels.passes.command import Floats, Int8, Operand, Pass, Scalars, Uint4, vector_pass
from sw.kernels.passes.rope import rope_in_place
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.places import Address, Dram, Place, Scratchpad
from sw.kernels.transformer.shape import DecoderShape
from sw.layout import round_up

__all__ = ["SCALE_PLACE", "QueryArea", "TokenHeads", "head_areas", "head_scalars", "head_sizes", "load_angles", "query_area"]

SCALE_PLACE = "place of the scale"
"""Purpose of a register, of programs of one token: where its scales lie inside of beats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryArea:
    """Where the queries of a chunk lie in the scratchpad: int8 rows, head after head, then their scales.

    Of one token, where the cache is int8, rows of keys and values lie behind those of queries, and so do their scales: each has a
    beat, in which `SCALE_PLACE` says where it is.

    Attributes
    ----------
    addr, row_bytes : int
    scales, scale_stride : int
        Address of the scales, float32, in the order of the rows.
    end : int
        First byte behind.
    """

    addr: int
    row_bytes: int
    scales: int
    scale_stride: int
    end: int


def query_area(config: AcceleratorConfig, shape: DecoderShape, addr: int, scales: int | None = None) -> QueryArea:
    """Return where queries lie from `addr` on; their scales behind them, or elsewhere."""
    row_bytes = round_up(shape.head_dim, max(config.activation_slot_bytes, config.line_bytes))
    rows, words, between = shape.heads * shape.tokens, shape.heads * shape.tokens, 4
    if shape.tokens == 1:
        between = config.beat_bytes
        rows += 0 if shape.kv.bits == 4 else 2 * shape.kv_heads
        words += 2 * shape.kv_heads * _words(shape)
    end = addr + round_up(rows * row_bytes, config.line_bytes)
    place = end if scales is None else scales
    return QueryArea(addr=addr, row_bytes=row_bytes, scales=place, scale_stride=between,
                     end=max(end, place + round_up(words * between, config.line_bytes)))


def _words(shape: DecoderShape) -> int:
    """Return the float32 of a key or value in the cache: its scale, and its zero point."""
    return 2 if shape.kv.bits == 4 else 1


def _packed_row(config: AcceleratorConfig, shape: DecoderShape) -> int:
    return round_up(shape.head_dim * shape.kv.bits // 8, config.line_bytes)


def head_sizes(config: AcceleratorConfig, shape: DecoderShape) -> dict[str, tuple[int, int]]:
    """Return slot bytes and slots of each buffer besides the queries', of rows that come from DRAM ("in")."""
    row, turned = 4 * shape.head_dim, shape.heads + shape.kv_heads
    packed = {"packed": (2 * shape.kv_heads * _packed_row(config, shape), 1)} if shape.kv.bits == 4 else {}
    return {"in": ((turned + shape.kv_heads) * row, 1), "angles": (row, 1), "products": (turned * row, 1), **packed}


def head_areas(config: AcceleratorConfig, shape: DecoderShape, start: int) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`."""
    return place_areas(config, "heads of a token", head_sizes(config, shape), start)


def head_scalars(shape: DecoderShape) -> tuple[tuple[str, ...], int]:
    """Return names of row scalars, and how many each has; besides them there is "minus one", which is set once."""
    names = ("magnitude", "inverse", *(("low", "high", "zero") if shape.kv.bits == 4 else ()))
    return names, shape.heads + 2 * shape.kv_heads


def load_angles(emitter: StreamEmitter, shape: DecoderShape, area: Area, rows: Operand, position: str, table: Address,
                wait: list[Semaphore], signal: list[Semaphore]) -> None:
    """Load a row of the table of angles for each of `rows` positions: cosines of half a head, then sines."""
    with emitter.registers("angles"):
        register, offset = table
        angles = emitter.reg("angles")
        emitter.asm.shl(angles, position, "r0", int(math.log2(shape.rope_stride)))
        emitter.asm.add(angles, angles, register, offset)
        row = 4 * shape.head_dim
        emitter.command(Unit.LOAD, {"dram_addr": angles, "dram_stride": shape.rope_stride, "rows": rows, "row_bytes": row,
                                    "addr": area.addr, "stride": row, "transpose": 0}, wait, signal)


class TokenHeads:
    """The heads of one token.

    Parameters
    ----------
    areas : dict of str to Area
        `head_areas`; no "in" where the source stays on the chip.
    scalars : dict of str to int
        As `head_scalars` names them, and "minus one" for each head of queries and keys, which nothing else may use.
    queries : QueryArea
    position : str
        Register.
    source : Place
        Float32 rows of queries, keys and values, each one `head_dim` long; in the scratchpad queries and keys are turned where
        they lie.
    """

    def __init__(self, config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, areas: dict[str, Area],
                 scalars: dict[str, int], queries: QueryArea, *, position: str, source: Place):
        self.config, self.emitter, self.shape, self.areas, self.scalars = config, emitter, shape, areas, scalars
        self.queries, self.position, self.source = queries, position, source
        self.row = 4 * shape.head_dim
        self.at = source.addr if isinstance(source, Scratchpad) else areas["in"].addr

    def load(self, table: Address) -> None:
        """Load rows and angles that are in DRAM."""
        assert isinstance(self.source, Dram)
        load_angles(self.emitter, self.shape, self.areas["angles"], 1, self.position, table, [], [])
        self.emitter.command(Unit.LOAD, {
            "dram_addr": self.source.addr, "dram_stride": 0, "rows": 1,
            "row_bytes": (self.shape.heads + 2 * self.shape.kv_heads) * self.row, "addr": self.at, "stride": 0, "transpose": 0},
            [Semaphore.IN_FREE], [Semaphore.IN_FULL])

    def begin(self, written: int) -> None:
        """Set the row scalars that are constant; of a byte of the scratchpad that the program has written."""
        emitter, shape = self.emitter, self.shape
        emitter.passes([vector_pass("minus one", a=Int8(written), m=shape.heads + shape.kv_heads, n=1, scale=0.0, add=-1.0,
                                    max_to=self.scalars["minus one"])])

    def turn(self) -> None:
        """Turn the pairs (i, i + E/2) of queries and keys, and find the largest magnitude of each row."""
        shape, angles = self.shape, self.areas["angles"].addr
        self.emitter.passes(
            rope_in_place(shape.heads + shape.kv_heads, shape.head_dim // 2, self.at, self.areas["products"].addr, Floats(angles),
                          Floats(angles + self.row // 2), minus_one=self.scalars["minus one"], amax=self.scalars["magnitude"]),
            [Semaphore.IN_FULL] if isinstance(self.source, Dram) else [])

    def append(self, cache: Address) -> None:
        """Round everything; append keys and values to the layer's cache, and wait for that."""
        emitter, shape, scalars, kv = self.emitter, self.shape, self.scalars, self.shape.kv
        beats = 2 * kv.heads * _words(shape)
        with emitter.registers("cache scale", "target"):
            scale, target = emitter.reg("cache scale"), emitter.reg("target")
            register, offset = cache
            emitter.asm.shl(scale, self.position, "r0", 2)
            emitter.asm.sub(scale, scale, emitter.reg(SCALE_PLACE))
            emitter.asm.add(scale, scale, register, offset + kv.offset("key scales"))
            block: dict[str, Operand] = {
                "dram_addr": scale, "dram_stride": kv.scales_bytes, "rows": beats, "row_bytes": self.config.beat_bytes,
                "addr": self.queries.scales + shape.heads * self.config.beat_bytes, "stride": self.config.beat_bytes}
            emitter.command(Unit.LOAD, {**block, "transpose": 0}, [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])
            values = Floats(self.at + (shape.heads + kv.heads) * self.row, self.row)
            emitter.passes([vector_pass("magnitude", a=values, m=kv.heads, n=shape.head_dim,
                                        amax_to=scalars["magnitude"] + shape.heads + kv.heads)])
            signal = [Semaphore.OUT_FULL, Semaphore.PARAM_FREE]
            if isinstance(self.source, Dram):
                signal.append(Semaphore.IN_FREE)
            emitter.passes(self._round(), [Semaphore.PARAM_FULL], signal)
            emitter.asm.shl(target, self.position, "r0", int(math.log2(kv.row_bytes)))
            emitter.asm.add(target, target, register, offset + kv.offset("keys"))
            stride = _packed_row(self.config, shape) if kv.bits == 4 else self.queries.row_bytes
            emitter.command(Unit.STORE, {
                "dram_addr": target, "dram_stride": kv.head_bytes, "rows": 2 * kv.heads,
                "row_bytes": shape.head_dim * kv.bits // 8, "stride": stride,
                "addr": self.areas["packed"].addr if kv.bits == 4 else self.queries.addr + shape.heads * stride},
                [Semaphore.OUT_FULL])
            emitter.command(Unit.STORE, block, [], [Semaphore.APPENDED])
        emitter.asm.wait(Semaphore.APPENDED)
        emitter.end_phase()

    def _round(self) -> list[Pass]:
        """Return the passes that make integers of rows, scales and zero points."""
        shape, scalars, queries, kv = self.shape, self.scalars, self.queries, self.shape.kv
        place, beat = self.emitter.reg(SCALE_PLACE), self.config.beat_bytes
        rows = shape.heads + (0 if kv.bits == 4 else 2 * kv.heads)
        passes = quantize_int8(rows, shape.head_dim, Floats(self.at, self.row), Int8(queries.addr, queries.row_bytes),
                               Scalars((place, queries.scales), beat), amax=scalars["magnitude"], inverse=scalars["inverse"],
                               sooner=True)
        if kv.bits == 4:
            scales = queries.scales + shape.heads * beat
            passes += quantize_uint4(
                2 * kv.heads, shape.head_dim, Floats(self.at + shape.heads * self.row, self.row),
                Uint4(self.areas["packed"].addr, _packed_row(self.config, shape)), Scalars((place, scales), beat),
                Scalars((place, scales + 2 * kv.heads * beat), beat), low=scalars["low"], high=scalars["high"],
                zero=scalars["zero"])
        return passes
