"""SVG text: shapes, labels and arrows, legible on light and on dark ground, the same bytes every time."""

from html import escape

__all__ = ["COLORS", "Svg", "css"]

COLORS = {
    "ground": ("#ffffff", "#14171c"), "panel": ("#f5f6f8", "#1d2229"), "ink": ("#1b1f24", "#e6e9ee"),
    "muted": ("#5c6672", "#9aa5b1"), "line": ("#c3cad3", "#3b444f"), "load": ("#2166ac", "#6aaee8"),
    "matrix": ("#ad4c07", "#f19a56"), "vector": ("#7b3fa0", "#c08ce0"), "store": ("#1a7f4b", "#5fc48d"),
    "sequencer": ("#4a5568", "#a3b1c4"), "fetch": ("#0e7c86", "#56c2cb"), "wait": ("#d64550", "#f0757e"),
    "memory": ("#7a5f14", "#d9b64e"),
}
"""Name → colour on light ground, on dark ground."""
_FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


def css(scope: str) -> str:
    """Return the rules that set the colours as variables of the elements that `scope` selects."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLORS.items()) for i in range(2))
    return f"{scope}{{{light}}}@media (prefers-color-scheme:dark){{{scope}{{{dark}}}}}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Svg:
    """A drawing; lengths are in pixels, y grows downwards, colours are names of `COLORS` or "none".

    Parameters
    ----------
    width, height : float
    title : str
        Read out where the drawing cannot be seen.
    """

    def __init__(self, width: float, height: float, title: str):
        self.width, self.height = width, height
        self._title = title
        self._parts: list[str] = []
        self._arrows: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, *, fill: str = "panel", stroke: str = "line",
             radius: float = 0, tint: float = 1, stroke_width: float = 1, tip: str = "") -> None:
        """Add a rectangle; `tint` is the opacity of its filling, `tip` what the pointer tells."""
        body = f"<title>{escape(tip)}</title></rect>" if tip else "</rect>"
        self._parts.append(
            f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}" rx="{_number(radius)}" '
            f'style="fill:{_color(fill)};fill-opacity:{_number(tint)};stroke:{_color(stroke)};stroke-width:{_number(stroke_width)}">'
            + body)

    def circle(self, x: float, y: float, radius: float, *, fill: str, tip: str = "") -> None:
        """Add a dot."""
        self._parts.append(f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}" '
                           f'style="fill:{_color(fill)};stroke:{_color("ground")}"><title>{escape(tip)}</title></circle>')

    def line(self, points: list[tuple[float, float]], *, stroke: str = "ink", width: float = 1.5, arrow: bool = False,
             dash: str = "") -> None:
        """Add a line through `points`; with `arrow` it ends in a head."""
        path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        head = f' marker-end="url(#arrow-{stroke})"' if arrow else ""
        if arrow and stroke not in self._arrows:
            self._arrows.append(stroke)
        dashes = f";stroke-dasharray:{dash}" if dash else ""
        self._parts.append(f'<path d="{path}"{head} style="fill:none;stroke:{_color(stroke)};'
                           f'stroke-width:{_number(width)}{dashes}"/>')

    def text(self, x: float, y: float, text: str, *, size: float = 12, color: str = "ink", anchor: str = "start",
             bold: bool = False, turn: float = 0, halo: bool = False) -> None:
        """Add one line of text with its baseline at `y`; `turn` in degrees, `halo` where it stands on lines."""
        place = f' transform="rotate({_number(turn)} {_number(x)} {_number(y)})"' if turn else ""
        behind = f";paint-order:stroke;stroke:{_color('ground')};stroke-width:4px" if halo else ""
        self._parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}"{place} style="fill:{_color(color)};'
            f'font-size:{_number(size)}px{";font-weight:600" if bold else ""}{behind}">{escape(text)}</text>')

    def to_text(self, *, inline: bool = False) -> str:
        """Return the drawing: a file of its own, or an element of a page that has the colours already."""
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_number(self.width)}" height="{_number(self.height)}" '
                f'viewBox="0 0 {_number(self.width)} {_number(self.height)}" role="img" style="font-family:{_FONT}">'
                f"<title>{escape(self._title)}</title>")
        style = "" if inline else f"<style>{css('svg')}</style>"
        heads = "".join(
            f'<marker id="arrow-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
            f'markerUnits="userSpaceOnUse"><path d="M0 0.5L8 4L0 7.5z" style="fill:{_color(name)}"/></marker>'
            for name in self._arrows)
        ground = "" if inline else f'<rect width="100%" height="100%" style="fill:{_color("ground")}"/>'
        lines = [head + style + (f"<defs>{heads}</defs>" if heads else "") + ground, *self._parts, "</svg>"]
        return "\n".join(lines) + "\n"


def _color(name: str) -> str:
    if name == "none":
        return "none"
    return f"var(--{name},{COLORS[name][0]})"
