"""Where a kernel's buffers lie: in the scratchpad, in banks of their own where there are enough, and among the row scalars."""

from collections.abc import Mapping
from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from sw.layout import round_up

__all__ = ["Area", "AreaError", "place_areas", "row_scalars"]


class AreaError(ValueError):
    """Buffers that do not fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A ring of equal slots in the scratchpad.

    Attributes
    ----------
    addr : int
        First byte of the first slot.
    slot_bytes : int
    slots : int
    """

    addr: int
    slot_bytes: int
    slots: int = 1


def place_areas(config: AcceleratorConfig, what: str, sizes: Mapping[str, tuple[int, int]], start: int = 0) -> dict[str, Area]:
    """Return an area for each name → (slot bytes, slots), from `start` on.

    Each begins in a bank of its own where that fits, so that its readers and writers do not take turns with others.

    Raises
    ------
    AreaError
        If they do not fit; the text says what needs how much.
    """
    bank, line = config.scratchpad_bank_bytes, config.line_bytes
    rounded = {name: round_up(size, line) for name, (size, _) in sizes.items()}
    banks = ceil_div(start, bank) + sum(ceil_div(rounded[name] * slots, bank) for name, (_, slots) in sizes.items())
    step = bank if banks <= config.scratchpad_banks else line
    areas, addr = {}, round_up(start, step)
    for name, (_, slots) in sizes.items():
        areas[name] = Area(addr=addr, slot_bytes=rounded[name], slots=slots)
        addr = round_up(addr + rounded[name] * slots, step)
    used = max((area.addr + area.slot_bytes * area.slots for area in areas.values()), default=start)
    if used > config.scratchpad_bytes:
        parts = ", ".join(f"{name} {rounded[name] * slots}" for name, (_, slots) in sizes.items())
        raise AreaError(f"{what} must fit into {config.scratchpad_bytes} scratchpad bytes, not need {used} "
                        f"(kept by others {start}, {parts})")
    return areas


def row_scalars(config: AcceleratorConfig, what: str, names: tuple[str, ...], rows: int, start: int = 0) -> dict[str, int]:
    """Return the first row scalar of each name, `rows` apart, from `start` on.

    Raises
    ------
    AreaError
        If there are not so many.
    """
    needed = start + rows * len(names)
    if needed > config.vector_rows:
        raise AreaError(f"{what} must need at most {config.vector_rows} row scalars, not {needed} "
                        f"({len(names)} for each of {rows} rows)")
    return {name: start + i * rows for i, name in enumerate(names)}
