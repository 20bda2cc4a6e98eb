"""One token of a decoder of the Llama family, but for attention, the MLP's products, or both, which another device runs.

Four programs share the memory of the model's others. Between them a transfer reads what one leaves in DRAM and writes what the
next one takes, rows of float32::

    before attention    x + delta → x; norm, int8; queries, keys and values; positions → "turned" (queries, keys), "qkv" (values)
        attention, elsewhere                                                          → "context"
    before the MLP      int8; · output, + x → x; norm                                 → "normed"
        gate and up, elsewhere                                                        → "gated"
    gate                SiLU(gate) · up                                               → "hidden"
        down, elsewhere                                                               → "delta"
    head                x + delta; norm, int8; · head                                 → logits

The first two serve all layers: where a layer's weights begin is an argument. Where the MLP stays, its phases follow the output of
attention in one program, "delta" is zero, and there is no "gate". Where attention stays, the first two are one, and where a
layer's cache begins is an argument too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.isa import Unit, VectorFunction
from sw.kernels.emitter import emit
from sw.kernels.passes.activations import add, multiply
from sw.kernels.passes.command import ITSELF, Floats, Pass, Row, vector_pass
from sw.kernels.passes.rope import rope
from sw.kernels.transformer.areas import Area, place_areas, row_scalars
from sw.kernels.transformer.attention import attention_areas, emit_attention, token_scalars
from sw.kernels.transformer.decoder import DecoderMemory
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.layer_linears import head_linear, layer_linears
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.phases import Phases
from sw.kernels.transformer.places import Dram
from sw.kernels.transformer.quantize import SCALARS, make_quantize
from sw.kernels.transformer.shape import PAGE, DecoderShape
from sw.kernels.transformer.token_heads import SCALE_PLACE, TokenHeads, head_areas, query_area
from sw.layout import round_up
from sw.program import Program, Region

__all__ = ["OffloadPrograms", "offload_programs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OffloadPrograms:
    """The programs, and where they meet what runs elsewhere.

    Attributes
    ----------
    before_attention, before_mlp, gate, head : Program
        Arguments: "position" and "weights" (of the layer, its first byte), "weights", none, none. `gate` is None where the MLP
        stays; `before_attention` where attention does, and `before_mlp` has "position", "weights" and "cache" then.
    regions : dict of str to (int, int)
        Address and size of "delta", "turned", "context", "normed", "gated" (gate, then up) and "hidden", and of the model's own.
    shape : DecoderShape
    end : int
        First byte behind them all.
    """

    before_attention: Program | None
    before_mlp: Program
    gate: Program | None
    head: Program
    regions: dict[str, tuple[int, int]]
    shape: DecoderShape
    end: int


def offload_programs(config: AcceleratorConfig, memory: DecoderMemory, start: int, *, attention: bool = True,
                     mlp: bool = True) -> OffloadPrograms:
    """Return the programs for a model that lies in `memory`; they and what they exchange come from byte `start` on.

    Parameters
    ----------
    attention, mlp : bool
        Which run elsewhere: attention, the products of the MLP, or both.

    Raises
    ------
    ValueError
        If both stay.
    ShapeError, AreaError
        If the config cannot run it.
    """
    if not (attention or mlp):
        raise ValueError("attention or mlp must be true: one of them runs elsewhere")
    shape = memory.shape(config, 1)
    model, regions, addr = memory.model, dict(memory.regions), round_up(start, PAGE)
    sizes = {"delta": shape.hidden, "turned": (shape.heads + shape.kv_heads) * shape.head_dim, "context": shape.attention_width,
             "normed": shape.hidden, "gated": 2 * model.ffn, "hidden": model.ffn}
    for name, floats in sizes.items():
        regions[name] = (addr, round_up(4 * floats, 64))
        addr += round_up(4 * floats, PAGE)
    body = _Offload(config, memory, shape, regions)
    made: dict[str, Program] = {}
    bodies: dict[str, tuple[Body, list[str]]] = {}
    if attention:
        bodies["before attention"] = body.before_attention, ["position", "weights"]
        between = ("before the MLP", body.before_mlp) if mlp else ("after attention", body.after_attention)
        bodies[between[0]] = between[1], ["weights"]
    else:
        bodies["before the MLP"] = body.attend_before_mlp, ["position", "weights", "cache"]
    bodies |= {**({"gate": (body.gate, [])} if mlp else {}), "head": (body.head, [])}
    for name, (of, arguments) in bodies.items():
        made[name] = _program(config, regions, name, arguments, of, addr)
        addr = round_up(addr + made[name].code_bytes, PAGE)
    before = made.pop("before attention", None)
    second, *rest, last = made.values()
    return OffloadPrograms(before_attention=before, before_mlp=second, gate=rest[0] if rest else None, head=last, regions=regions,
                           shape=shape, end=addr)


Body = Callable[[StreamEmitter, list[tuple[int, str]]], None]
_ROLES = {"x": "input", "angles": "input", "weights": "input", "delta": "input", "context": "input", "gated": "input",
          "logits": "output"}


def _program(config: AcceleratorConfig, regions: dict[str, tuple[int, int]], name: str, arguments: list[str], body: Body,
             addr: int) -> Program:
    kernels: list[tuple[int, str]] = []
    code = emit(StreamEmitter, arguments, lambda emitter: body(emitter, kernels), parity=config.command_parity)
    return Program(
        name=f"one token, {name}", config_digest=config.digest(), code=code, parity=config.command_parity, code_addr=addr,
        regions=tuple(Region(name=region, addr=at, size=size, role=_ROLES.get(region, "scratch"))
                      for region, (at, size) in regions.items()),
        arguments={argument: i for i, argument in enumerate(arguments)}, kernels=tuple(kernels))


class _Offload(Phases):
    """The phases of the programs."""

    def __init__(self, config: AcceleratorConfig, memory: DecoderMemory, shape: DecoderShape,
                 regions: dict[str, tuple[int, int]]):
        super().__init__(config, shape, regions)
        self.memory, self.rows = memory, 1
        self.run, = memory.runs                 # one program for each layer: all have the same formats
        self.linears = layer_linears(config, shape, memory.gate_tile, self.run.formats)
        self.norm = make_quantize(config, "norm", 1, shape.hidden, shape.eps)
        self.outputs = make_quantize(config, "attention output", 1, shape.attention_width)
        self.mlp = make_quantize(config, "mlp", 1, shape.ffn)
        self.scalars = row_scalars(config, "the decoder", SCALARS, 1)

    def before_attention(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit everything up to the queries, keys and values of one layer."""
        self.begin(emitter, kernels)
        self._residual()
        self.phase("attention norm")
        self.quantize(self.norm, self._x, measured=False)
        self._qkv()
        self.phase("rotary")
        self._rotary()
        emitter.asm.halt()

    def attend_before_mlp(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit everything of a layer up to the norm before the MLP, attention over the array's own cache included."""
        config, shape, position = self.config, self.shape, emitter.reg("position")
        self.begin(emitter, kernels)
        place, cache = emitter.reg(SCALE_PLACE), (emitter.reg("cache"), 0)
        emitter.asm.shl(place, position, "r0", 2)
        emitter.asm.and_(place, place, "r0", config.beat_bytes - 1)
        self._residual()
        self.phase("attention norm")
        self.quantize(self.norm, self._x, measured=False)
        queries, (scalars, of_heads) = query_area(config, shape, 0), token_scalars(config, shape)
        heads = TokenHeads(config, emitter, shape, head_areas(config, shape, queries.end), of_heads, queries, position=position,
                           source=Dram(self.at("qkv"), 4 * shape.qkv_width))
        heads.begin(self.operand(shape.hidden)[0])
        self._qkv()
        self.phase("rotary")
        heads.load(self.at("angles"))
        heads.turn()
        heads.append(cache)
        self.phase("attention")
        emit_attention(config, emitter, shape, attention_areas(config, shape, queries.end), scalars, queries, rows=1,
                       position=position, cache=cache, output=Dram(self.at("attention"), 4 * shape.attention_width))
        self._attention_output("attention")
        self._mlp_norm()
        emitter.asm.halt()

    def _qkv(self) -> None:
        self.linear("qkv", self.linears["qkv"], (self.emitter.reg("weights"), self.run.offsets["qkv"]),
                    Dram(self.at("qkv"), 4 * self.shape.qkv_width))

    def _attention_output(self, source: str) -> None:
        emitter = self.emitter
        self.phase("attention quantize")
        self.quantize(self.outputs, Dram(self.at(source), 4 * self.shape.attention_width), measured=False)
        self.linear("attention output", self.linears["output"], (emitter.reg("weights"), self.run.offsets["output"]), self._x)
        self.phase("mlp norm")

    def after_attention(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit all of a layer behind its attention."""
        weights = emitter.reg("weights")
        self.begin(emitter, kernels)
        self._attention_output("context")
        self.quantize(self.norm, self._x, measured=False)
        mlp = Dram(self.at("mlp"), 4 * self.shape.ffn)
        self.linear("gate and up", self.linears["gate_up"], (weights, self.run.offsets["gate_up"]), mlp)
        self.phase("mlp quantize")
        self.quantize(self.mlp, mlp, measured=False)
        self.linear("down", self.linears["down"], (weights, self.run.offsets["down"]), self._x)
        emitter.asm.halt()

    def before_mlp(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit the output of attention, the residual, and the norm before the MLP, as float32."""
        self.begin(emitter, kernels)
        self._attention_output("context")
        self._mlp_norm()
        emitter.asm.halt()

    def _mlp_norm(self) -> None:
        shape, squares = self.shape, self.scalars["squares"]
        self._elementwise("mlp norm", {"x": "x"}, "normed", shape.hidden, lambda of, to: [
            vector_pass("squares", a=of["x"], m=1, n=shape.hidden, squares_to=squares),
            vector_pass("rms", a=Row(squares), m=1, scale=1 / shape.hidden, add=shape.eps, function=VectorFunction.RSQRT,
                        sum_to=squares),
            vector_pass("normalize", a=of["x"], m=1, n=shape.hidden, row=squares, to=to)])

    def gate(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit SiLU(gate) · up."""
        ffn = self.memory.model.ffn
        self.begin(emitter, kernels)
        self.phase("gate")
        self._elementwise("gate", {"gate": "gated", "up": "gated"}, "hidden", ffn, lambda of, to: [
            vector_pass("silu", a=of["gate"], m=1, n=ffn, function=VectorFunction.SIGMOID, times=ITSELF, to=to),
            *multiply(1, ffn, to, of["up"], to)])
        emitter.asm.halt()

    def head(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Emit the logits."""
        memory = self.memory
        self.begin(emitter, kernels)
        self._residual()
        self.phase("norm")
        self.quantize(self.norm, self._x, measured=False)
        weights = memory.regions["weights"][0] + self.run.end
        self.linear("head", head_linear(self.config, self.shape, 1, memory.plan.head), ("r0", weights),
                    Dram(self.at("logits"), memory.logits_row))
        emitter.asm.halt()

    @property
    def _x(self) -> Dram:
        """The residual."""
        return Dram(self.at("x"), self.memory.row_bytes)

    def _residual(self) -> None:
        self.phase("residual")
        n = self.shape.hidden
        self._elementwise("residual", {"x": "x", "delta": "delta"}, "x", n,
                          lambda of, to: add(1, n, of["x"], of["delta"], to))

    def _elementwise(self, name: str, sources: dict[str, str], target: str, n: int,
                     passes: Callable[[dict[str, Floats], Floats], list[Pass]]) -> None:
        """Load a row of n from each region, one behind the other where two share one; run passes; store what they make."""
        emitter, config = self.emitter, self.config
        row = round_up(4 * n, config.line_bytes)
        areas = place_areas(config, name, {source: (row, 1) for source in (*sources, "out")})
        seen: dict[str, int] = {}
        for number, (source, region) in enumerate(sources.items()):
            at = self.regions[region][0] + seen.get(region, 0)
            seen[region] = seen.get(region, 0) + 4 * n
            emitter.command(Unit.LOAD, {"dram_addr": at, "dram_stride": 0, "rows": 1, "row_bytes": 4 * n,
                                        "addr": areas[source].addr, "stride": row, "transpose": 0},
                            [Semaphore.IN_FREE] if number == 0 else [],
                            [Semaphore.IN_FULL] if number == len(sources) - 1 else [])
        out = Floats(areas["out"].addr)
        emitter.passes(passes({source: Floats(areas[source].addr) for source in sources}, out),
                       [Semaphore.IN_FULL, Semaphore.OUT_FREE], [Semaphore.IN_FREE, Semaphore.OUT_FULL])
        self._store(target, areas["out"], 1, 4 * n)

    def _store(self, region: str, area: Area, rows: int, row_bytes: int) -> None:
        self.emitter.command(Unit.STORE, {"dram_addr": self.regions[region][0], "dram_stride": row_bytes, "rows": rows,
                                          "row_bytes": row_bytes, "addr": area.addr, "stride": row_bytes},
                             [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])
        self.emitter.asm.fence()

    def _rotary(self) -> None:
        """Turn queries and keys, heads as rows, by the angles of the position."""
        emitter, shape = self.emitter, self.shape
        heads, row = shape.heads + shape.kv_heads, 4 * shape.head_dim
        half = row // 2
        areas = place_areas(self.config, "rotary", {"in": (heads * row, 1), "angles": (row, 1), "out": (heads * row, 1)})
        with emitter.registers("angles"):
            angles = emitter.reg("angles")
            emitter.asm.shl(angles, emitter.reg("position"), "r0", int(math.log2(shape.rope_stride)))
            emitter.asm.add(angles, angles, "r0", self.regions["angles"][0])
            emitter.command(Unit.LOAD, {"dram_addr": angles, "dram_stride": 0, "rows": 1, "row_bytes": row,
                                        "addr": areas["angles"].addr, "stride": row, "transpose": 0}, [Semaphore.IN_FREE], [])
        emitter.command(Unit.LOAD, {"dram_addr": self.regions["qkv"][0], "dram_stride": row, "rows": heads, "row_bytes": row,
                                    "addr": areas["in"].addr, "stride": row, "transpose": 0}, [], [Semaphore.IN_FULL])
        low, high = (Floats(areas["in"].addr + part, row) for part in (0, half))
        cos, sin = (Floats(areas["angles"].addr + part) for part in (0, half))
        to_low, to_high = (Floats(areas["out"].addr + part, row) for part in (0, half))
        emitter.passes(rope(heads, shape.head_dim // 2, low, high, cos, sin, to_low, to_high),
                       [Semaphore.IN_FULL, Semaphore.OUT_FREE], [Semaphore.IN_FREE, Semaphore.OUT_FULL])
        self._store("turned", areas["out"], heads, row)
