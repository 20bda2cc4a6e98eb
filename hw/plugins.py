"""Registries that other packages add to, by entry points.

A package that is installed beside Heddle joins a registry by an entry point in its pyproject.toml, name = "module:object":

=========================  ==========================================================================================
group                      object
=========================  ==========================================================================================
`heddle.pes`               subclass of `hw.pe.base.PE`
`heddle.pe_models`         its golden model, subclass of `sw.golden.pe.base.PEModel`, under the same name
`heddle.engines`           what builds a matrix engine from an `AcceleratorConfig`
`heddle.engine_infos`      its `hw.engines.EngineInfo`, under the same name
`heddle.matrix_models`     its golden model (`sw.golden.array`), under `EngineInfo.model`
`heddle.engine_runtimes`   what the runtime knows of it, a `sw.engines.EngineRuntime`, under `EngineInfo.model`
`heddle.presets`           an `AcceleratorConfig`
`heddle.formats`           a format of a family that exists (`hw.families`); the name is the format's
`heddle.codecs`            (family class, codec): numpy codec of a new family of formats
`heddle.decoders`          (family class, decoder class): its hardware decoder
=========================  ==========================================================================================
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

from hw.errors import ConfigError

__all__ = ["GROUPS", "Registry", "plugin_sources", "plugins"]

T = TypeVar("T")

GROUPS = ("pes", "pe_models", "engines", "engine_infos", "matrix_models", "engine_runtimes", "presets", "formats", "codecs",
          "decoders")


def plugins(group: str) -> dict[str, Any]:
    """Return name → object of every entry point of `heddle.<group>`.

    Raises
    ------
    ConfigError
        If one cannot be loaded, or two packages use one name; the text names entry point and package.
    """
    found: dict[str, Any] = {}
    for point in sorted(importlib.metadata.entry_points(group=f"heddle.{group}"), key=lambda point: point.name):
        if point.name in found:
            raise ConfigError(f"{_said(point)} must have a name of its own; another package uses it")
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise ConfigError(f"{_said(point)} must be loadable: {error}") from error
    return found


class Registry(MutableMapping[str, T]):
    """Name → object: what is built in, then what entry points add.

    Entry points are read when a name is not built in or when all names are asked for, not at import: a package that adds
    something imports ours first.

    Parameters
    ----------
    group : str
        One of `GROUPS`.
    built_in : mapping
    """

    def __init__(self, group: str, built_in: Mapping[str, T]):
        self._group = group
        self._entries = dict(built_in)
        self._complete = False

    def _complete_once(self) -> None:
        """Read the entry points, at the first call.

        Raises
        ------
        ConfigError
            As `plugins`; also if one has the name of something built in.
        """
        if self._complete:
            return
        added = plugins(self._group)
        for name in added:
            if name in self._entries:
                raise ConfigError(f"entry point {name!r} of heddle.{self._group} must not have the name of something built in")
        self._entries.update(added)
        self._complete = True

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._complete_once()
        return self._entries[name]

    def __setitem__(self, name: str, value: T) -> None:
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._complete_once()
        return iter(self._entries)

    def __len__(self) -> int:
        self._complete_once()
        return len(self._entries)


def plugin_sources() -> list[Path]:
    """Return the source files of the modules that entry points name: emitted Verilog depends on them."""
    files = []
    for group in GROUPS:
        for point in importlib.metadata.entry_points(group=f"heddle.{group}"):
            spec = importlib.util.find_spec(point.module)
            if spec is not None and spec.origin is not None:
                files.append(Path(spec.origin))
    return sorted(set(files))


def _said(point: importlib.metadata.EntryPoint) -> str:
    package = f" ({point.dist.name} {point.dist.version})" if point.dist else ""
    return f"entry point {point.name!r} of {point.group}{package}, {point.value},"
