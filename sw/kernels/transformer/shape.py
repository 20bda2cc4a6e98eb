"""Sizes of a decoder on a config: what is padded, and where everything lies in DRAM."""

from dataclasses import dataclass
from typing import Protocol

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
from sw.layout import round_up

__all__ = ["KV_FORMATS", "PAGE", "DecoderShape", "KVLayout", "ShapeError", "Sizes", "decoder_shape"]

PAGE = 4096
KV_FORMATS = {"int8": 8, "int4-asym": 4}
"""Formats of keys and values → bits; a scale, and an integer zero point where there is one, for each token and head."""


class ShapeError(ValueError):
    """A model, or a number of tokens, that a config cannot run."""


class Sizes(Protocol):
    """What the shape of a model's programs follows from; `LlamaConfig` and `BertConfig` have it."""

    @property
    def hidden(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def ffn(self) -> int: ...
    @property
    def vocab(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def norm_eps(self) -> float: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class KVLayout:
    """A layer's keys and values in DRAM: rows of each key-value head, one token after the other, and their float32 scales.

    Attributes
    ----------
    bits : int
        8: int8. 4: uint4 with a zero point, a float32 that lies as the scales do.
    heads, tokens : int
        Key-value heads; tokens that there is room for.
    row_bytes : int
        From one token to the next, a power of two.
    """

    bits: int
    heads: int
    tokens: int
    row_bytes: int

    @property
    def head_bytes(self) -> int:
        """From one head's rows to the next's."""
        return self.tokens * self.row_bytes

    @property
    def scales_bytes(self) -> int:
        """From one head's scales to the next's."""
        return 4 * self.tokens

    def offset(self, which: str) -> int:
        """Return where "keys", "values", "key scales", "value scales", "key zeros" or "value zeros" begin, in this order."""
        data, scales = self.heads * self.head_bytes, self.heads * self.scales_bytes
        if which in ("keys", "values"):
            return data * ("keys", "values").index(which)
        return 2 * data + scales * ("key scales", "value scales", "key zeros", "value zeros").index(which)

    @property
    def size(self) -> int:
        """Bytes of a layer."""
        return round_up(2 * self.heads * (self.head_bytes + self.scales_bytes * (2 if self.bits == 4 else 1)), PAGE)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderShape:
    """A model's sizes as its programs have them.

    Attributes
    ----------
    hidden, layers, heads, kv_heads, vocab : int
    head_dim : int
        Columns of a head, padded: the first half of a head at 0, the second at head_dim / 2.
    true_head_dim : int
    ffn : int
        Padded to whole tiles of gate and up.
    context : int
        Tokens of a sequence at most, a multiple of the key tile.
    key_tile : int
        Tokens of a tile of keys, a power of two.
    tokens : int
        Rows of a program: tokens that it takes at once, a power of two.
    eps : float
    kv : KVLayout
    rope_stride : int
        Bytes between rows of the table of angles, a power of two.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    head_dim: int
    true_head_dim: int
    ffn: int
    context: int
    key_tile: int
    tokens: int
    eps: float
    kv: KVLayout
    rope_stride: int

    @property
    def repeat(self) -> int:
        """Query heads that share a key-value head."""
        return self.heads // self.kv_heads

    @property
    def attention_width(self) -> int:
        """Columns of all query heads."""
        return self.heads * self.head_dim

    @property
    def qkv_width(self) -> int:
        """Columns of queries, keys and values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def decoder_shape(config: AcceleratorConfig, model: Sizes, tokens: int, ffn_tile: int, context: int | None = None,
                  key_tile: int | None = None, kv: str = "int8") -> DecoderShape:
    """Return the shape of a model's programs that take `tokens` at once.

    Parameters
    ----------
    ffn_tile : int
        What the padded width of the MLP is a multiple of.
    context : int or None
        Tokens that the cache holds; by default the model's.
    key_tile : int or None
        By default what the accumulator holds, at most 256.
    kv : str
        Format of keys and values, one of `KV_FORMATS`.

    Raises
    ------
    ShapeError
        If the config has no vector unit for transformers, no int8 weights, or sides that are no powers of two; or `tokens`
        cannot be.
    """
    def must(what: str, holds: bool, rule: str, given: object) -> None:
        if not holds:
            raise ShapeError(f"{what} must be {rule}, not {given!r}")

    must("AcceleratorConfig.vector", config.vector == "transformer", "'transformer' to run a transformer", config.vector)
    must("AcceleratorConfig.activation_format", config.activation.bits == 8, "int8 to run a transformer",
         config.activation_format)
    must("AcceleratorConfig.weight_format", config.weight.bits == 8, "int8 to run a transformer", config.weight_format)
    must("AcceleratorConfig.dataflows", "ws" in config.dataflows, "one with 'ws' to run a transformer", config.dataflows)
    for name in ("rows", "columns"):
        value = getattr(config, name)
        must(f"AcceleratorConfig.{name}", value & (value - 1) == 0, "a power of two to run a transformer", value)
    must("tokens", tokens >= 1 and tokens & (tokens - 1) == 0, "a power of two", tokens)
    must("tokens", tokens == 1 or 4 * tokens >= config.beat_bytes, f"1 or at least {config.beat_bytes // 4}", tokens)
    head_dim = 2 * round_up(ceil_div(model.head_dim, 2), max(config.vector_lanes, config.beat_bytes // 8))
    rows, half = max(tokens, model.heads // model.kv_heads if tokens == 1 else 0), config.accumulator_rows // 2
    must("rows of attention", rows * ceil_div(head_dim, config.columns) <= half,
         f"at most {half // ceil_div(head_dim, config.columns)} (outputs of {head_dim} columns in half the accumulator)", rows)
    widest = (1 << (half // rows).bit_length() - 1) * config.columns
    least = max(tokens, config.columns, config.beat_bytes)
    must("rows of attention", rows * ceil_div(least, config.columns) <= half,
         f"at most {half // ceil_div(least, config.columns)} (scores of {least} keys in half the accumulator)", rows)
    tile = key_tile or min(256, widest, ceil_power_of_two(context or model.context))
    must("key_tile", tile & (tile - 1) == 0 and least <= tile <= widest,
         f"a power of two between {least} and {widest}", tile)
    room = round_up(context or model.context, max(tile, 64))
    must("kv", kv in KV_FORMATS, f"one of {', '.join(KV_FORMATS)}", kv)
    bits = KV_FORMATS[kv]
    row_bytes = ceil_power_of_two(max(head_dim * bits // 8, config.beat_bytes))
    return DecoderShape(
        hidden=model.hidden, layers=model.layers, heads=model.heads, kv_heads=model.kv_heads, vocab=model.vocab,
        head_dim=head_dim, true_head_dim=model.head_dim, ffn=round_up(model.ffn, ffn_tile), context=room, key_tile=tile,
        tokens=tokens, eps=model.norm_eps, kv=KVLayout(bits=bits, heads=model.kv_heads, tokens=room, row_bytes=row_bytes),
        rope_stride=ceil_power_of_two(4 * head_dim))
