"""A decoder of the Llama family as one program: layers in hardware loops, a chunk of tokens in, logits of the last one out.

Each layer is a sequence of phases; inside a phase loads, engine, vector unit and stores overlap. What the engine reads of
activations stays in the scratchpad, weights stream by once. Of a chunk of tokens, rows of float32 wait in DRAM from phase to
phase, with a fence between phases. Of one token they stay in the scratchpad (`sw.kernels.transformer.resident`) where that
holds them, and phases follow each other without fences::

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

from hw.config import AcceleratorConfig, ceil_power_of_two
from hw.isa import Unit
from sw.golden.llama import LlamaConfig
from sw.kernels.emitter import emit
from sw.kernels.passes.command import Floats, vector_pass
from sw.kernels.transformer.angle_source import emit_source_angles, source_holds
from sw.kernels.transformer.areas import row_scalars
from sw.kernels.transformer.attention import attention_areas, attention_scalars, emit_attention, fitted_shape, token_scalars
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.layer_linears import LayerRun, gate_columns, head_linear, layer_linears, layer_runs
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.linear_shape import Linear
from sw.kernels.transformer.phases import OperandPhases, Phases, lay_out
from sw.kernels.transformer.places import Address, Dram, Place, Scratchpad
from sw.kernels.transformer.quantize import (
    SCALARS,
    Quantize,
    emit_codes,
    emit_measure,
    emit_row_scale,
    make_quantize,
    quantize_areas,
)
from sw.kernels.transformer.resident import RINGS, Resident, resident
from sw.kernels.transformer.rotary import ROTARY_SCALARS, emit_rotary, rotary_areas
from sw.kernels.transformer.shape import DecoderShape, ShapeError
from sw.kernels.transformer.token_heads import SCALE_PLACE, TokenHeads, head_areas, load_angles, query_area
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.layout import round_up
from sw.program import RESYNC, Program, Region

__all__ = ["HEADS", "LIMITS", "DecoderMemory", "decoder_memory", "decoder_program", "value_span"]

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
    kv : str
        Format of keys and values.
    plan : WeightPlan
        Formats of weights.
    regions : dict of str to (int, int)
        Name → address and size: "x" (rows of float32, `row_bytes` apart; the embeddings of a chunk go there), "angles",
        "weights" (layer after layer, then the head), "cache", "qkv", "attention", "mlp", "logits"; and "records" where a source
        makes the angles of one token.
    row_bytes : int
        From one row of x to the next, a power of two.
    runs : tuple of LayerRun
        Where the layers' weights lie; behind them the head's.
    cache_bytes : int
        From one layer's cache to the next layer's.
    """

    model: LlamaConfig
    tokens: int
    context: int
    gate_tile: int
    kv: str
    plan: WeightPlan
    regions: dict[str, tuple[int, int]]
    row_bytes: int
    runs: tuple[LayerRun, ...]
    cache_bytes: int

    @property
    def end(self) -> int:
        """First byte behind all regions."""
        return max(addr + size for addr, size in self.regions.values())

    def shape(self, config: AcceleratorConfig, tokens: int) -> DecoderShape:
        """Return the shape of a program that takes `tokens` at once."""
        return fitted_shape(config, self.model, tokens, self.gate_tile // 2, self.context, self.kv)

    def on_chip(self, config: AcceleratorConfig) -> Resident | None:
        """Return where the activations of one token stay in the scratchpad; None: that does not hold them, they go to DRAM."""
        shape = self.shape(config, 1)
        linears = [linear for run in self.runs
                   for linear in layer_linears(config, shape, self.gate_tile, run.formats).values()]
        return resident(config, shape, [*linears, head_linear(config, shape, 1, self.plan.head)])

    def makes_angles(self, config: AcceleratorConfig) -> bool:
        """Return whether the load unit's source of angles can serve programs of one token."""
        return "records" in self.regions and self.on_chip(config) is not None

    @property
    def logits_row(self) -> int:
        """Bytes from one row of logits to the next."""
        return round_up(4 * self.model.vocab, 64)


def value_span(shape: DecoderShape, qkv: Linear) -> tuple[int, ...]:
    """Return how many columns are made at once: values last, so that queries and keys are turned while their weights come.

    All in one, where values share a stream of weights with keys.
    """
    turned = (shape.heads + shape.kv_heads) * shape.head_dim
    return (qkv.n,) if turned % qkv.layout.columns else (turned, qkv.n - turned)


def decoder_memory(config: AcceleratorConfig, model: LlamaConfig, *, tokens: int, context: int | None = None,
                   kv: str = "int8", plan: WeightPlan | None = None, logits_rows: int = 1) -> DecoderMemory:
    """Return where a model lies, for chunks of up to `tokens` tokens, caches of `context` (by default the model's).

    Parameters
    ----------
    kv : str
        Format of keys and values, one of `sw.kernels.transformer.shape.KV_FORMATS`.
    plan : WeightPlan or None
        Formats of weights, of those that the config has, for all of the model's layers; None: plain ones.

    Raises
    ------
    ShapeError, AreaError, ConfigError
        If the config cannot run it.
    """
    plan = WeightPlan.uniform(model.layers) if plan is None else plan
    if len(plan.layers) != model.layers:
        raise ShapeError(f"a plan of weights must have the model's {model.layers} layers, not {len(plan.layers)}")
    room = round_up(context or model.context, CONTEXT_STEP)
    gate_tile = gate_columns(config, tokens, plan)
    shape = fitted_shape(config, model, tokens, gate_tile // 2, room, kv)
    runs = layer_runs(config, shape, gate_tile, plan)
    row_bytes = ceil_power_of_two(4 * model.hidden)
    sizes = {
        "x": tokens * row_bytes, "angles": room * shape.rope_stride,
        "weights": runs[-1].end + head_linear(config, shape, 1, plan.head).weight_bytes,
        "cache": model.layers * shape.kv.size,
        "qkv": 4 * tokens * shape.qkv_width, "attention": 4 * tokens * shape.attention_width, "mlp": 4 * tokens * shape.ffn,
        "logits": logits_rows * round_up(4 * model.vocab, 64)}
    if source_holds(config, shape.head_dim):
        sizes["records"] = 8 * shape.head_dim
    return DecoderMemory(model=model, tokens=tokens, context=room, gate_tile=gate_tile, kv=kv, plan=plan,
                         regions=lay_out(sizes), row_bytes=row_bytes, runs=runs, cache_bytes=shape.kv.size)


def decoder_program(config: AcceleratorConfig, memory: DecoderMemory, *, tokens: int, code_addr: int, head: str = "last",
                    name: str | None = None, limits: Mapping[str, float] | None = None, make_angles: bool = False) -> Program:
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
    make_angles : bool
        Of one token: angles come from the load unit's source, not from the table; `RESYNC` is one more argument.

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
    on_chip = memory.on_chip(config) if tokens == 1 else None
    shape = on_chip.shape if on_chip else memory.shape(config, tokens)
    if make_angles and (tokens > 1 or not memory.makes_angles(config)):
        raise ShapeError(f"angles must come from the table for {tokens} tokens, or where the source of angles "
                         f"({config.rotary_pairs} pairs) or the scratchpad is too small")
    arguments = ["position", *(["count"] if tokens > 1 else []), *([RESYNC] if make_angles else [])]
    decoder = _Decoder(config, memory, shape, on_chip, head, limits or {}, make_angles)
    kernels: list[tuple[int, str]] = []
    code = emit(StreamEmitter, arguments, lambda emitter: decoder.emit(emitter, kernels), parity=config.command_parity)
    roles = {"x": "input", "angles": "input", "records": "input", "weights": "input", "logits": "output"}
    regions = tuple(Region(name=region, addr=addr, size=size, role=roles.get(region, "scratch"))
                    for region, (addr, size) in memory.regions.items())
    return Program(name=name or f"decoder, {tokens} token" + "s" * (tokens > 1), config_digest=config.digest(), code=code,
                   parity=config.command_parity, code_addr=code_addr, regions=regions,
                   arguments={name: i for i, name in enumerate(arguments)}, kernels=tuple(kernels))


class _Decoder(Phases):
    """The phases of a program with all areas chosen."""

    def __init__(self, config: AcceleratorConfig, memory: DecoderMemory, shape: DecoderShape, on_chip: Resident | None, head: str,
                 limits: Mapping[str, float], make_angles: bool):
        super().__init__(config, shape, memory.regions, on_chip)
        self.make_angles = make_angles
        self.memory, self.head, self.limits, self.single = memory, head, limits, shape.tokens == 1
        self.norm = make_quantize(config, "norm", shape.tokens, shape.hidden, shape.eps)
        self.outputs = make_quantize(config, "attention output", shape.tokens, shape.attention_width)
        self.mlp = make_quantize(config, "mlp", shape.tokens, shape.ffn)
        self.scalars = row_scalars(config, "the decoder", SCALARS, shape.tokens)
        self.attention_scalars, self.rotary_scalars = token_scalars(config, shape) if self.single else (
            attention_scalars(config, shape), row_scalars(config, "rotary", ROTARY_SCALARS, shape.tokens))
        self.queries = on_chip.queries if on_chip else query_area(config, shape, 0)

    def _limited(self, name: str, linear: Linear) -> Linear:
        """Return a linear with its limits."""
        names = ("gate", "up") if name == "gate_up" else (name,)
        return replace(linear, limits=tuple(self.limits[part] for part in names)) if self.limits else linear

    def emit(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit the program; `kernels` gets the first instruction and name of each phase."""
        self.begin(emitter, kernels)
        self.rows = 1 if self.single else emitter.reg("count")
        if self.on_chip:
            emitter.keep_rings(*RINGS)
        weights, cache = emitter.reg("weights"), emitter.reg("cache")
        emitter.asm.set(weights, self.memory.regions["weights"][0])
        emitter.asm.set(cache, self.memory.regions["cache"][0])
        if self.single:
            place = emitter.reg(SCALE_PLACE)
            emitter.asm.shl(place, emitter.reg("position"), "r0", 2)
            emitter.asm.and_(place, place, "r0", self.config.beat_bytes - 1)
        self.phase("embedding statistics")
        self._embedding()
        for run in self.memory.runs:
            with emitter.loop(len(run.layers)):
                self._layer(run, weights, cache)
                emitter.move(weights, weights, run.layer_bytes)
                emitter.move(cache, cache, self.memory.cache_bytes)
        if self.head != "none":
            self._logits(weights)
        emitter.asm.halt()

    def _embedding(self) -> None:
        """Measure the embeddings; those of one token come to stay, with its angles."""
        emitter, shape = self.emitter, self.shape
        if not self.on_chip:
            areas = quantize_areas(self.config, self.norm, 0)
            emit_measure(emitter, self.norm, areas, self.scalars, rows=self.rows,
                         source=Dram(self.at("x"), self.memory.row_bytes))
            if self.single:
                self._token_heads.begin(areas["in"].addr)
            return
        x = self.on_chip.places["x"]
        emitter.command(Unit.LOAD, {"dram_addr": self.at("x"), "dram_stride": 0, "rows": 1, "row_bytes": 4 * shape.hidden,
                                    "addr": x.addr, "stride": 0, "transpose": 0}, [Semaphore.PARAM_FREE])
        angles = self.on_chip.areas["angles"]
        if self.make_angles:
            emit_source_angles(self.config, emitter, shape, angles, self.at("records"), [Semaphore.PARAM_FULL])
        else:
            load_angles(emitter, shape, angles, 1, emitter.reg("position"), self.at("angles"), [], [Semaphore.PARAM_FULL])
        emitter.passes([vector_pass("magnitude", a=Floats(x.addr), m=1, n=shape.hidden, amax_to=self.scalars["magnitude"])],
                       [Semaphore.PARAM_FULL], [Semaphore.PARAM_FREE])
        self._token_heads.begin(x.addr)

    def _place(self, name: str) -> Place:
        """Return where rows of float32 wait."""
        if self.on_chip:
            return self.on_chip.places[name]
        strides = {"x": self.memory.row_bytes, "qkv": 4 * self.shape.qkv_width, "attention": 4 * self.shape.attention_width,
                   "mlp": 4 * self.shape.ffn}
        return Dram(self.at(name), strides[name])

    def _operand(self, phase: str, quantize: Quantize, source: str, *, measured: bool) -> OperandPhases:
        """Return what makes the operand of a linear of rows of float32."""
        place = self._place(source)

        def operand() -> None:
            self.phase(phase)
            if isinstance(place, Dram):
                self.quantize(quantize, place, measured=measured)
            else:
                emit_codes(self.emitter, quantize, self.scalars, source=place, target=self.operand(quantize.n)[0],
                           measured=measured)

        def row_scale() -> None:
            assert isinstance(place, Scratchpad)
            self.phase(phase)
            emit_row_scale(self.emitter, quantize, self.scalars, source=place)

        return operand, None if isinstance(place, Dram) else row_scale

    def _layer(self, run: LayerRun, weights: str, cache: str) -> None:
        statistics = self.scalars
        linears = {name: self._limited(name, linear)
                   for name, linear in layer_linears(self.config, self.shape, self.memory.gate_tile, run.formats).items()}

        def matrix(linear: str) -> Address:
            return weights, run.offsets[linear]

        x = self._place("x")
        self._heads(linears["qkv"], matrix("qkv"), (cache, 0))
        self.phase("attention")
        areas = self.on_chip.areas if self.on_chip else attention_areas(self.config, self.shape, self.queries.end)
        emit_attention(self.config, self.emitter, self.shape, areas, self.attention_scalars, self.queries, rows=self.rows,
                       position=self.emitter.reg("position"), cache=(cache, 0), output=self._place("attention"))
        self.linear("attention output", linears["output"], matrix("output"), x, statistics=statistics,
                    operand=self._operand("attention quantize", self.outputs, "attention", measured=False))
        self.linear("gate and up", linears["gate_up"], matrix("gate_up"), self._place("mlp"), statistics=statistics,
                    operand=self._operand("mlp norm", self.norm, "x", measured=True))
        self.linear("down", linears["down"], matrix("down"), x, statistics=statistics,
                    operand=self._operand("mlp quantize", self.mlp, "mlp", measured=True))

    @property
    def _token_heads(self) -> TokenHeads:
        """The heads of one token."""
        areas = self.on_chip.areas if self.on_chip else head_areas(self.config, self.shape, self.queries.end)
        return TokenHeads(self.config, self.emitter, self.shape, areas, self.rotary_scalars, self.queries,
                          position=self.emitter.reg("position"), source=self._place("qkv"))

    def _heads(self, linear: Linear, weights: Address, cache: Address) -> None:
        """Make queries, keys and values, and append to the cache."""
        config, emitter, shape, position = self.config, self.emitter, self.shape, self.emitter.reg("position")
        source, operand = self._place("qkv"), self._operand("attention norm", self.norm, "x", measured=True)
        if not self.single:
            assert isinstance(source, Dram)
            self.linear("qkv", linear, weights, source, operand=operand)
            self.phase("rotary")
            emit_rotary(config, emitter, shape, rotary_areas(config, shape, self.queries.end), self.rotary_scalars, self.queries,
                        rows=self.rows, position=position, source=source, table=self.at("angles"), cache=cache)
            return
        heads = self._token_heads

        def turn() -> None:
            self.phase("rotary")
            heads.turn()

        turned, *values = value_span(shape, linear)
        if isinstance(source, Scratchpad) and values:
            self.linear("qkv", linear, weights, source, span=(0, turned), operand=operand)
            self.linear("qkv", linear, weights, Scratchpad(source.addr + 4 * turned, source.stride), meanwhile=turn,
                        span=(turned, values[0]))
        else:
            self.linear("qkv", linear, weights, source, operand=operand)
            if isinstance(source, Dram):
                self.phase("rotary")
                heads.load(self.at("angles"))
            turn()
        self.phase("rotary")
        heads.append(cache)

    def _logits(self, weights: str) -> None:
        """Emit the last norm and the head; `weights` stands behind the layers'."""
        shape, memory, emitter = self.shape, self.memory, self.emitter
        every = self.head == "all" or self.single
        rows = shape.tokens if every else 1
        head = self._limited("head", head_linear(self.config, shape, rows, memory.plan.head))

        def last_token() -> None:
            self.phase("norm")
            norm = make_quantize(self.config, "norm", 1, shape.hidden, shape.eps)
            with emitter.registers("last"):
                last = emitter.reg("last")
                emitter.asm.add(last, emitter.reg("count"), "r0", -1)
                emitter.asm.shl(last, last, "r0", int(math.log2(memory.row_bytes)))
                self.quantize(norm, Dram((last, memory.regions["x"][0]), memory.row_bytes), measured=False, rows=1)

        self.linear("head", head, (weights, 0), Dram(self.at("logits"), memory.logits_row), rows=None if every else 1,
                    operand=self._operand("norm", self.norm, "x", measured=True) if every else (last_token, None))
