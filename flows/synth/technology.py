"""Coefficients of processes that a cell library does not state, each with its source."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Coefficient", "Technology", "technology"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coefficient:
    """One entry of flows/data/technology.json.

    Attributes
    ----------
    value : number, list of numbers, or dict of str to number
    unit : str
    grade : str
        F: found in the source; D: derived from it by arithmetic; I: our own choice.
    source : str
    """

    value: Any
    unit: str
    grade: str
    source: str


@dataclass(frozen=True, slots=True)
class Technology:
    """All coefficients."""

    entries: dict[str, Coefficient]

    def __getitem__(self, name: str) -> Any:
        """Return the value of a coefficient."""
        return self.entries[name].value

    def memory_area(self, depth: int, width: int, ports: int) -> float:
        """Return the area of an SRAM macro in NAND2 equivalents; rows and columns are one word and one bit."""
        across, high = self["sram_width"], self["sram_height"]
        area = (across[0] + across[1] * width) * (high[0] + high[1] * depth)
        area *= 1 + self["sram_port_factor"] * max(0, ports - 2)
        return float(area / self["reference_nand2"])

    def memory_access(self, library: str) -> float | None:
        """Return the ns from clock to data of an SRAM macro in the process of a cell library; None if not known."""
        return next((float(ns) for name, ns in self["sram_access_ns"].items() if library.startswith(name)), None)

    def sources(self) -> list[str]:
        """Return one line a coefficient: name, value, unit, grade, source."""
        return [f"{name}: {entry.value} {entry.unit} [{entry.grade}] {entry.source}" for name, entry in self.entries.items()]


@functools.cache
def technology() -> Technology:
    """Read the data file."""
    text = (Path(__file__).resolve().parents[1] / "data" / "technology.json").read_text()
    return Technology({name: Coefficient(**entry) for name, entry in json.loads(text).items()})
