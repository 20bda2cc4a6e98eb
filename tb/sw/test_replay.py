"""Replay cases: files that survive or are refused, runs that agree, and the first mismatch with its name."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from hw.isa import Unit
from hw.presets import PRESETS
from sw.golden.device import GoldenDevice
from sw.kernels.case import random_case
from sw.kernels.spec import GemmSpec
from sw.program import ProgramError, save_program
from sw.replay import ReplayCase, compare, load_case, replay, save_case
from sw.runtime import compile_case, gemm_args, place_operands, read_output, reference_gemm
from tb.programs import faulty_programs
from tb.sw.configs import CONFIGS

CONFIG = PRESETS["systolic-4x4"]


@pytest.fixture(scope="module")
def gemm():
    """A GEMM of several tiles each way."""
    return random_case("several tiles", GemmSpec(m=40, n=40, k=20, bias=True, per_channel=True), CONFIG.weight, 1)


@pytest.fixture(scope="module")
def case(gemm) -> ReplayCase:
    """The GEMM before its run."""
    program = compile_case(CONFIG, gemm)
    session = GoldenDevice(CONFIG).open(program.memory_bytes)
    place_operands(session, program, gemm.spec, a=gemm.a, b=gemm.b)
    return ReplayCase(config=CONFIG, program=program, args=gemm_args(program), memory=session.memory.copy(), note="a test")


def test_file_round_trip(case, gemm, tmp_path):
    save_case(case, tmp_path / "case.replay")
    found = load_case(tmp_path / "case.replay")
    assert (found.config, dict(found.args), found.note) == (case.config, dict(case.args), "a test")
    np.testing.assert_array_equal(found.memory, case.memory)
    result = replay(found)
    outputs = found.program.read_outputs(result.memory)
    expected = reference_gemm(gemm.a, gemm.b, scale=gemm.scale, bias=gemm.bias)
    np.testing.assert_array_equal(read_output(found.program, outputs), expected)
    assert compare(found, result, replay(found, GoldenDevice(CONFIG).open(len(found.memory))).memory) is None


def test_bad_files(case, tmp_path):
    path = tmp_path / "case.replay"
    save_case(case, path)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(ProgramError, match=r"^\S+ must be a whole heddle-replay file, not a truncated or foreign one"):
        load_case(path)
    save_program(case.program, path)
    with pytest.raises(ProgramError, match=r"^\S+ must be a heddle-replay file, not heddle-program$"):
        load_case(path)
    header = {"format": "heddle-replay", "version": 1, "case": {"config": CONFIG.to_dict()}}
    save_file({"memory": np.zeros(4, np.uint8)}, path, metadata={"heddle": json.dumps(header)})
    with pytest.raises(ProgramError, match=r"^\S+ must hold a whole replay case, not this: "):
        load_case(path)
    for changes, text in (({"args": {}}, "argument 'a' of program 'several tiles' must be given"),
                          ({"config": CONFIGS["tiny"]}, "program 'several tiles' must be compiled for config"),
                          ({"memory": case.memory[:4096]}, "program 'several tiles' must fit into 4096 bytes")):
        parts = {name: getattr(case, name) for name in ("config", "program", "args", "memory")}
        save_case(ReplayCase(**{**parts, **changes}), path)
        with pytest.raises(ProgramError, match=rf"^\S+: {text}"):
            load_case(path)


def test_first_mismatch_is_named(case):
    """Of several wrong bytes, the one that the earliest store wrote; its command, tile, element and cycle."""
    golden = replay(case)
    stores = [event for event in golden.trace if event.unit is not None and event.unit.name == "STORE"]
    c = case.program.region("c")
    got = golden.memory.copy()
    places = {}
    for m, n in ((37, 21), (3, 22), (3, 21), (39, 39)):
        places[m, n] = c.addr + c.layout.offset(0, m, n)
        got[places[m, n]] ^= 0x55
    got[case.program.region("a").addr] ^= 1             # no store writes that: reported last
    log = [(70, places[3, 21] // 16 * 16, 0xFFFF, got[:16]), (90, places[3, 21] // 16 * 16, 0xFFFF, got[:16]),
           (95, places[3, 21] // 16 * 16, 1, got[:16])]
    found = compare(case, golden, got, log)
    assert (found.element["m"], found.element["n"]) == (3, 21)
    assert found.element["addr"] == places[3, 21]
    assert (found.expected, found.got) == (int(golden.memory[places[3, 21]]), int(golden.memory[places[3, 21]]) ^ 0x55)
    assert found.cycle == 90
    assert found.count == 5
    owner = golden.trace[found.command["index"]]
    assert owner in stores
    assert (found.command["pc"], found.command["kernel"]) == (owner.pc, "several tiles")
    maker = golden.trace[found.origin["index"]]
    assert (maker.unit, found.origin["unit"], maker.fields["m"] > found.origin["row"]) == (Unit.VECTOR, "vector", True)
    tile = found.tile["m"][0] + found.origin["row"], found.tile["n"][0] + found.origin["column"]
    assert (tile, found.origin["source"], found.origin["output"]) == ((3, 21), "accumulator", "int8")
    assert found.tile["region"] == "c"
    assert found.tile["m"][0] <= 3 <= found.tile["m"][1]
    assert found.tile["n"][0] <= 21 <= found.tile["n"][1]


def test_mismatches_outside_any_store(case):
    golden = replay(case)
    got = golden.memory.copy()
    region = case.program.region("parameters")
    got[region.addr + 5] ^= 1
    found = compare(case, golden, got)
    assert (found.command, found.origin, found.cycle, found.tile["region"]) == ({}, {}, None, "parameters")
    assert (found.element["m"], found.element["n"]) == (0, 1)
    got = golden.memory.copy()
    got[case.program.code_addr] ^= 1
    found = compare(case, golden, got)
    assert (found.tile, found.element) == ({}, {"addr": case.program.code_addr})


def test_an_error_is_a_result():
    faulty = faulty_programs(CONFIG)[0]
    case = ReplayCase(config=CONFIG, program=faulty.program, args={}, memory=np.zeros(faulty.program.memory_bytes, np.uint8))
    result = replay(case)
    assert result.error is not None
    assert result.error.cause == faulty.cause
