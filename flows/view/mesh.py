"""The array of an engine as a drawing: its PEs, and in a mesh the registers that skew what goes in and comes out."""

from flows.view.svg import Svg
from hw.config import AcceleratorConfig

__all__ = ["draw_mesh", "shown"]

_SKEWED = ("systolic", "hybrid")        # models of engines whose operands pass from PE to PE
_MOST = 8
_REGISTER = 5


def shown(count: int) -> list[int | None]:
    """Return the rows or columns that are drawn: all, or the first ones, a gap (None) and the last."""
    return list(range(count)) if count <= _MOST else [*range(_MOST - 2), None, count - 1]


def draw_mesh(svg: Svg, config: AcceleratorConfig, x: float, y: float) -> None:
    """Draw R×C PEs into an area of about 480 × 320 pixels at `x`, `y`."""
    rows, columns, skewed = shown(config.rows), shown(config.columns), config.engine_model in _SKEWED
    cell = min(40.0, 176 / max(len(rows), len(columns)))
    svg.text(x, y + 14, f"Array of {config.rows}×{config.columns} PEs", size=14, bold=True)
    left, top = x + 118, y + 84
    wide, high = cell * len(columns), cell * len(rows)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if row is None or column is None:
                svg.circle(left + (j + 0.5) * cell, top + (i + 0.5) * cell, 1.8, fill="muted")
            else:
                svg.rect(left + j * cell + 1.5, top + i * cell + 1.5, cell - 3, cell - 3, fill="matrix", tint=0.22,
                         stroke="matrix", radius=3, tip=f"PE row {row}, column {column}")
    for i, row in enumerate(rows):
        if row is not None:
            at = top + (i + 0.5) * cell
            if skewed:
                _registers(svg, left - 14, at, i, (-1, 0), "load")
            svg.line([(left - 13, at), (left + 1, at)], stroke="load", width=1.2, arrow=True)
    for j, column in enumerate(columns):
        if column is not None:
            at = left + (j + 0.5) * cell
            if skewed:
                _registers(svg, at, top - 14, j if "os" in config.dataflows else 0, (0, -1), "memory")
                _registers(svg, at, top + high + 14, len(columns) - 1 - j, (0, 1), "vector")
            svg.line([(at, top - 13), (at, top + 1)], stroke="memory", width=1.2, arrow=True)
            svg.line([(at, top + high), (at, top + high + 13)], stroke="vector", width=1.2, arrow=True)
    middle = left + wide + 16
    svg.text(left - 12, top + high + 20, "activations" + "," * skewed, size=11, color="load", anchor="end")
    if skewed:
        svg.text(left - 12, top + high + 34, "row r later by r", size=11, color="load", anchor="end")
        svg.text(middle, top + high + 34, "again below", size=11, color="vector")
    svg.text(middle, top - 30, "weights", size=11, color="memory")
    if "os" in config.dataflows:
        svg.text(middle, top - 16, "OS: column c later by c", size=11, color="memory")
    svg.text(middle, top + high + 20, "psums, lined up" if skewed else "psums", size=11, color="vector")
    svg.text(middle, top + 14, f"{config.activation_format} × {config.weight_format}", size=11, color="matrix")
    svg.text(middle, top + 30, f"psum {config.psum_width} bits", size=11, color="matrix")
    svg.text(middle, top + 46, " + ".join(flow.upper() for flow in config.dataflows), size=11, color="matrix")


def _registers(svg: Svg, x: float, y: float, count: int, step: tuple[int, int], hue: str) -> None:
    """Draw a row of `count` delay registers that starts at a place and goes on in direction `step`."""
    for k in range(count):
        at_x, at_y = x + step[0] * _REGISTER * (k + 0.5), y + step[1] * _REGISTER * (k + 0.5)
        svg.rect(at_x - 2, at_y - 2, 4, 4, fill=hue, tint=0.5, stroke="none")
