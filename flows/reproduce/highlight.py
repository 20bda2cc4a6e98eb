"""HighLight: degrees of sparsity, cycles and speedups of every mode, what skipping costs, and what patterns cost a model."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import geometric_mean

from flows.measure import measure
from flows.reproduce.dual_side import simulated_rows, speed_rows
from flows.reproduce.options import Options
from flows.reproduce.quality import calibrated_points
from flows.reproduce.row import Row, not_asked
from flows.rtl_device import RtlDevice
from flows.synth.generic import GENERIC_NAME
from flows.synth.highlight import core_areas, memory_areas
from flows.synth.sparse_energy import energies
from hw.config import AcceleratorConfig
from hw.engines.hss import hss_command_cycles
from hw.formats import FORMATS, format_named
from hw.presets import preset_named
from sw.sparsity.cores import dense_cycles, hss_cycles
from sw.sparsity.patterns import density
from sw.workloads import gemm_workload

__all__ = ["rows"]

_MODES = [(outer, inner) for outer in range(4, 9) for inner in range(2, 5)]
# (N, K, M), a ResNet-50 layer each; modes H1, H0.
_SHAPES = ((512, 1024, 256), (128, 1152, 1024))
_WORKED = ((4, 2), (4, 4), (6, 4), (8, 4))
_GEMM, _SIMULATED = (256, 64, 768), "hss-16x16"
_PATTERNS = ("hss-4:4-2:4", "hss-4:6-2:4", "hss-4:8-2:4")
_MODE_NOTE = "4:H1 blocks of 2:H0 values: the table of modes was not read; cycles are those that our RTL is held to"


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    yield from _degrees()
    yield from _speedups()
    yield from _cycles()
    yield from _storage()
    yield from speed_rows()
    yield from _simulated(options)
    yield from simulated_rows(options)
    yield from _areas(options)
    yield from _quality(options)
    yield _energy_delay(options)


def _energy_delay(options: Options) -> Row:
    library = options.liberty if options.liberty != GENERIC_NAME else None
    by_mode = {row["mode"]: row["energy-delay over dense"] for row in energies(library)}
    counted = "of accesses to on-chip memories alone (of logic, too, with a library that states power)"
    if library:
        counted = ("of logic, by OpenSTA's power of each core at 0.1 transitions a cycle of every net, and of accesses to "
                   "on-chip memories, over the dense core")
    gains = [1 / by_mode[f"hss-4:{outer}-2:{inner}"] for outer, inner in _MODES]
    return Row(quantity="energy-delay product of dense over sparse, geometric mean", paper=6.4, ours=geometric_mean(gains),
               grade="found", note="the paper's is over its networks and designs (up to); ours an estimate over the 15 modes, "
               f"each once, {counted}, up to {max(gains):.1f} for 4:8 → 2:4")


def _degrees() -> Iterator[Row]:
    def degrees(outer: list[tuple[int, int]], inner: list[tuple[int, int]]) -> list[float]:
        return sorted({density(format_named(f"hss-{a}:{b}-{c}:{d}")) for a, b in outer for c, d in inner})

    example = degrees([(4, 4), (4, 5), (4, 6), (4, 7)], [(4, 4), (2, 4), (1, 4)])
    yield Row(quantity="density of 3:4 blocks of 2:4 values", paper=0.375, target=0.375, grade="found",
              ours=density(format_named("hss-3:4-2:4")))
    yield Row(quantity="degrees of {4:4 … 4:7} × {4:4, 2:4, 1:4}", paper=12, ours=len(example), target=12, grade="found")
    yield Row(quantity="largest sparsity among them", paper=0.86, ours=1 - example[0], target=0.86, tolerance=5e-3, grade="found")
    yield Row(quantity="degrees of our 15 modes", paper=None, target=12, grade="inferred", note=_MODE_NOTE,
              ours=len(degrees([(4, outer) for outer in range(4, 9)], [(2, inner) for inner in range(2, 5)])))


def _mode(config: AcceleratorConfig, outer: int, inner: int) -> int:
    """Return the number of a mode; plain int8 where it is dense."""
    return config.weight_formats.index(f"hss-4:{outer}-2:{inner}") + 1 if (outer, inner) != (4, 2) else 0


def _speedups() -> Iterator[Row]:
    config = preset_named("hss-16x64")
    for outer, inner in _MODES:
        k = 2 * outer * inner * 8
        dense, sparse = (hss_command_cycles(config, 128, 64, k, mode) for mode in (0, _mode(config, outer, inner)))
        yield Row(quantity=f"speedup of 4:{outer} → 2:{inner} over dense", paper=None, ours=dense / sparse, grade="inferred",
                  target=outer * inner / 8, note=_MODE_NOTE)


def _cycles() -> Iterator[Row]:
    config = preset_named("hss-16x64")
    for n, k, m in _SHAPES:
        for outer, inner in _WORKED:
            name = "dense" if (outer, inner) == (4, 2) else f"4:{outer} → 2:{inner}"
            law = dense_cycles(m, n, k) if name == "dense" else hss_cycles(m, n, k, outer, inner)
            yield Row(quantity=f"cycles of {n}×{k} weights, {m} columns, {name}", paper=None, target=law, grade="inferred",
                      ours=hss_command_cycles(config, m, n, k, _mode(config, outer, inner)),
                      note="1024 MACs, steady state: ⌈rows/64⌉ · ⌈K / (2·H1·H0)⌉ · columns")


def _storage() -> Iterator[Row]:
    word = FORMATS["hss-4:8-2:4"].word
    yield Row(quantity="bits of coordinates of a stored value", paper=None, ours=(word.bits - 64) / 8, target=3.5,
              grade="inferred",
              note="3 bits for each of 4 blocks and 2 for each of 8 values, of fixed width; a record of 92 bits is stored in 96")
    one = 8 * 31 * 8
    two = 4 * 7 * 32 + 8 * 3 * 8
    yield Row(quantity="2:1 muxes of 8 MACs, one rank over two", paper=None, ours=one / two, grade="inferred",
              note="selecting 8 of 32 bytes at once, over 4 of 8 blocks and then values of each; not the paper's patterns")


def _simulated(options: Options) -> Iterator[Row]:
    m, n, k = _GEMM
    if not options.rtl:
        yield not_asked(f"speedup of a GEMM of {m}×{n}×{k} (M×N×K) in simulation", None, "inferred", "--rtl")
        return
    config = preset_named(_SIMULATED)
    device = RtlDevice(config)
    cycles, differ = {}, 0
    for name in ("int8", *_PATTERNS):
        found = measure(replace(gemm_workload(m, n, k), weights=name), config, device)
        cycles[name] = sum(gemm.cycles for gemm in found.gemms)
        differ += found.match is not True
    for name in _PATTERNS:
        yield Row(quantity=f"speedup of a GEMM of {m}×{n}×{k} in simulation, {name}", paper=None, grade="inferred",
                  ours=cycles["int8"] / cycles[name],
                  note=f"{_SIMULATED}, doorbell to interrupt: command fetch, DMA, requantization and stores included, which "
                  f"sparsity does not shorten; dense takes {cycles['int8']:,} cycles")
    yield Row(quantity="formats whose outputs differ from the golden model", paper=None, ours=differ, target=0, grade="inferred")


def _areas(options: Options) -> Iterator[Row]:
    quantity = "area of sparsity features over the dense core"
    if options.liberty is None:
        yield not_asked(quantity, None, "recalled", "--liberty PATH", "the paper's share was not read")
        return
    areas, memories = core_areas(options.liberty), memory_areas(options.liberty)
    for name, area in areas.items():
        if name != "dense":
            yield Row(quantity=f"{quantity}: {name}", paper=None, ours=area / areas["dense"] - 1, grade="recalled",
                      note="64 columns of 16 MACs and what they share, without memories; the paper's share was not read")
            whole = (area + memories[name]) / (areas["dense"] + memories["dense"])
            yield Row(quantity=f"the same with memories: {name}", paper=None, ours=whole - 1, grade="recalled",
                      note="scratchpad and accumulator of hss-16x64, and the lines that the fetch keeps, by the model of macros")


def _quality(options: Options) -> Iterator[Row]:
    if options.model is None:
        for name in _PATTERNS:
            yield not_asked(f"bits per byte, {name}, over float32", None, "inferred", "--model DIR")
        return
    first, *found = calibrated_points(options, _PATTERNS, ("magnitude", "compensated"))
    for point in found:
        yield Row(quantity=f"bits per byte, {point.name}, {point.method}, over float32", paper=None, ours=point.bits / first.bits,
                  grade="inferred", note="pruned in one pass, not trained again; the paper trains its ResNet50 and Transformer "
                  "after pruning")
