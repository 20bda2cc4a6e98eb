"""One row of a mesh: C processing elements side by side, emitted once however many rows there are."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.pe import PESpec
from hw.pe.base import pe_control_layout
from hw.share import shared

__all__ = ["MeshRow"]


class MeshRow(wiring.Component):
    """C PEs; activation and control pass to the right, weights and psums go down, one cycle for each PE.

    Latency: what enters PE c in one cycle leaves it downwards in the next; a slot whose activation enters in cycle s is met by
    PE c in cycle s + c. Initiation interval: 1 slot a cycle.

    Parameters
    ----------
    spec : PESpec
        The PE.
    columns : int
        C.
    members : dict of str to wiring.Member
        Members that a row with more than PEs has.

    Members
    -------
    activation : In(signed), control : In(PE control)
        Into PE 0; PE c sees them c cycles later.
    weight : In(C·weight_width), psum : In(C·psum_width)
        Into each PE, from the row above; PE 0 in the lowest bits.
    weight_out, psum_out : Out
        To the row below, one cycle later. (Plain words: Amaranth adds a wire to the Verilog for every element of a struct signal,
        which would be most of a large mesh.)
    """

    def __init__(self, *, spec: PESpec, columns: int, members: dict[str, wiring.Member] | None = None):
        self.spec = spec
        self.columns = columns
        super().__init__({
            "activation": In(signed(spec.activation_width)),
            "control": In(pe_control_layout(spec.dataflows)),
            "weight": In(columns * spec.weight_width),
            "psum": In(columns * spec.psum_width),
            "weight_out": Out(columns * spec.weight_width),
            "psum_out": Out(columns * spec.psum_width),
            **(members or {}),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name of the row."""
        return f"mesh_row_{self.columns}_{self.spec.suffix}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._chain(m, platform)
        return m

    def _chain(self, m: Module, platform: Any) -> list[tuple[Value, data.View]]:
        """Make the PEs; return activation and control as they come to PE c, for each c, and as they leave the last one."""
        weight_layout = data.ArrayLayout(signed(self.spec.weight_width), self.columns)
        psum_layout = data.ArrayLayout(signed(self.spec.psum_width), self.columns)
        weights, weights_out = data.View(weight_layout, self.weight), data.View(weight_layout, self.weight_out)
        psums, psums_out = data.View(psum_layout, self.psum), data.View(psum_layout, self.psum_out)
        activation, control = self.activation, self.control
        passed = [(activation, control)]
        for c in range(self.columns):
            pe = self.spec.create()
            m.submodules[f"pe_{c}"] = shared(platform, self.spec.module_name, pe)
            m.d.comb += [
                pe.activation.eq(activation),
                pe.control.eq(control),
                pe.weight.eq(weights[c]),
                pe.psum.eq(psums[c]),
                weights_out[c].eq(pe.weight_out),
                psums_out[c].eq(pe.psum_out),
            ]
            activation, control = pe.activation_out, pe.control_out
            passed.append((activation, control))
        return passed
