"""Which engine runs what: operations per byte, break-even points, and how experts are split between a compute array and PIM.

Source: Yun et al., Duplex, MICRO 2024. Experts with few tokens are bound by bandwidth and go to PIM; those with many go to the
array. How we differ: the paper moves one expert after the other to PIM while that helps; we take the best prefix of the sorted
experts, which is the same where the array's time does not depend on the tokens, and never worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from hw.config import ceil_div
from hw.errors import ConfigError
from sw.pim.limits import check_count, check_rate

__all__ = ["ArrayEngine", "PimEngine", "Split", "best_split", "break_even", "op_per_byte", "scheduler_cycles", "split_experts",
           "stage_split"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayEngine:
    """A compute array: bound by bandwidth or by its rate.

    Attributes
    ----------
    bandwidth : Fraction
        Bytes a nanosecond.
    gops : Fraction
        Operations a nanosecond, a multiply and an add being two.
    overhead : Fraction
        Nanoseconds that an operator takes beside.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    bandwidth: Fraction
    gops: Fraction
    overhead: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_rate("ArrayEngine.bandwidth", self.bandwidth)
        check_rate("ArrayEngine.gops", self.gops)
        check_rate("ArrayEngine.overhead", self.overhead, zero=True)

    def time(self, rows: int, nbytes: int, weight_bits: int = 16) -> Fraction:
        """Return the nanoseconds of `rows` rows times a matrix of `nbytes`; nothing takes nothing."""
        _check_work(rows, nbytes, weight_bits)
        if rows == 0:
            return Fraction(0)
        operations = Fraction(2 * rows * nbytes * 8, weight_bits)
        return max(nbytes / self.bandwidth, operations / self.gops) + self.overhead


@dataclass(frozen=True, kw_only=True, slots=True)
class PimEngine:
    """Logic-die PIM: weights are read once for every X rows.

    Attributes
    ----------
    bandwidth : Fraction
        Bytes a nanosecond at which the MACs take weights, of all pseudo-channels.
    rows_x : int
        X.
    efficiency : Fraction
        Share of the bandwidth that rows and refreshes leave; measure it.
    overhead : Fraction
        Nanoseconds that an operator takes beside.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    bandwidth: Fraction
    rows_x: int
    efficiency: Fraction = Fraction(1)
    overhead: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_rate("PimEngine.bandwidth", self.bandwidth)
        check_count("PimEngine.rows_x", self.rows_x)
        check_rate("PimEngine.efficiency", self.efficiency, most=1)
        check_rate("PimEngine.overhead", self.overhead, zero=True)

    def time(self, rows: int, nbytes: int, weight_bits: int = 16) -> Fraction:
        """Return the nanoseconds of `rows` rows times a matrix of `nbytes`; nothing takes nothing."""
        _check_work(rows, nbytes, weight_bits)
        if rows == 0:
            return Fraction(0)
        return ceil_div(rows, self.rows_x) * nbytes / (self.bandwidth * self.efficiency) + self.overhead


Engine = ArrayEngine | PimEngine


def _check_work(rows: int, nbytes: int, weight_bits: int) -> None:
    check_count("rows", rows, 0)
    check_count("bytes", nbytes, 0)
    check_count("weight_bits", weight_bits)


def op_per_byte(rows: int, weight_bits: Fraction | int) -> Fraction:
    """Return the operations for each byte of weights, at `rows` rows of reuse."""
    check_count("rows", rows, 0)
    check_rate("weight_bits", weight_bits)
    return Fraction(16 * rows) / weight_bits


def break_even(array: ArrayEngine, pim: PimEngine, nbytes: int, *, weight_bits: int = 16, most: int = 4096) -> int:
    """Return the most rows for which PIM is faster; 0 if it never is.

    Time on PIM goes up in steps of X rows, so this is the last row of a step; from the first row at which the array is no slower.
    """
    rows = 0
    while rows < most and pim.time(rows + 1, nbytes, weight_bits) < array.time(rows + 1, nbytes, weight_bits):
        rows += 1
    return rows


@dataclass(frozen=True, slots=True)
class Split:
    """Work lists of the two engines.

    Attributes
    ----------
    array, pim : tuple of int
        Experts, the array's with the most tokens first, PIM's with the fewest first.
    makespan : Fraction
        Time of the engine that takes longer, in nanoseconds.
    """

    array: tuple[int, ...]
    pim: tuple[int, ...]
    makespan: Fraction


def best_split(tokens: Sequence[int], array_times: Sequence[Fraction], pim_times: Sequence[Fraction]) -> Split:
    """Return the best split among those that put the s experts with the most tokens on the array.

    Ties: experts with equal tokens by number; equal makespans by the fewest experts on the array. Experts without tokens are on
    neither list.

    Parameters
    ----------
    tokens : sequence of int
        Tokens of each expert.
    array_times, pim_times : sequence of Fraction
        Time of each expert on either engine.

    Raises
    ------
    ConfigError
        If tokens or a time are negative, or there is not a time for each expert.
    """
    if not len(tokens) == len(array_times) == len(pim_times):
        raise ConfigError(f"times must be one for each of {len(tokens)} experts, not {len(array_times)} and {len(pim_times)}")
    for expert, count in enumerate(tokens):
        check_count(f"tokens of expert {expert}", count, 0)
        check_rate(f"array's time of expert {expert}", array_times[expert], zero=True)
        check_rate(f"PIM's time of expert {expert}", pim_times[expert], zero=True)
    order = sorted((e for e in range(len(tokens)) if tokens[e]), key=lambda e: (-tokens[e], e))
    on_array = list(accumulate((array_times[e] for e in order), initial=Fraction(0)))
    on_pim = list(accumulate((pim_times[e] for e in reversed(order)), initial=Fraction(0)))[::-1]
    spans = [max(pair) for pair in zip(on_array, on_pim, strict=True)]
    count = spans.index(min(spans))
    return Split(tuple(order[:count]), tuple(reversed(order[count:])), spans[count])


def split_experts(tokens: Sequence[int], nbytes: int, array: ArrayEngine, pim: PimEngine, *, weight_bits: int = 16) -> Split:
    """Return `best_split` of experts of `nbytes` bytes each."""
    return best_split(tokens, [array.time(n, nbytes, weight_bits) for n in tokens],
                      [pim.time(n, nbytes, weight_bits) for n in tokens])


def stage_split(prefill: int, decode: int) -> dict[str, str]:
    """Return where the parts of a stage run: "array", "pim", or "both" for experts that `split_experts` splits.

    Parameters
    ----------
    prefill, decode : int
        Requests that are in prefill, and in decode.
    """
    check_count("requests in prefill", prefill, 0)
    check_count("requests in decode", decode, 0)
    if not prefill + decode:
        raise ConfigError("requests must be at least one, in prefill or in decode")
    return {"projections": "array", "prefill attention": "array" if prefill else "",
            "decode attention": "pim" if decode else "", "experts": "both" if decode else "array"}


def scheduler_cycles(experts: int) -> int:
    """Return the cycles of a scheduler in hardware: an insertion sorter, prefix sums, the best of them, each a pass."""
    check_count("experts", experts, 0)
    return 3 * experts + 20
