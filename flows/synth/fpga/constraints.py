"""Pins and clock of a board in the format of each tool, and the module that has just these pins."""

from flows.synth.fpga.parts import Part

__all__ = ["constraints_of", "wrapper_of"]


def wrapper_of(top: str) -> str:
    """Return module `pins`: a board without reset, since configuration sets every register to its initial value."""
    return ("module pins(input clk, input rx, output tx, output irq);\n"
            f"  \\{top} board(.clk(clk), .rst(1'b0), .rx(rx), .tx(tx), .irq(irq));\nendmodule\n")


def constraints_of(part: Part, freq_mhz: float) -> tuple[str, str]:
    """Return name and text of the file of constraints."""
    if part.target == "ecp5":
        lines = [f'FREQUENCY PORT "clk" {freq_mhz:g} MHZ;']
        for port, pin in part.pins.items():
            lines += [f'LOCATE COMP "{port}" SITE "{pin}";', f'IOBUF PORT "{port}" IO_TYPE=LVCMOS33;']
        return "pins.lpf", "\n".join(lines) + "\n"
    if part.target == "ice40":
        return "pins.pcf", "".join(f"set_io {port} {pin}\n" for port, pin in part.pins.items())
    return "pins.cst", "".join(f'IO_LOC "{port}" {pin};\nIO_PORT "{port}" IO_TYPE=LVCMOS33;\n' for port, pin in part.pins.items())
