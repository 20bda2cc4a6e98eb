"""A mesh alone, as a block that faults are injected into: slots in, rows of psums out, each with its valid bit."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array.guarded_mesh import GuardedMesh
from hw.array.mesh import Mesh
from hw.array.meshes import mesh_of
from hw.config import ceil_log2
from hw.pe import PESpec

__all__ = ["ArrayBench", "mesh_inputs", "slot_members"]


def slot_members(spec: PESpec, rows: int, columns: int) -> dict[str, Any]:
    """Return the ports by which a bench takes a slot: `activation` to `streams` of `ArrayBench`."""
    return {"activation": In(rows * spec.activation_width), "weight": In(columns * spec.weight_width),
            "select": In(1), "load": In(1), "load_row": In(max(1, ceil_log2(rows))), "streams": In(1)}


def mesh_inputs(bench: Any, mesh: Mesh) -> list[Any]:
    """Return the assignments that give the slot of a bench with `slot_members` to its mesh."""
    return [mesh.activation.as_value().eq(bench.activation), mesh.weight.as_value().eq(bench.weight),
            *(getattr(mesh.control, name).eq(getattr(bench, name)) for name in ("select", "load", "load_row"))]


class ArrayBench(wiring.Component):
    """The mesh of `hw.array.mesh` with plain ports, weight-stationary, and the pipeline that follows a slot through it.

    Parameters
    ----------
    spec : PESpec
        The PE; its dataflows must have "ws".
    rows, columns : int
        R and C.
    protection : str
        How the mesh checks itself, as in `hw.array.meshes`.

    Members
    -------
    activation : In(R × activation_width), weight : In(C × weight_width)
        Operands of the slot, lane 0 in the lowest bits.
    select, load, load_row : In
        Control word of the slot, as `hw.array.mesh.mesh_control_layout` has it.
    streams : In(1)
        The slot's psums are a result.
    valid : Out(1), psum_0, psum_1, … : Out(signed(psum_width))
        `streams` and the psums of the slot `latency` cycles ago.
    detected : Out(1)
        A protected mesh has found an error, or the pipeline, of which there are two then, is wrong; there only with a protection.
    """

    def __init__(self, *, spec: PESpec, rows: int, columns: int, protection: str = "none"):
        self.spec, self.rows, self.columns, self.protection = spec, rows, columns, protection
        self.latency = rows + columns - 1
        flags = {} if protection == "none" else {"detected": Out(1)}
        super().__init__({
            **slot_members(spec, rows, columns), "valid": Out(1), **flags,
            **{f"psum_{c}": Out(signed(spec.psum_width)) for c in range(columns)},
        })

    def elaborate(self, platform: Any) -> Module:
        """Wire the mesh, and delay `streams` as it delays a slot."""
        m = Module()
        m.submodules.mesh = mesh = mesh_of(self.protection, spec=self.spec, rows=self.rows, columns=self.columns)
        valid = Signal(self.latency, name="valid_pipeline")
        m.d.sync += valid.eq(Cat(self.streams, valid))
        m.d.comb += [
            *mesh_inputs(self, mesh),
            self.valid.eq(valid[-1]),
            *(getattr(self, f"psum_{c}").eq(mesh.psum[c]) for c in range(self.columns)),
        ]
        if isinstance(mesh, GuardedMesh):
            twin = Signal(self.latency, name="valid_twin")
            m.d.sync += twin.eq(Cat(self.streams, twin))
            m.d.comb += [mesh.valid.eq(valid[-1]), self.detected.eq(mesh.detected | (valid[-1] ^ twin[-1]))]
        return m
