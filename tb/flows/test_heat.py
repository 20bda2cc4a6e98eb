"""Heat maps and trade-off curves: what is drawn is as large, as dark and where the numbers say."""

import re
import xml.etree.ElementTree as ET

import pytest

from flows.view.curve import tradeoff_curve
from flows.view.heat import Tile, heat_grid, squarified, treemap
from flows.view.report import card, report_page, table

SVG = "{http://www.w3.org/2000/svg}"


def rects(svg):
    """Return (x, y, width, height, fill, tint, tip) of the rectangles that have a tip."""
    found = []
    for rect in ET.fromstring(svg.to_text()).iter(f"{SVG}rect"):
        tip = rect.find(f"{SVG}title")
        if tip is not None:
            style = dict(part.split(":") for part in rect.get("style").split(";"))
            found.append((*(float(rect.get(name)) for name in ("x", "y", "width", "height")), style["fill"],
                          float(style["fill-opacity"]), tip.text))
    return found


@pytest.mark.parametrize("sizes", [[6, 6, 4, 3, 2, 2, 1], [1], [1, 1000], [5, 0, 3], list(range(1, 60))])
def test_a_treemap_fills_the_rectangle_by_size(sizes):
    boxes = squarified(sizes, 10, 20, 600, 400)
    assert sum(w * h for _, _, w, h in boxes) == pytest.approx(600 * 400)
    for size, (x, y, w, h) in zip(sizes, boxes, strict=True):
        assert w * h == pytest.approx(600 * 400 * size / sum(sizes))
        assert 10 - 1e-6 <= x
        assert x + w <= 610 + 1e-6
        assert 20 - 1e-6 <= y
        assert y + h <= 420 + 1e-6
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            overlap = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])) * max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1],
                                                                                                                           b[1]))
            assert overlap < 1e-6


def test_rectangles_are_not_thin():
    boxes = squarified([6, 6, 4, 3, 2, 2, 1], 0, 0, 600, 400)
    assert max(max(w / h, h / w) for _, _, w, h in boxes) < 3.1


def test_nothing_to_draw():
    assert squarified([0, 0], 1, 2, 30, 40) == [(1, 2, 0, 0)] * 2
    assert squarified([], 0, 0, 1, 1) == []


def test_tiles_are_as_dark_as_they_are_hot():
    parts = (Tile(name="hot", size=3, heat=1.0, tip="hot"), Tile(name="cold", size=3, heat=0.0, tip="cold"),
             Tile(name="unknown", size=2, tip="unknown"))
    found = {row[6]: row for row in rects(treemap([Tile(name="u", size=8, tip="u", parts=parts)], title="t", subtitle="s",
                                                  top=7))}
    assert found["hot"][5] > 0.9 > 0.1 > found["cold"][5]
    assert "wait" in found["hot"][4]
    assert "panel" in found["unknown"][4]


def test_a_grid_has_a_cell_for_each_value():
    svg = heat_grid([[0.0, 0.5], [1.0, None]], ["a", "b"], ["0", "8"], title="t", below="cycle")
    found = {row[6]: row for row in rects(svg)}
    assert set(found) == {"a, 0: 0 %", "a, 8: 50 %", "b, 0: 100 %", "b, 8: not simulated"}
    assert found["b, 0: 100 %"][5] == pytest.approx(2 * found["a, 8: 50 %"][5], abs=0.02)
    assert found["a, 0: 0 %"][5] == 0
    assert "panel" in found["b, 8: not simulated"][4]


def test_a_curve_falls_and_its_marks_lie_on_it():
    svg = tradeoff_curve([(0, 100.0), (5, 10.0), (10, 1.0)], [(5, 10.0, "chosen", "load")], title="t", x_label="x", y_label="y",
                         limit=2.0, limit_label="target")
    text = svg.to_text()
    root = ET.fromstring(text)
    path = next(p.get("d") for p in root.iter(f"{SVG}path") if p.get("d").count("L") == 2)
    points = [tuple(map(float, pair.split())) for pair in path[1:].split("L")]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[2][1] - points[1][1] == pytest.approx(points[1][1] - points[0][1], abs=0.1)       # decades are evenly apart
    circle = next(root.iter(f"{SVG}circle"))
    assert (float(circle.get("cx")), float(circle.get("cy"))) == pytest.approx(points[1], abs=0.02)
    assert "target" in text
    tradeoff_curve([(0, 0.0)], [], title="t", x_label="x", y_label="y").to_text()


def test_a_page_escapes_what_it_is_given():
    page = report_page("a < b", {"k": "<v>"}, [card(table(("h",), [["1 % [0, 2]"], ["<x>"]]), title="<t>", note="n & m")])
    assert "@@" not in page
    assert "<h1>a &lt; b</h1>" in page
    assert "<dd>&lt;v&gt;</dd>" in page
    assert "<td>1 % <small>[0, 2]</small></td>" in page
    assert "<td>&lt;x&gt;</td>" in page
    assert "<p>n &amp; m</p>" in page
    assert re.search(r"--wait:#", page)
