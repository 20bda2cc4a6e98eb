"""`heddle emit pim-…`: Verilog of one pseudo-channel of a PIM logic die."""

import argparse
import dataclasses
import json
import time
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.commands.common import check_output_folder, console, log, print_json
from flows.emission.memories import MACRO_BITS
from flows.pim.emit import PIM_TOP, emit_pim
from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.presets import pim_preset_named

__all__ = ["pim_config_from", "run_pim"]

_ACCELERATORS_ONLY = (("reset", "sync"), ("memories", "inferred"), ("bench", False), ("smoke", False), ("flows", False),
                      ("macro_bits", MACRO_BITS))
_ONLY_HERE = {field.name for field in dataclasses.fields(PimConfig)}.difference(
    field.name for field in dataclasses.fields(AcceleratorConfig))


def pim_config_from(args: argparse.Namespace) -> PimConfig | None:
    """Return the PIM that PRESET or `--config` names, with the changes of `--set`; None if they name something else.

    Raises
    ------
    ConfigError
        If there is no such PIM or field, or the result is impossible.
    """
    if args.preset is not None and args.preset.startswith("pim-"):
        if args.config is not None:
            raise ConfigError("give either a PRESET or --config FILE")
        return _changed(pim_preset_named(args.preset), args.changes)
    if args.preset is None and args.config is not None:
        try:
            fields = json.loads(args.config.read_text())
        except (OSError, ValueError, RecursionError):       # said where the config of an array is read
            return None
        if isinstance(fields, dict) and not _ONLY_HERE.isdisjoint(fields):
            return _changed(PimConfig.from_dict(fields), args.changes)
    return None


def _changed(config: PimConfig, changes: list[str]) -> PimConfig:
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(PimConfig)}
    changed: dict[str, Any] = {}
    for text in changes:
        name, found, value = text.partition("=")
        if not found:
            raise ConfigError(f"--set must be KEY=VALUE, not {text!r}")
        if name not in kinds:
            raise ConfigError(f"--set must name one of {', '.join(sorted(kinds))}, not {name!r}")
        if kinds[name] is bool and value not in ("true", "false"):
            raise ConfigError(f"--set {name} must be true or false, not {value!r}")
        try:
            changed[name] = int(value, 0) if kinds[name] is int else value == "true" if kinds[name] is bool else value
        except ValueError:
            raise ConfigError(f"--set {name} must be an integer, not {value!r}") from None
    return dataclasses.replace(config, **changed)


def run_pim(args: argparse.Namespace, config: PimConfig) -> bool:
    """Write the files of a logic die and say what they are; return whether linters found nothing, if asked."""
    for name, default in _ACCELERATORS_ONLY:
        if getattr(args, name) != default:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} must be left out for a PIM, which has none, not given with {_name(args)!r}")
    check_output_folder(args.output, "-o")
    started = time.perf_counter()
    emission = emit_pim(config, args.output)
    seconds = time.perf_counter() - started
    for name in emission.kept:
        log.print(escape(f"{args.output / name}: of an earlier emission, but changed since, so it stays"), soft_wrap=True)
    answer = {"digest": config.digest(), "top": PIM_TOP, "files": [str(emission.folder / name) for name in emission.files],
              "modules": len(emission.manifest["modules"]), "verilog_lines": emission.manifest["verilog_lines"],
              "reset": "sync", "memories": "inferred", "memory_macros": [], "seconds": seconds}
    if args.lint:
        from flows.lint import lint

        report = lint(emission)
        answer |= {"lint": {linter: list(warnings) for linter, warnings in report.warnings.items()}, "lint_clean": report.clean}
    if args.json:
        print_json(answer)
        return bool(answer.get("lint_clean", True))
    title = f"{_name(args)}: module {PIM_TOP}, config {config.digest()}"
    table = Table(title=escape(title), show_header=False, title_justify="left")
    for name in emission.files:
        table.add_row(escape(str(emission.folder / name)), f"{(emission.folder / name).stat().st_size:,} bytes")
    console.print(table)
    console.print(f"{answer['modules']} modules, {answer['verilog_lines']:,} lines of Verilog, {seconds:.1f} s")
    for linter, warnings in answer.get("lint", {}).items():
        console.print(f"{linter}: {len(warnings) or 'no'} warnings")
        for warning in warnings:
            console.print(f"  {escape(warning)}", soft_wrap=True)
    return bool(answer.get("lint_clean", True))


def _name(args: argparse.Namespace) -> str:
    return str(args.preset or args.config)
