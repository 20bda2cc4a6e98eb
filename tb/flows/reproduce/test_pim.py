"""`heddle reproduce` of the PIM papers: every row that must hold does, and none is printed twice."""

import json

import pytest

from flows.cli import main
from flows.reproduce import Options, rows_of
from sw.golden.pim.hbm_pim import HbmPim
from sw.pim.hbm_gemv import gemv_speedup

PAPERS = {"duplex": 16, "attacc": 13, "p3llm": 8, "amma": 12, "hbm-pim": 6}       # rows with something to meet


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_that_must_hold_does(paper):
    rows = list(rows_of(paper, Options()))
    assert [row.quantity for row in rows if not row.holds] == []
    assert sum(row.target is not None for row in rows) >= PAPERS[paper]
    assert len({row.quantity for row in rows}) == len(rows)
    assert all(row.ours is not None or row.note.startswith("not measured: give --rtl") for row in rows)


@pytest.mark.parametrize("paper", PAPERS)
def test_figures_that_differ_say_why(paper):
    for row in rows_of(paper, Options()):
        if row.paper is not None and row.target is None and row.ours != row.paper and "least" not in row.quantity:
            assert row.note or row.quantity.startswith("the same"), row.quantity


def test_the_command_prints_them(capsys):
    assert main(["reproduce", "p3llm", "--json"]) == 0
    text = capsys.readouterr().out
    quantities = [row["quantity"] for row in json.loads(text)["rows"]]
    assert "peak rate over HBM-PIM" in quantities


def test_the_rtl_of_hbm_pim_is_measured(monkeypatch):
    monkeypatch.setattr("flows.reproduce.hbm_pim._SIZE", 256)
    row = list(rows_of("hbm-pim", Options(rtl=True)))[-1]
    assert row.quantity.startswith("GEMV 256 × 256 of the RTL")
    assert 1 < row.ours < gemv_speedup(256, 256)           # one pair of tiles: programs and results weigh most
    monkeypatch.setattr("flows.reproduce.hbm_pim.HbmPim", type("Silent", (HbmPim,), {"run": lambda pim, accesses: []}))
    with pytest.raises(RuntimeError, match=r"^the channel must leave what the interpreter leaves, and it does not$"):
        list(rows_of("hbm-pim", Options(rtl=True)))


def test_a_wrong_figure_is_noticed(monkeypatch):
    monkeypatch.setattr("flows.reproduce.p3llm.linear_cycles", lambda *args, **more: 10047)
    assert [row.holds for row in rows_of("p3llm", Options())][:3] == [False, False, False]
