"""K and V of the heads of one PIM, as tokens are appended: what memory there is decides how many."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.pim.config import PimConfig

__all__ = ["ContextError", "KvCache", "tokens_that_fit"]

Floats = npt.NDArray[np.float32]


class ContextError(ValueError):
    """More tokens than there is memory for."""


def tokens_that_fit(config: PimConfig, heads: int, head_dim: int) -> int:
    """Return the tokens for which `heads` KV heads have room in one pseudo-channel: whole rows for K and for V of each head."""
    if heads < 1 or heads > config.heads:
        raise ConfigError(f"heads must be between 1 and {config.heads}, not {heads!r}")
    rows = config.dram_rows * config.row_sets // (2 * heads)
    return rows * config.row_bytes * 8 // (head_dim * config.kv_bits)


@dataclass(slots=True)
class KvCache:
    """The cache of one pseudo-channel.

    Parameters
    ----------
    config : PimConfig
    heads : int
        KV heads.
    query_heads : int
        Query heads; a multiple of `heads`.
    head_dim : int
        Elements of a head: whole slices, or a whole part of one.

    Raises
    ------
    ConfigError
        If heads do not divide, or the PIM has not got so many.
    """

    config: PimConfig
    heads: int
    query_heads: int
    head_dim: int
    tokens: list[int] = field(init=False)
    _keys: Floats = field(init=False, repr=False)
    _values: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the shape."""
        if self.query_heads % self.heads:
            raise ConfigError(f"KvCache.query_heads must be a multiple of the {self.heads} KV heads, not {self.query_heads!r}")
        if self.head_dim % self.config.width and self.config.width % self.head_dim:
            raise ConfigError(f"KvCache.head_dim must be a multiple or a divisor of the lanes of a segment "
                              f"({self.config.width}), not {self.head_dim!r}")
        tokens_that_fit(self.config, self.heads, self.head_dim)
        self.tokens = [0] * self.heads
        self._keys = np.zeros((self.heads, 0, self.head_dim), np.float32)
        self._values = np.zeros((self.heads, 0, self.head_dim), np.float32)

    @property
    def capacity(self) -> int:
        """Tokens for which each head has room."""
        return tokens_that_fit(self.config, self.heads, self.head_dim)

    def append(self, head: int, key: Floats, value: Floats) -> None:
        """Append one token's K and V, (dh,) each, in place.

        Raises
        ------
        ContextError
            If the head's memory is full; nothing is written.
        """
        at = self.tokens[head]
        if at >= self.capacity:
            raise ContextError(f"tokens of head {head} must be at most {self.capacity}, what its rows hold, not {at + 1}")
        if at == self._keys.shape[1]:
            more = np.zeros((self.heads, max(16, at), self.head_dim), np.float32)
            self._keys, self._values = np.concatenate((self._keys, more), 1), np.concatenate((self._values, more), 1)
        self._keys[head, at], self._values[head, at] = key, value
        self.tokens[head] += 1

    def keys(self, head: int) -> Floats:
        """Return K of a head: (tokens, dh)."""
        return self._keys[head, :self.tokens[head]]

    def values(self, head: int) -> Floats:
        """Return V of a head: (tokens, dh)."""
        return self._values[head, :self.tokens[head]]

    def queries(self, head: int, queries: Floats) -> Floats:
        """Return the query rows of a KV head: of (query_heads, dh) those g that share it."""
        group = self.query_heads // self.heads
        return queries[head * group:(head + 1) * group]
