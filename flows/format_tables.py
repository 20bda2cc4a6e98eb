"""Number formats in words and tables: what `heddle formats` and `docs/numerics.md` both say."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hw.elements import Codebook, Element, FloatFormat, Integer, Specials
from hw.families import (
    ClusteredFormat,
    ColumnFormat,
    Format,
    HuffmanFormat,
    OutlierFormat,
    ScaledFormat,
    SeriesFormat,
    SparseFormat,
    TernaryFormat,
)
from hw.formats import FORMATS, OPTIONS, format_named
from hw.layout import PackedField, PackedWord

__all__ = [
    "SECTIONS", "Section", "bit_ranges", "bits_labels", "code_rows", "content_label", "element_facts", "element_label",
    "element_of", "equation", "number", "options_of", "outer_label", "rules", "scale_label", "sections",
]


@dataclass(frozen=True, slots=True)
class Section:
    """Formats that are explained together; a format belongs to the first section that holds it."""

    title: str
    holds: Callable[[Format], bool]


def _scaled(condition: Callable[[ScaledFormat], bool]) -> Callable[[Format], bool]:
    return lambda fmt: isinstance(fmt, ScaledFormat) and condition(fmt)


def _is(kind: type[Format]) -> Callable[[Format], bool]:
    return lambda fmt: isinstance(fmt, kind)


SECTIONS = (
    Section("Integers with a zero point", _scaled(lambda fmt: fmt.zero_point_bits > 0)),
    Section("Microscaling (MX)", _scaled(lambda fmt: fmt.scale is not None and fmt.scale.name == "float8_e8m0fnu")),
    Section("Integers", _scaled(lambda fmt: isinstance(fmt.element, Integer))),
    Section("Floats without blocks", _scaled(lambda fmt: not fmt.block)),
    Section("NVFP4", _scaled(lambda fmt: fmt.outer == "tensor" and not fmt.specials)),
    Section("RaZeR", _scaled(lambda fmt: fmt.outer == "tensor")),
    Section("BitMoD", _scaled(lambda fmt: len(fmt.specials) > 1)),
    Section("Levels with a float scale", _is(ScaledFormat)),
    Section("Bit columns (BBS)", _is(ColumnFormat)),
    Section("Structured sparsity (N:M, HSS)", _is(SparseFormat)),
    Section("Sums of sparse terms (TASD)", _is(SeriesFormat)),
    Section("Outliers and inliers (SDQ)", _is(OutlierFormat)),
    Section("Ternary (Sherry)", _is(TernaryFormat)),
    Section("Fitted levels (KVQuant)", _is(ClusteredFormat)),
    Section("Without loss (DFloat11)", _is(HuffmanFormat)),
)
"""In the order in which a format is looked up; `sections` lists them in the order of the formats."""


_OTHER = "Other families"
"""Of packages that add families of their own."""


def sections() -> dict[str, list[Format]]:
    """Return title → its formats, both in the order of `FORMATS`."""
    found: dict[str, list[Format]] = {}
    for fmt in FORMATS.values():
        title = next((section.title for section in SECTIONS if section.holds(fmt)), _OTHER)
        found.setdefault(title, []).append(fmt)
    return found


def number(value: float) -> str:
    """Return a value of a code as text: 9 digits, or a multiple of a power of two; NaN and infinities by name."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '−'}Inf"
    fraction, exponent = math.frexp(abs(value))
    if value and not -8 < exponent < 30:      # 3·2^−9 says more than 0.005859375
        odd = int(math.ldexp(fraction, 53))
        shift = (odd & -odd).bit_length() - 1
        odd, power = odd >> shift, exponent - 53 + shift
        if odd < 32:
            return f"{'−' * (value < 0)}{f'{odd}·' if odd > 1 else ''}2^{power}".replace("-", "−")
    return f"{value:.9g}".replace("-", "−")


def element_of(fmt: Format) -> Element | None:
    """Return the element of a format's codes, or None where its codes are none of an element."""
    return fmt.element if isinstance(fmt, ScaledFormat | OutlierFormat) else None


def element_label(element: Element | None) -> str:
    """Return a short name for a column: `e2m1`, `int4`, `fp16`."""
    if element is None:
        return "–"
    if isinstance(element, FloatFormat):
        short = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
        unsigned = not element.signed and element.mantissa_bits > 0
        return short.get(element.name) or "u" * unsigned + f"e{element.exponent_bits}m{element.mantissa_bits}"
    return element.name


_CONTENT: dict[type[Format], str] = {
    ColumnFormat: "int8", SparseFormat: "int8", SeriesFormat: "int8", OutlierFormat: "int8, e2m1", TernaryFormat: "−1, 0, +1",
    HuffmanFormat: "bf16",
}


def content_label(fmt: Format) -> str:
    """Return what a value is stored as, for a column."""
    if isinstance(fmt, ClusteredFormat):
        return f"{1 << fmt.code_bits} levels"
    return _CONTENT.get(type(fmt)) or element_label(element_of(fmt))


def outer_label(fmt: Format) -> str:
    """Return what has a float32 scale beside the blocks: "row", "tensor", or nothing."""
    if isinstance(fmt, ScaledFormat):
        return "" if fmt.outer == "none" else fmt.outer
    return "row" if fmt.side == ("row_scale",) else ""


def scale_label(fmt: Format) -> str:
    """Return the scales of a format for a column: the element of a block's scale, then what has a float32 scale."""
    inner = ""
    if isinstance(fmt, ScaledFormat):
        inner = element_label(fmt.scale) if fmt.scale is not None else ""
    elif isinstance(fmt, OutlierFormat | ClusteredFormat):
        inner = "2 × fp16"
    elif isinstance(fmt, TernaryFormat):
        inner = "fp16"
    return ", ".join(part for part in (inner, outer_label(fmt)) if part) or "–"


def bits_labels(fmt: Format) -> tuple[str, str]:
    """Return bits of a value, and bits stored, for columns; with a + where the data decide how many more there are."""
    more = "+" if isinstance(fmt, HuffmanFormat) else ""
    return f"{fmt.bits_per_weight:.4g}{more}", f"{fmt.stored_bits_per_weight:.4g}{more}"


def bit_ranges(word: PackedWord) -> list[tuple[str, PackedField]]:
    """Return the bit range of each field, such as `511:0`, from bit 0 up."""
    return [(f"{low + field.bits - 1}:{low}" if field.bits > 1 else f"{low}", field)
            for low, field in zip(word.offsets.values(), word.fields, strict=True)]


def code_rows(element: Element) -> list[tuple[str, str]]:
    """Return rows (codes, what they stand for) that list every value of an element of up to 8 bits.

    Floats have a row for each exponent, and codes with the sign bit only negate: they are left out. Integers, powers of two and
    wider elements have no rows: `element_facts` says it all.
    """
    if isinstance(element, Codebook):
        return [(_codes(low, low + 3), ", ".join(number(value) for value in element.levels[low:low + 4]))
                for low in range(0, len(element.levels), 4)]
    if not isinstance(element, FloatFormat) or element.bits > 8 or not element.subnormals:
        return []
    if element.bits <= 4:
        values = element.values[:1 << (element.bits - element.signed)]
        return [(_codes(0, len(values) - 1), ", ".join(number(value) for value in values))]
    across = 1 << element.mantissa_bits
    return [(_codes(low, low + across - 1), _exponent_row(element.values[low:low + across]))
            for low in range(0, 1 << (element.bits - element.signed), across)]


def _codes(low: int, high: int) -> str:
    return f"{low:#04x}…{high:#04x}"


def _exponent_row(values: tuple[float, ...]) -> str:
    """Return the values of one exponent: first, step, last, and what is none of a number."""
    finite = [value for value in values if math.isfinite(value)]
    special = [number(value) for value in values if not math.isfinite(value)]
    parts = [f"{number(finite[0])} to {number(finite[-1])} by {number(finite[1] - finite[0])}"] if finite else []
    return ", then ".join([*parts, ", ".join(dict.fromkeys(special))] if special else parts)


def element_facts(element: Element) -> str:
    """Return in one sentence what the codes of an element mean."""
    if isinstance(element, Integer):
        point = f" · 2^−{element.fraction_bits}" if element.fraction_bits else ""
        kind = "two's complement" if element.signed else "unsigned"
        return f"{kind}, {number(element.minimum)} to {element.maximum}{point}"
    if isinstance(element, Codebook):
        return f"a table of {len(element.levels)} levels"
    assert isinstance(element, FloatFormat)
    if not element.subnormals:
        return f"2^(code − {element.bias}); all ones is NaN"
    parts = ["1 sign bit" if element.signed else "no sign", f"{element.exponent_bits} exponent bits with bias {element.bias}",
             f"{element.mantissa_bits} fraction bits"]
    largest = (2.0 - 2.0**-23) * 2.0**127 if element.bits > 16 else element.limits[1]
    smallest = math.ldexp(1.0, 1 - element.bias - element.mantissa_bits)
    parts.append(f"largest {number(largest)}, smallest {number(smallest)}")
    parts.append({Specials.IEEE: "infinities and NaN", Specials.NAN: "NaN is all ones below the sign", Specials.NONE:
                  "every code is finite"}[element.specials])
    return ", ".join(parts)


def equation(fmt: Format) -> str:
    """Return the equation of a value."""
    if isinstance(fmt, ScaledFormat):
        first = "(code − zero_point)" if fmt.zero_point_bits else "code" if isinstance(fmt.element, Integer) else "level(code)"
        return " · ".join([f"value = {first}", *["scale"] * (fmt.scale is not None), *["outer_scale"] * (fmt.outer != "none")])
    return _EQUATIONS.get(type(fmt)) or (type(fmt).__doc__ or fmt.doc).split("\n")[0]


_EQUATIONS: dict[type[Format], str] = {
    ColumnFormat: "value = int8(columns, constant) · row_scale",
    SparseFormat: "value = int8 · row_scale where a coordinate points, else 0",
    SeriesFormat: "value = (Σ over terms of int8 where a coordinate points) · row_scale",
    OutlierFormat: "value = int8 · outlier_scale, or e2m1 · inlier_scale, or 0",
    TernaryFormat: "value = {−1, 0, +1} · scale",
    ClusteredFormat: "value = table[code] · half_range + middle; or the float16 stored apart",
    HuffmanFormat: "value = (−1)^sign · 1.fraction · 2^(exponent − 127), as bfloat16",
}


def rules(fmt: ScaledFormat) -> list[str]:
    """Return how a `ScaledFormat` rounds: scale, special values, zero point, ties."""
    found = [_absmax(fmt) if fmt.scale_rule == "absmax" else {
        "none": "no scale: a value is rounded as it is",
        "floor": "scale = 2^(⌊log2 amax⌋ − ⌊log2 largest level⌋); what lies above is clipped to the largest level",
        "ceil": "scale = 2^⌈log2(amax / largest level)⌉: nothing is clipped",
        "range": "scale = (max − min) / largest code, 0 counted in; zero_point = round(−min / scale)",
    }[fmt.scale_rule]]
    if fmt.scale_limits:
        low, high = fmt.scale_limits
        relative = ", relative to the outer scale," if fmt.outer == "tensor" else ""
        found.append(f"the block scale{relative} is kept between {number(low)} and {number(high)}")
    if fmt.outer != "none":
        found.append({"row": "outer scale: float32, one a row", "tensor": "outer scale: float32, one a tensor"}[fmt.outer]
                     + (", largest block scale of the row / 127" if fmt.outer == "row" and fmt.scale is not None else
                        ", amax / (largest level · largest scale)" if fmt.outer == "tensor" else ""))
    if fmt.specials:
        listed = ", ".join(f"{'+' if value > 0 else '−'}{abs(value):g}" for value in fmt.specials)
        choice = " (the block takes the one that errs least)" if len(fmt.specials) > 1 else ""
        found.append(f"code {fmt.special_code:#x} stands for {listed}{choice}")
    if fmt.magnitudes_tried:
        found.append("amax is scaled to " + " or ".join(f"{value:g}" for value in fmt.magnitudes_tried)
                     + ", whichever errs less")
    ties = {"even": "ties to even", "away": "ties away from zero", "down": "ties to the lower level"}[fmt.ties]
    found.append(f"to the nearest level, {ties}")
    if isinstance(fmt.element, Integer) and fmt.element.signed:
        found.append("the most negative code is not used" if fmt.symmetric else "the most negative code is used")
    return found


def _absmax(fmt: ScaledFormat) -> str:
    """Return how the largest magnitude makes the scale."""
    if isinstance(fmt.element, Integer) and not fmt.symmetric:
        return "scale = the least at which both ends of the block fit"
    widening = fmt.specials if fmt.special_widens else ()
    beyond = [abs(value) for value in widening if abs(value) > fmt.element.limits[1]]
    if not beyond:
        return "scale = amax / largest level"
    if len(fmt.specials) == 1:
        return f"scale = amax / {beyond[0]:g}, the special value"
    return f"scale = amax / largest level, or / {max(beyond):g} with the special value of that magnitude"


def options_of(fmt: Format) -> list[str]:
    """Return the options that a name of this format may carry."""
    from hw.errors import ConfigError

    found = []
    for option in OPTIONS:
        try:
            format_named(f"{fmt.name}-{option}")
        except ConfigError:
            continue
        found.append(option)
    return found
