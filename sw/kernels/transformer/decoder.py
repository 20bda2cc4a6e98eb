"""A decoder of the Llama family as one program: layers in a hardware loop, a chunk of tokens in, logits of the last one out.

Each layer is a sequence of phases with a fence between them; inside a phase loads, engine, vector unit and stores overlap. Rows
of float32 wait in DRAM from phase to phase, what the engine reads of activations stays in the scratchpad, weights stream by
once::

    quantize   x, with the norm                        → int8
    linear     · queries, keys and values              → float32
    rotary     positions; int8; keys and values        → cache
    attention                                          → float32
    quantize                                           → int8
    linear     · output, + x                           → x
    quantize   x, with the norm                        → int8
    linear     · gate and up, SiLU(gate) · up          → float32
    quantize                                           → int8
    linear     · down, + x                             → x

Behind the last layer: quantize the last token's x with the norm, linear · head → logits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from hw.config import AcceleratorConfig, ceil_power_of_two
from sw.golden.llama import LlamaConfig
from sw.kernels.emitter import emit
from sw.kernels.transformer.areas import row_scalars
from sw.kernels.transformer.attention import attention_areas, attention_scalars, emit_attention, fitted_shape
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear_shape import Linear, column_tile, make_linear
from sw.kernels.transformer.phases import Phases, Place, lay_out
from sw.kernels.transformer.quantize import SCALARS, emit_measure, make_quantize, quantize_areas
from sw.kernels.transformer.rotary import ROTARY_SCALARS, emit_rotary, query_area, rotary_areas
from sw.kernels.transformer.shape import PAGE, DecoderShape, ShapeError
from sw.layout import round_up
from sw.program import Program, Region

__all__ = ["HEADS", "LIMITS", "DecoderMemory", "decoder_memory", "decoder_program", "head_linear", "layer_linears"]

HEADS = ("none", "last", "all")
LIMITS = ("qkv", "output", "gate", "up", "down", "head")
"""Linears whose results can be limited."""
CONTEXT_STEP = 256              # what the room in the cache is a multiple of


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderMemory:
    """Where a model lies in DRAM, for programs of up to `tokens` tokens at once.

    Attributes
    ----------
    model : LlamaConfig
    tokens, context, gate_tile : int
        Tokens of the largest chunk; tokens that the cache holds; columns of a tile of gate and up together.
    kv, weight_format, head_format : str
        Formats of keys and values, of the layers' weights and of the head's; "": plain weights.
    regions : dict of str to (int, int)
        Name → address and size: "x" (rows of float32, `row_bytes` apart; the embeddings of a chunk go there), "angles",
        "weights" (layer after layer, then the head), "cache", "qkv", "attention", "mlp", "logits".
    row_bytes : int
        From one row of x to the next, a power of two.
    offsets : dict of str to int
        Linear → where it begins in its layer's weights.
    layer_bytes, cache_bytes : int
        From one layer's weights and cache to the next layer's.
    """

    model: LlamaConfig
    tokens: int
    context: int
    gate_tile: int
    kv: str
    weight_format: str
    head_format: str
    regions: dict[str, tuple[int, int]]
    row_bytes: int
    offsets: dict[str, int]
    layer_bytes: int
    cache_bytes: int

    @property
    def end(self) -> int:
        """First byte behind all regions."""
        return max(addr + size for addr, size in self.regions.values())

    def shape(self, config: AcceleratorConfig, tokens: int) -> DecoderShape:
        """Return the shape of a program that takes `tokens` at once."""
        return fitted_shape(config, self.model, tokens, self.gate_tile // 2, self.context, self.kv)

    @property
    def logits_row(self) -> int:
        """Bytes from one row of logits to the next."""
        return round_up(4 * self.model.vocab, 64)


def layer_linears(config: AcceleratorConfig, shape: DecoderShape, gate_tile: int, weights: str = "") -> dict[str, Linear]:
    """Return a layer's linears by name."""
    linear = partial(make_linear, config, m=shape.tokens, weights=weights)
    return {
        "qkv": linear("queries, keys and values", k=shape.hidden, n=shape.qkv_width),
        "output": linear("attention output", k=shape.attention_width, n=shape.hidden, residual=True),
        "gate_up": linear("gate and up", k=shape.hidden, n=2 * shape.ffn, gate_tile=gate_tile),
        "down": linear("down", k=shape.ffn, n=shape.hidden, residual=True),
    }


def head_linear(config: AcceleratorConfig, shape: DecoderShape, rows: int, weights: str = "") -> Linear:
    """Return the linear that makes logits."""
    return make_linear(config, "head", rows, shape.hidden, shape.vocab, weights=weights)


def decoder_memory(config: AcceleratorConfig, model: LlamaConfig, *, tokens: int, context: int | None = None,
                   kv: str = "int8", weight_format: str = "", head_format: str = "",
                   logits_rows: int = 1) -> DecoderMemory:
    """Return where a model lies, for chunks of up to `tokens` tokens, caches of `context` (by default the model's).

    Parameters
    ----------
    kv : str
        Format of keys and values, one of `sw.kernels.transformer.shape.KV_FORMATS`.
    weight_format, head_format : str
        Formats of the layers' weights and of the head's, of those that the config has; "": plain ones.

    Raises
    ------
    ShapeError, AreaError, ConfigError
        If the config cannot run it.
    """
    room = round_up(context or model.context, CONTEXT_STEP)
    gate_tile = column_tile(config, tokens, weight_format)
    shape = fitted_shape(config, model, tokens, gate_tile // 2, room, kv)
    linears = layer_linears(config, shape, gate_tile, weight_format)
    offsets, layer_bytes = {}, 0
    for name, linear in linears.items():
        offsets[name] = layer_bytes
        layer_bytes += round_up(linear.weight_bytes, 64)
    layer_bytes = round_up(layer_bytes, PAGE)
    row_bytes = ceil_power_of_two(4 * model.hidden)
    sizes = {
        "x": tokens * row_bytes, "angles": room * shape.rope_stride,
        "weights": model.layers * layer_bytes + head_linear(config, shape, 1, head_format).weight_bytes,
        "cache": model.layers * shape.kv.size,
        "qkv": 4 * tokens * shape.qkv_width, "attention": 4 * tokens * shape.attention_width, "mlp": 4 * tokens * shape.ffn,
        "logits": logits_rows * round_up(4 * model.vocab, 64)}
    return DecoderMemory(model=model, tokens=tokens, context=room, gate_tile=gate_tile, kv=kv, weight_format=weight_format,
                         head_format=head_format, regions=lay_out(sizes), row_bytes=row_bytes, offsets=offsets,
                         layer_bytes=layer_bytes, cache_bytes=shape.kv.size)


def decoder_program(config: AcceleratorConfig, memory: DecoderMemory, *, tokens: int, code_addr: int, head: str = "last",
                    name: str | None = None, limits: Mapping[str, float] | None = None) -> Program:
    """Return the program for chunks of up to `tokens` tokens.

    Parameters
    ----------
    tokens : int
        1, or a power of two up to `memory.tokens`. The program's arguments are `position`, of the first token (a multiple of
        `tokens`), and with more than one token `count`, 1 to `tokens`.
    code_addr : int
        Where the code goes, at or behind `memory.end`.
    head : str
        "last": logits of the last token, "all": of all, "none".
    limits : mapping of str to float, or None
        Each of `LIMITS` → largest magnitude of what that linear makes, of all layers (`sw.calibration`).

    Raises
    ------
    ShapeError, AreaError
        If the config cannot run it.
    """
    if head not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, not {head!r}")
    if limits and not config.range_restriction:
        raise ShapeError("AcceleratorConfig.protection must have ('activations', 'range') for a program with limits, "
                         f"not {config.protection!r}")
    if limits and set(limits) != set(LIMITS):
        raise ShapeError(f"limits must be given for {', '.join(LIMITS)}, not {', '.join(limits)}")
    shape = memory.shape(config, tokens)
    arguments = ["position", "count"] if tokens > 1 else ["position"]
    decoder = _Decoder(config, memory, shape, head, limits or {})
    kernels: list[tuple[int, str]] = []
    code = emit(StreamEmitter, arguments, lambda emitter: decoder.emit(emitter, kernels), parity=config.command_parity)
    roles = {"x": "input", "angles": "input", "weights": "input", "logits": "output"}
    regions = tuple(Region(name=region, addr=addr, size=size, role=roles.get(region, "scratch"))
                    for region, (addr, size) in memory.regions.items())
    return Program(name=name or f"decoder, {tokens} token" + "s" * (tokens > 1), config_digest=config.digest(), code=code,
                   parity=config.command_parity, code_addr=code_addr, regions=regions,
                   arguments={name: i for i, name in enumerate(arguments)}, kernels=tuple(kernels))


class _Decoder(Phases):
    """The phases of a program with all areas chosen."""

    def __init__(self, config: AcceleratorConfig, memory: DecoderMemory, shape: DecoderShape, head: str,
                 limits: Mapping[str, float]):
        super().__init__(config, shape, memory.regions)
        self.memory, self.head, self.limits = memory, head, limits
        self.linears = {name: self._limited(name, linear)
                        for name, linear in layer_linears(config, shape, memory.gate_tile, memory.weight_format).items()}
        self.norm = make_quantize(config, "norm", shape.tokens, shape.hidden, shape.eps)
        self.outputs = make_quantize(config, "attention output", shape.tokens, shape.attention_width)
        self.mlp = make_quantize(config, "mlp", shape.tokens, shape.ffn)
        self.scalars = row_scalars(config, "the decoder", SCALARS, shape.tokens)
        self.attention_scalars = attention_scalars(config, shape)
        self.rotary_scalars = row_scalars(config, "rotary", ROTARY_SCALARS, max(shape.tokens, shape.heads))
        self.queries = query_area(config, shape, 0)

    def _limited(self, name: str, linear: Linear) -> Linear:
        """Return a linear with its limits."""
        names = ("gate", "up") if name == "gate_up" else (name,)
        return replace(linear, limits=tuple(self.limits[part] for part in names)) if self.limits else linear

    def emit(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit the program; `kernels` gets the first instruction and name of each phase."""
        self.begin(emitter, kernels)
        self.rows = 1 if self.shape.tokens == 1 else emitter.reg("count")
        weights, cache = emitter.reg("weights"), emitter.reg("cache")
        emitter.asm.set(weights, self.memory.regions["weights"][0])
        emitter.asm.set(cache, self.memory.regions["cache"][0])
        self.phase("embedding statistics")
        emit_measure(emitter, self.norm, quantize_areas(self.config, self.norm, 0), self.scalars, rows=self.rows,
                     source=self.at("x"), source_stride=self.memory.row_bytes)
        with emitter.loop(self.shape.layers):
            self._layer(weights, cache)
            emitter.move(weights, weights, self.memory.layer_bytes)
            emitter.move(cache, cache, self.memory.cache_bytes)
        if self.head != "none":
            self._logits(weights)
        emitter.asm.halt()

    def _layer(self, weights: str, cache: str) -> None:
        shape, memory, config = self.shape, self.memory, self.config
        def matrix(linear: str) -> Place:
            return weights, memory.offsets[linear]

        position = self.emitter.reg("position")
        self.phase("attention norm")
        self.quantize(self.norm, self.at("x"), memory.row_bytes, measured=True)
        self.phase("qkv")
        self.linear(self.linears["qkv"], matrix("qkv"), self.at("qkv"), 4 * shape.qkv_width)
        self.phase("rotary")
        emit_rotary(config, self.emitter, shape, rotary_areas(config, shape, self.queries.end), self.rotary_scalars,
                    self.queries, rows=self.rows, position=position, source=self.at("qkv"), table=self.at("angles"),
                    cache=(cache, 0))
        self.phase("attention")
        emit_attention(config, self.emitter, shape, attention_areas(config, shape, self.queries.end), self.attention_scalars,
                       self.queries, rows=self.rows, position=position, cache=(cache, 0), output=self.at("attention"))
        self.phase("attention quantize")
        self.quantize(self.outputs, self.at("attention"), 4 * shape.attention_width, measured=False)
        self.phase("attention output")
        self.linear(self.linears["output"], matrix("output"), self.at("x"), memory.row_bytes, statistics=self.scalars)
        self.phase("mlp norm")
        self.quantize(self.norm, self.at("x"), memory.row_bytes, measured=True)
        self.phase("gate and up")
        self.linear(self.linears["gate_up"], matrix("gate_up"), self.at("mlp"), 4 * shape.ffn, statistics=self.scalars)
        self.phase("mlp quantize")
        self.quantize(self.mlp, self.at("mlp"), 4 * shape.ffn, measured=True)
        self.phase("down")
        self.linear(self.linears["down"], matrix("down"), self.at("x"), memory.row_bytes, statistics=self.scalars)

    def _logits(self, weights: str) -> None:
        """Emit the last norm and the head; `weights` stands behind the layers'."""
        shape, memory, emitter = self.shape, self.memory, self.emitter
        every = self.head == "all" or shape.tokens == 1
        rows = shape.tokens if every else 1
        self.phase("norm")
        norm = make_quantize(self.config, "norm", rows, shape.hidden, shape.eps)
        if every:
            self.quantize(norm, self.at("x"), memory.row_bytes, measured=True)
        else:
            with emitter.registers("last"):
                last = emitter.reg("last")
                emitter.asm.add(last, emitter.reg("count"), "r0", -1)
                emitter.asm.shl(last, last, "r0", int(math.log2(memory.row_bytes)))
                self.quantize(norm, (last, memory.regions["x"][0]), memory.row_bytes, measured=False, rows=1)
        self.phase("head")
        head = self._limited("head", head_linear(self.config, shape, rows, memory.head_format))
        self.linear(head, (weights, 0), self.at("logits"), memory.logits_row,
                    rows=None if every else 1)
