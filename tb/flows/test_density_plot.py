"""The plot of quality against density: dots, lines and names are where they belong."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from flows.view.density import Dot, density_plot

SVG = "{http://www.w3.org/2000/svg}"


def dots(*values):
    return [Dot(name=f"n{i}", density=share, figure=figure) for i, (share, figure) in enumerate(values)]


def drawn(kinds):
    """Return tip → place, the paths with as many points as a front may have, and name → (x, y, anchor)."""
    root = ET.fromstring(density_plot(kinds, title="t", y_label="bits").to_text())
    places = {circle.find(f"{SVG}title").text: (float(circle.get("cx")), float(circle.get("cy")))
              for circle in root.iter(f"{SVG}circle") if circle.find(f"{SVG}title").text}
    paths = [[tuple(map(float, pair.split())) for pair in re.split("[ML]", path.get("d"))[1:]]
             for path in root.iter(f"{SVG}path") if "stroke-width:1.6" in path.get("style")]
    names = {text.text: (float(text.get("x")), float(text.get("y")), text.get("text-anchor")) for text in root.iter(f"{SVG}text")}
    return places, paths, names


def test_density_is_linear_and_the_figure_logarithmic():
    places, (path,), _ = drawn({"a": dots((0.25, 4.0), (0.5, 2.0), (1.0, 1.0))})
    (x1, y1), (x2, y2), (x3, y3) = places.values()
    assert (x3 - x2) == pytest.approx(2 * (x2 - x1), abs=0.05)
    assert (y3 - y2) == pytest.approx(y2 - y1, abs=0.05) != 0
    assert y1 < y2 < y3
    for place, corner in zip(places.values(), path, strict=True):
        assert place == pytest.approx(corner, abs=0.02)


def test_lines_join_what_nothing_sparser_beats():
    places, paths, _ = drawn({"a": dots((0.5, 2.0), (0.25, 3.0), (0.4, 3.5), (0.5, 1.9), (1.0, 1.95)), "b": dots((0.3, 5.0))})
    wanted = [places[tip] for tip in ("n1, a: 0.25, 3", "n3, a: 0.5, 1.9")]
    assert [point for corner, point in zip(paths[0], wanted, strict=True) if corner != pytest.approx(point, abs=0.02)] == []
    assert len(paths[1]) == 1


def test_names_hide_nothing():
    kind = dots(*((0.2 + 0.002 * i, 1.5 + 0.02 * (i % 5)) for i in range(40)))
    places, _, names = drawn({"a": kind})
    boxes = []
    for name in (dot.name for dot in kind):
        if name in names:
            x, y, anchor = names[name]
            low = x - (5.7 * len(name) if anchor == "end" else 0)
            boxes.append((low, y - 9, low + 5.7 * len(name), y + 3))
    assert 5 < len(boxes) < 40
    for one, other in itertools.combinations(boxes, 2):
        assert not (one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3])
    for (low, top, right, bottom), (x, y) in itertools.product(boxes, places.values()):
        assert not (low < x < right and top < y < bottom)


def test_the_legend_and_both_axes_are_named():
    _, _, names = drawn({"patterns": dots((0.5, 2.0)), "series": dots((0.4, 3.0))})
    assert {"patterns", "series", "bits", "density of the weights", "t", "0.125", "1", "2", "3"} <= set(names)


@pytest.mark.parametrize(("kinds", "text"), [
    ({}, r"there must be a dot to draw, and at most 6 kinds, not 0 of 0"),
    ({str(i): dots((0.5, 1)) for i in range(7)}, r"there must be a dot to draw, and at most 6 kinds, not 7 of 7"),
    ({"a": dots((0.0, 1.0))}, r"dots must have a density up to 1 and a finite positive figure, not \(0\.0, 1\.0\), as 'n0' has"),
    ({"a": dots((0.5, float("inf")))}, r"dots must have .*, not \(0\.5, inf\), as 'n0' has"),
])
def test_what_cannot_be_drawn(kinds, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        density_plot(kinds, title="t", y_label="y")
