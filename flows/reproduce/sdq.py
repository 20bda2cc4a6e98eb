"""SDQ: effective throughput, bits, and quality of int8 outliers with FP4 inliers."""

from collections.abc import Iterator

import numpy as np

from flows.reproduce.options import Options
from flows.reproduce.quality import calibrated_points
from flows.reproduce.row import Row, not_asked
from flows.synth.sparse_energy import energies
from hw.engines.hss import hss_command_cycles
from hw.families import OutlierFormat
from hw.formats import format_named
from hw.presets import preset_named
from sw.formats import dequantize, quantize
from sw.sparsity.costs import sdq_cost, value_bits

__all__ = ["rows"]

_MAIN = "sdq-7:8-1:8int8-6:8fp4-g64"
# Format → effective throughput over float16, bits of a value, by the published rates.
_CONFIGS = {_MAIN: (4.0, 4.0), "sdq-6:8-2:8int8-4:8fp4-g64": (4.0, 4.0), "sdq-8:8-1:8int8-7:8fp4-g64": (32 / 9, 4.5),
            "sdq-3:4-1:4int8-2:4fp4-g64": (4.0, 4.0)}


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    for name, (throughput, bits) in _CONFIGS.items():
        fmt = _format(name)
        label = name.removeprefix("sdq-").removesuffix("-g64")
        yield Row(quantity=f"effective throughput over float16, {label}", paper=throughput if name == _MAIN else None,
                  ours=1 / sdq_cost(fmt), target=throughput, tolerance=1e-9, grade="found" if name == _MAIN else "derived",
                  note="as the authors count: int8 at twice and FP4 at four times the rate of float16")
        yield Row(quantity=f"bits of values of a weight, {label}", paper=None, ours=value_bits(fmt), target=bits, grade="derived")
    yield Row(quantity="stored bits of a weight", paper=None, ours=float(_format(_MAIN).stored_bits_per_weight), grade="inferred",
              note="with an index for each outlier, a mask of the inliers, and two float16 scales for 64 weights")
    yield _core()
    yield _energy_delay(options)
    yield from _noise()
    yield from _model(options)


def _format(name: str) -> OutlierFormat:
    fmt = format_named(name)
    assert isinstance(fmt, OutlierFormat)
    return fmt


def _core() -> Row:
    config = preset_named("hss-16x64")
    mode = next(number for number, name in enumerate(config.weight_formats, 1) if name.startswith("sdq"))
    dense, sdq = (hss_command_cycles(config, 128, 64, 1024, number) for number in (0, mode))
    return Row(quantity="speedup over our dense int8 core of equal lanes", paper=None, ours=dense / sdq, target=2.0,
               grade="inferred", note="cycles that our RTL is held to; twice int8 is four times float16 by the published rates")


def _energy_delay(options: Options) -> Row:
    quantity = "energy-delay product of our dense int8 core over SDQ"
    if options.liberty is None:
        return not_asked(quantity, None, "inferred", "--liberty PATH")
    by_mode = {row["mode"]: row["energy-delay over dense"] for row in energies(options.liberty)}
    return Row(quantity=quantity, paper=None, ours=1 / by_mode[_MAIN.removesuffix("-g64")], grade="inferred",
               note="an estimate: power of the synthesized cores by OpenSTA at 0.1 transitions a cycle of every net, and "
               "accesses to on-chip memories; the SDQ core is larger than the dense one")


def _noise() -> Iterator[Row]:
    weights = np.random.default_rng(0).standard_t(5, (256, 1024)).astype(np.float32)

    def sqnr(name: str) -> float:
        error = dequantize(quantize(weights, name)) - weights
        return float(20 * np.log10(np.linalg.norm(weights) / np.linalg.norm(error)))

    note = "weights of Student's t distribution with 5 degrees of freedom, 64 to a scale; nothing pruned"
    yield Row(quantity="weight SQNR, plain FP4 [dB]", paper=None, ours=sqnr("fp4-g64"), grade="inferred", note=note)
    yield Row(quantity="weight SQNR, 1:8 int8 and 7:8 FP4 [dB]", paper=None, ours=sqnr("sdq-8:8-1:8int8-7:8fp4-g64"),
              grade="inferred", note=note)


def _model(options: Options) -> Iterator[Row]:
    names = (_MAIN, "sdq-8:8-1:8int8-7:8fp4-g64")
    note = ("the paper prunes large language models with calibration; ours is the given Llama, pruned by magnitude; "
            "weights only, activations stay float32")
    if options.model is None:
        for name in names:
            yield not_asked(f"quality lost, {name}", "< 1 %", "found", "--model DIR", note)
        return
    exact, *found = calibrated_points(options, names, ("magnitude",))
    for point in found:
        yield Row(quantity=f"quality lost, {point.name}", paper="< 1 %", ours=f"{100 * (point.bits / exact.bits - 1):.2f} %",
                  grade="found", note=note)
