"""The smoke bench passes in Verilator, fails when it must, and says so; lint is clean and notices what is not.

The tests marked `full` need Icarus or minutes: `make test-all` runs them.
"""

import dataclasses
import subprocess

import numpy as np
import pytest

from flows.emit import Emission, EmitOptions, emit
from flows.lint import icarus, lint
from flows.rtl_device import RtlDevice
from flows.smoke import SMOKE_FILES, run_smoke, write_smoke
from flows.toolchain import ToolError, verilator, verilator_root
from hw.presets import PRESETS
from sw.golden.device import GoldenDevice
from sw.kernels.spec import GemmSpec
from sw.runtime import compile_gemm, run_gemm

PRESET = "systolic-4x4"
ASIC = EmitOptions(reset="async", memories="macro")
BUILT = [PRESET, "systolic-8x16"]                     # in `make test`; the rest takes minutes


@pytest.fixture(scope="module")
def emission() -> Emission:
    return emit(PRESETS[PRESET])


@pytest.fixture(scope="module")
def asic() -> Emission:
    return emit(PRESETS[PRESET], options=ASIC)


@pytest.mark.parametrize("preset", [
    pytest.param(name, marks=() if name in BUILT else pytest.mark.full) for name in PRESETS])
def test_passes_in_verilator(preset, tmp_path):
    emission = emit(PRESETS[preset])
    assert write_smoke(emission, tmp_path) == SMOKE_FILES
    result = run_smoke(emission, tmp_path)
    assert result.passed, result.line
    assert result.line.startswith("PASS: ")


@pytest.mark.full
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("options", [EmitOptions(), ASIC], ids=["fpga", "asic"])
def test_passes_in_icarus(preset, options, tmp_path):
    """Four-valued: memory macros start with unknown contents, and nothing of them may reach a result."""
    emission = emit(PRESETS[preset], options=options)
    write_smoke(emission, tmp_path)
    result = run_smoke(emission, tmp_path, "icarus")
    assert result.passed, result.line


@pytest.mark.parametrize(("file", "line", "text", "verdict"), [
    ("smoke_expected.hex", None, "", "FAIL: beat "),
    ("smoke_writes.hex", -1, "0000000800000002\n", "FAIL: "),      # abort instead of start: no interrupt
    ("smoke_writes.hex", 0, "000003f800000000\n", "FAIL: write of register 000003f8 answered 10"),
])
def test_fails_when_it_must(file, line, text, verdict, emission, tmp_path):
    write_smoke(emission, tmp_path)
    lines = (tmp_path / file).read_text().splitlines(keepends=True)
    if line is None:        # one bit of the last beat that the golden device changed
        before = (tmp_path / "smoke_memory.hex").read_text().splitlines(keepends=True)
        line = max(index for index, (old, new) in enumerate(zip(before, lines, strict=True)) if old != new)
        text = f"{int(lines[line], 16) ^ 1:0{len(lines[line]) - 1}x}\n"
    lines[line] = text
    (tmp_path / file).write_text("".join(lines))
    result = run_smoke(emission, tmp_path)
    assert not result.passed
    assert result.line.startswith(verdict)


def test_a_bench_without_a_verdict_is_an_error(emission, tmp_path, monkeypatch):
    write_smoke(emission, tmp_path)
    monkeypatch.setattr("flows.smoke._verilator", lambda *_: ["true"])
    with pytest.raises(ToolError, match=r"^the smoke bench ended without a verdict in verilator: $"):
        run_smoke(emission, tmp_path)


def test_an_unknown_simulator_is_refused(emission, tmp_path):
    with pytest.raises(ValueError, match=r"^simulator must be one of verilator, icarus, not 'xsim'$"):
        run_smoke(emission, tmp_path, "xsim")


def test_memory_macros_and_asynchronous_reset_change_no_result(asic):
    """The native simulator on the macro version: bit-exact with the golden device, cycle for cycle with the inferred one."""
    config, spec = PRESETS[PRESET], GemmSpec(m=10, n=9, k=11)
    assert asic.manifest["memory_macros"]
    assert asic.manifest["resets"][0]["style"] == "async"
    assert {memory["style"] for memory in asic.manifest["memories"]} == {"inferred", *asic.manifest["memory_macros"]}
    for name in asic.manifest["memory_macros"]:
        assert f"\nmodule {name} (" in asic.models
        assert f"\n  {name} " in asic.verilog
    random = np.random.default_rng(0)
    shapes = {"a": (spec.m, spec.k), "b": (spec.k, spec.n)}
    operands = {name: random.integers(-128, 128, shape, np.int8) for name, shape in shapes.items()}
    program, results = compile_gemm(config, spec), []
    for emission in (None, asic):
        device = RtlDevice(config)
        if emission is not None:
            device.emission = dataclasses.replace(emission, verilog=f"{emission.verilog}\n{emission.models}")
        session = device.open(1 << 16)
        results.append(run_gemm(session, program, spec, **operands, scale=0.01))
        session.close()
    want, _ = run_gemm(GoldenDevice(config).open(1 << 16), program, spec, **operands, scale=0.01)
    for got, result in results:
        assert np.array_equal(got, want)
        assert result.cycles == results[0][1].cycles


def test_the_default_and_the_asic_text_are_lint_clean(emission, asic):
    for text in (emission, asic):
        report = lint(text)
        assert report.clean, report.warnings
        assert "verilator" in report.warnings


@pytest.mark.full
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != PRESET])
def test_every_preset_is_lint_clean(preset):
    report = lint(emit(PRESETS[preset]), need_icarus=True)
    assert report.clean, report.warnings
    assert set(report.warnings) == {"verilator", "icarus"}


def test_lint_notices(emission):
    wrong = emission.verilog.replace("endmodule", "  wire [3:0] loose;\n  wire [7:0] wide = loose[5:2];\nendmodule", 1)
    report = lint(dataclasses.replace(emission, verilog=wrong))
    assert not report.clean
    assert any("SELRANGE" in warning for warning in report.warnings["verilator"])


def test_a_missing_icarus_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"^iverilog not found \(the second Verilog reader\): install it with 'apt-get .*'$"):
        icarus()


def test_the_bench_is_verilog_2005(emission, tmp_path):
    """Verilator reads it as that language."""
    write_smoke(emission, tmp_path)
    bench = (tmp_path / "smoke_bench.v").read_text()
    assert "@" not in bench.replace("always @", "")
    (tmp_path / "top.v").write_text(emission.verilog)
    done = subprocess.run([str(verilator()), "--lint-only", "--default-language", "1364-2005", "--timing", "-Wno-fatal",
                           "--top-module", "heddle_smoke", "smoke_bench.v", "top.v"], cwd=tmp_path, capture_output=True,
                          text=True, env={"VERILATOR_ROOT": str(verilator_root())}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
