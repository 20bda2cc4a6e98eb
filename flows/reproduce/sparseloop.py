"""Sparseloop: its validation sets against our laws of sparse cores, sizes and density models."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.reproduce.dual_side import dstc_random_cycles
from flows.reproduce.options import Options
from flows.reproduce.row import Row, not_asked
from hw.presets import preset_named
from sw.sparsity.cores import dense_cycles, dstc_relative, eyeriss_pe_cycles, flexible_cycles, uniform_pe_cycles
from sw.sparsity.density import uniform

__all__ = ["rows"]

# Fig. 12, 1×1 layers of a sparse MobileNet-0.5 on one Eyeriss-v2 PE: channels, outputs, pixels, densities, published cycles,
# and what the artifact's model of independent zeros predicts of them.
_LAYERS = {
    "L07": (64, 64, 1024, 0.520, 0.728, 1_702_140, 0.935), "L09": (64, 128, 256, 0.818, 0.864, 1_499_682, 0.986),
    "L13": (128, 256, 64, 0.644, 0.833, 1_144_158, 0.974), "L19": (256, 256, 64, 0.550, 0.608, 1_457_458, 0.966),
    "L21": (256, 256, 64, 0.600, 0.641, 1_677_684, 0.960), "L23": (256, 256, 64, 0.699, 0.608, 1_821_557, 0.983),
    "L25": (256, 512, 16, 0.649, 0.677, 948_572, 0.977), "L27": (512, 512, 16, 0.300, 0.583, 775_316, 0.941),
}
# DSTC, a GEMM of 4096³ at these densities: published cycles, in thousands.
_DSTC = {(1.0, 1.0): 4600, (0.9, 1.0): 4160, (0.7, 1.0): 3300, (0.5, 1.0): 2690, (0.3, 1.0): 1930,
         (1.0, 0.4): 2500, (0.9, 0.4): 2300, (0.7, 0.4): 1820, (0.5, 0.4): 1480, (0.3, 0.4): 1100}
_DSTC_DEVIATION = 0.12
_FRAME_SHAPE = (128, 128, 1024)     # M, N, K: 16 tiles, K whole
_UNIFORM_DEVIATION = 0.01
_STC = {(2, 4): 2.0, (2, 6): 3.0, (2, 8): 4.0}
_SHAPE = (512, 1024, 3072)         # M, N, K: whole tiles and groups for all of them
# P(a tile is empty) of 4096 values: tile, non-zeros of the tensor → what the closed form gives.
_EMPTY = {(8, 1024): 0.100, (16, 204): 0.441, (4, 2048): 0.062}
_ROUNDED = 5e-4                     # of figures with three digits


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows: laws and models at once, cycles of the published masks with `--data`."""
    yield from _structured_cores()
    yield from _densities()
    yield from _dual_side()
    yield from _dual_side_in_the_frame()
    yield from _uniform()
    yield from _masks(options.data)


def _structured_cores() -> Iterator[Row]:
    m, n, k = _SHAPE
    for (keep, of), published in _STC.items():
        speedup = dense_cycles(m, n, k) / flexible_cycles(m, n, k, keep, of)
        yield Row(quantity=f"{keep}:{of} weights: speedup over dense", paper=published, ours=speedup, grade="found",
                  target=published, note="structured tensor cores of 1024 MACs; zeros beyond the pattern gain nothing")


def _densities() -> Iterator[Row]:
    for (tile, nonzero), expected in _EMPTY.items():
        yield Row(quantity=f"P(tile of {tile} empty), {nonzero} of 4096", paper=None, target=expected, tolerance=_ROUNDED,
                  ours=float(uniform(4096, nonzero, tile)[0]), grade="derived",
                  note="the hypergeometric model; C(S − n, s) / C(S, s) to three digits")


def _dual_side() -> Iterator[Row]:
    dense = _DSTC[1.0, 1.0]
    for (left, right), published in _DSTC.items():
        relative = published / dense
        yield Row(quantity=f"DSTC {left:g} × {right:g}: cycles / dense", paper=relative,
                  ours=dstc_relative(left, right), grade="found", target=relative, tolerance=_DSTC_DEVIATION * relative,
                  note="expected ⌈nnz/8⌉·⌈nnz/16⌉ of 32 at random; the published cycles also have what this leaves out, "
                  f"so within {_DSTC_DEVIATION:.0%}")


def _dual_side_in_the_frame() -> Iterator[Row]:
    config = preset_named("dstc-8x16")
    dense = dstc_random_cycles(config, _FRAME_SHAPE, (1.0, 1.0))
    for densities, published in _DSTC.items():
        relative = published / _DSTC[1.0, 1.0]
        left, right = densities
        yield Row(quantity=f"DSTC in the frame {left:g} × {right:g}: cycles / dense", paper=relative, grade="found",
                  ours=dstc_random_cycles(config, _FRAME_SHAPE, densities) / dense, target=relative,
                  tolerance=_DSTC_DEVIATION * relative,
                  note="dstc-8x16, random operands of {}×{}×{} (M×N×K), by the formula that the RTL is held to: loads and rows "
                  "that leave included".format(*_FRAME_SHAPE))


def _uniform() -> Iterator[Row]:
    for name, (channels, outputs, pixels, weights, activations, cycles, predicted) in _LAYERS.items():
        yield Row(quantity=f"{name}: independent zeros / real cycles", paper=predicted,
                  ours=uniform_pe_cycles(outputs, channels, pixels, weights, activations) / cycles, grade="found",
                  target=predicted, tolerance=_UNIFORM_DEVIATION,
                  note="the product of the densities, known to three digits; the artifact's model goes by tiles, so within 0.01")


def _masks(folder: Path | None) -> Iterator[Row]:
    for name, (channels, outputs, pixels, _, _, cycles, _) in _LAYERS.items():
        quantity = f"{name}: cycles of an Eyeriss-v2 PE"
        if folder is None:
            yield not_asked(quantity, cycles, "found", "--data DIR",
                            "the folder actual_data_masks of Sparseloop's artifact (fig12_eyerissv2_pe_setup)")
            continue
        weights = _mask(folder / f"{name}_weights.txt", outputs, channels)
        activations = _mask(folder / f"{name}_iacts.txt", pixels, channels)
        yield Row(quantity=quantity, paper=cycles, ours=eyeriss_pe_cycles(weights, activations), grade="found", target=cycles,
                  note="Σ over channels of nnzW·nnzA, on the published masks")


def _mask(file: Path, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return a mask of the artifact: one character a value, row by row."""
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--data must be a folder with {file.name}: {error}") from None
    if len(text) != rows * columns or set(text) - {"0", "1"}:
        raise ValueError(f"{file.name} must be {rows * columns} characters 0 and 1, not {len(text)} of "
                         f"{', '.join(sorted(set(text))[:4])}")
    return (np.frombuffer(text.encode(), np.uint8) == ord("1")).reshape(rows, columns)
