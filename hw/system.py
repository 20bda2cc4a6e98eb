"""Systems of several devices as data: an array accelerator, a PIM beside it, and which kernels run where."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from hw.config import AcceleratorConfig
from hw.errors import ConfigError
from hw.interchange import JsonConfig
from hw.pim.config import PimConfig
from hw.pim.presets import pim_preset_named
from hw.presets import preset_named

__all__ = ["DEVICES", "KERNELS", "SPLITS", "SYSTEM_PRESETS", "SystemConfig", "system_named"]

DEVICES = ("array", "pim")
KERNELS = ("attention", "ffn")
"""Kernels of decode that either device can run: attention over the cache, and the products of the MLP; one of them at least is
the PIM's. All others, and all of the prompt, are the array's."""

SPLITS = ("heads", "tokens", "head-dim")
FORMATS = ("float16", "bfloat16", "float8_e4m3fn")
"""Of weights, K and V and of activations on the PIM: what needs no scales beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemConfig(JsonConfig):
    """An array and a PIM.

    Parameters
    ----------
    array : AcceleratorConfig
        With the vector unit for transformers.
    pim : PimConfig
    channels : int
        Pseudo-channels of the PIM that take part.
    placement : tuple of (str, str)
        Each of `KERNELS` and where it runs in decode, one of `DEVICES`; what is not named runs on the array.
    split : str
        What goes to the channels in turn, one of `SPLITS`: KV heads, of which there must be a multiple of `channels`, or tokens.
    link_bytes : int
        Bytes that move between the two in a cycle of the array.

    Raises
    ------
    ConfigError
        If a value is impossible; nothing is clipped.
    """

    array: AcceleratorConfig
    pim: PimConfig
    channels: int = 2
    placement: tuple[tuple[str, str], ...] = (("attention", "pim"), ("ffn", "pim"))
    split: str = "heads"
    link_bytes: int = 16
    _where: dict[str, str] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        """Check every field."""
        for name, kind in (("array", AcceleratorConfig), ("pim", PimConfig), ("channels", int), ("link_bytes", int)):
            if type(getattr(self, name)) is not kind:
                raise TypeError(f"SystemConfig.{name} must be of type {kind.__name__}, not {getattr(self, name)!r}")
        if type(self.placement) is not tuple:
            raise TypeError(f"SystemConfig.placement must be a tuple of (kernel, device), not {self.placement!r}")
        for rule in self.placement:
            if type(rule) is not tuple or len(rule) != 2 or rule[0] not in KERNELS or rule[1] not in DEVICES:
                raise ConfigError(f"SystemConfig.placement must be of {', '.join(KERNELS)}, each on {' or '.join(DEVICES)}, "
                                  f"not {rule!r}")
        where = dict.fromkeys(KERNELS, "array") | dict(self.placement)
        object.__setattr__(self, "_where", where)
        for name, holds, why in (
                ("channels", 1 <= self.channels <= self.pim.n_pch, f"between 1 and {self.pim.n_pch}, the PIM's pseudo-channels"),
                ("split", self.split in SPLITS, f"one of {', '.join(SPLITS)}"),
                ("link_bytes", 1 <= self.link_bytes <= 4096, "between 1 and 4096"),
                ("placement", len(self.placement) == len(dict(self.placement)), "a device for each kernel, once"),
                ("placement", "pim" in where.values(), "with attention or ffn on the PIM")):
            if not holds:
                raise ConfigError(f"SystemConfig.{name} must be {why}, not {getattr(self, name)!r}")
        attends = where["attention"] == "pim"
        if self.pim.wtype not in FORMATS or self.pim.kvtype != self.pim.wtype or self.pim.xtype not in FORMATS:
            given = self.pim.wtype, self.pim.kvtype, self.pim.xtype
            raise ConfigError(f"SystemConfig.pim must have wtype, kvtype (the same) and xtype of {', '.join(FORMATS)}, which "
                              f"need no scales, not {', '.join(given)}")
        if attends and not (self.pim.has_softmax and self.pim.stores_x):
            raise ConfigError(f"SystemConfig.pim must have ptype as xtype, and xtype as wide as wtype, to attend and to append, "
                              f"not {self.pim.ptype}, {self.pim.xtype}, {self.pim.wtype}")
        if self.array.vector != "transformer":
            raise ConfigError(f"SystemConfig.array must have the vector unit for transformers, not {self.array.vector!r}")

    def device_of(self, kernel: str) -> str:
        """Return where a kernel of decode runs."""
        return self._where[kernel]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return {"array": self.array.to_dict(), "pim": self.pim.to_dict(), "channels": self.channels,
                "placement": [list(rule) for rule in self.placement], "split": self.split, "link_bytes": self.link_bytes}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Build a system from plain JSON types; unknown names are refused. A device may be the name of a preset."""
        known = [one.name for one in dataclasses.fields(cls) if one.init]
        for name in fields:
            if name not in known:
                raise ConfigError(f"SystemConfig has no field {name!r} (it has {', '.join(sorted(known))})")
        for name in DEVICES:
            if name not in fields:
                raise ConfigError(f"SystemConfig.{name} must be given")
        given = dict(fields)
        for name in DEVICES:
            if not isinstance(given[name], str | dict):
                raise ConfigError(f"SystemConfig.{name} must be a preset's name or fields of its config, not {given[name]!r}")
        array, pim = given["array"], given["pim"]
        given["array"] = preset_named(array) if isinstance(array, str) else AcceleratorConfig.from_dict(array)
        given["pim"] = pim_preset_named(pim) if isinstance(pim, str) else PimConfig.from_dict(pim)
        if isinstance(given.get("placement"), list):
            given["placement"] = tuple(tuple(rule) if isinstance(rule, list) else rule for rule in given["placement"])
        return cls(**given)


SYSTEM_PRESETS: dict[str, SystemConfig] = {
    "duplex-tiny": SystemConfig(array=preset_named("systolic-8x8"), pim=pim_preset_named("pim-duplex-tiny")),
    "duplex-tiny-attention": SystemConfig(array=preset_named("systolic-8x8"), pim=pim_preset_named("pim-duplex-tiny"),
                                          placement=(("attention", "pim"),)),
    "duplex-tiny-ffn": SystemConfig(array=preset_named("systolic-8x8"), pim=pim_preset_named("pim-duplex-tiny"),
                                    placement=(("ffn", "pim"),)),
}


def system_named(name: str) -> SystemConfig:
    """Return the system preset called `name`.

    Raises
    ------
    ConfigError
        If there is none; the text lists those that exist.
    """
    if name not in SYSTEM_PRESETS:
        raise ConfigError(f"system must be one of {', '.join(SYSTEM_PRESETS)}, not {name!r}")
    return SYSTEM_PRESETS[name]
