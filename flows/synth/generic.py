"""A cell library without a process: areas in NAND2 equivalents, every gate one unit of delay."""

__all__ = ["GENERIC_NAME", "generic_liberty"]

GENERIC_NAME = "generic"

_GATES = {
    "INV": ("!A", 2), "BUF": ("A", 4), "NAND2": ("!(A*B)", 4), "NAND3": ("!(A*B*C)", 6), "NOR2": ("!(A+B)", 4),
    "NOR3": ("!(A+B+C)", 6), "AND2": ("A*B", 6), "OR2": ("A+B", 6), "XOR2": ("A^B", 10), "XNOR2": ("!(A^B)", 10),
    "AOI21": ("!((A*B)+C)", 6), "OAI21": ("!((A+B)*C)", 6), "AOI22": ("!((A*B)+(C*D))", 8), "OAI22": ("!((A+B)*(C+D))", 8),
}
"""Name → function, transistors of the static CMOS gate (XOR: two inverters and a complex gate of 6); NAND2 has 4."""
_FLIP_FLOP = 24
"""Transistors of a D flip-flop of six NAND2."""


def generic_liberty() -> str:
    """Return the text of the library."""
    cells = [_gate(name, function, transistors / 4) for name, (function, transistors) in _GATES.items()]
    return "\n".join([
        f"library ({GENERIC_NAME}) {{",
        "  delay_model : table_lookup;",
        '  time_unit : "1ns";', '  voltage_unit : "1V";', '  current_unit : "1mA";', '  leakage_power_unit : "1nW";',
        '  pulling_resistance_unit : "1kohm";', "  capacitive_load_unit (1, pf);",
        "  lu_table_template (unit) {", "    variable_1 : input_net_transition;",
        "    variable_2 : total_output_net_capacitance;",
        '    index_1 ("0.0, 100.0");', '    index_2 ("0.0, 100.0");', "  }",
        *cells,
        "  cell (DFF) {", f"    area : {_FLIP_FLOP / 4};", '    ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; }',
        "    pin (C) { direction : input; clock : true; capacitance : 0.001; }",
        "    pin (D) { direction : input; capacitance : 0.001; }",
        '    pin (Q) { direction : output; function : "IQ"; }', "  }", "}", ""])


def _gate(name: str, function: str, area: float) -> str:
    inputs = sorted(set(filter(str.isalpha, function)))
    table = ' (unit) { values ("1.0, 1.0", "1.0, 1.0"); }'
    timing = "".join(
        f'      timing () {{ related_pin : "{pin}"; timing_sense : {"non_unate" if "^" in function else "negative_unate"};'
        f" cell_rise{table} cell_fall{table} rise_transition{table} fall_transition{table} }}\n" for pin in inputs)
    pins = "".join(f"    pin ({pin}) {{ direction : input; capacitance : 0.001; }}\n" for pin in inputs)
    return (f"  cell ({name}) {{\n    area : {area};\n{pins}    pin (Y) {{ direction : output; function : \"{function}\";\n"
            f"{timing}    }}\n  }}")
