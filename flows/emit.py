"""Verilog of an accelerator: one file, the same bytes every time, each distinct block once."""

import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.cache import cached_folder, key_of, repository
from flows.emission.files import MANIFEST, digests, remove_stale
from flows.emission.manifest import build_manifest, ports_of, register_map, tools
from flows.emission.memories import MACRO_BITS, MemoryPlatform, macro_models
from flows.emission.pieces import Design, cut
from flows.emission.verilog import finish, verilog_of, yosys
from flows.headers import isa_header, regs_header
from flows.ipxact import ipxact
from hw.config import AcceleratorConfig
from hw.plugins import plugin_sources

__all__ = [
    "DEFAULT_OPTIONS",
    "MEMORIES",
    "RESETS",
    "TOP",
    "Emission",
    "EmitOptions",
    "emit",
    "ports_of",
    "to_rtlil",
    "to_verilog",
    "verilog_of",
]

TOP = "heddle"
"""Verilog module name of the accelerator."""
RESETS = ("sync", "async")
MEMORIES = ("inferred", "macro")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmitOptions:
    """How Verilog is written; the accelerator is the same whatever they are, so they are no part of its config.

    Parameters
    ----------
    reset : str
        "sync": registers are reset at a clock edge while `rst` is high; "async": at once when `rst` rises. Active high.
    memories : str
        "inferred": arrays that synthesis maps; "macro": instances of modules that an ASIC flow fills with SRAM.
    macro_bits : int
        Smallest memory, in bits, that becomes a macro.
    """

    reset: str = "sync"
    memories: str = "inferred"
    macro_bits: int = MACRO_BITS

    def __post_init__(self) -> None:
        """Check every field."""
        for name, known in (("reset", RESETS), ("memories", MEMORIES)):
            if getattr(self, name) not in known:
                raise ValueError(f"EmitOptions.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not isinstance(self.macro_bits, int) or self.macro_bits < 1:
            raise ValueError(f"EmitOptions.macro_bits must be a positive integer, not {self.macro_bits!r}")


DEFAULT_OPTIONS = EmitOptions()


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
        Contents of manifest.json.
    verilog : str
        Contents of top.v.
    models : str
        Contents of ram_models.v, behavioural models of the memory macros; empty without macros.
    kept : tuple of str
        Files of an earlier emission into the same folder that this one has not, left there because they were changed since.
    """

    config: AcceleratorConfig
    folder: Path
    files: tuple[str, ...]
    manifest: dict[str, Any]
    verilog: str
    models: str
    kept: tuple[str, ...] = ()

    @property
    def top(self) -> str:
        """Name of the top module."""
        return str(self.manifest["top"])


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


def _cut(component: Any, name: str, options: EmitOptions, platform: MemoryPlatform) -> Design:
    with _without_garbage_collection():
        return cut(component, name, async_reset=options.reset == "async", platform=platform)


def to_rtlil(component: Any, name: str) -> str:
    """Return the RTLIL that `verilog_of` turns into Verilog: `component` as module `name`, and every block in it."""
    return _cut(component, name, DEFAULT_OPTIONS, MemoryPlatform()).rtlil


def _convert(component: Any, name: str, options: EmitOptions, title: str) -> tuple[Design, str, str]:
    """Return the modules, the Verilog, and the models of the memory macros in it."""
    platform = MemoryPlatform(macros=options.memories == "macro", macro_bits=options.macro_bits)
    design = _cut(component, name, options, platform)
    return design, finish(yosys(design.rtlil), design, title), macro_models(platform.used) if platform.used else ""


def to_verilog(component: Any, name: str, options: EmitOptions = DEFAULT_OPTIONS) -> str:
    """Return the Verilog of `component` as module `name`, and of every block in it, each distinct one once.

    Parameters
    ----------
    component : wiring.Component
        No member of its signature may be `always_ready` or `always_valid`.
    name : str
        Module name; modules below it are called `name_block`, unless their block has a name of its own.
    options : EmitOptions
        Memory macros have their models at the end of the text.
    """
    _, verilog, models = _convert(component, name, options, "")
    return f"{verilog}\n{models}" if models else verilog


def _sources() -> bytes:
    """Return the contents of every file that decides the emitted files."""
    flows = Path(__file__).parent
    files = [*sorted((repository() / "hw").rglob("*.py")), Path(__file__), *sorted((flows / "emission").rglob("*.py")),
             flows / "headers.py", flows / "ipxact.py"]
    ours = [key_of(str(f.relative_to(repository())), f.read_bytes()) for f in files]
    theirs = [key_of(f.name, f.read_bytes()) for f in plugin_sources()]
    return "".join(ours + theirs).encode()


def _write(folder: Path, config: AcceleratorConfig, options: EmitOptions) -> None:
    from hw.top import Accelerator

    component = Accelerator(config)
    title = (f"// Heddle accelerator, config {config.digest()}, {options.reset} reset, {options.memories} memories.\n"
             "// Generated; do not edit. manifest.json beside it tells ports, registers, hierarchy and memories.\n")
    design, verilog, models = _convert(component, TOP, options, title)
    (folder / "top.v").write_text(verilog)
    if models:
        (folder / "ram_models.v").write_text(models)
    macros = sorted({array.style for piece in design.pieces.values() for array in piece.memories} - {"inferred"})
    manifest = build_manifest(config, design, ports_of(component), verilog, reset=options.reset, macros=macros)
    (folder / "registers.json").write_text(json.dumps(register_map(config), indent=2) + "\n")
    (folder / "component.xml").write_text(ipxact(manifest, ["top.v", *(["ram_models.v"] if models else [])]))
    (folder / "regs.h").write_text(regs_header())
    (folder / "isa.h").write_text(isa_header())
    (folder / "config.json").write_text(config.to_json() + "\n")
    manifest["files"] = digests(folder, [file.name for file in folder.iterdir()])
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _copy(source: Path, target: Path) -> None:
    """Copy the files of `source` into `target`, each in one step, so that no reader sees half of one."""
    with tempfile.TemporaryDirectory(prefix=".emit.", dir=target) as work:
        for file in sorted(source.iterdir()):
            os.replace(shutil.copyfile(file, Path(work) / file.name), target / file.name)


def emit(config: AcceleratorConfig, directory: Path | str | None = None, options: EmitOptions = DEFAULT_OPTIONS) -> Emission:
    """Generate the Verilog of `config`, or take it from the cache if no source has changed since.

    Parameters
    ----------
    config : AcceleratorConfig
    directory : path or None
        Where to put top.v, manifest.json, component.xml, registers.json, regs.h, isa.h, config.json and, with memory macros,
        ram_models.v; None leaves them in the cache. What an earlier emission wrote there and this one does not is removed,
        unless it was changed since; other files stay.
    options : EmitOptions
    """
    key = key_of(config.to_json(), asdict(options), _sources(), tools(), list(sys.version_info[:3]))
    folder, _ = cached_folder(f"rtl-{config.digest()}-{key}", lambda work: _write(work, config, options))
    files = tuple(sorted(file.name for file in folder.iterdir()))
    kept: tuple[str, ...] = ()
    if directory is not None:
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        kept = remove_stale(target, files)
        _copy(folder, target)
        folder = target
    models = folder / "ram_models.v"
    return Emission(config=config, folder=folder, files=files, manifest=json.loads((folder / MANIFEST).read_text()),
                    verilog=(folder / "top.v").read_text(), models=models.read_text() if models.name in files else "", kept=kept)
