"""What programs of many phases share: where phases find their operands, and the phases that every model has."""

from collections.abc import Callable, Mapping

from hw.config import AcceleratorConfig
from sw.kernels.passes.command import Operand
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.emitter import StreamEmitter
from sw.kernels.transformer.linear import Semaphore, emit_linear, linear_areas
from sw.kernels.transformer.linear_shape import WEIGHT_SLOTS, Linear
from sw.kernels.transformer.places import Address, Dram, Place
from sw.kernels.transformer.quantize import Quantize, emit_quantize, quantize_areas
from sw.kernels.transformer.resident import Resident
from sw.kernels.transformer.shape import PAGE, DecoderShape
from sw.layout import round_up

__all__ = ["OperandPhases", "Phases", "lay_out"]

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


OperandPhases = tuple[Callable[[], None] | None, Callable[[], None] | None]
"""What makes the operand of a linear, and what makes its rows' scales."""


class Phases:
    """A program that is being emitted, phase by phase.

    Attributes
    ----------
    scalars : dict of str to int
        Row scalars of quantizations, and of linears' statistics.
    rows : Operand
        Rows of the chunk.
    on_chip : Resident or None
        Where activations stay between phases; None: they wait in DRAM.
    """

    scalars: dict[str, int]
    rows: Operand

    def __init__(self, config: AcceleratorConfig, shape: DecoderShape, regions: Mapping[str, tuple[int, int]],
                 on_chip: Resident | None = None):
        self.config, self.shape, self.regions, self.on_chip = config, shape, regions, on_chip

    def begin(self, emitter: StreamEmitter, kernels: list[tuple[int, str]]) -> None:
        """Begin the program: every slot of every ring is free. `kernels` gets the first instruction and name of each phase."""
        kernels.clear()
        self.emitter, self.kernels = emitter, kernels
        for i in range(max(_CREDITS.values())):
            emitter.asm.signal(*(semaphore for semaphore, count in _CREDITS.items() if count > i))

    def phase(self, name: str) -> None:
        """Begin a phase."""
        self.kernels.append((len(self.emitter.asm), name))

    def at(self, region: str) -> Address:
        """Return where a region begins."""
        return "r0", self.regions[region][0]

    def operand(self, columns: int) -> tuple[int, int, int]:
        """Return the address of an int8 operand of so many columns, its row bytes, and the first byte behind it."""
        row = round_up(columns, max(self.config.activation_slot_bytes, self.config.line_bytes))
        start = self.on_chip.operand if self.on_chip else 0
        return start, row, start + row * self.shape.tokens

    def quantize(self, quantize: Quantize, source: Dram, *, measured: bool, rows: Operand | None = None) -> None:
        """Make rows of float32 in DRAM the operand."""
        start, row, end = self.operand(quantize.n)
        emit_quantize(self.emitter, quantize, quantize_areas(self.config, quantize, end), self.scalars,
                      rows=self.rows if rows is None else rows, source=source, target=start, target_stride=row, measured=measured)

    def linear(self, name: str, linear: Linear, weights: Address, output: Place, *, statistics: Mapping[str, int] | None = None,
               rows: Operand | None = None, span: tuple[int, int] | None = None, operand: OperandPhases = (None, None),
               meanwhile: Callable[[], None] | None = None) -> None:
        """Multiply the operand by weights.

        `operand` and `meanwhile` are phases of their own, as in `emit_linear`; where phases do not overlap the first of `operand`
        does all of it.
        """
        start, row, end = self.operand(linear.k)

        def within(phase: Callable[[], None] | None) -> Callable[[], None] | None:
            def emit() -> None:
                assert phase
                phase()
                self.phase(name)
            return emit if phase and self.on_chip else None

        make_operand, make_row_scale = operand
        if make_operand and not self.on_chip:
            make_operand()
        self.phase(name)
        areas = self.on_chip.areas if self.on_chip else linear_areas(self.config, linear, end)
        emit_linear(self.config, self.emitter, linear, areas, rows=self.rows if rows is None else rows, operand=start,
                    operand_stride=row, weights=weights, row_scale=self.scalars["row scale"], output=output,
                    statistics=statistics, span=span, make_operand=within(make_operand), make_row_scale=within(make_row_scale),
                    meanwhile=within(meanwhile))
