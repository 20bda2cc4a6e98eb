"""Where a Verilator model keeps its state: a header for snapshots, made from the headers that Verilator writes."""

import re
from pathlib import Path

from flows.toolchain import ToolError

__all__ = ["STATE_HEADER", "state_header"]

STATE_HEADER = "Vtop__state.h"
_INSTANCES = re.compile(r"// MODULE INSTANCE STATE\n(.*?)\n\s*\n", re.DOTALL)
_MEMBER = re.compile(r"^\s+(\w+)\s+(\w+);$", re.MULTILINE)
_CELLS = re.compile(r"// CELLS\n(.*?)\n\s*\n", re.DOTALL)
_POINTER = re.compile(r"^\s+\w+\* (?:const )?(\w+);$", re.MULTILINE)


def state_header(folder: Path) -> str:
    """Return C++ that calls a function with place and size of the state of every module instance of a model.

    Verilator keeps all instances in one object, `Vtop__Syms`; each is plain data between pointers to the instances below and the
    pointer back to that object, so copying what lies between them copies the model.

    Parameters
    ----------
    folder : Path
        Where Verilator has written a model of prefix `Vtop`.

    Raises
    ------
    ToolError
        If this Verilator writes its headers in another way.
    """
    found = _INSTANCES.search((folder / "Vtop__Syms.h").read_text())
    instances = _MEMBER.findall(found[1]) if found else []
    if ("Vtop___024root", "TOP") not in instances:
        raise ToolError("Vtop__Syms.h must list the module instances of a model: this version of Verilator is not known")
    calls = []
    for kind, name in instances:
        text = (folder / f"{kind}.h").read_text()
        cells = _POINTER.findall(section[1]) if (section := _CELLS.search(text)) else []
        first = f"offsetof({kind}, {cells[-1]}) + sizeof(void*)" if cells else "0"
        calls.append(f"    visit(reinterpret_cast<uint8_t*>(&model.{name}), {first}, offsetof({kind}, vlSymsp));")
    return "\n".join([
        "// Where the module instances of a model keep their state.", "#pragma once", "#include <cstddef>", "#include <cstdint>",
        '#include "Vtop__Syms.h"', "", "// Calls visit(instance, first byte, byte after the last) for every instance.",
        "template <typename Visit> void each_state(Vtop__Syms& model, Visit visit) {", *calls, "}", ""])
