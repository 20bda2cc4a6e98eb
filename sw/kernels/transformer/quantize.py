"""Rows of float32 → rows of int8 in the scratchpad with a scale for each row, with or without the RMS norm.

Two walks over the columns: the first finds each row's greatest magnitude (and sum of squares), the second scales and rounds.
The factor of the norm cancels inside the codes: round(127·r·x / max|r·x|) does not depend on r, which goes into the row's scale
alone. Rows that stay on the chip are quantized where they lie, and only then are squares summed: the engine begins as soon as
the codes are there, and 1/rms is needed when its first sums are scaled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.kernels.passes.command import Floats, Int8, Operand, vector_pass
from sw.kernels.passes.norms import add_rows, rms_norm_scales, rms_token_scale
from sw.kernels.passes.quantization import inverse_scale, token_scale
from sw.kernels.passes.quantization import quantize as quantize_rows
from sw.kernels.tiles import Extent
from sw.kernels.transformer.areas import Area, place_areas
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore
from sw.kernels.transformer.places import Dram, Scratchpad
from sw.layout import round_up

__all__ = [
    "SCALARS", "Quantize", "emit_codes", "emit_measure", "emit_quantize", "emit_row_scale", "make_quantize", "quantize_areas",
]

SCALARS = ("row scale", "magnitude", "inverse", "squares", "part")
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
    row_bytes : int
        From one row of a tile to the next in the scratchpad.
    eps : float or None
        Of the RMS norm; None: no norm.
    """

    name: str
    m: int
    n: int
    tile_n: int
    row_bytes: int
    eps: float | None


def make_quantize(config: AcceleratorConfig, name: str, m: int, n: int, eps: float | None = None) -> Quantize:
    """Return a quantization with its tiles chosen."""
    tile = config.columns
    while tile < n and 8 * m * tile <= LARGEST_SLOT:
        tile *= 2
    return Quantize(name=name, m=m, n=n, tile_n=min(tile, n), row_bytes=round_up(4 * min(tile, n), config.line_bytes), eps=eps)


def quantize_areas(config: AcceleratorConfig, quantize: Quantize, start: int) -> dict[str, Area]:
    """Return the scratchpad areas, above `start`."""
    return place_areas(config, quantize.name, {"in": (quantize.m * quantize.row_bytes, 2)}, start)


def emit_measure(emitter: StreamEmitter, quantize: Quantize, areas: dict[str, Area], scalars: dict[str, int], *, rows: Operand,
                 source: Dram) -> None:
    """Emit what finds each row's "magnitude" and, for the norm, "squares"."""
    walk = _Walk(emitter, quantize, areas["in"], scalars, rows, source)
    with walk.registers():
        walk.measure()
    emitter.end_phase()


def emit_quantize(emitter: StreamEmitter, quantize: Quantize, areas: dict[str, Area], scalars: dict[str, int], *, rows: Operand,
                  source: Dram, target: int, target_stride: int, measured: bool) -> None:
    """Emit a quantization; the rings are empty before and after it.

    Parameters
    ----------
    rows : int or str
        Rows, a number or a register.
    target, target_stride : int
        Of the int8 rows in the scratchpad. Their scales go to the row scalars "row scale".
    measured : bool
        "magnitude" and "squares" are there; else they are found first.
    """
    walk = _Walk(emitter, quantize, areas["in"], scalars, rows, source)
    with walk.registers():
        kept = not measured and walk.tiles == 1
        if not measured:
            walk.measure(keep=kept)
        walk.round(target, target_stride, kept=kept)
    emitter.end_phase()


def emit_codes(emitter: StreamEmitter, quantize: Quantize, scalars: dict[str, int], *, source: Scratchpad, target: int,
               measured: bool) -> None:
    """Emit the codes of a row that stays on the chip, and give `Semaphore.READY` when they are there.

    measured: "magnitude" is there; else it is found first.
    """
    x, magnitude = Floats(source.addr), scalars["magnitude"]
    if not measured:
        emitter.passes([vector_pass("magnitude", a=x, m=1, n=quantize.n, amax_to=magnitude)])
    emitter.passes([*inverse_scale(1, magnitude, scalars["inverse"], sooner=True),
                    *quantize_rows(1, quantize.n, x, Int8(target), inverse=scalars["inverse"])], [], [Semaphore.READY])


def emit_row_scale(emitter: StreamEmitter, quantize: Quantize, scalars: dict[str, int], *, source: Scratchpad) -> None:
    """Emit what its codes stand for, with the norm's factor: needed when the first sums are scaled."""
    if quantize.eps is None:
        emitter.passes(token_scale(1, scalars["magnitude"], scalars["row scale"]))
        return
    emitter.passes([vector_pass("squares", a=Floats(source.addr), m=1, n=quantize.n, squares_to=scalars["squares"]),
                    *rms_token_scale(1, quantize.n, squares=scalars["squares"], amax=scalars["magnitude"],
                                     scale=scalars["row scale"], eps=quantize.eps)])


class _Walk:
    """Walks over the tiles of a matrix of float32 in DRAM."""

    def __init__(self, emitter: StreamEmitter, quantize: Quantize, area: Area, scalars: dict[str, int], rows: Operand,
                 source: Dram):
        self.emitter, self.quantize, self.area, self.scalars, self.rows = emitter, quantize, area, scalars, rows
        self.source = source
        self.columns = Extent(dim="n", total=quantize.n, tile=quantize.tile_n)
        self.row_bytes = Extent(dim="n", total=4 * quantize.n, tile=4 * quantize.tile_n)
        self.tiles = self.columns.count

    @contextmanager
    def registers(self) -> Iterator[None]:
        """Lend what the walks need."""
        emitter = self.emitter
        with emitter.registers("tile", "in slot", "target"), emitter.lending([self.columns, self.row_bytes]):
            emitter.asm.set(emitter.reg("in slot"), 0)      # goes on from walk to walk: slots may still be in use
            yield

    def _begin(self) -> None:
        emitter = self.emitter
        emitter.move(emitter.reg("tile"), *self.source.addr)
        emitter.start([self.columns, self.row_bytes])

    def _load(self) -> None:
        emitter = self.emitter
        emitter.put_extent("load.row_bytes", self.row_bytes)
        emitter.command(Unit.LOAD, {"dram_addr": emitter.reg("tile"), "dram_stride": self.source.stride, "rows": self.rows,
                                    "addr": self._tile().addr, "stride": self.quantize.row_bytes, "transpose": 0},
                        [Semaphore.IN_FREE], [Semaphore.IN_FULL])

    def _tile(self) -> Floats:
        return Floats((self.emitter.reg("in slot"), self.area.addr), self.quantize.row_bytes)

    def _advance(self) -> None:
        emitter = self.emitter
        emitter.ring(emitter.reg("in slot"), self.area.slot_bytes, self.area.slots)
        emitter.move(emitter.reg("tile"), emitter.reg("tile"), self.row_bytes.tile)
        emitter.advance([self.columns, self.row_bytes])

    def measure(self, *, keep: bool = False) -> None:
        """Find magnitudes and squares; with `keep` the only tile stays."""
        emitter, scalars, norm = self.emitter, self.scalars, self.quantize.eps is not None

        def tile(*, first: bool) -> None:
            self._load()
            squares = scalars["squares" if first else "part"] if norm else None
            statistics = vector_pass("statistics", a=self._tile(), m=self.rows, squares_to=squares, amax_to=scalars["magnitude"],
                                     seed=None if first else scalars["magnitude"])
            emitter.passes([statistics], [Semaphore.IN_FULL], [] if keep else [Semaphore.IN_FREE], columns=self.columns)
            if norm and not first:
                emitter.passes(add_rows(self.rows, [scalars["squares"], scalars["part"]], scalars["squares"]))

        self._begin()
        tile(first=True)
        if self.tiles > 1:
            self._advance()
            with emitter.loop(self.tiles - 1):
                tile(first=False)
                self._advance()

    def round(self, target: int, stride: int, *, kept: bool) -> None:
        """Make the scales, and int8 of every tile; where the only one is `kept`, it need not be loaded again."""
        emitter, quantize, scalars = self.emitter, self.quantize, self.scalars
        place = Int8(emitter.reg("target"), stride)
        if quantize.eps is None:
            scales = [*token_scale(self.rows, scalars["magnitude"], scalars["row scale"]),
                      *inverse_scale(self.rows, scalars["magnitude"], scalars["inverse"])]
        else:
            scales = rms_norm_scales(self.rows, quantize.n, squares=scalars["squares"], amax=scalars["magnitude"],
                                     scale=scalars["row scale"], inverse=scalars["inverse"], eps=quantize.eps)
        emitter.passes(scales)
        emitter.asm.set(emitter.reg("target"), target)
        if not kept:
            self._begin()
        with emitter.loop(self.tiles):
            if not kept:
                self._load()
            emitter.passes(quantize_rows(self.rows, 0, self._tile(), place, inverse=scalars["inverse"]),
                           [] if kept else [Semaphore.IN_FULL], [Semaphore.IN_FREE], columns=self.columns)
            self._advance()
            emitter.move(emitter.reg("target"), emitter.reg("target"), quantize.tile_n)
