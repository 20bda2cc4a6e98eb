"""A plan of weights by sensitivity: how many channels of each linear keep all columns, chosen over the whole model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.families import ColumnFormat
from hw.formats import format_named
from sw.engines import weight_layout
from sw.formats.columns import sensitive_channels
from sw.formats.rows import quantize_rows
from sw.golden.llama import LlamaLayer
from sw.kernels.transformer.weight_plan import LINEAR_PARTS, LINEARS, LinearFormats, WeightPlan

__all__ = ["Choice", "column_shares", "linear_matrices", "sensitive_plan"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The format of one linear.

    Attributes
    ----------
    layer : int
    linear : str
        One of `LINEARS`.
    channels, inputs : int
        Its outputs and inputs.
    sensitive : int
        Channels among the model's most sensitive ones.
    kept : float
        Share of its channels that keep all columns: of the formats at hand whose share is not below that of sensitive ones, that
        of the one that takes the least memory.
    weights : str
    """

    layer: int
    linear: str
    channels: int
    inputs: int
    sensitive: int
    kept: float
    weights: str


def linear_matrices(layer: LlamaLayer) -> dict[str, Floats]:
    """Return a layer's matrices by linear, (outputs, inputs), without the norms' weights."""
    return {linear: np.concatenate([getattr(layer, part) for part in parts]) for linear, parts in LINEAR_PARTS.items()}


def column_shares(config: AcceleratorConfig, base: str) -> list[tuple[float, str]]:
    """Return share of channels with all columns → format, ascending, of those of a config that else are as `base`.

    Raises
    ------
    ConfigError
        If `base` is no format of bit columns without a split, or the config does not have it.
    """
    fmt = format_named(base)
    if not isinstance(fmt, ColumnFormat) or fmt.one_of > 1:
        raise ConfigError(f"a plan by sensitivity must start from a format of bit columns, such as bbs-shift-g32, not {base!r}")
    if base not in config.weight_formats:
        raise ConfigError(f"AcceleratorConfig.weight_formats must have {base!r} for a plan that starts from it, "
                          f"not {', '.join(config.weight_formats) or 'none'}")
    found = {0.0: base}
    for name in config.weight_formats:
        other = format_named(name)
        if name == "int8":
            found[1.0] = name
        elif isinstance(other, ColumnFormat) and other.one_of > 1 and name.startswith(f"{base}-"):
            found[1 / other.one_of] = name
    return sorted(found.items())


def sensitive_plan(config: AcceleratorConfig, layers: Iterable[LlamaLayer], base: str, share: float,
                   head: str = "") -> tuple[WeightPlan, Sequence[Choice]]:
    """Choose a format for each linear.

    The `share` of the model's channels with the largest scales are the sensitive ones, as in the paper's Algorithm 2. There a
    layer's count is rounded up to whole groups of channels in parallel; here to a share that a format of the engine has, which
    keeps as many of each lane, and packs this linear into the fewest bytes. Scales are those of the checkpoint's matrices,
    without the norms' weights.

    Parameters
    ----------
    config : AcceleratorConfig
    layers : iterable of LlamaLayer
    base : str
        The format of channels that are not sensitive.
    share : float
        0 to 1.
    head : str
        Format of the output matrix.

    Raises
    ------
    ConfigError
        See `column_shares`.
    FormatError
        If the share is none, or a weight is not finite.

    Reference: Chen et al., BBS, MICRO 2024, Algorithm 2 (10 % and 20 %).
    """
    shares = column_shares(config, base)
    scales, places = [], []
    for number, layer in enumerate(layers):
        for name, matrix in linear_matrices(layer).items():
            scales.append(quantize_rows(np.asarray(matrix, np.float32))[1])
            places.append((number, name, matrix.shape))
    choices = []
    for (number, name, (channels, inputs)), sensitive in zip(places, sensitive_channels(scales, share, 1), strict=True):
        wanted = len(sensitive) / channels
        enough = [found for found in shares if found[0] >= wanted] or shares[-1:]
        kept, weights = min(enough, key=lambda found: (weight_layout(config, channels, inputs, found[1]).size, -found[0]))
        choices.append(Choice(layer=number, linear=name, channels=channels, inputs=inputs, sensitive=len(sensitive), kept=kept,
                              weights=weights))
    names = [choice.weights for choice in choices]
    plan = tuple(LinearFormats(*names[start:start + len(LINEARS)]) for start in range(0, len(names), len(LINEARS)))
    return WeightPlan(plan, head), choices
