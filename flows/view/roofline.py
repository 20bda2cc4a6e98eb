"""Plots of measured GEMMs: a roofline, and bars of utilization."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.view.svg import Svg

__all__ = ["Point", "roofline", "utilization_bars"]

_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 44, 30, 56


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measured GEMM.

    Attributes
    ----------
    name : str
    macs, cycles : int
    bytes : int
        Of the busier direction of the bus, read or written: only then no point can lie above the roof.
    """

    name: str
    macs: int
    cycles: int
    bytes: int

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.bytes

    @property
    def rate(self) -> float:
        """MACs per cycle."""
        return self.macs / self.cycles


def _ticks(low: float, high: float) -> list[float]:
    """Return the powers of two from `low` to `high`, at most nine of them."""
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    step = max(1, math.ceil((last - first) / 8))
    return [2.0**e for e in range(first, last + 1, step)]


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"1/{1 / value:,.0f}"


def roofline(points: Sequence[Point], *, peak: int, bandwidth: float, width: int = 620, height: int = 400) -> Svg:
    """Return MACs per cycle over MACs per byte, both logarithmic.

    Parameters
    ----------
    points : sequence of Point
    peak : int
        MACs per cycle of the array.
    bandwidth : float
        Bytes per cycle of one direction of the bus.
    """
    svg = Svg(width, height, "Roofline")
    ridge = peak / bandwidth
    low_x = 2.0 ** math.floor(math.log2(min([ridge / 8, *(point.intensity / 2 for point in points)])))
    high_x = 2.0 ** math.ceil(math.log2(max([ridge * 8, *(point.intensity * 2 for point in points)])))
    low_y = 2.0 ** math.floor(math.log2(min([peak / 16, *(point.rate / 1.6 for point in points)])))
    high_y = 2.0 ** math.ceil(math.log2(peak * 1.7))
    right, bottom = width - _RIGHT, height - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (_LEFT + (right - _LEFT) * math.log(x / low_x) / math.log(high_x / low_x),
                bottom - (bottom - _TOP) * math.log(y / low_y) / math.log(high_y / low_y))

    svg.text(_LEFT, 22, "Roofline", size=14, bold=True)
    svg.text(right, 22, f"peak {peak:,} MACs/cycle, bus {bandwidth:g} B/cycle each way", size=11.5, color="muted", anchor="end")
    for tick in _ticks(low_x, high_x):
        x, _ = at(tick, low_y)
        svg.line([(x, _TOP), (x, bottom)], stroke="line", width=0.6)
        svg.text(x, bottom + 17, _label(tick), size=11, color="muted", anchor="middle")
    for tick in _ticks(low_y, high_y):
        _, y = at(low_x, tick)
        svg.line([(_LEFT, y), (right, y)], stroke="line", width=0.6)
        svg.text(_LEFT - 8, y + 4, _label(tick), size=11, color="muted", anchor="end")
    svg.text((_LEFT + right) / 2, height - 16, "MACs per byte (of the busier direction)", size=12, anchor="middle")
    svg.text(20, (_TOP + bottom) / 2, "MACs per cycle", size=12, anchor="middle", turn=-90)
    start = max(low_x, low_y / bandwidth)
    svg.line([at(start, start * bandwidth), at(ridge, peak), at(high_x, peak)], stroke="ink", width=2)
    corner = at(ridge, peak)
    svg.text(right - 4, corner[1] - 8, "array", size=11, color="muted", anchor="end")
    slope = at(math.sqrt(start * ridge), math.sqrt(start * ridge) * bandwidth)
    angle = -math.degrees(math.atan2(slope[1] - corner[1], corner[0] - slope[0]))
    svg.text(slope[0] - 6, slope[1] - 8, "bus", size=11, color="muted", anchor="middle", turn=angle)
    _dots(svg, points, at)
    return svg


def _dots(svg: Svg, points: Sequence[Point], at: Callable[[float, float], tuple[float, float]]) -> None:
    """Draw the points; labels of neighbours go below one another."""
    placed: list[tuple[float, float]] = []
    groups: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        x, y = at(point.intensity, point.rate)
        groups.setdefault((round(x / 4), round(y / 4)), []).append(point)
    for group in groups.values():
        x, y = at(group[0].intensity, group[0].rate)
        tip = "; ".join(f"{p.name}: {p.rate:.4g} MACs/cycle, {p.intensity:.4g} MACs/B" for p in group)
        svg.circle(x, y, 5, fill="matrix", tip=tip)
        names = list(dict.fromkeys(point.name for point in group))
        label = ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
        text = y + 18
        wide = 3.3 * len(label)
        while any(abs(text - other_y) < 13 and abs(x - other_x) < 110 for other_x, other_y in placed):
            text += 13
        placed.append((x, text))
        svg.text(min(max(x, _LEFT + wide), svg.width - _RIGHT - wide), text, label, size=11, anchor="middle", halo=True)


def utilization_bars(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, title: str, width: int = 620) -> Svg:
    """Return one bar a row, of shares that add up to at most 1.

    Parameters
    ----------
    rows : sequence of (label, shares)
        Each share a colour of `flows.view.svg.COLORS` and a part of the whole.
    title : str
    """
    svg = Svg(width, 62 + 26 * len(rows) + 8, title)
    left, right = 130, width - 70
    svg.text(14, 22, title, size=14, bold=True)
    for tick in range(0, 101, 25):
        x = left + (right - left) * tick / 100
        svg.line([(x, 50), (x, svg.height - 8)], stroke="line", width=0.6)
        svg.text(x, 46, f"{tick} %", size=10.5, color="muted", anchor="middle")
    for index, (label, shares) in enumerate(rows):
        y, x = 56 + 26 * index, float(left)
        svg.text(left - 10, y + 14, label if len(label) < 19 else label[:17] + "…", size=12, anchor="end")
        svg.rect(left, y, right - left, 18, fill="panel", stroke="line", radius=2)
        for color, share in shares:
            svg.rect(x, y, (right - left) * share, 18, fill=color, tint=0.9, stroke="none", radius=2,
                     tip=f"{label}: {share:.2%}")
            x += (right - left) * share
        svg.text(right + 8, y + 14, f"{shares[0][1]:.1%}", size=11.5)
    return svg
