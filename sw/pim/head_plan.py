"""Where a head's K, V, queries, scores, softmax weights and output are, in the banks and in the buffers of a channel.

K and V are tokens one after the other, dealt out to the segments of the lanes: a burst of all streams is some tokens of each
segment, or some bursts are one. A block is what a step of
the online softmax takes: whole rows of K, as many as the X buffer has room for twice, or a part of a row. Its scores go through
the output buffer by chunks, a MAC command each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig

__all__ = ["HeadPlan"]

_ELEMENTS = 4096            # of X that a command of BCAST can name (`xidx`)
_MOST_AT_ONCE = 128         # bursts, entries or slices of a command (`cnt`)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadPlan:
    """Where one KV head's data lie.

    Attributes
    ----------
    config : PimConfig
    head : int
        Its number in the softmax unit.
    head_dim : int
        Elements: slices of the X buffer times a power of two, at most a row.
    group : int
        Query rows.
    max_tokens : int
        Tokens for which there is room.
    first_row : int
        First DRAM row: K, then V.

    Raises
    ------
    ConfigError
        If shapes or sizes do not fit.
    """

    config: PimConfig
    head: int
    head_dim: int
    group: int
    max_tokens: int
    first_row: int = 0

    def __post_init__(self) -> None:
        """Check that everything fits."""
        config = self.config
        slices, most = self.head_dim // config.width, config.columns * config.beats
        if self.head_dim % config.width or not 1 <= slices <= most or slices & (slices - 1):
            raise ConfigError(f"HeadPlan.head_dim must be the {config.width} elements of a slice times a power of two, at most "
                              f"{most}, not {self.head_dim!r}")
        if not 1 <= self.group <= config.rows_x:
            raise ConfigError(f"HeadPlan.group must be between 1 and {config.rows_x}, not {self.group!r}")
        if not 0 <= self.head < config.heads:
            raise ConfigError(f"HeadPlan.head must be below {config.heads}, not {self.head!r}")
        room = (config.dram_rows - self.first_row) // 2 * self.sets * self.tokens_a_row
        if not 1 <= self.max_tokens <= room:
            raise ConfigError(f"HeadPlan.max_tokens must be between 1 and {room}, what the rows hold, not {self.max_tokens!r}")
        if self.query_slices > config.bcast_entries or self.block < 1:
            raise ConfigError(f"HeadPlan.head_dim must leave room in both buffers for two blocks, not {self.head_dim!r}")

    # In the banks ---------------------------------------------------------------------------------------------

    @property
    def bursts(self) -> int:
        """Bursts in which `tokens_a_step` tokens come."""
        return max(1, self.query_slices // self.config.beats)

    @property
    def tokens_a_step(self) -> int:
        """Tokens that come together, as many of each segment: in one burst, or a token of each in some."""
        return self.config.segments * max(1, self.config.beats // self.query_slices)

    @property
    def tokens_a_row(self) -> int:
        """Tokens of a DRAM row."""
        return self.config.columns // self.bursts * self.tokens_a_step

    @property
    def sets(self) -> int:
        """Sets of banks over which rows go in turn."""
        return self.config.named_sets

    @property
    def value_row(self) -> int:
        """First DRAM row of V."""
        return self.first_row + ceil_div(ceil_div(self.max_tokens, self.tokens_a_row), self.sets)

    def laid_out(self, tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return K or V of the first tokens, (n, head_dim), flat as bursts have them; the last step is filled up with zeros."""
        segments, steps = self.config.segments, ceil_div(len(tokens), self.tokens_a_step)
        whole = np.zeros((steps * self.tokens_a_step, self.head_dim), tokens.dtype)
        whole[:len(tokens)] = tokens
        # (burst of a step or slot of a burst) × segments, in the order of bursts and, in a burst, of its streams
        parts = whole.reshape(steps, -1, segments, self.bursts, self.head_dim // self.bursts)
        return parts.transpose(0, 3, 2, 1, 4).reshape(-1)

    # In the buffers -------------------------------------------------------------------------------------------

    @property
    def query_slices(self) -> int:
        """Slices of the X buffer that hold the queries; also entries of the output, and beats of a token."""
        return self.head_dim // self.config.width

    @property
    def places(self) -> int:
        """Heads, 1 or 2, whose queries and outputs are in the buffers at a time."""
        config, two = self.config, 2 * self.query_slices
        return 2 if two <= config.wide_entries and two < config.obuf_entries and two + 2 <= config.xbuf_entries else 1

    @property
    def score_entries(self) -> int:
        """Entries of the output buffer for scores, behind those of the outputs."""
        return self.config.obuf_entries - self.places * self.query_slices

    @property
    def block(self) -> int:
        """Tokens of a step of the online softmax: whole rows, or a power of two; 0 if there is no room."""
        config = self.config
        reach = min(config.xbuf_entries, _ELEMENTS // config.width)
        slices = min((reach - self.places * self.query_slices) // 2, _MOST_AT_ONCE)
        most = min(slices * config.width, config.k_tile)
        least = min(most, self.score_entries // 2 * config.segments)
        if least < self.tokens_a_row:                       # a part of a row, which is a chunk
            return _power_of_two(least) if least >= self.tokens_a_step else 0
        return most // self.tokens_a_row * self.tokens_a_row

    @property
    def chunk(self) -> int:
        """Tokens of a MAC command for scores: a row's, or a block's."""
        return min(self.block, self.tokens_a_row)

    @property
    def chunks(self) -> int:
        """Chunks whose scores the output buffer holds."""
        return self.score_entries // self.entries(self.chunk)

    def entries(self, tokens: int) -> int:
        """Return the entries of the output buffer that the scores of a chunk's tokens take."""
        return ceil_div(tokens, self.config.segments)

    @property
    def weight_slices(self) -> int:
        """Slices of a block's softmax weights."""
        return ceil_div(self.block, self.config.width)


def _power_of_two(most: int) -> int:
    return (1 << most.bit_length()) // 2 if most > 0 else 0
