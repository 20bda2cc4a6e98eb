"""GEMM programs on the golden device against plain numpy: random shapes, every config, both dataflows, all storage forms."""

import dataclasses
import re

import numpy as np
import pytest

from hw.isa import LOOP_DEPTH, OPCODES, Opcode, Unit
from sw.assembler import Instruction
from sw.golden.device import GoldenDevice
from sw.kernels.case import random_case
from sw.kernels.gemm import gemm_code
from sw.kernels.plan import Mapping, PlanError, make_plan
from sw.kernels.spec import GemmSpec, SpecError
from sw.kernels.tiles import Extent, TileShape
from sw.layout import LayoutError
from sw.mapper import MappingError, choose_plan
from sw.program import ProgramError, load_program, save_program
from sw.runtime import compile_case, compile_gemm, gemm_args, place_operands, read_output, reference_gemm, run_case, run_gemm
from tb.sw.configs import CONFIGS

EXACT = [name for name, config in CONFIGS.items() if name != "acc16" and not config.float_activations]


def random_spec(name, seed) -> GemmSpec:
    """Return a GEMM of any kind that the config can run."""
    config, largest = CONFIGS[name], (12, 40, 100)[seed % 3]
    rng = np.random.default_rng([EXACT.index(name), seed])
    forms = ["packed", "rows"] + ["transposed"] * (config.weight.bits == 8)
    return GemmSpec(
        **{dim: int(rng.integers(1, largest + 1)) for dim in "mnk"}, batch=int(rng.choice([1, 1, 2, 3])),
        a=str(rng.choice(["rows", "transposed"])), b=str(rng.choice(forms)), dataflow=str(rng.choice(config.dataflows)),
        bias=bool(rng.integers(2)), per_channel=bool(rng.integers(2)), relu=bool(rng.integers(2)),
        output=str(rng.choice(["int8", "float32"])) if config.vector == "transformer" else "int8")


def golden_run(config, case, **how):
    """Return a case's result on the golden device, and its program."""
    program = compile_case(config, case, **how)
    return run_case(GoldenDevice(config).open(program.memory_bytes), program, case)[0], program


def reference(case):
    """Return a case's result by plain numpy."""
    return reference_gemm(case.a, case.b, scale=case.scale, bias=case.bias, relu=case.spec.relu, output=case.spec.output)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("seed", range(6))
def test_random_gemm(name, seed):
    config, spec = CONFIGS[name], random_spec(name, seed)
    case = random_case("random", spec, config.weight, seed)
    found, program = golden_run(config, case)
    np.testing.assert_array_equal(found, reference(case), err_msg=str(spec))
    assert len(program.code) < 300


def test_all_forms_are_met():
    """Every form, and ragged edges in every dimension, come up in the random GEMMs above."""
    specs = [random_spec(name, seed) for name in EXACT for seed in range(6)]
    for field, values in (("a", {"rows", "transposed"}), ("b", {"packed", "rows", "transposed"}), ("dataflow", {"ws", "os"}),
                          ("batch", {1, 2, 3}), ("bias", {False, True}), ("per_channel", {False, True}), ("relu", {False, True}),
                          ("output", {"int8", "float32"})):
        assert {getattr(spec, field) for spec in specs} == values
    assert len({(spec.a, spec.b, spec.dataflow) for spec in specs}) == 12


@pytest.mark.parametrize("outer", ["m", "n"])
@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("tile", [(48, 32, 32), (16, 32, 96), (64, 64, 32), (100, 32, 512)], ids=str)
def test_every_loop_shape(outer, dataflow, resident, tile):
    """One, two and many chunks of K; one and many tiles each way; ragged ends; short rings."""
    config = CONFIGS["systolic-16x16"]
    spec = GemmSpec(m=100, n=72, k=90, batch=2, bias=True, per_channel=True, dataflow=dataflow)
    case = random_case("loops", spec, config.weight, sum(tile))
    m, n, k = tile
    for slots in (2, 3):
        mapping = Mapping(dataflow=dataflow, outer=outer, tile=TileShape(m=m, n=n, k=k), resident=resident, inner_slots=slots)
        plan = make_plan(config, spec, mapping)
        program = compile_gemm(config, spec, b=case.b, bias=case.bias, scale=case.scale, plan=plan)
        found, _ = run_case(GoldenDevice(config).open(program.memory_bytes), program, case)
        np.testing.assert_array_equal(found, reference(case))


def test_k_longer_than_the_scratchpad():
    config = CONFIGS["systolic-4x4"]
    case = random_case("long", GemmSpec(m=9, n=20, k=10000), config.weight, 1)
    plan = choose_plan(config, case.spec)
    assert not plan.mapping.resident
    np.testing.assert_array_equal(golden_run(config, case)[0], reference(case))


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_saturating_accumulator(dataflow):
    """Saturation follows the array: clipped after each R rows (WS) or os_depth steps (OS) of each chunk of K."""
    config = CONFIGS["acc16"]
    spec = GemmSpec(m=21, n=9, k=50, dataflow=dataflow)
    case = random_case("saturating", spec, config.weight, 3)
    plan = choose_plan(config, spec)
    step = config.rows if dataflow == "ws" else config.os_depth
    acc = np.zeros((spec.m, spec.n), np.int64)
    for chunk in range(0, spec.k, plan.mapping.tile.k):
        for start in range(chunk, min(chunk + plan.mapping.tile.k, spec.k), step):
            end = min(start + step, chunk + plan.mapping.tile.k, spec.k)
            acc = np.clip(acc + case.a[:, start:end].astype(np.int64) @ case.b[start:end], -32768, 32767)
    plain = case.a.astype(np.int64) @ case.b
    assert (acc != plain).any()
    expected = np.clip(np.rint(acc.astype(np.float32) * np.float32(case.scale)), -128, 127)
    np.testing.assert_array_equal(golden_run(config, case)[0], expected)


def test_program_on_other_addresses(tmp_path):
    """Base addresses are arguments: one saved program serves operands anywhere."""
    config = CONFIGS["systolic-8x8"]
    spec = GemmSpec(m=20, n=24, k=32, b="rows")
    program = compile_gemm(config, spec)
    save_program(program, tmp_path / "gemm.heddle")
    program = load_program(tmp_path / "gemm.heddle", config.digest())
    session = GoldenDevice(config).open(1 << 17)
    for seed, base in ((1, 0x8000), (2, 0x10000)):
        case = random_case("moved", spec, config.weight, seed)
        where = {"a": base, "b": base + 0x2000, "c": base + 0x4000}
        for name, array in (("a", case.a), ("b", case.b)):
            layout = program.region(name).layout
            session.memory[where[name]:where[name] + layout.size] = layout.pack(array)
        session.run(program, gemm_args(program, case.scale, **where))
        layout = program.region("c").layout
        np.testing.assert_array_equal(layout.unpack(session.memory[where["c"]:])[0], reference(case))


def test_base_moves_the_whole_program():
    config = CONFIGS["systolic-4x4"]
    case = random_case("high", GemmSpec(m=5, n=6, k=7, bias=True), config.weight, 1)
    program = compile_case(config, case, base=0x4000)
    assert min(region.addr for region in program.regions) == 0x4000
    session = GoldenDevice(config).open(program.memory_bytes)
    np.testing.assert_array_equal(run_case(session, program, case)[0], reference(case))
    assert not session.memory[:0x4000].any()


def test_parameters_at_run_time():
    config = CONFIGS["systolic-8x8"]
    spec = GemmSpec(m=9, n=17, k=8, bias=True, per_channel=True)
    program = compile_gemm(config, spec)
    session = GoldenDevice(config).open(program.memory_bytes)
    for seed in range(2):
        case = random_case("again", spec, config.weight, seed)
        found, result = run_gemm(session, program, spec, a=case.a, b=case.b, bias=case.bias, scale=case.scale)
        np.testing.assert_array_equal(found, reference(case))
        assert result.counters["macs"] == spec.macs
        np.testing.assert_array_equal(read_output(program, result.outputs), found)


def test_code_is_a_handful_of_legal_instructions():
    config = CONFIGS["systolic-16x16"]
    for spec in (GemmSpec(m=512, n=512, k=512, bias=True, per_channel=True),
                 GemmSpec(m=128, n=128, k=32, batch=12, b="transposed")):
        code = [Instruction.decode(int(word)) for word in gemm_code(config, choose_plan(config, spec))]
        assert len(code) <= 8 * config.command_lines
        depth = deepest = 0
        for instruction in code:
            assert instruction.opcode in OPCODES
            depth += (instruction.opcode == Opcode.LOOP) - (instruction.opcode == Opcode.END)
            deepest = max(deepest, depth)
        assert depth == 0
        assert deepest <= LOOP_DEPTH
        assert code[-1].opcode == Opcode.HALT


@pytest.mark.parametrize("name", ["systolic-16x16", "systolic-4x4"])
def test_operands_have_banks_of_their_own(name):
    """Readers never meet: activations, weights, biases, scales, outputs lie in different banks; accumulator halves alternate."""
    config = CONFIGS[name]
    case = random_case("banks", GemmSpec(m=64, n=64, k=64, bias=True, per_channel=True), config.weight, 1)
    program = compile_case(config, case)
    session = GoldenDevice(config).open(program.memory_bytes)
    run_case(session, program, case)
    bank, banks = config.scratchpad_bank_bytes, {}
    for event in session.trace:
        fields = event.fields
        if event.unit == Unit.MATRIX:
            banks.setdefault("activation", set()).add(fields["activation_addr"] // bank)
            banks.setdefault("weight", set()).add(fields["weight_addr"] // bank)
        elif event.unit == Unit.VECTOR:
            banks.setdefault("biases", set()).add(fields["c_addr"] // bank)
            banks.setdefault("scales", set()).add(fields["b_addr"] // bank)
            banks.setdefault("output", set()).add(fields["addr"] // bank)
    found = [bank for group in banks.values() for bank in group]
    assert len(found) == len(set(found))
    halves = [event.fields["acc_addr"] // config.accumulator_bank_rows for event in session.trace if event.unit == Unit.VECTOR]
    assert halves == [i % 2 for i in range(len(halves))]


@pytest.mark.parametrize(("banks", "separate", "together"), [(8, True, False), (4, True, True), (1, False, True)])
def test_where_scales_lie(banks, separate, together):
    """Apart from the biases if there are banks enough; with them if that leaves the operands apart; or anywhere."""
    config = dataclasses.replace(CONFIGS["systolic-4x4"], scratchpad_banks=banks)
    spec = GemmSpec(m=16, n=16, k=16, bias=True, per_channel=True)
    plan = make_plan(config, spec, Mapping(dataflow="ws", outer="m", tile=TileShape(m=16, n=16, k=16)))
    places = [plan.addresses[name] // config.scratchpad_bank_bytes for name in ("parameters", "scales")]
    assert (plan.separate, places[0] == places[1]) == (separate, together)
    case = random_case("scales", spec, config.weight, 3)
    program = compile_case(config, case)
    found, _ = run_case(GoldenDevice(config).open(program.memory_bytes), program, case)
    np.testing.assert_array_equal(found, reference(case))


@pytest.mark.parametrize(("bias", "per_channel", "rows"), [(True, True, 2), (True, False, 1), (False, True, 1)])
def test_only_the_parameters_that_are_used_are_loaded(bias, per_channel, rows):
    config = CONFIGS["3x5-bus64"]
    case = random_case("parameters", GemmSpec(m=4, n=33, k=4, bias=bias, per_channel=per_channel), config.weight, 4)
    program = compile_case(config, case)
    session = GoldenDevice(config).open(program.memory_bytes)
    found, _ = run_case(session, program, case)
    np.testing.assert_array_equal(found, reference(case))
    region = program.region("parameters")
    loads = [event.fields for event in session.trace if event.unit == Unit.LOAD
             and region.addr <= event.fields["dram_addr"] < region.addr + region.size]
    assert loads
    assert {fields["rows"] for fields in loads} == {rows}


# What must be refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "error", "text"), [
    ({"m": 0}, SpecError, "GemmSpec.m must be between 1 and 16777216, not 0"),
    ({"n": -3}, SpecError, "GemmSpec.n must be between 1 and 16777216, not -3"),
    ({"k": 1 << 25}, SpecError, "GemmSpec.k must be between 1 and 16777216, not 33554432"),
    ({"batch": 0}, SpecError, "GemmSpec.batch must be between 1 and 16777216, not 0"),
    ({"m": 2.5}, TypeError, "GemmSpec.m must be an integer, not 2.5"),
    ({"a": "columns"}, SpecError, "GemmSpec.a must be one of rows, transposed, not 'columns'"),
    ({"b": "heap"}, SpecError, "GemmSpec.b must be one of packed, rows, transposed, not 'heap'"),
    ({"output": "int4"}, SpecError, "GemmSpec.output must be one of int8, float32, not 'int4'"),
    ({"dataflow": "rs"}, SpecError, "GemmSpec.dataflow must be one of ws, os, auto, not 'rs'"),
])
def test_bad_spec(changes, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        GemmSpec(**{"m": 4, "n": 4, "k": 4, **changes})


def test_impossible_gemms():
    spec = GemmSpec(m=4, n=4, k=4)
    with pytest.raises(SpecError, match=r"^GemmSpec\.b must be 'packed' or 'rows' with int4 weights, not 'transposed'$"):
        choose_plan(CONFIGS["w4-4x4-bus64"], dataclasses.replace(spec, b="transposed"))
    with pytest.raises(SpecError, match=r"^GemmSpec\.output must be 'int8' with the vector unit 'requantize', not 'float32'$"):
        choose_plan(CONFIGS["3x5-bus64"], dataclasses.replace(spec, output="float32"))
    with pytest.raises(MappingError, match=r"^GemmSpec\.dataflow must be one of ws for this config, not 'os'$"):
        choose_plan(CONFIGS["ws-only"], dataclasses.replace(spec, dataflow="os"))
    assert choose_plan(CONFIGS["ws-only"], spec).mapping.dataflow == "ws"
    with pytest.raises(SpecError, match=r"^a GEMM's matrices must fit into 32 bits of address together, not 1000032000000 "):
        GemmSpec(m=1_000_000, n=1_000_000, k=16)
    for base, what in ((0xFFFF_F000, "b would end at 0x100000010"), (0xFFFF_D000, "its code would start at 0x100000000")):
        with pytest.raises(ProgramError, match=rf"^gemm 4x4x4 must lie within 32 bits of address, but {what}$"):
            compile_gemm(CONFIGS["systolic-4x4"], spec, base=base)
    with pytest.raises(ProgramError, match=r"^base must be a multiple of 4096, not 64$"):
        compile_gemm(CONFIGS["systolic-4x4"], spec, base=64)


def test_bad_data():
    config = CONFIGS["w4-4x4-bus64"]
    spec = GemmSpec(m=2, n=4, k=3, bias=True)
    a, b, bias = np.zeros((2, 3), np.int8), np.zeros((3, 4), np.int8), np.zeros(4, np.int32)
    with pytest.raises(LayoutError, match=r"^int4 values must be between -8 and 7, not -9 to -9$"):
        compile_gemm(config, spec, b=b - 9)
    program = compile_gemm(config, spec)
    session = GoldenDevice(config).open(program.memory_bytes)
    for given, text in (
        ({"a": a.astype(np.int16)}, "array must be int8, not int16"),
        ({"a": np.zeros((3, 3), np.int8)}, "array must have shape (2, 3), not (3, 3)"),
        ({"bias": bias.astype(np.int64)}, "bias must be int32 of shape (4,), not int64 of (4,)"),
        ({"bias": None}, "bias must be int32 of shape (4,), not None"),
        ({"b": None}, "b must be given: it is no constant of program 'gemm 2x4x3'"),
        ({"scale": None}, "scale must be given for program 'gemm 2x4x3'"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            run_gemm(session, program, spec, **{"a": a, "b": b, "bias": bias, "scale": 1.0, **given})
    with pytest.raises(ValueError, match=r"^address of a must be a multiple of 64, not 8$"):
        gemm_args(program, 1.0, a=8)
    place_operands(session, program, spec, a=a, b=b, bias=bias)


@pytest.mark.parametrize(("tile", "text"), [
    ((64, 64, 24), "Mapping.tile.k must be a multiple of 16, not 24"),
    ((64, 24, 64), "Mapping.tile.n must be a multiple of 16, not 24"),
    ((640, 64, 64), "Mapping.tile must need at most 512 accumulator rows, not 2560"),
    ((64, 64, 4096), "Mapping.tile must need at most 262144 scratchpad bytes, not 1056768"),
    ((1, 64, 64), "Mapping.tile.m must give at most 65535 tiles, not 100000"),
])
def test_bad_mapping(tile, text):
    m, n, k = tile
    mapping = Mapping(dataflow="ws", outer="m", tile=TileShape(m=m, n=n, k=k))
    with pytest.raises(PlanError, match=f"^{re.escape(text)}$"):
        make_plan(CONFIGS["systolic-16x16"], GemmSpec(m=100_000, n=640, k=6400), mapping)


def test_extents():
    assert Extent(dim="m", total=10, tile=4).count == 3
    assert Extent(dim="m", total=10, tile=4).constant is None
    assert Extent(dim="m", total=12, tile=4).constant == 4
    assert Extent(dim="m", total=3, tile=4).constant == 3
