"""TASD: quality of the decomposition, its speedup, and the choice of series on a whole model."""

from collections.abc import Iterator

import numpy as np

from flows.reproduce.options import Options
from flows.reproduce.quality import tasder
from flows.reproduce.row import Row, not_asked
from hw.engines.hss import hss_command_cycles
from hw.families import SeriesFormat
from hw.formats import format_named
from hw.presets import preset_named
from sw.formats.series import decompose
from sw.sparsity.patterns import density

__all__ = ["rows"]

# Gaussian data pruned by magnitude to a density → series → share of the values that is lost, relative error. The specification's.
_QUALITY = {
    0.10: {"2:4": (.009, .082), "2:8": (.055, .203), "4:8": (0, .016), "2:8+1:8": (.007, .068), "4:8+1:8": (0, 0)},
    0.30: {"2:4": (.077, .216), "2:8": (.298, .435), "4:8": (.030, .127), "2:8+1:8": (.112, .253), "4:8+1:8": (.006, .054)},
    1.00: {"2:4": (.500, .364), "2:8": (.750, .578), "4:8": (.500, .321), "2:8+1:8": (.625, .438), "4:8+1:8": (.375, .222)},
}
_TOLERANCE = 0.01
# Series → dense multiplications over its own; series of our engine → time of dense weights over its own.
_IDEAL = {"2:8": 4, "2:8+1:8": 8 / 3, "4:8+1:8": 1.6, "4:8+2:8": 4 / 3}
_ENGINE = {"2:4+1:8": 4 / 3, "1:8+1:8": 2, "2:4+2:4": 1}
_SHAPE = (256, 1024)
_BAR = 0.99


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    yield from _decomposition()
    for name, ideal in _IDEAL.items():
        yield Row(quantity=f"speedup of {name} on a core that runs any N:M", paper=None, ours=1 / density(_series(name)),
                  target=ideal, grade="derived", note="multiplications left, without the switch from term to term")
    yield from _engine()
    yield _exactness()
    yield from _model(options)
    for kind, share in (("dense", 0.83), ("sparse", 0.74)):
        yield Row(quantity=f"energy-delay product saved on {kind} models, up to", paper=share, ours=None, grade="found",
                  note="not modelled: energies of its cores are not ours")


def _series(name: str) -> SeriesFormat:
    fmt = format_named(f"tasd-{name}")
    assert isinstance(fmt, SeriesFormat)
    return fmt


def _decomposition() -> Iterator[Row]:
    values = np.random.default_rng(0).standard_normal(_SHAPE)
    for share, expected in _QUALITY.items():
        kept = np.where(np.abs(values) >= np.quantile(np.abs(values), 1 - share), values, 0) if share < 1 else values
        integers = np.rint(kept * (127 / np.abs(kept).max())).astype(np.int8)
        for name, (lost, error) in expected.items():
            _, residual = decompose(integers, _series(name).terms)
            filled = np.count_nonzero(integers)
            found = (np.count_nonzero(residual) / filled,
                     float(np.linalg.norm(residual.astype(float)) / np.linalg.norm(integers.astype(float))))
            for what, ours, target in zip(("values lost", "relative error"), found, (lost, error), strict=True):
                yield Row(quantity=f"{name}, density {share:g}: {what}", paper=None, ours=ours, target=float(target),
                          tolerance=_TOLERANCE, grade="derived",
                          note="256×1024 Gaussian values pruned by magnitude, then int8; what another implementation finds")


def _engine() -> Iterator[Row]:
    config = preset_named("hss-16x64")
    for name, target in _ENGINE.items():
        mode = config.weight_formats.index(f"tasd-{name}") + 1
        dense, series = (hss_command_cycles(config, 128, 64, 1024, number) for number in (0, mode))
        yield Row(quantity=f"speedup of {name} on our engine", paper=None, ours=dense / series, target=target, tolerance=1e-9,
                  grade="inferred", note="over dense weights, cycles that our RTL is held to: a term takes the least mode that "
                  "holds it, so 4:8 is no term of ours")


def _exactness() -> Row:
    integers = np.random.default_rng(1).integers(-128, 128, _SHAPE).astype(np.int8)
    terms, residual = decompose(integers, _series("4:8+2:8").terms)
    differ = np.count_nonzero(sum(part.astype(int) for part in (*terms, residual)) != integers)
    return Row(quantity="int8 values that terms and residual do not add up to", paper=None, ours=int(differ), target=0,
               grade="derived", note="4:8+2:8, of 262 144")


def _model(options: Options) -> Iterator[Row]:
    quantity = f"multiplications saved at {_BAR:.0%} of the quality"
    note = "the paper's are ResNets and BERTs; ours is the given Llama, dense, one-pass; series are chosen on other text"
    if options.model is None:
        yield not_asked(quantity, 0.40, "secondary", "--model DIR", note)
        return
    exact, point = tasder(options, _BAR)
    yield Row(quantity=quantity, paper=0.40, ours=1 - point.density, grade="secondary", note=note)
    yield Row(quantity="quality with these series on held-out text", paper=None, ours=exact.bits / point.bits, grade="inferred",
              note="bits of the unquantized model over its own")
