"""`heddle inject`: what it prints, keeps, resumes and refuses, on a small array."""

import json
import os
import re
import sys

import pytest

from flows.cli import main
from flows.fault.records import Outcome

ARRAY = ("inject", "--array", "2x2")

pytestmark = pytest.mark.xdist_group("fault-2x2")


def answer_of(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    told = capsys.readouterr()
    return json.loads(told.out)


def test_json_has_what_others_rely_on(capsys, tmp_path):
    answer = answer_of(capsys, *ARRAY, "--faults", "500", "-o", str(tmp_path / "campaign"))
    assert answer["faults"] == 500
    assert sum(answer["outcomes"].values()) == 500
    assert set(answer["outcomes"]) == {"masked", "corrected", "detected", "sdc", "hang"}
    assert sum(answer["subclasses"]["detected"].values()) == answer["outcomes"]["detected"]
    assert sum(answer["subclasses"]["hang"].values()) == answer["outcomes"]["hang"]
    low, high = answer["ci95"]
    assert 0 < low < answer["sdc_rate"] < high < 1
    assert answer["sdc_ci95_clopper_pearson"][0] < low
    assert answer["faults_per_second"] > 0
    assert sum(unit["bits"] for unit in answer["by_unit"].values()) == answer["population"]["bits"]
    assert sum(unit["faults"] for unit in answer["by_unit"].values()) == 500
    assert set(answer["by_phase"]) == {"load", "compute", "drain"}
    assert answer["masked_by_analysis"] == 0
    page = (tmp_path / "campaign" / "report.html").read_text()
    assert "@@" not in page
    for title in ("Outcomes", "Vulnerability of the state", "Processing elements", "Units over time", "Bit position", "ISO 262"):
        assert title in page
    assert json.loads((tmp_path / "campaign" / "result.json").read_text())["outcomes"] == answer["outcomes"]


def test_exhaustive_and_a_table(capsys, tmp_path):
    exact = answer_of(capsys, *ARRAY, "--exhaustive", "-o", str(tmp_path / "e"))
    assert exact["faults"] == exact["population"]["faults"]
    assert exact["ci95"] == pytest.approx([exact["sdc_rate"]] * 2)
    sampled = answer_of(capsys, *ARRAY, "--ci", "0.03", "--method", "stratified", "-o", str(tmp_path / "s"))
    assert sampled["looks"][-1]["met"]
    assert abs(sampled["sdc_rate"] - exact["sdc_rate"]) < 0.03
    assert main([*ARRAY, "--faults", "200", "-o", str(tmp_path / "t")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"silent corruption +\d+ +\d+\.\d+%", text)
    assert "psum_out" in text
    assert "SPFM" in text
    assert str(tmp_path / "t" / "report.html") in text.replace("\n", "")


def test_one_fault_again(capsys, tmp_path):
    import pyarrow.parquet as parquet

    folder = tmp_path / "campaign"
    answer_of(capsys, *ARRAY, "--faults", "60", "--seed", "5", "-o", str(folder))
    rows = parquet.read_table(folder / "faults").to_pydict()
    assert len(rows["index"]) == 60
    for place in (0, 17, 59):
        again = answer_of(capsys, *ARRAY, "--seed", "5", "--index", str(rows["index"][place]))
        assert again["outcome"] == Outcome(rows["outcome"][place]).name.lower()
        assert (again["fault"]["site"], again["fault"]["mask"], again["fault"]["cycle"]) == tuple(
            rows[name][place] for name in ("site", "mask", "cycle"))
        assert again["first_difference"] == rows["first_difference"][place]
    assert main([*ARRAY, "--seed", "5", "--index", "3"]) == 0
    assert re.match(r"fault 3 \(all\): seu of [\w.]+\[\d+:\d+\], mask 0x[0-9a-f]+, in cycle \d+\s+outcome: ",
                    capsys.readouterr().out)


def test_resumed(capsys, tmp_path):
    folder = str(tmp_path / "campaign")
    answer_of(capsys, *ARRAY, "--faults", "100", "-o", folder)
    assert main([*ARRAY, "--faults", "100", "-o", folder]) == 2
    assert "add --resume to go on with that one" in capsys.readouterr().err
    more = answer_of(capsys, *ARRAY, "--faults", "300", "-o", folder, "--resume")
    assert (more["faults"], more["simulated_now"]) == (300, 200)
    fresh = answer_of(capsys, *ARRAY, "--faults", "300", "-o", str(tmp_path / "fresh"))
    assert fresh["outcomes"] == more["outcomes"]
    assert main([*ARRAY, "--faults", "10", "--seed", "1", "-o", folder, "--resume"]) == 2
    assert re.match(r"heddle: --resume must go on with the campaign in '.*', but its target has changed from .* to .*: start "
                    r"another one in another folder\n", capsys.readouterr().err)


def test_interrupted(capsys, tmp_path, monkeypatch):
    from flows.fault.engines.lanes.lanes_engine import LanesEngine

    folder = tmp_path / "campaign"
    run, calls = LanesEngine.run, []

    def interrupted(self, faults, **more):
        calls.append(len(faults))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return run(self, faults, **more)

    monkeypatch.setattr(LanesEngine, "batch", 200, raising=False)
    monkeypatch.setattr(LanesEngine, "run", interrupted)
    assert main([*ARRAY, "--faults", "1000", "-o", str(folder)]) == 130
    told = capsys.readouterr().err
    assert "the same command goes on with --resume" in " ".join(told.split())
    assert told.endswith("heddle: interrupted\n")
    monkeypatch.setattr(LanesEngine, "run", run)
    answer = answer_of(capsys, *ARRAY, "--faults", "1000", "-o", str(folder), "--resume")
    assert (answer["faults"], answer["simulated_now"]) == (1000, 800)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--sites", "mesh.row_0.pe_0.psum_outt"), r"sites must match something: .* near: .*psum_out"),
    (("--sites", "mesh*", "--cells", "memory"), r"--sites must match memory cells, and 'mesh\*' matches none of these"),
    (("--cells", "ff,flop"), r"--cells must be some of ff, memory, gate, bus, not 'flop'"),
    (("--kind", "set", "--cells", "gate,ff"), r"--cells must be gate with --kind set, not 'ff'"),
    (("--cells", "bus"), r"--cells must be ff or memory with --kind seu, not 'bus'"),
    (("--kind", "flip"), r"--kind must be one of seu, mbu, set, stuck0, stuck1, intermittent, bus, not 'flip'"),
    (("--kind", "bus"), r"--sites must match bus cells"),
    (("--faults", "0"), r"--faults must be at least 1, not 0"),
    (("--ci", "0.9"), r"--ci must be between 0 and 0\.5, not 0\.9"),
    (("--workers", "0"), r"--workers must be between 1 and \d+ on this machine, 4 a processor, not 0"),
    (("--workers", "99999"), r"--workers must be between 1 and \d+ on this machine, 4 a processor, not 99999"),
    (("--fit", "0"), r"FIT per Mbit of logic must be a positive number, not 0\.0"),
    (("--boost", "a"), r"--boost must be GLOB=FACTOR"),
    (("--boost", "a=2"), r"boosts need the method importance, not 'uniform'"),
    (("--index", "99999999"), r"index must be one of this plan, below \d+, not 99999999"),
    (("--seed", "-1"), r"seed must be between 0 and 2\^64 - 1, not -1"),
    (("--resume",), r"--resume needs a folder with a campaign, not '.*'"),
    (("--set", "rows=2"), r"--array stands alone: it has no PRESET, --config or --set"),
    (("--exhaustive", "--method", "stratified"), r"--method cannot go with --exhaustive, which draws everything, not stratified"),
    (("--index", "1", "--resume"), r"--resume cannot go with --index, which keeps nothing"),
    (("--layer", "1"), r"--layer cannot go with --array"),
    (("--dataflow", "ws"), r"--dataflow cannot go with --array"),
    (("--tokens", "3"), r"--tokens needs --model"),
    (("--prompt", "a"), r"--prompt needs --model"),
    (("--range-margin", "1"), r"--range-margin needs --model"),
])
def test_what_cannot_be(arguments, said, capsys, tmp_path):
    assert main([*ARRAY, *arguments, "-o", str(tmp_path / "campaign")]) == 2
    told = capsys.readouterr()
    assert re.match(f"heddle: {said}", told.err)
    assert told.out == ""
    assert not (tmp_path / "campaign" / "campaign.json").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    (("--array", "2"), "--array must be RxC, two whole numbers, not '2'"),
    (("--array", "0x2"), "rows of an array must be between 1 and 256, not 0"),
    (("systolic-4x4", "--array", "2x2"), "--array stands alone: it has no PRESET, --config or --set"),
    (("systolic-4x4", "--gemm", "4,4"), "--gemm must be M,N,K, three whole numbers, not '4,4'"),
    (("systolic-4x4", "--workload", "none"), "workload must be one of"),
    (("systolic-4x4", "--gemm", "4,4,4", "--layer", "0"), "--layer needs --workload"),
    (("systolic-4x4", "--gemm", "4,4,4", "--effects", "9"), "--effects needs --model"),
])
def test_work_that_there_is_not(arguments, said, capsys):
    assert main(["inject", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_kinds_that_stay(capsys, tmp_path):
    stuck = (*ARRAY, "--kind", "stuck1", "--faults", "300")
    answer = answer_of(capsys, *stuck, "-o", str(tmp_path / "c"))
    iso = answer["iso26262"]
    unknown = ("fit_per_mbit", "fit", "pmhf_fit", "asil", "mttf_hours")
    assert [iso[name] for name in unknown] == [None] * len(unknown)         # nobody said how often such faults happen
    assert iso["sweep"] == []
    assert 0 < iso["spfm_low"] < iso["spfm"] < 1
    assert "no failure rates" in (tmp_path / "c" / "report.html").read_text()
    rated = answer_of(capsys, *stuck, "--fit", "3", "-o", str(tmp_path / "r"))["iso26262"]
    assert rated["spfm"] == pytest.approx(iso["spfm"])
    assert rated["residual_fit"] == pytest.approx(rated["fit"] * (1 - rated["spfm"]))
    assert rated["asil"] is None or rated["spfm"] >= 0.9
    assert main([*stuck, "-o", str(tmp_path / "t")]) == 0
    assert "no failure rates: --fit says how often a stuck1 happens" in " ".join(capsys.readouterr().out.split())
    assert main([*stuck, "--memory-fit", "3", "-o", str(tmp_path / "m")]) == 2
    assert capsys.readouterr().err == "heddle: --memory-fit needs --fit with --kind stuck1\n"
    assert answer["plan"]["kind"] == "stuck1"
    assert answer["iso26262"]["lfm"] is None            # no safety mechanism
    assert answer["by_unit"]["row_0"]["avf"]["sdc"] > 0.3


def test_another_engine_finds_the_same(capsys, tmp_path):
    by_engine = [answer_of(capsys, *ARRAY, "--faults", "300", "--engine", engine, "-o", str(tmp_path / engine))
                 for engine in ("lanes", "verilator")]
    assert by_engine[0]["outcomes"] == by_engine[1]["outcomes"]
    assert [answer["engine"] for answer in by_engine] == ["lanes", "verilator"]


@pytest.mark.parametrize(("arguments", "said"), [
    (("--mechanisms", "parity,ecc"), "--mechanisms must be some of parity, dmr, tmr, not 'ecc'"),
    (("--faults", "0"), "--faults must be at least 1, not 0"),
    (("--workers", "0"), f"--workers must be between 1 and {4 * os.cpu_count()} on this machine, 4 a processor, not 0"),
    (("--spfm", "1.5"), "--spfm must be at least 0 and less than 1, not 1.5"),
    (("--slack", "1"), "--slack must be at least 0 and less than 1, not 1.0"),
    (("--fit", "-3"), "FIT per Mbit of logic must be a positive number, not -3.0"),
])
def test_hardening_that_cannot_be(arguments, said, capsys, tmp_path):
    assert main(["harden", "systolic-4x4", "--gemm", "4,4,4", "-o", str(tmp_path / "h"), *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {said}\n"
    assert not (tmp_path / "h").exists()


def test_a_config_that_is_protected_already(capsys, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"protection": [["scratchpad", "secded"]]}))
    assert main(["harden", "--config", str(config), "--gemm", "4,4,4"]) == 2
    assert capsys.readouterr().err == "heddle: harden needs a config without protection, not one with 1 rules of it\n"


@pytest.mark.parametrize(("module", "name"), [("scipy.special", "scipy"), ("pyarrow.parquet", "pyarrow")])
@pytest.mark.parametrize("command", [ARRAY, ("harden", "systolic-4x4", "--gemm", "4,4,4")])
def test_a_library_that_is_missing_is_noticed_before_anything_is_built(module, name, command, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("flows.commands.inject.open_job", None)
    monkeypatch.setattr("flows.commands.harden.open_job", None)
    assert main([*command]) == 1
    assert re.match(rf"heddle: {name} not found \(.*\): install it with pip install 'heddle\[fault\]'\n", capsys.readouterr().err)
