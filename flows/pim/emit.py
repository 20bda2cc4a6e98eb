"""Verilog of a PIM logic die: one pseudo-channel with its control, and what a reader must know of it."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flows.emission
from flows.cache import cached_folder, key_of, repository
from flows.emission.files import MANIFEST, digests, remove_stale
from flows.emission.manifest import memories_of, ports_of, tools
from flows.emission.memories import MemoryPlatform
from flows.emission.pieces import cut
from flows.emission.verilog import finish, yosys
from hw.pim.config import PimConfig

__all__ = ["COMMANDS", "PIM_TOP", "PimEmission", "emit_pim", "pim_sources"]

PIM_TOP = "heddle_pim"
"""Verilog module name of a pseudo-channel."""
COMMANDS = 256
"""Words of the list memory."""
_PARTS = ("pim", "arith", "families", "memory", "protect")      # folders of hw that a logic die is made of, beside hw/*.py


@dataclass(frozen=True, kw_only=True, slots=True)
class PimEmission:
    """What `emit_pim` wrote.

    Attributes
    ----------
    config : PimConfig
    folder : Path
    files : tuple of str
        Names of the files in it.
    manifest : dict
        Contents of manifest.json.
    verilog : str
        Contents of top.v.
    kept : tuple of str
        Files of an earlier emission that stay because they were changed.
    """

    config: PimConfig
    folder: Path
    files: tuple[str, ...]
    manifest: dict[str, Any]
    verilog: str
    kept: tuple[str, ...] = ()

    @property
    def top(self) -> str:
        """Name of the top module."""
        return str(self.manifest["top"])

    @property
    def models(self) -> str:
        """Models of memory macros: there are none."""
        return ""


def pim_sources() -> list[Path]:
    """Return the files that decide what a logic die is."""
    hw, flow = repository() / "hw", Path(flows.emission.__file__).parent
    return sorted([*hw.glob("*.py"), *(file for part in _PARTS for file in (hw / part).rglob("*.py")), *flow.rglob("*.py"),
                   Path(__file__)])


def _write(folder: Path, config: PimConfig, commands: int) -> None:
    from hw.pim.core import PimCore

    component = PimCore(config, commands=commands)
    ports = ports_of(component)
    design = cut(component, PIM_TOP, async_reset=False, platform=MemoryPlatform())
    verilog = finish(yosys(design.rtlil), design, (
        f"// One pseudo-channel of a Heddle PIM logic die, config {config.digest()}, synchronous reset.\n"
        "// Generated; do not edit. manifest.json beside it tells ports, hierarchy and memories.\n"))
    (folder / "top.v").write_text(verilog)
    (folder / "config.json").write_text(config.to_json() + "\n")
    manifest = {
        "top": design.top.name, "digest": config.digest(), "config": config.to_dict(), "commands": commands, "ports": ports,
        "clocks": [{"port": "clk", "edge": "rising"}],
        "resets": [{"port": "rst", "clock": "clk", "style": "sync", "active": "high"}],
        "interfaces": [
            {"name": "write", "protocol": "list memory", "address_width": (commands - 1).bit_length(), "data_width": 64},
            {"name": "host_in", "protocol": "valid/ready", "role": "sink"},
            {"name": "host_out", "protocol": "valid/ready", "role": "source"},
            {"name": "dram", "protocol": "DRAM commands by phase", "role": "master", "timing": config.timing,
             "streams": config.streams, "burst_bytes": config.burst_bytes},
        ],
        "modules": list(design.pieces),
        "hierarchy": {name: {child.name: child.module for child in piece.children} for name, piece in design.pieces.items()
                      if piece.children},
        "memories": memories_of(design), "verilog_lines": verilog.count("\n"), "tools": tools(),
    }
    manifest["files"] = digests(folder, ("config.json", "top.v"))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def emit_pim(config: PimConfig, directory: Path | str | None = None, *, commands: int = COMMANDS) -> PimEmission:
    """Generate the Verilog of one pseudo-channel, or take it from the cache if no source has changed since.

    Parameters
    ----------
    config : PimConfig
    directory : path or None
        Where to put top.v, manifest.json and config.json; None leaves them in the cache. Files of an earlier emission there are
        replaced or removed, unless they were changed since.
    commands : int
        Words of the list memory, a power of two.
    """
    sources = [key_of(str(file.relative_to(repository())), file.read_bytes()) for file in pim_sources()]
    key = key_of(config.to_json(), commands, sources, tools(), list(sys.version_info[:3]))
    folder, _ = cached_folder(f"pim-rtl-{config.digest()}-{key}", lambda work: _write(work, config, commands))
    files = tuple(sorted(file.name for file in folder.iterdir()))
    kept: tuple[str, ...] = ()
    if directory is not None:
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        kept = remove_stale(target, files)
        for name in files:
            part = target / f".{name}.part"             # each file in one step, so that no reader sees half of one
            os.replace(shutil.copyfile(folder / name, part), target / name)
        folder = target
    return PimEmission(config=config, folder=folder, files=files, manifest=json.loads((folder / MANIFEST).read_text()),
                       verilog=(folder / "top.v").read_text(), kept=kept)
