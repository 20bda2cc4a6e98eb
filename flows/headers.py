"""C headers of the registers and of the instruction set, made from their tables."""

from hw import isa, regs

__all__ = ["isa_header", "regs_header"]


def _define(name: str, value: int, doc: str, digits: int = 0) -> str:
    number = f"0x{value:0{digits}X}u" if digits else f"{value}u"
    return f"#define {name:<44} {number:<12} /* {doc} */"


def _guard(name: str, title: str, lines: list[str]) -> str:
    head = [f"/* {title}. Generated; do not edit. */", f"#ifndef {name}", f"#define {name}", ""]
    return "\n".join([*head, *lines, "", "#endif", ""])


def _fields(prefix: str, fields: tuple[isa.Field, ...]) -> list[str]:
    lines, low = [], 0
    for field in fields:
        name = f"{prefix}_{field.name.upper()}"
        lines.append(_define(f"{name}_SHIFT", low, field.doc))
        lines.append(_define(f"{name}_MASK", ((1 << field.width) - 1) << low, f"{field.width} bits", 8))
        low += field.width
    return lines


def regs_header() -> str:
    """Return regs.h: the offset of each register, and shift and mask of its fields."""
    lines = [_define("HEDDLE_REGISTER_SPACE", regs.REGISTER_SPACE, "bytes of the AXI4-Lite window", 3)]
    for register in regs.REGISTERS:
        name = f"HEDDLE_{register.name}"
        lines += ["", _define(name, register.offset, f"{register.access}: {register.doc}", 3)]
        if register.reset:
            lines.append(_define(f"{name}_RESET", register.reset, "value after reset", 8))
        lines += _fields(name, register.fields)
    return _guard("HEDDLE_REGS_H", "Registers", lines)


def isa_header() -> str:
    """Return isa.h: the instruction format, opcodes, ALU destinations, and the values of enumerated fields."""
    lines = [
        _define("HEDDLE_INSTRUCTION_BYTES", isa.INSTRUCTION_BYTES, "bytes of an instruction, little-endian"),
        _define("HEDDLE_REGISTER_COUNT", isa.REGISTERS, "scalar registers; r0 is zero"),
        _define("HEDDLE_FIRST_ARGUMENT", isa.FIRST_ARGUMENT, "register of argument 0"),
        _define("HEDDLE_ARGUMENTS", isa.ARGUMENTS, "arguments"),
        _define("HEDDLE_SEMAPHORES", isa.SEMAPHORES, "semaphores"),
        _define("HEDDLE_LOOP_DEPTH", isa.LOOP_DEPTH, "nested loops"),
        "",
    ]
    low = 0
    for field in isa.INSTRUCTION_FIELDS:
        lines.append(_define(f"HEDDLE_INSTRUCTION_{field.name.upper()}_SHIFT", low, f"{field.width} bits: {field.doc}"))
        low += field.width
    lines.append("")
    lines += [_define(f"HEDDLE_OP_{op.name}", op, info.doc, 2) for op, info in isa.OPCODES.items()]
    lines.append("")
    docs = {f"{unit.name}_{field.name.upper()}": field.doc for unit, fields in isa.DESCRIPTORS.items() for field in fields}
    for name, number in isa.DESTINATIONS.items():
        constant = name.upper().replace(".", "_")
        lines.append(_define(f"HEDDLE_DST_{constant}", number, docs.get(constant, "register")))
    for title, enum in (("UNIT", isa.Unit), ("DATAFLOW", isa.Dataflow), ("VECTOR_SOURCE", isa.VectorSource),
                        ("STREAM_USE", isa.StreamUse), ("ROW_USE", isa.RowUse), ("VECTOR_FUNCTION", isa.VectorFunction),
                        ("VECTOR_OUTPUT", isa.VectorOutput), ("ERROR", isa.ErrorCause)):
        lines.append("")
        lines += [_define(f"HEDDLE_{title}_{item.name}", item, getattr(item, "doc", f"{title.lower()} {item.name.lower()}"))
                  for item in enum]
    return _guard("HEDDLE_ISA_H", "Instruction set", lines)
