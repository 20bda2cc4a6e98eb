"""What the protection of registers costs: areas of register banks, measured by synthesis and kept with their source."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.synth.technology import Coefficient

__all__ = ["bank_area", "measured_areas", "mesh_extra", "protection_data", "protection_extra"]


@functools.cache
def protection_data() -> dict[str, Coefficient]:
    """Return the data file: name → coefficient."""
    text = (Path(__file__).resolve().parents[2] / "data" / "protection.json").read_text()
    return {name: Coefficient(**entry) for name, entry in json.loads(text).items()}


def _measured(what: str, mechanism: str) -> Any:
    """Return the areas of `what` with a mechanism."""
    data, prefix = protection_data(), f"{what}_area_"
    known = [name.removeprefix(prefix) for name in data if name.startswith(prefix)]
    if mechanism not in known:
        raise ValueError(f"mechanism must be one of {', '.join(known)}, not {mechanism!r}")
    return data[prefix + mechanism].value


def bank_area(mechanism: str, bits: int) -> float:
    """Return the area of a bank of registers in NAND2 equivalents; of flip-flops alone for "none".

    Between the measured widths it is a line, and beyond the widest the last line goes on.

    Raises
    ------
    ValueError
        If the mechanism was not measured.
    """
    areas, widths = _measured("bank", mechanism), protection_data()["bank_bits"].value
    if bits <= widths[-1]:
        return float(np.interp(bits, [0, *widths], [0.0, *areas]))
    return float(areas[-1] + (areas[-1] - areas[-2]) / (widths[-1] - widths[-2]) * (bits - widths[-1]))


def protection_extra(mechanism: str, bits: Sequence[int]) -> float:
    """Return what a mechanism adds to registers of so many bits, each in a module of its own, in NAND2 equivalents."""
    return sum(bank_area(mechanism, width) - bank_area("none", width) for width in bits)


def mesh_extra(mechanism: str, rows: int, columns: int) -> float:
    """Return what a mesh that checks itself has more than a plain one, in NAND2 equivalents.

    A part for each PE and a part for each row and column, from square arrays of two sizes; int8, both dataflows.

    Raises
    ------
    ValueError
        If the mechanism was not measured.
    """
    areas, plain = _measured("mesh", mechanism), _measured("mesh", "none")
    small, large = protection_data()["mesh_sizes"].value
    per_pe = [(area - base) / size**2 for area, base, size in zip(areas, plain, (small, large), strict=True)]
    edge = (per_pe[0] - per_pe[1]) / (1 / small - 1 / large)
    return float((per_pe[1] - edge / large) * rows * columns + edge * (rows + columns) / 2)


def measured_areas(mechanism: str, widths: Sequence[int]) -> list[float]:
    """Return the areas of banks from a synthesis now: what the data file was made with. Takes seconds for each."""
    from flows.synth.asic import area_of
    from hw.protect.register_bank import RegisterBank
    from hw.protect.register_copy import BankRegister, RegisterCopy

    found = []
    for width in widths:
        registers = [BankRegister(name="r", width=width)]
        found.append(area_of(RegisterCopy(registers) if mechanism == "none" else RegisterBank(mechanism, registers)))
    return found


if __name__ == "__main__":
    for name in ("none", "parity", "dmr", "tmr"):
        print(f'"bank_area_{name}": {measured_areas(name, protection_data()["bank_bits"].value)}')
