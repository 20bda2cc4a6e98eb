"""Keys and values from an array's cache to the banks of a PIM: from one declared layout to another, and what that moves.

The array keeps rows of int8 with a float32 scale for each token and head (`KVLayout`); the banks take elements in the PIM's own
format, tokens one after the other (`CachePlan`). An element becomes code · scale, rounded to float32 and then to that format.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from sw.kernels.transformer.shape import KVLayout
from sw.pim.cache_plan import CachePlan
from sw.pim.plain import stored
from sw.pim.program import Memory, write_rows

__all__ = ["KvTransfer", "transfer_cycles"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KvTransfer:
    """Moves the cache of all layers.

    Attributes
    ----------
    source : KVLayout
        Of one layer of the array's cache, int8.
    addr, layer_bytes : int
        First byte of the cache in the array's memory, and from one layer to the next.
    target : CachePlan

    Raises
    ------
    ConfigError
        If the layouts are not of the same heads, or the source is not int8.
    """

    source: KVLayout
    addr: int
    layer_bytes: int
    target: CachePlan

    def __post_init__(self) -> None:
        """Check that both ends hold the same."""
        if self.source.bits != 8:
            raise ConfigError(f"KvTransfer.source must be int8 to be moved to a PIM, not of {self.source.bits!r} bits")
        if self.source.heads != self.target.kv_heads:
            raise ConfigError(f"KvTransfer.source must have the {self.target.kv_heads} heads of the PIM, "
                              f"not {self.source.heads!r}")

    def bytes_read(self, tokens: int) -> int:
        """Return what is read of the array's memory: codes and scales."""
        return 2 * self.target.layers * self.source.heads * tokens * (self.target.head_dim + 4)

    def bytes_written(self, tokens: int) -> int:
        """Return what is written to the banks."""
        return 2 * self.target.layers * self.source.heads * tokens * self.target.head_dim * self.target.config.kv_bits // 8

    def read(self, memory: npt.NDArray[np.uint8], layer: int, head: int, tokens: int, *, value: bool) -> npt.NDArray[np.float32]:
        """Return a head's K, or V, of the array: (tokens, dh) float32."""
        source, start = self.source, self.addr + layer * self.layer_bytes
        rows = start + source.offset("values" if value else "keys") + head * source.head_bytes
        scales = start + source.offset("value scales" if value else "key scales") + head * source.scales_bytes
        codes = memory[rows:rows + tokens * source.row_bytes].reshape(tokens, -1)[:, :self.target.head_dim].view(np.int8)
        return codes.astype(np.float32) * memory[scales:scales + 4 * tokens].view(np.float32)[:, None]

    def run(self, array: npt.NDArray[np.uint8], pim: Memory, tokens: int) -> None:
        """Move the first `tokens` tokens of every head.

        Parameters
        ----------
        array : ndarray, flat uint8
        pim : tuple of ndarray
            Memory of each channel.
        tokens : int

        Raises
        ------
        ConfigError
            If the banks have no room for so many; nothing is written.
        """
        plan, config = self.target, self.target.config
        if not 1 <= tokens <= plan.max_tokens:
            raise ConfigError(f"tokens must be between 1 and {plan.max_tokens}, the context, not {tokens!r}")
        for layer in range(plan.layers):
            for head in range(plan.kv_heads):
                for value in (False, True):
                    rows = self.read(array, layer, head, tokens, value=value)
                    for channel in plan.channels_of(head):
                        data = stored(plan.head(layer, head).laid_out(plan.stored(channel, rows)), config.kvtype)
                        padded = np.zeros(ceil_div(len(data), config.row_bytes) * config.row_bytes, np.uint8)
                        padded[:len(data)] = data
                        write_rows(config, pim[channel], plan.address(layer, head, value=value), padded)


def transfer_cycles(nbytes: int, link_bytes: int) -> int:
    """Return the cycles of a link that moves `link_bytes` in each."""
    return ceil_div(nbytes, link_bytes)
