"""Plots of a measurement, as SVG."""

from collections.abc import Sequence
from pathlib import Path

from flows.measure import Measurement
from flows.view.roofline import Point, roofline, utilization_bars
from flows.view.svg import Svg
from flows.view.timeline import Timeline

__all__ = ["measurement_plots", "save_plots", "unit_bars"]


def measurement_plots(found: Measurement, bandwidth: float) -> dict[str, Svg]:
    """Return file name → plot: the roofline and the utilization of a measurement on the RTL.

    Parameters
    ----------
    found : Measurement
    bandwidth : float
        Beats per cycle of the memory.
    """
    config, peak = found.config, found.config.peak_macs_per_cycle
    points = [Point(name=gemm.name, macs=gemm.macs, cycles=gemm.cycles,
                    bytes=max(gemm.counters["bytes_read"], gemm.counters["bytes_written"])) for gemm in found.gemms]
    bars = [(gemm.name, [("matrix", gemm.macs / gemm.cycles / peak)]) for gemm in found.gemms]
    if len(found.gemms) > 1:
        macs, cycles = (sum(getattr(gemm, name) for gemm in found.gemms) for name in ("macs", "cycles"))
        bars.append(("total", [("matrix", macs / cycles / peak)]))
    return {"roofline.svg": roofline(points, peak=peak, bandwidth=config.beat_bytes * bandwidth),
            "utilization.svg": utilization_bars(bars, title="Utilization of the array: useful MACs / cycles / peak")}


def unit_bars(timelines: Sequence[Timeline]) -> Svg:
    """Return a bar for each unit: busy, and beside it the cycles in which it only waits for semaphores."""
    cycles = sum(timeline.cycles for timeline in timelines)
    rows = []
    for name in timelines[0].units:
        units = [timeline.units[name] for timeline in timelines]
        color = timelines[0].colors.get(name, name)
        rows.append((name, [(color, sum(unit.busy_cycles for unit in units) / cycles),
                            ("wait", sum(unit.stalled_cycles() for unit in units) / cycles)]))
    return utilization_bars(rows, title="Units: busy, and (red) idle while the queue's head waits")


def save_plots(plots: dict[str, Svg], folder: Path) -> list[Path]:
    """Write the plots into a folder, and return the paths."""
    for name, plot in plots.items():
        (folder / name).write_text(plot.to_text())
    return [folder / name for name in plots]
