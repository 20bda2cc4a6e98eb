"""Sparse formats on a whole model: quality against density."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig
from hw.families import Format, SparseFormat
from hw.formats import format_named
from sw.evaluate import Windows, evaluate, windows_of
from sw.kernels.transformer.weight_plan import LINEAR_PARTS, LINEARS, LinearFormats, WeightPlan
from sw.models.llama import LlamaModel
from sw.models.llama_quantization import QuantizationPlan
from sw.models.llama_weights import LlamaCheckpoint
from sw.models.python_text import documents
from sw.sparsity.patterns import density
from sw.sparsity.pruning import METHODS, prune
from sw.sparsity.tasder import SERIES, Choice, Matrix, Scored, choose, engine_series, linear_scores, scores_of

__all__ = ["FORMATS", "Point", "SparsityError", "planned_point", "points", "tasder_point", "texts"]

_CONTEXT = 2048
_ONE_IN = 20                # of the files that are not held out, so many times fewer are read

FORMATS = (
    "int8", "hss-4:5-2:2", "hss-4:6-2:2", "hss-4:4-2:3", "hss-4:7-2:2", "hss-4:5-2:3", "2:4", "4:8", "hss-4:8-2:2", "hss-4:4-2:4",
    "hss-4:6-2:3", "hss-4:5-2:4", "hss-4:7-2:3", "hss-4:6-2:4", "hss-4:8-2:3", "hss-4:7-2:4", "1:4", "hss-4:8-2:4",
    "tasd-4:8+2:8", "tasd-4:8+1:8", "tasd-2:8+1:8", "sdq-8:8-1:8int8-7:8fp4-g64", "sdq-7:8-1:8int8-6:8fp4-g64",
)
"""What is compared where nothing else is asked for: patterns from dense to sparse, series, SDQ."""


class SparsityError(ValueError):
    """A quality that cannot be reached, or a pruning that a format does not take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A model in a sparse format.

    Attributes
    ----------
    name : str
        Of the format, or of how series were chosen.
    method : str
        How it was pruned: one of `sw.sparsity.pruning.METHODS`.
    density : float
        Share of the weights that are multiplied.
    bits : float
        Mean information of a token.
    bits_per_weight : float
        Stored, scales and coordinates included.
    seconds : float
    series : mapping of str to str
        "layer.part" → format, where matrices have one each.
    """

    name: str
    method: str
    density: float
    bits: float
    bits_per_weight: float
    seconds: float
    series: Mapping[str, str]


def texts(model: LlamaModel, windows: int, calibration: int) -> tuple[Windows, Windows]:
    """Return windows of the held-out text as `heddle eval` has them, and windows of other files, to decide by.

    Raises
    ------
    TextError
        If there is less text than one window.
    """
    context = min(model.config.context, _CONTEXT)
    others, held_out = documents()
    found = [windows_of([token for text in part for token in model.tokenizer.encode(text)], context, count)
             for part, count in ((held_out.values(), windows), ([*others.values()][::_ONE_IN], calibration))]
    return found[0], found[1]


def points(checkpoint: LlamaCheckpoint, formats: Sequence[str], methods: Sequence[str], windows: Windows,
           calibration: Windows) -> Iterator[Point]:
    """Yield the model itself and then in each format, pruned in each of the ways that the format takes.

    Only patterns (N:M, HSS) can be pruned otherwise than by magnitude; series and SDQ decide by magnitude themselves.

    Raises
    ------
    ConfigError, SparsityError
        If there is no such format or method.
    """
    named = {name: format_named(name) for name in formats}
    for method in methods:
        if method not in METHODS:
            raise SparsityError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    yield _point("float32", "magnitude", checkpoint, QuantizationPlan(), windows, 1.0)
    for name, fmt in named.items():
        plan = QuantizationPlan(attention=fmt, mlp=fmt)
        takes = isinstance(fmt, SparseFormat) and density(fmt) < 1
        for method in methods if takes else ("magnitude",):
            # A format prunes by magnitude when it quantizes.
            instead = None
            if isinstance(fmt, SparseFormat) and method != "magnitude":
                instead = prune(checkpoint, fmt, method, calibration.tokens[:, :-1])
            yield _point(name, method, checkpoint, plan, windows, density(fmt), instead=instead)


def tasder_point(checkpoint: LlamaCheckpoint, quality: float, windows: Windows, calibration: Windows,
                 progress: Callable[[], None] = lambda: None) -> Point:
    """Return the model with the cheapest series for each matrix that keep `quality` on the calibration text.

    The quality is the unquantized model's bits over its own.

    Raises
    ------
    SparsityError
        If `quality` is not between 0 and 1, or int8 does not reach it.
    """
    choice = _chosen(checkpoint, quality, calibration, scores_of(checkpoint), dict.fromkeys(SERIES), progress)
    return _series_point(f"TASDER {quality}", checkpoint, choice, choice.series, windows)


def planned_point(checkpoint: LlamaCheckpoint, config: AcceleratorConfig, quality: float, windows: Windows, calibration: Windows,
                  progress: Callable[[], None] = lambda: None) -> tuple[Point, WeightPlan]:
    """Return the model with what takes a config's engine the least time for each linear, and that as a plan for its runs.

    As `tasder_point`, of the formats that the engine has; the point's density is the time over that of dense weights.

    Raises
    ------
    SparsityError, ConfigError
        As `tasder_point` and `engine_series`.
    """
    series = engine_series(config)
    choice = _chosen(checkpoint, quality, calibration, linear_scores(checkpoint, list(series)), series, progress)
    point = _series_point(f"TASDER {quality}, planned", checkpoint, choice, _parts_of(choice.series), windows)
    plain = config.weight_format
    layers = [[choice.series[layer, linear].name for linear in LINEARS] for layer in range(checkpoint.config.layers)]
    return point, WeightPlan(tuple(LinearFormats(*("" if name == plain else name for name in layer)) for layer in layers))


def _parts_of(series: Mapping[Matrix, Format]) -> dict[Matrix, Format]:
    """Return the format of each matrix of linears."""
    return {(layer, part): fmt for (layer, linear), fmt in series.items() for part in LINEAR_PARTS[linear]}


def _chosen(checkpoint: LlamaCheckpoint, quality: float, calibration: Windows, scores: Mapping[Matrix, Scored],
            series: Mapping[Format, float | None], progress: Callable[[], None]) -> Choice:
    """Choose from series, cheapest first, with what each costs; None: its density."""
    if not 0 < quality < 1:
        raise SparsityError(f"a quality must be between 0 and 1, not {quality}")
    exact = evaluate(checkpoint, QuantizationPlan(), calibration).bits
    linears = next(iter(scores))[1] in LINEAR_PARTS

    def found(chosen: Mapping[Matrix, Format]) -> float:
        progress()
        matrices = _parts_of(chosen) if linears else chosen
        return exact / evaluate(checkpoint, QuantizationPlan(matrices=matrices), calibration).bits

    def cost(fmt: Format) -> float:
        stated = series[fmt]
        return density(fmt) if stated is None else stated

    try:
        return choose(scores, found, quality, list(series), cost)
    except ValueError as error:
        raise SparsityError(str(error)) from None


def _series_point(name: str, checkpoint: LlamaCheckpoint, choice: Choice, matrices: Mapping[Matrix, Format],
                  windows: Windows) -> Point:
    series = {f"{layer}.{part}": fmt.name for (layer, part), fmt in choice.series.items()}
    return _point(name, "magnitude", checkpoint, QuantizationPlan(matrices=matrices), windows, choice.cost, series=series)


def _point(name: str, method: str, checkpoint: LlamaCheckpoint, plan: QuantizationPlan, windows: Windows, share: float, *,
           instead: Mapping[Matrix, np.ndarray] | None = None, series: Mapping[str, str] | None = None) -> Point:
    found = evaluate(checkpoint, plan, windows, instead=instead)
    return Point(name=name, method=method, density=share, bits=found.bits, bits_per_weight=found.bits_per_weight,
                 seconds=found.seconds, series=series or {})
