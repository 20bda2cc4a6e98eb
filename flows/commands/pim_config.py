"""Which PIM is meant: a preset, or a file; and options of arrays that have no meaning on one."""

import argparse
import dataclasses
from collections.abc import Iterable
from typing import Any

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.interchange import fields_from
from hw.pim.config import PimConfig
from hw.pim.presets import pim_preset_named

__all__ = ["ARRAY_OR_PIM", "pim_config_from", "refuse_options_of_arrays"]

ARRAY_OR_PIM = "an array's or a PIM's"
"""Whose presets commands take that take both."""
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
            fields = fields_from(args.config.read_text())
        except (OSError, ValueError):       # said where the config of an array is read
            return None
        if not _ONLY_HERE.isdisjoint(fields):
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


def refuse_options_of_arrays(args: argparse.Namespace, usual: Iterable[tuple[str, Any]], instead: str) -> None:
    """Refuse what was given of options, each with what it is when left out; `instead` says what a PIM takes.

    Raises
    ------
    ConfigError
        With the name of the first such option.
    """
    for name, default in usual:
        if getattr(args, name) != default:
            raise ConfigError(f"--{name.replace('_', '-')} is for arrays; a PIM takes {instead}")
