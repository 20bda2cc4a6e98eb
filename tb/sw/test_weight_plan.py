"""Plans of weights: what users write, runs of equal layers, and what is refused."""

import pytest

from sw.kernels.transformer.weight_plan import LinearFormats, WeightPlan, WeightPlanError

SAME = LinearFormats("a", "a", "a", "a")


def test_one_format():
    plan = WeightPlan.read("a", 3, head="h")
    assert plan == WeightPlan.uniform(3, "a", "h") == WeightPlan((SAME,) * 3, "h")
    assert (plan.runs, plan.formats, plan.name) == ([(3, SAME)], ("a",), "a")


def test_formats_of_linears():
    plan = WeightPlan.read("down=b,qkv=c", 2, default="a")
    assert plan.layers == (LinearFormats("c", "a", "a", "b"),) * 2
    assert (plan.formats, plan.name) == (("c", "a", "b"), "3 formats")


def test_files_and_runs(tmp_path):
    other = SAME._replace(down="b")
    plan = WeightPlan((SAME, other, other, SAME), "h")
    assert plan.runs == [(1, SAME), (2, other), (1, SAME)]
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert WeightPlan.read(str(path), 4) == plan
    assert WeightPlan.read(str(path), 4, head="x").head == "x"
    path.write_text('{"layers": [{}, {"down": "b"}]}')
    assert WeightPlan.read(str(path), 2, default="a", head="x") == WeightPlan((SAME, other), "x")


@pytest.mark.parametrize(("text", "said"), [
    ("none.json", r"a plan of weights must be a file, not 'none\.json'"),
    ("down=b,up=c", r"formats of linears must be for qkv, output, gate_up, down, not 'up'"),
    ("down=b,down=c", r"formats of linears must be given once each, not twice for 'down'"),
    ("qkv=a,down=", r"formats of linears must be LINEAR=FORMAT,…, not 'down='"),
    ("qkv=a,", r"formats of linears must be LINEAR=FORMAT,…, not ''"),
])
def test_what_is_no_plan(text, said):
    with pytest.raises(WeightPlanError, match=f"^{said}$"):
        WeightPlan.read(text, 2)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(b"{\xff}")
    with pytest.raises(WeightPlanError,
                       match=r"^a plan of weights must be UTF-8 text, not '.*plan\.json': invalid start byte at 1$"):
        WeightPlan.read(str(path), 2)


@pytest.mark.parametrize(("text", "said"), [
    ("{", r"a plan of weights must be JSON: .*"),
    ("[" * 100_000, r"a plan of weights must be JSON: maximum recursion depth .*"),
    ("[]", r'a plan of weights must be \{"layers": \[\{linear: format, …\}, …\], "head": format\}, not \[\]'),
    ('{"layers": [], "x": 1}', r"a plan of weights must be .*"),
    ('{"layers": [{}]}', r"a plan of weights must have the model's 2 layers, not 1"),
    ('{"layers": [{}, 5]}', r"layers\[1\] of a plan of weights must be \{linear: format, …\}, not 5"),
    ('{"layers": [{}, {"down": 5}]}', r"layers\[1\] of a plan of weights must be \{linear: format, …\}, not \{'down': 5\}"),
    ('{"layers": [{}, {"up": "a"}]}', r"layers\[1\] of a plan of weights must be for qkv, output, gate_up, down, not 'up'"),
    ('{"layers": [{}, {}], "head": 1}', r"head of a plan of weights must be the name of a format, not 1"),
])
def test_files_that_are_no_plan(text, said):
    with pytest.raises(WeightPlanError, match=f"^{said}$"):
        WeightPlan.from_json(text, 2)


def test_a_plan_has_layers():
    with pytest.raises(WeightPlanError, match=r"^a plan of weights must have at least one layer, not none$"):
        WeightPlan(())


def test_names_that_are_empty():
    """As of a variable that is not set: not the plain format."""
    with pytest.raises(WeightPlanError, match=r"^weights must have the name of a format, not ''$"):
        WeightPlan.read("", 2)
    with pytest.raises(WeightPlanError, match=r"^the head's format must have the name of a format, not ' '$"):
        WeightPlan.read("int8", 2, head=" ")
