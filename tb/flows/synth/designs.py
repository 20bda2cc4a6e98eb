"""Small designs, libraries and stand-ins for tools that the tests of synthesis share."""

import stat
from functools import cache

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from flows.synth.generic import generic_liberty
from hw.pe.mac import MacPE

__all__ = ["KEYS", "POWER", "SAID", "Chain", "Register", "fake_sta", "rtlil_memory", "small_pe", "timed_liberty"]

KEYS = {"target", "stage", "top", "area", "area_unit", "sequential_area", "cells", "flip_flops", "depth", "memories",
        "memory_area", "units", "by_block", "clock_ns", "slack_ns", "fmax_mhz", "critical_path", "estimated_fmax_mhz", "power_mw",
        "liberty", "versions", "notes", "seconds"}


class Register(wiring.Component):
    """`width` bits, one cycle late."""

    def __init__(self, width):
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        state = Signal.like(self.i, reset_less=True)
        m.d.sync += state.eq(self.i)
        m.d.comb += self.o.eq(state)
        return m


class Chain(wiring.Component):
    """Two registers in modules of their own, and logic between them in a third place."""

    def __init__(self):
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.first = first = Register(4)
        m.submodules.second = second = Register(4)
        m.d.comb += [first.i.eq(self.i), second.i.eq(~(first.o & first.o.rotate_left(1))), self.o.eq(second.o)]
        return m


def small_pe():
    return MacPE(activation_width=4, weight_width=4, psum_width=12, dataflows=("ws",))


@cache
def timed_liberty():
    """Return the text of a library with delays: the generic cells under another name."""
    return generic_liberty().replace("library (generic)", "library (tiny)").replace('"1.0, 1.0"', '"0.05, 20.0"')


def rtlil_memory(name, depth, width, clocked=1, writes=1):
    parameters = {"SIZE": depth, "WIDTH": width, "RD_PORTS": 1, "RD_CLK_ENABLE": f"1'{clocked}", "WR_PORTS": writes}
    lines = [f"  cell $mem_v2 \\{name}", *(f"    parameter \\{key} {value}" for key, value in parameters.items()),
             "    connect \\RD_CLK \\clk", "  end"]
    return "\n".join(lines)


SAID = """Startpoint: control/_1_ (rising edge-triggered flip-flop clocked by clk)
Endpoint: control/_2_ (rising edge-triggered flip-flop clocked by clk)
Path Group: clk
Path Type: max

   Delay     Time   Description
---------------------------------------------------------
  0.0000   0.0000   clock clk (rise edge)
  0.0000   0.0000 ^ control/_1_/CLK (DFF)
  0.2000   0.2000 v control/_1_/Q (DFF)
  0.3000   0.5000 ^ control/_3_/Y (NAND2)
           0.5000   data arrival time
---------------------------------------------------------
          -0.2500   slack (VIOLATED)

"""


POWER = """Group                  Internal  Switching    Leakage      Total
Total                  1.0e-03   2.0e-03   3.0e-06   3.003e-03 100.0%
"""


def fake_sta(folder, said):
    program = folder / "sta"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)
