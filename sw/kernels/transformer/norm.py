"""Layer norm of rows of float32 in DRAM, in their place; and as int8 in the scratchpad, where a linear follows.

Rows come in blocks: while the vector unit is at one block, the next is loaded and the last one stored. Parameters lie in DRAM as
rows of float32: γ, β and, where positions are added first, the embedding of the token type.
"""

import math
from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.kernels.passes.activations import add
from sw.kernels.passes.command import Floats, Int8, Operand
from sw.kernels.passes.norms import layer_norm
from sw.kernels.passes.quantization import inverse_scale, quantize, token_scale
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.layout import round_up

__all__ = ["NORM_SCALARS", "LayerNorm", "block_rows", "emit_layer_norm", "layer_norm_areas", "make_layer_norm"]

NORM_SCALARS = ("row scale", "magnitude", "inverse", "squares", "part", "total")
"""Those of quantizations, and a row's sum."""

LARGEST_SLOT = 1 << 14      # bytes of a block of rows


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerNorm:
    """Rows to be normalized.

    Attributes
    ----------
    name : str
    m, n : int
        Rows at most, columns.
    block : int
        Rows at once, a power of two.
    row_bytes : int
        From one row to the next, in DRAM and in the scratchpad.
    eps : float
    added : bool
        Positions and token types are added first.
    """

    name: str
    m: int
    n: int
    block: int
    row_bytes: int
    eps: float
    added: bool

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the parameters in DRAM."""
        return (3 if self.added else 2) * self.row_bytes


def block_rows(config: AcceleratorConfig, m: int, row_bytes: int) -> int:
    """Return how many of at most m rows, a power of two, are handled at once: those of one bank, but at least one."""
    block = 1
    while 2 * block <= m and 2 * block * row_bytes <= min(LARGEST_SLOT, config.scratchpad_bank_bytes):
        block *= 2
    return block


def make_layer_norm(config: AcceleratorConfig, name: str, m: int, n: int, eps: float, *, added: bool = False) -> LayerNorm:
    """Return a layer norm with its blocks chosen."""
    row_bytes = round_up(4 * n, max(64, config.line_bytes))
    return LayerNorm(name=name, m=m, n=n, block=block_rows(config, m, row_bytes), row_bytes=row_bytes, eps=eps, added=added)


def layer_norm_areas(config: AcceleratorConfig, norm: LayerNorm, start: int) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`."""
    block, row = norm.block * norm.row_bytes, norm.row_bytes
    sizes = {"in": (block, 2), "centred": (block, 1), "out": (block, 2), "gamma": (row, 1), "beta": (row, 1)}
    if norm.added:
        sizes |= {"type": (row, 1), "added": (block, 2)}
    return place_areas(config, norm.name, sizes, start)


def emit_layer_norm(emitter: StreamEmitter, norm: LayerNorm, areas: dict[str, Area], scalars: dict[str, int], *, rows: Operand,
                    place: tuple[str, int], parameters: tuple[str, int], added: tuple[str, int] | None = None,
                    target: tuple[int, int] | None = None) -> None:
    """Emit a layer norm; the rings are empty before and after it.

    Parameters
    ----------
    rows : int or str
        Rows, a number or a register.
    place, parameters : (register, int)
        DRAM addresses: of the rows, which the results replace, and of the parameters.
    added : (register, int) or None
        DRAM address of rows that are added to them, where the norm has such; else "total" has the sum of each row.
    target : (int, int) or None
        Address and stride of the results as int8 rows in the scratchpad, whose scales go to "row scale".
    """
    _Emission(emitter, norm, areas, scalars, rows, place, parameters, added, target).emit()


class _Emission:
    def __init__(self, emitter: StreamEmitter, norm: LayerNorm, areas: dict[str, Area], scalars: dict[str, int], rows: Operand,
                 place: tuple[str, int], parameters: tuple[str, int], added: tuple[str, int] | None,
                 target: tuple[int, int] | None):
        self.emitter, self.norm, self.areas, self.scalars, self.rows = emitter, norm, areas, scalars, rows
        self.place, self.parameters, self.added, self.target = place, parameters, added, target

    def emit(self) -> None:
        """Emit all blocks, and wait for the last."""
        emitter, norm = self.emitter, self.norm
        rings = [f"{name} slot" for name, area in self.areas.items() if area.slots > 1]
        names = ["block", "left", "here", "row", *rings, *(["added"] if self.added else []), *(["target"] if self.target else [])]
        # Loads are done in the order in which they are queued: when the first block is there, so are the parameters.
        register, offset = self.parameters
        for number, name in enumerate(("gamma", "beta", "type")[:3 if norm.added else 2]):
            self._load((register, offset + number * norm.row_bytes), self._slot(name), 1)
        with emitter.registers(*names):
            for name in ("row", *rings):
                emitter.asm.set(emitter.reg(name), 0)
            emitter.move(emitter.reg("block"), *self.place)
            if self.added:
                emitter.move(emitter.reg("added"), *self.added)
            if self.target:
                emitter.asm.set(emitter.reg("target"), self.target[0])
            emitter.set_register("left", self.rows)
            with emitter.registers("blocks"):
                blocks = emitter.reg("blocks")
                emitter.asm.add(blocks, emitter.reg("left"), "r0", norm.block - 1)
                emitter.asm.shr(blocks, blocks, "r0", int(math.log2(norm.block)))
                with emitter.loop(blocks):
                    self._block()
                    self._next()
        emitter.asm.fence()

    def _slot(self, name: str) -> Floats:
        area = self.areas[name]
        return Floats((self.emitter.reg(f"{name} slot"), area.addr) if area.slots > 1 else area.addr, self.norm.row_bytes)

    def _parameter(self, name: str) -> Floats:
        return Floats(self.areas[name].addr)

    def _load(self, source: tuple[str, int] | str, to: Floats, rows: Operand, wait: tuple[int, ...] = (),
              signal: tuple[int, ...] = ()) -> None:
        norm = self.norm
        self.emitter.command(Unit.LOAD, {"dram_addr": source, "dram_stride": norm.row_bytes, "rows": rows,
                                         "row_bytes": 4 * norm.n, "addr": to.addr, "stride": norm.row_bytes, "transpose": 0},
                             wait, signal)

    def _block(self) -> None:
        emitter, norm, scalars = self.emitter, self.norm, self.scalars
        here = emitter.reg("here")
        emitter.asm.min(here, emitter.reg("left"), "r0", norm.block)
        total: Operand = (emitter.reg("row"), scalars["total"])
        x, centred, out = self._slot("in"), self._slot("centred"), self._slot("out")
        wait = [Semaphore.IN_FULL]
        if self.added:
            added = self._slot("added")
            self._load(emitter.reg("added"), added, here, (Semaphore.IN_FREE,))
            self._load(emitter.reg("block"), x, here, (), (Semaphore.IN_FULL,))
            emitter.passes([*add(here, norm.n, x, added, centred),
                            *add(here, norm.n, centred, self._parameter("type"), x, sum_to=total)], wait)
            wait = []
        else:
            self._load(emitter.reg("block"), x, here, (Semaphore.IN_FREE,), (Semaphore.IN_FULL,))
        amax = scalars["magnitude"] if self.target else None
        emitter.passes(layer_norm(here, norm.n, x, out, total=total, squares=scalars["squares"], eps=norm.eps, centred=centred,
                                  gamma=self._parameter("gamma"), beta=self._parameter("beta"), amax=amax),
                       [*wait, Semaphore.OUT_FREE], [Semaphore.IN_FREE, Semaphore.OUT_FULL])
        if self.target:
            to, scale = Int8(emitter.reg("target"), self.target[1]), (emitter.reg("row"), scalars["row scale"])
            emitter.passes([*token_scale(here, scalars["magnitude"], scale),
                            *inverse_scale(here, scalars["magnitude"], scalars["inverse"]),
                            *quantize(here, norm.n, out, to, inverse=scalars["inverse"])])
        emitter.command(Unit.STORE, {"dram_addr": emitter.reg("block"), "dram_stride": norm.row_bytes, "rows": here,
                                     "row_bytes": 4 * norm.n, "addr": out.addr, "stride": norm.row_bytes},
                        [Semaphore.OUT_FULL], [Semaphore.OUT_FREE])

    def _next(self) -> None:
        """Move on by a block."""
        emitter, norm = self.emitter, self.norm
        for name, area in self.areas.items():
            if area.slots > 1:
                emitter.ring(emitter.reg(f"{name} slot"), area.slot_bytes, area.slots)
        steps = {"block": norm.block * norm.row_bytes, "row": norm.block}
        if self.added:
            steps["added"] = norm.block * norm.row_bytes
        if self.target:
            steps["target"] = norm.block * self.target[1]
        for name, step in steps.items():
            emitter.move(emitter.reg(name), emitter.reg(name), step)
        emitter.asm.sub(emitter.reg("left"), emitter.reg("left"), "r0", norm.block)
