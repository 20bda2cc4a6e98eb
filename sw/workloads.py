"""Named workloads: lists of GEMMs that a device runs, with their data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.engines import default_weights
from sw.kernels.case import GemmCase, random_case
from sw.kernels.spec import GemmSpec

__all__ = ["WORKLOADS", "Gemm", "Workload", "WorkloadError", "cosine", "gemm_workload", "workload_named"]

Gemm = Callable[[GemmCase], npt.NDArray[Any]]


class WorkloadError(ValueError):
    """A workload that does not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """GEMMs in order.

    Attributes
    ----------
    name, doc : str
    shapes : tuple of (str, GemmSpec)
        Name and shape of each GEMM; what runs on random data. Empty for one that brings its own.
    runner : callable or None
        (config, gemm, text) → what the workload has to report, for one that brings its own data: it calls `gemm` for
        each GEMM and uses what that returns.
    weights : str
        Format of constant weights in GEMMs on random data; "": the config's first packed one, if it has one.
    """

    name: str
    doc: str
    shapes: tuple[tuple[str, GemmSpec], ...] = ()
    runner: Callable[[AcceleratorConfig, Gemm, str | None], dict[str, float]] | None = None
    weights: str = ""

    def run(self, config: AcceleratorConfig, gemm: Gemm, *, seed: int = 0, text: str | None = None) -> dict[str, float]:
        """Hand every GEMM to `gemm`, in order.

        Parameters
        ----------
        config : AcceleratorConfig
            Its weight format decides the data.
        gemm : callable
            GemmCase → result, int8; `sw.runtime.run_case` on some session.
        seed : int
            Of random data.
        text : str or None
            For a workload on real text: another than its own.

        Returns
        -------
        dict of str to float
            What else the workload has to say, such as `cosine` with the float model; may be empty.
        """
        if self.runner is not None:
            return self.runner(config, gemm, text)
        for case in self.cases(config, seed):
            gemm(case)
        return {}

    def cases(self, config: AcceleratorConfig, seed: int = 0) -> Iterator[GemmCase]:
        """Yield the GEMMs of a workload on random data."""
        for index, (name, spec) in enumerate(self.specs(config)):
            yield random_case(name, spec, config.weight, seed + index, config.activation)

    def specs(self, config: AcceleratorConfig) -> Iterator[tuple[str, GemmSpec]]:
        """Yield name and shape of each GEMM as a config runs it.

        Operands that cannot be turned on the way in (int4) are given as rows; constant weights with a scale for each output
        are in a packed format, if the config has one and plain ones are not asked for. With floating-point activations
        results are float32, and what has a bias has no ReLU.
        """
        weights = self.weights or default_weights(config)
        for name, spec in self.shapes:
            form = "rows" if spec.b == "transposed" and config.weight.bits != 8 else spec.b
            plain = weights == config.weight_format and weights not in config.weight_formats
            packed = not plain and form == "packed" and spec.per_channel and spec.batch == 1
            spec = replace(spec, b=form, weights=weights if packed else "")
            yield name, replace(spec, output="float32", relu=spec.relu and not spec.bias) if config.float_activations else spec


def cosine(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float:
    """Return the cosine between two arrays, taken as vectors."""
    a, b = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _minilm_layer(config: AcceleratorConfig, gemm: Gemm, text: str | None) -> dict[str, float]:
    """Run the first encoder layer of all-MiniLM-L6-v2 on a text and compare it with float32."""
    from sw.models.bert import layer_float
    from sw.models.encoder import QuantizedLayer
    from sw.models.float_linears import bert_layer
    from sw.models.minilm import MiniLM

    model = MiniLM()
    tokens = model.tokens(text or model.default_text())
    x, layer = model.embed(tokens), model.layer(0)
    if config.float_activations:
        found = bert_layer(config, model.config, layer, x, gemm)
        return {"tokens": len(tokens), "cosine": cosine(found, layer_float(model.config, layer, x))}
    quantized = QuantizedLayer(model.config, layer, x, weight_bits=config.weight.bits)
    found = quantized.run(x, gemm)
    return {"tokens": len(tokens), "cosine": cosine(found, layer_float(model.config, layer, x))}


def _linear(name: str, m: int, n: int, k: int, relu: bool = False) -> tuple[str, GemmSpec]:
    return name, GemmSpec(m=m, n=n, k=k, bias=True, per_channel=True, relu=relu)


def _encoder(tokens: int, hidden: int, heads: int, ffn: int, fused_qkv: bool = False) -> tuple[tuple[str, GemmSpec], ...]:
    """Return the GEMMs of one transformer layer."""
    head = hidden // heads
    qkv = [_linear("qkv", tokens, 3 * hidden, hidden)] if fused_qkv else [_linear(name, tokens, hidden, hidden) for name in "qkv"]
    return (
        *qkv,
        ("scores", GemmSpec(m=tokens, n=tokens, k=head, batch=heads, b="transposed")),
        ("context", GemmSpec(m=tokens, n=head, k=tokens, batch=heads, b="rows")),
        _linear("attention output", tokens, hidden, hidden),
        _linear("ffn up", tokens, ffn, hidden),
        _linear("ffn down", tokens, hidden, ffn),
    )


def _square(size: int) -> Workload:
    return Workload(name=f"square-{size}", doc=f"one GEMM of {size}×{size}×{size}", shapes=(_linear("gemm", size, size, size),))


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(name="minilm-layer", runner=_minilm_layer,
                 doc="first encoder layer of all-MiniLM-L6-v2: real weights, 128 tokens of real text, int8 (or "
                     "float16 activations, where the config has them)"),
        Workload(name="bert-base-layer", doc="one layer of BERT-base: 128 tokens, hidden 768, 12 heads, FFN 3072; random data",
                 shapes=_encoder(128, 768, 12, 3072)),
        Workload(name="gpt2-layer", doc="one layer of GPT-2 (124M), prefill of 256 tokens: hidden 768, 12 heads; random data",
                 shapes=_encoder(256, 768, 12, 3072, fused_qkv=True)),
        Workload(name="vit-b16-layer", doc="one layer of ViT-B/16: 197 tokens (224×224 image), hidden 768, 12 heads; random data",
                 shapes=_encoder(197, 768, 12, 3072, fused_qkv=True)),
        Workload(name="mlp-mnist", doc="a 784-512-512-10 perceptron with ReLU, 64 images; random data",
                 shapes=(_linear("layer 1", 64, 512, 784, relu=True), _linear("layer 2", 64, 512, 512, relu=True),
                         _linear("layer 3", 64, 10, 512))),
        *(_square(size) for size in (64, 128, 256, 512)),
    )
}


def gemm_workload(m: int, n: int, k: int) -> Workload:
    """Return a workload of one GEMM on random data, bias and a scale for each channel included."""
    return Workload(name=f"gemm-{m}x{n}x{k}", doc=f"one GEMM of {m}×{n}×{k}; random data", shapes=(_linear("gemm", m, n, k),))


def workload_named(name: str) -> Workload:
    """Return the workload called `name`.

    Raises
    ------
    WorkloadError
        If there is none; the text lists those that exist.
    """
    if name not in WORKLOADS:
        raise WorkloadError(f"workload must be one of {', '.join(WORKLOADS)}, not {name!r}")
    return WORKLOADS[name]
