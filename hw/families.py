"""Families of number formats as data: elements in blocks, with scales, special values, patterns and codes.

A family is a class; its fields are what the literature varies. `hw.formats` has the entries. The numpy codec (`sw.formats`), the
packer (`sw.layout`) and the hardware decoder (`hw.arith.decode`) of a family serve every entry of it.
"""

import math
from dataclasses import dataclass

from hw.elements import Element
from hw.errors import ConfigError
from hw.layout import PackedField, PackedWord

__all__ = [
    "ClusteredFormat", "ColumnFormat", "Format", "HuffmanFormat", "OutlierFormat", "ScaledFormat", "SeriesFormat", "SparseFormat",
    "TernaryFormat",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """What all formats share.

    Attributes
    ----------
    family : str
        First part of the name.
    block : int
        Values of one packed block along the reduction axis; 0: blocks do not exist, a value is stored by itself.
    block_letter : str
        "g" (group) or "b" (block) where the size is part of the name, else empty.
    options : tuple of str
        Options in the name that changed a field.
    doc, source : str
        One line each for tables; where it comes from.
    """

    family: str
    block: int = 0
    block_letter: str = ""
    options: tuple[str, ...] = ()
    doc: str
    source: str

    def __post_init__(self) -> None:
        """Check the block size."""
        if not isinstance(self.block, int) or not 0 <= self.block <= 1 << 16:
            raise ConfigError(f"{type(self).__name__}.block must be an integer between 0 and 65536, not {self.block!r}")

    @property
    def name(self) -> str:
        """Canonical name, which `format_named` reads."""
        size = f"-{self.block_letter}{self.block}" if self.block_letter and self.block else ""
        return "-".join((self.family + size, *self.options))

    @property
    def word(self) -> PackedWord:
        """Fields of one packed block."""
        raise AttributeError("word")

    @property
    def side(self) -> tuple[str, ...]:
        """Names of what is stored beside the blocks, for each row or once for a tensor."""
        return ()

    @property
    def bits_per_weight(self) -> float:
        """Bits of a value with its share of the block's metadata; what `side` names is not in it."""
        return self.word.bits / max(1, self.block)

    @property
    def stored_bits_per_weight(self) -> float:
        """The same with the padding of each stored block to whole bytes; values without a block lie next to each other."""
        return 8 * self.word.bytes / self.block if self.block else float(self.word.bits)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnFormat(Format):
    """BBS: int8 weights (one float32 scale a row) whose low bit columns are replaced by a constant of the group.

    Attributes
    ----------
    pruned : int
        Columns not stored, redundant ones below the sign included.
    method : str
        "average" (rounded averaging of the low columns) or "shift" (zero-point shifting).
    constant_bits : int
        Bits of the constant.
    """

    pruned: int
    method: str
    constant_bits: int = 6

    def __post_init__(self) -> None:
        """Check the sizes: a column is one field, and what is pruned must leave a sign and a bit."""
        Format.__post_init__(self)
        for field, low, high in (("block", 1, 32), ("pruned", 1, 6), ("constant_bits", 1, 6)):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"ColumnFormat.{field} must be an integer between {low} and {high}, not {value!r}")
        if self.method not in ("average", "shift"):
            raise ConfigError(f"ColumnFormat.method must be 'average' or 'shift', not {self.method!r}")
        if self.method == "average" and self.constant_bits < self.pruned:
            raise ConfigError(f"ColumnFormat.constant_bits must be at least {self.pruned} (the columns that the mean replaces), "
                              f"not {self.constant_bits}")

    @property
    def word(self) -> PackedWord:
        """Stored bit columns, highest significance first; redundant columns; constant."""
        return PackedWord((
            PackedField(name="columns", width=self.block, count=8 - self.pruned,
                        doc="bit columns, the most significant first; bit i of a column is of weight i"),
            PackedField(name="redundant", width=2, doc="columns below the sign that repeat it and are not stored"),
            PackedField(name="constant", width=self.constant_bits,
                        doc="value of the low columns (average: unsigned; shift: two's complement, to be subtracted)")))

    @property
    def side(self) -> tuple[str, ...]:
        """Scale of each row."""
        return ("row_scale",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseFormat(Format):
    """Hierarchical structured sparsity over int8 (one float32 scale a row): G1:H1 blocks, G0:H0 values in each.

    A plain N:M pattern is one block (G1:H1 = `blocks`:`blocks`) of `blocks` groups: 1 ≤ N ≤ M.

    Attributes
    ----------
    outer_keep, outer_of : int
        G1 of H1 consecutive blocks are kept.
    inner_keep, inner_of : int
        G0 of H0 consecutive values of a kept block are kept.
    outer_bits, inner_bits : int
        Width of a block coordinate (0: every block is kept, no coordinate) and of a value coordinate.
    """

    outer_keep: int
    outer_of: int
    inner_keep: int
    inner_of: int
    outer_bits: int
    inner_bits: int

    def __post_init__(self) -> None:
        """Check that the pattern fits its block, and the coordinates their bits."""
        Format.__post_init__(self)
        for rank in ("outer", "inner"):
            keep, of, bits = (getattr(self, f"{rank}_{part}") for part in ("keep", "of", "bits"))
            if not 1 <= keep <= of:
                raise ConfigError(f"SparseFormat.{rank}_keep must be between 1 and {of} ({rank}_of), not {keep!r}")
            needed = 0 if rank == "outer" and keep == of and not bits else max(1, (of - 1).bit_length())
            if bits < needed:
                raise ConfigError(f"SparseFormat.{rank}_bits must be at least {needed}, not {bits!r}: it counts to {of - 1}")
        if self.block != self.outer_of * self.inner_of:
            raise ConfigError(f"SparseFormat.block must be outer_of·inner_of = {self.outer_of * self.inner_of}, not {self.block}")

    @property
    def word(self) -> PackedWord:
        """Values in order of (block, element), block coordinates, element coordinates."""
        kept = self.outer_keep * self.inner_keep
        fields = [PackedField(name="values", width=8, count=kept, doc="int8, in order of position; unused slots are 0")]
        if self.outer_bits:
            fields.append(PackedField(name="outer", width=self.outer_bits, count=self.outer_keep,
                                      doc="which block, strictly increasing"))
        fields.append(PackedField(name="inner", width=self.inner_bits, count=kept,
                                  doc="which value of its block, strictly increasing in the block"))
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Scale of each row."""
        return ("row_scale",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesFormat(Format):
    """TASD: int8 (one float32 scale a row) as a sum of N:M structured terms, extracted greedily.

    Attributes
    ----------
    terms : tuple of (int, int)
        (N, M) of each term, in order of extraction; every M divides `block`.
    """

    terms: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Check that every term is a pattern, and that the block is whole groups of it."""
        Format.__post_init__(self)
        if not self.terms:
            raise ConfigError("SeriesFormat.terms must be at least one (N, M), not ()")
        for keep, of in self.terms:
            if of < 2 or not 1 <= keep <= of or self.block % of:
                raise ConfigError(f"a term N:M of SeriesFormat must have 1 ≤ N ≤ M and M at least 2 and a divisor of the block "
                                  f"({self.block}), not {keep}:{of}")

    @property
    def word(self) -> PackedWord:
        """Values and coordinates of every term."""
        fields = []
        for index, (keep, of) in enumerate(self.terms):
            count = self.block // of * keep
            fields += [
                PackedField(name=f"values{index}", width=8, count=count, doc=f"int8 of term {keep}:{of}; unused slots are 0"),
                PackedField(name=f"inner{index}", width=(of - 1).bit_length(), count=count,
                            doc="which value of its group, strictly increasing in the group")]
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Scale of each row."""
        return ("row_scale",)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierFormat(Format):
    """SDQ: in every group of `group` values the largest ones as int8 outliers, the next ones as FP4 inliers, the rest zero.

    Attributes
    ----------
    group : int
        M of both patterns.
    outliers, inliers : int
        Values of each kind in a group.
    element : Element
        Of an inlier.
    """

    group: int
    outliers: int
    inliers: int
    element: Element

    def __post_init__(self) -> None:
        """Check that both kinds fit a group, and groups the block."""
        Format.__post_init__(self)
        if not 2 <= self.group <= 32 or self.block % self.group or not self.block:
            raise ConfigError(f"OutlierFormat.group must be between 2 and 32 and divide the block ({self.block}), "
                              f"not {self.group!r}")
        if self.outliers < 1 or self.inliers < 1 or self.outliers + self.inliers > self.group:
            raise ConfigError(f"OutlierFormat.outliers and inliers must each be at least 1 and together at most {self.group} "
                              f"(group), not {self.outliers!r} and {self.inliers!r}")

    @property
    def word(self) -> PackedWord:
        """Outlier values and places, inlier codes and mask, and the two scales of the block."""
        groups = self.block // self.group
        return PackedWord((
            PackedField(name="outliers", width=8, count=groups * self.outliers, doc="int8; unused slots are 0"),
            PackedField(name="outlier_inner", width=(self.group - 1).bit_length(), count=groups * self.outliers,
                        doc="place in the group, strictly increasing"),
            PackedField(name="inliers", width=self.element.bits, count=groups * self.inliers, doc=self.element.doc),
            PackedField(name="inlier_mask", width=self.group, count=groups, doc="bit i: value i of the group is an inlier"),
            PackedField(name="outlier_scale", width=16, doc="scale of the outliers: float16"),
            PackedField(name="inlier_scale", width=16, doc="scale of the inliers: float16")))


@dataclass(frozen=True, kw_only=True, slots=True)
class TernaryFormat(Format):
    """Sherry: of four weights the smallest is 0 and the others are ±scale, in five bits.

    Attributes
    ----------
    lanes : str
        "strided": weight p of quad g is (g / 16)·64 + g mod 16 + 16 p of the block (STQ1_0); "contiguous": 4 g + p.
    """

    lanes: str

    def __post_init__(self) -> None:
        """Check that quads fill the block."""
        Format.__post_init__(self)
        if self.lanes not in ("strided", "contiguous"):
            raise ConfigError(f"TernaryFormat.lanes must be 'strided' or 'contiguous', not {self.lanes!r}")
        multiple = 64 if self.lanes == "strided" else 4
        if self.block < 1 or self.block % multiple:
            raise ConfigError(f"TernaryFormat.block must be a positive multiple of {multiple} with {self.lanes} lanes, "
                              f"not {self.block}")

    @property
    def word(self) -> PackedWord:
        """Slots, signs, scale: the order of a STQ1_0 block."""
        quads = self.block // 4
        return PackedWord((
            PackedField(name="slots", width=4, count=quads, doc="zero_pos << 2 | (s3 ^ s1) << 1 | (s2 ^ s1)"),
            PackedField(name="signs", width=1, count=quads, doc="sign s1 of the first weight that is not 0"),
            PackedField(name="scale", width=16, doc="float16")))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusteredFormat(Format):
    """KVQuant: codes into a table fitted to the data, normalized for each vector (a block); the extremes apart as float16.

    Attributes
    ----------
    code_bits : int
        Bits of a code, 1 to 8.
    outlier_fraction : float
        Values of a block stored apart, both tails together; each tail is rounded up to whole values.
    """

    code_bits: int
    outlier_fraction: float = 0.01

    def __post_init__(self) -> None:
        """Check what varies."""
        Format.__post_init__(self)
        if self.block == 0:
            raise ConfigError("ClusteredFormat.block must be at least 1, not 0")
        if not isinstance(self.code_bits, int) or not 1 <= self.code_bits <= 8:
            raise ConfigError(f"ClusteredFormat.code_bits must be an integer between 1 and 8, not {self.code_bits!r}")
        if not 0.0 <= self.outlier_fraction <= 0.5:
            raise ConfigError(f"ClusteredFormat.outlier_fraction must be between 0 and 0.5, not {self.outlier_fraction!r}")

    @property
    def tail(self) -> int:
        """Values of a block stored apart in each tail: ⌈fraction / 2 · block⌉, but at least one is left between the tails."""
        return min(math.ceil(self.outlier_fraction / 2 * self.block), (self.block - 1) // 2)

    @property
    def word(self) -> PackedWord:
        """Codes, what brings a vector to [−1, 1], and the values stored apart, each with its place."""
        fields = [
            PackedField(name="codes", width=self.code_bits, count=self.block, doc="index into the table of the tensor"),
            PackedField(name="half_range", width=16, doc="float16: half the distance of the limits of the vector"),
            PackedField(name="middle", width=16, doc="float16: middle of the limits of the vector")]
        if self.tail:
            fields += [
                PackedField(name="outlier_position", width=(self.block - 1).bit_length(), count=2 * self.tail,
                            doc="place in the block of a value stored apart, strictly increasing"),
                PackedField(name="outlier_value", width=16, count=2 * self.tail, doc="float16: that value")]
        return PackedWord(tuple(fields))

    @property
    def side(self) -> tuple[str, ...]:
        """Table of the tensor."""
        return ("table",)


@dataclass(frozen=True, kw_only=True, slots=True)
class HuffmanFormat(Format):
    """DFloat11: bfloat16 without loss; exponents Huffman coded, sign and fraction as they are.

    Attributes
    ----------
    longest : int
        Longest code in bits, 8 to 32.
    chunk : int
        Values of a row, 1 to 65535, whose codes lie together from a byte boundary on, so that chunks can be decoded in parallel.
    """

    longest: int = 32
    chunk: int = 512

    def __post_init__(self) -> None:
        """Check what varies."""
        Format.__post_init__(self)
        for field, low, high in (("block", 0, 0), ("longest", 8, 32), ("chunk", 1, (1 << 16) - 1)):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                rule = f"an integer between {low} and {high}" if high else "0"
                raise ConfigError(f"HuffmanFormat.{field} must be {rule}, not {value!r}")

    @property
    def word(self) -> PackedWord:
        """Sign and fraction; the coded exponents lie beside them, of a size that the data decides."""
        return PackedWord((PackedField(name="sign_mantissa", width=8, doc="sign << 7 | fraction"),))

    @property
    def side(self) -> tuple[str, ...]:
        """Code lengths, coded exponents, and where each chunk starts."""
        return ("lengths", "stream", "starts")
