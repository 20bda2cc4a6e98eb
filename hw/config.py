"""The configuration of an accelerator: what a user chooses, and the geometry that follows from it."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hw.elements import BF16, FP16, FloatFormat, Integer
from hw.errors import ConfigError
from hw.families import Format, ScaledFormat
from hw.formats import format_named
from hw.interchange import JsonConfig
from hw.protect.domains import BLOCK_DOMAINS, Rules, check_rules, mechanism_of

if TYPE_CHECKING:
    from hw.engines.info import EngineInfo

__all__ = ["AcceleratorConfig", "ceil_div", "ceil_log2", "ceil_power_of_two"]

DATAFLOWS = ("ws", "os")
VECTOR_UNITS = ("requantize", "transformer")
LARGEST_MODE = 255          # of a matrix command


def _is_plain(fmt: Format) -> bool:
    """Return whether `fmt` is what the integer engines take."""
    return isinstance(fmt, ScaledFormat) and isinstance(fmt.element, Integer) and not fmt.block and fmt.element.bits in (4, 8)


def _is_float(name: str) -> bool:
    """Return whether a format is what floating-point arrays take."""
    fmt = format_named(name)
    return isinstance(fmt, ScaledFormat) and fmt.scale is None and fmt.element in (FP16, BF16)


def _element(name: str) -> Integer | FloatFormat:
    fmt = format_named(name)
    assert isinstance(fmt, ScaledFormat)
    assert isinstance(fmt.element, Integer | FloatFormat)
    return fmt.element


def ceil_div(a: int, b: int) -> int:
    """Return ⌈a / b⌉ for non-negative `a` and positive `b`."""
    return -(-a // b)


def ceil_log2(n: int) -> int:
    """Return the least e with 2**e ≥ n, for n ≥ 1."""
    return (n - 1).bit_length()


def ceil_power_of_two(n: int) -> int:
    """Return the least power of two that is ≥ n, for n ≥ 1."""
    return 1 << ceil_log2(n)


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceleratorConfig(JsonConfig):
    """Everything that decides the RTL of one array accelerator.

    The defaults are a small working design. R and C are `rows` and `columns`: an R×C array multiplies activations
    (M×K) by weights (K×N), R elements of K and C of N at a time when weight-stationary.

    Parameters
    ----------
    engine : str
        Matrix engine, a key of `hw.array.ENGINES`.
    pe : str
        Processing element, a key of `hw.pe.PE_TYPES`.
    dataflows : tuple of str
        Any of "ws" (weight-stationary) and "os" (output-stationary); with both, each command chooses.
    rows, columns : int
        Array shape, 1 to 256 each, free and independent.
    activation_format, weight_format : str
        Names that `hw.formats.format_named` reads; plain signed integers of 4 or 8 bits, or with an engine that takes them
        float16 or bfloat16. Floating-point activations make the accumulator one of float32.
    weight_formats : tuple of str
        Formats of packed constant weights that the engine takes besides plain ones, as its entry in `hw.engines.ENGINES` allows;
        a matrix command of mode i has weights in the i-th, counted from 1, mode 0 plain ones.
    acc_width : int
        Accumulator width in bits, 16 to 32; accumulation saturates. 32 where it adds in float32.
    os_depth : int
        Longest run of K that one output-stationary tile adds inside the array; longer K is split. It sets the psum width.
    scratchpad_bytes, scratchpad_banks : int
        Scratchpad size, and the number of equal banks (each one read and one write port).
    accumulator_rows, accumulator_banks : int
        Accumulator rows of `columns` words, and the number of equal banks.
    bus_width : int
        AXI4 data width in bits: 64, 128, 256 or 512.
    burst_beats : int
        Longest AXI4 burst that the DMA issues, 1 to 256 beats.
    outstanding_reads : int
        Read bursts that the load DMA keeps in flight, 1 to 64.
    vector : str
        What the vector unit does: "requantize" (accumulator to int8), or "transformer" (all that `hw.isa` has: float32 rows, row
        scalars, functions, sums and maxima), which needs accumulators of 32 bits.
    vector_lanes : int
        Elements that the vector unit handles in a cycle: `columns`, or a power of two that divides it.
    vector_rows : int
        Row scalars of the vector unit, a power of two; only with "transformer".
    queue_depth : int
        Commands that wait in each of the four queues, 2 to 16.
    command_lines : int
        Lines of 64 bytes (8 instructions) in the instruction cache; a power of two.
    hybrid_clusters : int
        Columns of the hybrid engine that work as clusters for one token; a power of two.
    guard_bits : int
        Bits that the hybrid engine keeps below a block's sum when it shifts it by the block's exponent.
    activation_pattern : str
        N:M to which the engine "tasd" cuts activations at run time where weights are packed; "" for all others.
    rotary_pairs : int
        Pairs of a head whose angles the load unit makes by recurrence (`hw.token.angles`), half of the largest head; 0: none.
    protection : tuple of (str, str)
        Pairs of a glob on protection domains and a mechanism (`hw.protect.domains`); the last that matches a domain counts. That
        every glob matches something is checked when the accelerator is built.

    Raises
    ------
    ConfigError
        If a value is impossible; nothing is clipped.
    """

    engine: str = "systolic"
    pe: str = "mac"
    dataflows: tuple[str, ...] = DATAFLOWS
    rows: int = 4
    columns: int = 4
    activation_format: str = "int8"
    weight_format: str = "int8"
    weight_formats: tuple[str, ...] = ()
    acc_width: int = 32
    os_depth: int = 256
    scratchpad_bytes: int = 32768
    scratchpad_banks: int = 8
    accumulator_rows: int = 256
    accumulator_banks: int = 2
    bus_width: int = 128
    burst_beats: int = 16
    outstanding_reads: int = 32
    vector: str = "requantize"
    vector_lanes: int = 4
    vector_rows: int = 1024
    queue_depth: int = 4
    command_lines: int = 32
    hybrid_clusters: int = 2
    guard_bits: int = 8
    activation_pattern: str = ""
    rotary_pairs: int = 0
    protection: Rules = ()

    def __post_init__(self) -> None:
        """Check every field."""
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), field.type
            if kind is int and (not isinstance(value, int) or isinstance(value, bool)):
                raise TypeError(f"AcceleratorConfig.{field.name} must be an integer, not {value!r}")
            if kind is str and not isinstance(value, str):
                raise TypeError(f"AcceleratorConfig.{field.name} must be a string, not {value!r}")
        for name in ("dataflows", "weight_formats"):
            value = getattr(self, name)
            if isinstance(value, list):     # what JSON makes of a tuple
                object.__setattr__(self, name, tuple(value))
            if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
                raise TypeError(f"AcceleratorConfig.{name} must be a tuple of strings, not {value!r}")
        object.__setattr__(self, "protection", check_rules(self.protection))
        self._must("engine", bool(self.engine), "the name of an engine")
        self._must("pe", bool(self.pe), "the name of a processing element")
        legal = self.dataflows and all(d in DATAFLOWS for d in self.dataflows)
        self._must("dataflows", bool(legal) and len(set(self.dataflows)) == len(self.dataflows),
                   "a non-empty choice of 'ws' and 'os', each once")
        for name, low, high in _RANGES:
            self._must(name, low <= getattr(self, name) <= high, f"between {low} and {high}")
        info = self.engine_info
        for name, floats in (("activation_format", info is not None and info.float_activations),
                             ("weight_format", info is not None and info.float_weights)):
            value = getattr(self, name)
            rule = "int8 or int4" + ", float16 or bfloat16" * floats
            if _is_float(value) and not floats:
                rule += f" for the engine {self.engine!r}"
            self._must(name, _is_plain(format_named(value)) or (floats and _is_float(value)), rule)
        for name in self.weight_formats:
            format_named(name)
        self._must("weight_formats", len(set(self.weight_formats)) == len(self.weight_formats) <= LARGEST_MODE,
                   f"up to {LARGEST_MODE} formats, each once")
        self._must("activation_format", self.activation.bits != 4, "an 8-bit format (rows of bytes leave the vector unit)")
        self._must("bus_width", self.bus_width in (64, 128, 256, 512), "64, 128, 256 or 512")
        for name in _POWERS_OF_TWO:
            value = getattr(self, name)
            self._must(name, value & (value - 1) == 0, f"a power of two (nearest: {ceil_power_of_two(value)})")
        self._must("vector", self.vector in VECTOR_UNITS, f"one of {', '.join(VECTOR_UNITS)}")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in _OF_ENGINES:
            self._must(name, info is None or name in info.fields or getattr(self, name) == defaults[name],
                       f"{defaults[name]}, its default, with the engine {self.engine!r}, which has no use for it")
        self._must("activation_pattern", not self.activation_pattern or self.engine == "tasd", "'' but for engine 'tasd'")
        self._must("rotary_pairs", self.rotary_pairs % (self.bus_width // 32) == 0,
                   f"a multiple of {self.bus_width // 32}, the float32 words of a beat")
        self._must("rotary_pairs", not self.rotary_pairs or self.vector == "transformer",
                   "0 with a vector unit that only requantizes")
        divides = self.columns % self.vector_lanes == 0 and self.vector_lanes & (self.vector_lanes - 1) == 0
        self._must("vector_lanes", self.vector_lanes == self.columns or divides,
                   f"columns ({self.columns}), or a power of two that divides it")
        if self.float_activations:
            self._must("vector", self.vector == "transformer", "'transformer' with floating-point activations")
        if self.vector == "transformer":
            self._must("acc_width", self.acc_width == 32, "32 with the vector unit for transformers")
        elif self.range_restriction:
            raise ConfigError(f"AcceleratorConfig.vector must be 'transformer' for range restriction, not {self.vector!r}: what "
                              "only requantizes saturates")
        self._must("accumulator_rows", self.accumulator_rows // self.accumulator_banks >= max(4, self.rows),
                   f"at least {self.accumulator_banks * max(4, self.rows)} (banks × rows of the array)")
        self._must("scratchpad_bytes", self.scratchpad_bytes // self.scratchpad_banks >= 4 * self.line_bytes,
                   f"at least {4 * self.line_bytes * self.scratchpad_banks} (4 lines of {self.line_bytes} bytes a bank)")
        if info is not None:
            info.check(self)

    def _must(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"AcceleratorConfig.{name} must be {rule}, not {getattr(self, name)!r}")

    # Derived geometry -----------------------------------------------------------------------------------------

    @property
    def activation(self) -> Integer | FloatFormat:
        """Element of an activation."""
        return _element(self.activation_format)

    @property
    def weight(self) -> Integer | FloatFormat:
        """Element of a weight."""
        return _element(self.weight_format)

    @property
    def float_activations(self) -> bool:
        """Whether activations are floating-point words, and the accumulator has float32 ones."""
        return _is_float(self.activation_format)

    @property
    def activation_bytes(self) -> int:
        """Bytes of an activation, which is one of 8 or 16 bits."""
        return self.activation.bits // 8

    @property
    def engine_info(self) -> "EngineInfo | None":
        """What the frame knows of the engine; None if it is not registered, which is refused when the accelerator is built."""
        from hw.engines import ENGINES  # engines are described in terms of configs, so they import this file

        return ENGINES.get(self.engine)

    @property
    def lane_rows(self) -> bool:
        """Whether columns of a result may go to different accumulator rows."""
        return self.engine_info is not None and self.engine_info.lane_rows(self)

    @property
    def engine_model(self) -> str:
        """Engine as which this one behaves, of those that golden models and runtime know; "" if it is not registered."""
        return self.engine_info.model if self.engine_info is not None else ""

    @property
    def _engine(self) -> "EngineInfo":
        info = self.engine_info
        if info is None:
            raise ConfigError(f"AcceleratorConfig.engine must be the name of a registered engine, not {self.engine!r}")
        return info

    @property
    def psum_width(self) -> int:
        """Bits of a psum on its way to the accumulator: wide enough that what one tile adds cannot overflow."""
        return self._engine.psum_width(self)

    @property
    def beat_bytes(self) -> int:
        """Bytes of one bus beat."""
        return self.bus_width // 8

    @property
    def activation_slot_bytes(self) -> int:
        """Bytes from one group of R activations to the next: R elements, padded to a power of two."""
        return ceil_power_of_two(ceil_div(self.rows * self.activation.bits, 8))

    @property
    def weight_slot_bytes(self) -> int:
        """Bytes from one group of C weights to the next: C elements, padded to a power of two."""
        return ceil_power_of_two(ceil_div(self.columns * self.weight.bits, 8))

    @property
    def output_slot_bytes(self) -> int:
        """Bytes from one group of C int8 outputs to the next: C bytes, padded to a power of two."""
        return ceil_power_of_two(self.columns)

    @property
    def line_bytes(self) -> int:
        """Bytes of a scratchpad line: the widest of a beat, the three slots and a float32 slice of the vector unit."""
        return max(self.beat_bytes, self.activation_slot_bytes, self.weight_slot_bytes, self.output_slot_bytes,
                   4 * ceil_power_of_two(self.vector_lanes))

    @property
    def parameter_slot_bytes(self) -> int:
        """Bytes of one group of C 32-bit vector parameters (bias or scale)."""
        return 4 * self.output_slot_bytes

    @property
    def scratchpad_lines(self) -> int:
        """Lines in the whole scratchpad."""
        return self.scratchpad_bytes // self.line_bytes

    @property
    def scratchpad_bank_bytes(self) -> int:
        """Bytes of one scratchpad bank; banks are consecutive in the address space."""
        return self.scratchpad_bytes // self.scratchpad_banks

    @property
    def accumulator_bank_rows(self) -> int:
        """Rows of one accumulator bank; banks are consecutive in the address space."""
        return self.accumulator_rows // self.accumulator_banks

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multiply-accumulates that the engine issues in a cycle at most."""
        return self._engine.peak_macs(self)

    @property
    def tile_tokens(self) -> int:
        """Rows of activations that the engine works on at once."""
        return self._engine.tokens(self)

    @property
    def weight_stream(self) -> bool:
        """Whether the engine takes packed weights from the load unit, past the scratchpad."""
        return self._engine.weight_stream

    @property
    def engine_counters(self) -> tuple[str, ...]:
        """Event counters of the engine's own, of `hw.regs.ENGINE_COUNTERS`."""
        return self._engine.counters

    def protection_of(self, domain: str) -> str:
        """Return the mechanism that a block which protects itself is asked for, "none" without one.

        Parameters
        ----------
        domain : str
            A key of `hw.protect.domains.BLOCK_DOMAINS`.
        """
        return mechanism_of(self.protection, domain, BLOCK_DOMAINS[domain])

    @property
    def range_restriction(self) -> bool:
        """Whether the vector unit can limit magnitudes (`vector.middle` 3)."""
        return self.protection_of("activations") == "range"

    @property
    def address_residue(self) -> bool:
        """Whether addresses on the bus are checked by residues that come with them from the descriptor."""
        return self.protection_of("addresses") == "residue3"

    @property
    def command_parity(self) -> bool:
        """Whether instructions have check bits (`hw.isa`)."""
        return self.protection_of("commands") == "parity"

    def _named(self) -> dict[str, Any]:
        """Return the fields that the name is made of; a config of before there were some of them keeps its name."""
        fields = self.to_dict()
        for name, default in (("protection", []), ("weight_formats", []), ("hybrid_clusters", 2), ("guard_bits", 8),
                              ("activation_pattern", ""), ("rotary_pairs", 0)):
            if fields[name] == default:
                del fields[name]
        return fields


_RANGES = (
    ("rows", 1, 256),
    ("columns", 1, 256),
    ("acc_width", 16, 32),
    ("os_depth", 1, 4096),
    ("scratchpad_bytes", 1024, 1 << 24),
    ("scratchpad_banks", 1, 64),
    ("accumulator_rows", 16, 1 << 16),
    ("accumulator_banks", 1, 16),
    ("burst_beats", 1, 256),
    ("outstanding_reads", 1, 64),
    ("vector_lanes", 1, 256),
    ("vector_rows", 16, 1 << 16),
    ("queue_depth", 2, 16),
    ("command_lines", 4, 1024),
    ("hybrid_clusters", 1, 64),
    ("guard_bits", 0, 16),
    ("rotary_pairs", 0, 512),
)
_OF_ENGINES = ("hybrid_clusters", "guard_bits")        # fields that only engines which name them have a use for
_POWERS_OF_TWO = ("scratchpad_bytes", "scratchpad_banks", "accumulator_rows", "accumulator_banks", "vector_rows",
                  "command_lines")
