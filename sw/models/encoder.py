"""One BERT layer with its matrix multiplications in integers: eight GEMMs for a device, float32 on the host between them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sw.kernels.case import GemmCase
from sw.kernels.spec import GemmSpec
from sw.models.bert import Array, BertConfig, BertLayer, gelu, layer_norm, linear, merge_heads, softmax, split_heads
from sw.quantize import dequantize, quantize, quantize_bias, requantize_scale

__all__ = ["QuantizedLayer"]

Gemm = Callable[[GemmCase], npt.NDArray[np.int8]]
LEAST = 1e-6                # of a peak that scales are made from
EXPONENT = {8: 0.8, 4: 0.6}  # of smoothing, by bits of a weight: what gave the best cosine on the default text


class QuantizedLayer:
    """An encoder layer in int8, prepared with a float run on calibration data.

    * Weights have a scale for each output channel.
    * Results that go to the host have a static scale for each channel (a few channels of BERT are hundreds of times larger than
      the rest), those that feed the next GEMM directly (q, k, v, context) one for the tensor.
    * What the host quantizes (layer inputs, probabilities, GELU) has one scale, found at run time; before that, outlier channels
      are divided down, and the weights multiplied in turn (SmoothQuant, Xiao et al., ICML 2023).

    Parameters
    ----------
    config : BertConfig
    layer : BertLayer
    calibration : ndarray
        Inputs of the layer, (tokens, hidden) float32.
    weight_bits : int
        8 or 4; with 4 the keys and values of attention are int4 as well, being the second operand of a GEMM.
    """

    def __init__(self, config: BertConfig, layer: BertLayer, calibration: Array, weight_bits: int = 8):
        self.config, self.layer, self.weight_bits = config, layer, weight_bits
        inputs, results = self._float(calibration)
        self._smooth = {name: _smoothing(x, [getattr(layer, user)[0] for user in users], EXPONENT[weight_bits])
                        for name, x, users in (("x", inputs["x"], "qkv"), ("attended", inputs["attended"], ["up"]),
                                               ("activated", inputs["activated"], ["down"]))}
        factors = {**dict.fromkeys("qkv", self._smooth["x"]), "o": np.ones(config.hidden, np.float32),
                   "up": self._smooth["attended"], "down": self._smooth["activated"]}
        self._weights = {name: quantize(getattr(layer, name)[0] * factor, bits=weight_bits, axis=0)
                         for name, factor in factors.items()}
        self._scales: dict[str, Any] = {name: _peak(y, axis=0 if name in ("o", "up", "down") else None) / 127
                                        for name, y in results.items()}

    def _float(self, x: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return what the host hands to GEMMs, and the float result of each GEMM."""
        layer, config = self.layer, self.config
        results = {name: linear(x, getattr(layer, name)) for name in ("q", "k", "v")}
        q, k, v = (split_heads(results[name], config.heads) for name in ("q", "k", "v"))
        results["scores"] = q @ k.transpose(0, 2, 1)
        results["context"] = softmax(results["scores"] / np.float32(math.sqrt(config.head_dim))) @ v
        results["o"] = linear(merge_heads(results["context"]), layer.o)
        attended = layer_norm(x + results["o"], *layer.norm1, config.norm_eps)
        results["up"] = linear(attended, layer.up)
        activated = gelu(results["up"])
        results["down"] = linear(activated, layer.down)
        return {"x": x, "attended": attended, "activated": activated}, results

    def _linear(self, name: str, title: str, a: npt.NDArray[np.int8], a_scale: np.float32) -> GemmCase:
        weights, scales = self._weights[name]
        spec = GemmSpec(m=len(a), n=len(weights), k=weights.shape[1], bias=True, per_channel=True)
        return GemmCase(
            name=title, spec=spec, a=a, b=np.ascontiguousarray(weights.T),
            scale=requantize_scale(a_scale, scales, self._scales[name]),
            bias=quantize_bias(getattr(self.layer, name)[1], a_scale, scales))

    def _input(self, name: str, x: Array) -> tuple[npt.NDArray[np.int8], np.float32]:
        """Return what the host hands to a GEMM, smoothed and quantized."""
        return quantize(x / self._smooth[name])

    def _second(self, x: npt.NDArray[np.int8], scale: np.float32) -> tuple[npt.NDArray[np.int8], np.float32]:
        """Return keys or values as a second operand: as they are, or in int4."""
        return (x, scale) if self.weight_bits == 8 else quantize(dequantize(x, scale), bits=self.weight_bits)

    def _attention(self, gemm: Gemm, q: npt.NDArray[np.int8], k: npt.NDArray[np.int8],
                   v: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Return the context, (tokens, hidden) int8 of scale `context`."""
        heads, tokens, head = self.config.heads, len(q), self.config.head_dim
        key, key_scale = self._second(k, self._scales["k"])
        value, value_scale = self._second(v, self._scales["v"])
        q_heads, k_heads, v_heads = (split_heads(x, heads) for x in (q, key, value))
        scores = gemm(GemmCase(
            name="scores", a=q_heads, b=np.ascontiguousarray(k_heads.transpose(0, 2, 1)),
            spec=GemmSpec(m=tokens, n=tokens, k=head, batch=heads, b="transposed" if self.weight_bits == 8 else "rows"),
            scale=requantize_scale(self._scales["q"], key_scale, self._scales["scores"])))
        probabilities = softmax(dequantize(scores, self._scales["scores"]) / np.float32(math.sqrt(head)))
        p, p_scale = quantize(probabilities)
        return merge_heads(gemm(GemmCase(
            name="context", a=p, b=v_heads, spec=GemmSpec(m=tokens, n=head, k=tokens, batch=heads, b="rows"),
            scale=requantize_scale(p_scale, value_scale, self._scales["context"]))))

    def run(self, x: Array, gemm: Gemm) -> Array:
        """Return the layer's output.

        Parameters
        ----------
        x : ndarray
            (tokens, hidden) float32.
        gemm : callable
            Runs one GEMM on a device: GemmCase → (batch, M, N) int8, without the batch where it is 1. Called eight times, in
            the order q, k, v, scores, context, attention output, ffn up, ffn down.
        """
        layer, config, scales = self.layer, self.config, self._scales
        xq, x_scale = self._input("x", x)
        q, k, v = (gemm(self._linear(name, name, xq, x_scale)) for name in ("q", "k", "v"))
        context = self._attention(gemm, q, k, v)
        projected = dequantize(gemm(self._linear("o", "attention output", context, scales["context"])), scales["o"])
        x = layer_norm(x + projected, *layer.norm1, config.norm_eps)
        up = dequantize(gemm(self._linear("up", "ffn up", *self._input("attended", x))), scales["up"])
        down = dequantize(gemm(self._linear("down", "ffn down", *self._input("activated", gelu(up)))), scales["down"])
        return layer_norm(x + down, *layer.norm2, config.norm_eps)


def _peak(values: Array, axis: int | None = None) -> Any:
    """Return the largest magnitude, of all values or along an axis; never zero."""
    return np.maximum(np.abs(values).max(axis=axis), LEAST).astype(np.float32)


def _smoothing(x: Array, weights: Iterable[Array], exponent: float) -> Array:
    """Return what each input channel is divided by, (K,): peak of activations^e / peak of weights^(1 − e)."""
    weight_peak = np.maximum.reduce([_peak(weight, axis=0) for weight in weights])
    return (_peak(x, axis=0) ** exponent / weight_peak ** (1 - exponent)).astype(np.float32)
