"""Heat maps: a grid of cells, and a treemap whose rectangles are as large as what they stand for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flows.view.svg import Svg

__all__ = ["Tile", "heat_grid", "squarified", "treemap"]

_HOT = "wait"
_LEGEND = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A rectangle of a treemap.

    Attributes
    ----------
    name : str
    size : float
        What its area is proportional to.
    heat : float or None
        0 to 1 of the scale; None if unknown.
    tip : str
    parts : tuple of Tile
        What fills it; none for a leaf.
    """

    name: str
    size: float
    heat: float | None = None
    tip: str = ""
    parts: tuple["Tile", ...] = ()


def _legend(svg: Svg, x: float, y: float, top: float, unit: str) -> None:
    for step in range(_LEGEND):
        svg.rect(x + 9 * step, y, 9, 10, fill=_HOT, tint=0.95 * (step + 0.5) / _LEGEND, stroke="none")
    svg.rect(x, y, 9 * _LEGEND, 10, fill="none", stroke="line")
    svg.text(x - 5, y + 9, "0", size=10.5, color="muted", anchor="end")
    svg.text(x + 9 * _LEGEND + 5, y + 9, f"{top:.3g} {unit}", size=10.5, color="muted")


def _top(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return max(known, default=0.0) or 1.0


def heat_grid(values: Sequence[Sequence[float | None]], rows: Sequence[str], columns: Sequence[str], *, title: str,
              below: str = "",
              unit: str = "%", scale: float = 100.0, width: int = 1180, row_height: float = 20, column_step: int = 1) -> Svg:
    """Return a grid; the darkest cell is the highest value, cells without one stay empty.

    Parameters
    ----------
    values : rows of columns of float or None
    rows, columns : sequence of str
        Labels; every `column_step`-th column shows its own.
    title, below : str
        Above it, and under the columns.
    unit, scale : str, float
        Tips show value · scale in this unit.
    """
    left, head = 16 + 6.6 * max((len(name) for name in rows), default=0), 46
    svg = Svg(width, head + row_height * len(rows) + 46, title)
    svg.text(14, 22, title, size=14, bold=True)
    top = _top([value for row in values for value in row])
    _legend(svg, width - 190, 12, top * scale, unit)
    step = (width - left - 14) / max(1, len(columns))
    for r, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = head + row_height * r
        svg.text(left - 8, y + row_height / 2 + 4, name, size=11.5, anchor="end")
        for c, value in enumerate(row):
            known = value is not None and not math.isnan(value)
            told = f"{value * scale:.3g} {unit}" if known and value is not None else "not simulated"
            tip = f"{name}, {columns[c]}: {told}"
            svg.rect(left + c * step, y, max(0.5, step - 0.6), row_height - 1, fill=_HOT if known else "panel",
                     tint=0.95 * value / top if known and value is not None else 1, stroke="none", tip=tip)
        svg.rect(left, y, step * len(columns) - 0.6, row_height - 1, fill="none", stroke="line", stroke_width=0.5)
    for c in range(0, len(columns), column_step):
        svg.text(left + (c + 0.5) * step, head + row_height * len(rows) + 15, columns[c], size=10.5, color="muted",
                 anchor="middle")
    svg.text(left + step * len(columns) / 2, svg.height - 10, below, size=11.5, anchor="middle")
    return svg


def squarified(sizes: Sequence[float], x: float, y: float, width: float, height: float) -> list[tuple[float, float, float,
                                                                                                      float]]:
    """Return a rectangle (x, y, width, height) for each size, in the order of `sizes`, that fill a rectangle and are not thin.

    Reference: Bruls, Huizing, van Wijk, Squarified treemaps, VisSym 2000.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    total = sum(sizes)
    found: list[tuple[float, float, float, float]] = [(x, y, 0.0, 0.0)] * len(sizes)
    if total <= 0:
        return found
    scale, start = width * height / total, 0
    while start < len(order):
        short = min(width, height)
        if short <= 0:
            break
        end, worst = start, math.inf
        while end < len(order):
            areas = [sizes[i] * scale for i in order[start:end + 1]]
            strip = sum(areas) / short
            ratio = max((max(strip * strip / area, area / (strip * strip)) for area in areas if area > 0), default=math.inf)
            if ratio > worst:
                break
            worst, end = ratio, end + 1
        end = max(end, start + 1)
        strip, at = sum(sizes[i] for i in order[start:end]) * scale / short, 0.0
        for i in order[start:end]:
            length = sizes[i] * scale / strip if strip else 0.0
            found[i] = (x, y + at, strip, length) if width >= height else (x + at, y, length, strip)
            at += length
        if width >= height:
            x, width = x + strip, width - strip
        else:
            y, height = y + strip, height - strip
        start = end
    return found


def treemap(tiles: Sequence[Tile], *, title: str, subtitle: str, top: float, unit: str = "%", width: int = 1180,
            height: int = 520) -> Svg:
    """Return tiles, and their parts inside them, coloured by heat.

    Parameters
    ----------
    tiles : sequence of Tile
    title, subtitle : str
    top : float
        What heat 1 stands for in the legend.
    """
    svg = Svg(width, height + 62, title)
    svg.text(14, 22, title, size=14, bold=True)
    svg.text(14, 40, subtitle, size=11.5, color="muted")
    _legend(svg, width - 190, 12, top, unit)
    for tile, box in zip(tiles, squarified([tile.size for tile in tiles], 10, 52, width - 20, height), strict=True):
        _tile(svg, tile, box)
    return svg


def _tile(svg: Svg, tile: Tile, box: tuple[float, float, float, float]) -> None:
    x, y, width, height = box
    if width < 1.5 or height < 1.5:
        return
    labelled = width > 46 and height > 30
    head = 18.0 if labelled else 0.0
    svg.rect(x + 1, y + 1, width - 2, height - 2, fill="panel", stroke="ink", stroke_width=1.2, radius=2, tip=tile.tip)
    inside = (x + 3, y + 2 + head, width - 6, height - 5 - head)
    for part, place in zip(tile.parts, squarified([part.size for part in tile.parts], *inside), strict=True):
        px, py, pw, ph = place
        if pw < 0.8 or ph < 0.8:
            continue
        known = part.heat is not None
        svg.rect(px, py, pw - 0.8, ph - 0.8, fill=_HOT if known else "panel", tint=max(0.03,
                                                                                       0.95 * (part.heat or 0)) if known else 1,
                 stroke="line", stroke_width=0.6, tip=part.tip)
        room = int((pw - 8) / 5.6)
        if ph > 16 and room >= 4:
            svg.text(px + 4, py + 13, part.name if len(part.name) <= room else part.name[:room - 1] + "…", size=10)
    if labelled:
        room = int((width - 10) / 6.6)
        svg.text(x + 6, y + 15, tile.name if len(tile.name) <= room else tile.name[:room - 1] + "…", size=12, bold=True)
