"""A run that goes wrong leaves a case, and `heddle replay` names what was wrong first."""

import json
import re

import numpy as np
import pytest

from flows.cli import main
from flows.rtl_device import RtlSession
from hw.isa import ErrorCause, Unit
from hw.presets import preset_named
from sw.assembler import Assembler
from sw.device import DeviceError
from sw.program import Program
from sw.replay import ReplayCase, load_case, save_case

RUN = ["run", "systolic-4x4", "--gemm", "12,10,9", "--seed", "3", "--stall", "0.1", "--memory-latency", "7"]


@pytest.fixture
def saved_case(monkeypatch, capsys):
    """Return the path of the case that a run saves when one bit of its result is wrong."""
    honest = RtlSession.run

    def flips_a_bit(session, program, args=None):
        result = honest(session, program, args)
        region = program.region("c")
        session.memory[region.addr + region.layout.offset(0, 5, 2)] ^= 1
        return result

    monkeypatch.setattr(RtlSession, "run", flips_a_bit)
    assert main(RUN) == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out
    return re.search(r"heddle replay (\S+)", out.replace("\n", ""))[1], monkeypatch


def test_the_first_wrong_element_is_named(saved_case, capsys):
    path, _ = saved_case
    assert main(["replay", path, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["match"] is False
    assert (answer["element"]["m"], answer["element"]["n"]) == (5, 2)
    assert answer["expected"] ^ answer["got"] == 1
    assert answer["cycle"] > 0
    assert answer["command"]["kernel"] == "gemm"
    assert answer["tile"]["region"] == "c"
    assert main(["replay", path]) == 1
    assert "differs" in capsys.readouterr().out


def test_a_case_that_is_right_again_matches_under_the_same_memory(saved_case, capsys):
    path, monkeypatch = saved_case
    monkeypatch.undo()
    assert load_case(path).timing == {"latency": 7, "bandwidth": 1.0, "stall": 0.1, "seed": 3}
    assert main(["replay", path, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["match"] is True
    assert answer["races"] == []


def test_an_error_stop_saves_a_case_too(monkeypatch, capsys):
    def fails(session, program, args=None):
        raise DeviceError("a made-up error", cause=ErrorCause.BUS_READ, pc=1, addr=2, kernel="gemm")

    monkeypatch.setattr(RtlSession, "run", fails)
    assert main(RUN) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "heddle: a made-up error"
    monkeypatch.undo()
    assert main(["replay", said[1].removeprefix("see: heddle replay ")]) == 0


def test_races_are_named(tmp_path, capsys):
    """A load and a store that nothing orders; since all bytes are zero, the result is right in either order."""
    config = preset_named("systolic-4x4")
    asm = Assembler()
    for unit, addr in (("load", 0), ("store", 4096)):
        for name, value in (("rows", 1), ("row_bytes", 64), ("addr", 0x100), ("dram_addr", addr)):
            asm.set(f"{unit}.{name}", value)
        if unit == "load":
            asm.go(Unit.LOAD)
            asm.fence()                     # from here on the scratchpad holds zeros there
        asm.go(Unit[unit.upper()])
    asm.halt()
    program = Program(name="racing", config_digest=config.digest(), code=asm.words(), code_addr=8192, regions=())
    case = ReplayCase(config=config, program=program, args={}, memory=np.zeros(16384, np.uint8))
    path = str(tmp_path / "racing.case")
    save_case(case, path)
    assert main(["replay", path, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["match"] is True
    (race,) = answer["races"]
    assert race.startswith("RAW at 0x100 of the scratchpad: store 1 ")
    assert main(["replay", path]) == 0
    assert "RAW at 0x100" in " ".join(capsys.readouterr().out.split())
