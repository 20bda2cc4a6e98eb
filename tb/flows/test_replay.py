"""A run that goes wrong leaves a case, and `heddle replay` names what was wrong first."""

import json
import re

import pytest

from flows.cli import main
from flows.rtl_device import RtlSession
from hw.isa import ErrorCause
from sw.device import DeviceError
from sw.replay import load_case

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
    assert json.loads(capsys.readouterr().out)["match"] is True


def test_an_error_stop_saves_a_case_too(monkeypatch, capsys):
    def fails(session, program, args=None):
        raise DeviceError("a made-up error", cause=ErrorCause.BUS_READ, pc=1, addr=2, kernel="gemm")

    monkeypatch.setattr(RtlSession, "run", fails)
    assert main(RUN) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "heddle: a made-up error"
    monkeypatch.undo()
    assert main(["replay", said[1].removeprefix("see: heddle replay ")]) == 0
