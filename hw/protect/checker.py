"""What a block that finds errors derives from, so that its flags reach the monitor without wires of their own."""

from typing import Any

__all__ = ["Checker"]


class Checker:
    """Mixin of a component with two members more: `detected` and `corrected`, one bit each, registered pulses.

    `hw.protect.harden` finds every checker in a design and leads its flags to the registers PROTECT_DETECTED and
    PROTECT_CORRECTED: a block instantiates a checker and connects its data, nothing else. A cycle with `detected` high stops the
    program, one with `corrected` high is only counted.
    """

    detected: Any
    corrected: Any
