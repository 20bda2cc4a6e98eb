"""Cycles that commands of the softmax unit take in the RTL, from a command to the next: what schedules and predictions use.

A bench holds each of them against the simulated unit.
"""

from hw.config import ceil_div
from hw.pim.config import PimConfig

__all__ = ["lds_cycles", "merge_cycles", "mvs_cycles", "mvx_cycles", "sfm_cycles", "sfo_cycles", "sfo_state_cycles",
           "share_cycles", "sts_cycles"]

# Latencies of the arithmetic, all of float32.
_ADD, _POWER, _MULTIPLY, _RECIPROCAL = 6, 14, 3, 8
_ROUND = 3                  # to the format of weights, and back
_MERGE = 24                 # eight running sums become one
_STATE = 24                 # (m, l) of two heads


def _log2(value: int) -> int:
    return value.bit_length() - 1


def _passes(config: PimConfig, count: int) -> int:
    return ceil_div(count, config.sm_lanes)


def _maximum(config: PimConfig) -> int:
    """Return the cycles from the start of a block to its maximum."""
    return 2 + _log2(config.segments)


def _sum(config: PimConfig) -> int:
    """Return the cycles from the last weight to l."""
    return _ROUND + _ADD * _log2(config.sm_lanes) + _ADD + 1 + _MERGE + _ADD + 1


def _groups(config: PimConfig, entries: int) -> int:
    return entries * (config.width // config.sm_lanes)


def mvs_cycles(entries: int) -> int:
    """Return the cycles of MVS: an entry a cycle."""
    return entries + 2 + _MULTIPLY


def sfo_cycles(config: PimConfig, count: int, entries: int) -> int:
    """Return the cycles of SFO over `count` scores, of a head with so many entries of output: weights, and outputs scaled."""
    weights = _passes(config, count) + _POWER + _ROUND
    outputs = _POWER + 1 + _groups(config, entries) + _MULTIPLY
    return 2 + _maximum(config) + max(weights, outputs)


def sfo_state_cycles(config: PimConfig, count: int) -> int:
    """Return the cycles after which an SFO's (m, l) can be used, by SFM, SFO, MRG, STS and LDS, which wait for them."""
    return 2 + _maximum(config) + _passes(config, count) + _POWER + _ROUND + _sum(config) + 1


def sfm_cycles(config: PimConfig, count: int) -> int:
    """Return the cycles of SFM over `count` scores."""
    passes = 2 * _passes(config, count)
    return 2 + _maximum(config) + passes + _POWER + _ROUND + _sum(config) + _RECIPROCAL + _MULTIPLY + _ROUND


def mvx_cycles(config: PimConfig, slices: int) -> int:
    """Return the cycles of MVX: a slice of a query row a cycle."""
    return 1 + slices * config.rows_x


def share_cycles(config: PimConfig, entries: int) -> int:
    """Return the cycles of MRG of a head with itself: its output over l."""
    return 1 + _RECIPROCAL + _groups(config, entries) + _MULTIPLY


def merge_cycles(config: PimConfig, entries: int) -> int:
    """Return the cycles of MRG of two heads."""
    return 4 + 2 * _groups(config, entries) + _STATE


def sts_cycles() -> int:
    """Return the cycles of STS."""
    return 2


def lds_cycles() -> int:
    """Return the cycles of LDS."""
    return 3
