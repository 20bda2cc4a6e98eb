"""The picture of points with names: every point is where it belongs, and no name lies over another."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from flows.scatter import Point, scatter_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(points, **more):
    """Return places of circles and of the points' names, in order of drawing, and the picture's size."""
    root = ET.fromstring(scatter_svg(points, **{"title": "t", "x_label": "x", "y_label": "y", **more}))
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]
    names = {t.text.rsplit(" (", 1)[0]: float(t.get("y")) for t in root.iter(f"{SVG}text") if " (" in (t.text or "")}
    return circles, names, (float(root.get("width")), float(root.get("height")))


def test_points_are_in_order_on_both_axes():
    circles, names, _ = drawn([Point(name="low", x=4, y=1.0), Point(name="mid", x=8, y=2.0), Point(name="high", x=16, y=3.0)])
    (x_high, y_high), (x_mid, y_mid), (x_low, y_low) = circles       # from the largest y down
    assert y_high < y_mid < y_low
    assert abs((y_low - y_mid) - (y_mid - y_high)) < 0.2
    assert x_low < x_mid < x_high
    assert abs((x_high - x_mid) - (x_mid - x_low)) < 0.2            # 4, 8, 16 are evenly apart
    assert list(names) == ["high", "mid", "low"]


@pytest.mark.parametrize("heights", [[1], [1, 2, 3, 4, 5], range(40), [9, *[1] * 30], [*[9] * 30, 1]],
                         ids=["one", "few", "many", "low", "high"])
def test_names_do_not_lie_over_each_other_nor_outside(heights):
    circles, names, (width, height) = drawn([Point(name=f"p{i}", x=4, y=y) for i, y in enumerate(heights)])
    assert len(circles) == len(names) == len(heights)
    places = list(names.values())
    assert all(b - a >= 16.9 for a, b in itertools.pairwise(places))
    assert all(0 < x < width and 0 < y < height for x, y in circles)
    assert 10 < min(places) <= max(places) < height


def test_text_is_escaped_and_ticks_are_round():
    points = [Point(name="<a> & b", x=4, y=1.49), Point(name="c", x=32, y=1.67)]
    picture = scatter_svg(points, title="a < b", x_label="x", y_label="y")
    root = ET.fromstring(picture)
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert "a < b" in texts
    assert "<a> & b (1.49)" in texts
    assert {"1.5", "1.6", "4", "8", "16", "32"} <= set(texts)
    assert not any(re.fullmatch(r"\d\.\d{5,}", text) for text in texts)


@pytest.mark.parametrize(("x", "y"), [(0, 1), (-1, 1), (float("inf"), 1), (1, float("nan"))])
def test_a_point_that_cannot_be_drawn_is_refused(x, y):
    with pytest.raises(ValueError, match=r"^points must have a finite y and a positive x, not \(.*\), as 'p' has$"):
        scatter_svg([Point(name="p", x=x, y=y)], title="", x_label="", y_label="")


def test_no_point_is_refused():
    with pytest.raises(ValueError, match=r"^there must be a point to draw$"):
        scatter_svg([], title="", x_label="", y_label="")
