"""The linears of a decoder's layers: their shapes, and where their weights lie from layer to layer."""

from dataclasses import dataclass
from functools import partial

from hw.config import AcceleratorConfig
from sw.kernels.transformer.linear_shape import Linear, column_tile, make_linear
from sw.kernels.transformer.shape import PAGE, DecoderShape
from sw.kernels.transformer.weight_plan import LinearFormats, WeightPlan
from sw.layout import round_up

__all__ = ["LayerRun", "gate_columns", "head_linear", "layer_linears", "layer_runs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRun:
    """Layers in a row with the same formats.

    Attributes
    ----------
    layers : range
        Numbers of the layers.
    formats : LinearFormats
    offsets : dict of str to int
        Linear → where it begins in its layer's weights.
    start, layer_bytes : int
        Where the first layer's weights begin, from those of all layers on, and from one layer's to the next layer's.
    """

    layers: range
    formats: LinearFormats
    offsets: dict[str, int]
    start: int
    layer_bytes: int

    @property
    def end(self) -> int:
        """Where the weights behind these layers' begin."""
        return self.start + len(self.layers) * self.layer_bytes


def gate_columns(config: AcceleratorConfig, tokens: int, plan: WeightPlan) -> int:
    """Return the columns of a tile of gate and up together: what all formats that gate and up have can be cut in."""
    return max(column_tile(config, tokens, formats.gate_up) for formats in plan.layers)


def layer_linears(config: AcceleratorConfig, shape: DecoderShape, gate_tile: int, formats: LinearFormats) -> dict[str, Linear]:
    """Return a layer's linears by name."""
    linear = partial(make_linear, config, m=shape.tokens)
    return {
        "qkv": linear("queries, keys and values", k=shape.hidden, n=shape.qkv_width, weights=formats.qkv),
        "output": linear("attention output", k=shape.attention_width, n=shape.hidden, residual=True, weights=formats.output),
        "gate_up": linear("gate and up", k=shape.hidden, n=2 * shape.ffn, gate_tile=gate_tile, weights=formats.gate_up),
        "down": linear("down", k=shape.ffn, n=shape.hidden, residual=True, weights=formats.down),
    }


def head_linear(config: AcceleratorConfig, shape: DecoderShape, rows: int, weights: str = "") -> Linear:
    """Return the linear that makes logits."""
    return make_linear(config, "head", rows, shape.hidden, shape.vocab, weights=weights)


def layer_runs(config: AcceleratorConfig, shape: DecoderShape, gate_tile: int, plan: WeightPlan) -> tuple[LayerRun, ...]:
    """Return where the weights of all layers lie, run by run."""
    runs: list[LayerRun] = []
    for count, formats in plan.runs:
        offsets, size = {}, 0
        for name, linear in layer_linears(config, shape, gate_tile, formats).items():
            offsets[name] = size
            size += round_up(linear.weight_bytes, 64)
        first, start = (runs[-1].layers.stop, runs[-1].end) if runs else (0, 0)
        runs.append(LayerRun(layers=range(first, first + count), formats=formats, offsets=offsets, start=start,
                             layer_bytes=round_up(size, PAGE)))
    return tuple(runs)
