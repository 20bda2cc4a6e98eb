"""Rows of float32 in DRAM → rows of int8 in the scratchpad with a scale for each row, with or without the RMS norm.

Two walks over the columns: the first finds each row's greatest magnitude (and sum of squares), the second scales and rounds. The factor of
the norm cancels inside the codes: round(127·r·x / max|r·x|) does not depend on r, which goes into the row's scale alone.
"""

from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.isa import RowUse, Unit, VectorFunction, VectorOutput, VectorSource
from sw.kernels.tiles import Extent
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import Operand, StreamEmitter, float_bits
from sw.kernels.transformer.linear import Semaphore

__all__ = ["SCALARS", "TINY", "Quantize", "emit_inverse", "emit_quantize", "make_quantize", "quantize_areas"]

SCALARS = ("row scale", "magnitude", "inverse", "squares", "part")
TINY = 2.0**-100            # instead of a magnitude of zero: 127 / TINY is finite, and times zero is zero
LARGEST_SLOT = 1 << 15      # bytes of a tile


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantize:
    """Rows to be quantized.

    Attributes
    ----------
    name : str
    m, n : int
        Rows at most, columns.
    tile_n : int
        Columns that are loaded at once.
    eps : float or None
        Of the RMS norm; None: no norm.
    """

    name: str
    m: int
    n: int
    tile_n: int
    eps: float | None


def make_quantize(config: AcceleratorConfig, name: str, m: int, n: int, eps: float | None = None) -> Quantize:
    """Return a quantization with its tiles chosen."""
    tile = config.columns
    while tile < n and 8 * m * tile <= LARGEST_SLOT:
        tile *= 2
    return Quantize(name=name, m=m, n=n, tile_n=min(tile, n), eps=eps)


def quantize_areas(config: AcceleratorConfig, quantize: Quantize, start: int) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`."""
    return place_areas(config, quantize.name, {"in": (4 * quantize.m * quantize.tile_n, 2)}, start)


def emit_inverse(emitter: StreamEmitter, rows: Operand, magnitude: int, inverse: int) -> None:
    """Emit inverse ← 127 / magnitude, row by row."""
    emitter.vector({"source": VectorSource.ROW, "m": rows, "n": 1, "row0_addr": magnitude, "scale": float_bits(1 / 127), "middle": 2,
                    "constant": float_bits(TINY), "function": VectorFunction.RECIPROCAL, "max": 1, "max_addr": inverse})


def emit_quantize(config: AcceleratorConfig, emitter: StreamEmitter, quantize: Quantize, areas: dict[str, Area],
                  scalars: dict[str, int], *, rows: Operand, source: tuple[str, int], source_stride: int, target: int,
                  target_stride: int) -> None:
    """Emit a quantization; the rings are empty before and after it.

    Parameters
    ----------
    rows : int or str
        Rows, a number or a register.
    source : (register, int)
        DRAM address of the first row; `source_stride` bytes to the next.
    target, target_stride : int
        Of the int8 rows in the scratchpad. Their scales go to the row scalars "row scale".
    """
    columns = Extent(dim="n", total=quantize.n, tile=quantize.tile_n)
    row_bytes = Extent(dim="n", total=4 * quantize.n, tile=4 * quantize.tile_n)
    area, stride = areas["in"], 4 * quantize.tile_n
    norm = quantize.eps is not None

    def load() -> dict[str, Operand]:
        """Load a tile; return the fields of a pass over it."""
        emitter.put_extent("load.row_bytes", row_bytes)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("tile"), "dram_stride": source_stride, "rows": rows,
                                    "addr": (emitter.reg("in slot"), area.addr), "stride": stride, "transpose": 0},
                        [Semaphore.IN_FREE], [Semaphore.IN_FULL])
        emitter.put_extent("vector.n", columns)
        return tile()

    def tile() -> dict[str, Operand]:
        return {"source": VectorSource.FLOAT32, "m": rows, "a_addr": (emitter.reg("in slot"), area.addr), "a_stride": stride}

    def advance() -> None:
        emitter.ring(emitter.reg("in slot"), area.slot_bytes, area.slots)
        emitter.move(emitter.reg("tile"), emitter.reg("tile"), row_bytes.tile)
        emitter.advance([columns, row_bytes])

    def measure(*, first: bool, keep: bool) -> None:
        fields = load() | {"max": 2, "max_addr": scalars["magnitude"]}
        if norm:
            fields |= {"sum": 2, "sum_addr": scalars["squares" if first else "part"]}
        if not first:
            fields |= {"row1_use": RowUse.SEED, "row1_addr": scalars["magnitude"]}
        emitter.vector(fields, [Semaphore.IN_FULL], [] if keep else [Semaphore.IN_FREE])
        if norm and not first:
            emitter.vector({"source": VectorSource.ROW, "m": rows, "n": 1, "row0_addr": scalars["squares"], "middle": 1,
                            "row1_use": RowUse.MIDDLE, "row1_addr": scalars["part"], "max": 1, "max_addr": scalars["squares"]})

    def begin() -> None:
        emitter.move(emitter.reg("tile"), *source)
        emitter.asm.set(emitter.reg("in slot"), 0)
        emitter.asm.set(emitter.reg("target"), target)
        emitter.start([columns, row_bytes])

    def write(fields: dict[str, Operand], wait: list[int]) -> None:
        emitter.vector(fields | {"row0_en": 1, "row0_addr": scalars["inverse"], "output": VectorOutput.INT8,
                                 "addr": emitter.reg("target"), "stride": target_stride}, wait, [Semaphore.IN_FREE])

    def scale_rows() -> None:
        emit_inverse(emitter, rows, scalars["magnitude"], scalars["inverse"])
        to_scale: dict[str, Operand] = {"source": VectorSource.ROW, "m": rows, "n": 1, "row0_addr": scalars["magnitude"],
                                        "scale": float_bits(1 / 127), "max": 1, "max_addr": scalars["row scale"]}
        if quantize.eps is not None:
            emitter.vector({"source": VectorSource.ROW, "m": rows, "n": 1, "row0_addr": scalars["squares"],
                            "scale": float_bits(1 / quantize.n), "middle": 1, "constant": float_bits(quantize.eps),
                            "function": VectorFunction.RSQRT, "max": 1, "max_addr": scalars["part"]})
            to_scale |= {"post": 1, "row1_use": RowUse.POST, "row1_addr": scalars["part"]}
        emitter.vector(to_scale)

    count = columns.count
    with emitter.registers("tile", "in slot", "target"), emitter.lending([columns, row_bytes]):
        begin()
        measure(first=True, keep=count == 1)
        if count == 1:
            scale_rows()
            write(tile() | {"n": quantize.n}, [])
        else:
            advance()
            with emitter.loop(count - 1):
                measure(first=False, keep=False)
                advance()
            scale_rows()
            begin()
            with emitter.loop(count):
                write(load(), [Semaphore.IN_FULL])
                advance()
                emitter.move(emitter.reg("target"), emitter.reg("target"), quantize.tile_n)
    emitter.asm.fence()
