"""Rows of `heddle reproduce highlight`, `tasd` and `sdq`: they hold, and options add what they say."""

import json
from types import SimpleNamespace

import pytest

from flows.cli import main
from flows.reproduce import PAPERS, Options, rows_of
from flows.reproduce import highlight as highlight_module
from flows.reproduce import sdq as sdq_module
from flows.reproduce.quality import calibrated_points, tasder
from tb.sw.llamas import write_llama

NAMES = ("highlight", "tasd", "sdq")


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model")


@pytest.fixture(autouse=True)
def small_text(monkeypatch):
    """Files of a few hundred bytes instead of Python's library."""
    files = {name: b"def %d(x):\n    return x + 1\n" % number * 8 for number, name in enumerate("abcdef")}
    monkeypatch.setattr("flows.sparsity.documents", lambda: (files, dict(list(files.items())[:2])))


def rows_without_options(name):
    return {row.quantity: row for row in rows_of(name, Options())}


@pytest.mark.parametrize("name", NAMES)
def test_json(name, capsys):
    assert main(["reproduce", name, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["held"] is True
    assert [row["quantity"] for row in answer["rows"]] == list(rows_without_options(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_must_be_met_is(name):
    found = rows_without_options(name)
    assert not [row.quantity for row in found.values() if not row.holds]
    assert len(found) == len(list(rows_of(name, Options())))             # no quantity twice


def test_highlight_has_all_modes_and_the_published_figures():
    found = rows_without_options("highlight")
    speedups = [row for quantity, row in found.items() if quantity.startswith("speedup of 4:")]
    assert sorted(row.ours for row in speedups) == sorted(h1 * h0 / 8 for h1 in range(4, 9) for h0 in range(2, 5))
    assert [row.ours for quantity, row in found.items() if quantity.startswith("cycles of 512×1024")] == [
        131072, 65536, 45056, 32768]
    published = {row.paper for row in found.values() if row.paper is not None}
    assert published == {0.375, 12, 0.86, 6.4}


def test_recalled_figures_are_printed_nowhere():
    for name in NAMES:
        for row in rows_without_options(name).values():
            assert "5.7" not in row.note
            assert row.paper != 0.057


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_need_an_option_say_so(name):
    missing = [row for row in rows_without_options(name).values() if row.ours is None]
    assert missing
    for row in missing:
        assert row.note.startswith(("not measured: give --", "not modelled: "))


def test_sdq_counts_four_times():
    found = rows_without_options("sdq")
    main = found["effective throughput over float16, 7:8-1:8int8-6:8fp4"]
    assert (main.paper, main.ours, main.target) == (4.0, 4.0, 4.0)
    assert found["speedup over our dense int8 core of equal lanes"].ours == 2
    plain, outliers = (found[f"weight SQNR, {what} [dB]"].ours for what in ("plain FP4", "1:8 int8 and 7:8 FP4"))
    assert outliers > plain + 3


def test_series_of_the_engine_take_the_time_of_their_modes():
    found = rows_without_options("tasd")
    assert [found[f"speedup of {name} on our engine"].ours for name in ("2:4+1:8", "1:8+1:8", "2:4+2:4")] == [
        pytest.approx(4 / 3), 2, 1]
    assert [found[f"speedup of {name} on a core that runs any N:M"].ours for name in ("2:8", "4:8+1:8")] == [4, 1.6]


def test_areas_are_of_the_dense_core(monkeypatch):
    seen = []
    monkeypatch.setattr(highlight_module, "core_areas",
                        lambda liberty: seen.append(liberty) or {"dense": 100.0, "2:4": 104.0, "15 modes": 112.0})
    monkeypatch.setattr(highlight_module, "memory_areas", lambda liberty: {"dense": 900.0, "2:4": 906.0, "15 modes": 938.0})
    found = {row.quantity: row for row in rows_of("highlight", Options(liberty="generic"))}
    assert found["area of sparsity features over the dense core: 15 modes"].ours == pytest.approx(0.12)
    assert found["area of sparsity features over the dense core: 2:4"].paper is None
    assert found["the same with memories: 2:4"].ours == pytest.approx(0.01)
    assert found["the same with memories: 15 modes"].ours == pytest.approx(0.05)
    assert seen == ["generic"]
    assert not any("--liberty" in row.note for row in found.values())


@pytest.mark.parametrize(("name", "quantities"), [
    ("highlight", [f"bits per byte, hss-4:{outer}-2:4, {method}, over float32" for outer in (4, 6, 8)
                   for method in ("magnitude", "compensated")]),
    ("sdq", ["quality lost, sdq-7:8-1:8int8-6:8fp4-g64", "quality lost, sdq-8:8-1:8int8-7:8fp4-g64"])])
def test_quality_of_a_model(name, quantities, model):
    found = {row.quantity: row for row in rows_of(name, Options(model=model, windows=2))}
    assert all(found[quantity].ours is not None for quantity in quantities)
    assert not any("--model" in row.note for row in found.values())


def test_series_of_a_model(model):
    found = {row.quantity: row for row in rows_of("tasd", Options(model=model, windows=2))}
    assert 0 <= found["multiplications saved at 99% of the quality"].ours < 0.875
    exact, point = tasder(Options(model=model, windows=2), 0.99)
    assert found["multiplications saved at 99% of the quality"].ours == 1 - point.density
    assert found["quality with these series on held-out text"].ours == exact.bits / point.bits


def test_points_begin_with_the_model_itself(model):
    exact, two = calibrated_points(Options(model=model, windows=2), ["2:4"], ["magnitude"])
    assert (exact.name, exact.density, two.name, two.density) == ("float32", 1.0, "2:4", 0.5)
    with pytest.raises(ValueError, match=r"^quality must be of a model: Options\.model must be a folder, not None$"):
        calibrated_points(Options(), ["2:4"], ["magnitude"])


def test_options_of_the_papers():
    assert {name: set(PAPERS[name].options) for name in NAMES} == {
        "highlight": {"model", "windows", "rtl", "liberty"}, "tasd": {"model", "windows"},
        "sdq": {"model", "windows", "liberty"}}


def test_simulation_compares_cycles_and_outputs(monkeypatch):
    cycles = {"int8": 1000, "hss-4:4-2:4": 520, "hss-4:6-2:4": 400, "hss-4:8-2:4": 250}

    def measured(workload, config, device):
        assert device == ("simulated", config)
        gemm = SimpleNamespace(cycles=cycles[workload.weights])
        return SimpleNamespace(gemms=[gemm], match=workload.weights != "hss-4:6-2:4")

    monkeypatch.setattr(highlight_module, "RtlDevice", lambda config: ("simulated", config))
    monkeypatch.setattr(highlight_module, "measure", measured)
    monkeypatch.setattr(highlight_module, "simulated_rows", lambda options: iter(()))
    found = {row.quantity: row for row in rows_of("highlight", Options(rtl=True))}
    assert [found[f"speedup of a GEMM of 256×64×768 in simulation, {name}"].ours for name in list(cycles)[1:]] == [
        1000 / 520, 2.5, 4]
    differ = found["formats whose outputs differ from the golden model"]
    assert (differ.ours, differ.holds) == (1, False)
    assert not any("--rtl" in row.note for row in found.values())


def test_energy_and_delay_are_an_estimate_beside_the_published_mean():
    row = rows_without_options("highlight")["energy-delay product of dense over sparse, geometric mean"]
    assert (row.paper, row.target) == (6.4, None)
    assert 3 < row.ours < 6
    assert "an estimate" in row.note
    assert "alone" in row.note


def test_energy_and_delay_with_a_library(monkeypatch):
    """Logic counts where a library states power; not asked for without one."""
    table = [{"mode": f"hss-4:{h1}-2:{h0}", "energy-delay over dense": 0.5} for h1 in range(4, 9) for h0 in range(2, 5)]
    table.append({"mode": "sdq-7:8-1:8int8-6:8fp4", "energy-delay over dense": 0.25})
    for module in (highlight_module, sdq_module):
        monkeypatch.setattr(module, "energies", lambda liberty: table if liberty == "a.lib" else [])
    monkeypatch.setattr(highlight_module, "core_areas", lambda liberty: {"dense": 1.0})
    monkeypatch.setattr(highlight_module, "memory_areas", lambda liberty: {"dense": 1.0})
    row = {row.quantity: row for row in rows_of("highlight", Options(liberty="a.lib"))}[
        "energy-delay product of dense over sparse, geometric mean"]
    assert row.ours == pytest.approx(2)
    assert "OpenSTA" in row.note
    row = {row.quantity: row for row in rows_of("sdq", Options(liberty="a.lib"))}[
        "energy-delay product of our dense int8 core over SDQ"]
    assert row.ours == 4
