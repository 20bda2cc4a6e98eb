"""BitMoD: cycles of terms, groups and layers, bits of a weight, areas of PEs, and what its formats cost a language model."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.reproduce.bitmod_float import float_rows
from flows.reproduce.gemm import SHAPES, gemm_cycles, how
from flows.reproduce.options import Options
from flows.reproduce.quality import bits_rows, evaluations
from flows.reproduce.row import Row, not_asked
from hw.engines.bitmod import BITMOD_TERMS, bitmod_cycles, bitmod_paper_layer
from hw.presets import PRESETS
from sw.engines import weight_layout
from sw.models.llama_quantization import QuantizationPlan

__all__ = ["rows"]

_TERMS = {"int8": (4, 128), "int6": (3, 96), "fp4": (2, 64), "fp3": (2, 64)}       # cycles of a step, of a group of 128
_LOSSLESS, _LOSSY, _GENERATIVE = 6.0625, 4.0625, 3.0625                            # bits of a weight
_TOKENS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    """A model of the paper: linear layers as (outputs, inputs, how many), and published cycles of a whole model.

    `prefill`: lossless and lossy at 256 tokens; `decode`: lossless and lossy for one token.
    """

    layers: tuple[tuple[int, int, int], ...]
    prefill: tuple[int, int]
    decode: tuple[int, int]


def _layers(hidden: int, inner: int, keys: int, count: int, vocabulary: int, *, gated: bool) -> tuple[tuple[int, int, int], ...]:
    return ((hidden, hidden, 2 * count), (keys, hidden, 2 * count), (inner, hidden, (1 + gated) * count), (hidden, inner, count),
            (vocabulary, hidden, 1))


_MODELS = {
    "OPT-1.3B": _Model(layers=_layers(2048, 8192, 2048, 24, 50272, gated=False), prefill=(336_236_544, 233_070_592),
                       decode=(31_220_054, 15_857_750)),
    "Phi-2": _Model(layers=_layers(2560, 10240, 2560, 32, 51200, gated=False), prefill=(693_780_480, 515_194_880),
                    decode=(62_986_912, 31_959_712)),
    "Yi-6B": _Model(layers=_layers(4096, 11008, 512, 32, 64000, gated=True), prefill=(1_414_209_536, 946_937_856),
                    decode=(137_681_120, 69_662_944)),
    "Llama-2-7B": _Model(layers=_layers(4096, 11008, 4096, 32, 32000, gated=True), prefill=(1_649_680_384, 1_202_921_472),
                         decode=(156_919_888, 79_493_200)),
    "Llama-2-13B": _Model(layers=_layers(5120, 13824, 5120, 40, 32000, gated=True), prefill=(3_537_397_760, 2_601_461_760),
                          decode=(305_157_360, 154_552_560)),
    "Llama-3-8B": _Model(layers=_layers(4096, 14336, 1024, 32, 128256, gated=True), prefill=(1_901_133_824, 1_273_233_408),
                         decode=(178_109_840, 90_099_088)),
}
_LINEAR = {_LOSSLESS: 1_351_884_800, _LOSSY: 905_125_888}      # of Llama-2-7B, prefill: published less attention
_SAME_ATTENTION = {"prefill": ("Phi-2", "Llama-2-7B", "Llama-2-13B"),
                   "decode": ("OPT-1.3B", "Phi-2", "Llama-2-7B", "Llama-2-13B")}
_BASELINE, _PRESET = "systolic-16x16", "bitmod-16x16"
_FORMATS = ("bitmod4-g128", "bitmod3-g128", "int6-g128-int8")
_PE_RATIO = 1507.7 / 1968.7                                                        # BitMoD to FP16, 28 nm, 1 GHz
_ENCODERS = 2419 / 99_509                                                          # of a tile
_PERPLEXITY = {"bitmod4-g128": 5.72, "bitmod3-g128": 6.55, "int4-asym-g128": 5.77, "int3-asym-g128": 7.08}
_FP16_PERPLEXITY = 5.47                                                            # Llama-2-7B, Wiki


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows: formulas and predictions at once; the rest with `--rtl`, `--model` and `--liberty`."""
    yield from _terms()
    yield from _layer_models()
    yield from _storage()
    yield from _frame(options)
    yield from float_rows(options)
    yield from _quality(options)
    yield from _areas(options)


def _terms() -> Iterator[Row]:
    for precision, (step, group) in _TERMS.items():
        yield Row(quantity=f"cycles of four {precision} multiply-accumulates", paper=step, ours=BITMOD_TERMS[precision],
                  grade="found", target=step, note="asserted in the bench of the PE")
        yield Row(quantity=f"cycles of a group of 128, {precision}", paper=group, grade="found", target=group,
                  ours=bitmod_cycles(8, 8, 8, 8, 128, precision, 128),
                  note="the RTL's formula, asserted in the benches of tile and engine")
    yield Row(quantity="cycles that scales add to 32 groups of 128, fp4", paper=0, grade="found", target=0,
              ours=bitmod_cycles(8, 8, 8, 8, 4096, "fp4", 128) - 32 * 64, note="multiplied behind the next group")


def _paper(model: _Model, bits: float, phase: str) -> int:
    """Return the cycles of a model's linear layers by the authors' law."""
    rows_, columns, tokens = (32, 32, _TOKENS) if phase == "prefill" else (64, 16, 1)
    return sum(count * bitmod_paper_layer(rows_, columns, tokens, n, k, bits) for n, k, count in model.layers)


def _layer_models() -> Iterator[Row]:
    llama = _MODELS["Llama-2-7B"]
    for bits, cycles in _LINEAR.items():
        kind = "lossless" if bits == _LOSSLESS else "lossy"
        yield Row(quantity=f"Llama-2-7B, {_TOKENS} tokens, linear layers, {kind}: cycles", paper=cycles, target=cycles,
                  ours=_paper(llama, bits, "prefill"), grade="derived",
                  note="the authors' law; what they publish less attention, the same for both")
    for phase, low in (("prefill", _LOSSY), ("decode", _GENERATIVE)):
        for name, model in _MODELS.items():
            published = model.prefill if phase == "prefill" else model.decode
            same = name in _SAME_ATTENTION[phase]
            difference = published[0] - published[1]
            yield Row(quantity=f"{name}, {phase}, lossless less lossy: cycles", paper=difference, grade="found",
                      ours=_paper(model, _LOSSLESS, phase) - _paper(model, low, phase), target=difference if same else None,
                      note="the authors' law; attention, which we do not model, cancels" if same else
                      "the authors' law; what is published differs otherwise, perhaps in its attention (inferred)")
    for bits, precision in ((_LOSSLESS, "int6"), (_LOSSY, "fp4")):
        ours = sum(count * bitmod_cycles(32, 32, _TOKENS, n, k, precision, 128) for n, k, count in llama.layers)
        yield Row(quantity=f"the same layers of Llama-2-7B on 32×32 of our PEs, {precision}: cycles", paper=_LINEAR[bits],
                  ours=ours, grade="derived",
                  note="the RTL's formula has no memory; theirs is bound by it in the down projections, all else agrees")


def _storage() -> Iterator[Row]:
    config = PRESETS[_PRESET]
    for name, bits in zip(_FORMATS, (_LOSSY, _GENERATIVE, _LOSSLESS), strict=True):
        layout = weight_layout(config, config.columns, 4096, name)
        yield Row(quantity=f"bits of a weight in memory, {name}", paper=bits, grade="found",
                  ours=8 * layout.size / (config.columns * 4096),
                  note="16 bits of header for each group of 128: scale and index of the special value, a byte each; theirs has 8")


# Cycles of the whole accelerator --------------------------------------------------------------------------------------


def _frame(options: Options) -> Iterator[Row]:
    """Yield what the engine gains over the bit-parallel int8 array of as many rows and columns, in the same accelerator."""
    source = how(options.rtl)
    for phase, shape in SHAPES.items():
        base = gemm_cycles(PRESETS[_BASELINE], "int8", shape, rtl=options.rtl)
        for weights in ("int8", *_FORMATS):
            ours = base / gemm_cycles(PRESETS[_PRESET], weights, shape, rtl=options.rtl)
            yield Row(quantity=f"{phase} GEMM {'×'.join(map(str, shape))}, {weights}: speedup over int8 MACs, equal PEs",
                      paper=None, ours=ours, grade="inferred",
                      note=f"{_PRESET} over {_BASELINE}, doorbell to interrupt, {source}; 4/T at most where computing binds, "
                      "where the bus does the ratio of bits at most")


# Quality ------------------------------------------------------------------------------------------------------------


def _quality(options: Options) -> Iterator[Row]:
    note = ("bits of information of a token over those unquantized; the paper's from perplexities of Llama-2-7B (Wiki), where 1 "
            "is 5.47")
    found: Mapping[str, Any] = {}
    if options.model is not None:
        plans = {name: QuantizationPlan.named(weights=name) for name in (*_PERPLEXITY, "int6-g128-int8")}
        found = evaluations(options, {"float32": QuantizationPlan(), **plans})
    for name in (*_PERPLEXITY, "int6-g128-int8"):
        paper = math.log2(_PERPLEXITY[name]) / math.log2(_FP16_PERPLEXITY) if name in _PERPLEXITY else None
        quantity, grade = f"bits of a token over float's, weights {name}", "derived" if paper else "inferred"
        if not found:
            yield not_asked(quantity, paper, grade, "--model DIR", note)
            continue
        yield Row(quantity=quantity, paper=paper, ours=found[name].bits / found["float32"].bits, grade=grade, note=note)
    yield from bits_rows(found)


# Areas --------------------------------------------------------------------------------------------------------------


def _areas(options: Options) -> Iterator[Row]:
    ratio = "area of a PE, all precisions, over that of a float16 MAC"
    share = "term generators and scales, share of an 8×8 tile"
    gains = {precision: f"speedup over float16 MACs at equal area, compute only, {precision}" for precision in ("fp4", "int6")}
    papers = {"fp4": 2 * 64 / 48, "int6": 4 / 3 * 64 / 48}
    integer = "speedup of 8×8 PEs over a mesh of int8 MACs at equal area, compute only, fp4"
    if options.liberty is None:
        yield not_asked(ratio, _PE_RATIO, "found", "--liberty PATH")
        for precision, quantity in gains.items():
            yield not_asked(quantity, papers[precision], "derived", "--liberty PATH")
        yield not_asked(share, _ENCODERS, "found", "--liberty PATH")
        yield not_asked(integer, None, "inferred", "--liberty PATH")
        return
    areas = _pe_areas(options.liberty)
    for name, baseline in (("sums in float32", "mac32"), ("sums in float16", "mac16")):
        yield Row(quantity=f"{ratio}, {name}", paper=_PE_RATIO, ours=areas["bitmod"] / areas[baseline], grade="found",
                  note="the authors' simulator has 1507.7 and 1968.7 µm², 28 nm at 1 GHz, and does not say what the MAC adds in")
        for precision, quantity in gains.items():
            yield Row(quantity=f"{quantity}, {name}", paper=papers[precision], grade="derived",
                      ours=4 / BITMOD_TERMS[precision] * areas[baseline] / areas["bitmod"],
                      note="PEs alone; the paper's from 64 PEs in the place of 48; its 1.99 and 2.41, lossless, have memory")
    yield Row(quantity=share, paper=_ENCODERS, ours=areas["weights"] / areas["tile"], grade="found",
              note="ours have the scales' registers, and the tile sums in float32, in no line of the paper's table")
    yield Row(quantity=integer, paper=None, ours=2 * areas["mesh"] / areas["array"], grade="inferred",
              note="the engine of the presets: int8 activations, all precisions; line buffers and memories apart")


def _pe_areas(liberty: str) -> dict[str, float]:
    """Synthesize PEs and arrays of 8×8; the ratios hold within one library."""
    from flows.synth.asic import synthesize
    from flows.synth.options import AsicOptions
    from hw.arith.float_fma import FloatFma
    from hw.arith.half_mul_add import HalfMulAdd
    from hw.array.bitmod_array import BitmodArray
    from hw.array.bitmod_tile import BitmodTile
    from hw.array.mesh import Mesh
    from hw.elements import ELEMENTS, FP16
    from hw.pe import PESpec
    from hw.pe.bitmod.pe import BitmodPE
    from hw.pe.bitmod.shape import BitmodShape

    def area(design: Any, **more: Any) -> dict[str, Any]:
        return synthesize(design, top="top", options=AsicOptions(liberty=liberty, timing=False, **more))

    mac = PESpec(kind="mac", activation_width=8, weight_width=8, psum_width=24, dataflows=("os",))
    flat = {"mac32": HalfMulAdd(), "mac16": FloatFma(fmt=FP16), "bitmod": BitmodPE(BitmodShape())}
    found = {name: float(area(design, flatten=True)["area"]) for name, design in flat.items()}
    tile = area(BitmodTile(BitmodShape(), rows=8, columns=8))
    columns = next(row for row in tile["by_block"] if row["block"].endswith("bitmod_weight_column"))
    return {
        **found, "tile": float(tile["area"]), "weights": float(columns["instances"] * columns["area"]),
        "mesh": float(area(Mesh(spec=mac, rows=8, columns=8))["area"]),
        "array": float(area(BitmodArray(BitmodShape(activation=ELEMENTS["int8"]), rows=8, columns=8))["area"]),
    }
