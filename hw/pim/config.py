"""The configuration of a PIM logic die: what a user chooses, and the rates that follow from it.

One law ties the published designs together. S streams of `burst_bytes` arrive together every i, which is P cycles of the PIM
clock; a weight is used for X rows: bandwidth = 32·S/i, weights a cycle = bandwidth / weight bytes / clock, operations for each
byte = 2·X / weight bytes.
"""

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hw.config import ceil_div, ceil_power_of_two
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import ALIASES, format_named
from hw.interchange import JsonConfig
from hw.pim.isa import COMMAND_FIELDS, NAMED_SETS
from hw.pim.timing import TIMINGS, DramTiming

__all__ = ["ACTIVATION_TYPES", "PROBABILITY_TYPES", "WEIGHT_TYPES", "PimConfig", "format_has_sides"]

WEIGHT_TYPES = ("float16", "bfloat16", "float8_e4m3fn", "int8", "int4-asym", "p3-kv", "mxint4", "bitmod4")
"""Families of formats (`hw.formats`) that the decoders between DRAM and the MACs take."""
ACTIVATION_TYPES = ("float16", "bfloat16", "float8_e4m3fn", "int8")
PROBABILITY_TYPES = ("float16", "bfloat16", "float8_e4m3fn", "float8_s0e4m4")
ACCUMULATORS = ("float32", "int32")
REFRESHES = ("all-bank", "same-bank")
_HEAD_DIM = 128             # elements of a head that BCAST can accumulate at once, at least
_WIDTHS = {field.name: field.width for field in COMMAND_FIELDS}
_INTEGERS = ("int8", "int4-asym", "p3-kv", "mxint4", "bitmod4")      # exact in an INT32 accumulator with E4M3 or int8 activations


def _bits(name: str) -> int:
    fmt = format_named(name)
    assert isinstance(fmt, ScaledFormat)
    return fmt.element.bits


def format_has_sides(name: str) -> bool:
    """Return whether codes of a format mean something only with a zero point, or with one of several special values."""
    fmt = format_named(name)
    return isinstance(fmt, ScaledFormat) and bool(fmt.zero_point_bits or len(fmt.specials) > 1)


def _family(name: str) -> str:
    fmt = format_named(name)
    return fmt.family if isinstance(fmt, ScaledFormat) else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PimConfig(JsonConfig):
    """Everything that decides the RTL of one PIM logic die.

    Parameters
    ----------
    n_pch : int
        Pseudo-channels (or channels, or cores with a memory path of their own): everything below is of one.
    streams : int
        S, banks (or bank groups, or pseudo-channels) that are read together.
    burst_bytes : int
        Bytes of one stream's burst; 32.
    interval : int
        i, DRAM clocks from one burst of all streams to the next; below CCD_L only with one stream (`stripes`).
    clock_mhz : int
        PIM clock.
    pim_per_burst : int
        P, PIM cycles in an interval.
    wtype, kvtype : str
        Formats of weights, and of K and V, of one of the families `WEIGHT_TYPES`.
    xtype, ptype : str
        Formats of activations and queries, and of the softmax's weights on their way to the product with V.
    rows_x : int
        X, rows of activations for which a weight is used.
    lanes : int
        Weights a cycle: a burst of all streams in `beats` cycles, at most P.
    segments : int
        G, parts of the lanes with an adder tree and accumulators of their own, a power of two: as published designs have a unit
        at each bank or bank group. A segment has `width` lanes, and the bursts of its share of the streams.
    acc : str
        "float32", or "int32" (saturating; formats with integer products).
    k_tile : int
        Elements of K that stay in one of the two halves of the X buffer.
    xbuf_entries : int
        Slices of `width` × X elements in the X buffer: at least two K tiles.
    n_acc_slots : int
        Accumulators in rotation for each output, a power of two; more than the cycles of an addition: 8, or with int32 2.
    obuf_entries : int
        Entries of the output buffer (in TREE an output of each segment, in BCAST `width` outputs; of X rows each).
    heads : int
        Heads whose (m, l) the softmax unit keeps.
    sm_lanes : int
        Scores of each row of X that the softmax unit takes in a cycle, and words of outputs that it scales; at most `lanes`.
    bundles : int
        Bank bundles that are opened in turn: with 2 or more the other bundle's ACT and PRE are hidden.
    refresh : str
        "all-bank", or "same-bank" (of the idle bundle).
    timing : str
        Key of `hw.pim.timing.TIMINGS`.
    dram_rows : int
        Rows of each bank that hold data.
    dcs : bool
        Dynamic command scheduling: the I/O and the compute queue pass each other where no buffer entry is shared.

    Raises
    ------
    ConfigError
        If a value is impossible; nothing is clipped.
    """

    n_pch: int = 2
    streams: int = 2
    burst_bytes: int = 32
    interval: int = 4
    clock_mhz: int = 650
    pim_per_burst: int = 2
    wtype: str = "float16"
    kvtype: str = "float16"
    xtype: str = "float16"
    ptype: str = "float16"
    rows_x: int = 2
    lanes: int = 16
    segments: int = 1
    acc: str = "float32"
    k_tile: int = 64
    xbuf_entries: int = 8
    n_acc_slots: int = 8
    obuf_entries: int = 64
    heads: int = 4
    sm_lanes: int = 2
    bundles: int = 2
    refresh: str = "all-bank"
    timing: str = "hbm3-5.2"
    dram_rows: int = 64
    dcs: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        kinds = {int: "an integer", str: "a string", bool: "true or false"}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type:
                raise TypeError(f"PimConfig.{field.name} must be {kinds[field.type]}, not {value!r}")     # type: ignore[index]
        for name, low, high in _RANGES:
            self._must(name, low <= getattr(self, name) <= high, f"between {low} and {high}")
        for name in _POWERS_OF_TWO:
            value = getattr(self, name)
            self._must(name, value & (value - 1) == 0, f"a power of two (nearest: {ceil_power_of_two(value)})")
        for name, legal in _CHOICES:
            self._must(name, getattr(self, name) in legal, f"one of {', '.join(legal)}")
        for name, legal in _FAMILIES:
            self._must(name, _family(getattr(self, name)) in legal, f"a format of {', '.join(legal)}")
            full = ALIASES.get(getattr(self, name))         # names of equal formats are equal
            self._must(name, full is None, f"{full}, the full name")
        self._must("burst_bytes", self.burst_bytes == self.dram.burst_bytes,
                   f"{self.dram.burst_bytes}, the burst of {self.timing}")
        self._must("interval", self.interval >= self.dram.bl, f"at least {self.dram.bl}, the length of a burst")
        alternates = self.streams == 1 and self.refresh == "all-bank" and self.interval >= self.dram.ccd_s
        self._must("interval", self.stripes == 1 or alternates,
                   f"at least {self.dram.ccd_l}, or from {self.dram.ccd_s} on with one stream and refreshes by rank")
        fitting = self.interval * self.dram.tck_ps * self.clock_mhz * 201 // 200_000_000      # half a percent of tolerance
        self._must("pim_per_burst", self.pim_per_burst == max(1, fitting),
                   f"{max(1, fitting)}, the PIM cycles in {self.interval} DRAM clocks")
        least = ceil_div(self.burst_weights, self.pim_per_burst)
        self._must("lanes", self.burst_weights % self.lanes == 0 and self.lanes >= least,
                   f"a divisor of the {self.burst_weights} weights of a burst, at least {least}")
        most = min(self.streams, self.lanes, 1 << (self.lanes.bit_length() - 1) // 2)
        self._must("segments", self.segments <= most,
                   f"at most {most}: each has a stream or more, and as many lanes as there are segments")
        self._must("sm_lanes", self.sm_lanes <= self.width, f"at most {self.width}, the lanes of a segment")
        self._must("sm_lanes", self.sm_lanes >= self.segments or not self.has_softmax,
                   f"at least {self.segments}, the scores of an entry")
        self._must("kvtype", self.kv_bits == self.weight_bits, f"as wide as wtype ({self.weight_bits} bits)")
        self._must("acc", self.acc == "float32" or _family(self.wtype) in _INTEGERS, "float32 with weights that are no integers")
        least = 8 if self.acc == "float32" else 2
        self._must("n_acc_slots", self.n_acc_slots >= least, f"at least {least}, more than the cycles of an addition")
        self._must("k_tile", self.k_tile % self.width == 0, f"a multiple of the lanes of a segment ({self.width})")
        self._must("xbuf_entries", self.xbuf_entries >= 2 * self.k_tile // self.width,
                   f"at least {2 * self.k_tile // self.width}, two tiles of K")
        self._must("streams", self.dram.all_banks % (self.streams * self.bundles) == 0,
                   f"a divisor of the {self.dram.all_banks} banks of {self.timing}, over {self.bundles} bundles")
        most = (1 << _WIDTHS["row"]) // ceil_div(self.row_sets, 1 << _WIDTHS["grp"])
        self._must("dram_rows", self.dram_rows <= most, f"at most {most}, what a command can name")

    def _must(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"PimConfig.{name} must be {rule}, not {getattr(self, name)!r}")

    # Derived rates and sizes ----------------------------------------------------------------------------------

    @property
    def dram(self) -> DramTiming:
        """Timing of the DRAM."""
        return TIMINGS[self.timing]

    @property
    def weight_bits(self) -> int:
        """Bits of a stored weight, its share of scales aside."""
        return _bits(self.wtype)

    @property
    def kv_bits(self) -> int:
        """Bits of a stored element of K or V, its share of scales aside."""
        return _bits(self.kvtype)

    @property
    def burst_weights(self) -> int:
        """Weights that one burst of all streams brings."""
        return 8 * self.burst_bytes * self.streams // self.weight_bits

    @property
    def beats(self) -> int:
        """PIM cycles in which the MACs take one burst of all streams."""
        return ceil_div(self.burst_weights, self.lanes)

    @property
    def width(self) -> int:
        """Lanes of a segment: elements of a slice of X, words of an entry of the output buffer (of X rows each)."""
        return self.lanes // self.segments

    def token_beats(self, head_dim: int) -> int:
        """Return the beats, of one segment, in which a token's K or V comes: slices of X that hold as many elements."""
        return ceil_div(head_dim, self.width)

    def tokens_a_row(self, head_dim: int) -> int:
        """Return the tokens of a DRAM row, those of all segments; each lies in bursts of one segment."""
        return self.columns * self.beats // self.token_beats(head_dim) * self.segments

    @property
    def stream_slices(self) -> int:
        """Slices of X that a stream's burst holds, a part of one counted as one: what KVAP writes at least."""
        return max(1, self.beats * self.segments // self.streams)

    @property
    def stripes(self) -> int:
        """Sets of banks over which a row's bursts go in turn: 2, in two bank groups, where they are closer than CCD_L."""
        return 2 if self.interval < self.dram.ccd_l else 1

    @property
    def columns(self) -> int:
        """Bursts of a row as commands name it, of all stripes."""
        return self.dram.columns * self.stripes

    @property
    def interval_ps(self) -> int:
        """Picoseconds from one burst of all streams to the next."""
        return self.interval * self.dram.tck_ps

    @property
    def bandwidth(self) -> Fraction:
        """Peak GB/s (bytes per nanosecond) of one pseudo-channel, before rows and refresh."""
        return Fraction(1000 * self.burst_bytes * self.streams, self.interval_ps)

    @property
    def lanes_needed(self) -> Fraction:
        """Weights in a PIM cycle that keep up with the DRAM, if a burst were spread over the P cycles of its interval."""
        return Fraction(self.burst_weights, self.pim_per_burst)

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates that are built, of one pseudo-channel."""
        return self.lanes * self.rows_x

    @property
    def op_per_byte(self) -> Fraction:
        """Operations (a multiply and an add are two) for each byte read, at full reuse."""
        return Fraction(16 * self.rows_x, self.weight_bits)

    @property
    def gops(self) -> Fraction:
        """Peak 10⁹ operations a second of one pseudo-channel: the bandwidth times `op_per_byte`."""
        return self.bandwidth * self.op_per_byte

    @property
    def wide_entries(self) -> int:
        """Entries of the output buffer, the first ones, that have `width` words: the outputs of two heads."""
        return min(self.obuf_entries, 2 * self.bcast_entries)

    @property
    def bcast_entries(self) -> int:
        """Entries that BCAST accumulates at once: the output of a head."""
        return min(self.obuf_entries, max(1, _HEAD_DIM // self.width))

    @property
    def has_softmax(self) -> bool:
        """Whether `PimCore` has a softmax unit: its scores are float32 and its weights elements of X, else the host does it."""
        return self.acc == "float32" and self.ptype == self.xtype

    @property
    def has_sides(self) -> bool:
        """Whether weights, or K and V, have zero points or special values to choose from: a side table (`hw.pim.isa`)."""
        return format_has_sides(self.wtype) or format_has_sides(self.kvtype)

    @property
    def sides(self) -> int:
        """Bytes of the side table: one for each output of an entry, and for each element of X."""
        return max(self.obuf_entries * self.segments, self.xbuf_entries * self.width)

    @property
    def word_bytes(self) -> int:
        """Bytes of a host word: one row of a slice of X."""
        return self.width * _bits(self.xtype) // 8

    @property
    def dequantizes(self) -> bool:
        """Whether `PimCore` has a dequantizer: weights have scales, and a host word has those of an entry at least."""
        fmt = format_named(self.wtype)
        return isinstance(fmt, ScaledFormat) and fmt.scale_rule != "none" and self.word_bytes % (4 * self.segments) == 0

    @property
    def stores_x(self) -> bool:
        """Whether slices of X can go to DRAM and back, as K and V of new tokens do: its elements are as wide as weights."""
        return _bits(self.xtype) == self.weight_bits

    @property
    def row_bytes(self) -> int:
        """Bytes of one DRAM row of all streams and stripes."""
        return self.columns * self.burst_bytes * self.streams

    @property
    def row_sets(self) -> int:
        """Sets of `streams` banks, or two of those with stripes, each of which can have a row open: what `grp` of a command
        selects (see `hw.pim.isa`).
        """
        return self.dram.all_banks // (self.streams * self.stripes)

    @property
    def named_sets(self) -> int:
        """Sets of banks that commands name (`grp`)."""
        return min(NAMED_SETS, self.row_sets)

    def named_row(self, grp: Any, row: Any) -> tuple[Any, Any]:
        """Return set of banks, and row of it, that a command means by `grp` and `row`; integers, or arrays of them."""
        return grp + NAMED_SETS * (row // self.dram_rows), row % self.dram_rows

    @property
    def capacity_bytes(self) -> int:
        """Bytes of one pseudo-channel that hold data."""
        return self.row_bytes * self.row_sets * self.dram_rows


_RANGES = (
    ("n_pch", 1, 64),
    ("streams", 1, 64),
    ("interval", 1, 16),
    ("clock_mhz", 50, 4000),
    ("pim_per_burst", 1, 16),
    ("rows_x", 1, 16),
    ("lanes", 1, 1024),
    ("segments", 1, 64),
    ("k_tile", 1, 4096),
    ("xbuf_entries", 2, 512),
    ("n_acc_slots", 1, 16),
    ("obuf_entries", 1, 256),
    ("heads", 1, 256),
    ("sm_lanes", 1, 16),
    ("bundles", 1, 8),
    ("dram_rows", 1, 1 << 16),
)
_POWERS_OF_TWO = ("streams", "segments", "n_acc_slots", "xbuf_entries", "obuf_entries", "sm_lanes", "bundles")
_CHOICES = (("acc", ACCUMULATORS), ("refresh", REFRESHES), ("timing", tuple(TIMINGS)))
_FAMILIES = (("wtype", WEIGHT_TYPES), ("kvtype", WEIGHT_TYPES), ("xtype", ACTIVATION_TYPES), ("ptype", PROBABILITY_TYPES))
