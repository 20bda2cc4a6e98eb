"""A command in a few words, for people."""

from collections.abc import Mapping

from hw.isa import DocumentedEnum, Unit, VectorFunction, VectorOutput, VectorSource
from sw.program import Program

__all__ = ["describe"]


def describe(unit: Unit, fields: Mapping[str, int], program: Program, args: Mapping[str, int]) -> str:
    """Return what a command moves or computes, in a few words."""
    if unit == Unit.MATRIX:
        flow = "OS" if fields["dataflow"] else "WS"
        return f"{fields['m']}×{fields['n']}×{fields['k']} {flow}" + (", accumulate" if fields["accumulate"] else "")
    if unit == Unit.VECTOR:
        return _vector(fields)
    region = next((r.name for r in program.regions
                   if 0 <= fields["dram_addr"] - args.get(r.name, r.addr) < r.size), f"0x{fields['dram_addr']:x}")
    ways = (("unpack", "unpacked"), ("transpose", "transposed"), ("stream", "streamed"))
    done = "".join(f", {way}" for field, way in ways if fields.get(field))
    return f"{region}, {fields['rows']} × {fields['row_bytes']} B{done}"


def _vector(fields: Mapping[str, int]) -> str:
    """Return source, function, what is kept of each row, and output of a vector command."""
    words = [f"{fields['m']}×{fields['n']} {_word(VectorSource, fields['source'])}"]
    if fields["function"] != VectorFunction.IDENTITY:
        words.append(_word(VectorFunction, fields["function"]))
    words += [name for name in ("sum", "max") if fields[name]]
    if fields["output"] == VectorOutput.NONE:
        return ", ".join(words)
    return f"{', '.join(words)} → {_word(VectorOutput, fields['output'])}"


def _word(kind: type[DocumentedEnum], value: int) -> str:
    """Return the name of a value, or the number of one that the unit will refuse."""
    return kind(value).name.lower() if value < len(kind) else str(value)
