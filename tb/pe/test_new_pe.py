"""docs/adding_a_pe.md at its word: a new PE is one class, one golden model and their registry lines; all benches take it."""

import dataclasses

import numpy as np
import pytest
from amaranth import *

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.isa import Dataflow
from hw.pe import PE_TYPES
from hw.pe.mac import MacPE
from sw.golden.device import GoldenDevice
from sw.golden.pe import PE_MODELS
from sw.golden.pe.base import Ints, PEModel
from sw.kernels.case import random_case
from sw.kernels.spec import GemmSpec
from sw.runtime import compile_case, reference_gemm, run_case
from tb.array import engine, test_mesh, test_systolic, test_systolic_timing
from tb.pe import test_pe

KIND = "floor4"


class Floor4PE(MacPE):
    """Multiply-accumulate with products rounded down to a multiple of 4."""

    def multiply(self, weight: Value) -> Value:
        return (self.activation * weight) & ~3


class Floor4Model(PEModel):
    """Golden model of `Floor4PE`."""

    def multiply(self, activation: Ints, weight: Ints) -> Ints:
        return activation * weight // 4 * 4


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Two registry lines, and the configs that `tb.array.engine` would make of them."""
    monkeypatch.setitem(PE_TYPES, KIND, Floor4PE)
    monkeypatch.setitem(PE_MODELS, KIND, Floor4Model)
    for name in ("3x5", "5x2-w4", "2x4-ws"):
        monkeypatch.setitem(engine.CONFIGS, f"{name}-{KIND}", dataclasses.replace(engine.CONFIGS[name], pe=KIND))


@pytest.mark.parametrize("dataflows", test_pe.DATAFLOWS, ids="-".join)
def test_the_pe_itself(dataflows):
    test_pe.test_registries_agree()
    test_pe.test_random_slots(KIND, (8, 4, 16), dataflows)
    test_pe.test_product_of_a_tile_is_what_the_slots_add_up_to(KIND, 3, 7, 2)


@pytest.mark.parametrize("serialize", [False, True])
def test_meshes_of_it(serialize):
    test_mesh.test_any_slots_agree_with_the_golden_model(3, 4, KIND, ("ws", "os"))
    test_mesh.test_ws_takes_the_cycles_of_the_formula(4, 3, 3, 5, serialize, KIND)
    test_mesh.test_os_takes_the_cycles_of_the_formula(3, 4, 3, 5, serialize, KIND)


@pytest.mark.parametrize("name", ["3x5", "5x2-w4", "2x4-ws"])
def test_engines_of_it(name):
    test_systolic.test_random_commands(f"{name}-{KIND}", 0.2, True)
    test_systolic_timing.test_latency_of_a_command_alone(f"{name}-{KIND}", 0)


def test_engine_makes_other_results_than_with_the_mac():
    """The engine's golden model asks the PE, so the bench above would have seen a MAC."""
    config = engine.CONFIGS["3x5"]
    command = engine.command_of(4, 5, 6, Dataflow.WS)
    rows = [list(test_systolic.result_rows(kind, command, engine.memory_image(config, 0)))
            for kind in (config, dataclasses.replace(config, pe=KIND))]
    assert all((floor <= mac).all() for (_, _, mac), (_, _, floor) in zip(*rows, strict=True))
    assert any((floor < mac).any() for (_, _, mac), (_, _, floor) in zip(*rows, strict=True))


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_golden_device(dataflow):
    """A whole program: the sums are those of the new arithmetic, written here in plain numpy."""
    config = AcceleratorConfig(pe=KIND, os_depth=7)
    case = random_case("floor", GemmSpec(m=9, n=10, k=23, dataflow=dataflow), config.weight, 1)
    case = dataclasses.replace(case, scale=np.float32(case.scale * 8))
    program = compile_case(config, case)
    found, _ = run_case(GoldenDevice(config).open(program.memory_bytes), program, case)
    products = case.a.astype(np.int64)[:, :, None] * case.b.astype(np.int64)[None]
    sums = np.floor(products / 4).astype(np.int64).sum(axis=1) * 4
    np.testing.assert_array_equal(found, reference_gemm(sums, np.eye(10, dtype=np.int64), scale=case.scale))
    assert (found != reference_gemm(case.a, case.b, scale=case.scale)).any()


def test_golden_device_refuses_what_has_no_model():
    names = ", ".join(PE_MODELS)
    assert KIND in names
    with pytest.raises(ConfigError, match=rf"^AcceleratorConfig\.pe must be one of {names}, not 'analog'$"):
        GoldenDevice(AcceleratorConfig(pe="analog"))
