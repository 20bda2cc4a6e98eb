"""Angles of one token from the load unit's source of angles instead of a table in DRAM."""

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.kernels.transformer.areas import Area
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.places import Address
from sw.kernels.transformer.shape import DecoderShape
from sw.program import RESYNC

__all__ = ["emit_source_angles", "source_holds"]

def source_holds(config: AcceleratorConfig, head_dim: int) -> bool:
    """Return whether the source of a config has the angles of heads of this size, in rows of whole beats."""
    return 0 < head_dim // 2 <= config.rotary_pairs and 2 * head_dim % config.beat_bytes == 0


def emit_source_angles(config: AcceleratorConfig, emitter: StreamEmitter, shape: DecoderShape, area: Area, records: Address,
                       signal: list[Semaphore]) -> None:
    """Emit it: cosines of half a head, then sines, go to the area; then the source goes on by one position.

    Parameters
    ----------
    records : (register, int)
        DRAM address of the angles of the program's position, which are loaded where the argument `RESYNC` is 1.
    """
    half = 2 * shape.head_dim
    with emitter.loop(emitter.reg(RESYNC)):
        emitter.command(Unit.LOAD, {"dram_addr": records, "dram_stride": 0, "rows": 1, "row_bytes": 4 * half, "addr": 0,
                                    "stride": 0, "transpose": 1, "unpack": 0, "stream": 1})
    emitter.command(Unit.LOAD, {"dram_addr": 0, "dram_stride": config.beat_bytes, "rows": 2, "row_bytes": half, "addr": area.addr,
                                "stride": half, "transpose": 0, "unpack": 1, "stream": 1}, [], signal)
    for field in ("unpack", "stream"):
        emitter.set(f"load.{field}", 0)
