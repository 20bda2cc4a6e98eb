"""A row of a mesh with a checksum at its end."""

from typing import Any

from amaranth import *
from amaranth.lib.wiring import In, Out

from hw.array.row import MeshRow
from hw.pe import PESpec
from hw.pe.residue import ResiduePE
from hw.protect.residue import PARITY_BITS, parity_of
from hw.share import shared

__all__ = ["CHECKSUM_BITS", "ChecksumRow"]

CHECKSUM_BITS = 8
"""b of the modulus 2^b − 1 = 255."""


class ChecksumRow(MeshRow):
    """C PEs and one more, modulo 255, for the sum of their psums; parity goes along with activation and control.

    The time of the PEs is that of a plain row; the checksum PE is the next one: a slot whose activation enters in cycle s is
    met by it in cycle s + C, with the activation that all other PEs have had.

    Parameters
    ----------
    spec : PESpec
        The PE.
    columns : int
        C.

    Members
    -------
    activation, control, weight, psum, weight_out, psum_out
        As in a plain row.
    parity : In(2)
        Of activation and of control, the one xor the other.
    sum_weight, sum_psum : In(8), sum_weight_out, sum_psum_out : Out(8)
        To and from the checksum PE: those of its slot.
    wrong : Out(1)
        Register: parity did not hold when activation and control came to the checksum PE.
    """

    def __init__(self, *, spec: PESpec, columns: int):
        word = CHECKSUM_BITS
        super().__init__(spec=spec, columns=columns, members={
            "parity": In(PARITY_BITS), "sum_weight": In(word), "sum_psum": In(word), "sum_weight_out": Out(word),
            "sum_psum_out": Out(word), "wrong": Out(1),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name of the row."""
        return f"{super().module_name}_checksum"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        activation, control = self._chain(m, platform)[-1]
        parity = Signal(self.columns * PARITY_BITS, reset_less=True)        # that of PE 1 lowest
        m.d.sync += [
            parity.eq(Cat(self.parity, parity)),
            self.wrong.eq((parity_of(activation) ^ parity_of(control.as_value()) ^ parity[-PARITY_BITS:]).any()),
        ]
        pe = ResiduePE(activation=self.activation.shape(), bits=CHECKSUM_BITS, dataflows=self.spec.dataflows)
        m.submodules.checksum = shared(platform, pe.module_name, pe)
        m.d.comb += [
            pe.activation.eq(activation),
            pe.control.eq(control),
            pe.weight.eq(self.sum_weight),
            pe.psum.eq(self.sum_psum),
            self.sum_weight_out.eq(pe.weight_out),
            self.sum_psum_out.eq(pe.psum_out),
        ]
        return m
