"""Cells with more bits than Amaranth's netlist numbers: rows of wide arrays, all lanes of them together."""

from typing import Any

__all__ = ["allow_wide_cells"]

_BITS = 24


def _from_cell(cls: Any, cell: int, bit: int) -> Any:
    assert 0 <= bit < 1 << _BITS
    assert cell > 0 or bit >= 2         # the first two of the top cell are constants
    return cls((cell << _BITS) | bit)


def _cell(net: int) -> int:
    assert net >= 2
    return net >> _BITS


def _bit(net: int) -> int:
    assert net >= 2
    return net & ((1 << _BITS) - 1)


def allow_wide_cells() -> None:
    """Let Amaranth (0.5.10) number 2²⁴ bits of a cell, not 2¹⁶, from here on: a net is the cell's number and the bit's in one.

    All inputs of a module are one cell. The numbers never leave the netlist, so what is emitted is the same. Must not be called
    while a design is converted, unless it was called before.
    """
    from amaranth.hdl._nir import Net

    for name, value in (("from_cell", classmethod(_from_cell)), ("cell", property(_cell)), ("bit", property(_bit))):
        setattr(Net, name, value)
