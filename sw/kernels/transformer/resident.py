"""Where everything lies in the scratchpad in a program of one token whose activations stay there from phase to phase.

Nothing shares a place with what another phase uses at the same time, so that phases need no fences between them. Buffers that the
same step of the vector unit reads lie in banks of their own, where there are enough.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hw.config import AcceleratorConfig, ceil_div
from sw.kernels.transformer.areas import Area, AreaError, place_areas
from sw.kernels.transformer.attention import attention_sizes
from sw.kernels.transformer.linear import linear_sizes
from sw.kernels.transformer.linear_shape import Linear
from sw.kernels.transformer.places import Scratchpad
from sw.kernels.transformer.shape import DecoderShape
from sw.kernels.transformer.token_heads import QueryArea, head_sizes, query_area
from sw.layout import round_up

__all__ = ["RINGS", "Resident", "resident"]

RINGS = ("weights slot", "read slot", "scales slot", "acc slot", "keys slot", "values slot", "cache scales slot")
"""Rings that go on from phase to phase."""

GROUPS = {
    "weights": ("weights",), "rows": ("x", "attention"), "heads": ("wide",), "factors": ("scales", "angles", "cache scales"),
    "between": ("products", "gate", "probabilities", "out"),
    "operands": ("operand", "queries", "rounded", "total", "packed", "negated", "unpacked"), "keys": ("keys",),
    "values": ("values",),
}
"""Bank → what lies there. "wide" is what only one phase needs at a time: queries, keys and values, then the MLP's row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """Where everything lies.

    Attributes
    ----------
    shape : DecoderShape
        The program's; its tiles of keys may be smaller than those of other programs.
    areas : dict of str to Area
        Of all phases.
    places : dict of str to Scratchpad
        "x", "qkv", "attention", "mlp": float32 rows.
    queries : QueryArea
    operand : int
        Address of the int8 operand of linears.
    """

    shape: DecoderShape
    areas: dict[str, Area]
    places: dict[str, Scratchpad]
    queries: QueryArea
    operand: int


def resident(config: AcceleratorConfig, shape: DecoderShape, linears: Iterable[Linear]) -> Resident | None:
    """Return where everything lies, with the largest tiles of keys that leave banks to themselves; None: it does not fit.

    Parameters
    ----------
    shape : DecoderShape
        Of one token.
    linears : iterable of Linear
        All of the program.
    """
    sizes = _linear_sizes(linears)
    widest, least = shape, max(config.columns, config.beat_bytes)
    tiles = [shape.key_tile >> i for i in range(shape.key_tile.bit_length()) if shape.key_tile >> i >= least]
    for apart in (True, False):
        for tile in tiles:
            widest = replace(shape, key_tile=tile)
            groups = _groups(config, widest, sizes)
            banks = sum(ceil_div(sum(group.values()), config.scratchpad_bank_bytes) for group in groups.values())
            if apart and banks > config.scratchpad_banks:
                continue
            try:
                return _place(config, widest, sizes, groups)
            except AreaError:
                continue
    return None


Sizes = Mapping[str, tuple[int, int]]


def _linear_sizes(linears: Iterable[Linear]) -> dict[str, tuple[int, int]]:
    """Return what holds each buffer of any of the linears; "in" is not needed."""
    found: dict[str, tuple[int, int]] = {}
    for linear in linears:
        for name, (size, slots) in linear_sizes(linear).items():
            if name != "in":
                found[name] = max(size, found.get(name, (0, slots))[0]), slots
    return found


def _sizes(config: AcceleratorConfig, shape: DecoderShape, linears: Sizes) -> dict[str, tuple[int, int]]:
    """Return slot bytes and slots of everything."""
    operand = round_up(max(shape.hidden, shape.attention_width, shape.ffn), max(config.activation_slot_bytes, config.line_bytes))
    attention = {name: size for name, size in attention_sizes(config, shape).items() if name != "out"}
    heads = {name: size for name, size in head_sizes(config, shape).items() if name != "in"}
    return {**attention, **heads, **linears, "x": (4 * shape.hidden, 1), "attention": (4 * shape.attention_width, 1),
            "wide": (4 * max(shape.qkv_width, shape.ffn), 1), "operand": (operand, 1),
            "queries": (query_area(config, shape, 0).end, 1)}


def _groups(config: AcceleratorConfig, shape: DecoderShape, linears: Sizes) -> dict[str, dict[str, int]]:
    """Return the bytes of everything in each bank."""
    sizes = _sizes(config, shape, linears)
    return {group: {name: round_up(sizes[name][0], config.line_bytes) * sizes[name][1] for name in names if name in sizes}
            for group, names in GROUPS.items()}


def _place(config: AcceleratorConfig, shape: DecoderShape, linears: Sizes, groups: dict[str, dict[str, int]]) -> Resident:
    banks = place_areas(config, "a token on the chip", {group: (sum(parts.values()), 1) for group, parts in groups.items()})
    sizes, areas = _sizes(config, shape, linears), {}
    for group, parts in groups.items():
        addr = banks[group].addr
        for name, size in parts.items():
            areas[name] = Area(addr=addr, slot_bytes=round_up(sizes[name][0], config.line_bytes), slots=sizes[name][1])
            addr += size
    places = {name: Scratchpad(areas[area].addr, areas[area].slot_bytes)
              for name, area in (("x", "x"), ("qkv", "wide"), ("attention", "attention"), ("mlp", "wide"))}
    return Resident(shape=shape, areas=areas, places=places, queries=query_area(config, shape, areas["queries"].addr),
                    operand=areas["operand"].addr)
