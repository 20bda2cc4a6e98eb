"""K and V of a model over the channels of a PIM: which channel has which head, and where; decode attention as a program.

By heads: they go to the channels in turn. Attention of one head is computed by one channel alone, so results do not depend on
the number of channels. By tokens: they go to the channels in turn, of all heads; each channel attends to its own, and the parts
are merged (`sw.pim.merge_list`), with its roundings. A token's K and V are appended by the very list that attends to them. By
elements of a head: each channel has as many of all heads; how those attend is `sw.pim.dims_list`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.isa import PimOpcode
from hw.system import SPLITS
from sw.pim.assembler import command
from sw.pim.attention_list import append_tokens, attention, setup
from sw.pim.head_plan import HeadPlan
from sw.pim.program import PimProgram, PimRegion, PimStream, grid_bytes

__all__ = ["CachePlan", "attention_inputs", "attention_outputs", "attention_program"]

Floats = npt.NDArray[np.float32]

@dataclass(frozen=True, kw_only=True, slots=True)
class CachePlan:
    """Where the heads of all layers lie.

    Attributes
    ----------
    config : PimConfig
    channels : int
    layers, kv_heads, group : int
        KV heads of a layer, and query heads of each.
    head_dim : int
    max_tokens : int
        Tokens for which there is room.
    addr : int
        First byte in every channel, at a row of all sets.
    split : str
        One of `hw.system.SPLITS`.

    Raises
    ------
    ConfigError
        If heads do not divide, do not fit the units, or the channels have no room for so many tokens.
    """

    config: PimConfig
    channels: int
    layers: int
    kv_heads: int
    group: int
    head_dim: int
    max_tokens: int
    addr: int = 0
    split: str = "heads"

    def __post_init__(self) -> None:
        """Check that everything fits."""
        if self.split not in SPLITS:
            raise ConfigError(f"CachePlan.split must be one of {', '.join(SPLITS)}, not {self.split!r}")
        if self.split == "heads" and self.kv_heads % self.channels:
            raise ConfigError(f"CachePlan.kv_heads must be a multiple of the {self.channels} channels, not {self.kv_heads!r}")
        if self.split == "head-dim" and self.head_dim % self.channels:
            raise ConfigError(f"CachePlan.head_dim must be a multiple of the {self.channels} channels, not {self.head_dim!r}")
        if self.addr % grid_bytes(self.config):
            raise ConfigError(f"CachePlan.addr must be a multiple of {grid_bytes(self.config)}, a row of all sets, "
                              f"not {self.addr!r}")
        # Heads' own checks know nothing of where others lie, so this one comes first.
        if self.channel_dim % self.config.width == 0 and self.end > self.config.capacity_bytes:
            raise ConfigError(f"a context of {self.max_tokens} tokens must end within {self.config.capacity_bytes} bytes, "
                              f"a channel's, not at {self.end}")
        self.head(0, 0)
        least = self.config.stream_slices * self.config.width
        if self.channel_dim < least:
            raise ConfigError(f"CachePlan.head_dim must leave a channel at least the {least} elements of a stream's burst, which "
                              f"are written together, not {self.channel_dim}")

    @property
    def heads(self) -> int:
        """Heads of a layer in each channel."""
        return self.kv_heads // self.channels if self.split == "heads" else self.kv_heads

    @property
    def parts(self) -> int:
        """Channels that a head's tokens are spread over."""
        return self.channels if self.split == "tokens" else 1

    @property
    def channel_dim(self) -> int:
        """Elements of a head that a channel has."""
        return self.head_dim // self.channels if self.split == "head-dim" else self.head_dim

    @property
    def head_bytes(self) -> int:
        """Bytes of one head's K and V in a channel, whole rows of all sets."""
        half = ceil_div(self.max_tokens, self.parts) * self.channel_dim * self.config.kv_bits // 8
        return 2 * ceil_div(half, grid_bytes(self.config)) * grid_bytes(self.config)

    @property
    def end(self) -> int:
        """First byte behind all heads in every channel."""
        return self.addr + self.layers * self.heads * self.head_bytes

    def channels_of(self, head: int) -> list[int]:
        """Return the channels that have a head's tokens, in the order of the first of them."""
        return [head % self.channels] if self.split == "heads" else list(range(self.channels))

    def heads_of(self, channel: int) -> list[int]:
        """Return the heads of a channel."""
        return list(range(channel, self.kv_heads, self.channels)) if self.split == "heads" else list(range(self.kv_heads))

    def address(self, layer: int, head: int, *, value: bool = False) -> int:
        """Return where a head's K, or V, begins in its channels."""
        number = layer * self.heads + (head // self.channels if self.split == "heads" else head)
        return self.addr + number * self.head_bytes + value * self.head_bytes // 2

    def head(self, layer: int, head: int) -> HeadPlan:
        """Return the plan of a head in its channels."""
        return HeadPlan(config=self.config, head=(head // self.channels if self.split == "heads" else head) % self.config.heads,
                        head_dim=self.channel_dim, group=self.group, max_tokens=ceil_div(self.max_tokens, self.parts),
                        first_row=self.address(layer, head) // grid_bytes(self.config))

    def stored(self, channel: int, rows: Floats) -> Floats:
        """Return what a channel that has tokens of a head keeps of them, (tokens, dh) → (its tokens, its elements)."""
        if self.split == "head-dim":
            return rows[:, channel * self.channel_dim:(channel + 1) * self.channel_dim]
        return rows[channel::self.parts] if self.parts > 1 else rows

    def share(self, channel: int, tokens: int) -> int:
        """Return how many of the first `tokens` tokens a channel has, of each of its heads."""
        return tokens if self.parts == 1 else max(0, (tokens - channel + self.parts - 1) // self.parts)


def attention_program(plan: CachePlan, layer: int, tokens: int, scale: np.float32) -> PimProgram:
    """Return the program that appends a layer's token, the `tokens`-th, and attends to all of them.

    Its inputs are "k<head>", "v<head>" and "q<head>". Its outputs are "o<head>"; where tokens are spread, of each part
    that has any "p<head>.<channel>", not divided yet, and "s<head>.<channel>", whose lanes 0 and 1 are m and l.

    Raises
    ------
    ConfigError
        If there is no room for so many tokens, or elements of heads are spread over channels.
    """
    if plan.split == "head-dim":
        raise ConfigError(f"CachePlan.split must be heads or tokens for attention in one program, not {plan.split!r}")
    if not 1 <= tokens <= plan.max_tokens:
        raise ConfigError(f"tokens must be between 1 and {plan.max_tokens}, the context, not {tokens!r}")
    lists, regions, inputs, outputs = [], [], [], []
    for channel in range(plan.channels):
        words: list[int] = []
        here, before = (plan.share(channel, count) for count in (tokens, tokens - 1))
        heads = plan.heads_of(channel) if here else []
        for at in range(0, len(heads), plan.config.heads):      # as many as the softmax unit keeps apart
            some = heads[at:at + plan.config.heads]
            plans = [plan.head(layer, head) for head in some]
            count = plans[0].query_slices
            words += setup(plans, before, scale)
            if here > before:
                words += append_tokens(plans)
                inputs += [PimStream(name=f"{name}{head}", channel=channel, kind="x", count=count)
                           for head in some for name in ("k", "v")]
            words += attention(plans, here, divided=plan.parts == 1)
            inputs += [PimStream(name=f"q{head}", channel=channel, kind="x", count=count) for head in some]
            for head in some:
                names = [(f"o{head}", count)] if plan.parts == 1 else [(f"p{head}.{channel}", count), (f"s{head}.{channel}", 1)]
                outputs += [PimStream(name=name, channel=channel, kind="entries", count=size) for name, size in names]
                regions.append(PimRegion(name=f"K and V of head {head}", channel=channel, addr=plan.address(layer, head),
                                         size=plan.head_bytes, role="scratch"))
        lists.append(np.array([*words, command(PimOpcode.EOC)], np.uint64))
    return PimProgram(name=f"attention of layer {layer}", config_digest=plan.config.digest(), lists=tuple(lists),
                      regions=tuple(regions), inputs=tuple(inputs), outputs=tuple(outputs))


def attention_inputs(plan: CachePlan, queries: Floats, keys: Floats, values: Floats) -> dict[str, Floats]:
    """Return the inputs of a token: queries (kv_heads · group, dh), keys and values (kv_heads, dh)."""
    config = plan.config
    count = plan.head_dim // config.width
    found = {}
    for head in range(plan.kv_heads):
        for name, rows in (("q", queries[head * plan.group:(head + 1) * plan.group]), ("k", keys[head:head + 1]),
                           ("v", values[head:head + 1])):
            padded = np.zeros((config.rows_x, plan.head_dim), np.float32)
            padded[:len(rows)] = rows
            found[f"{name}{head}"] = padded.reshape(config.rows_x, count, config.width).transpose(1, 0, 2)
    return found


def attention_outputs(plan: CachePlan, outputs: dict[str, npt.NDArray[np.uint8]]) -> Floats:
    """Return (kv_heads · group, dh) float32 of the outputs "o<head>" of a program."""
    config, rows = plan.config, []
    for head in range(plan.kv_heads):
        entries = outputs[f"o{head}"].view(np.float32).reshape(-1, config.rows_x, config.width)
        rows.append(entries.transpose(1, 0, 2).reshape(config.rows_x, -1)[:plan.group])
    return np.concatenate(rows)
