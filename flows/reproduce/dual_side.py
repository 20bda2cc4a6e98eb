"""A dual-side sparse core beside structured ones, all in the frame: speed over the density of weights and activations."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flows.measure import measure
from flows.reproduce.options import Options
from flows.reproduce.row import Row, not_asked
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.engines.dstc import dstc_command_cycles, dstc_tokens
from hw.engines.hss import hss_command_cycles
from hw.presets import preset_named
from sw.kernels.case import GemmCase
from sw.workloads import Workload, gemm_workload

__all__ = ["dstc_random_cycles", "simulated_rows", "speed_rows"]

_SHAPE = (128, 256, 768)        # M, N, K: whole tiles and groups for all of them
_MODES = {1.0: "", 1 / 2: "hss-4:4-2:4", 1 / 3: "hss-4:6-2:4", 1 / 4: "hss-4:8-2:4"}
_ACTIVATIONS = (1.0, 0.5)
_GEMM, _SIMULATED = (64, 64, 768), "dstc-8x16"
_FORMATS = ("64:64", "32:64", "16:64")
_NOTE = "products of a dense GEMM for each multiplier and cycle, by the formulas that the RTL is held to, commands without end; "


def dstc_random_cycles(config: AcceleratorConfig, shape: tuple[int, int, int], densities: tuple[float, float]) -> int:
    """Return the cycles of a dual-side sparse core for operands (M, N, K) with zeros anywhere, drawn with a fixed seed.

    densities: of activations and weights.
    """
    m, n, k = shape
    rng, tokens, columns = np.random.default_rng(1), dstc_tokens(config), config.columns
    heights = [min(tokens, m - first) for first in range(0, m, tokens)]
    widths = [min(columns, n - first) for first in range(0, n, columns)]
    left, right = ([rng.binomial(size, density, k).tolist() for size in sizes]
                   for sizes, density in zip((heights, widths), densities, strict=True))
    counts = [list(zip(a, w, strict=True)) for w in right for a in left]
    return dstc_command_cycles(config, m, n, k, counts=counts)


def speed_rows() -> Iterator[Row]:
    """Yield speeds over the density of weights, by the formulas."""
    m, n, k = _SHAPE

    def speed(config: AcceleratorConfig, cycles: int) -> float:
        return m * n * k / config.peak_macs_per_cycle / cycles

    structured = {name: preset_named(f"{name}-16x64") for name in ("tc", "stc", "hss")}
    dual = preset_named("dstc-8x16")
    for density, fmt in _MODES.items():
        for name, config in structured.items():
            held = fmt if fmt in config.weight_formats else "2:4" if fmt and "2:4" in config.weight_formats else ""
            mode = config.weight_formats.index(held) + 1 if held else 0
            yield Row(quantity=f"speed at density {density:.2f} of weights, {name}", paper=None, grade="inferred",
                      ours=speed(config, hss_command_cycles(config, m, n, k, mode)),
                      note=_NOTE + (f"as {held}" if held else "as dense weights") + "; zeros of activations change nothing")
        for activations in _ACTIVATIONS:
            yield Row(quantity=f"speed at density {density:.2f} of weights, dstc, activations {activations:g}", paper=None,
                      grade="inferred", ours=speed(dual, dstc_random_cycles(dual, _SHAPE, (activations, density))),
                      note=_NOTE + "zeros anywhere in both operands")


def simulated_rows(options: Options) -> Iterator[Row]:
    """Yield what a whole GEMM takes on the generated Verilog at these densities."""
    m, n, k = _GEMM
    what = f"speedup of a GEMM of {m}×{n}×{k} in simulation, {_SIMULATED}"
    if not options.rtl:
        yield not_asked(what, None, "inferred", "--rtl")
        return
    config = preset_named(_SIMULATED)
    device = RtlDevice(config)
    dense, differ = 0, 0
    for activations in _ACTIVATIONS:
        for fmt in ("int8", *_FORMATS):
            found = measure(_workload(fmt, activations), config, device)
            cycles = sum(gemm.cycles for gemm in found.gemms)
            differ += found.match is not True
            dense = dense or cycles
            yield Row(quantity=f"{what}, {fmt}, activations {activations:g}", paper=None, ours=dense / cycles, grade="inferred",
                      note=f"doorbell to interrupt, {cycles:,} cycles; over plain weights and activations without zeros")
    yield Row(quantity=f"runs whose outputs differ from the golden model, {_SIMULATED}", paper=None, ours=differ, target=0,
              grade="inferred")


def _workload(fmt: str, density: float) -> Workload:
    """Return a GEMM on weights of a format and on activations of which so many are kept."""
    workload = replace(gemm_workload(*_GEMM), weights=fmt)

    def run(config: AcceleratorConfig, gemm: Callable[[GemmCase], npt.NDArray[np.int8]], text: str | None) -> dict[str, float]:
        for case in workload.cases(config):
            kept = np.random.default_rng(1).random(case.a.shape) < density
            gemm(replace(case, a=np.where(kept, case.a, np.int8(0))))
        return {}

    return replace(workload, runner=run)
