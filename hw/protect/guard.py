"""Checks what a protected storage gives."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.protect.checker import Checker
from hw.protect.words import CodedWords, WordDecoder

__all__ = ["StorageGuard"]


class StorageGuard(wiring.Component, Checker):
    """Decodes what comes out of a storage. Combinational, but for the flags.

    Parameters
    ----------
    code : CodedWords

    Members
    -------
    loaded : In(code.coded_width), o : Out(code.width)
        What the storage gives, and what that is, put right where the code can.
    valid : In(1), taken : In(1)
        Something is loaded; it is used for the last time.
    detected, corrected : Out(1)
        Pulses, one cycle later: an error while `valid` that cannot be put right; one that was, when `taken`.
    """

    def __init__(self, code: CodedWords):
        self.code = code
        super().__init__({
            "loaded": In(code.coded_width), "o": Out(code.width),
            "valid": In(1), "taken": In(1), "detected": Out(1), "corrected": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.decoder = decoder = WordDecoder(self.code)
        m.d.comb += [
            decoder.coded.eq(self.loaded),
            self.o.eq(decoder.data),
        ]
        m.d.sync += [
            self.detected.eq(self.valid & decoder.detected.any()),
            self.corrected.eq(self.taken & decoder.corrected.any()),
        ]
        return m
