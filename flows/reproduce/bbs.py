"""BBS and BitVert: cycles of bit columns, compression, speedups over Stripes, area of a PE, what its formats cost."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.reproduce.gemm import SHAPES, gemm_cycles, how
from flows.reproduce.options import Options
from flows.reproduce.quality import Instead, bits_rows, evaluations
from flows.reproduce.row import Row, not_asked
from hw.config import AcceleratorConfig
from hw.engines.bitvert import BITVERT_LANES, BITVERT_RECORD, bitvert_formats, bitvert_paper_speedup, bitvert_tile_cycles
from hw.families import ColumnFormat
from hw.formats import format_named
from hw.presets import PRESETS
from sw.engines import weight_layout
from sw.engines.bitvert import split_order
from sw.formats import dequantize, quantize
from sw.formats.columns import decode_groups, encode_groups, sensitive_channels
from sw.formats.rows import quantize_rows
from sw.kernels.transformer.weight_plan import LINEAR_PARTS
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan
from sw.models.llama_weights import LAYER_TENSORS, LlamaCheckpoint
from sw.models.sensitivity import sensitive_plan

__all__ = ["rows"]

Matrices = dict[tuple[int, str], npt.NDArray[np.float32]]

_PRESET = "bitvert-16x32"
_PLANNED = "bitvert-8x8"                # its spans of 64 channels fit small models, whose matrices have 128 outputs
_SETTINGS = {                       # format, share of channels that keep eight columns, compression, speedup of whole models
    "conservative": ("bbs-average-g32", 0.1, 1.29, 2.48),
    "moderate": ("bbs-shift-g32", 0.2, 1.66, 3.03),
}
_MIXED = {"conservative": "bbs-average-g32-1of8", "moderate": "bbs-shift-g32-1of4"}      # what the engine runs of them
_COLUMNS = {"int8": 8, "bbs-average-g32": 6, "bbs-shift-g32": 4}
_TILE = 128
_PE_RATIO = 739.6 / 532.8                                               # BitVert to Stripes, 28 nm, 800 MHz
_ERRORS = {("average", 2): 1.03, ("shift", 2): 0.72, ("average", 4): 15.2, ("shift", 4): 9.0}
_ROUNDED = {2: 1.49, 4: 21.3}
_GROUPS = 2000


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows: formulas and predictions at once; the rest with `--rtl`, `--model` and `--liberty`."""
    yield from _cycles()
    yield from _compression()
    yield from _mixture()
    yield from _errors()
    yield from _frame(options)
    yield from _quality(options)
    yield from _areas(options)


# Formulas -----------------------------------------------------------------------------------------------------------


def _stripes(config: AcceleratorConfig) -> AcceleratorConfig:
    """Return the same accelerator with Stripes PEs, whose weights are all of their eight columns."""
    return dataclasses.replace(config, engine="stripes", weight_formats=("int8",))


def _macs(config: AcceleratorConfig) -> AcceleratorConfig:
    """Return the same accelerator with the systolic engine, whose PEs multiply int8 in a cycle."""
    return dataclasses.replace(config, engine="systolic", weight_formats=())


def _mode(config: AcceleratorConfig, name: str) -> int:
    return config.weight_formats.index(name) + 1


def _pass(config: AcceleratorConfig, name: str) -> float:
    """Return the cycles of 16 weights, with their share of metadata."""
    return bitvert_tile_cycles(config, BITVERT_RECORD, _mode(config, name)) * BITVERT_LANES / BITVERT_RECORD


def _cycles() -> Iterator[Row]:
    config = PRESETS[_PRESET]
    for name, cycles in _COLUMNS.items():
        fmt = bitvert_formats(config)[_mode(config, name) - 1]
        yield Row(quantity=f"cycles of 16 weights, {name}", paper=cycles, ours=fmt.columns, grade="found", target=cycles,
                  note="asserted in the bench of the engine")
    stripes = _pass(_stripes(config), "int8")
    yield Row(quantity="cycles of 16 weights, Stripes", paper=None, ours=stripes, grade="inferred",
              note="eight lanes, as in the paper's table; asserted in the bench of the engine")
    for setting, (name, kept, _, _) in _SETTINGS.items():
        columns = kept * 8 + (1 - kept) * _COLUMNS[name]
        stored = bitvert_formats(config)[_mode(config, name) - 1].columns
        yield Row(quantity=f"speedup over Stripes where computing binds, {setting}: columns alone",
                  paper=bitvert_paper_speedup(columns), grade="derived", target=bitvert_paper_speedup(columns), tolerance=1e-9,
                  ours=stripes / (kept * _pass(config, "int8") + (1 - kept) * stored),
                  note=f"{kept:.0%} of the channels keep eight columns")
        yield Row(quantity=f"speedup over Stripes where computing binds, {setting}: as our engine takes it",
                  paper=bitvert_paper_speedup(columns), grade="derived",
                  ours=stripes / (kept * _pass(config, "int8") + (1 - kept) * _pass(config, name)),
                  note="metadata come through the port of the weights: a cycle for each 64 of K; by the formula of the RTL")


def _compression() -> Iterator[Row]:
    config = PRESETS[_PRESET]
    bits = {name: 8 * weight_layout(config, config.columns, 4096, name).size / (config.columns * 4096) for name in _COLUMNS}
    for setting, (name, kept, compression, _) in _SETTINGS.items():
        stored = kept * bits["int8"] + (1 - kept) * (bits[name] - 0.25)
        yield Row(quantity=f"compression of int8 weights, {setting}: columns alone", paper=compression, ours=8 / stored,
                  grade="found", target=compression, tolerance=0.01, note="of the layout in memory, less its metadata")
        yield Row(quantity=f"compression of int8 weights, {setting}: in memory", paper=compression, grade="found",
                  ours=8 / (kept * bits["int8"] + (1 - kept) * bits[name]),
                  note="with a byte of metadata for each group of 32, which the paper's figure leaves out")
    for name, expected in (("bbs-average-g32", 6.25), ("bbs-shift-g32", 4.25)):
        yield Row(quantity=f"bits of a weight in memory, {name}", paper=expected, ours=bits[name], grade="found", target=expected)


def _mixing(setting: str) -> AcceleratorConfig:
    """Return the accelerator with the format that mixes channels as a setting has them, or nearly."""
    return dataclasses.replace(PRESETS[_PRESET], weight_formats=(_MIXED[setting],))


def _mixture() -> Iterator[Row]:
    """Yield what the engine's own mix of channels takes: one of 8 or of 4 of each lane."""
    for setting, (_, kept, compression, _) in _SETTINGS.items():
        name, config = _MIXED[setting], _mixing(setting)
        fmt, = bitvert_formats(config)
        layout = weight_layout(config, fmt.one_of * config.columns, 4096, name)
        note = f"{name}: {1 / fmt.one_of:.1%} of the channels in place of {kept:.0%}, with metadata and choices"
        yield Row(quantity=f"compression of int8 weights, {setting}, one command: in memory", paper=compression, grade="found",
                  ours=8 / (8 * layout.size / (layout.n * layout.k)), note=note)
        cycles = sum(bitvert_tile_cycles(config, BITVERT_RECORD, 1, group) for group in range(fmt.one_of)) / fmt.one_of
        yield Row(quantity=f"speedup over Stripes where computing binds, {setting}, one command", grade="derived",
                  paper=bitvert_paper_speedup(kept * 8 + (1 - kept) * fmt.columns),
                  ours=_pass(_stripes(PRESETS[_PRESET]), "int8") * BITVERT_RECORD / BITVERT_LANES / cycles, note=note)


def _errors() -> Iterator[Row]:
    """Yield mean squared errors of groups of 32 integers, normally distributed with a deviation of 30."""
    weights = np.rint(np.random.default_rng(0).normal(0, 30, (1, _GROUPS, 32))).clip(-127, 127).astype(np.int8)
    note = "no figure of the paper; held against an independent model of a few hundred groups, {}, within a tenth"
    for (method, pruned), expected in _ERRORS.items():
        named = format_named(f"bbs-{method}-g32")
        assert isinstance(named, ColumnFormat)
        fmt = dataclasses.replace(named, pruned=pruned)
        found = decode_groups(fmt, encode_groups(fmt, weights))
        yield Row(quantity=f"mean squared error without {pruned} columns, {method}", paper=None, grade="inferred",
                  target=expected, ours=float(((found - weights.astype(np.int64)) ** 2).mean()),
                  tolerance=expected / 10, note=note.format(expected))
    for pruned, expected in _ROUNDED.items():
        step = 1 << pruned
        rounded = np.rint(weights / step) * step
        yield Row(quantity=f"mean squared error without {pruned} columns, rounded", paper=None, grade="inferred",
                  target=expected, ours=float(((rounded - weights) ** 2).mean()), tolerance=expected / 10,
                  note=note.format(expected))


# Cycles of the whole accelerator --------------------------------------------------------------------------------------


def _frame(options: Options) -> Iterator[Row]:
    """Yield what the engine gains over Stripes of as many PEs, in the same accelerator."""
    config = PRESETS[_PRESET]
    source = how(options.rtl)
    for phase, shape in SHAPES.items():
        base, macs = (gemm_cycles(other, "int8", shape, rtl=options.rtl) for other in (_stripes(config), _macs(config)))
        cycles = {name: gemm_cycles(config, name, shape, rtl=options.rtl) for name in _COLUMNS}
        label = f"{phase} GEMM {'×'.join(map(str, shape))}"
        for name, found in cycles.items():
            yield Row(quantity=f"{label}, {name}: speedup over Stripes, equal PEs", paper=None, ours=base / found,
                      grade="inferred",
                      note=f"{_PRESET} and the same with Stripes PEs, bus included, doorbell to interrupt, {source}")
        for setting, name in _MIXED.items():
            yield Row(quantity=f"{label}, {setting}, one command: speedup over Stripes, equal PEs", paper=_SETTINGS[setting][3],
                      ours=base / gemm_cycles(_mixing(setting), name, shape, rtl=options.rtl), grade="found",
                      note=f"{name}: channels in the engine's order, results in their own; {source}")
        for setting, (name, kept, _, whole) in _SETTINGS.items():
            mixed = kept * cycles["int8"] + (1 - kept) * cycles[name]
            yield Row(quantity=f"{label}, {setting}: speedup over int8 MACs, equal PEs", paper=None, ours=macs / mixed,
                      grade="inferred", note=f"of the channels' shares of this GEMM; the systolic engine of 16×32 PEs, {source}")
            yield Row(quantity=f"{label}, {setting}: speedup over Stripes, equal PEs", paper=whole, grade="found",
                      ours=base / mixed,
                      note="the paper's is a mean of whole vision and language models with DDR3; ours of the channels' shares of "
                      f"this GEMM, {source}")


# Quality ------------------------------------------------------------------------------------------------------------


def _split(checkpoint: LlamaCheckpoint, name: str, kept: float) -> Matrices:
    """Return the matrices of all layers in a format, the most sensitive channels of the model in int8."""
    matrices = {(index, part): getattr(checkpoint.layer(index), part)
                for index in range(checkpoint.config.layers) for part in LAYER_TENSORS if not part.endswith("norm")}
    chosen = sensitive_channels([quantize_rows(matrix)[1] for matrix in matrices.values()], kept)
    split = {}
    for (place, matrix), channels in zip(matrices.items(), chosen, strict=True):
        split[place] = dequantize(quantize(matrix, name)).astype(np.float32)
        split[place][channels] = dequantize(quantize(matrix[channels], "int8")) if len(channels) else split[place][channels]
    return split


def _planned(checkpoint: LlamaCheckpoint, setting: str) -> tuple[float, float, Matrices]:
    """Return share of channels with all columns, bits of a weight in memory, and matrices, as `heddle plan` chooses formats."""
    name, kept, _, _ = _SETTINGS[setting]
    config = dataclasses.replace(PRESETS[_PLANNED], weight_formats=("int8", name, *(f"{name}-1of{of}" for of in (2, 4, 8))))
    layers = [checkpoint.layer(index) for index in range(checkpoint.config.layers)]
    plan, choices = sensitive_plan(config, layers, name, kept)
    found: Matrices = {}
    for index, (layer, formats) in enumerate(zip(layers, plan.layers, strict=True)):
        for linear, parts in LINEAR_PARTS.items():
            pieces = _as_packed([getattr(layer, part) for part in parts], getattr(formats, linear), config.columns)
            found |= {(index, part): piece for part, piece in zip(parts, pieces, strict=True)}
    stored = sum(weight_layout(config, choice.channels, choice.inputs, choice.weights).size for choice in choices)
    weights = sum(choice.channels * choice.inputs for choice in choices)
    channels = sum(choice.channels for choice in choices)
    return sum(choice.kept * choice.channels for choice in choices) / channels, 8 * stored / weights, found


def _as_packed(parts: list[npt.NDArray[np.float32]], name: str, columns: int) -> list[npt.NDArray[np.float32]]:
    """Return matrices that lie in one, in a format of the engine; of two, gate and up, tiles come in turn."""
    ends = np.cumsum([len(part) for part in parts])
    rows = np.arange(ends[-1])
    if len(parts) == 2:
        rows = np.argsort((rows % ends[0] // _TILE * 2 + rows // ends[0]), kind="stable")
    found = np.empty((ends[-1], parts[0].shape[1]), np.float32)
    found[rows] = _mixed(np.concatenate(parts)[rows], name, columns)
    return np.split(found, ends[:-1])


def _mixed(matrix: npt.NDArray[np.float32], name: str, columns: int) -> npt.NDArray[np.float32]:
    """Return a matrix in a format of the engine: of one that mixes channels, the most sensitive one of P of a lane in int8."""
    fmt = format_named(name)
    if not isinstance(fmt, ColumnFormat) or fmt.one_of == 1:
        return dequantize(quantize(matrix, name)).astype(np.float32)
    found = dequantize(quantize(matrix, dataclasses.replace(fmt, one_of=1, options=()).name)).astype(np.float32)
    order = split_order(quantize_rows(matrix)[1], columns, fmt.one_of)
    kept = order[:, 0][order[:, 0] < len(matrix)]
    found[kept] = dequantize(quantize(matrix[kept], "int8"))
    return found


def _lanes(checkpoint: LlamaCheckpoint, name: str) -> Matrices:
    """Return the matrices of all layers in one format of the engine."""
    found: Matrices = {}
    for index in range(checkpoint.config.layers):
        layer = checkpoint.layer(index)
        for parts in LINEAR_PARTS.values():
            pieces = _as_packed([getattr(layer, part) for part in parts], name, PRESETS[_PRESET].columns)
            found |= {(index, part): piece for part, piece in zip(parts, pieces, strict=True)}
    return found


def _given(checkpoint: LlamaCheckpoint, matrices: Matrices) -> Matrices:
    """Return matrices that were made before."""
    return matrices


def _quality(options: Options) -> Iterator[Row]:
    note = "the paper's losses are accuracies of other models"
    quantities = {name: f"bits of a token over float's, weights {name}" for name in _COLUMNS}
    quantities |= {setting: f"bits of a token over float's, {setting}: {kept:.0%} of the channels keep eight columns"
                   for setting, (_, kept, _, _) in _SETTINGS.items()}
    quantities |= {name: f"bits of a token over float's, {setting}, one command: {name}" for setting, name in _MIXED.items()}
    planned = {f"{setting}, planned": (setting, f"{{}}, {setting}: formats by linear and layer as `heddle plan` has them")
               for setting in _SETTINGS}
    quantities |= {name: text.format("bits of a token over float's") for name, (_, text) in planned.items()}
    compression = {name: text.format("compression of int8 weights in memory") for name, (_, text) in planned.items()}
    if options.model is None:
        for quantity in (*quantities.values(), *compression.values()):
            yield not_asked(quantity, None, "inferred", "--model DIR", note)
        return
    made = {name: _planned(LlamaModel(options.model).checkpoint, setting) for name, (setting, _) in planned.items()}
    for name, (share, bits, _) in made.items():
        setting = planned[name][0]
        yield Row(quantity=compression[name], paper=_SETTINGS[setting][2], ours=8 / bits, grade="found",
                  note=f"{share:.1%} of the channels keep eight columns, with metadata and choices: shares of linears are "
                  "rounded up to one of 8, of 4, of 2, or all")
    plans = {name: QuantizationPlan.named(weights=name) for name in _COLUMNS}
    plans |= dict.fromkeys(("float32", *_SETTINGS, *_MIXED.values(), *planned), QuantizationPlan())
    instead: dict[str, Instead] = {
        setting: partial(_split, name=name, kept=kept) for setting, (name, kept, _, _) in _SETTINGS.items()}
    instead |= {name: partial(_lanes, name=name) for name in _MIXED.values()}
    instead |= {name: partial(_given, matrices=matrices) for name, (_, _, matrices) in made.items()}
    found = evaluations(options, plans, instead)
    for name, quantity in quantities.items():
        yield Row(quantity=quantity, paper=None, ours=found[name].bits / found["float32"].bits, grade="inferred", note=note)
    yield from bits_rows(found)


# Areas --------------------------------------------------------------------------------------------------------------


def _areas(options: Options) -> Iterator[Row]:
    ratio = "area of a PE over that of a Stripes PE"
    gain = "speedup over Stripes at equal area of PEs where computing binds, {}"
    whole = "speedup of 8×8 PEs over Stripes at equal area of arrays where computing binds, {}"
    papers = {setting: bitvert_paper_speedup(kept * 8 + (1 - kept) * _COLUMNS[name]) / _PE_RATIO
              for setting, (name, kept, _, _) in _SETTINGS.items()}
    if options.liberty is None:
        yield not_asked(ratio, _PE_RATIO, "found", "--liberty PATH")
        for setting, paper in papers.items():
            yield not_asked(gain.format(setting), paper, "derived", "--liberty PATH")
            yield not_asked(whole.format(setting), None, "inferred", "--liberty PATH")
        return
    areas = _pe_areas(options.liberty)
    found = areas["bitvert"] / areas["stripes"]
    yield Row(quantity=ratio, paper=_PE_RATIO, ours=found, grade="found",
              note="our Stripes PE, of 8 lanes as the paper's, doubles its products instead of shifting columns, which makes it "
              "small")
    config = PRESETS[_PRESET]
    for setting, (name, kept, _, _) in _SETTINGS.items():
        speedup = 16 / (kept * _pass(config, "int8") + (1 - kept) * _pass(config, name))
        yield Row(quantity=gain.format(setting), paper=papers[setting], ours=speedup / found, grade="derived",
                  note="both from the compute-bound speedup and the area of PEs")
        yield Row(quantity=whole.format(setting), paper=None, grade="inferred",
                  ours=speedup * areas["stripes array"] / areas["bitvert array"],
                  note="with schedulers, ΣA and operand registers; memories and line buffers, which both have, apart")


def _pe_areas(liberty: str) -> dict[str, float]:
    """Synthesize PEs and arrays of 8×8; the ratios hold within one library."""
    from flows.synth.asic import synthesize
    from flows.synth.options import AsicOptions
    from hw.array.bitvert_array import BitvertArray
    from hw.array.stripes_array import StripesArray
    from hw.pe.bitvert.pe import BitvertPE
    from hw.pe.stripes import StripesPE

    def area(design: Any, *, flatten: bool) -> float:
        return float(synthesize(design, top="top", options=AsicOptions(liberty=liberty, timing=False, flatten=flatten))["area"])

    return {
        "bitvert": area(BitvertPE(psum_width=24), flatten=True), "stripes": area(StripesPE(psum_width=24), flatten=True),
        "bitvert array": area(BitvertArray(rows=8, columns=8, psum_width=24), flatten=False),
        "stripes array": area(StripesArray(rows=8, columns=8, psum_width=24), flatten=False),
    }
