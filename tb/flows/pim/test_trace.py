"""`heddle trace` and `heddle run --waves` on PIMs: every command is seen, times agree with the counters, pages and waves open."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flows.cli import main
from flows.pim.sim import PimSession, PimSim
from flows.pim.trace import EVENT, events_of
from flows.view.pim_timeline import pim_timeline
from hw.pim.presets import PIM_PRESETS
from sw.pim.assembler import assemble

TINY = PIM_PRESETS["pim-tiny"]
REQUEST = ["pim-tiny", "--gemm", "3,48,128"]
SMALL = {"streams": 1, "wtype": "int8", "kvtype": "int8", "xtype": "float8_e4m3fn", "ptype": "float8_e4m3fn", "acc": "int32",
         "rows_x": 1, "n_acc_slots": 2}          # whose model is built soon


# On the RTL ----------------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("pim-traced")
def test_a_gemm_in_every_cycle(capsys, tmp_path):
    assert main(["trace", *REQUEST, "--channels", "2", "-o", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["match"] is True
    assert [run["name"] for run in answer["runs"]] == ["channel 0", "channel 1"]
    assert answer["cycles"] == max(run["cycles"] for run in answer["runs"])
    assert set(answer["runs"][0]["units"]) == {"I/O", "compute"}
    for unit in answer["runs"][0]["units"].values():
        assert unit["commands"] > 0
        assert unit["busy"] + unit["wait"] + unit["idle"] == pytest.approx(1)
    # Products are counted by the hardware too, in both channels.
    assert sum(run["units"]["compute"]["active_cycles"] for run in answer["runs"]) == answer["counters"]["active"]
    assert sum(run["units"]["I/O"]["active_cycles"] for run in answer["runs"]) == (
        answer["counters"]["host_words_in"] + answer["counters"]["host_words_out"])
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    lanes = {event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    assert {"I/O queue", "compute queue", "no product for", "bursts", "refresh", "set 0"} <= lanes
    bursts = [event for event in trace if event.get("cat") == "bursts" and event["pid"] == 1]
    assert sum(event["dur"] for event in bursts) >= 48 // 2 * 128 // TINY.burst_weights * TINY.pim_per_burst
    page = (tmp_path / "trace.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [entry[0] for entry in data["legend"]][:2] == ["fetch", "matrix"]
    assert data["runs"][0]["lanes"]["set 0"][0][2].startswith("row ")
    assert data["runs"][0]["units"]["compute"]["commands"][0][0].startswith("MAC TREE set 0 row ")
    assert main(["trace", *REQUEST]) == 0
    out = capsys.readouterr().out
    for text in ("channel 0", "busy", "without them for:", "the first command waits for a shared entry"):
        assert text in out


@pytest.mark.xdist_group("pim-waves")
def test_waves_of_the_first_channel(capsys, tmp_path):
    file = tmp_path / "run.vcd"
    changes = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    assert main(["run", "pim-tiny", *changes, "--gemm", "1,4,64", "--waves", str(file)]) == 0
    assert "waves of channel 0" in capsys.readouterr().out
    text = file.read_text()
    names = set(re.findall(r"\$var \w+ +\d+ \S+ (\S+)", text))
    assert {"dram__row_valid", "dram__col_valid", "host_in__valid", "busy"} <= names
    assert "$scope module core $end" in text
    view = (tmp_path / "run.gtkw").read_text()
    for signal in ("simulated.core.scoreboard.o_io__valid", "simulated.core.dram__row_op", "simulated.core.clk"):
        assert signal in view
    with PimSim(dataclasses.replace(TINY, **SMALL), waves=".vcd").open() as session:
        for name, rule in (("x.fst", "a file .vcd"), (str(tmp_path / "none" / "x.vcd"), "a file that can be written")):
            with pytest.raises(ValueError, match=rf"^waves must be {rule}, not '{name}'$"):
                session.record_waves(Path(name))


def test_waves_need_a_simulator_that_is_built_for_them():
    session = SimpleNamespace(sim=SimpleNamespace(waves=None))
    with pytest.raises(ValueError, match=r"^waves must be a file of a simulator with waves, not 'x.vcd'$"):
        PimSession.record_waves(session, Path("x.vcd"))
    with pytest.raises(ValueError, match=r"^the suffix of a wave file must be one of .vcd, .fst, not '.png'$"):
        PimSim(TINY, waves=".png")


# Without it ----------------------------------------------------------------------------------------------------------

LIST = assemble("setm k_beats, 2\nwrx cnt=3\nmac grp=1 row=3 cnt=1 clr last\nrdacc\neoc")


def event_list(*rows):
    return np.array([(cycle, kind, detail, value) for cycle, kind, detail, value in rows], EVENT)


EVENTS = event_list(
    (0, 6, 0, 0b10), (5, 0, 0, 0), (6, 6, 0, 0b0100010), (6, 2, 0, 0), (7, 6, 0, 0b10000010), (8, 1, 0, 0), (9, 0, 0, 0),
    (11, 6, 0, 0b10010), (12, 4, 0, 0), (13, 6, 0, 0b1000010), (13, 3, 0, 0), (14, 7, 1 | 2 << 4, 3), (14, 8, 0, 2),
    (20, 9, 6 | 2 << 4, 0), (22, 9, 6 | 2 << 4, 1), (24, 6, 0, 1), (28, 6, 0, 0b10000), (30, 7, 2 | 2 << 4, 0), (30, 8, 0, 2),
    (40, 5, 0, 0), (41, 6, 0, 0b100000), (41, 2, 0, 0), (42, 6, 0, 0b100000000), (43, 6, 0, 0), (44, 4, 0, 0),
    (45, 7, 3, 0), (45, 8, 0, 32))


def test_events_become_queues_rows_and_bursts():
    timeline = pim_timeline(TINY, LIST, EVENTS, 60, "by hand")
    io, compute = timeline.units["I/O"], timeline.units["compute"]
    assert [(c.what, c.queued, c.taken, c.done) for c in io.commands] == [
        ("WRX 4 slices → 0", 5, 6, 12), ("RDACC 1 entries from 0", 9, 41, 44)]
    assert [(c.pc, c.queued, c.taken, c.done) for c in compute.commands] == [(2, 8, 13, 40)]
    # RDACC is first in its queue from cycle 10 on, and may leave in 41, when the MAC is done.
    assert [(w.first, w.end, w.why) for w in io.waits] == [(10, 41, "compute 0: MAC TREE set 1 row 3, 2 bursts → 0")]
    assert [(w.first, w.end) for w in compute.waits] == [(9, 13)]
    wait = timeline.longest_waits(1)[0]
    assert (wait.unit, wait.cycles, wait.cause) == ("I/O", 31, "compute 0: MAC TREE set 1 row 3, 2 bursts → 0")
    assert compute.active == [(24, 28)]
    assert io.active == [(7, 11), (42, 43)]
    assert [(s.first, s.end, s.state) for s in timeline.lanes["set 1"]] == [(14, 31, "row 3")]
    assert [(s.first, s.end, s.state) for s in timeline.lanes["bursts"]] == [(20, 24, "read set 1")]
    assert [(s.first, s.state) for s in timeline.lanes["refresh"]] == [(45, "REF")]
    assert [(s.first, s.end, s.state) for s in timeline.lanes["no product for"]] == [(0, 24, "row"), (28, 41, "hazard")]
    assert io.depth[-1] == (44, 0)


def test_events_of_another_list_are_refused():
    more = np.concatenate([EVENTS, event_list((50, 1, 0, 0))])
    with pytest.raises(ValueError, match=r"^events must be of the 1 compute commands of the list, not of 2$"):
        pim_timeline(TINY, LIST, more, 60, "more")
    assert events_of(EVENTS).dram[0].place == 3


@pytest.mark.parametrize(("arguments", "text"), [
    (["trace", *REQUEST, "--memory-latency", "3"], "--memory-latency is for arrays; a PIM takes --gemm M,N,K"),
    (["trace", "pim-tiny", "--workload", "minilm-layer"], "--workload is for arrays; a PIM takes --gemm M,N,K"),
    (["trace", *REQUEST, "--channels", "3"], "LinearPlan.channels must be between 1 and 2, the pseudo-channels, not 3"),
    (["trace", "systolic-4x4", "--gemm", "4,4,4", "--channels", "2"], "--channels is for a PIM; an array has none"),
    (["run", *REQUEST, "--waves", "x.txt"], "--waves must be a file .vcd or .fst, not 'x.txt'"),
    (["run", *REQUEST, "--waves", "x.fst", "--device", "golden"], ("--waves needs --device rtl: the golden device has no "
                                                                   "signals")),
    (["run", *REQUEST, "--waves", "none/x.fst"], "--waves must lie in a folder that exists, not 'none/x.fst'"),
])
def test_traces_and_waves_that_are_refused(capsys, arguments, text):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"
