"""Dequantizer of scaled formats: code and scale → float32."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.scaled import ScaledDecoder, scaled_members
from hw.arith.float_round import FloatRound
from hw.arith.floating import float_layout
from hw.elements import FP32
from hw.families import ScaledFormat

__all__ = ["Dequantizer"]


class Dequantizer(wiring.Component):
    """Dequantizer: (element − zero point) · scale of each lane in float32, rounded once, to nearest, ties to even.

    Subnormal results are kept, what is too large becomes an infinity. A zero has the sign of the product: −0 counts as negative.
    NaN in element or scale, and Inf · 0, give the one quiet NaN, positive and without payload. The outer scale of a format is
    not applied. `latency` cycles with `enable` high, initiation interval 1; no reset.

    Parameters
    ----------
    fmt : ScaledFormat
    lanes : int
        Codes of one block a cycle, at least 1.
    programmable : bool
        Special values come from a port (`ElementDecoder`).

    Members
    -------
    enable : In(1)
        0 holds every register.
    codes, special, special_values, zero_point, scale
        Inputs of `ScaledDecoder`, each where that has it.
    o : Out(ArrayLayout(`float_layout(FP32)`, lanes))

    Attributes
    ----------
    latency : int
        Cycles from the inputs to `o`: 4, or 3 without a block scale.

    Raises
    ------
    ConfigError
        As `ScaledDecoder`.
    """

    def __init__(self, fmt: ScaledFormat, lanes: int = 1, *, programmable: bool = False):
        self._fmt, self._lanes, self._programmable = fmt, lanes, programmable
        members = {name: member for name, member in scaled_members(fmt, lanes, programmable).items() if member.flow is In}
        self._inputs = tuple(members)
        self.latency = 3 + (fmt.scale is not None)
        super().__init__({"enable": In(1), **members, "o": Out(data.ArrayLayout(float_layout(FP32), lanes))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.decoder = decoder = ScaledDecoder(self._fmt, self._lanes, programmable=self._programmable)
        m.d.comb += [getattr(decoder, name).eq(getattr(self, name)) for name in self._inputs]
        element, scale = decoder.element, decoder.scale_element

        # Stage 1: decode; magnitudes and signs apart.
        def register(name: str, value: Value) -> Signal:
            """Return a register behind `value`."""
            result = Signal(Value.cast(value).shape(), name=name, reset_less=True)
            with m.If(self.enable):
                m.d.sync += result.eq(value)
            return result

        zero = C(0, 1)
        scale_negative = decoder.scale_negative if scale else zero
        scale_nan = decoder.scale_nan if scale and scale.has_nan else zero
        scale_inf = decoder.scale_inf if scale and scale.has_inf else zero
        scale_exponents = []
        if scale:
            scale_zero = decoder.scale_significand == 0
            scale_magnitude = register("scale_magnitude", _magnitude(decoder.scale_significand, scale_negative))
            if scale.exponent_width:
                scale_exponents = [register("scale_exponent_1", decoder.scale_exponent)]
        for lane in range(self._lanes):
            significand, negative = decoder.significand[lane], decoder.negative[lane]
            nan = decoder.nan[lane] if element.has_nan else zero
            inf = decoder.inf[lane] if element.has_inf else zero
            undefined = (inf & scale_zero) | (scale_inf & (significand == 0)) if scale else zero
            flags = [register(f"{name}_1_{lane}", value) for name, value in (
                ("negative", negative ^ scale_negative), ("nan", nan | scale_nan | undefined), ("inf", inf | scale_inf))]
            magnitude = register(f"magnitude_{lane}", _magnitude(significand, negative))
            exponents = [*([register(f"exponent_{lane}", decoder.exponent[lane])] if element.exponent_width else []),
                         *scale_exponents]
            exponent = exponents[0] + exponents[1] if len(exponents) == 2 else exponents[0] if exponents else None

            # Stage 2, with a scale: multiply significands, add exponents.
            if scale:
                magnitude = register(f"product_{lane}", magnitude * scale_magnitude)
                exponent = None if exponent is None else register(f"exponent_sum_{lane}", exponent)
                flags = [register(f"{name}_2_{lane}", flag) for name, flag in zip(("negative", "nan", "inf"), flags, strict=True)]

            # Two more stages: round.
            to_float = FloatRound(width=len(magnitude), exponent_width=0 if exponent is None else len(exponent),
                               lsb=decoder.lsb + decoder.scale_lsb)
            m.submodules[f"to_float_{lane}"] = to_float
            m.d.comb += [to_float.enable.eq(self.enable), to_float.magnitude.eq(magnitude), self.o[lane].eq(to_float.o),
                         Cat(to_float.negative, to_float.nan, to_float.inf).eq(Cat(flags))]
            if exponent is not None:
                m.d.comb += to_float.exponent.eq(exponent)
        return m


def _magnitude(significand: Value, negative: Value) -> Value:
    """Return the magnitude of a signed significand, unsigned and as wide."""
    return Mux(negative, -significand, significand)[:len(significand)]
