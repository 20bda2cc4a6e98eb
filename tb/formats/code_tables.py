"""Code tables written down from the papers, apart from `hw.elements`: what every code of an element stands for."""

import math

__all__ = [
    "BITMOD_SPECIALS", "E2M1", "E2M3", "E3M2", "E3M3", "E4M3", "E4M3_UNSIGNED", "E5M2", "E8M0", "FP3", "NF4", "S0E4M4", "SF4",
    "TABLES", "fixed", "integers",
]

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]
FP3 = [0, 1, 2, 4, 0, -1, -2, -4]
BITMOD_SPECIALS = {3: [3, -3, 6, -6], 4: [5, -5, 8, -8]}
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]
SF4 = [
    -1.0, -0.627781, -0.454736, -0.334331, -0.237434, -0.152899, -0.074982, 0.0, 0.065513, 0.132965, 0.204661, 0.283835, 0.375805,
    0.491076, 0.656781, 1.0,
]


def _small_float(exponent_bits: int, mantissa_bits: int, bias: int, signed: bool = True) -> list[float]:
    """Return values of sign, exponent, fraction with subnormals and nothing special."""
    values = []
    for exponent in range(1 << exponent_bits):
        for fraction in range(1 << mantissa_bits):
            part = fraction / (1 << mantissa_bits)
            values.append(math.ldexp(part, 1 - bias) if exponent == 0 else math.ldexp(1 + part, exponent - bias))
    return values + [-value for value in values] if signed else values


E3M3 = _small_float(3, 3, 3, signed=False)
E2M3 = _small_float(2, 3, 1)
E3M2 = _small_float(3, 2, 3)
E4M3 = [math.nan if code & 127 == 127 else value for code, value in enumerate(_small_float(4, 3, 7))]
E4M3_UNSIGNED = E4M3[:128]
E5M2 = [value if code & 127 < 124 else math.copysign(math.inf, 127.5 - code) if code & 127 == 124 else math.nan
        for code, value in enumerate(_small_float(5, 2, 15))]
E8M0 = [2.0**(code - 127) for code in range(255)] + [math.nan]
# P3-LLM gives S0E4M4 by cases: e = 0: m · 2^−18, else (16 + m) · 2^(e − 19).
S0E4M4 = [m * 2.0**-18 if e == 0 else (16 + m) * 2.0**(e - 19) for e in range(16) for m in range(16)]


def integers(bits: int) -> list[int]:
    """Return two's complement integers in order of their codes."""
    half = 1 << (bits - 1)
    return [*range(half), *range(-half, 0)]


def fixed(bits: int, fraction_bits: int) -> list[float]:
    """Return two's complement fixed-point values."""
    return [value / (1 << fraction_bits) for value in integers(bits)]


TABLES = {
    "float4_e2m1fn": E2M1, "float3_e2m0": FP3, "nf4": NF4, "sf4": SF4, "float6_e3m3u": E3M3, "float6_e2m3fn": E2M3,
    "float6_e3m2fn": E3M2, "float8_e4m3fn": E4M3, "float7_e4m3u": E4M3_UNSIGNED, "float8_e5m2": E5M2, "float8_e8m0fnu": E8M0,
    "float8_s0e4m4": S0E4M4, "mxint8": fixed(8, 6), "mxint4": fixed(4, 2),
    **{f"int{bits}": integers(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 16)},
    **{f"uint{bits}": list(range(1 << bits)) for bits in (2, 3, 4, 5, 6, 7, 8, 16)},
}
