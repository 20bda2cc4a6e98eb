"""Checks of the numbers that models of systems are made of, so that a wrong one is said and not computed with."""

import math
from fractions import Fraction
from typing import Any

from hw.errors import ConfigError

__all__ = ["check_count", "check_rate"]


def check_count(what: str, value: Any, low: int = 1, high: int | None = None) -> None:
    """Refuse what is no whole number from `low` on, or up to `high`.

    Raises
    ------
    ConfigError
        It names `what`.
    """
    if isinstance(value, bool) or not hasattr(type(value), "__index__") or value < low or (high is not None and value > high):
        rule = f"a whole number from {low} on" if high is None else f"between {low} and {high}"
        raise ConfigError(f"{what} must be {rule}, not {value!r}")


def check_rate(what: str, value: Any, *, zero: bool = False, most: int | None = None) -> None:
    """Refuse what is no finite number above zero (or zero too), or is above `most`.

    Raises
    ------
    ConfigError
        It names `what`.
    """
    number = isinstance(value, int | float | Fraction) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero) or (most is not None and value > most):
        rule = "a number from 0 on" if zero else "a number above 0" + (f" and at most {most}" if most is not None else "")
        raise ConfigError(f"{what} must be {rule}, not {value!r}")
