"""Pages of campaigns and hardenings, on the design whose outcomes are known: every part is there and says what was found."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np

from flows.commands.inject_tables import show_safety
from flows.fault.campaign.campaign import Campaign
from flows.fault.campaign.plan import Plan
from flows.fault.figures.iso26262 import SWEEP, Rates
from flows.fault.reports.campaign_report import campaign_page
from flows.fault.reports.harden_report import harden_page
from flows.fault.reports.summary import describe_fault, latency, summary
from tb.flows.fault.toy import parts

VOID = {"meta", "br", "path", "rect", "circle"}


class Balanced(HTMLParser):
    """Checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def campaign(plan=None, faults=600):
    made = parts(plan or Plan(seed=1), phases=(np.arange(40) >= 10).astype(np.int64))
    run = Campaign(**made)
    results = run.exhaust() if run.sampler.plan.method == "exhaustive" else run.sample(faults)
    job = SimpleNamespace(**made, sites=made["engine"].sites, target=SimpleNamespace(name="toy"), identity={"target": "t"})
    return job, results, summary(job, run, results, Rates())


def test_figures_fit_a_narrow_terminal(capsys):
    show_safety(campaign()[2])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["FIT/Mbit", "raw", "flip-flops", "memories", "all,", "95", "%", "ASIL"] in rows
    assert [row[0] for row in rows if row and row[0].isdecimal()] == [str(fit) for fit in SWEEP]


def test_what_no_fault_has_hit_is_assumed_to_be_dangerous_and_said(capsys):
    job, results, answer = campaign(faults=2)
    unknown = answer["iso26262"]["not_simulated"]
    assert len(unknown) >= 2
    assert answer["iso26262"]["spfm"] < 1
    show_safety(answer)
    assert f"no fault has hit {'; '.join(unknown)}: all" in " ".join(capsys.readouterr().out.split())
    assert f"No fault has hit {'; '.join(unknown)}: the worst is assumed." in campaign_page(job, results, answer, title="few")
    assert campaign()[2]["iso26262"]["not_simulated"] == []


def test_a_page_has_what_was_found():
    job, results, answer = campaign()
    page = campaign_page(job, results, answer, title="toy <1>")
    checked = Balanced()
    checked.feed(page)
    assert not checked.open
    assert "<h1>toy &lt;1&gt;</h1>" in page
    assert "@@" not in page
    for text in ("Outcomes", "What becomes of upsets, by unit", "Vulnerability of the state", "Units over time", "Bit position",
                 "Phases", "Register groups and memories", "ISO 26262", "dut.pipe.stage_*", "SPFM of memories"):
        assert text in page, text
    assert f"{answer['outcomes']['sdc']:,}</td>" in page
    assert "[exact, 97.5 %]" in page
    assert "Processing elements" not in page                    # it has none
    shown = set(re.findall(r"<title>(\w+), \d+: ", page))
    assert shown == {"pipe", "control", "voter", "bank"}         # rows of the map of time


def test_figures_of_a_campaign_fit_together():
    _, results, answer = campaign(Plan(method="exhaustive"))
    assert answer["sdc_rate_simulated"] == answer["outcomes"]["sdc"] / answer["faults"]
    assert abs(answer["sdc_rate"] * answer["population"]["faults"] - answer["outcomes"]["sdc"]) < 1e-6
    iso = answer["iso26262"]
    assert abs(iso["residual_fit"] - iso["logic"]["residual_fit"] - iso["memory"]["residual_fit"]) < 1e-9
    dangerous = answer["outcomes"]["sdc"] + answer["outcomes"]["hang"]
    assert abs(iso["spfm"] - (1 - dangerous / answer["population"]["faults"])) < 1e-9
    assert iso["lfm"] is None
    assert latency(results) == answer["detection_latency"] == {"p50": 1, "p99": 1, "max": 1}


def test_one_fault_is_described():
    job, results, _ = campaign()
    row = results.rows[7]
    told = describe_fault(job, int(row["index"]))
    assert told["fault"]["cycle"] == row["cycle"]
    assert told["fault"]["mask"] == row["mask"]
    assert re.fullmatch(r"dut\.[\w.]+(\[\d+\])?\[\d+:\d+\]", told["fault"]["name"])
    assert not told["masked_by_analysis"]
    dead = next(i for i in range(2000) if describe_fault(job, i)["masked_by_analysis"])
    assert describe_fault(job, dead)["outcome"] == "masked"


def test_a_page_of_a_hardening():
    _, _, side = campaign()
    side = {**side, **{part: side["iso26262"][part] for part in ("logic", "memory")}}
    groups = [{"group": f"g<{i}>", "mechanism": "parity" if i else "none", "bits": 4, "area": 10.0 * i, "fit": 1.0, "left": 0.1}
              for i in range(40)]
    answer = {"areas": {name: {"area": 100.0 + i, "memory_area": 5.0, "flip_flops": 9} for i, name in
                        enumerate(("before", "memories", "after"))}, "groups": groups, "spfm": 0.995, "spfm_low": 0.99,
              "spfm_of_original_bits": 0.993, "target_spfm": 0.99, "target_met": True, "agrees": True, "measured_overhead": 0.12,
              "predicted_overhead": 0.1, "predicted_area": 10.0, "predicted_fit": 0.1, "predicted_fit_ci95": [0.05, 0.2],
              "measured_fit": 0.12, "measured_fit_ci95": [0.1, 0.15], "curve": [{"area": 0.0, "fit": 1.0}, {"area": 9.0,
                                                                                                            "fit": 0.1}],
              "greedy": [{"group": "g", "mechanism": "tmr",
                          "fit_per_area": 1e-3}], "before": side, "base": side, "after": side, "mesh": "abft"}
    page = harden_page(answer, title="t")
    checked = Balanced()
    checked.feed(page)
    assert not checked.open
    for text in ("99.500%", "+12.0%", "g&lt;1&gt;", "9 more in result.json", "Pareto curve", "injected again", "SPFM 99.0%",
                 "memories, array (abft)"):
        assert text in page, text
    assert "area added, NAND2" in harden_page({**answer, "areas": {}}, title="t")
    assert "Nothing: the target holds without." in harden_page({**answer, "groups": groups[:1]}, title="t")
