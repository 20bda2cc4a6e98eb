"""Quality of a model against the density of its weights: kinds of sparsity in colours, the best of each joined."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.view.svg import Svg

__all__ = ["Dot", "density_plot"]

_COLORS = ("muted", "load", "matrix", "vector", "store", "wait")
_STEPS = (1, 1.2, 1.5, 2, 3, 4, 5, 7)
_RADIUS, _CHARACTER, _LINE = 4.5, 5.7, 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A model: its name, the share of weights that are not zero, and a positive figure of which less is better."""

    name: str
    density: float
    figure: float


def density_plot(kinds: Mapping[str, Sequence[Dot]], *, title: str, y_label: str, width: int = 860, height: int = 560) -> Svg:
    """Return a plot over a linear density and a logarithmic figure.

    A line joins those of a kind that are not beaten by a sparser one of the same kind. Names stand where they hide no other name
    and no dot; every dot tells its name to the pointer.

    Parameters
    ----------
    kinds : mapping of str to sequence of Dot
        At most as many as there are colours, in the order of the legend.

    Raises
    ------
    ValueError
        If there is no dot, one that cannot be drawn, or too many kinds.
    """
    dots = [dot for kind in kinds.values() for dot in kind]
    if not dots or len(kinds) > len(_COLORS):
        raise ValueError(f"there must be a dot to draw, and at most {len(_COLORS)} kinds, not {len(kinds)} of {len(dots)}")
    for dot in dots:
        if not (0 < dot.density <= 1 and 0 < dot.figure < math.inf):
            raise ValueError(f"dots must have a density up to 1 and a finite positive figure, not ({dot.density}, {dot.figure}), "
                             f"as {dot.name!r} has")
    svg = Svg(width, height, title)
    svg.text(14, 22, title, size=14, bold=True)
    left, top, right, bottom = 74, 44, width - 40, height - 54
    ticks = _ticks(min(dot.figure for dot in dots), max(dot.figure for dot in dots))

    def at(share: float, figure: float) -> tuple[float, float]:
        return (left + (right - left) * share,
                bottom - (bottom - top) * math.log(figure / ticks[0]) / math.log(ticks[-1] / ticks[0]))

    for tick in ticks:
        _, y = at(0, tick)
        svg.line([(left, y), (right, y)], stroke="line", width=0.6)
        svg.text(left - 7, y + 4, f"{tick:g}", size=10.5, color="muted", anchor="end")
    for eighth in range(9):
        x, _ = at(eighth / 8, ticks[0])
        svg.line([(x, top), (x, bottom)], stroke="line", width=0.6)
        svg.text(x, bottom + 16, f"{eighth / 8:g}", size=10.5, color="muted", anchor="middle")
    svg.text((left + right) / 2, height - 12, "density of the weights", size=12, anchor="middle")
    svg.text(18, (top + bottom) / 2, y_label, size=12, anchor="middle", turn=-90)
    for color, kind in zip(_COLORS, kinds.values(), strict=False):
        svg.line([at(dot.density, dot.figure) for dot in _front(kind)], stroke=color, width=1.6)
    taken = [_around(*at(dot.density, dot.figure)) for dot in dots]
    for color, (name, kind) in zip(_COLORS, kinds.items(), strict=False):
        for dot in kind:
            x, y = at(dot.density, dot.figure)
            svg.circle(x, y, _RADIUS, fill=color, tip=f"{dot.name}, {name}: {dot.density:.4g}, {dot.figure:.4g}")
            _name(svg, taken, dot.name, x, y, color, left, right)
    for index, (color, name) in enumerate(zip(_COLORS, kinds, strict=False)):
        y = top + 18 + 18 * index
        svg.circle(right - 190, y, _RADIUS, fill=color)
        svg.text(right - 178, y + 4, name, size=12, halo=True)
    return svg


def _front(kind: Sequence[Dot]) -> list[Dot]:
    """Return the dots that no dot of at most their density beats, by density."""
    found: list[Dot] = []
    for dot in sorted(kind, key=lambda dot: (dot.density, dot.figure)):
        if not found or dot.figure < found[-1].figure:
            found.append(dot)
    return found


def _ticks(low: float, high: float) -> list[float]:
    """Return round figures, the first at most `low`, the last at least `high`, and larger than the first."""
    every = [step * 10.0**power for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
             for step in _STEPS]
    first = max(index for index, tick in enumerate(every) if tick <= low * (1 + 1e-9))
    last = min(index for index, tick in enumerate(every) if tick >= high * (1 - 1e-9))
    return [round(tick, 12) for tick in every[first:max(last, first + 1) + 1]]


Box = tuple[float, float, float, float]


def _around(x: float, y: float) -> Box:
    return x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS


def _name(svg: Svg, taken: list[Box], name: str, x: float, y: float, color: str, left: float, right: float) -> None:
    """Write a name beside its dot where there is room, else nowhere."""
    long = _CHARACTER * len(name)
    for shift, anchor in ((8.0, "start"), (-8.0, "end")):
        for rise in (4.0, -5.0, 13.0):
            low = x + shift - (long if anchor == "end" else 0)
            box = (low, y + rise - _LINE + 3, low + long, y + rise + 3)
            if left <= low and box[2] <= right and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                svg.text(x + shift, y + rise, name, size=10.5, color=color, anchor=anchor, halo=True)
                return


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
