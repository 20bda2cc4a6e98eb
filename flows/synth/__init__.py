"""Synthesis for FPGA and ASIC: one module a target, found in `TARGETS`."""

import importlib
from types import ModuleType

__all__ = ["TARGETS", "target_named"]

TARGETS: dict[str, str] = {
    "asic": "flows.synth.asic_target",
    **dict.fromkeys(("ecp5", "ice40", "gowin"), "flows.synth.fpga.target"),
}
"""Target → module with `DOC`, `add_arguments(group)`, `check(args)`, `whole(config, args) -> (verilog, top)`,
`run(verilog, top, args, directory) -> dict` and `show(answer, console)`; `check` refuses bad arguments and missing
tools before anything is generated, `check_bare(args)` what a design that has no board cannot have, and `whole` is what is
synthesized when no block is named. Targets may share a module."""


def target_named(name: str) -> ModuleType:
    """Return the module of a target.

    Raises
    ------
    ValueError
        If there is none; the text lists those that exist.
    """
    if name not in TARGETS:
        raise ValueError(f"--target must be one of {', '.join(TARGETS)}, not {name!r}")
    return importlib.import_module(TARGETS[name])
