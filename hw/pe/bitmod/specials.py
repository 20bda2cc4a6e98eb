"""Register file of programmable special values."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.pe.bitmod.terms import SPECIAL_MAGNITUDE_WIDTH, special_layout

__all__ = ["SpecialValues"]

_LARGEST = (1 << SPECIAL_MAGNITUDE_WIDTH) - 1


class SpecialValues(wiring.Component):
    """Register file of special values: four, in units of one half, each of two terms at most.

    A value is written if its magnitude has one or two ones, so that two leading-one detectors find all of it; others leave the
    register as it was and set `rejected`. So ±2.5, ±3, ±5, ±6 and ±8 are legal, ±3.5 and ±7, which would need a subtracted term,
    are not. A value is there from the cycle after it was written.

    Parameters
    ----------
    initial : tuple of float
        Four values after reset; by default those of the paper's FP4.

    Members
    -------
    write : In(1), addr : In(2), value : In(signed(6))
        Register and value to write, in units of one half.
    values : Out(4 × `special_layout`)
    rejected : Out(1)
        A value that cannot be held was written since reset.

    Raises
    ------
    ConfigError
        If there are not four initial values that can be held.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025 (SV_reg, programmed once for a model). Order of the registers and the check: inferred.
    """

    def __init__(self, initial: tuple[float, ...] = (5.0, -5.0, 8.0, -8.0)):
        self._halves = [round(2 * value) for value in initial]
        exact = all(halves == 2 * value for halves, value in zip(self._halves, initial, strict=True))
        if len(initial) != 4 or not exact or any(abs(halves).bit_count() not in (1, 2) or abs(halves) > _LARGEST
                                                 for halves in self._halves):
            raise ConfigError(f"SpecialValues.initial must be four sums of one or two of 0.5, 1, 2, 4 and 8, not {initial!r}")
        super().__init__({
            "write": In(1),
            "addr": In(2),
            "value": In(signed(SPECIAL_MAGNITUDE_WIDTH + 1)),
            "values": Out(data.ArrayLayout(special_layout, 4)),
            "rejected": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        written = Signal(special_layout)
        fits = Signal()
        ones = Signal(range(SPECIAL_MAGNITUDE_WIDTH + 1))
        m.d.comb += [
            written.sign.eq(self.value[-1]),
            written.magnitude.eq(abs(self.value)),
            ones.eq(sum(written.magnitude)),
            fits.eq((ones == 1) | (ones == 2)),
        ]
        for index, halves in enumerate(self._halves):
            held = Signal(special_layout, name=f"special_{index}", init={"magnitude": abs(halves), "sign": halves < 0})
            with m.If(self.write & fits & (self.addr == index)):
                m.d.sync += held.eq(written)
            m.d.comb += self.values[index].eq(held)
        with m.If(self.write & ~fits):
            m.d.sync += self.rejected.eq(1)
        return m
