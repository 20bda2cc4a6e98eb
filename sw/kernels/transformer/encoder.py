"""A BERT encoder as one program: a sentence of any length up to the model's in, its embedding out.

Tokens come in chunks of a fixed number of rows. Every token attends to all of the sentence, so all chunks append keys and values
of a layer before any attends: what makes a layer's queries, keys and values stands at the end of the layer before::

    for each chunk
        embedding norm   word + position + type, layer norm  → x; int8
        qkv              · queries, keys and values          → float32
        append           int8; keys and values               → cache
    for each layer, for each chunk
        queries          int8
        attention        over the whole sentence             → float32
        quantize                                             → int8
        attention output · output, + x                       → x
        attention norm   layer norm                          → x; int8
        up               · up, GELU                          → float32
        quantize                                             → int8
        down             · down, + x                         → x
        output norm      layer norm                          → x; but for the last layer: int8,
        qkv, append      as above, of the next layer
    pool                 mean of all rows, length one        → embedding

Phases are separated by fences; inside one, loads, engine, vector unit and stores overlap.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from hw.config import AcceleratorConfig
from sw.kernels.emitter import emit
from sw.kernels.transformer.areas import row_scalars
from sw.kernels.transformer.attention import attention_areas, attention_scalars, emit_attention, fitted_shape
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear_shape import Linear, make_linear
from sw.kernels.transformer.norm import NORM_SCALARS, LayerNorm, emit_layer_norm, layer_norm_areas, make_layer_norm
from sw.kernels.transformer.phases import Phases, lay_out
from sw.kernels.transformer.places import Address, Dram
from sw.kernels.transformer.pool import emit_pool, make_pool, pool_areas
from sw.kernels.transformer.quantize import make_quantize
from sw.kernels.transformer.rotary import ROTARY_SCALARS, emit_rotary, rotary_areas
from sw.kernels.transformer.shape import PAGE, DecoderShape, ShapeError, Sizes
from sw.kernels.transformer.token_heads import query_area
from sw.layout import round_up
from sw.program import Program, Region

__all__ = ["EncoderMemory", "encoder_linears", "encoder_memory", "encoder_norms", "encoder_program"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderMemory:
    """Where a model lies in DRAM.

    Attributes
    ----------
    shape : DecoderShape
    regions : dict of str to (int, int)
        Name → address and size: "x" (rows of float32, `row_bytes` apart; the word embeddings of a sentence go there),
        "positions" (likewise, their embeddings), "weights" (parameters of the embedding's norm, then layer after layer), "cache",
        "qkv", "attention", "mlp", "embedding".
    row_bytes : int
        From one row of x to the next.
    offsets : dict of str to int
        Linear or norm → where it begins in its layer's weights.
    layers_at : int
        Address of the first layer's weights.
    layer_bytes, cache_bytes : int
        From one layer's weights and cache to the next layer's.
    weight_format : str
        Of the layers' weights; "": plain ones.
    """

    shape: DecoderShape
    regions: dict[str, tuple[int, int]]
    row_bytes: int
    offsets: dict[str, int]
    layers_at: int
    layer_bytes: int
    cache_bytes: int
    weight_format: str

    @property
    def end(self) -> int:
        """First byte behind all regions."""
        return max(addr + size for addr, size in self.regions.values())


def encoder_linears(config: AcceleratorConfig, shape: DecoderShape, weights: str = "") -> dict[str, Linear]:
    """Return a layer's linears by name."""
    linear = partial(make_linear, config, m=shape.tokens, bias=True, weights=weights)
    return {
        "qkv": linear("queries, keys and values", k=shape.hidden, n=shape.qkv_width),
        "output": linear("attention output", k=shape.attention_width, n=shape.hidden, residual=True),
        "up": linear("up", k=shape.hidden, n=shape.ffn, gelu=True),
        "down": linear("down", k=shape.ffn, n=shape.hidden, residual=True),
    }


def encoder_norms(config: AcceleratorConfig, shape: DecoderShape) -> dict[str, LayerNorm]:
    """Return the norms by name; "embedding" adds positions and token types."""
    return {name: make_layer_norm(config, f"{name} norm", shape.tokens, shape.hidden, shape.eps, added=name == "embedding")
            for name in ("embedding", "attention", "output")}


def encoder_memory(config: AcceleratorConfig, model: Sizes, *, tokens: int, weight_format: str = "") -> EncoderMemory:
    """Return where a model lies, for sentences of up to its context in chunks of `tokens`.

    weight_format: of the layers' weights, of those that the config has; "": plain ones.

    Raises
    ------
    ShapeError, AreaError
        If the config cannot run it.
    """
    if tokens < 2:
        raise ShapeError(f"tokens of an encoder's chunk must be at least 2, not {tokens!r}")
    shape = fitted_shape(config, model, tokens, 1)
    norms = encoder_norms(config, shape)
    sizes = {name: linear.weight_bytes for name, linear in encoder_linears(config, shape, weight_format).items()}
    sizes |= {f"{name} norm": norms[name].parameter_bytes for name in ("attention", "output")}
    offsets, layer_bytes = {}, 0
    for name, size in sizes.items():
        offsets[name] = layer_bytes
        layer_bytes += round_up(size, 64)
    layer_bytes = round_up(layer_bytes, PAGE)
    first = round_up(norms["embedding"].parameter_bytes, PAGE)
    row_bytes = norms["embedding"].row_bytes
    regions = lay_out({
        "x": shape.context * row_bytes, "positions": shape.context * row_bytes, "weights": first + shape.layers * layer_bytes,
        "cache": shape.layers * shape.kv.size, "qkv": 4 * shape.context * shape.qkv_width,
        "attention": 4 * tokens * shape.attention_width, "mlp": tokens * _mlp_row(shape), "embedding": 4 * shape.hidden})
    return EncoderMemory(shape=shape, regions=regions, row_bytes=row_bytes, offsets=offsets,
                         layers_at=regions["weights"][0] + first, layer_bytes=layer_bytes, cache_bytes=shape.kv.size,
                         weight_format=weight_format)


def _mlp_row(shape: DecoderShape) -> int:
    return round_up(4 * shape.ffn, 64)


def encoder_program(config: AcceleratorConfig, memory: EncoderMemory, *, code_addr: int) -> Program:
    """Return the program; its argument is `count`, the tokens of the sentence, from 1 to the model's context.

    Parameters
    ----------
    code_addr : int
        Where the code goes, at or behind `memory.end`.

    Raises
    ------
    ShapeError, AreaError
        If the config cannot run it.
    """
    encoder = _Encoder(config, memory)
    kernels: list[tuple[int, str]] = []
    code = emit(StreamEmitter, ["count"], lambda emitter: encoder.emit(emitter, kernels), parity=config.command_parity)
    roles = {"x": "input", "positions": "input", "weights": "input", "embedding": "output"}
    regions = tuple(Region(name=region, addr=addr, size=size, role=roles.get(region, "scratch"))
                    for region, (addr, size) in memory.regions.items())
    return Program(name="encoder", config_digest=config.digest(), code=code, code_addr=code_addr, regions=regions,
                   parity=config.command_parity, arguments={"count": 0}, kernels=tuple(kernels))


class _Encoder(Phases):
    """The phases of the program with all areas chosen."""

    def __init__(self, config: AcceleratorConfig, memory: EncoderMemory):
        shape = memory.shape
        super().__init__(config, shape, memory.regions)
        self.memory = memory
        self.linears, self.norms = encoder_linears(config, shape, memory.weight_format), encoder_norms(config, shape)
        self.outputs = make_quantize(config, "attention output", shape.tokens, shape.attention_width)
        self.mlp = make_quantize(config, "mlp", shape.tokens, shape.ffn)
        self.scalars = row_scalars(config, "the encoder", NORM_SCALARS, shape.tokens)
        self.attention_scalars = attention_scalars(config, shape)
        self.head_scalars = row_scalars(config, "queries, keys and values", ROTARY_SCALARS[:2], shape.tokens)
        self.queries = query_area(config, shape, 0)

    def emit(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit the program; `kernels` gets the first instruction and name of each phase."""
        self.begin(emitter, kernels)
        weights, cache = emitter.reg("weights"), emitter.reg("cache")
        emitter.asm.set(weights, self.memory.layers_at)
        emitter.asm.set(cache, self.regions["cache"][0])
        with emitter.registers("positions"):
            positions = emitter.reg("positions")
            emitter.asm.set(positions, self.regions["positions"][0])
            with self._chunks():
                self._norm("embedding", self.at("weights"), added=(positions, 0), quantize=True)
                self._append(weights, 0, cache, 0)
                emitter.move(positions, positions, self.shape.tokens * self.memory.row_bytes)
        if self.shape.layers > 1:
            with emitter.loop(self.shape.layers - 1):
                self._layer(weights, cache, last=False)
                emitter.move(weights, weights, self.memory.layer_bytes)
                emitter.move(cache, cache, self.memory.cache_bytes)
        self._layer(weights, cache, last=True)
        self.phase("pool")
        pool = make_pool(self.config, self.shape.tokens, self.shape.hidden)
        emit_pool(emitter, pool, pool_areas(self.config, pool), self.scalars, rows=emitter.reg("count"), source=self.at("x"),
                  output=self.at("embedding"))
        emitter.asm.halt()

    @contextmanager
    def _chunks(self) -> Iterator[None]:
        """Do the body of a `with` statement for each chunk: registers have its first token, its rows, and where they begin."""
        emitter, shape = self.emitter, self.shape
        with emitter.registers("rows left", "rows", "position", "x", "qkv", "chunks") as (left, _, position, x, qkv, chunks):
            self.rows = emitter.reg("rows")
            emitter.move(left, emitter.reg("count"))
            emitter.asm.set(position, 0)
            emitter.asm.set(x, self.regions["x"][0])
            emitter.asm.set(qkv, self.regions["qkv"][0])
            emitter.asm.add(chunks, left, "r0", shape.tokens - 1)
            emitter.asm.shr(chunks, chunks, "r0", int(math.log2(shape.tokens)))
            with emitter.loop(chunks):
                emitter.asm.min(self.rows, left, "r0", shape.tokens)
                yield
                emitter.asm.sub(left, left, "r0", shape.tokens)
                emitter.move(position, position, shape.tokens)
                emitter.move(x, x, shape.tokens * self.memory.row_bytes)
                emitter.move(qkv, qkv, 4 * shape.tokens * shape.qkv_width)

    def _norm(self, name: str, parameters: Address, *, quantize: bool, added: Address | None = None) -> None:
        """Normalize the chunk, and make it the operand."""
        norm = self.norms[name]
        _, row, end = self.operand(norm.n)
        self.phase(norm.name)
        emit_layer_norm(self.emitter, norm, layer_norm_areas(self.config, norm, end), self.scalars, rows=self.rows,
                        place=(self.emitter.reg("x"), 0), parameters=parameters, added=added,
                        target=(0, row) if quantize else None)

    def _append(self, weights: str, weights_offset: int, cache: str, cache_offset: int) -> None:
        """Make queries, keys and values of the chunk, which is the operand; append keys and values to a layer's cache."""
        self.linear("qkv", self.linears["qkv"], (weights, weights_offset + self.memory.offsets["qkv"]), self._qkv)
        self.phase("append")
        self._heads(("keys", "values"), 0, (cache, cache_offset))

    @property
    def _qkv(self) -> Dram:
        """Queries, keys and values of the chunk."""
        return Dram((self.emitter.reg("qkv"), 0), 4 * self.shape.qkv_width)

    def _heads(self, kinds: tuple[str, ...], start: int, cache: Address) -> None:
        emitter = self.emitter
        emit_rotary(self.config, emitter, self.shape, rotary_areas(self.config, self.shape, start, turned=False),
                    self.head_scalars, self.queries, rows=self.rows, position=emitter.reg("position"),
                    source=self._qkv, table=None, cache=cache, kinds=kinds)

    def _layer(self, weights: str, cache: str, *, last: bool) -> None:
        shape, memory, config, emitter = self.shape, self.memory, self.config, self.emitter

        def at(name: str) -> Address:
            return weights, memory.offsets[name]

        attention = Dram(self.at("attention"), 4 * shape.attention_width)
        mlp = Dram(self.at("mlp"), _mlp_row(shape))
        sums = {name: self.scalars[name] for name in ("total", "part")}
        with self._chunks():
            x = Dram((emitter.reg("x"), 0), memory.row_bytes)
            self.phase("queries")
            self._heads(("queries",), self.queries.end, (cache, 0))
            self.phase("attention")
            emit_attention(config, emitter, shape, attention_areas(config, shape, self.queries.end), self.attention_scalars,
                           self.queries, rows=self.rows, position=emitter.reg("position"), cache=(cache, 0),
                           output=attention, length=emitter.reg("count"))
            self.phase("attention quantize")
            self.quantize(self.outputs, attention, measured=False)
            self.linear("attention output", self.linears["output"], at("output"), x, statistics=sums)
            self._norm("attention", at("attention norm"), quantize=True)
            self.linear("up", self.linears["up"], at("up"), mlp, statistics={"magnitude": self.scalars["magnitude"]})
            self.phase("mlp quantize")
            self.quantize(self.mlp, mlp, measured=True)
            self.linear("down", self.linears["down"], at("down"), x, statistics=sums)
            self._norm("output", at("output norm"), quantize=not last)
            if not last:
                self._append(weights, memory.layer_bytes, cache, memory.cache_bytes)
