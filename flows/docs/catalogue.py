"""Makes docs/catalogue.md: every hardware block, what it is, where it is used and what tests it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flows.docs.markdown import table

__all__ = ["catalogue_page"]

_ROOT = Path(__file__).resolve().parents[2]
_TOPS = {"accelerator": "hw/top.py", "board": "hw/bridge/board.py"}
_SYSTEMS = {"Accelerator": ("tb/top", "tb/rtl", "tb/system"), "Board": ("tb/bridge", "tb/flows/test_board.py")}
"""Benches of the tops, which build them from a config and not by their class."""
_TITLES = {
    "hw": "Tops", "hw/arith": "Arithmetic", "hw/arith/decode": "Decoders of number formats", "hw/pe": "Processing elements",
    "hw/pe/bitmod": "BitMoD processing element and its parts",
    "hw/array": "Matrix engines", "hw/memory": "Memory", "hw/vector": "Vector unit", "hw/control": "Control",
    "hw/token": "Units beside a token's stream", "hw/protect": "Protection", "hw/bridge": "Boards",
}
_INTRODUCTION = f"""*Generated from the docstrings and imports of `hw/` and `tb/` by `make docs`; edit those.*

*In* names the tops that a block is part of ({', '.join(f'{name}: `{file}`' for name, file in _TOPS.items())}); a dash is a
block that stands ready and is in none of them yet. *Tested in* names the bench that builds the block by itself, or else the
blocks within which it is tested.
"""
_LISTED = 3
"""Names in a cell, at most."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A public component: its name, the first paragraph of what it says of itself, and its file."""

    name: str
    line: str
    file: Path


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _module(name: str) -> Path | None:
    """Return the file of a dotted name, if it is one of ours."""
    path = _ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(file: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and name of everything of `hw` that a file imports; what a package passes on is looked up where it is made."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hw":
            for alias in node.names:
                yield _home(node.module, alias.name)


@cache
def _home(module: str, name: str) -> tuple[Path, str]:
    if (submodule := _module(f"{module}.{name}")) is not None:
        return submodule, "*"
    file = _module(module)
    assert file is not None, f"{module} is imported and has no file"
    if file.name == "__init__.py":
        for node in _tree(file).body:
            if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
                return _home(node.module, name)
    return file, name


def _public(file: Path) -> set[str]:
    return {name for node in _tree(file).body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            for name in ast.literal_eval(node.value)}


def _blocks() -> list[_Block]:
    """Return every public class of `hw` that is a component, or is made of one."""
    defined = [(node, file) for file in sorted((_ROOT / "hw").rglob("*.py")) for node in _tree(file).body
               if isinstance(node, ast.ClassDef)]
    classes = {node.name: node for node, _ in defined}          # blocks of one name in two folders have bases of the same kind

    def is_component(name: str) -> bool:
        if name not in classes:
            return name in ("wiring.Component", "Elaboratable")
        return any(is_component(ast.unparse(base)) for base in classes[name].bases)

    return [_Block(node.name, _first_paragraph(node), file) for node, file in defined
            if node.name in _public(file) and is_component(node.name)]


def _first_paragraph(node: ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def _reached(start: Path) -> set[Path]:
    """Return the files that a file is made of: what it imports, and what that imports."""
    found, waiting = {start}, [start]
    while waiting:
        for file, _ in _imports(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting.append(file)
    return found


def _tested(block: _Block, users: dict[tuple[Path, str], list[str]], benches: dict[tuple[Path, str], list[Path]]) -> str:
    """Return the bench of the block's own stem, or those that import it, its own folder's first, or the blocks that use it."""
    if block.name in _SYSTEMS:
        return ", ".join(f"`{name}`" for name in _SYSTEMS[block.name])
    all_benches = benches.get((block.file, block.name), [])
    beside = _ROOT / "tb" / block.file.parent.relative_to(_ROOT / "hw")
    named = [file for file in all_benches if file.stem == f"test_{block.file.stem}"]
    named = named or sorted(all_benches, key=lambda file: file.parent != beside)
    if named:
        return ", ".join(f"`{file.name if file.parent == beside else file.relative_to(_ROOT)}`" for file in named[:_LISTED])
    within = users.get((block.file, block.name), [])
    return "within " + ", ".join(f"`{name}`" for name in within[:_LISTED]) if within else "–"


def _place(folder: str) -> str:
    """Return the sentence on where blocks and benches of a folder lie."""
    benches = folder.replace("hw", "tb", 1)
    return f"Files in `{folder}/`" + (f", benches in `{benches}/`.\n" if "/" in folder else ".\n")


def catalogue_page() -> str:
    """Return docs/catalogue.md."""
    blocks = _blocks()
    tops = {name: _reached(_ROOT / file) for name, file in _TOPS.items()}
    users: dict[tuple[Path, str], list[str]] = {}
    for block in blocks:
        for found in dict.fromkeys(_imports(block.file)):
            users.setdefault(found, []).append(block.name)
        for other in blocks:
            if other.file == block.file and other is not block:
                users.setdefault((other.file, other.name), []).append(block.name)
    benches: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted((_ROOT / "tb").rglob("*.py")):
        for found in dict.fromkeys(_imports(file)):
            benches.setdefault(found, []).append(file)
    text = ["# Catalogue of blocks\n", _INTRODUCTION]
    folders = dict.fromkeys([*_TITLES, *(str(block.file.parent.relative_to(_ROOT)) for block in blocks)])
    for folder in folders:
        rows = [(f"`{block.name}`", block.line, f"`{block.file.name}`",
                 ", ".join(name for name, files in tops.items() if block.file in files) or "–", _tested(block, users, benches))
                for block in blocks if str(block.file.parent.relative_to(_ROOT)) == folder]
        if rows:
            text += [f"\n## {_TITLES.get(folder, folder)}\n", _place(folder),
                     table(("block", "what", "file", "in", "tested in"), rows)]
    return "\n".join(text)
