"""Emission: shared blocks against one module for each instance, which is what Amaranth does by itself."""

import os
from typing import Any

from amaranth.back import verilog

from flows.emit import TOP, to_verilog
from hw.config import AcceleratorConfig
from hw.presets import preset_named
from hw.top import Accelerator


def _shared(config: AcceleratorConfig) -> str:
    return to_verilog(Accelerator(config), TOP)


def _unshared(config: AcceleratorConfig) -> str:
    return str(verilog.convert(Accelerator(config), name=TOP, emit_src=False, strip_internal_attrs=True))


def _processor_seconds() -> float:
    """Return the processor time of this process and of the tools that it has run."""
    return sum(os.times()[:4])


def rows() -> list[dict[str, Any]]:
    """Return a row for each preset and way; the 64×64 array is emitted with sharing only."""
    table = []
    for name, way, convert in (("systolic-8x8", "shared", _shared), ("systolic-8x8", "one module an instance", _unshared),
                               ("systolic-16x16", "shared", _shared), ("systolic-16x16", "one module an instance", _unshared),
                               ("systolic-64x64", "shared", _shared)):
        started = _processor_seconds()
        text = convert(preset_named(name))
        table.append({"preset": name, "way": way, "processor seconds": _processor_seconds() - started,
                      "modules": sum(line.startswith("module ") for line in text.splitlines()), "lines": text.count("\n")})
    return table
