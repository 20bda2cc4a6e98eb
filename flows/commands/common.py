"""What the commands share: which config is meant, and how results are shown."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from flows.verilated import WAVES
from hw.config import AcceleratorConfig
from hw.engines import ENGINES
from hw.errors import ConfigError
from hw.pim.presets import PIM_PRESETS
from hw.presets import preset_named
from hw.regs import ENGINE_COUNTERS, Counter
from hw.system import SYSTEM_PRESETS

__all__ = [
    "add_config_arguments", "add_json_argument", "check_output_folder", "check_waves_file", "config_from", "console",
    "engine_counts", "figures_table", "log", "output_folder", "print_json", "windows_of_text",
]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `flows.cli`, which treats all output alike."""
        raise BrokenPipeError


console = _Console(highlight=False)
"""Tables for people, on standard output."""
log = Console(stderr=True, highlight=False)
"""Progress and remarks."""


def engine_counts(config: AcceleratorConfig, *counters: Mapping[str, int]) -> Iterator[tuple[Counter, list[int]]]:
    """Yield the counters of the engine's own, with what each is in each of `counters`, unless it is zero in all of them."""
    for counter in ENGINE_COUNTERS:
        counts = [found.get(counter.name, 0) for found in counters]
        if counter.name in config.engine_counters and any(counts):
            yield counter, counts


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add PRESET, `--config` and `--set`."""
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="a preset of `heddle list`")
    parser.add_argument("--config", type=Path, metavar="FILE",
                        help="a JSON file with the fields of a config, instead of a preset")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
                        help="change one field; may be given several times (protection=GLOB:MECHANISM,…)")


def config_from(args: argparse.Namespace, *, legal: str = "an array's") -> AcceleratorConfig:
    """Return the config that the arguments name; `legal` says whose presets the command takes.

    Raises
    ------
    ConfigError
        If there is no such preset or field, the file cannot be read, or the result is impossible.
    """
    if (args.preset is None) == (args.config is None):
        raise ConfigError("give either a PRESET or --config FILE")
    if args.config is not None:
        try:
            config = AcceleratorConfig.from_json(args.config.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--config must be a readable file, not {str(args.config)!r}: {error}") from None
    else:
        for others, what in ((list(PIM_PRESETS), "a PIM"), (list(SYSTEM_PRESETS), "a system")):
            if args.preset in others:
                raise ConfigError(f"PRESET must be {legal} for this, not {args.preset!r}, {what}")
        config = preset_named(args.preset)
    changes = dict(_change(text) for text in args.changes)
    config = dataclasses.replace(config, **changes) if changes else config
    for name, known in (("engine", ENGINES), ("pe", _pe_names())):
        if getattr(config, name) not in known:
            raise ConfigError(f"AcceleratorConfig.{name} must be one of {', '.join(known)}, not {getattr(config, name)!r}")
    return config


def _pe_names() -> list[str]:
    from hw.pe import PE_TYPES

    return list(PE_TYPES)


def _change(text: str) -> tuple[str, Any]:
    kinds = {field.name: field.type for field in dataclasses.fields(AcceleratorConfig)}
    name, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"--set must be KEY=VALUE, not {text!r}")
    if name not in kinds:
        raise ConfigError(f"--set must name one of {', '.join(sorted(kinds))}, not {name!r}")
    if kinds[name] is int:
        try:
            return name, int(value, 0)
        except ValueError:
            raise ConfigError(f"--set {name} must be an integer, not {value!r}") from None
    if name == "protection":        # GLOB:MECHANISM,…
        return name, tuple(tuple(rule.split(":")) for rule in value.split(",") if rule)
    return name, value if kinds[name] is str else tuple(part for part in value.split(",") if part)


def figures_table(title: str, *heads: str) -> Table:
    """Return an empty table of figures: names on the left, numbers on the right of their columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=True)
    return table


def windows_of_text(answer: Mapping[str, Any]) -> str:
    """Return how much text a quality was measured on, as people read it."""
    return f"{answer['windows']} window{'s' * (answer['windows'] != 1)} of {answer['context']} tokens"


def check_waves_file(file: Path) -> None:
    """Refuse a wave file that cannot be written, before anything is built."""
    if file.suffix not in WAVES:
        raise ValueError(f"--waves must be a file {' or '.join(WAVES)}, not {str(file)!r}")
    if not file.parent.is_dir():
        raise ValueError(f"--waves must lie in a folder that exists, not {str(file)!r}")


def output_folder(text: str) -> Path:
    """Return the folder that an option names; an empty name, as of a variable that is not set, is not the folder we are in."""
    if not text:
        raise argparse.ArgumentTypeError("must name a folder, not ''")
    return Path(text)


def check_output_folder(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be made or written, before anything is built; make it."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{option} must be a folder, not the file {str(folder)!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".heddle-write"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{option} must be a folder that can be written, not {str(folder)!r}: {error.strerror}") from None


def print_json(answer: dict[str, Any]) -> None:
    """Print one JSON object on standard output."""
    json.dump(answer, sys.stdout, indent=2)
    sys.stdout.write("\n")
