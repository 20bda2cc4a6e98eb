"""The performance model against the formulas that it composes, and the mapper's closed form against the model."""

import dataclasses
import itertools

import pytest

from hw.engines.systolic import matrix_command_cycles
from hw.isa import DESCRIPTORS, Dataflow, StreamUse, Unit, VectorOutput, VectorSource
from hw.presets import PRESETS
from hw.timing import VECTOR_STAGES, load_cycles, vector_cycles
from sw.assembler import Assembler
from sw.kernels.case import random_case
from sw.kernels.epilogue import epilogue_fields
from sw.kernels.gemm import gemm_code
from sw.kernels.plan import Mapping, make_plan
from sw.kernels.spec import GemmSpec
from sw.kernels.tiles import TileShape
from sw.mapper import choose_plan, estimate, ranked_plans
from sw.perf import MemoryModel, predict, predict_code, vector_command_cycles
from sw.runtime import compile_case, gemm_args
from tb.sw.configs import CONFIGS

SHAPES = [GemmSpec(m=512, n=512, k=512, bias=True, per_channel=True), GemmSpec(m=128, n=768, k=768, bias=True, per_channel=True)]


def predicted(config, spec, plan=None, **memory) -> int:
    """Return the predicted cycles of a GEMM."""
    return predict_code(config, gemm_code(config, plan or choose_plan(config, spec)), {}, MemoryModel(**memory)).cycles


def tiles(plan) -> list[tuple[int, ...]]:
    """Return m, n and k of every tile."""
    sizes = []
    for dim in "mnk":
        total, size = getattr(plan.spec, dim), getattr(plan.mapping.tile, dim)
        sizes.append([min(size, total - start) for start in range(0, total, size)])
    return list(itertools.product(*sizes))


@pytest.mark.parametrize(("spec", "goal"), list(zip(SHAPES, (0.97, 0.95), strict=True)), ids=str)
def test_goals_of_the_default_accelerator(spec, goal):
    config = PRESETS["systolic-16x16"]
    assert spec.macs / predicted(config, spec) / config.peak_macs_per_cycle >= goal


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_a_long_gemm_is_its_engine_cycles(dataflow):
    """Where loads hide, the whole takes what the engine's formula says, plus little."""
    config = PRESETS["systolic-8x8"]
    spec = GemmSpec(m=128, n=128, k=128, dataflow=dataflow)
    plan = choose_plan(config, spec)
    engine = sum(matrix_command_cycles(config, m, n, k, Dataflow[dataflow.upper()]) for m, n, k in tiles(plan))
    assert engine <= predicted(config, spec, plan) <= 1.03 * engine + 600


def test_a_gemm_with_little_k_is_its_vector_cycles():
    config = PRESETS["systolic-16x16"]
    spec = GemmSpec(m=512, n=256, k=1, bias=True)
    plan = choose_plan(config, spec)
    vector = sum(vector_cycles(config, epilogue_fields(spec) | {"m": m, "n": n}) for m, n, _ in tiles(plan))
    assert vector < predicted(config, spec, plan) < 1.25 * vector + 600


def test_memory_matters():
    """Latency costs little where it is hidden; bandwidth costs much where it is needed."""
    config, spec = PRESETS["systolic-16x16"], SHAPES[1]
    fast, slow = predicted(config, spec, latency=8), predicted(config, spec, latency=128)
    assert fast < slow < 1.08 * fast
    vector = GemmSpec(m=1, n=768, k=768)
    whole, half = predicted(config, vector), predicted(config, vector, bandwidth=0.5)
    assert 1.7 * whole < half < 2.3 * whole


def test_shared_banks_cost():
    spec = GemmSpec(m=32, n=32, k=32, dataflow="os")
    config = CONFIGS["systolic-8x8"]
    one = dataclasses.replace(config, scratchpad_banks=1)
    mapping = Mapping(dataflow="os", outer="m", tile=TileShape(m=32, n=32, k=32))
    cycles = [predicted(c, spec, make_plan(c, spec, mapping)) for c in (config, one)]
    assert cycles[1] > cycles[0] + 16 * 32 * 0.9


@pytest.mark.parametrize("transpose", [0, 1])
@pytest.mark.parametrize("unpack", [0, 1])
def test_one_load_is_its_formula(transpose, unpack):
    config = dataclasses.replace(PRESETS["systolic-8x8"], outstanding_reads=64)
    for rows, row_bytes in ((1, 1), (3, 8), (17, 9), (40, 100)):
        asm = Assembler()
        fields = {"rows": rows, "row_bytes": row_bytes, "transpose": transpose, "unpack": unpack}
        for name, value in fields.items():
            asm.set(f"load.{name}", value)
        asm.go(Unit.LOAD)
        asm.halt()
        found = predict_code(config, asm.words(), {}, MemoryModel(latency=20))
        assert found.busy["load"] == load_cycles(config, rows=rows, row_bytes=row_bytes, transpose=bool(transpose),
                                                 unpack=bool(unpack), memory_latency=20)


def test_streams_of_one_bank_take_turns():
    """A cycle for each slice of each stream, while several are in one bank; they are there as late as the steps that use them."""
    config, stages = PRESETS["systolic-8x8"], VECTOR_STAGES["transformer"]
    bank, slices = config.scratchpad_bank_bytes, 20 * 32 // config.vector_lanes
    fields = {field.name: 0 for field in DESCRIPTORS[Unit.VECTOR]} | {
        "source": VectorSource.FLOAT32, "m": 20, "n": 32, "a_stride": 128, "b_en": 1, "b_addr": bank, "c_use": StreamUse.POST,
        "c_addr": 2 * bank, "output": VectorOutput.INT8, "addr": 4 * bank, "stride": 32}
    alone = vector_command_cycles(config, fields)
    assert alone == vector_cycles(config, fields)
    of_row = slices // 20
    for changes, turns in (
            ({"c_addr": bank + 512}, slices - (stages.post - stages.scale)), ({"b_addr": 4096}, slices - stages.scale),
            ({"b_addr": 4096, "c_addr": 512}, slices - stages.scale + slices - (stages.post - stages.scale)),
            ({"a_addr": bank - 5 * 128}, slices - 5 * of_row),
            ({"a_addr": 2 * bank - 128}, of_row - stages.scale + slices - stages.post)):
        assert vector_command_cycles(config, fields | changes) == alone + turns


def test_prediction_says_what_units_do():
    config = PRESETS["systolic-8x8"]
    case = random_case("busy", GemmSpec(m=24, n=40, k=64, bias=True), config.weight, 1)
    program = compile_case(config, case)
    found = predict(config, program, gemm_args(program, case.scale))
    assert found.macs == case.spec.macs
    assert set(found.busy) == {"load", "matrix", "vector", "store"}
    assert all(0 < busy < found.cycles for busy in found.busy.values())


@pytest.mark.parametrize("name", ["systolic-4x4", "systolic-16x16", "systolic-32x32"])
@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_closed_form_follows_the_model(name, dataflow):
    """The best plans by estimate are the best by the model: within 10 % over the first plans of a short GEMM."""
    config, spec = PRESETS[name], GemmSpec(m=96, n=128, k=160, bias=True, per_channel=True, dataflow=dataflow)
    for guess, plan in ranked_plans(config, spec)[:4]:
        assert guess == estimate(config, plan)
        cycles = predicted(config, spec, plan)
        assert abs(guess.cycles - cycles) < 0.1 * cycles
