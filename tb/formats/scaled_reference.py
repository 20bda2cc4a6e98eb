"""Quantizers of the scaled formats, one block at a time in plain Python: slow, and straight from the papers' text.

Nothing here is shared with `sw.formats` or `hw`: tables are from `code_tables`, rounding to float32, float16 and bfloat16 is by
`struct` and integers. Each function returns a list of `Attempt`s in the order in which the paper tries them; those of a format
without a choice have one.
"""

import math
import struct
from dataclasses import dataclass

from tb.formats import code_tables as tables

__all__ = ["Attempt", "bf16", "chosen", "f16", "f32", "integer_block", "nearest", "reference", "stored", "tensor_outer", "usable"]


def f32(value: float) -> float:
    """Round to float32."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def f16(value: float) -> float:
    """Round to float16."""
    return struct.unpack("<e", struct.pack("<e", value))[0]


def bf16(value: float) -> float:
    """Round a float32 to bfloat16."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    low, high = bits & 0xFFFF, bits >> 16
    high += low > 0x8000 or (low == 0x8000 and high & 1)
    return struct.unpack("<f", struct.pack("<I", high << 16))[0]


LEAST = {f16: 2.0**-24, bf16: 2.0**-133, f32: 2.0**-149}


@dataclass
class Attempt:
    """A block coded one way: codes, stored scale as a value, index or zero point, error, and values before any outer scale."""

    codes: list[int]
    scale: float
    extra: int = 0
    error: float = 0.0
    values: list[float] = None


def nearest(x: float, table: dict[int, float], ties: str) -> int:
    """Return the code of the value nearest to x; `table` is code → value."""
    best = min(abs(x - value) for value in table.values())
    near = sorted((value, code) for code, value in table.items() if abs(x - value) == best)
    if len({value for value, _ in near}) == 1:
        return min(code for _, code in near)
    (low, low_code), (high, high_code) = near[0], near[-1]
    if ties == "away":
        return high_code if abs(high) > abs(low) else low_code
    if ties == "even" and high_code % 2 == 0 and low_code % 2 == 1:
        return high_code
    return low_code


def usable(values: list[float], without: int | None = None) -> dict[int, float]:
    """Return code → value of what can be coded: no NaN, no infinity, of the two zeros the first."""
    found = {}
    for code, value in enumerate(values):
        if math.isfinite(value) and code != without and value not in found.values():
            found[code] = value
    return found


def stored(scale: float, used: bool, kind) -> float:
    """Return a scale as stored in a float type."""
    return max(kind(scale), LEAST[kind]) if used else 1.0


def integer_block(w, bits, kind, ties="even", full=False):
    """Symmetric integers: amax / (2^(b−1) − 1)."""
    largest = 2**(bits - 1) - 1
    if full:
        scale = max(f32(max(w) / largest), f32(min(w) / -(largest + 1)))
    else:
        scale = f32(max(map(abs, w)) / largest)
    scale = stored(scale, any(w), kind)
    low = -largest - full
    codes, values = [], []
    for value in w:
        q = min(max(round_by(f32(value / scale), ties), low), largest)
        codes.append(q % 2**bits)
        values.append(q * scale)
    return [Attempt(codes, scale, values=values)]


def round_by(x: float, ties: str) -> int:
    """Round to an integer."""
    low = math.floor(x)
    rest = x - low                                      # float64: exact for a float32 that is not tiny
    if rest == 0.5:
        return {"even": low + low % 2, "down": low, "away": low + (x > 0)}[ties]
    return low + (rest > 0.5)


def range_block(w, bits, kind, ties="even"):
    """Integers with a zero point: (max − min) / (2^b − 1), zero included."""
    largest = 2**bits - 1
    low, high = min(0.0, *w), max(0.0, *w)
    scale = stored(f32(f32(high - low) / largest), high > low, kind)
    zero = min(max(round_by(f32(-low / scale), ties), 0), largest)
    codes = [min(max(round_by(f32(value / scale), ties) + zero, 0), largest) for value in w]
    return [Attempt(codes, scale, zero, values=[(q - zero) * scale for q in codes])]


def table_block(w, values, kind, special=None, special_code=8):
    """A table of levels, divided by the largest positive one; ties to the lower."""
    table = usable(values, None if special is None else special_code)
    if special is not None:
        table[special_code] = special
    scale = stored(f32(max(map(abs, w)) / max(table.values())), any(w), kind)
    codes = [nearest(f32(value / scale), table, "down") for value in w]
    return [Attempt(codes, scale, values=[table[q] * scale for q in codes])]


def mx_block(w, values, rule="floor", ties="even", full=False):
    """OCP MX: a power of two for the block; exponents from the text of the number in base 16, exactly."""
    table = usable(values)
    if not full and -2 in table.values() and max(table.values()) < 2:           # two's complement: as large as the largest
        table = {code: value for code, value in table.items() if value != -2}
    largest, amax = max(table.values()), max(map(abs, w))
    exponent = -127
    if amax:
        if rule == "floor":
            exponent = floor_log2(amax) - floor_log2(largest)
        else:
            exponent = next(e for e in range(-400, 400) if amax <= largest * 2.0**e)
    exponent = min(max(exponent, -127), 127)
    codes = [nearest(max(min(value / 2.0**exponent, 1e30), -1e30), table, ties) for value in w]
    return [Attempt(codes, 2.0**exponent, values=[table[q] * 2.0**exponent for q in codes])]


def floor_log2(value: float) -> int:
    """Return ⌊log2 value⌋ from the hexadecimal text of the number, whose digit before the point is 1."""
    return int(float(value).hex().split("p")[1])


def nvfp4_block(w, outer, reaches):
    """Blocks of E2M1 with an E4M3 scale under a tensor's."""
    scales, table = usable(tables.E4M3_UNSIGNED), usable(tables.E2M1)
    amax = max(map(abs, w))
    attempts = []
    for reach in reaches:
        wanted = f32(f32(amax / outer) / reach)
        scale = scales[nearest(min(max(wanted, 2.0**-9), 448.0), scales, "even")]
        codes = [nearest(f32(value / f32(scale * outer)), table, "even") for value in w]
        attempts.append(_attempt(w, codes, scale, 0, table, outer))
    return attempts


def bitmod_block(w, bits):
    """Algorithm 1 of BitMoD: four special values, scale clamped to [1e-5, 1e4], ties to the lower level; unrounded scales."""
    values = tables.E2M1 if bits == 4 else tables.FP3
    attempts = []
    for index, special in enumerate(tables.BITMOD_SPECIALS[bits]):
        table = usable(values, 1 << (bits - 1)) | {1 << (bits - 1): special}
        scale = f32(max(map(abs, w)) / max(map(abs, table.values())))
        scale = min(max(scale, f32(1e-5)), 1e4)
        codes = [nearest(f32(value / scale), table, "down") for value in w]
        attempts.append(_attempt(w, codes, scale, index, table, 1.0))
    return attempts


def razer_block(w, outer, second):
    """RaZeR weights: E3M3 scales, special values in the order +5, −5, +8, −8 (or ±7: the second pair); bit 1 of the index is the
    sign, bit 0 says which pair."""
    scales, attempts = usable(tables.E3M3), []
    for index, special in ((0b00, 5), (0b10, -5), (0b01, second), (0b11, -second)):
        table = usable(tables.E2M1, 8) | {8: special}
        wanted = f32(f32(max(map(abs, w)) / outer) / max(6, abs(special)))
        scale = scales[nearest(min(max(wanted, 2.0**-5), 28.0), scales, "even")]
        codes = [nearest(f32(value / f32(scale * outer)), table, "down") for value in w]
        attempts.append(_attempt(w, codes, scale, index, table, outer))
    return attempts


def razer_activation_block(w, outer):
    """RaZeR activations: the scale ignores the special value, ±5."""
    scales, attempts = usable(tables.E4M3_UNSIGNED), []
    wanted = f32(f32(max(map(abs, w)) / outer) / 6)
    scale = scales[nearest(min(max(wanted, 2.0**-9), 448.0), scales, "even")]
    for index, special in enumerate((5, -5)):
        table = usable(tables.E2M1, 8) | {8: special}
        codes = [nearest(f32(value / f32(scale * outer)), table, "down") for value in w]
        attempts.append(_attempt(w, codes, scale, index, table, outer))
    return attempts


def _attempt(w, codes, scale, index, table, outer):
    values = [table[q] * scale for q in codes]
    error = math.fsum((q * outer - value) ** 2 for q, value in zip(values, w, strict=True))
    return Attempt(codes, scale, index, error, values)


def tensor_outer(matrix, largest_scale):
    """Return the float32 scale of a tensor of E2M1 blocks."""
    amax = max(abs(value) for row in matrix for value in row)
    return max(f32(amax / (6 * largest_scale)), 2.0**-149) if amax else 1.0


def chosen(attempts: list[Attempt]) -> int:
    """Return the attempt that a strictly-smaller search keeps."""
    return min(range(len(attempts)), key=lambda i: (attempts[i].error, i))


KINDS = {"": f16, "fp16": f16, "bf16": bf16, "fp32": f32, "int8": f32}
MX = {"mxfp8-e4m3": tables.E4M3, "mxfp8-e5m2": tables.E5M2, "mxfp6-e3m2": tables.E3M2, "mxfp6-e2m3": tables.E2M3,
      "mxfp4": tables.E2M1, "mxint8": tables.fixed(8, 6), "mxint4": tables.fixed(4, 2)}
TABLES = {"nf4": (tables.NF4, None), "sf4": (tables.SF4, None), "fp4": (tables.E2M1, None), "fp3": (tables.FP3, None),
          "fp4-sr": (tables.E2M1, 8.0), "fp4-sp": (tables.E2M1, 5.0)}
RAZER = {"razer": 8, "razer-sv7": 7}


def reference(family: str, size: int, options: tuple[str, ...], matrix: list[list[float]]) -> list[list[list[Attempt]]]:
    """Return the attempts of every block of every row, and see to the options."""
    scale = next((option for option in options if option in KINDS), "")
    kind = KINDS[scale]
    ties = next((option for option in options if option in ("even", "away", "down")), "even")
    outer = tensor_outer(matrix, 28 if family in RAZER else 448)
    blocks = []
    for row in matrix:
        pieces = [row[low:low + size] for low in range(0, len(row), size)]
        blocks.append([_block(family, piece, kind, ties, options, outer) for piece in pieces])
    return blocks


def _block(family, w, kind, ties, options, outer):
    if family.startswith("int"):
        bits = int(family[3:].split("-")[0])
        if family.endswith("asym"):
            return range_block(w, bits, kind, ties)
        return integer_block(w, bits, kind, ties, "full" in options)
    if family == "p3-kv":
        return range_block(w, 4, kind)
    if family in TABLES:
        values, special = TABLES[family]
        values = [f32(value) for value in values]
        return table_block(w, values, kind, special)
    if family in MX:
        return mx_block(w, MX[family], "ceil" if "ceil" in options else "floor", ties, "full" in options)
    if family.startswith("bitmod"):
        return bitmod_block(w, int(family[-1]))
    if family.startswith("nvfp4"):
        return nvfp4_block(w, outer, (6, 4) if family.endswith("4over6") else (6,))
    return razer_block(w, outer, RAZER[family]) if family in RAZER else razer_activation_block(w, outer)
