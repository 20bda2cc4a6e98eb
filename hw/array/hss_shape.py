"""What the blocks of the structured-sparsity engine are built for, and what tells them about a token in the pipeline."""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig
from hw.engines.hss import GROUP, METADATA, HssMode, hss_modes

__all__ = ["CODE_BITS", "SHIFT_BITS", "HssShape", "column_write_layout"]

CODE_BITS = 4               # of an FP4 number
SHIFT_BITS = 3              # of the power of two that FP4 numbers of a group share: 0 … 4


@dataclass(frozen=True, kw_only=True, slots=True)
class HssShape:
    """Sizes of a column, which follow from the modes.

    Attributes
    ----------
    groups : int
        Groups of 8 MACs.
    modes : tuple of HssMode
        Of single steps, no series.
    psum_width : int
    gating : bool
        Operands of zero products hold still; else only sums are right, and nothing is counted.
    """

    groups: int
    modes: tuple[HssMode, ...]
    psum_width: int
    gating: bool = True

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "HssShape":
        """Return the shape of a config's columns."""
        terms = tuple(term for mode in hss_modes(config) for term in mode.terms)
        return cls(groups=config.rows // GROUP, modes=terms, psum_width=config.psum_width)

    @property
    def rows(self) -> int:
        """R: MACs of a column."""
        return self.groups * GROUP

    @property
    def blocks(self) -> int:
        """The largest H1."""
        return max(mode.h1 for mode in self.modes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Every H0, in ascending order."""
        return tuple(sorted({mode.h0 for mode in self.modes}))

    @property
    def length(self) -> int:
        """The largest H0."""
        return self.lengths[-1]

    @property
    def group_bytes(self) -> int:
        """Values of a group that the fetch hands out."""
        return max(self.blocks * self.length, GROUP)

    @property
    def sdq(self) -> bool:
        """Whether there are FP4 multipliers."""
        return any(mode.sdq for mode in self.modes)

    @property
    def metadata(self) -> int:
        """Bytes of a record's coordinates, 0 where every mode is dense."""
        return 0 if all(mode.dense for mode in self.modes) else self.groups * METADATA

    @property
    def macs(self) -> int:
        """Multiplications of a column in a cycle at most: of SDQ, 2 of int8 and 12 of FP4 in a group."""
        return self.groups * (14 if self.sdq else GROUP)

    @property
    def activations(self) -> data.ArrayLayout:
        """Blocks of values of every group."""
        block = data.ArrayLayout(signed(8), self.length)
        return data.ArrayLayout(data.ArrayLayout(block, self.blocks), self.groups)

    @property
    def codes(self) -> data.ArrayLayout:
        """FP4 numbers of the 16 values of every group (SDQ)."""
        return data.ArrayLayout(data.ArrayLayout(unsigned(CODE_BITS), 2 * GROUP), self.groups)

    @property
    def name(self) -> str:
        """Part of the names of modules of this shape."""
        modes = "_".join(f"{mode.h1}{mode.h0}{'s' * mode.sdq}" for mode in dict.fromkeys(
            HssMode(h1=mode.h1, h0=mode.h0, sdq=mode.sdq) for mode in self.modes))
        return f"r{self.rows}_m{modes}_p{self.psum_width}{'' if self.gating else '_ungated'}"


def column_write_layout(shape: HssShape) -> data.StructLayout:
    """Return the layout of what goes to every column while weights load: where bytes belong, and when they take over.

    `ahead`: which value the byte on `lane` is, one bit each; `value`, `metadata`: which byte of a record the one before it was.
    `take_coordinates`, `take_values`: what was loaded becomes what multiplies, the latter a cycle after the former; of values
    those that `rows` and `rows_late` have, others become zero; `plain`: there are no coordinates.
    """
    return data.StructLayout({
        "ahead": shape.rows,
        "value": shape.rows,
        "metadata": shape.metadata,
        "take_coordinates": 1,
        "rows": shape.rows,
        "plain": 1,
        "take_values": 1,
        "rows_late": shape.rows,
    })
