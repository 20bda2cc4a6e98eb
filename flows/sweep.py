"""Combinations of number formats that `heddle eval --sweep` compares."""

from sw.models.llama_quantization import QuantizationPlan

__all__ = ["SWEEP"]

SWEEP: dict[str, QuantizationPlan] = {
    "FP32": QuantizationPlan(),
    "W8A8": QuantizationPlan.named(weights="int8", activations="int8"),
    "W8A8 KV8": QuantizationPlan.named(weights="int8", activations="int8", kv="int8"),
    "W8A8 KV4": QuantizationPlan.named(weights="int8", activations="int8", kv="int4-asym-g128"),
    "W8A8, attention too": QuantizationPlan.named(weights="int8", activations="int8", kv="int8", queries="int8",
                                                  probabilities="int8"),
    "W4 g32": QuantizationPlan.named(weights="int4-g32"),
    "W4A8 g32": QuantizationPlan.named(weights="int4-g32", activations="int8"),
    "W4A8 g128": QuantizationPlan.named(weights="int4-g128", activations="int8"),
    "W4A8 g128, full range": QuantizationPlan.named(weights="int4-g128-full", activations="int8"),
    "W4A8 g128, zero point": QuantizationPlan.named(weights="int4-asym-g128", activations="int8"),
    "W4A8 g32, zero point": QuantizationPlan.named(weights="int4-asym-g32", activations="int8"),
    "W4A8 KV4 g32": QuantizationPlan.named(weights="int4-g32", activations="int8", kv="int4-asym-g128"),
    "MXINT4, A8": QuantizationPlan.named(weights="mxint4-b32", activations="int8"),
    "NF4, A8": QuantizationPlan.named(weights="nf4-g128", activations="int8"),
    "BitMoD 4, A8": QuantizationPlan.named(weights="bitmod4-g128", activations="int8"),
    "BitMoD 4 g32, A8": QuantizationPlan.named(weights="bitmod4-g32", activations="int8"),
    "BitMoD 3, A8": QuantizationPlan.named(weights="bitmod3-g128", activations="int8"),
    "MXFP4, MXFP8": QuantizationPlan.named(weights="mxfp4-b32", activations="mxfp8-e4m3-b32"),
    "MXFP4, MXFP4": QuantizationPlan.named(weights="mxfp4-b32", activations="mxfp4-b32"),
    "NVFP4, NVFP4": QuantizationPlan.named(weights="nvfp4", activations="nvfp4"),
    "RaZeR, RaZeR": QuantizationPlan.named(weights="razer", activations="razer-act"),
    "P3: BitMoD 4, FP8, KV4": QuantizationPlan.named(weights="bitmod4-g128", activations="p3-act", kv="p3-kv-g128",
                                                     probabilities="float8_s0e4m4"),
}
"""Name → plan, in order of the table. Weights before activations; "A8" is int8 with a scale for each token."""
