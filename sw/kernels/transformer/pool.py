"""The mean of rows of float32 in DRAM, brought to length one: a sentence's embedding.

Blocks of rows are added up into as many sums as a block has rows, then those. How many rows there are cancels: the sum has the
same direction as the mean.
"""

import math
from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.kernels.passes.activations import add, add_up_rows, unit_length
from sw.kernels.passes.command import Floats, Int8, vector_pass
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.norm import block_rows
from sw.layout import round_up

__all__ = ["Pool", "emit_pool", "make_pool", "pool_areas"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Rows to be pooled.

    Attributes
    ----------
    n : int
        Columns.
    block : int
        Rows at once, a power of two.
    row_bytes : int
        From one row to the next, in DRAM and in the scratchpad.
    """

    n: int
    block: int
    row_bytes: int


def make_pool(config: AcceleratorConfig, m: int, n: int) -> Pool:
    """Return a pooling of rows that come in chunks of m, with its blocks chosen."""
    row_bytes = round_up(4 * n, max(64, config.line_bytes))
    return Pool(n=n, block=block_rows(config, m, row_bytes), row_bytes=row_bytes)


def pool_areas(config: AcceleratorConfig, pool: Pool) -> dict[str, Area]:
    """Return the scratchpad areas."""
    block = pool.block * pool.row_bytes
    return place_areas(config, "pooling", {"in": (block, 2), "sums": (block, 1), "out": (pool.row_bytes, 1)})


def emit_pool(emitter: StreamEmitter, pool: Pool, areas: dict[str, Area], scalars: dict[str, int], *, rows: str,
              source: tuple[str, int], output: tuple[str, int]) -> None:
    """Emit it; the rings are empty before and after it.

    Parameters
    ----------
    scalars : dict of str to int
        Row scalar "squares".
    rows : str
        Register.
    source, output : (register, int)
        DRAM addresses of the rows, and of the float32 row that is made.
    """
    n, stride = pool.n, pool.row_bytes
    sums, out = Floats(areas["sums"].addr, stride), Floats(areas["out"].addr)
    # Zero times whatever lies where no other unit writes yet.
    emitter.passes([vector_pass("zeros", a=Int8(areas["out"].addr), m=pool.block, n=n, scale=0.0, add=0.0, to=sums)])
    with emitter.registers("block", "left", "here", "in slot"):
        emitter.asm.set(emitter.reg("in slot"), 0)
        emitter.move(emitter.reg("block"), *source)
        emitter.move(emitter.reg("left"), rows)
        with emitter.registers("blocks"):
            blocks = emitter.reg("blocks")
            emitter.asm.add(blocks, rows, "r0", pool.block - 1)
            emitter.asm.shr(blocks, blocks, "r0", int(math.log2(pool.block)))
            with emitter.loop(blocks):
                here, slot = emitter.reg("here"), (emitter.reg("in slot"), areas["in"].addr)
                emitter.asm.min(here, emitter.reg("left"), "r0", pool.block)
                emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("block"), "dram_stride": stride, "rows": here,
                                            "row_bytes": 4 * n, "addr": slot, "stride": stride, "transpose": 0},
                                [Semaphore.IN_FREE], [Semaphore.IN_FULL])
                emitter.passes(add(here, n, Floats(slot, stride), sums, sums), [Semaphore.IN_FULL], [Semaphore.IN_FREE])
                emitter.ring(emitter.reg("in slot"), areas["in"].slot_bytes, areas["in"].slots)
                emitter.move(emitter.reg("block"), emitter.reg("block"), pool.block * stride)
                emitter.asm.sub(emitter.reg("left"), emitter.reg("left"), "r0", pool.block)
    emitter.passes([*add_up_rows(pool.block, n, sums.addr, stride),
                    *unit_length(1, n, sums, out, squares=scalars["squares"])], [], [Semaphore.OUT_FULL])
    emitter.command(Unit.STORE, {"dram_addr": output, "dram_stride": 0, "rows": 1, "row_bytes": 4 * n, "addr": out.addr,
                                 "stride": 0}, [Semaphore.OUT_FULL])
    emitter.asm.fence()
