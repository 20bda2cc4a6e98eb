"""The runner of cocotb benches: what passes passes, and nothing that did not run counts."""

import pytest

from flows.cocotb_runner import CocotbBuild, build_cocotb, run_cocotb
from flows.emit import to_verilog
from flows.toolchain import ToolError
from tb.flows.adder import VectorAdder

BENCH = "tb.flows.adder_bench"


@pytest.fixture(scope="module")
def adder() -> CocotbBuild:
    return build_cocotb(to_verilog(VectorAdder(64), "heddle"), "heddle", waves=".vcd", label="adder",
                        visible={"heddle": ["writer_state"]})


def test_a_passing_test_passes_and_waves_go_where_asked(adder, tmp_path):
    result = run_cocotb(adder, BENCH, folder=tmp_path / "run", testcase="asks_for_both_vectors", waves=tmp_path / "bench.vcd")
    assert result.passed == (f"{BENCH}.asks_for_both_vectors",)
    assert not result.failed
    assert "m_axi_araddr" in (tmp_path / "bench.vcd").read_text()


def test_a_failing_test_fails(adder, tmp_path):
    with pytest.raises(AssertionError, match=r"^1 of the tests of tb\.flows\.adder_bench failed; log in .*\n.*_nonsense: "):
        run_cocotb(adder, BENCH, folder=tmp_path)
    result = run_cocotb(adder, BENCH, folder=tmp_path, may_fail=True)
    assert len(result.passed) == 1
    assert list(result.failed) == [f"{BENCH}.expects_nonsense"]


@pytest.mark.parametrize("arguments", [{"module": "tb.flows.no_such_module"}, {"module": BENCH, "testcase": "no_such_test"}])
def test_nothing_run_is_an_error(adder, tmp_path, arguments):
    (tmp_path / "results.xml").write_text("<testsuites><testsuite><testcase name='old'/></testsuite></testsuites>")
    with pytest.raises(ToolError, match=r"^the simulation (ended without results|ran no test); the end of "):
        run_cocotb(adder, folder=tmp_path, **arguments)


def test_waves_must_fit_the_build(adder, tmp_path):
    with pytest.raises(ValueError, match=r"^this simulator writes \.vcd waves, not 'x\.fst'$"):
        run_cocotb(adder, BENCH, folder=tmp_path, waves=tmp_path.__class__("x.fst"))


def test_the_top_module_must_exist():
    with pytest.raises(ValueError, match=r"^the Verilog has no module 'missing'$"):
        build_cocotb("module other(); endmodule\n", "missing")
