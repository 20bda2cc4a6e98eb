"""Which format each linear of each layer of a decoder has: one for all, one for each linear, or another from layer to layer."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

__all__ = ["LINEARS", "LINEAR_PARTS", "LinearFormats", "WeightPlan", "WeightPlanError"]


class WeightPlanError(ValueError):
    """A plan that is not one, or not one of this model."""


class LinearFormats(NamedTuple):
    """The format of each linear of a layer; "": the config's plain one.

    Gate and up lie in one matrix, in turn, and queries, keys and values too: each has one format.
    """

    qkv: str
    output: str
    gate_up: str
    down: str


LINEARS = LinearFormats._fields
LINEAR_PARTS = {"qkv": ("q", "k", "v"), "output": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
"""Linear → parts of a layer that lie in its matrix."""


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """Formats of weights, layer by layer.

    A decoder's program has one hardware loop for each run of layers with the same formats, so that a plan costs instructions, not
    cycles.

    Attributes
    ----------
    layers : tuple of LinearFormats
    head : str
        Format of the output matrix.

    Raises
    ------
    WeightPlanError
        If there is no layer.
    """

    layers: tuple[LinearFormats, ...]
    head: str = ""

    def __post_init__(self) -> None:
        if not self.layers:
            raise WeightPlanError("a plan of weights must have at least one layer, not none")

    @classmethod
    def uniform(cls, layers: int, weights: str = "", head: str = "") -> Self:
        """Return the plan of one format for all linears of all layers."""
        return cls((LinearFormats(weights, weights, weights, weights),) * layers, head)

    @classmethod
    def read(cls, text: str, layers: int, *, default: str = "", head: str | None = None) -> Self:
        """Return what a user asks for.

        Parameters
        ----------
        text : str
            A format; LINEAR=FORMAT,… with `default` for the linears that are not named; or a file that ends with ``.json``.
        layers : int
            Layers of the model.
        head : str or None
            Format of the output matrix; None: what the file says, else plain.

        Raises
        ------
        WeightPlanError
            If the text is none of these, or the file has another number of layers.
        """
        for what, name in (("weights", text), ("the head's format", head)):
            if name is not None and not name.strip():
                raise WeightPlanError(f"{what} must have the name of a format, not {name!r}")
        if text.endswith(".json"):
            path = Path(text)
            if not path.is_file():
                raise WeightPlanError(f"a plan of weights must be a file, not {text!r}")
            try:
                content = path.read_text()
            except UnicodeDecodeError as error:
                raise WeightPlanError(f"a plan of weights must be UTF-8 text, not {text!r}: {error.reason} at {error.start}"
                                      ) from None
            return cls.from_json(content, layers, default=default, head=head)
        if "=" not in text:
            return cls.uniform(layers, text, head or "")
        named: dict[str, str] = {}
        for part in text.split(","):
            name, _, weights = part.partition("=")
            if name in named:
                raise WeightPlanError(f"formats of linears must be given once each, not twice for {name!r}")
            if not weights:
                raise WeightPlanError(f"formats of linears must be LINEAR=FORMAT,…, not {part!r}")
            named[name] = weights
        return cls((_formats(named, "formats of linears", default),) * layers, head or "")

    @classmethod
    def from_json(cls, text: str, layers: int, *, default: str = "", head: str | None = None) -> Self:
        """Return the plan of a file: {"layers": [{linear: format, …}, …], "head": format}; see `read`."""
        try:
            found = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise WeightPlanError(f"a plan of weights must be JSON: {error}") from None
        if not isinstance(found, dict) or not isinstance(found.get("layers"), list) or not found.keys() <= {"layers", "head"}:
            raise WeightPlanError('a plan of weights must be {"layers": [{linear: format, …}, …], "head": format}, '
                            f"not {json.dumps(found)[:80]}")
        if len(found["layers"]) != layers:
            raise WeightPlanError(f"a plan of weights must have the model's {layers} layers, not {len(found['layers'])}")
        stored = found.get("head", "")
        if not isinstance(stored, str):
            raise WeightPlanError(f"head of a plan of weights must be the name of a format, not {stored!r}")
        return cls(tuple(_formats(entry, f"layers[{number}] of a plan of weights", default)
                         for number, entry in enumerate(found["layers"])), stored if head is None else head)

    def to_json(self) -> str:
        """Return the plan as a file has it."""
        return json.dumps({"layers": [formats._asdict() for formats in self.layers], "head": self.head}, indent=2) + "\n"

    @property
    def runs(self) -> list[tuple[int, LinearFormats]]:
        """Layers in a row with the same formats: how many, and which."""
        return [(len(list(group)), formats) for formats, group in itertools.groupby(self.layers)]

    @property
    def formats(self) -> tuple[str, ...]:
        """All formats of the layers, each once."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.layers)))

    @property
    def name(self) -> str:
        """The format where there is but one, else how many."""
        return self.formats[0] if len(self.formats) == 1 else f"{len(self.formats)} formats"


def _formats(entry: Any, what: str, default: str) -> LinearFormats:
    """Return the formats of a layer; linears that are not named have the default."""
    if not isinstance(entry, Mapping) or not all(isinstance(value, str) for value in entry.values()):
        raise WeightPlanError(f"{what} must be {{linear: format, …}}, not {entry!r}")
    unknown = [name for name in entry if name not in LINEARS]
    if unknown:
        raise WeightPlanError(f"{what} must be for {', '.join(LINEARS)}, not {', '.join(map(repr, unknown))}")
    return LinearFormats(**dict.fromkeys(LINEARS, default) | dict(entry))
