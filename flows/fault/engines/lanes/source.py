"""C++ of a design's functions: each once, for one machine (the run without faults) and for a vector of them."""

from flows.fault.engines.lanes.segments import Function, Operation

__all__ = ["lanes_source"]


def _mask(width: int) -> str:
    return f"0x{(1 << width) - 1:x}u"


def _name(arg: int) -> str:
    return f"n{arg}" if arg >= 0 else f"i[{-1 - arg}]"


def _expression(operation: Operation, width_of: dict[int, int]) -> str:
    """Return the C++ of one operation; no bit above its width is ever 1."""
    op, args, width, number = operation
    names = [_name(arg) for arg in args]
    cut = "" if width == 32 else f" & {_mask(width)}"
    match op:
        case "const":
            return f"same<W>({number}u)"
        case "and" | "or" | "xor":
            return f"{names[0]} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[op]} {names[1]}"
        case "not":
            return f"~{names[0]}{cut}"
        case "add" | "sub" | "mul":
            sign = {"add": "+", "sub": "-", "mul": "*"}[op]
            return f"({names[0]} {sign} {names[1]}){cut}"
        case "any":
            return f"any({names[0]})"
        case "all":
            return f"eq({names[0]}, same<W>({number}u))"
        case "shl":
            return f"({names[0]} << {names[1]}){cut}"
        case "shr":
            return f"({names[0]} >> {names[1]}){cut}"
        case "slice":
            moved = f"({names[0]} >> {number}u)" if number else names[0]
            return moved if number + width == width_of[args[0]] else f"{moved}{cut}"
        case "sext":
            return f"sext({names[0]}, {number}u){cut}"
        case "cat":
            parts, low = [], 0
            for arg, name in zip(args, names, strict=True):
                parts.append(f"({name} << {low}u)" if low else name)
                low += width_of[arg]
            return " | ".join(parts)
    return f"{op}({', '.join(names)})"          # eq, ltu, lts, mux, parity, sar


def _function(index: int, function: Function) -> str:
    lines = [f"template <class W> static void f{index}(const W* i, W* o STRIKES) {{"]
    widths = {-1 - i: width for i, width in enumerate(function.inputs)}
    for n, operation in enumerate(function.code):
        widths[n] = operation.width
        lines.append(f"    const W n{n} = NODE({n}, {_expression(operation, widths)});")
    lines += [f"    o[{k}] = {_name(node)};" for k, node in enumerate(function.outputs)]
    return "\n".join([*lines, "}"])


def lanes_source(functions: list[Function]) -> str:
    """Return the C++ of all functions, and of the table that lists them.

    Compiled with `-DSTRIKE`, each operation's result can be struck by transients and stuck bits: the same functions, slower.
    """
    bodies = [_function(index, function) for index, function in enumerate(functions)]
    rows = ", ".join(f"{{f{index}<u32>, f{index}<V>}}" for index in range(len(functions)))
    struck = ", ".join(f"f{index}<V>" for index in range(len(functions)))
    return "\n".join([
        "// Functions of the design's segments; generated.", '#include "lanes_words.h"', "", *bodies, "",
        "#ifdef STRIKE", f"extern const StruckFunction struck_functions[] = {{{struck}}};",
        "#else", f"extern const Functions functions[] = {{{rows}}};", "#endif", ""])
