"""Faults and outcomes, as every engine takes and gives them: one row of a numpy array each, the same bytes in C."""

from enum import IntEnum

import numpy as np

__all__ = ["FAULT", "OUTCOME", "PERMANENT", "UPSETS", "Kind", "Outcome"]


class Kind(IntEnum):
    """What happens to the bits of a fault's mask.

    Cycle 0 is the first one after reset. State (flip-flops, memory words) changes right after the clock edge that begins cycle t,
    before any logic of that cycle sees it; a gate output or a bus beat differs during cycle t.
    """

    SEU = 0             # one bit of state is inverted, once
    MBU = 1             # adjacent bits of one site are inverted, once
    SET = 2             # bits of a gate output are inverted for `duration` cycles
    STUCK0 = 3          # bits are 0 from `cycle` on, for `duration` cycles, or for ever if that is 0
    STUCK1 = 4          # bits are 1 in the same way
    INTERMITTENT = 5    # bits of state are inverted again at the beginning of each of `duration` cycles
    BUS = 6             # bits of a bus or stream beat are inverted for `duration` cycles


UPSETS = (Kind.SEU, Kind.MBU)
"""State is inverted once: what comes next may write over it, and a rate of upsets is theirs."""
PERMANENT = (Kind.STUCK0, Kind.STUCK1)
"""What may stay for ever, and be latent."""


class Outcome(IntEnum):
    """What became of a fault; the first that holds, from the last member to the first."""

    MASKED = 0              # right result, no flag
    CORRECTED = 1           # right result, the hardware says that it corrected something
    DETECTED_BENIGN = 2     # right result, an error flag all the same
    DUE = 3                 # wrong or missing result, and an error flag: detected, not corrected
    SDC = 4                 # wrong result, no flag: silent data corruption
    PROTOCOL = 5            # a rule of the bus was broken
    HANG = 6                # no end within twice the cycles of the run without faults and the watchdog's limit, no flag


FAULT = np.dtype([("site", "<u4"), ("mask", "<u4"), ("cycle", "<u4"), ("duration", "<u4"), ("kind", "<u4")])
"""A fault: `site` indexes the target's sites (words of at most 32 bits), `mask` names the bits in it, `kind` is a `Kind`."""

OUTCOME = np.dtype([("outcome", "<u4"), ("first_difference", "<i4"), ("first_flag", "<i4"), ("end", "<i4"),
                    ("wrong_words", "<u4"), ("largest_error", "<u4"), ("signature", "<u8")])
"""What became of a fault.

`outcome` is an `Outcome`; `first_difference` and `first_flag` are the cycles in which something observed was first wrong, and in
which an error was first flagged, -1 for never; `end` the cycle from which on nothing of the fault was left to simulate;
`wrong_words` the observed words that are wrong and `largest_error` the largest absolute difference among them as signed words;
`signature` a hash of where and how the result is wrong: faults of equal signature corrupt it in the same way, and 0 means not
at all.
"""
