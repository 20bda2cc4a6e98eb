"""What programs of many phases share: where phases find their operands, and the phases that every model has."""

from collections.abc import Mapping

from hw.config import AcceleratorConfig
from sw.kernels.passes.command import Operand
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore, emit_linear, linear_areas
from sw.kernels.transformer.linear_shape import WEIGHT_SLOTS, Linear
from sw.kernels.transformer.quantize import Quantize, emit_quantize, quantize_areas
from sw.kernels.transformer.shape import PAGE, DecoderShape
from sw.layout import round_up

__all__ = ["Phases", "Place", "lay_out"]

Place = tuple[str, int]
"""A DRAM address: a register, and what is added to it."""

_ADDRESSES = 1 << 32

_CREDITS = {Semaphore.WEIGHTS_FREE: WEIGHT_SLOTS, Semaphore.ACC_FREE: 2, Semaphore.OUT_FREE: 2, Semaphore.PARAM_FREE: 2,
            Semaphore.IN_FREE: 2, Semaphore.VALUES_FREE: 2}


def lay_out(sizes: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return address and size of each name → size, from 0 on, each at a page of its own.

    Raises
    ------
    AreaError
        If they reach beyond what addresses of 32 bits do.
    """
    regions, addr = {}, 0
    for name, size in sizes.items():
        regions[name] = (addr, round_up(size, 64))
        addr = round_up(addr + size, PAGE)
    if addr > _ADDRESSES:
        parts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise AreaError(f"a model must fit into {_ADDRESSES} bytes of memory, not need {addr} ({parts})")
    return regions


class Phases:
    """A program that is being emitted, phase by phase.

    Attributes
    ----------
    scalars : dict of str to int
        Row scalars of quantizations, and of linears' statistics.
    rows : Operand
        Rows of the chunk.
    """

    scalars: dict[str, int]
    rows: Operand

    def __init__(self, config: AcceleratorConfig, shape: DecoderShape, regions: Mapping[str, tuple[int, int]]):
        self.config, self.shape, self.regions = config, shape, regions

    def begin(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Begin the program: every slot of every ring is free. `kernels` gets the first instruction and name of each phase."""
        kernels.clear()
        self.emitter, self.kernels = emitter, kernels
        for i in range(max(_CREDITS.values())):
            emitter.asm.signal(*(semaphore for semaphore, count in _CREDITS.items() if count > i))

    def phase(self, name: str) -> None:
        """Begin a phase."""
        self.kernels.append((len(self.emitter.asm), name))

    def at(self, region: str) -> Place:
        """Return where a region begins."""
        return "r0", self.regions[region][0]

    def operand(self, columns: int) -> tuple[int, int]:
        """Return the row bytes of an int8 operand of so many columns at address 0, and the first byte behind it."""
        row = round_up(columns, max(self.config.activation_slot_bytes, self.config.line_bytes))
        return row, row * self.shape.tokens

    def quantize(self, quantize: Quantize, source: Place, stride: int, *, measured: bool, rows: Operand | None = None) -> None:
        """Make rows of float32 in DRAM the operand."""
        row, end = self.operand(quantize.n)
        emit_quantize(self.emitter, quantize, quantize_areas(self.config, quantize, end), self.scalars,
                      rows=self.rows if rows is None else rows, source=source, source_stride=stride, target=0, target_stride=row,
                      measured=measured)

    def linear(self, linear: Linear, weights: Place, output: Place, stride: int, *, statistics: Mapping[str, int] | None = None,
               rows: Operand | None = None) -> None:
        """Multiply the operand by weights."""
        row, end = self.operand(linear.k)
        emit_linear(self.config, self.emitter, linear, linear_areas(self.config, linear, end),
                    rows=self.rows if rows is None else rows, operand=0, operand_stride=row, weights=weights,
                    row_scale=self.scalars["row scale"], output=output, output_stride=stride, statistics=statistics)
