"""GEMM → instructions: hardware loops over panels, tiles and chunks of K; queues ordered by semaphores that count free slots.

One panel of the outer operand stays in the scratchpad, in chunks of K, while the tiles of the inner operand stream by::

    for each matrix of the batch, for each outer tile:          (a panel)
        for each inner tile:                                    (one result tile)
            for each chunk of K:                                (a step)
                load   the inner operand's chunk                waits INNER_FREE
                load   the outer operand's chunk                on the panel's first inner tile only; either load signals LOADED
                matrix                                          waits LOADED, signals INNER_FREE; first chunk waits ACC_FREE,
                                                                last chunk signals ACC_FULL
            load   biases and scales                            waits PARAM_FREE, signals PARAM_FULL
            vector the result tile → int8 or float32            waits ACC_FULL, PARAM_FULL, OUT_FREE; signals their counterparts
            store                                               waits OUT_FULL, signals OUT_FREE

The outer operand needs no semaphore of its own: loads run in order, and one that follows the inner load of step s starts when
step s − inner_slots is done, which used the slot before or later (its ring has at least inner_slots slots, and a whole panel).
Where no panel fits, the outer operand streams by as well: its chunks are loaded for every inner tile.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import Dataflow, Unit
from sw.kernels.emitter import Emitter, emit
from sw.kernels.epilogue import epilogue_fields
from sw.kernels.plan import Plan
from sw.kernels.tiles import Extent, OperandTile
from sw.layout import round_up

__all__ = ["Semaphore", "gemm_arguments", "gemm_code"]


class Semaphore(IntEnum):
    """What each semaphore counts."""

    LOADED = 0
    INNER_FREE = 1
    ACC_FREE = 2
    ACC_FULL = 3
    OUT_FREE = 4
    OUT_FULL = 5
    PARAM_FREE = 6
    PARAM_FULL = 7


def gemm_arguments(plan: Plan) -> list[str]:
    """Return the names of a GEMM program's arguments: base addresses, and the float32 bits of a scale for all channels."""
    names = ["a", "b", "c"]
    if "parameters" in plan.tiles:
        names.append("parameters")
    if not plan.spec.per_channel:
        names.append("scale")
    return names


def gemm_code(config: AcceleratorConfig, plan: Plan) -> npt.NDArray[np.uint64]:
    """Return the instructions of a plan."""
    return emit(Emitter, gemm_arguments(plan), lambda emitter: _Gemm(config, plan, emitter).emit(), parity=config.command_parity)


class _Gemm:
    """One pass of emission."""

    def __init__(self, config: AcceleratorConfig, plan: Plan, emitter: Emitter):
        self.config, self.plan, self.emitter, self.asm = config, plan, emitter, emitter.asm
        self.outer, self.inner = plan.outer_operand, plan.inner_operand
        self.slot_bytes = {name: round_up(tile.slot_bytes, config.line_bytes) for name, tile in plan.tiles.items()}
        spec, shape = plan.spec, plan.mapping.tile
        self.elements = {dim: Extent(dim=dim, total=getattr(spec, dim), tile=getattr(shape, dim)) for dim in "mnk"}
        self.panel_walk = plan.mapping.resident and plan.slots[self.outer] > plan.counts["k"]

    # Helpers --------------------------------------------------------------------------------------------------

    def _extents(self, dim: str) -> list[Extent]:
        """Return every extent along a dimension that a command needs."""
        extents = [self.elements[dim]]
        for tile in self.plan.tiles.values():
            extents += [extent for extent in (tile.rows, tile.row_bytes) if extent.dim == dim]
        return extents

    def _move(self, register: str, source: str, imm: int = 0) -> None:
        if register != source or imm:
            self.asm.add(register, source, "r0", imm)

    def _block(self, unit: Unit, tile: OperandTile, dram: str) -> None:
        """Set the fields of a load or store but its scratchpad address."""
        prefix, emitter = unit.name.lower(), self.emitter
        emitter.put(f"{prefix}.dram_addr", dram)
        emitter.put(f"{prefix}.dram_stride", tile.dram_stride)
        emitter.put_extent(f"{prefix}.rows", tile.rows)
        emitter.put_extent(f"{prefix}.row_bytes", tile.row_bytes)
        emitter.put(f"{prefix}.stride", tile.stride)
        if unit == Unit.LOAD:
            emitter.put("load.transpose", int(tile.transpose))

    def _load(self, name: str, dram: str, wait: list[int], signal: list[int]) -> None:
        self._block(Unit.LOAD, self.plan.tiles[name], dram)
        self.emitter.put("load.addr", self.emitter.reg(f"{name} slot"), self.plan.addresses[name])
        self.emitter.go(Unit.LOAD, wait, signal)

    # Steps, tiles, panels -------------------------------------------------------------------------------------

    def _step(self, *, first: bool, last: bool, load_outer: bool) -> None:
        """One chunk of K: its loads and its matrix command."""
        emitter, plan, tiles = self.emitter, self.plan, self.plan.tiles
        inner_dram, outer_dram = emitter.reg("inner chunk"), emitter.reg("outer chunk")
        self._load(self.inner, inner_dram, [Semaphore.INNER_FREE], [] if load_outer else [Semaphore.LOADED])
        if load_outer:
            self._load(self.outer, outer_dram, [], [Semaphore.LOADED])
        for name, prefix in (("a", "activation"), ("b", "weight")):
            emitter.put(f"matrix.{prefix}_addr", emitter.reg(f"{name} slot"), plan.addresses[name])
            emitter.put(f"matrix.{prefix}_stride", tiles[name].engine_stride)
            emitter.put(f"matrix.{prefix}_tile_stride", tiles[name].engine_tile_stride)
        emitter.put("matrix.acc_addr", emitter.reg("acc slot"))
        emitter.put("matrix.acc_tile_stride", min(plan.spec.m, plan.mapping.tile.m))
        for dim in "mnk":
            emitter.put_extent(f"matrix.{dim}", self.elements[dim])
        emitter.put("matrix.dataflow", int(Dataflow[plan.mapping.dataflow.upper()]))
        emitter.put("matrix.accumulate", int(not first))
        emitter.put("matrix.serialize", 0)
        emitter.put("matrix.mode", tiles["b"].mode)
        emitter.go(Unit.MATRIX, [Semaphore.LOADED, *([Semaphore.ACC_FREE] if first else [])],
                   [Semaphore.INNER_FREE, *([Semaphore.ACC_FULL] if last else [])])
        for name in (self.inner, self.outer):
            emitter.ring(emitter.reg(f"{name} slot"), self.slot_bytes[name], plan.slots[name])
        if not last:
            self._move(inner_dram, inner_dram, tiles[self.inner].steps["k"])
            if load_outer:
                self._move(outer_dram, outer_dram, tiles[self.outer].steps["k"])
            emitter.advance(self._extents("k"))

    def _tile(self, *, load_outer: bool) -> None:
        """One result tile: its steps, its vector command, its store."""
        emitter, plan, chunks = self.emitter, self.plan, self.plan.counts["k"]
        self._move(emitter.reg("inner chunk"), emitter.reg("inner tile"))
        emitter.start(self._extents("k"))
        if load_outer:
            self._move(emitter.reg("outer chunk"), emitter.reg("outer tile"))
        else:
            self._move(emitter.reg(f"{self.outer} slot"), emitter.reg("panel slot") if self.panel_walk else "r0")
        self._step(first=True, last=chunks == 1, load_outer=load_outer)
        if chunks > 2:
            with self.asm.loop(chunks - 2):
                self._step(first=False, last=False, load_outer=load_outer)
        if chunks > 1:
            self._step(first=False, last=True, load_outer=load_outer)
        self._epilogue()
        for name, extent in (("acc slot", plan.acc_slot_rows), ("c slot", self.slot_bytes["c"])):
            self.asm.xor(emitter.reg(name), emitter.reg(name), "r0", extent)
        inner_dim = plan.inner
        emitter.advance(self._extents(inner_dim))
        for register, name in (("inner tile", self.inner), ("c tile", "c"), ("parameters tile", "parameters")):
            if name in plan.tiles and inner_dim in plan.tiles[name].steps:
                self._move(emitter.reg(register), emitter.reg(register), plan.tiles[name].steps[inner_dim])

    def _epilogue(self) -> None:
        """Queue parameters, vector command and store of a result tile."""
        emitter, plan, spec = self.emitter, self.plan, self.plan.spec
        wait = [Semaphore.ACC_FULL, Semaphore.OUT_FREE]
        signal = [Semaphore.ACC_FREE, Semaphore.OUT_FULL]
        if spec.has_parameters:
            self._load("parameters", emitter.reg("parameters tile"), [Semaphore.PARAM_FREE], [Semaphore.PARAM_FULL])
            wait.append(Semaphore.PARAM_FULL)
            signal.append(Semaphore.PARAM_FREE)
            slot, addresses = emitter.reg("parameters slot"), plan.addresses
            if spec.bias:
                emitter.put("vector.c_addr", slot, addresses["parameters"])
            if spec.per_channel:
                emitter.put("vector.b_addr", slot, addresses.get("scales", addresses["parameters"]))
            self.asm.xor(slot, slot, "r0", self.slot_bytes["parameters"])
        for name, value in epilogue_fields(spec, floating=self.config.float_activations).items():
            emitter.put(f"vector.{name}", value)
        emitter.put("vector.acc_addr", emitter.reg("acc slot"))
        emitter.put("vector.acc_tile_stride", min(spec.m, plan.mapping.tile.m))
        for dim in "mn":
            emitter.put_extent(f"vector.{dim}", self.elements[dim])
        emitter.put("vector.addr", emitter.reg("c slot"), plan.addresses["c"])
        emitter.put("vector.stride", plan.tiles["c"].stride)
        if not spec.per_channel:
            emitter.put("vector.scale", emitter.reg("scale"))
        emitter.go(Unit.VECTOR, wait, signal)
        self._block(Unit.STORE, plan.tiles["c"], emitter.reg("c tile"))
        emitter.put("store.addr", emitter.reg("c slot"), plan.addresses["c"])
        emitter.go(Unit.STORE, [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])

    def _panel(self) -> None:
        """One outer tile."""
        emitter, plan, outer_dim = self.emitter, self.plan, self.plan.mapping.outer
        self._move(emitter.reg("inner tile"), emitter.reg(self.inner))
        self._move(emitter.reg("c tile"), emitter.reg("c panel"))
        self._parameters_start(outer_dim == "m")
        emitter.start(self._extents(plan.inner))
        inner_count = plan.counts[plan.inner]
        if plan.mapping.resident:
            self._tile(load_outer=True)
            inner_count -= 1
        if inner_count:
            with self.asm.loop(inner_count):
                self._tile(load_outer=not plan.mapping.resident)
        if self.panel_walk:
            self._move(emitter.reg("panel slot"), emitter.reg(f"{self.outer} slot"))
        emitter.advance(self._extents(outer_dim))
        self._move(emitter.reg("outer tile"), emitter.reg("outer tile"), plan.tiles[self.outer].steps[outer_dim])
        self._move(emitter.reg("c panel"), emitter.reg("c panel"), plan.tiles["c"].steps[outer_dim])
        if "parameters" in plan.tiles and outer_dim == "n":
            self._move(emitter.reg("parameters tile"), emitter.reg("parameters tile"), plan.tiles["parameters"].steps["n"])

    def _parameters_start(self, here: bool) -> None:
        if here and "parameters" in self.plan.tiles:
            absent = 0 if self.plan.spec.bias else self.plan.layouts["parameters"].row_stride       # biases, before the scales
            self._move(self.emitter.reg("parameters tile"), self.emitter.reg("parameters"), absent)

    def emit(self) -> None:
        """Emit the kernel."""
        emitter, plan, asm = self.emitter, self.plan, self.asm
        credits = {Semaphore.INNER_FREE: plan.slots[self.inner], Semaphore.ACC_FREE: 2, Semaphore.OUT_FREE: 2,
                   Semaphore.PARAM_FREE: 2}
        for i in range(max(credits.values())):
            asm.signal(*(semaphore for semaphore, count in credits.items() if count > i))
        names = [f"{name} slot" for name in (*plan.tiles, "acc", *(["panel"] if self.panel_walk else []))]
        for name in names:
            asm.set(emitter.reg(name), 0)
        with asm.loop(plan.spec.batch):
            self._move(emitter.reg("outer tile"), emitter.reg(self.outer))
            self._move(emitter.reg("c panel"), emitter.reg("c"))
            self._parameters_start(plan.mapping.outer == "n")
            emitter.start(self._extents(plan.mapping.outer))
            with asm.loop(plan.counts[plan.mapping.outer]):
                self._panel()
            if plan.spec.batch > 1:
                for name in ("a", "b", "c"):
                    self._move(emitter.reg(name), emitter.reg(name), plan.tiles[name].batch_step)
        asm.halt()
