"""Configs as JSON: what every frozen config shares."""

import dataclasses
import hashlib
import json
from typing import Any, Self

from hw.errors import ConfigError

__all__ = ["JsonConfig", "fields_from"]


def fields_from(text: str) -> dict[str, Any]:
    """Return the fields that the text of a config has.

    Raises
    ------
    ConfigError
        If it is no JSON object, or names a field twice in one.
    """
    try:
        fields = json.loads(text, object_pairs_hook=_once)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a config must be a JSON object, not this text: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"a config must be a JSON object, not {type(fields).__name__}")
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ConfigError(f"a config must have each field once, not {name!r} twice")
        fields[name] = value
    return fields


class JsonConfig:
    """Base of a config that is a frozen dataclass of plain JSON types, and of tuples of them."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return _plain(dataclasses.asdict(self))     # type: ignore[call-overload]

    def to_json(self) -> str:
        """Return the fields as JSON text, sorted by name."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Build a config from plain JSON types; unknown names are refused."""
        known = {field.name for field in dataclasses.fields(cls)}       # type: ignore[arg-type]
        for name in fields:
            if name not in known:
                raise ConfigError(f"{cls.__name__} has no field {name!r} (it has {', '.join(sorted(known))})")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build a config from the text that `to_json` makes."""
        return cls.from_dict(fields_from(text))

    def digest(self) -> str:
        """Return 12 hexadecimal digits that name this config."""
        return hashlib.sha256(json.dumps(self._named(), indent=2, sort_keys=True).encode()).hexdigest()[:12]

    def _named(self) -> dict[str, Any]:
        """Return the fields that the name is made of."""
        return self.to_dict()


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value
