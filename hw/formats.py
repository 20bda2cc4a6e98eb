"""Every number format by name.

Names are `<family>[-g<size> | -b<size>][-<option>…]`. `FORMATS` lists the usual ones; `format_named` also reads other sizes,
options and patterns: `int4-g32-bf16`, `mxint4-b64-ceil`, `tasd-2:4+2:8`.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from hw.elements import BF16, ELEMENTS, FP16, FP32, Element, FloatFormat, Integer
from hw.errors import ConfigError
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
from hw.plugins import Registry

__all__ = ["ALIASES", "FORMATS", "OPTIONS", "format_named"]

_E8M0, _E2M1, _UINT8 = ELEMENTS["float8_e8m0fnu"], ELEMENTS["float4_e2m1fn"], ELEMENTS["uint8"]
_NEGATIVE_ZERO = 0b1000
_BITMOD = "Chen et al., BitMoD, HPCA 2025"
_RAZER = "Chen et al., RaZeR, arXiv 2501.04052"
_STUDENTS = "Dotzel et al., Learning from Students, ICML 2024"
_MX = "OCP Microscaling Formats (MX) v1.0"
_P3 = "Chen et al., P3-LLM, arXiv 2511.06838"
_BBS = "Chen et al., BBS, MICRO 2024"
_INTEGER = "customary"


def _integer(bits: int) -> ScaledFormat:
    return ScaledFormat(family=f"int{bits}", block_letter="g", element=ELEMENTS[f"int{bits}"], outer="row", source=_INTEGER,
                        doc=f"{bits}-bit symmetric integer; a scale for each row, or with -g<size> for each group")


def _asymmetric(bits: int) -> ScaledFormat:
    return ScaledFormat(family=f"int{bits}-asym", block=128, block_letter="g", element=ELEMENTS[f"uint{bits}"], scale=FP16,
                        scale_rule="range", zero_point_bits=bits, source=_INTEGER,
                        doc=f"{bits}-bit integer with a zero point and a scale for each group")


def _plain(element: Element, source: str, doc: str, **more: Any) -> ScaledFormat:
    return ScaledFormat(family=element.name, element=element, scale_rule="none", source=source, doc=doc, **more)


def _mx(family: str, element: str) -> ScaledFormat:
    return ScaledFormat(family=family, block=32, block_letter="b", element=ELEMENTS[element], scale=_E8M0, scale_rule="floor",
                        source=_MX, doc=f"blocks that share a power of two; {ELEMENTS[element].doc}")


def _table(family: str, element: Element, doc: str, source: str, **more: Any) -> ScaledFormat:
    return ScaledFormat(family=family, block=128, block_letter="g", element=element, scale=FP16, ties="down", doc=doc,
                        source=source, **more)


def _bitmod(bits: int, element: str, specials: tuple[float, ...]) -> ScaledFormat:
    return ScaledFormat(family=f"bitmod{bits}", block=128, block_letter="g", element=ELEMENTS[element], scale=_UINT8,
                        scale_limits=(1e-5, 1e4), outer="row", special_code=1 << (bits - 1), specials=specials, ties="down",
                        source=_BITMOD, doc=f"FP{bits} whose −0 is the special value that suits the group; INT8 scales")


def _nvfp4(family: str, doc: str, **more: Any) -> ScaledFormat:
    return ScaledFormat(family=family, block=16, element=_E2M1, scale=ELEMENTS["float8_e4m3fn"],
                        scale_limits=(2.0**-9, 448.0), outer="tensor", source="NVIDIA NVFP4", doc=doc, **more)


def _razer(family: str, second: float, doc: str) -> ScaledFormat:
    return ScaledFormat(family=family, block=16, element=_E2M1, scale=ELEMENTS["float6_e3m3u"], scale_limits=(2.0**-5, 28.0),
                        outer="tensor", special_code=_NEGATIVE_ZERO, specials=(5.0, second, -5.0, -second),
                        special_order=(0, 2, 1, 3), ties="down", source=_RAZER, doc=doc)


def _columns(family: str, pruned: int, method: str, doc: str) -> ColumnFormat:
    return ColumnFormat(family=family, block=32, block_letter="g", pruned=pruned, method=method, doc=doc, source=_BBS)


def _pattern(keep: int, of: int) -> SparseFormat:
    groups = max(1, 16 // max(1, of))
    return SparseFormat(family=f"{keep}:{of}", block=groups * of, outer_keep=groups, outer_of=groups, inner_keep=keep,
                        inner_of=of, outer_bits=0, inner_bits=max(1, (of - 1).bit_length()),
                        doc=f"int8, the {keep} largest of every {of}", source="Mishra et al., arXiv 2104.08378")


def _hss(outer_keep: int, outer_of: int, inner_keep: int, inner_of: int) -> SparseFormat:
    return SparseFormat(family=f"hss-{outer_keep}:{outer_of}-{inner_keep}:{inner_of}", block=outer_of * inner_of,
                        outer_keep=outer_keep, outer_of=outer_of, inner_keep=inner_keep, inner_of=inner_of,
                        outer_bits=max(3, (outer_of - 1).bit_length()), inner_bits=max(2, (inner_of - 1).bit_length()),
                        doc=f"int8, {outer_keep} of {outer_of} blocks, {inner_keep} of {inner_of} values in each",
                        source="Wu et al., HighLight, MICRO 2023")


def _series(*numbers: int) -> SeriesFormat:
    terms = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    listed = "+".join(f"{keep}:{of}" for keep, of in terms)
    return SeriesFormat(family=f"tasd-{listed}", block=math.lcm(16, *numbers[1::2]), terms=terms, doc=f"int8 as the sum {listed}",
                        source="Jeong et al., TASD, MLSys 2025")


def _sdq(keep: int, of: int, outliers: int, inliers: int) -> OutlierFormat:
    return OutlierFormat(family=f"sdq-{keep}:{of}-{outliers}:{of}int8-{inliers}:{of}fp4", block=64, block_letter="g", group=of,
                         outliers=outliers, inliers=inliers, element=_E2M1, source="Jeong et al., SDQ, arXiv 2406.13868",
                         doc=f"the {outliers} largest of every {of} in int8, the next {inliers} in FP4, each kind with a scale")


def _clustered(bits: int) -> ClusteredFormat:
    return ClusteredFormat(family=f"kvquant{bits}", block=128, block_letter="g", code_bits=bits,
                           source="Hooper et al., KVQuant, NeurIPS 2024",
                           doc=f"{1 << bits} levels fitted to the data; the extremes of each block apart in float16")


_SHERRY = "Sherry, arXiv 2601.07892"
_TABLE: tuple[Format, ...] = (
    *(_integer(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 16)),
    *(_asymmetric(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 16)),
    _plain(FP32, "IEEE 754", FP32.doc), _plain(FP16, "IEEE 754", FP16.doc), _plain(BF16, "Google Brain", BF16.doc),
    *(_plain(ELEMENTS[name], "OCP 8-bit Floating Point v1.0", ELEMENTS[name].doc) for name in ("float8_e4m3fn", "float8_e5m2")),
    _mx("mxfp8-e4m3", "float8_e4m3fn"), _mx("mxfp8-e5m2", "float8_e5m2"), _mx("mxfp6-e3m2", "float6_e3m2fn"),
    _mx("mxfp6-e2m3", "float6_e2m3fn"), _mx("mxfp4", "float4_e2m1fn"), _mx("mxint8", "mxint8"),
    dataclasses.replace(_mx("mxint4", "mxint4"), source="as MXINT8 with 4 bits; no concrete format of OCP MX v1.0"),
    _nvfp4("nvfp4", "FP4 in blocks of 16 with E4M3 scales and one float32 scale"),
    _nvfp4("nvfp4-4over6", "NVFP4 whose blocks reach up to 6 or to 4, whichever errs less", magnitudes_tried=(6.0, 4.0)),
    _bitmod(4, "float4_e2m1fn", (5.0, -5.0, 8.0, -8.0)), _bitmod(3, "float3_e2m0", (3.0, -3.0, 6.0, -6.0)),
    _razer("razer", 8.0, "NVFP4 whose −0 is a special value; scale and special value share a byte (weights)"),
    _razer("razer-sv7", 7.0, "the same with ±5 and ±7 as special values, which suits other models (Qwen3-8B)"),
    ScaledFormat(family="razer-act", block=16, element=_E2M1, scale=ELEMENTS["float7_e4m3u"], scale_limits=(2.0**-9, 448.0),
                 outer="tensor", special_code=_NEGATIVE_ZERO, specials=(5.0, -5.0), special_widens=False, ties="down",
                 source=_RAZER, doc="NVFP4 whose −0 is +5 or −5 (activations)"),
    _table("nf4", ELEMENTS["nf4"], "levels at the quantiles of a normal distribution", "Dettmers et al., QLoRA, NeurIPS 2023"),
    _table("sf4", ELEMENTS["sf4"], "levels at the quantiles of Student's t distribution", _STUDENTS),
    _table("fp4", _E2M1, "E2M1 with a scale for each group", _BITMOD),
    _table("fp3", ELEMENTS["float3_e2m0"], "0, ±1, ±2, ±4 with a scale for each group", _BITMOD),
    _table("fp4-sr", _E2M1, "super-range: E2M1 whose −0 is +8", _STUDENTS, special_code=_NEGATIVE_ZERO, specials=(8.0,)),
    _table("fp4-sp", _E2M1, "super-precision: E2M1 whose −0 is +5", _STUDENTS, special_code=_NEGATIVE_ZERO, specials=(5.0,)),
    ScaledFormat(family="p3-act", element=ELEMENTS["float8_e4m3fn"], outer="row", source=_P3, doc="E4M3 with one scale a token"),
    ScaledFormat(family="p3-kv", block=128, block_letter="g", element=ELEMENTS["uint4"], scale=FP16, scale_rule="range",
                 zero_point_bits=4, source=_P3, doc="K and V: 4-bit integers, zero point and scale for each token and head"),
    _plain(ELEMENTS["float8_s0e4m4"], _P3, "probabilities: unsigned, 1 is 0xF0; ties upwards", ties="away"),
    _columns("bbs-average", 2, "average", "int8 without 2 bit columns: their mean instead"),
    _columns("bbs-shift", 4, "shift", "int8 without 4 bit columns: shifted so that they are zero"),
    _pattern(2, 4), _pattern(1, 4), _pattern(4, 8),
    *(_hss(4, outer, 2, inner) for outer in (4, 5, 6, 7, 8) for inner in (2, 3, 4)),
    *(_series(*terms) for terms in ((2, 4), (1, 8), (2, 8), (4, 8), (2, 8, 1, 8), (4, 8, 1, 8), (4, 8, 2, 8), (2, 4, 2, 8))),
    _sdq(7, 8, 1, 6), _sdq(8, 8, 1, 7), _sdq(6, 8, 2, 4), _sdq(3, 4, 1, 2),
    TernaryFormat(family="sherry", block=256, lanes="strided", source=_SHERRY,
                  doc="three of four weights ±scale, one 0: five bits for four weights; blocks as STQ1_0"),
    TernaryFormat(family="sherry-contiguous", block=128, block_letter="g", lanes="contiguous", source=_SHERRY,
                  doc="the same with four neighbours in a quad"),
    *(_clustered(bits) for bits in (4, 3, 2)),
    HuffmanFormat(family="dfloat11", doc="bfloat16 without loss: Huffman-coded exponents",
                  source="Zhang et al., DFloat11, NeurIPS 2025"),
)

FORMATS: Registry[Format] = Registry("formats", {fmt.name: fmt for fmt in _TABLE})
"""Canonical name → format, in order of the families."""

ALIASES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "s0e4m4": "float8_s0e4m4"}
"""Short names that people type."""

OPTIONS: dict[str, dict[str, Any]] = {
    "fp16": {"scale": FP16},
    "bf16": {"scale": BF16},
    "fp32": {"scale": FP32},
    "int8": {"scale": _UINT8, "outer": "row"},
    "floor": {"scale_rule": "floor"},
    "ceil": {"scale_rule": "ceil"},
    "full": {"symmetric": False},
    "even": {"ties": "even"},
    "away": {"ties": "away"},
    "down": {"ties": "down"},
    "1of2": {"one_of": 2},
    "1of4": {"one_of": 4},
    "1of8": {"one_of": 8},
}
"""Option in a name → what it changes in a `ScaledFormat`, or `one_of` in a `ColumnFormat`."""

_HSS_NAME = re.compile(r"hss-(\d+):(\d+)-(\d+):(\d+)")
_SERIES_NAME = re.compile(r"tasd-(\d+):(\d+)(?:\+(\d+):(\d+))?(?:\+(\d+):(\d+))?")
_PATTERN_NAME = re.compile(r"(\d+):(\d+)")
_MADE: tuple[tuple[re.Pattern[str], Callable[..., Format]], ...] = (
    (_HSS_NAME, _hss), (_SERIES_NAME, _series), (_PATTERN_NAME, _pattern))
_SIZED = re.compile(r"(?P<family>.+?)-(?P<letter>[gb])(?P<size>\d+)$")


def format_named(name: str) -> Format:
    """Return the format called `name`.

    Raises
    ------
    ConfigError
        If there is none; the text says which part is wrong, or which names are near.
    """
    wanted = ALIASES.get(name, name)
    if wanted in FORMATS:
        return FORMATS[wanted]
    for pattern, make in _MADE:
        if match := pattern.fullmatch(wanted):
            return make(*(int(number) for number in match.groups() if number is not None))
    parts = wanted.split("-")
    count = 0
    while count < len(parts) - 1 and parts[-1 - count] in OPTIONS:
        count += 1
    base, options = "-".join(parts[:len(parts) - count]), parts[len(parts) - count:]
    by_family = {fmt.family: fmt for fmt in FORMATS.values()}
    size = _SIZED.match(base)
    fmt = by_family.get(size["family"] if size else base)
    if fmt is None or (size and size["letter"] != fmt.block_letter):
        raise ConfigError(f"format must be a name that `heddle formats` lists{_near(name)}, not {name!r}")
    if size:
        fmt = _resized(fmt, int(size["size"]), name)
    return _changed(fmt, options, name)


def _near(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [*FORMATS, *ALIASES], n=3)
    return f" (near it: {', '.join(near)})" if near else ""


def _resized(fmt: Format, size: int, name: str) -> Format:
    """Return `fmt` with blocks of `size`."""
    if not 1 <= size <= 1 << 16:
        raise ConfigError(f"the block size in a format's name must be between 1 and 65536, not {size} ({name!r})")
    if isinstance(fmt, TernaryFormat) and size % 4:
        raise ConfigError(f"the block size of {fmt.family} must be a multiple of 4, not {size}")
    if isinstance(fmt, ScaledFormat) and fmt.outer == "row" and fmt.scale is None:    # one scale a row → one for each group
        return dataclasses.replace(fmt, block=size, scale=FP16, outer="none")
    return dataclasses.replace(fmt, block=size)


def _changed(fmt: Format, options: list[str], name: str) -> Format:
    """Return `fmt` with the changes that `options` name."""
    for place, option in enumerate(options):
        if clash := [other for other in options[:place] if OPTIONS[other].keys() & OPTIONS[option].keys()]:
            raise ConfigError(f"options in a format's name must be about different things, not {clash[0]!r} and {option!r} "
                              f"({name!r})")
        change = OPTIONS[option]
        if isinstance(fmt, ColumnFormat) and "one_of" in change:
            fmt = dataclasses.replace(fmt, **change, options=(*fmt.options, option))
            continue
        if not isinstance(fmt, ScaledFormat) or fmt.scale_rule == "none" or "one_of" in change:
            raise ConfigError(f"{fmt.family} takes no options in its name, not {option!r} ({name!r})")
        if "scale" in change and (fmt.scale not in (FP16, BF16, FP32) or not isinstance(fmt.scale, FloatFormat)):
            raise ConfigError(f"{fmt.name} has no float scale that {option!r} could replace: give a group size first ({name!r})")
        if "scale_rule" in change and fmt.scale != _E8M0:
            raise ConfigError(f"{fmt.name} has no power-of-two scale for {option!r} to round ({name!r})")
        if "symmetric" in change and not (isinstance(fmt.element, Integer) and fmt.element.signed):
            raise ConfigError(f"{fmt.name} has no signed integers whose range {option!r} could widen ({name!r})")
        fmt = dataclasses.replace(fmt, **change, options=(*fmt.options, option))
    return fmt
