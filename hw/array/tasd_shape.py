"""Sizes of the engine that cuts activations to a pattern."""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.hss import activation_pattern, hss_granule, hss_modes

__all__ = ["TasdShape"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TasdShape:
    """Sizes, which follow from the pattern.

    Attributes
    ----------
    lanes : int
        R: multipliers of a column.
    keep, of : int
        N and M: of every M activations N are multiplied.
    psum_width : int
    """

    lanes: int
    keep: int
    of: int
    psum_width: int

    @classmethod
    def of_config(cls, config: AcceleratorConfig) -> "TasdShape":
        """Return the shape of a config's columns."""
        keep, of = activation_pattern(config)
        shape = cls(lanes=config.rows, keep=keep, of=of, psum_width=config.psum_width)
        assert shape.rows == hss_granule(config, hss_modes(config)[1])
        return shape

    @property
    def blocks(self) -> int:
        """Blocks of M inputs of a step."""
        return self.lanes // self.keep

    @property
    def rows(self) -> int:
        """Weights of a column, and inputs of a step of packed weights."""
        return self.blocks * self.of

    @property
    def groups(self) -> int:
        """Pieces in which inputs of a step are fetched."""
        return 1

    @property
    def group_bytes(self) -> int:
        """Bytes of a piece."""
        return self.rows

    @property
    def metadata(self) -> int:
        """Bytes of coordinates in a record of weights."""
        return 0

    @property
    def latency(self) -> int:
        """Cycles from a token's inputs to what is kept of them."""
        return self.keep + 2

    @property
    def activations(self) -> data.ArrayLayout:
        """What is kept of a token."""
        return data.ArrayLayout(signed(8), self.lanes)

    @property
    def places(self) -> data.ArrayLayout:
        """Where in their blocks that was."""
        return data.ArrayLayout(unsigned(ceil_log2(self.of)), self.lanes)

    @property
    def name(self) -> str:
        """Part of the names of modules of this shape."""
        return f"r{self.lanes}_{self.keep}of{self.of}_p{self.psum_width}"
