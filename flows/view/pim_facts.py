"""Sizes and rates of a PIM logic die, for people: what a config and the manifest of its Verilog say."""

from typing import Any

from flows.view.blocks import byte_size
from hw.families import ScaledFormat
from hw.formats import format_named
from hw.pim.config import PimConfig

__all__ = ["buffers_of", "facts_of"]


def buffers_of(config: PimConfig) -> dict[str, int]:
    """Return name → bytes of the buffers of one channel that a config sizes."""
    row, narrow = config.width * _bits(config.xtype) // 8, config.segments * config.obuf_entries
    return {"x_buffer": config.xbuf_entries * config.rows_x * row,
            "output_buffer": 4 * config.rows_x * (narrow + config.wide_entries * (config.width - config.segments)),
            "accumulators": 4 * config.rows_x * config.lanes * config.bcast_entries * config.n_acc_slots}


def _bits(name: str) -> int:
    """Return the bits of a code of a format, its share of scales aside."""
    fmt = format_named(name)
    assert isinstance(fmt, ScaledFormat)
    return fmt.element.bits


def facts_of(config: PimConfig, manifest: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """Return name and value of each figure; of one pseudo-channel where nothing else is said.

    Parameters
    ----------
    config : PimConfig
    manifest : dict or None
        With it, the bits of all memories of the Verilog.
    """
    bandwidth, gops = float(config.bandwidth), float(config.gops)
    burst = (f"{config.burst_bytes * config.streams} B every {config.interval_ps / 1000:g} ns ({config.interval} clocks, "
             f"{config.pim_per_burst} PIM cycles), {config.burst_weights} weights")
    facts = [
        ("bandwidth", f"{bandwidth:.4g} GB/s, of all {config.n_pch} channels {bandwidth * config.n_pch:,.1f}"),
        ("peak", f"{gops:.4g} GOPS, of all channels {gops * config.n_pch:,.1f}"),
        ("operations a byte", f"{float(config.op_per_byte):g}"),
        ("lanes", f"{config.lanes}, {float(config.lanes_needed):.4g} keep up with the DRAM"),
        ("segments", f"{config.segments} of {config.width} lanes, a tree each"),
        ("multipliers", f"{config.macs_per_cycle:,} at {config.clock_mhz} MHz"),
        ("burst", burst),
        ("formats", f"{config.wtype}, K and V {config.kvtype}, X {config.xtype}, softmax {config.ptype}"),
        ("row", f"{byte_size(config.row_bytes)}, {config.columns} bursts"),
        ("capacity", f"{byte_size(config.capacity_bytes)}, of all channels {byte_size(config.capacity_bytes * config.n_pch)}"),
        ("heads", f"{config.heads}"),
    ]
    if manifest is not None:
        bits = sum(row["bits"] for row in manifest["memories"])
        facts.append(("memories of the die", f"{bits // 8192:,} KiB in {len(manifest['memories'])} arrays"))
    return facts
