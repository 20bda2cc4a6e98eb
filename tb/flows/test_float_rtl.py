"""Accelerators with floating-point activations in Verilator: GEMMs, and slices of linear layers of real models, bit by bit."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.presets import PRESETS
from sw.engines import known_weights
from sw.golden.device import GoldenDevice
from sw.golden.llama import embed
from sw.kernels.case import GemmCase
from sw.models.float_linears import linear_case, llama_cases
from sw.models.llama import LlamaModel
from sw.models.minilm import MiniLM
from sw.runtime import compile_case, run_case
from sw.workloads import gemm_workload

BITMOD = AcceleratorConfig(engine="bitmod", dataflows=("ws",), columns=4, bus_width=64, vector="transformer", vector_lanes=2,
                           activation_format="fp16", scratchpad_bytes=1 << 15, accumulator_rows=256,
                           weight_formats=("bitmod4-g32", "bitmod3-g64", "int6-g32-int8"))
CONFIGS = {"bitmod": BITMOD, "bitmod bf16": replace(BITMOD, activation_format="bf16"), "float": PRESETS["float-4x4"]}
MODEL = Path(__file__).parents[2] / "models/python-llama-1m"


@pytest.fixture(scope="module", params=CONFIGS)
def device(request: pytest.FixtureRequest) -> Iterator[RtlDevice]:
    return RtlDevice(CONFIGS[request.param])


@pytest.mark.full
def test_gemms_match_and_take_what_is_predicted(device: RtlDevice) -> None:
    """Every byte as on the golden device, cycles within 3 %; a bias, a scale for each output, sides that are no multiples."""
    for name in known_weights(device.config):
        found = measure(replace(gemm_workload(21, 22, 210), weights=name), device.config, device)
        (gemm,) = found.gemms
        assert found.match, name
        assert gemm.counters["macs"] == 21 * 22 * 210
        assert gemm.counters["saturations"] == 0
        assert gemm.predicted_cycles == pytest.approx(gemm.cycles, rel=0.03), name


def _slices(config: AcceleratorConfig, weights: str) -> Iterator[GemmCase]:
    """Yield the first outputs of linears of the shipped Llama and of MiniLM on their real activations."""
    model = LlamaModel(MODEL)
    tokens = np.array([model.tokenizer.encode(b"def add(a, b):")[:5]])
    layer = model.checkpoint.layer(0)
    small = replace(layer, **{name: getattr(layer, name)[:9] for name in ("gate", "up")}, down=layer.down[:, :9])
    x = embed(model.config, model.checkpoint.weights(), tokens)[0]
    yield from (case for case in llama_cases(config, model.config, small, x, weights) if case.name in ("k", "gate", "down"))
    bert = MiniLM()
    pair = bert.layer(0).up
    inputs = bert.embed(bert.tokens("A man is eating food."))[:3]
    yield linear_case(config, "ffn up", inputs, pair[0][:10], pair[1][:10], weights)


@pytest.mark.full
def test_slices_of_real_layers(device: RtlDevice) -> None:
    """Bit-identical to golden, and near the float result."""
    config = device.config
    for weights in known_weights(config):
        for case in _slices(config, weights):
            program = compile_case(config, case)
            found = []
            for kind in (GoldenDevice(config), device):
                session = kind.open(program.memory_bytes)
                found.append(run_case(session, program, case)[0])
                session.close()
            assert np.array_equal(found[0].view(np.uint32), found[1].view(np.uint32)), (case.name, weights)
            assert np.isfinite(found[0]).all()
            assert np.abs(found[0]).max() > 0
