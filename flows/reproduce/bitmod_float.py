"""BitMoD beside an array of float16 MACs, both with float16 activations: cycles at equal PEs, and at equal area."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from flows.measure import measure
from flows.reproduce.gemm import SHAPES, gemm_cycles, how
from flows.reproduce.options import Options
from flows.reproduce.row import Row, not_asked
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.presets import PRESETS
from sw.golden.llama import embed
from sw.models.float_linears import llama_cases
from sw.models.llama import LlamaModel
from sw.workloads import Gemm, Workload

__all__ = ["float_rows"]

_BASELINE, _PRESET = "float-8x8", "bitmod-fp16-8x8"
_FORMATS = ("int6-g128-int8", "bitmod4-g128", "bitmod3-g128")
_PUBLISHED = {      # Llama-2-7B at equal area, cycles of float16 MACs over those of BitMoD
    ("prefill", "int6-g128-int8"): 3_156_574_208 / 1_649_680_384, ("prefill", "bitmod4-g128"): 3_156_574_208 / 1_202_921_472,
    ("decode", "int6-g128-int8"): 413_518_608 / 156_919_888, ("decode", "bitmod3-g128"): 413_518_608 / 79_493_200,
}
_ARRAYS_RATIO = 1507.7 / 1968.7                                                 # of a PE, 28 nm
_PROMPT = b"def add(a, b):\n"
_LOOSE = "ours is one GEMM of 768 by 768 on 8×8 PEs, theirs all of Llama-2-7B, attention included, on 32×32"


def float_rows(options: Options) -> Iterator[Row]:
    """Yield the rows: predicted at once, or simulated with `--rtl`; layers with `--model`, equal area with `--liberty`."""
    found: dict[tuple[str, str], float] = {}
    for phase, shape in SHAPES.items():
        base = gemm_cycles(PRESETS[_BASELINE], "float16", shape, rtl=options.rtl)
        for weights in _FORMATS:
            found[phase, weights] = base / gemm_cycles(PRESETS[_PRESET], weights, shape, rtl=options.rtl)
            yield Row(quantity=f"{phase} GEMM {'×'.join(map(str, shape))}, {weights}: speedup over float16 MACs, equal PEs",
                      paper=None, ours=found[phase, weights], grade="inferred",
                      note=f"{_PRESET} over {_BASELINE}, doorbell to interrupt, {how(options.rtl)}")
    yield from _layers(options)
    yield from _equal_area(options, found)


def _layers(options: Options) -> Iterator[Row]:
    """Yield speedups of the linears of the model's first layer, on what a prompt brings to them."""
    for tokens in (15, 1):
        quantity = f"linears of the model's first layer, {tokens} token{'s' * (tokens > 1)}"
        if options.model is None:
            yield not_asked(f"{quantity}: speedup over float16 MACs, equal PEs", None, "inferred", "--model DIR")
            continue
        base = _layer_cycles(options, PRESETS[_BASELINE], tokens, "float16")
        for weights in _FORMATS:
            yield Row(quantity=f"{quantity}, {weights}: speedup over float16 MACs, equal PEs", paper=None, grade="inferred",
                      ours=base / _layer_cycles(options, PRESETS[_PRESET], tokens, weights),
                      note=f"seven GEMMs one after the other, doorbell to interrupt each, {how(options.rtl)}")


def _layer_cycles(options: Options, config: AcceleratorConfig, tokens: int, weights: str) -> int:
    """Return the cycles of the seven linears, each its own program; a ValueError where RTL and golden device differ."""
    assert options.model is not None
    model = LlamaModel(options.model)
    prompt = np.array([model.tokenizer.encode(_PROMPT)[:tokens]])
    x = embed(model.config, model.checkpoint.weights(), prompt)[0]

    def run(config: AcceleratorConfig, gemm: Gemm, text: str | None) -> dict[str, float]:
        for case in llama_cases(config, model.config, model.checkpoint.layer(0), x, weights):
            gemm(case)
        return {}

    found = measure(Workload(name="layer", doc="linears", runner=run), config, RtlDevice(config) if options.rtl else None)
    if found.match is False:
        raise ValueError(f"linears in {weights} must come out of the RTL as of the golden model")
    return sum(gemm.cycles if options.rtl else gemm.predicted_cycles for gemm in found.gemms)


def _equal_area(options: Options, speedups: dict[tuple[str, str], float]) -> Iterator[Row]:
    ratio = "area of 8×8 PEs, float16, all precisions, over that of as many float16 MACs with their adder trees"
    if options.liberty is None:
        yield not_asked(ratio, _ARRAYS_RATIO, "found", "--liberty PATH")
    else:
        areas = _areas(options.liberty)
        yield Row(quantity=ratio, paper=_ARRAYS_RATIO, ours=areas["bitmod array"] / areas["float array"], grade="found",
                  note="the paper's is of a PE; ours have operand registers, term generators and control, or stationary weights")
    for (phase, weights), speedup in speedups.items():
        quantity, paper = f"{phase}, {weights}: speedup over float16 MACs at equal area", _PUBLISHED.get((phase, weights))
        grade = "found" if paper is not None else "inferred"
        if options.liberty is None:
            yield not_asked(quantity, paper, grade, "--liberty PATH")
            continue
        yield Row(quantity=quantity, paper=paper, ours=speedup * areas["float engine"] / areas["bitmod engine"], grade=grade,
                  note=f"cycles above, areas of the engines, accumulators and memories apart; {_LOOSE}")


def _areas(liberty: str) -> dict[str, float]:
    """Synthesize both arrays and both engines; the ratios hold within one library."""
    from flows.synth.asic import synthesize
    from flows.synth.options import AsicOptions
    from hw.array.bitmod_array import BitmodArray
    from hw.array.bitmod_engine import BitmodEngine
    from hw.array.float_column import FloatColumn
    from hw.array.float_engine import FloatEngine
    from hw.elements import FP16
    from hw.pe.bitmod.shape import BitmodShape

    def area(design: Any) -> float:
        return float(synthesize(design, top="top", options=AsicOptions(liberty=liberty, timing=False))["area"])

    return {
        "float array": 8 * area(FloatColumn(fmt=FP16, rows=8)),
        "bitmod array": area(BitmodArray(BitmodShape(), rows=8, columns=8)),
        "float engine": area(FloatEngine(PRESETS[_BASELINE])), "bitmod engine": area(BitmodEngine(PRESETS[_PRESET])),
    }
