"""Closed forms of the PIM logic die's cycles: rows, refresh, products and attention of one pseudo-channel.

Times are in DRAM clocks (tCK) where a name says so, else in PIM cycles, exact as fractions. Source: our own, from the timing of
`hw.pim.timing`; what each published design reports is asserted against them.
"""

from fractions import Fraction

from hw.config import ceil_div
from hw.pim.config import PimConfig

__all__ = ["attention_bursts", "attention_cycles", "gemm_cycles", "hides_turnaround", "refresh_factor", "row_efficiency",
           "stream_tck", "tck_to_cycles", "xbuf_reload_cycles"]

HOST_BITS = 256             # of the bus that fills the X buffer


def refresh_factor(config: PimConfig) -> Fraction:
    """Return by how much refreshes of all banks stretch time: REFI / (REFI − RFC)."""
    return Fraction(config.dram.refi, config.dram.refi - config.dram.rfc)


def hides_turnaround(config: PimConfig) -> bool:
    """Return whether rows of two sets of banks in turn leave no gap: there are two, and a row lasts as long as a turnaround."""
    return config.row_sets > 1 and config.columns * config.interval >= config.dram.row_turnaround


def row_efficiency(config: PimConfig, nbytes: int | None = None, *, ping_pong: bool = False) -> Fraction:
    """Return the share of bursts in the time that rows take, before refresh.

    Parameters
    ----------
    config : PimConfig
    nbytes : int, optional
        Bytes that are streamed; None: endlessly many.
    ping_pong : bool
        ACT and PRE in another bundle than the one that is read.
    """
    bursts_tck = config.columns * config.interval
    if nbytes is None:
        return Fraction(1) if ping_pong else Fraction(bursts_tck, _row_period(config))
    rows = ceil_div(nbytes, config.row_bytes)
    return Fraction(rows * bursts_tck) / stream_tck(config, nbytes, ping_pong=ping_pong)


def _row_period(config: PimConfig) -> int:
    return (config.columns - 1) * config.interval + config.dram.row_turnaround


def stream_tck(config: PimConfig, nbytes: int, *, ping_pong: bool = False, refresh: bool = False) -> Fraction:
    """Return the DRAM clocks to read `nbytes` of one pseudo-channel, whole rows.

    One bundle: rows · ((columns − 1)·i + RTP + RP + RCD). In turns: RCD + rows·columns·i, as the other bundle's row is open by
    then.

    Raises
    ------
    ValueError
        With `ping_pong`, if the design reads all banks at once or a row is too short to hide the turnaround.
    """
    dram, i = config.dram, config.interval
    rows = ceil_div(nbytes, config.row_bytes)
    if ping_pong:
        if config.row_sets < 2:
            raise ValueError(f"ping_pong must be false where all {config.streams} banks are read at once, not {ping_pong!r}")
        if config.columns * i < dram.row_turnaround:
            raise ValueError(f"a row must last {dram.row_turnaround} clocks to hide the turnaround, not {config.columns * i}")
        total = dram.rcd_mac + rows * config.columns * i
    else:
        total = rows * _row_period(config)
    return total * refresh_factor(config) if refresh else Fraction(total)


def tck_to_cycles(config: PimConfig, tck: Fraction | int) -> Fraction:
    """Return DRAM clocks as PIM cycles: P of them in an interval."""
    return Fraction(tck) * config.pim_per_burst / config.interval


def xbuf_reload_cycles(config: PimConfig, outputs: int, *, x_bits: int = 16) -> int:
    """Return the cycles for which the MACs wait for the next tile of K.

    The X buffer's other half is filled over 256 bits a cycle while `outputs` (of this pseudo-channel) use this one.
    """
    fill = ceil_div(config.k_tile * config.rows_x * x_bits, HOST_BITS)
    return max(0, fill - config.k_tile * outputs // config.lanes)


def gemm_cycles(config: PimConfig, n: int, k: int, outputs: int, *, ping_pong: bool = True, refresh: bool = False) -> Fraction:
    """Return the PIM cycles of n rows of X (n × k) times the weights (k × outputs) of one pseudo-channel.

    Steady state, that is ⌈n/X⌉·k·outputs·bytes/(bytes a cycle), over the row efficiency without `ping_pong`, and over the share
    of time that refreshes leave.
    """
    steady = Fraction(ceil_div(n, config.rows_x) * k * outputs) / config.lanes_needed
    rows = Fraction(1) if ping_pong else row_efficiency(config)
    waits = ceil_div(n, config.rows_x) * ceil_div(k, config.k_tile) * xbuf_reload_cycles(config, outputs)
    return steady / rows * (refresh_factor(config) if refresh else 1) + waits


def attention_bursts(config: PimConfig, tokens: int, head_dim: int) -> int:
    """Return the bursts of all streams for the scores of one head, and as many for the product with V."""
    return ceil_div(tokens * head_dim * config.kv_bits, 8 * config.burst_bytes * config.streams)


def attention_cycles(config: PimConfig, tokens: int, head_dim: int, *, heads: int = 1, refresh: bool = True) -> Fraction:
    """Return the PIM cycles in which K and V of some heads are read, one head after the other: what hides its softmax takes.

    Rows go over the sets of banks in turn, or wait for each other where all banks are read at once. That is AttAcc's closed form
    (`sw.pim.attacc.closed_form`) for one pseudo-channel's share of the tokens.
    """
    bursts = 2 * heads * attention_bursts(config, tokens, head_dim)
    turnaround = config.dram.row_turnaround - config.interval if config.row_sets == 1 else 0
    tck = bursts * (config.interval + Fraction(turnaround, config.columns))
    return tck_to_cycles(config, tck * (refresh_factor(config) if refresh else 1))
