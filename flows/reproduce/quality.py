"""What number formats cost a language model, for rows of a comparison."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flows.reproduce.options import Options
from flows.reproduce.row import Row
from flows.sparsity import Point, points, tasder_point, texts
from sw.evaluate import Evaluation, Windows, evaluate
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan
from sw.models.llama_weights import LlamaCheckpoint

__all__ = ["WINDOWS", "Instead", "bits_rows", "calibrated_points", "evaluations", "tasder"]

WINDOWS = 50
_CALIBRATION = 32

Instead = Callable[[LlamaCheckpoint], Mapping[tuple[int, str], npt.NDArray[np.float32]]]
"""What makes other matrices, by (layer, part), of those of a checkpoint."""


def evaluations(options: Options, plans: Mapping[str, QuantizationPlan],
                instead: Mapping[str, Instead] | None = None) -> dict[str, Evaluation]:
    """Return what each plan costs the model of `options`, by the same windows of the held-out text as `heddle eval`.

    `Evaluation.bits` are the bits per byte of a model whose tokens are bytes. `instead`: of a plan, what makes matrices that
    replace those of the checkpoint before they are quantized.

    Raises
    ------
    ValueError
        If `options` has no model, or the model cannot be read or evaluated.
    """
    model, windows, _ = _texts(options)
    changed = {name: make(model.checkpoint) for name, make in (instead or {}).items()}
    return {name: evaluate(model.checkpoint, plan, windows, instead=changed.get(name)) for name, plan in plans.items()}


def bits_rows(found: Mapping[str, Evaluation]) -> Iterator[Row]:
    """Yield the bits that a token has left in each format; of a model whose tokens are bytes, its bits per byte."""
    for name, evaluation in found.items():
        yield Row(quantity=f"bits of a token, {name}", paper=None, ours=evaluation.bits, grade="inferred",
                  note="of held-out text; bits per byte where tokens are bytes, as those of the shipped model are")


def calibrated_points(options: Options, formats: Sequence[str], methods: Sequence[str]) -> list[Point]:
    """Return the model of `options` itself and in sparse formats, pruned in several ways, as `heddle sparsity` does.

    Raises
    ------
    ValueError
        As `evaluations`.
    """
    model, windows, calibration = _texts(options)
    return [*points(model.checkpoint, formats, methods, windows, calibration)]


def tasder(options: Options, quality: float) -> tuple[Point, Point]:
    """Return the model of `options` itself, and with the cheapest series for each matrix that keep a quality.

    Raises
    ------
    ValueError
        As `evaluations`.
    """
    model, windows, calibration = _texts(options)
    exact, = points(model.checkpoint, (), (), windows, calibration)
    return exact, tasder_point(model.checkpoint, quality, windows, calibration)


def _texts(options: Options) -> tuple[LlamaModel, Windows, Windows]:
    """Return the model, windows of held-out text, and as many of other text, up to `_CALIBRATION`, to decide by."""
    if options.model is None:
        raise ValueError("quality must be of a model: Options.model must be a folder, not None")
    model = LlamaModel(options.model)
    count = options.windows or WINDOWS
    windows, calibration = texts(model, count, min(count, _CALIBRATION))
    return model, windows, calibration
