"""A picture of points with names, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "scatter_svg"]

_WIDTH = 820
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 520, 50, 420
_LABELS, _LINE = 550, 17
_TICKS_X = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64)
_ABOUT_TICKS_Y = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point; `x` is positive."""

    name: str
    x: float
    y: float


def scatter_svg(points: Sequence[Point], *, title: str, x_label: str, y_label: str) -> str:
    """Return an SVG picture: x is logarithmic; names stand to the right, from the largest y down, with a line to their points.

    Raises
    ------
    ValueError
        If there is no point, or one that cannot be drawn.
    """
    if not points:
        raise ValueError("there must be a point to draw")
    for point in points:
        if not (0 < point.x < math.inf and math.isfinite(point.y)):
            raise ValueError(f"points must have a finite y and a positive x, not ({point.x}, {point.y}), as {point.name!r} has")
    low_x, high_x = min(point.x for point in points) * 0.9, max(point.x for point in points) * 1.1
    ticks_y = _ticks(min(point.y for point in points), max(point.y for point in points))
    labels_end = _TOP + _LINE * len(points)
    height = max(_BOTTOM, labels_end) + 60

    def place(x: float, y: float) -> tuple[float, float]:
        return (_LEFT + (_RIGHT - _LEFT) * math.log(x / low_x) / math.log(high_x / low_x),
                _BOTTOM - (_BOTTOM - _TOP) * (y - ticks_y[0]) / (ticks_y[-1] - ticks_y[0]))

    size = f'width="{_WIDTH}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
             f'<rect {size} fill="white"/>',
             _text(_LEFT, 26, title, size=15), _text((_LEFT + _RIGHT) / 2, _BOTTOM + 42, x_label, anchor="middle"),
             _text(_LEFT, _TOP - 10, y_label)]
    for tick in ticks_y:
        _, y = place(low_x, tick)
        parts += [_line(_LEFT, y, _RIGHT, y, "#ddd"), _text(_LEFT - 8, y + 4, f"{tick:g}", anchor="end")]
    for tick in (tick for tick in _TICKS_X if low_x <= tick <= high_x):
        x, _ = place(tick, ticks_y[0])
        parts += [_line(x, _TOP, x, _BOTTOM, "#eee"), _text(x, _BOTTOM + 18, f"{tick:g}", anchor="middle")]
    ordered = sorted(points, key=lambda point: -point.y)
    for label_y, point in zip(_label_places([place(point.x, point.y)[1] for point in ordered]), ordered, strict=True):
        x, y = place(point.x, point.y)
        parts += [_line(x, y, _LABELS - 4, label_y, "#9bb"), f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f6f8b"/>',
                  _text(_LABELS, label_y + 4, f"{point.name} ({point.y:.4g})")]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers, evenly apart, the first at most `low` and the last at least `high`."""
    wanted = (high - low or abs(high) or 1.0) / _ABOUT_TICKS_Y
    unit = 10.0 ** math.floor(math.log10(wanted))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= wanted * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


def _label_places(wanted: list[float]) -> list[float]:
    """Return where labels go: in order, a line apart, each at or below where it wants to be, all moved up if they end too low."""
    places: list[float] = []
    for y in wanted:
        places.append(max(y, places[-1] + _LINE) if places else y)
    for i in range(len(places) - 1, -1, -1):            # from the lowest up: none beyond the picture, none over the next
        limit = max(_BOTTOM, _TOP + _LINE * len(places)) if i == len(places) - 1 else places[i + 1] - _LINE
        places[i] = min(places[i], limit)
    return places


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
