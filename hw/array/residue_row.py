"""A row of a mesh in which each PE's residue is computed beside it."""

from typing import Any

from amaranth import *
from amaranth.lib.wiring import In, Out

from hw.array.row import MeshRow
from hw.pe import PESpec
from hw.pe.residue import ResiduePE
from hw.protect.residue import PARITY_BITS, differ, parity_of, residue
from hw.share import shared

__all__ = ["ResidueRow"]


class ResidueRow(MeshRow):
    """C PEs, and beside each one that has residues modulo 2^bits − 1 for operands; parity goes along with control.

    The time of the PEs is that of a plain row. At the right end the activation is compared with its residue.

    Parameters
    ----------
    spec : PESpec
        The PE.
    columns : int
        C.
    bits : int
        b of the modulus 2^b − 1, at least 2.

    Members
    -------
    activation, control, weight, psum, weight_out, psum_out
        As in a plain row.
    parity : In(2)
        Of control.
    activation_residue : In(bits), weight_residue, psum_residue : In(C·bits), weight_residue_out, psum_residue_out : Out(C·bits)
        Residues of the members of these names.
    wrong : Out(1)
        Register: activation or control at the right end did not fit residue and parity.
    """

    def __init__(self, *, spec: PESpec, columns: int, bits: int):
        self.bits = bits
        words = columns * bits
        super().__init__(spec=spec, columns=columns, members={
            "parity": In(PARITY_BITS), "activation_residue": In(bits), "weight_residue": In(words), "psum_residue": In(words),
            "weight_residue_out": Out(words), "psum_residue_out": Out(words), "wrong": Out(1),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name of the row."""
        return f"{super().module_name}_residue{self.bits}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        passed = self._chain(m, platform)
        activation, control = passed[-1]
        parity = Signal(self.columns * PARITY_BITS, reset_less=True)        # that of PE 1 lowest
        held = Signal(self.columns * self.bits, name="activation_residues", reset_less=True)
        entering = Cat(self.activation_residue, held[:-self.bits])
        unfit = differ(m, residue(m, activation, self.bits), held[-self.bits:])
        m.d.sync += [
            parity.eq(Cat(self.parity, parity)),
            held.eq(entering),
            self.wrong.eq(unfit | (parity_of(control.as_value()) ^ parity[-PARITY_BITS:]).any()),
        ]
        for c in range(self.columns):
            pe = ResiduePE(activation=unsigned(self.bits), bits=self.bits, dataflows=self.spec.dataflows)
            m.submodules[f"residue_{c}"] = shared(platform, pe.module_name, pe)
            word = slice(c * self.bits, (c + 1) * self.bits)
            m.d.comb += [
                pe.activation.eq(entering[word]),
                pe.control.eq(passed[c][1]),
                pe.weight.eq(self.weight_residue[word]),
                pe.psum.eq(self.psum_residue[word]),
                self.weight_residue_out[word].eq(pe.weight_out),
                self.psum_residue_out[word].eq(pe.psum_out),
            ]
        return m
