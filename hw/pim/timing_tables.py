"""Rules between DRAM commands as rows of data: what a controller must keep and a checker looks for.

A row says: a command of `following` comes at least `cycles` after the `window`-th last command of `previous` in the same part of
the pseudo-channel (`scope`). Commands name sets of banks; a bank, group or rank is shared if both commands touch it.

ACTM and MAC are what makes a DRAM a PIM: they open, and read, one row of several banks at once. A MAC comes every `interval`
cycles at most, whatever the banks, since all of them end in one place; and no window of four applies to an ACTM (GDDR6-AiM
exempts its ACT16, and the logic dies have power of their own for it).
"""

from dataclasses import dataclass
from enum import Enum, IntEnum

from hw.pim.timing import DramTiming

__all__ = [
    "ACTIVATES",
    "COLUMN_COMMANDS",
    "POSTPONED_REFRESHES",
    "READS",
    "REFRESHES",
    "ROW_COMMANDS",
    "Constraint",
    "DramCommand",
    "Scope",
    "activate_cycles",
    "constraints",
    "refresh_bank",
    "same_bus",
]

POSTPONED_REFRESHES = 8
"""Refreshes that may be owed: a bank that has seen none for one interval more than that has lost its data."""


class Scope(Enum):
    """The part of a pseudo-channel in which a rule holds."""

    BANK = "bank"
    GROUP = "bank group"
    RANK = "rank"
    CHANNEL = "pseudo-channel"


class DramCommand(IntEnum):
    """Commands; those before RD go over the row bus, where there are two."""

    ACT = 0         # open a row of one bank
    ACTM = 1        # open a row of several
    PRE = 2         # close the rows of one bank or several
    REF = 3         # refresh all banks of a rank
    REFSB = 4       # refresh one bank
    RD = 5          # read a burst of one bank
    MAC = 6         # read a burst of several for the arithmetic
    WR = 7          # write a burst of one bank or several, each its own


ACTIVATES = (DramCommand.ACT, DramCommand.ACTM)
READS = (DramCommand.RD, DramCommand.MAC)
REFRESHES = (DramCommand.REF, DramCommand.REFSB)
COLUMN_COMMANDS = (*READS, DramCommand.WR)
ROW_COMMANDS = (*ACTIVATES, DramCommand.PRE, *REFRESHES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """One rule.

    Attributes
    ----------
    name : str
        As the data sheets call it, without its t or n.
    scope : Scope
    previous, following : tuple of DramCommand
        From any of these to any of those.
    cycles : int
        DRAM clocks, at least.
    window : int
        From the how-manieth last one on: 4 for a window of four activations.
    """

    name: str
    scope: Scope
    previous: tuple[DramCommand, ...]
    following: tuple[DramCommand, ...]
    cycles: int
    window: int = 1


_REFRESH_BANK_PS = {"hbm3": 200_000, "hbm2": 160_000, "hbm4": 200_000, "gddr6": 60_000, "lpddr5": 140_000}
"""Time of a refresh of one bank by family. HBM: presets of the public Ramulator 2 models; the others are estimates of ours."""


def same_bus(timing: DramTiming) -> bool:
    """Return whether row and column commands share one bus: all but HBM."""
    return not timing.name.startswith("hbm")


def activate_cycles(timing: DramTiming) -> int:
    """Return for how many clocks an activation has the (row) command bus: 2 in HBM3 and its successor, 1 else."""
    return 2 if timing.name.startswith(("hbm3", "hbm4")) else 1


def refresh_bank(timing: DramTiming) -> int:
    """Return the clocks that the refresh of one bank takes."""
    family = timing.name.partition("-")[0]
    return -(-_REFRESH_BANK_PS[family] // timing.tck_ps)


def constraints(timing: DramTiming, interval: int) -> tuple[Constraint, ...]:
    """Return the rules of a DRAM whose banks are read together every `interval` clocks.

    Parameters
    ----------
    timing : DramTiming
    interval : int
        MAC to MAC.
    """
    act, actm, pre, ref, refsb, rd, mac, wr = DramCommand
    t = timing
    written = t.cwl + t.bl                      # from the command to the end of its data
    rows = [
        ("RCD", Scope.BANK, ACTIVATES, (rd,), t.rcd, 1),
        ("RCDMAC", Scope.BANK, ACTIVATES, (mac,), t.rcd_mac, 1),
        ("RCDWR", Scope.BANK, ACTIVATES, (wr,), t.rcd_write, 1),
        ("RAS", Scope.BANK, ACTIVATES, (pre,), t.ras, 1),
        ("RC", Scope.BANK, ACTIVATES, ACTIVATES, t.rc, 1),
        ("RP", Scope.BANK, (pre,), (*ACTIVATES, *REFRESHES), t.rp, 1),
        ("RTP", Scope.BANK, READS, (pre,), t.rtp_l, 1),
        ("WR", Scope.BANK, (wr,), (pre,), written + t.wr, 1),
        ("CCDS", Scope.CHANNEL, (rd,), (rd,), t.ccd_s, 1),
        ("CCDL", Scope.GROUP, (rd,), (rd,), t.ccd_l, 1),
        ("CCDS_WR", Scope.CHANNEL, (wr,), (wr,), t.ccd_s, 1),
        ("CCDL_WR", Scope.GROUP, (wr,), (wr,), t.ccd_l, 1),
        ("CCDMAC", Scope.CHANNEL, (mac,), READS, interval, 1),
        ("CCDRDMAC", Scope.CHANNEL, (rd,), (mac,), max(t.ccd_l, interval), 1),
        ("RTW", Scope.CHANNEL, READS, (wr,), t.rtw, 1),
        ("WTRS", Scope.CHANNEL, (wr,), READS, written + t.wtr_s, 1),
        ("WTRL", Scope.GROUP, (wr,), READS, written + t.wtr_l, 1),
        ("RRDS", Scope.RANK, (act,), (act,), t.rrd_s, 1),
        ("RRDL", Scope.GROUP, (act,), (act,), t.rrd_l, 1),
        ("RRDM", Scope.RANK, (actm,), ACTIVATES, t.rrd_l, 1),
        ("RRDM_ACT", Scope.RANK, (act,), (actm,), t.rrd_l, 1),
        *([("FAW", Scope.RANK, (act,), (act,), t.faw, 4)] if t.faw else []),
        ("RFC", Scope.BANK, (ref,), (*ACTIVATES, *REFRESHES), t.rfc, 1),
        ("RFCSB", Scope.BANK, (refsb,), (*ACTIVATES, *REFRESHES), refresh_bank(t), 1),
        ("RREFD", Scope.CHANNEL, REFRESHES, REFRESHES, t.rrefd, 1),
        ("BUS_ACT", Scope.CHANNEL, ACTIVATES, ROW_COMMANDS, activate_cycles(t), 1),
        ("BUS_ROW", Scope.CHANNEL, (pre, *REFRESHES), ROW_COMMANDS, 1, 1),
        ("BUS_COLUMN", Scope.CHANNEL, COLUMN_COMMANDS, COLUMN_COMMANDS, 1, 1),
    ]
    if same_bus(t):
        rows += [("BUS_SHARED", Scope.CHANNEL, ACTIVATES, COLUMN_COMMANDS, activate_cycles(t), 1),
                 ("BUS_SHARED", Scope.CHANNEL, (pre, *REFRESHES), COLUMN_COMMANDS, 1, 1),
                 ("BUS_SHARED", Scope.CHANNEL, COLUMN_COMMANDS, ROW_COMMANDS, 1, 1)]
    return tuple(Constraint(name=name, scope=scope, previous=previous, following=following, cycles=cycles, window=window)
                 for name, scope, previous, following, cycles, window in rows)
