"""The smoke bench: a small GEMM in plain Verilog-2005, for any simulator, and its run in Verilator or Icarus."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.emission.files import add_files
from flows.emit import Emission
from flows.lint import icarus
from flows.toolchain import ToolError
from flows.verilated import build_model
from hw.config import AcceleratorConfig
from hw.elements import FloatFormat
from hw.regs import register
from sw.golden.device import GoldenDevice
from sw.kernels.case import random_case
from sw.kernels.spec import GemmSpec
from sw.perf import predict
from sw.runtime import compile_gemm, gemm_args, place_operands

__all__ = ["SIMULATORS", "SMOKE_FILES", "SmokeResult", "run_smoke", "run_smokes", "write_smoke"]

SIMULATORS = ("verilator", "icarus")
SMOKE_FILES = ("smoke_bench.v", "smoke_memory.hex", "smoke_expected.hex", "smoke_writes.hex")
_NATIVE = Path(__file__).with_name("native")
_SCALE = 0.01
_SEED = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeResult:
    """What a run of the smoke bench said.

    Attributes
    ----------
    passed : bool
    line : str
        Its line, which begins with PASS or FAIL.
    simulator : str
    """

    passed: bool
    line: str
    simulator: str


def _hex(image: npt.NDArray[np.uint8], beat_bytes: int) -> str:
    """Return memory as `$readmemh` reads it, one beat a line, its byte 0 to the right."""
    return "".join(f"{beat[::-1].tobytes().hex()}\n" for beat in image.reshape(-1, beat_bytes))


def _bench(config: AcceleratorConfig, manifest: dict[str, Any], values: dict[str, int]) -> str:
    """Return the bench with ports and numbers of this accelerator."""
    ports = [port for port in manifest["ports"] if port["name"] != "clk"]
    wires = "\n".join(f"  wire [{port['width'] - 1}:0] {port['name']};" for port in ports)
    connections = ",\n".join(f"    .{port['name']}({port['name']})" for port in manifest["ports"])
    widths = {port["name"]: port["width"] for port in ports}
    fill = {"WIRES": wires, "CONNECTIONS": connections, "TOP": manifest["top"], "BYTES": config.beat_bytes,
            "BEAT_SHIFT": (config.beat_bytes - 1).bit_length(), "LITE_ADDRESS": widths["s_axil_awaddr"],
            "STATUS": f"{register('STATUS').offset:X}", **values}
    text = (_NATIVE / "smoke_bench.v").read_text()
    for name, value in fill.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _operands(config: AcceleratorConfig, spec: GemmSpec) -> tuple[npt.NDArray[Any], npt.NDArray[Any], float]:
    """Return A, B and a scale with which results use the range of int8."""
    if isinstance(config.activation, FloatFormat) or isinstance(config.weight, FloatFormat):
        case = random_case("smoke", spec, config.weight, _SEED, config.activation)
        return case.a, case.b, float(case.scale)
    random = np.random.default_rng(_SEED)
    a = random.integers(config.activation.minimum, config.activation.maximum + 1, (spec.m, spec.k), np.int8)
    b = random.integers(config.weight.minimum, config.weight.maximum + 1, (spec.k, spec.n), np.int8)
    return a, b, _SCALE


def write_smoke(emission: Emission, folder: Path | str) -> tuple[str, ...]:
    """Write the smoke bench of `emission` into `folder`; return the names of its files.

    The GEMM is ragged in every dimension, so that each unit works and each edge of the array is met; what must come out is what
    the golden device says.
    """
    config, folder = emission.config, Path(folder)
    spec = GemmSpec(m=9, n=config.columns + 3, k=config.rows + 5)
    program = compile_gemm(config, spec)
    a, b, scale = _operands(config, spec)
    session = GoldenDevice(config).open(-(-program.memory_bytes // config.beat_bytes) * config.beat_bytes)
    place_operands(session, program, spec, a=a, b=b)
    program.place(session.memory)
    before = session.memory.copy()
    args = gemm_args(program, scale)
    session.run(program, args)
    outputs = [region for region in program.regions if region.role == "output"]
    first, last = min(r.addr for r in outputs), max(r.addr + r.size - 1 for r in outputs)
    writes = [(f"ARG{index}", value) for index, value in program.argument_values(args).items()]
    writes += [("PROGRAM_ADDR", program.code_addr), ("PROGRAM_LENGTH", len(program.code)), ("IRQ_ENABLE", 3), ("CONTROL", 1)]
    folder.mkdir(parents=True, exist_ok=True)
    texts = (
        _bench(config, emission.manifest, {
            "BEATS": len(before) // config.beat_bytes, "FIRST": first // config.beat_bytes, "LAST": last // config.beat_bytes,
            "WRITES": len(writes), "TIMEOUT": 20_000 + 20 * predict(config, program, args).cycles}),
        _hex(before, config.beat_bytes),
        _hex(session.memory, config.beat_bytes),
        "".join(f"{register(name).offset:08x}{value:08x}\n" for name, value in writes))
    for name, text in zip(SMOKE_FILES, texts, strict=True):
        (folder / name).write_text(text)
    add_files(folder, SMOKE_FILES)
    return SMOKE_FILES


def run_smoke(emission: Emission, folder: Path | str, simulator: str = "verilator") -> SmokeResult:
    """Run the bench that `write_smoke` put into `folder`.

    Raises
    ------
    ValueError
        If there is no such simulator.
    ToolError
        If it is not installed, refuses the Verilog, or ends without a verdict.
    """
    folder = Path(folder)
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    bench = (folder / "smoke_bench.v").read_text()
    with tempfile.TemporaryDirectory(prefix="heddle.smoke.") as work:
        command = _verilator(emission, bench) if simulator == "verilator" else _icarus(emission, bench, Path(work))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    verdicts = [line for line in done.stdout.splitlines() if line.startswith(("PASS", "FAIL"))]
    if not verdicts:
        raise ToolError(f"the smoke bench ended without a verdict in {simulator}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return SmokeResult(passed=all(line.startswith("PASS") for line in verdicts), line=verdicts[0], simulator=simulator)


def run_smokes(emission: Emission, folder: Path | str) -> tuple[SmokeResult, ...]:
    """Run the bench that `write_smoke` put into `folder` in Verilator, and in Icarus where it is installed."""
    return tuple(run_smoke(emission, folder, simulator) for simulator in SIMULATORS
                 if simulator == "verilator" or shutil.which("iverilog"))


def _verilator(emission: Emission, bench: str) -> list[str]:
    text = bench[:bench.index("// The bench with a clock of its own.")]
    program, _ = build_model("smoke", emission.config.digest(), f"{text}\n{emission.verilog}\n{emission.models}", "heddle_bench",
                             waves=None, vpi=False, control="", main=_NATIVE / "smoke.cpp", companions=(),
                             defines=(), link=(), output="smoke")
    return [str(program), str(10_000_000)]


def _icarus(emission: Emission, bench: str, work: Path) -> list[str]:
    compiler, runner = icarus()
    for name, text in (("bench.v", bench), ("top.v", emission.verilog), ("ram_models.v", emission.models)):
        (work / name).write_text(text)
    done = subprocess.run([str(compiler), "-g2005", "-s", "heddle_smoke", "-o", "smoke.vvp", "bench.v", "top.v", "ram_models.v"],
                          cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"iverilog refused the Verilog:\n{done.stderr.strip()[-2000:]}")
    return [str(runner), str(work / "smoke.vvp")]
