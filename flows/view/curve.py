"""A falling or rising curve with marked points on it: what is gained for what is spent."""

import math
from collections.abc import Sequence

from flows.view.svg import Svg

__all__ = ["tradeoff_curve"]


def tradeoff_curve(points: Sequence[tuple[float, float]], marks: Sequence[tuple[float, float, str, str]], *, title: str,
                   x_label: str,
                   y_label: str, limit: float | None = None, limit_label: str = "", width: int = 620, height: int = 360) -> Svg:
    """Return a curve over a linear x and a logarithmic y.

    Parameters
    ----------
    points : sequence of (x, y)
        By x; those with y ≤ 0 end the curve.
    marks : sequence of (x, y, label, colour)
    limit : float or None
        A y that must not be exceeded, drawn as a dashed line.
    """
    svg = Svg(width, height, title)
    svg.text(14, 22, title, size=14, bold=True)
    left, top, right, bottom = 74, 40, width - 20, height - 50
    heights = [y for _, y in points if y > 0] + [y for _, y, *_ in marks if y > 0] + ([limit] if limit else [])
    low = 10.0 ** math.floor(math.log10(min(heights, default=0.1)))
    high = 10.0 ** math.ceil(math.log10(max(heights, default=1.0)) + 1e-9)
    high = high if high > low else 10 * low
    furthest = max([x for x, _ in points] + [x for x, *_ in marks], default=1.0) * 1.05 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (left + (right - left) * x / furthest,
                bottom - (bottom - top) * math.log(max(y, low) / low) / math.log(high / low))

    decade = low
    while decade <= high * 1.0001:
        _, y = at(0, decade)
        svg.line([(left, y), (right, y)], stroke="line", width=0.6)
        svg.text(left - 7, y + 4, f"{decade:g}", size=10.5, color="muted", anchor="end")
        decade *= 10
    for tick in range(6):
        x, _ = at(furthest * tick / 5, low)
        svg.line([(x, top), (x, bottom)], stroke="line", width=0.6)
        value = furthest * tick / 5
        svg.text(x, bottom + 16, f"{value:,.0f}" if value >= 1000 else f"{value:.3g}", size=10.5, color="muted", anchor="middle")
    if limit is not None:
        _, y = at(0, limit)
        svg.line([(left, y), (right, y)], stroke="store", width=1.4, dash="6 4")
        svg.text(right - 4, y - 6, limit_label, size=11, color="store", anchor="end", halo=True)
    svg.line([at(x, y) for x, y in points if y > 0], stroke="matrix", width=2)
    for index, (x, y, label, color) in enumerate(marks):
        px, py = at(x, y)
        svg.circle(px, py, 5, fill=color, tip=f"{label}: {x:.4g}, {y:.4g}")
        end = px > (left + right) / 2
        svg.text(px - 9 if end else px + 9, py - 8 - 13 * (index % 2), label, size=11.5, anchor="end" if end else "start",
                 halo=True)
    svg.text((left + right) / 2, height - 12, x_label, size=12, anchor="middle")
    svg.text(18, (top + bottom) / 2, y_label, size=12, anchor="middle", turn=-90)
    return svg
