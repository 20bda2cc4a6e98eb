"""What block diagrams are drawn of: a block with a coloured head, its lines and its module; sizes in words."""

from typing import Any

from flows.view.svg import Svg

__all__ = ["Blocks", "byte_size", "draw_block"]


class Blocks:
    """What a manifest says of the blocks below the top.

    Parameters
    ----------
    manifest : dict
        Of an emission.

    Attributes
    ----------
    top : str
    children : dict of str to str
        Blocks directly below the top, and their modules.
    ports : dict of str to int
        Port → width in bits.
    """

    def __init__(self, manifest: dict[str, Any]):
        self.top: str = manifest["top"]
        self.children: dict[str, str] = manifest["hierarchy"][self.top]
        self.ports = {port["name"]: port["width"] for port in manifest["ports"]}
        self._hierarchy, self._memories = manifest["hierarchy"], manifest["memories"]

    def memories(self, block: str) -> tuple[int, int]:
        """Return the arrays below `block` and their bytes."""
        found = [row for row in self._memories if row["path"].startswith(f"{self.top}.{block}.")]
        return len(found), sum(row["bits"] for row in found) // 8

    def module(self, path: str) -> str:
        """Return the module of the block at a path below the top, "" if there is none."""
        module = self.top
        for name in path.split("."):
            module = self._hierarchy.get(module, {}).get(name, "")
        return module


def byte_size(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale and count % scale == 0:
            return f"{count // scale:,} {unit}"
    return f"{count:,} B"


def draw_block(svg: Svg, x: float, y: float, width: float, height: float, title: str, lines: list[str], hue: str,
               module: str) -> None:
    """Draw a block: head, title, lines below it, module in the corner."""
    svg.rect(x, y, width, height, fill="panel", stroke=hue, radius=6, stroke_width=1.5)
    svg.rect(x, y, width, 5, fill=hue, stroke="none", radius=2)
    svg.text(x + 10, y + 25, title, size=14, bold=True)
    for index, line in enumerate(lines):
        svg.text(x + 10, y + 44 + 16 * index, line, size=11.5)
    svg.text(x + width - 8, y + height - 7, module, size=9, color="muted", anchor="end")
