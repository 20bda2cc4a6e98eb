"""`heddle reproduce`: rows, options, what is printed, and when it fails."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from flows.cli import main
from flows.commands import common
from flows.reproduce import GRADES, PAPERS, Options, Paper, Row, not_asked, rows_of


@pytest.fixture
def paper(monkeypatch):
    """Return a function that makes `heddle reproduce example` give some rows."""
    def make(*rows, options=()):
        monkeypatch.setitem(PAPERS, "example", Paper(doc="an example", source="Nobody, 2026", module="example", options=options))
        monkeypatch.setitem(sys.modules, "example", SimpleNamespace(rows=lambda given: iter(rows)))

    return make


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_has_rows_and_uses_the_options_that_it_says(name):
    assert callable(importlib.import_module(PAPERS[name].module).rows)
    assert PAPERS[name].doc
    assert PAPERS[name].source
    assert set(PAPERS[name].options) <= set(Options.__dataclass_fields__)


@pytest.mark.parametrize(("paper_value", "ours", "target", "tolerance", "holds"), [
    (3, 4, None, 0, True), (3, 3, 3, 0, True), (3, 4, 3, 0, False), (None, 4, 4, 0, True), (2.0, 2.09, 2.0, 0.1, True),
    (2.0, 2.11, 2.0, 0.1, False), ("a", "a", "a", 0, True), ("a", "b", "a", 0, False), (3, None, 3, 0, True),
    (3, "3", 3, 0, False),
])
def test_a_row_holds_if_it_is_what_it_must_be(paper_value, ours, target, tolerance, holds):
    row = Row(quantity="q", paper=paper_value, ours=ours, grade="derived", note="why", target=target, tolerance=tolerance)
    assert row.holds is holds
    answer = row.to_dict()
    assert (answer["quantity"], answer["paper"], answer["ours"], answer["grade"], answer["note"]) == (
        "q", paper_value, ours, "derived", "why")
    assert answer.get("holds", True) is holds
    assert ("target" in answer) is (target is not None)


@pytest.mark.parametrize(("fields", "error", "text"), [
    ({"grade": "sure"}, ValueError, r"Row\.grade must be one of found, secondary, derived, inferred, recalled, not 'sure' \(q\)"),
    ({"grade": "recalled"}, ValueError, r"Row\.paper must be None where the grade is recalled, not 1 \(q\)"),
    ({"grade": "inferred"}, ValueError, r"Row\.paper must be None where the grade is inferred, not 1 \(q\)"),
    ({"ours": None}, ValueError, r"Row\.note must say why there is no figure of ours \(q\)"),
    ({"ours": [1]}, TypeError, r"Row\.ours must be an int, float, str or None, not list \(q\)"),
    ({"paper": True}, TypeError, r"Row\.paper must be an int, float, str or None, not bool \(q\)"),
    ({"target": float("nan")}, ValueError, r"Row\.target must be finite, not nan \(q\)"),
])
def test_rows_that_would_be_misread(fields, error, text):
    with pytest.raises(error, match=f"^{text}$"):
        Row(**{"quantity": "q", "paper": 1, "ours": 1, "grade": "found", **fields})


def test_numbers_of_numpy_are_json():
    row = Row(quantity="q", paper=None, ours=np.float64(2.5), grade="derived", target=np.float64(2.5))
    assert row.holds is True
    assert json.loads(json.dumps(row.to_dict()))["ours"] == 2.5
    with pytest.raises(TypeError, match=r"^Row\.ours must be an int, float, str or None, not int64 \(q\)$"):
        Row(quantity="q", paper=None, ours=np.int64(2), grade="derived")


def test_what_was_not_asked_for():
    row = not_asked("area", 1.5, "found", "--liberty PATH", "takes minutes")
    assert (row.ours, row.note, row.holds) == (None, "not measured: give --liberty PATH; takes minutes", True)
    assert not_asked("area", None, "recalled", "--rtl").note == "not measured: give --rtl"


def test_json_has_the_rows(paper, capsys):
    paper(Row(quantity="cycles", paper=10, ours=10, target=10, grade="found"),
          Row(quantity="area", paper=None, ours=2.5, grade="recalled", note="NAND2"))
    assert main(["reproduce", "example", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["paper"], answer["held"]) == ("example", True)
    assert answer["rows"] == [
        {"quantity": "cycles", "paper": 10, "ours": 10, "grade": "found", "note": "", "target": 10, "tolerance": 0,
         "holds": True},
        {"quantity": "area", "paper": None, "ours": 2.5, "grade": "recalled", "note": "NAND2"}]


def test_a_figure_that_is_not_met_fails(paper, capsys):
    paper(Row(quantity="cycles", paper=10, ours=11, target=10, grade="found"),
          Row(quantity="speed", paper=2.0, ours=1.5, grade="found"))
    assert main(["reproduce", "example"]) == 1
    shown = capsys.readouterr().out
    assert "not met: cycles\n" in shown
    assert "✗" in shown
    assert main(["reproduce", "example", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["held"] is False


def test_people_see_a_table_its_notes_and_what_grades_mean(paper, capsys, monkeypatch):
    monkeypatch.setattr(common.console, "_width", 100)
    paper(Row(quantity="cycles", paper=1_702_140, ours=1_702_140, target=1_702_140, grade="found", note="the same"),
          Row(quantity="speedup", paper=None, ours=1.23456, target=1.2, tolerance=0.1, grade="inferred", note="the same"),
          not_asked("area [NAND2]", 3, "derived", "--liberty PATH"), options=("liberty",))
    assert main(["reproduce", "example"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Nobody, 2026: an example"
    assert "cycles 1,702,140 1,702,140 ✓ found 1" in lines
    assert "speedup – 1.235 1.2 ±0.1 ✓ inferred 1" in lines
    assert "area [NAND2] 3 – derived 2" in lines
    assert "1 the same" in lines
    assert "2 not measured: give --liberty PATH" in lines
    assert [line for line in lines if line.split(":")[0] in GRADES] == [
        f"{grade}: {GRADES[grade]}" for grade in ("found", "derived", "inferred")]


def test_the_list(capsys, monkeypatch):
    monkeypatch.setattr(common.console, "_width", 200)
    assert main(["reproduce", "--list"]) == 0
    shown = capsys.readouterr().out
    assert main(["reproduce", "--list", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == list(PAPERS)
    for name, entry in answer.items():
        assert name in shown
        assert entry == {"doc": PAPERS[name].doc, "source": PAPERS[name].source, "options": list(PAPERS[name].options)}


@pytest.mark.parametrize(("arguments", "text"), [
    ([], "give a PAPER or --list"),
    (["sparseloop", "--list"], "--list must go by itself"),
    (["--list", "--rtl"], "--list must go by itself"),
    (["no-such"], f"PAPER must be one of {', '.join(PAPERS)}, not 'no-such'"),
    (["sparseloop", "--rtl"], "heddle reproduce sparseloop must go without --rtl: its rows use only --data"),
    (["sparseloop", "--data", "no-such"], "--data must be a folder, not 'no-such'"),
    (["example", "--liberty", "generic"], "heddle reproduce example must go without --liberty: its rows use no options"),
])
def test_what_is_impossible(arguments, text, paper, capsys):
    if "example" in arguments:
        paper()
    assert main(["reproduce", *arguments]) == 2
    assert capsys.readouterr().err == f"heddle: {text}\n"


@pytest.mark.parametrize(("option", "text"), [
    ("liberty", "--liberty must be a readable .lib or .lib.gz file, not 'no-such.lib': "),
    ("model", "MODEL must be a folder with config.json, not '.'")])
def test_what_cannot_be_read_is_said_before_any_row(option, text, paper, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    paper(options=("liberty", "model", "rtl"))
    monkeypatch.setattr("flows.commands.reproduce.log.status", lambda *_: pytest.fail("work was begun"))
    given = {"liberty": "no-such.lib", "model": "."}[option]
    assert main(["reproduce", "example", "--rtl", f"--{option}", given]) == 2
    assert capsys.readouterr().err.startswith(f"heddle: {text}")


def test_windows_are_of_a_model(paper):
    paper(options=("model", "windows"))
    with pytest.raises(ValueError, match=r"^--windows must go with --model DIR: they are of text that a model predicts$"):
        rows_of("example", Options(windows=3))


@pytest.mark.parametrize("count", ["0", "-1", "all"])
def test_windows_are_counted(count, capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "sparseloop", "--windows", count])
    assert f"must be a positive integer, not '{count}'" in capsys.readouterr().err
