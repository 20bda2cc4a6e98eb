"""config.json of a model in the layout of Hugging Face: read, and its fields checked one by one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["ModelError", "check_only", "positive", "read_fields", "read_json", "read_object", "required"]


class ModelError(ValueError):
    """A model's folder that cannot be read, or a model that we do not compute; the text names the file or the field."""


def read_fields(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the path of config.json and what it holds.

    Raises
    ------
    ModelError
        If there is no such file, or it is no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"MODEL must be a folder with config.json, not {str(folder)!r}")
    return path, read_object(path)


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises
    ------
    ModelError
        If the file holds something else.
    """
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise ModelError(f"{path} must be a JSON object, not {fields!r}")
    return fields


def read_json(path: Path) -> Any:
    """Return what a file holds.

    Raises
    ------
    ModelError
        If it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} must be JSON: {error}") from None


def check_only(path: Path, fields: Mapping[str, Any], only: Mapping[str, tuple[tuple[Any, ...], str]]) -> None:
    """Refuse fields whose values are not those that we compute: field → (legal values, what to say they are).

    Raises
    ------
    ModelError
        If one has another value; absent ones have none.
    """
    for name, (values, rule) in only.items():
        if name in fields and fields[name] not in values:
            raise ModelError(f"{path}: {name} must be {rule}, not {fields[name]!r}")


def positive(path: Path, fields: Mapping[str, Any], name: str, default: Any, kinds: tuple[type, ...] = (int,)) -> Any:
    """Return a positive number, `default` where it is absent or null.

    Raises
    ------
    ModelError
        If it is none of the types, or not positive.
    """
    value: Any = default if fields.get(name) is None else fields[name]
    if type(value) not in kinds or not 0 < value < float("inf"):
        raise ModelError(f"{path}: {name} must be a positive {'integer' if kinds == (int,) else 'number'}, not {value!r}")
    return value


def required(path: Path, fields: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    """Return positive integers that must be there.

    Raises
    ------
    ModelError
        If one is absent, null or not positive.
    """
    for name in names:
        if fields.get(name) is None:
            raise ModelError(f"{path} must have {name}")
    return [positive(path, fields, name, None) for name in names]
