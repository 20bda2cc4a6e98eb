"""What a netlist takes of an FPGA, and what does not fit."""

import re

import pytest

from flows.synth.fpga.parts import part_named
from flows.synth.fpga.resources import DoesNotFit, check_fit, resources_of


def test_what_does_not_fit_is_refused_before_placement():
    part = part_named("ice40", None)
    text = "module m does not fit ice40hx8k-ct256: it needs 7681 of 7680 luts (1 too many), 3 of 0 dsps (3 too many)"
    with pytest.raises(DoesNotFit, match=f"^{re.escape(text)}$"):
        check_fit(part, {"luts": 7681, "ffs": 7680, "dsps": 3, "brams": 32}, "module m")
    check_fit(part, {"luts": 7680, "ffs": 7680, "dsps": 0, "brams": 32}, "module m")


@pytest.mark.parametrize(("target", "cells", "want"), [
    ("ecp5", {"LUT4": 5, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "PFUMX": 9, "TRELLIS_FF": 3, "MULT18X18D": 2, "PDPW16KD": 1,
               "DP16KD": 1}, (15, 3, 2, 2)),
    ("ice40", {"SB_LUT4": 5, "SB_CARRY": 4, "SB_DFF": 1, "SB_DFFESR": 2, "SB_RAM40_4KNW": 1, "SB_RAM40_4K": 1, "SB_MAC16": 1},
     (5, 3, 1, 2)),
    ("gowin", {"LUT1": 1, "LUT4": 2, "ALU": 3, "RAM16SDP4": 1, "DFFRE": 4, "MULT9X9": 3, "SDPB": 1, "MUX2_LUT5": 7},
     (10, 4, 2, 1)),
])
def test_cells_are_counted_as_what_they_take(target, cells, want):
    assert tuple(resources_of(target, cells).values()) == want
