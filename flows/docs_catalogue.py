"""Makes docs/catalogue.md: every hardware block, what it is, and how far it has been taken."""

import ast
from pathlib import Path

__all__ = ["catalogue_page"]

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ("arith", "arith/decode", "pe", "array", "memory", "vector", "control")
_NOTE = "*Generated from the docstrings in `hw/` by `make docs`; edit those.*\n"


def _blocks(file: Path) -> list[tuple[str, str]]:
    """Return name and first line of every public component of a file."""
    tree = ast.parse(file.read_text())
    public = {name.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
              for name in getattr(node.value, "elts", []) if isinstance(name, ast.Constant)}
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in public and (
                any(ast.unparse(base) == "PE" for base in node.bases)
                or any(isinstance(item, ast.FunctionDef) and item.name == "elaborate" for item in node.body)):
            found.append((node.name, (ast.get_docstring(node) or "").split("\n")[0]))
    return found


def _bench(file: Path) -> str:
    """Return the bench of a block's own stem, or of its folder."""
    relative = file.relative_to(_ROOT / "hw")
    own = _ROOT / "tb" / relative.parent / f"test_{file.stem}.py"
    return f"`{own.relative_to(_ROOT)}`" if own.exists() else f"in `tb/{relative.parent}/`"


def catalogue_page() -> str:
    """Return docs/catalogue.md."""
    text = ["# Catalogue of blocks\n", _NOTE,
            "One row for each public block; the bench holds it to its golden model or to its formula.\n"]
    for folder in _FOLDERS:
        rows = [(name, line, file) for file in sorted((_ROOT / "hw" / folder).glob("*.py")) for name, line in _blocks(file)]
        text.append(f"\n## `hw/{folder}`\n\n| block | what | file | bench |\n| --- | --- | --- | --- |")
        text += [f"| `{name}` | {line} | `{file.name}` | {_bench(file)} |" for name, line, file in rows]
    return "\n".join(text) + "\n"
