"""The structured-sparsity engine: its modes, what a config of it must be, and its cycle formulas.

M tokens, N outputs, K reduction. A column multiplies R values at once, in R/8 groups of 4 blocks × 2 values (G1·G0 of HighLight):
what a mode keeps of H1 blocks of H0 values of each group.
"""

import math
from dataclasses import dataclass, replace

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
from hw.engines.info import EngineInfo, check_frame
from hw.errors import ConfigError
from hw.families import Format, OutlierFormat, SeriesFormat, SparseFormat
from hw.formats import format_named

__all__ = [
    "BLOCK", "BLOCKS", "COMMAND_LATENCY", "DENSE", "GROUP", "HSS", "METADATA", "RESULT_LATENCY", "STC", "TASD", "TC", "TOKENS",
    "HssMode", "HssStep", "activation_pattern", "hss_command_cycles", "hss_command_latency", "hss_fetches", "hss_granule",
    "hss_load_cycles", "hss_mode", "hss_modes", "hss_record_slots", "hss_result_latency", "hss_steps", "hss_tokens",
]

BLOCKS, BLOCK = 4, 2                # G1 and G0: blocks of a group that are kept, and values in each
GROUP = BLOCKS * BLOCK
METADATA = GROUP // 2               # bytes of a group's coordinates
TOKENS = 128                        # rows of activations that stream past a tile of weights; more are cut into pieces of so many

COMMAND_LATENCY = 4                 # from the cycle in which a command is taken to its first weight slot
RESULT_LATENCY = 6                  # from the issue of a token to its row for the accumulator; `done` one later


@dataclass(frozen=True, kw_only=True, slots=True)
class HssMode:
    """What a column makes of R stored values.

    Attributes
    ----------
    h1, h0 : int
        Blocks of a group, and values of a block, in dense coordinates; 4:4 and 2:2 is dense.
    sdq : bool
        In every 8 values one int8 outlier and up to six FP4 inliers (H1 = H0 = 4: two eights a group).
    packed : bool
        Weights come as records; else as plain slots.
    following : tuple of HssMode
        Of a series (TASD) the terms behind this one, which share its inputs and its sums.
    activations : (int, int) or ()
        N, M: activations are cut to the N largest of every M (TASD-A); weights are dense. (): none are.
    """

    h1: int = BLOCKS
    h0: int = BLOCK
    sdq: bool = False
    packed: bool = True
    following: tuple["HssMode", ...] = ()
    activations: tuple[int, ...] = ()

    @property
    def terms(self) -> tuple["HssMode", ...]:
        """The terms of a series in order; of anything else itself."""
        return (replace(self, following=()), *self.following) if self.following else (self,)

    @property
    def dense(self) -> bool:
        """Whether no coordinates are needed."""
        return self.h1 == BLOCKS and self.h0 == BLOCK and not self.following

    @property
    def group(self) -> int:
        """Dense coordinates of a group; of a series the least that are whole groups of every term."""
        if self.activations:
            keep, of = self.activations
            return GROUP * of // keep
        return math.lcm(*(term.h1 * term.h0 for term in self.terms))

    @property
    def speedup(self) -> float:
        """Multiply-accumulates of the dense mode in the time of one of these."""
        return 1 / sum(GROUP / term.group for term in self.terms)


@dataclass(frozen=True, kw_only=True, slots=True)
class HssStep:
    """A tile of weights that tokens stream past: one record of each column.

    Attributes
    ----------
    term : int
        Number of its term.
    mode : HssMode
        Of that term.
    first, depth : int
        First input (of K), and how many there are.
    again : bool
        The first of a further term of a series: back at inputs that went past before.
    """

    term: int
    mode: HssMode
    first: int
    depth: int
    again: bool


DENSE = HssMode(packed=False)
_SDQ = HssMode(h1=4, h0=4, sdq=True)
_PATTERNS = {(2, 4): (4, 4), (1, 4): (4, 4), (1, 8): (8, 4), (2, 8): (4, 4)}
"""Plain N:M patterns → the least H1, H0 that hold every matrix of such a pattern: an 8 is two blocks of 4."""
_ACTIVATION_PATTERNS = {f"{keep}:{of}": (keep, of) for of in (4, 8) for keep in (1, 2, 4) if keep < of}


def hss_mode(fmt: Format) -> HssMode:
    """Return how the engine reads weights of a format.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    if isinstance(fmt, OutlierFormat) and (fmt.group, fmt.outliers, fmt.inliers) == (8, 1, 6):
        return _SDQ
    if isinstance(fmt, SparseFormat):
        if fmt.outer_bits and (fmt.outer_keep, fmt.inner_keep) == (BLOCKS, BLOCK) and fmt.outer_of <= 8 and fmt.inner_of <= 4:
            return HssMode(h1=fmt.outer_of, h0=fmt.inner_of)
        if not fmt.outer_bits and (fmt.inner_keep, fmt.inner_of) in _PATTERNS:
            h1, h0 = _PATTERNS[fmt.inner_keep, fmt.inner_of]
            return HssMode(h1=h1, h0=h0)
    if isinstance(fmt, SeriesFormat) and all(term in _PATTERNS for term in fmt.terms):
        first, *following = (HssMode(h1=h1, h0=h0) for h1, h0 in map(_PATTERNS.__getitem__, fmt.terms))
        return replace(first, following=tuple(following))
    raise ConfigError(f"a format for structured sparsity must be hss-4:H1-2:H0 with H1 from 4 to 8 and H0 from 2 to 4, one of "
                      f"{', '.join(f'{keep}:{of}' for keep, of in _PATTERNS)}, a series of these, or SDQ with 1:8 outliers and "
                      f"6:8 inliers, not {fmt.name!r}")


def activation_pattern(config: AcceleratorConfig) -> tuple[int, int]:
    """Return N and M of the pattern that activations are cut to.

    Raises
    ------
    ConfigError
        If there is no such pattern.
    """
    found = _ACTIVATION_PATTERNS.get(config.activation_pattern)
    if found is None:
        raise ConfigError(f"AcceleratorConfig.activation_pattern must be one of {', '.join(_ACTIVATION_PATTERNS)}, not "
                          f"{config.activation_pattern!r}")
    return found


def hss_result_latency(config: AcceleratorConfig) -> int:
    """Return the cycles from the issue of a token to its row for the accumulator."""
    return RESULT_LATENCY + (activation_pattern(config)[0] + 1 if config.activation_pattern else 0)


def hss_modes(config: AcceleratorConfig) -> tuple[HssMode, ...]:
    """Return the modes of a config by number; mode 0 is plain int8."""
    if config.activation_pattern:
        return DENSE, *(HssMode(activations=activation_pattern(config)) for _ in config.weight_formats)
    return DENSE, *(hss_mode(format_named(name)) for name in config.weight_formats)


def hss_granule(config: AcceleratorConfig, mode: HssMode) -> int:
    """Return the inputs (of K) that a column takes at once; of a series, those that are whole steps of every term."""
    return config.rows // GROUP * mode.group


def hss_record_slots(config: AcceleratorConfig, mode: HssMode) -> int:
    """Return the slots of C bytes that a tile of weights is stored in, coordinates, then values; of a series all of a granule."""
    if mode.following:
        return sum(mode.group // term.group * hss_record_slots(config, term) for term in mode.terms)
    if mode.activations:
        return hss_granule(config, mode)
    return config.rows + (0 if mode.dense else config.rows // GROUP * METADATA)


def hss_steps(config: AcceleratorConfig, mode: HssMode, k: int) -> list[HssStep]:
    """Return the steps of K in order; of a series each granule's of the first term, then the same inputs' of the next."""
    granule = hss_granule(config, mode)
    steps = []
    for start in range(0, k, granule):
        for number, term in enumerate(mode.terms):
            step = hss_granule(config, term)
            for first in range(start, min(start + granule, k), step):
                again = number > 0 and first == start
                steps.append(HssStep(term=number, mode=term, first=first, depth=min(step, k - first), again=again))
    return steps


def hss_tokens(config: AcceleratorConfig) -> int:
    """Return the largest number of tokens that stream past a tile of weights."""
    return min(TOKENS, ceil_power_of_two(config.accumulator_rows))


def hss_load_cycles(config: AcceleratorConfig, mode: HssMode, k: int) -> list[int]:
    """Return the cycles that weights of each step of K take to load, in order; plain slots beyond K are not read."""
    if mode.packed:
        return [hss_record_slots(config, step.mode) for step in hss_steps(config, mode, k)]
    return [config.rows] * (ceil_div(k, config.rows) - 1) + [(k - 1) % config.rows + 1]


def hss_command_cycles(config: AcceleratorConfig, m: int, n: int, k: int, mode: int = 0) -> int:
    """Return the cycles from one command to the next in an unbroken run of such commands, reads never refused.

    ⌈N/C⌉ · Σ over steps of K, of which there are ⌈K / (R/8 · H1 · H0)⌉, of a series for each term, of max(M, load): with a record
    of R·3/2 slots the load is hidden from M = 24 on where R is 16. M beyond `hss_tokens` is cut into pieces. Rows of activations
    begin at lines; where one does not, and the first slice of a piece or of a further term crosses lines, that slice takes two
    cycles. Where the last step of a command is shorter than `COMMAND_LATENCY`, up to COMMAND_LATENCY − 1 cycles more.
    """
    chosen, tokens = hss_modes(config)[mode], hss_tokens(config)
    pieces = [tokens] * (m // tokens) + [m % tokens] * (m % tokens > 0)
    loads = hss_load_cycles(config, chosen, k)
    behind = [*loads[1:], loads[0]]                     # what loads while each step streams
    return ceil_div(n, config.columns) * sum(max(piece, load) for piece in pieces for load in behind)


def hss_command_latency(config: AcceleratorConfig, m: int, n: int, k: int, mode: int = 0) -> int:
    """Return the cycles of a command alone, from the one in which it is taken to `done`, reads never refused.

    `hss_command_cycles`, but for the last step, behind which nothing loads; the first load, which nothing hides; and 10 cycles of
    pipeline: `COMMAND_LATENCY` and `RESULT_LATENCY`.
    """
    chosen, tokens = hss_modes(config)[mode], hss_tokens(config)
    loads = hss_load_cycles(config, chosen, k)
    last = (m - 1) % tokens + 1
    whole = hss_command_cycles(config, m, n, k, mode) - _wrap(m, tokens, loads)
    return COMMAND_LATENCY + loads[0] + whole + last + hss_result_latency(config)


def _wrap(m: int, tokens: int, loads: list[int]) -> int:
    """Return what `hss_command_cycles` counts for the last step of a command."""
    return max((m - 1) % tokens + 1, loads[0])


def hss_fetches(config: AcceleratorConfig, m: int, n: int, k: int, mode: int = 0) -> int:
    """Return the lines of activations that a command reads, rows beginning at lines: each once for each group of N, and once more
    for each further term of a series and granule."""
    chosen = hss_modes(config)[mode]
    again = sum(step.again for step in hss_steps(config, chosen, k))
    return ceil_div(n, config.columns) * m * (ceil_div(k, config.line_bytes) + again)


def _psum_width(config: AcceleratorConfig) -> int:
    """Return bits of a row's sum; where there is SDQ, FP4 products are shifted by up to 8."""
    groups = config.rows // GROUP
    largest = config.rows << 14
    if any(mode.sdq for mode in hss_modes(config)):
        largest = max(largest, groups * ((2 << 14) + (12 * 144 << 8)))
    return largest.bit_length() + 1


def _check(config: AcceleratorConfig) -> None:
    rows = config.rows
    if rows & rows - 1 or rows < GROUP:
        raise ConfigError(f"AcceleratorConfig.rows must be a power of two for structured sparsity, at least {GROUP} (nearest: "
                          f"{max(GROUP, ceil_power_of_two(rows))}), not {rows!r}")
    check_frame(config, "structured sparsity", dataflow="whose weights stay", mesh="whose columns do not check themselves")
    granule = max(hss_granule(config, mode) for mode in hss_modes(config))
    if config.line_bytes < granule:
        raise ConfigError(f"AcceleratorConfig.bus_width must make lines of at least {granule} bytes for structured sparsity (the "
                          f"inputs of a step), not of {config.line_bytes}")


def _check_baseline(config: AcceleratorConfig, name: str, least: HssMode) -> None:
    """Check what both baselines of the same frame lack: every mode must be dense, or `least`."""
    _check(config)
    for fmt, mode in zip(config.weight_formats, hss_modes(config)[1:], strict=True):
        if not mode.dense and any(term != least for term in mode.terms):
            raise ConfigError(f"AcceleratorConfig.weight_formats must be {name}, not {fmt!r}: others are for engine 'hss'")


def _peak_macs(config: AcceleratorConfig) -> int:
    return config.rows * config.columns


HSS = EngineInfo(
    name="hss",
    doc="C columns of R MACs, weights in hierarchical structured sparsity with coordinates, also 2:4, SDQ and dense",
    source="Wu et al., HighLight, MICRO 2023 (structure found, datapath inferred)",
    model="hss", check=_check, psum_width=_psum_width, peak_macs=_peak_macs)

STC = EngineInfo(
    name="stc",
    doc="the same columns with no more than 2:4 sparsity: a baseline",
    source="Mishra et al., arXiv 2104.08378",
    model="hss", check=lambda config: _check_baseline(config, "dense, 2:4 or 1:4", HssMode(h1=4, h0=4)),
    psum_width=_psum_width, peak_macs=_peak_macs)

def _check_tasd(config: AcceleratorConfig) -> None:
    if config.weight_formats != ("int8",):
        raise ConfigError(f"AcceleratorConfig.weight_formats must be ('int8',) where activations are cut to a pattern, not "
                          f"{config.weight_formats!r}")
    activation_pattern(config)
    _check(config)


TASD = EngineInfo(
    name="tasd",
    doc="columns whose dense weights meet activations cut to N:M at run time",
    source="Jeong et al., TASD, MLSys 2025 (extraction at run time found, datapath inferred)",
    model="hss", check=_check_tasd, psum_width=_psum_width, peak_macs=_peak_macs)

TC = EngineInfo(
    name="tc",
    doc="the same columns, dense: a baseline",
    source="the peers of HighLight in Sparseloop's artifact",
    model="hss", check=lambda config: _check_baseline(config, "dense", HssMode()), psum_width=_psum_width, peak_macs=_peak_macs)
