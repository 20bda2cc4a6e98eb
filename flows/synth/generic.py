"""A cell library without a process: areas in NAND2 equivalents, every gate one unit of delay."""

__all__ = ["GENERIC_NAME", "LIBERTY_HEAD", "generic_liberty"]

GENERIC_NAME = "generic"
LIBERTY_HEAD = (
    "  delay_model : table_lookup;", '  time_unit : "1ns";', '  voltage_unit : "1V";', '  current_unit : "1uA";',
    '  leakage_power_unit : "1nW";', '  pulling_resistance_unit : "1kohm";', "  capacitive_load_unit (1, pf);",
    "  nom_process : 1.0;", "  nom_voltage : 1.0;", "  nom_temperature : 25.0;",
    *(f"  {name}_threshold_pct_{edge} : {percent};" for name, percent in (
        ("input", 50), ("output", 50), ("slew_lower", 20), ("slew_upper", 80)) for edge in ("rise", "fall")),
)
"""Units and thresholds of the libraries that we write."""

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
        *LIBERTY_HEAD,
        "  lu_table_template (unit) {", "    variable_1 : input_net_transition;",
        "    variable_2 : total_output_net_capacitance;",
        '    index_1 ("0.0, 100.0");', '    index_2 ("0.0, 100.0");', "  }",
        *cells,
        "  cell (DFF) {", f"    area : {_FLIP_FLOP / 4};", '    ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; }',
        "    pin (C) { direction : input; clock : true; capacitance : 0.001; }",
        "    pin (D) { direction : input; capacitance : 0.001;",
        '      timing () { related_pin : "C"; timing_type : setup_rising;',
        '        rise_constraint (scalar) { values ("0.0"); } fall_constraint (scalar) { values ("0.0"); } } }',
        '    pin (Q) { direction : output; function : "IQ";',
        f'      timing () {{ related_pin : "C"; timing_type : rising_edge; {_DELAYS} }} }}', "  }", "}", ""])


_TABLE = ' (unit) { values ("1.0, 1.0", "1.0, 1.0"); }'
_DELAYS = " ".join(kind + _TABLE for kind in ("cell_rise", "cell_fall", "rise_transition", "fall_transition"))


def _gate(name: str, function: str, area: float) -> str:
    inputs = sorted(set(filter(str.isalpha, function)))
    timing = "".join(
        f'      timing () {{ related_pin : "{pin}"; timing_sense : {"non_unate" if "^" in function else "negative_unate"};'
        f" {_DELAYS} }}\n" for pin in inputs)
    pins = "".join(f"    pin ({pin}) {{ direction : input; capacitance : 0.001; }}\n" for pin in inputs)
    return (f"  cell ({name}) {{\n    area : {area};\n{pins}    pin (Y) {{ direction : output; function : \"{function}\";\n"
            f"{timing}    }}\n  }}")
