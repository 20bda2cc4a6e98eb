"""Timing of DRAM as data: what the row engine plans with, the checker enforces, and the closed forms of cycles use.

Times are in cycles of the DRAM clock (tCK); where a kind of DRAM does not tell short from long, both are the same number.
"""

import dataclasses
from dataclasses import dataclass

from hw.errors import ConfigError

__all__ = ["TIMINGS", "DramTiming", "timing_named"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DramTiming:
    """Timing and geometry of one pseudo-channel (or channel, where there are none).

    Attributes
    ----------
    tck_ps : int
        Clock period in picoseconds.
    bl : int
        Cycles that a burst holds the data bus.
    cl, cwl : int
        From a read, a write, to its data.
    rcd, rcd_write, rcd_mac : int
        From ACT to a read, to a write, to a command that computes on all banks.
    rp, ras, rc, wr : int
        PRE → ACT; ACT → PRE; ACT → ACT of one bank; end of write data → PRE.
    rtp_s, rtp_l : int
        Read → PRE, other and same bank group.
    ccd_s, ccd_l : int
        Column command → column command, other and same bank group.
    rrd_s, rrd_l, faw : int
        ACT → ACT of two banks, other and same group; window of four ACTs (0: none).
    wtr_s, wtr_l, rtw : int
        End of write data → read; read → write.
    refi, rfc, rrefd : int
        Interval of refreshes; a refresh of all banks; refresh → refresh of other banks.
    ranks, bank_groups, banks : int
        Ranks, bank groups of a rank, banks of a group.
    columns : int
        Bursts in a DRAM row.
    burst_bytes : int
        Bytes of a burst.
    source : str
        Where the numbers are from.
    """

    name: str
    tck_ps: int
    bl: int
    cl: int
    cwl: int
    rcd: int
    rcd_write: int
    rcd_mac: int
    rp: int
    ras: int
    rc: int
    wr: int
    rtp_s: int
    rtp_l: int
    ccd_s: int
    ccd_l: int
    rrd_s: int
    rrd_l: int
    faw: int
    wtr_s: int
    wtr_l: int
    rtw: int
    refi: int
    rfc: int
    rrefd: int
    ranks: int
    bank_groups: int
    banks: int
    columns: int
    burst_bytes: int
    source: str

    @property
    def row_turnaround(self) -> int:
        """From the last burst of an open row to the first of the next row in the same banks: read → PRE → ACT → compute."""
        return self.rtp_l + self.rp + self.rcd_mac

    @property
    def all_banks(self) -> int:
        """Banks of the pseudo-channel, all ranks."""
        return self.ranks * self.bank_groups * self.banks

    def row_period(self, interval: int) -> int:
        """Return the cycles of one row of all banks, from ACT to the next ACT, when bursts come every `interval` cycles."""
        return (self.columns - 1) * interval + self.row_turnaround


_ATTACC = "AttAcc's HBM3 presets (scaled from HBM2 in nanoseconds by their authors)"


def _hbm3(rate: str, tck_ps: int, rcd: int, ras: int, rc: int, wr: int, rtp: tuple[int, int], cwl: int, wtr: tuple[int, int],
          faw: int, refi: int, rrefd: int) -> DramTiming:
    rfc = -(-350_000 // tck_ps)             # 350 ns, of 8 Gb
    return DramTiming(
        name=f"hbm3-{rate}", tck_ps=tck_ps, bl=2, cl=rcd, cwl=cwl, rcd=rcd, rcd_write=rcd, rcd_mac=rcd, rp=rcd, ras=ras, rc=rc,
        wr=wr, rtp_s=rtp[0], rtp_l=rtp[1], ccd_s=2, ccd_l=4, rrd_s=2, rrd_l=4, faw=faw, wtr_s=wtr[0], wtr_l=wtr[1], rtw=3,
        refi=refi, rfc=rfc, rrefd=rrefd, ranks=2, bank_groups=4, banks=4, columns=32, burst_bytes=32, source=_ATTACC)


_HBM3 = _hbm3("5.2", 769, 19, 45, 63, 21, (6, 8), 6, (8, 11), 39, 5070, 11)

_TABLE = (
    _hbm3("4.8", 833, 17, 41, 58, 20, (5, 8), 5, (8, 10), 36, 4680, 10),
    _HBM3,
    _hbm3("5.6", 714, 20, 48, 68, 23, (6, 9), 6, (9, 12), 42, 5460, 12),
    _hbm3("6.0", 666, 21, 51, 72, 24, (6, 9), 6, (9, 12), 45, 5850, 12),
    _hbm3("6.4", 625, 23, 55, 77, 26, (7, 10), 7, (10, 13), 48, 6240, 13),
    DramTiming(
        name="hbm2", tck_ps=1000, bl=2, cl=20, cwl=8, rcd=14, rcd_write=10, rcd_mac=14, rp=14, ras=33, rc=47, wr=16, rtp_s=4,
        rtp_l=5, ccd_s=2, ccd_l=4, rrd_s=4, rrd_l=6, faw=16, wtr_s=8, wtr_l=8, rtw=18, refi=3900, rfc=350, rrefd=8, ranks=1,
        bank_groups=4, banks=4, columns=32, burst_bytes=32,
        source="HBM2 as in the public simulator of HBM-PIM; write-to-read and read-to-write by JEDEC's rules from its latencies"),
    DramTiming(
        name="gddr6-aim", tck_ps=500, bl=2, cl=50, cwl=6, rcd=36, rcd_write=28, rcd_mac=56, rp=32, ras=54, rc=89, wr=33,
        rtp_s=12, rtp_l=12, ccd_s=2, ccd_l=2, rrd_s=11, rrd_l=11, faw=42, wtr_s=11, wtr_l=11, rtw=48, refi=3333, rfc=240,
        rrefd=11, ranks=1, bank_groups=4, banks=4, columns=64, burst_bytes=32,
        source="GDDR6-AiM as in its public simulator; refresh time, write-to-read and read-to-write are ours"),
    DramTiming(
        name="lpddr5", tck_ps=1250, bl=2, cl=17, cwl=9, rcd=15, rcd_write=15, rcd_mac=15, rp=15, ras=34, rc=49, wr=28, rtp_s=6,
        rtp_l=6, ccd_s=2, ccd_l=4, rrd_s=4, rrd_l=4, faw=16, wtr_s=5, wtr_l=10, rtw=14, refi=3120, rfc=224, rrefd=72, ranks=1,
        bank_groups=4, banks=4, columns=64, burst_bytes=32,
        source="6400 Mb/s, 16 data lines, 16 Gb: usual figures, in no document that we have"),
    dataclasses.replace(
        _HBM3, name="hbm4-cube", tck_ps=279, cl=53, cwl=17, rcd=53, rcd_write=53, rcd_mac=53, rp=53, ras=125, rc=174, wr=58,
        rtp_s=17, rtp_l=23, rrd_s=6, rrd_l=12, faw=108, wtr_s=23, wtr_l=31, rtw=9, refi=13979, rfc=1255, rrefd=31,
        source="AMMA's 2.75 TB/s a cube as 12 channels; latencies in nanoseconds as hbm3-5.2"),
)

TIMINGS: dict[str, DramTiming] = {timing.name: timing for timing in _TABLE}


def timing_named(name: str) -> DramTiming:
    """Return the timing called `name`.

    Raises
    ------
    ConfigError
        If there is none; the text lists those that exist.
    """
    if name not in TIMINGS:
        raise ConfigError(f"timing must be one of {', '.join(TIMINGS)}, not {name!r}")
    return TIMINGS[name]
