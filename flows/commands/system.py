"""Which system of devices is meant: a preset, or a file."""

import argparse
import dataclasses
from typing import Any

from hw.errors import ConfigError
from hw.interchange import fields_from
from hw.pim.presets import PIM_PRESETS
from hw.presets import PRESETS
from hw.system import DEVICES, SYSTEM_PRESETS, SystemConfig

__all__ = ["system_from"]

_DEVICES = frozenset(DEVICES)
_CHANGES = ("channels", "link_bytes", "placement", "split")


def system_from(args: argparse.Namespace) -> SystemConfig | None:
    """Return the system that the arguments name, or None if they name a single array.

    Raises
    ------
    ConfigError
        If there is neither such a system nor such an array, or the result is impossible.
    """
    if args.config is not None and args.preset is not None:
        raise ConfigError("give either a PRESET or --config FILE")
    if args.config is not None:
        fields = _fields(args)
        if _DEVICES.isdisjoint(fields):
            return None
        config = SystemConfig.from_dict(fields)
    elif args.preset in SYSTEM_PRESETS:
        config = SYSTEM_PRESETS[args.preset]
    elif args.preset is None or args.preset in PRESETS:
        return None
    else:
        if args.preset in PIM_PRESETS:
            raise ConfigError(f"PRESET must be an array's or a system's for this, not {args.preset!r}, a PIM")
        raise ConfigError(f"preset must be one of {', '.join((*PRESETS, *SYSTEM_PRESETS))}, not {args.preset!r}")
    changes = dict(_change(text) for text in args.changes)
    return dataclasses.replace(config, **changes) if changes else config


def _fields(args: argparse.Namespace) -> dict[str, Any]:
    try:
        return fields_from(args.config.read_text())
    except (OSError, ValueError):           # said where a config is read
        return {}


def _change(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"--set must be KEY=VALUE, not {text!r}")
    if name not in _CHANGES:
        raise ConfigError(f"--set must name one of {', '.join(_CHANGES)} for a system, not {name!r}")
    if name == "placement":             # KERNEL:DEVICE,…
        return name, tuple(tuple(rule.split(":")) for rule in value.split(",") if rule)
    if name == "split":
        return name, value
    try:
        return name, int(value, 0)
    except ValueError:
        raise ConfigError(f"--set {name} must be an integer, not {value!r}") from None
