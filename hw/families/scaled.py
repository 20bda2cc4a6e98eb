"""Formats of elements with scales, zero points and special values."""

from dataclasses import dataclass

from hw.elements import Element, FloatFormat, Integer, Specials
from hw.errors import ConfigError
from hw.families.base import Format
from hw.layout import PackedField, PackedWord

__all__ = ["ScaledFormat"]

SCALE_RULES = ("none", "absmax", "floor", "ceil", "range")
OUTER_SCALES = ("none", "row", "tensor")
TIES = ("even", "away", "down")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledFormat(Format):
    """value = (element − zero point) · scale · outer scale.

    Attributes
    ----------
    element : Element
        Of a code.
    scale : Element or None
        Of the stored block scale; None: no block scale.
    scale_rule : str
        "absmax": largest magnitude / largest level (integers that are not `symmetric`: the least that fits both ends);
        "floor": 2^(⌊log2 amax⌋ − ⌊log2 largest level⌋); "ceil": 2^⌈log2(amax / largest level)⌉;
        "range": (largest − smallest) / levels, zero included, with a zero point; "none": no scale at all.
    scale_limits : tuple of two float, or None
        The block scale is clipped to these before it is rounded into `scale` or, with a second level, divided by the row's.
    outer : str
        What multiplies every block scale, in float32: "none"; "row" (for each row, largest block scale / 127: a second level of
        INT8 scales; where `scale` is None, the only scale); "tensor" (amax / (largest level of the element · upper limit)).
    zero_point_bits : int
        Bits of the block's zero point (asymmetric formats), or 0.
    special_code : int
        Code that a special value replaces (where `specials`).
    specials : tuple of float
        Special values that a block chooses from; one needs no index.
    special_order : tuple of int
        Order in which they are tried; of equals, the first is kept. Empty: as listed.
    special_widens : bool
        The block scale makes room for a special value beyond the element's largest level; without, it ignores it.
    magnitudes_tried : tuple of float
        Levels that the largest magnitude may be scaled to, the best of which is kept (4over6); empty: the largest level.
    ties : str
        "even", "away" or "down" (towards the lower level).
    symmetric : bool
        Integers: the most negative code is not used.
    """

    element: Element
    scale: Element | None = None
    scale_rule: str = "absmax"
    scale_limits: tuple[float, float] | None = None
    outer: str = "none"
    zero_point_bits: int = 0
    special_code: int = 0
    specials: tuple[float, ...] = ()
    special_order: tuple[int, ...] = ()
    special_widens: bool = True
    magnitudes_tried: tuple[float, ...] = ()
    ties: str = "even"
    symmetric: bool = True

    def __post_init__(self) -> None:
        """Check that the scales go together, and special values with their codes."""
        Format.__post_init__(self)
        element, scale, rule = self.element, self.scale, self.scale_rule
        powers = isinstance(scale, FloatFormat) and scale.name == "float8_e8m0fnu"
        self._must("scale_rule", rule in SCALE_RULES, f"one of {', '.join(SCALE_RULES)}")
        self._must("outer", self.outer in OUTER_SCALES, f"one of {', '.join(OUTER_SCALES)}")
        self._must("ties", self.ties in TIES, f"one of {', '.join(TIES)}")
        self._must("element", rule != "none" or isinstance(element, FloatFormat), "a float where nothing scales it")
        self._must("scale", scale is None or rule != "none", "None where scale_rule is 'none'")
        self._must("scale", scale is not None or rule in ("none", "absmax"), f"given where scale_rule is {rule!r}")
        self._must("scale", powers == (rule in ("floor", "ceil")),
                   "float8_e8m0fnu where scale_rule is 'floor' or 'ceil', and nowhere else")
        self._must("scale", scale is None or scale.name == "uint8" if self.outer == "row" else not isinstance(scale, Integer),
                   "uint8 or None where outer is 'row', else a float or None")
        self._must("scale_limits", self.outer != "tensor" or self.scale_limits is not None, "given where outer is 'tensor'")
        self._must("outer", self.outer == "none" if powers or rule == "none" else scale is not None or self.outer == "row",
                   "'row' where that is the only scale, and 'none' with powers of two or without scales")
        self._must("block", (self.block > 0) == (scale is not None), "positive with a block scale, and 0 without")
        self._must("special_code", 0 <= self.special_code < 1 << element.bits, f"a code of {element.name}")
        self._must("special_order", not self.special_order or sorted(self.special_order) == list(range(len(self.specials))),
                   f"empty or the indices of {len(self.specials)} special values")

    def _must(self, field: str, holds: bool, rule: str) -> None:
        if not holds:
            value = getattr(self, field)
            raise ConfigError(f"ScaledFormat.{field} must be {rule}, not {getattr(value, 'name', value)!r}")

    @property
    def special_bits(self) -> int:
        """Bits of the index of a block's special value."""
        return max(0, len(self.specials) - 1).bit_length()

    @property
    def word(self) -> PackedWord:
        """Codes, scale, zero point, index of the special value."""
        fields = [PackedField(name="codes", width=self.element.bits, count=max(1, self.block), doc=self.element.doc)]
        if self.scale is not None:
            fields.append(PackedField(name="scale", width=self.scale.bits, doc=f"block scale: {self.scale.doc}"))
        if self.zero_point_bits:
            fields.append(PackedField(name="zero_point", width=self.zero_point_bits, doc="code that stands for zero"))
        if self.special_bits:
            listed = ", ".join(f"{value:+g}" for value in self.specials)
            fields.append(PackedField(name="special", width=self.special_bits,
                                      doc=f"what code {self.special_code:#x} stands for: {listed}"))
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Outer scale."""
        return ("outer_scale",) if self.outer != "none" else ()

    @property
    def takes_nonfinite(self) -> bool:
        """Plain casts to elements with NaN and infinities."""
        return self.scale_rule == "none" and isinstance(self.element, FloatFormat) and self.element.specials is Specials.IEEE
