"""Linear layers of real models as GEMMs with floating-point activations: weights in a config's format, all else in float32."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.elements import FloatFormat
from hw.errors import ConfigError
from sw.engines import default_weights, known_weights
from sw.golden.llama import LlamaConfig, LlamaLayer, Rounding, decoder_layer
from sw.kernels.case import GemmCase
from sw.kernels.spec import GemmSpec
from sw.models.bert import BertConfig, BertLayer, gelu, layer_norm, merge_heads, softmax, split_heads
from sw.numpy_types import numpy_type
from sw.quantize import quantize

__all__ = ["bert_layer", "linear_case", "llama_cases"]

Array = npt.NDArray[np.float32]
Gemm = Callable[[GemmCase], npt.NDArray[np.float32]]


def linear_case(config: AcceleratorConfig, name: str, x: Array, weight: Array, bias: Array | None = None,
                weights: str = "") -> GemmCase:
    """Return x · weightᵀ + bias as a GEMM: x rounded to the config's activations, weights to a format; the result is float32.

    Parameters
    ----------
    config : AcceleratorConfig
        With floating-point activations.
    x, weight, bias : (M, K), (N, K), (N,) float32
    weights : str
        One of `known_weights(config)`; "": the config's first packed one, if it has one.

    Raises
    ------
    ConfigError
        If the config has no floating-point activations, or not this format.
    """
    if not config.float_activations:
        raise ConfigError("AcceleratorConfig.activation_format must be float16 or bfloat16 to run linear layers with float "
                          f"activations, not {config.activation_format!r}")
    weights = weights or default_weights(config)
    if weights not in known_weights(config):
        raise ConfigError(f"weights must be in one of {', '.join(known_weights(config))} for this config, not {weights!r}")
    packed = weights in config.weight_formats
    scale = np.ones(len(weight), np.float32)
    if packed:
        b: npt.NDArray[np.generic] = np.ascontiguousarray(weight.T)
    elif isinstance(config.weight, FloatFormat):
        b = np.ascontiguousarray(weight.T).astype(numpy_type(config.weight))
    else:
        integers, scale = quantize(weight, bits=config.weight.bits, axis=0)
        b = np.ascontiguousarray(integers.T)
    spec = GemmSpec(m=len(x), n=len(weight), k=weight.shape[1], per_channel=True, bias=bias is not None, output="float32",
                    weights=weights if packed else "")
    return GemmCase(name=name, spec=spec, a=x.astype(numpy_type(config.activation)), b=b, scale=scale, bias=bias)


def llama_cases(config: AcceleratorConfig, model: LlamaConfig, layer: LlamaLayer, x: Array, weights: str = "") -> list[GemmCase]:
    """Return the seven linears of a decoder layer on its real activations, those of the layer in float32.

    x : (tokens, hidden) float32
        What enters the layer.
    """
    inputs: list[Array] = []

    def kept(values: Array) -> Array:
        inputs.append(values[0])
        return values

    cache = np.zeros((2, 1, model.kv_heads, len(x), model.head_dim), np.float32)
    decoder_layer(model, layer, x[None], cache[0], cache[1], rounding=Rounding(inputs=kept))
    attention, context, mlp, gated = inputs
    users = (("q", attention), ("k", attention), ("v", attention), ("o", context), ("gate", mlp), ("up", mlp), ("down", gated))
    return [linear_case(config, name, values, getattr(layer, name), weights=weights) for name, values in users]


def bert_layer(config: AcceleratorConfig, model: BertConfig, layer: BertLayer, x: Array, gemm: Gemm, weights: str = "") -> Array:
    """Return an encoder layer's output, (tokens, hidden): six linears by `gemm`, float32 on the host between them.

    Called in the order q, k, v, attention output, ffn up, ffn down; scores and context are the host's.
    """
    def linear(title: str, values: Array, pair: tuple[Array, Array]) -> Array:
        return gemm(linear_case(config, title, values, *pair, weights=weights))

    q, k, v = (split_heads(linear(name, x, getattr(layer, name)), model.heads) for name in ("q", "k", "v"))
    context = softmax(q @ k.transpose(0, 2, 1) / np.float32(model.head_dim ** 0.5)) @ v
    attended = layer_norm(x + linear("attention output", merge_heads(context), layer.o), *layer.norm1, model.norm_eps)
    up = gelu(linear("ffn up", attended, layer.up))
    return layer_norm(attended + linear("ffn down", up, layer.down), *layer.norm2, model.norm_eps)
