"""One line of a comparison with a paper: what it says, what we find, and how well what it says is known."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["GRADES", "Row", "Value", "not_asked"]

Value = int | float | str | None

GRADES = {
    "found": "read in the paper, or in what its authors have published",
    "secondary": "read in what others say of it",
    "derived": "by arithmetic from what was read",
    "inferred": "our own choice where what was read is silent: no figure of the paper",
    "recalled": "remembered, read nowhere: no figure of the paper",
}
"""Grade of a figure → what it means. Where there is no figure of the paper, none is printed."""
_UNPUBLISHED = ("inferred", "recalled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure of a paper beside ours.

    Attributes
    ----------
    quantity : str
        What it is a figure of, with its unit.
    paper : int, float, str or None
        What the paper says; None where it says nothing or what it says was not read.
    ours : int, float, str or None
        Computed or measured when the row is made; None where that was not asked for, as `note` then says.
    grade : str
        One of `GRADES`: of what the paper says, or of what `ours` stands for.
    note : str
        What explains the difference, how `ours` was found, which option it needs.
    target : int, float, str or None
        What `ours` must be: the paper's figure where it is to be met exactly, or that of a law. None: no such thing.
    tolerance : float
        How far from a numeric target `ours` may be.
    """

    quantity: str
    paper: Value
    ours: Value
    grade: str
    note: str = ""
    target: Value = None
    tolerance: float = 0

    def __post_init__(self) -> None:
        """Refuse what would be misread: an unknown grade, a figure that was not read, a number that JSON does not have."""
        if self.grade not in GRADES:
            raise ValueError(f"Row.grade must be one of {', '.join(GRADES)}, not {self.grade!r} ({self.quantity})")
        if self.grade in _UNPUBLISHED and self.paper is not None:
            raise ValueError(f"Row.paper must be None where the grade is {self.grade}, not {self.paper!r} ({self.quantity})")
        if self.ours is None and not self.note:
            raise ValueError(f"Row.note must say why there is no figure of ours ({self.quantity})")
        for name in ("paper", "ours", "target"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | str | None):
                raise TypeError(f"Row.{name} must be an int, float, str or None, not {type(value).__name__} ({self.quantity})")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"Row.{name} must be finite, not {value} ({self.quantity})")

    @property
    def holds(self) -> bool:
        """Whether `ours` is what it must be, or need not be anything."""
        if self.target is None or self.ours is None:
            return True
        if isinstance(self.ours, str) or isinstance(self.target, str):
            return self.ours == self.target
        return bool(abs(self.ours - self.target) <= self.tolerance)         # numpy's floats are floats, its bool is no bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them; what must be met only where something must."""
        fields = dataclasses.asdict(self)
        if self.target is None:
            del fields["target"], fields["tolerance"]
            return fields
        return {**fields, "holds": self.holds}


def not_asked(quantity: str, paper: Value, grade: str, option: str, note: str = "") -> Row:
    """Return the row of a figure that takes long to find, where `option` was not given."""
    return Row(quantity=quantity, paper=paper, ours=None, grade=grade,
               note=f"not measured: give {option}" + (f"; {note}" if note else ""))
