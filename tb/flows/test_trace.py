"""`heddle trace`: its files and tables; the plots; the view of waves."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from flows.cli import main
from flows.emit import emit
from flows.toolchain import ToolError
from flows.view.roofline import Point, roofline, utilization_bars
from flows.view.svg import COLORS, Svg
from flows.view.waves import GROUPS, signals_of
from hw.presets import PRESETS

pytestmark = pytest.mark.xdist_group("traced-4x4")

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The folder that a traced GEMM gave, and the JSON answer."""
    folder = tmp_path_factory.mktemp("trace")
    with pytest.MonkeyPatch.context() as patch:
        answers = []
        patch.setattr("flows.commands.trace.print_json", answers.append)
        assert main(["trace", "systolic-4x4", "--gemm", "16,16,16", "-o", str(folder), "--json"]) == 0
    return folder, answers[0]


def test_the_answer_has_the_tables(traced):
    folder, answer = traced
    assert json.loads(json.dumps(answer)) == answer
    assert answer["match"] is True
    assert answer["files"] == [str(folder / "trace.html"), str(folder / "trace.json")]
    (run,) = answer["runs"]
    assert run["cycles"] == answer["cycles"]
    for name in ("load", "matrix", "vector", "store"):
        row = run["units"][name]
        assert row["busy_cycles"] == answer["counters"][f"{name}_busy"]
        assert row["wait_cycles"] == answer["counters"][f"{name}_wait"]
        assert 0 <= row["first"] < row["last"] < run["cycles"]
    assert {"unit", "command", "first", "cycles", "semaphores", "signalled_by"} == set(run["longest_waits"][0])


def test_the_perfetto_trace_follows_the_chrome_format(traced):
    folder, answer = traced
    trace = json.loads((folder / "trace.json").read_text())
    events = trace["traceEvents"]
    for event in events:
        assert {"ph", "pid", "name"} <= set(event)
        if event["ph"] == "X":
            assert {"tid", "ts", "dur", "cat", "args"} <= set(event)
            assert event["dur"] > 0
            assert 0 <= event["ts"] <= event["ts"] + event["dur"] <= answer["cycles"]
        elif event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
        else:
            assert event["ph"] == "M"
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert set(names.values()) == {"sequencer", "fetch"} | {f"{unit}{queue}" for unit in ("load", "matrix", "vector", "store")
                                                            for queue in ("", " queue")}
    for tid, name in names.items():
        slices = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == tid)
        assert slices
        assert all(before[1] <= after[0] for before, after in pairwise(slices)), name
        if f"{name}_busy" in answer["counters"]:
            assert sum(end - first for first, end in slices) == answer["counters"][f"{name}_busy"]


def test_the_page_stands_alone_and_holds_the_run(traced):
    folder, answer = traced
    page = (folder / "trace.html").read_text()
    assert "@@" not in page
    assert re.findall(r'(?:src|href)="(?!#)', page) == []
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    (run,) = data["runs"]
    assert run["cycles"] == answer["cycles"]
    for name, unit in run["units"].items():
        assert sum(end - first for first, end, _ in unit["busy"]) == answer["counters"][f"{name}_busy"]
    assert sum(run["units"]["matrix"]["activity"][1::2]) == answer["counters"]["matrix_active"]
    drawings = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        ET.fromstring(drawing)


def test_the_same_run_gives_the_same_files(traced, tmp_path):
    folder, _ = traced
    assert main(["trace", "systolic-4x4", "--gemm", "16,16,16", "-o", str(tmp_path / "new" / "folder")]) == 0
    for name in ("trace.html", "trace.json"):
        assert (tmp_path / "new" / "folder" / name).read_bytes() == (folder / name).read_bytes()


def test_tables_fit_80_columns(capsys):
    assert main(["trace", "systolic-4x4", "--gemm", "8,8,8", "--stall", "0.3"]) == 0
    out = capsys.readouterr().out
    assert "longest waits" in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("arguments", "text"), [
    (["systolic-9x9", "--gemm", "8,8,8"], r"preset must be one of systolic-4x4, .*, not 'systolic-9x9'"),
    (["systolic-4x4", "--gemm", "8,8"], r"--gemm must be M,N,K, three whole numbers, not '8,8'"),
    (["systolic-4x4", "--gemm", "8,8,8", "-o", "/dev/null/x"], r"-o must be a folder that can be written, not '/dev/null/x': .*"),
])
def test_bad_input_is_refused_before_anything_is_built(capsys, monkeypatch, arguments, text):
    monkeypatch.setattr("flows.rtl_device.build_native", None)
    assert main(["trace", *arguments]) == 2
    assert re.fullmatch(rf"heddle: {text}\n", capsys.readouterr().err)


def test_plots_of_a_run_are_written(tmp_path, capsys):
    assert main(["run", "systolic-4x4", "--gemm", "16,16,16", "--plots", str(tmp_path / "plots"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["plots"] == [str(tmp_path / "plots" / name) for name in ("roofline.svg", "utilization.svg")]
    roof, bars = (ET.parse(file).getroot() for file in answer["plots"])
    tips = [title.text for title in roof.iter(f"{SVG}title")]
    assert f"gemm: {answer['macs'] / answer['cycles']:.4g} MACs/cycle, {answer['macs'] / answer['bytes_read']:.4g} MACs/B" in tips
    assert f"{answer['utilization']:.1%}" in [text.text for text in bars.iter(f"{SVG}text")]


def test_plots_need_the_rtl(capsys, tmp_path):
    assert main(["run", "systolic-4x4", "--gemm", "8,8,8", "--device", "golden", "--plots", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "heddle: --plots needs --device rtl: the golden device has no time\n"


def test_no_point_lies_above_the_roof():
    """A GEMM at the peak lies on the flat part, one at the bus's bandwidth on the slope."""
    points = [Point(name="bound by the array", macs=16_000, cycles=1000, bytes=2000),
              Point(name="bound by the bus", macs=2000, cycles=1000, bytes=8000)]
    root = ET.fromstring(roofline(points, peak=16, bandwidth=8).to_text())
    roof = next(path.get("d") for path in root.iter(f"{SVG}path") if "stroke-width:2" in path.get("style", ""))
    start, corner, end = (tuple(map(float, place.split())) for place in roof[1:].split("L"))
    first, second = ((float(dot.get("cx")), float(dot.get("cy"))) for dot in root.iter(f"{SVG}circle"))
    assert first[1] == pytest.approx(corner[1], abs=0.05)
    assert corner[0] - 0.05 <= first[0] <= end[0]
    slope = (corner[1] - start[1]) / (corner[0] - start[0])
    assert second[1] == pytest.approx(start[1] + slope * (second[0] - start[0]), abs=0.1)


def test_bars_are_as_long_as_their_shares():
    root = ET.fromstring(utilization_bars([("a", [("load", 0.5), ("wait", 0.25)])], title="t").to_text())
    ground, whole, busy, wait = (float(rect.get("width").rstrip("%")) for rect in root.iter(f"{SVG}rect"))
    assert ground == 100
    assert (busy / whole, wait / whole) == (0.5, 0.25)


def test_text_in_a_drawing_is_escaped():
    svg = Svg(10, 10, "a < b")
    svg.text(0, 0, "<&>")
    assert [text.text for text in ET.fromstring(svg.to_text()).iter(f"{SVG}text")] == ["<&>"]


def test_text_is_legible_on_both_grounds():
    """WCAG contrast of the colours in which text is written: at least 4.5 : 1."""
    def luminance(color):
        parts = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in ("ink", "muted", "load", "matrix", "vector", "store", "fetch", "memory"):
        for i in range(2):
            dark, light = sorted((luminance(COLORS[name][i]), luminance(COLORS["panel"][i])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, i)


def test_waves_come_with_a_view_whose_signals_are_all_there(tmp_path):
    waves = tmp_path / "gemm.vcd"
    assert main(["run", "systolic-4x4", "--gemm", "4,4,4", "--waves", str(waves)]) == 0
    known, scopes = set(), []
    with waves.open() as file:
        for line in file:
            words = line.split()
            if words[:1] == ["$scope"]:
                scopes.append(words[2])
            elif words[:1] == ["$upscope"]:
                scopes.pop()
            elif words[:1] == ["$var"]:
                known.add(".".join([*scopes, "".join(words[4:-1])]))
            elif words[:1] == ["$enddefinitions"]:
                break
    view = (tmp_path / "gemm.gtkw").read_text().splitlines()
    assert '[dumpfile] "gemm.vcd"' in view
    named = [line for line in view if line.startswith("heddle.")]
    assert len(named) == sum(map(len, GROUPS.values()))
    assert [name for name in named if name not in known] == []
    assert [line[1:] for line in view if line.startswith("-")] == [group for group in GROUPS for _ in range(2)]


def test_a_design_without_the_signals_has_no_view(monkeypatch):
    emission = emit(PRESETS["systolic-4x4"])
    monkeypatch.setitem(GROUPS, "odd", ("controller.flux",))
    with pytest.raises(ToolError, match=r"^the design has no signal 'controller.flux', which the view of waves shows$"):
        signals_of(emission.verilog, emission.manifest)
    monkeypatch.setitem(GROUPS, "odd", ("capacitor.flux",))
    with pytest.raises(ToolError, match=r"^the design has no block 'capacitor', which the view of waves shows$"):
        signals_of(emission.verilog, emission.manifest)
