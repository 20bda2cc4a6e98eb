"""GEMMs with floating-point activations: random ones and linear layers of real models, on the golden device against float64."""

import dataclasses
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.isa import DESCRIPTORS, ErrorCause, StreamUse, Unit
from hw.presets import PRESETS
from sw.embed import CompiledEncoder
from sw.engines import known_weights
from sw.generate import CompiledModel
from sw.golden.device import GoldenDevice
from sw.golden.llama import embed
from sw.golden.refusal import Refusal
from sw.golden.vector.unit import run_vector
from sw.kernels.case import GemmCase, random_case
from sw.kernels.spec import GemmSpec, SpecError
from sw.kernels.transformer.shape import ShapeError
from sw.layout import LayoutError
from sw.mapper import choose_plan
from sw.models.bert import layer_float
from sw.models.float_linears import bert_layer, linear_case, llama_cases
from sw.models.llama import LlamaModel
from sw.models.minilm import MiniLM
from sw.runtime import compile_case, run_case
from sw.workloads import WORKLOADS, cosine, gemm_workload

FLOAT, BITMOD = PRESETS["float-4x4"], PRESETS["bitmod-fp16-8x8"]
CONFIGS = {"fp16": FLOAT, "bf16": dataclasses.replace(FLOAT, activation_format="bf16", weight_format="bf16"), "bitmod": BITMOD,
           "bitmod bf16": dataclasses.replace(BITMOD, activation_format="bfloat16")}
MODEL = Path(__file__).parents[2] / "models/python-llama-1m"


def golden(config: AcceleratorConfig, case: GemmCase) -> np.ndarray:
    program = compile_case(config, case)
    return run_case(GoldenDevice(config).open(program.memory_bytes), program, case)[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(3))
def test_random_gemm(name: str, seed: int) -> None:
    """(A · B) · scale + bias of plain weights, in float32: as near to float64 as K roundings leave it."""
    config, rng = CONFIGS[name], np.random.default_rng(seed)
    m, n, k = (int(rng.integers(1, largest)) for largest in (20, 30, 200))
    spec = GemmSpec(m=m, n=n, k=k, bias=bool(seed % 2), per_channel=seed != 2, relu=seed == 0, output="float32",
                    b="rows" if seed == 2 else "packed", batch=2 if seed == 2 else 1)
    case = random_case("random", spec, config.weight, seed, config.activation)
    assert case.a.dtype == (ml_dtypes.bfloat16 if "bf16" in name else np.float16)
    found = golden(config, case)
    a, b = case.a.astype(np.float64), case.b.astype(np.float64)
    expected = a @ b * np.asarray(case.scale, np.float64) + (0 if case.bias is None else case.bias)
    bound = (k + 4) * 2.0**-24 if config.engine == "float" else 2.0**-10
    slack = bound * (np.abs(a) @ np.abs(b) * np.abs(case.scale) + (0 if case.bias is None else np.abs(case.bias)))
    assert (np.abs(found - (np.maximum(expected, 0) if spec.relu else expected)) <= slack).all()


def test_int8_results() -> None:
    """Sums are requantized as those of integers are."""
    case = random_case("int8", GemmSpec(m=9, n=10, k=40, per_channel=True), FLOAT.weight, 1, FLOAT.activation)
    exact = case.a.astype(np.float64) @ case.b.astype(np.float64) * case.scale
    found = golden(FLOAT, case)
    assert found.dtype == np.int8
    assert np.abs(found - np.clip(np.rint(exact), -128, 127)).max() <= 1
    assert (found != 0).mean() > 0.9


@pytest.mark.parametrize("weights", known_weights(BITMOD))
def test_linears_of_the_shipped_llama(weights: str) -> None:
    """Linears of a layer on what a text brings to them; results are as near as the format of the weights is."""
    model = LlamaModel(MODEL)
    tokens = np.array([model.tokenizer.encode(b"def add(a, b):")[:9]])
    x = embed(model.config, model.checkpoint.weights(), tokens)[0]
    layer = model.checkpoint.layer(0)
    cases = llama_cases(BITMOD, model.config, layer, x, weights)
    assert [case.name for case in cases] == ["q", "k", "v", "o", "gate", "up", "down"]
    for case in cases[1], cases[3]:
        exact = case.a.astype(np.float32) @ getattr(layer, case.name).T
        assert cosine(golden(BITMOD, case), exact) > {"int8": 0.9999, "int6-g128-int8": 0.999}.get(weights, 0.95)


def test_layer_of_minilm() -> None:
    """The six linears of a layer on the first tokens of a sentence, all in float16."""
    model = MiniLM()
    x, layer = model.embed(model.tokens("A man is eating food.")), model.layer(0)
    titles: list[str] = []

    def gemm(case: GemmCase) -> np.ndarray:
        titles.append(case.name)
        return golden(config, case)

    config = PRESETS["float-16x16"]
    found = bert_layer(config, model.config, layer, x[:4], gemm)
    assert titles == ["q", "k", "v", "attention output", "ffn up", "ffn down"]
    assert cosine(found, layer_float(model.config, layer, x[:4])) > 0.9999


def test_workloads_of_float_configs() -> None:
    """Results are float32; what has a bias loses its ReLU, which the vector unit cannot do as well."""
    specs = dict(WORKLOADS["mlp-mnist"].specs(FLOAT))
    assert {spec.output for spec in specs.values()} == {"float32"}
    assert not any(spec.relu for spec in specs.values())
    (_, spec), = gemm_workload(3, 4, 5).specs(BITMOD)
    assert (spec.weights, spec.output) == ("bitmod4-g128", "float32")


def test_refused() -> None:
    spec = GemmSpec(m=4, n=4, k=8, output="float32")
    for change, text in (
        ({"a": "transposed"}, "GemmSpec.a must be 'rows' with float16 activations, not 'transposed'"),
        ({"relu": True, "bias": True}, "GemmSpec.relu must be False with a bias and float16 activations, not True"),
        ({"b": "transposed"}, "GemmSpec.b must be 'packed' or 'rows' with float16 weights, not 'transposed'"),
    ):
        with pytest.raises(SpecError, match=f"^{re.escape(text)}$"):
            choose_plan(FLOAT, dataclasses.replace(spec, **change))
    case = random_case("x", spec, FLOAT.weight, 1, FLOAT.activation)
    with pytest.raises(LayoutError, match=r"^array must be of a 16-bit type, not float32$"):
        golden(FLOAT, dataclasses.replace(case, a=case.a.astype(np.float32)))
    x = np.ones((2, 4), np.float32)
    for config, weights, text in (
        (PRESETS["systolic-4x4"], "", ("AcceleratorConfig.activation_format must be float16 or bfloat16 to run linear layers "
                                       "with float activations, not 'int8'")),
        (FLOAT, "int8", "weights must be in one of float16 for this config, not 'int8'"),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            linear_case(config, "x", x, x, weights=weights)


def test_integer_bias_is_refused() -> None:
    """float32 sums have no int32 bias: the vector unit says so."""
    fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.VECTOR]), 0) | {"m": 1, "n": 1, "c_use": int(StreamUse.BIAS)}
    with pytest.raises(Refusal) as refused:
        run_vector(FLOAT, fields, np.zeros(FLOAT.scratchpad_bytes, np.uint8), np.zeros((512, 4), np.int64),
                   np.zeros(1024, np.float32))
    assert (refused.value.cause, refused.value.addr) == (ErrorCause.UNSUPPORTED, StreamUse.BIAS)


@pytest.mark.parametrize("name", ["float-8x8", "bitmod-fp16-8x8"])
def test_whole_models_are_refused(name: str) -> None:
    """Their kernels quantize activations to int8; what is missing is said before anything is compiled."""
    text = r"AcceleratorConfig\.activation_format must be int8 to run a transformer, not 'float16'"
    model = LlamaModel(MODEL)
    with pytest.raises(ShapeError, match=f"^{text}$"):
        CompiledModel(PRESETS[name], model.config, model.checkpoint.weights())
    bert = MiniLM()
    with pytest.raises(ShapeError, match=f"^{text}$"):
        CompiledEncoder(PRESETS[name], bert.config, bert.weights)
