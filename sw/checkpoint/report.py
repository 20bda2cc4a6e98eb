"""What quantization did to each tensor: bits, signal to noise, largest error."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Errors", "TensorReport"]

_PIECE = 1 << 16
"""Values counted at a time: few enough for the cache."""


@dataclass(slots=True)
class Errors:
    """Sums over finite values and their errors, in float64.

    Attributes
    ----------
    signal, noise : float
        Sums of squares of values and of errors.
    largest : float
        Largest magnitude of an error.
    """

    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0

    def add(self, values: npt.NDArray[np.float32], approximations: npt.NDArray[np.float32]) -> None:
        """Count some rows of values and what they have become."""
        step = max(1, _PIECE // max(1, values.shape[-1]))
        for start in range(0, len(values), step):
            wanted, found = values[start:start + step].astype(np.float64), approximations[start:start + step]
            signal = float(np.vdot(wanted, wanted))
            if not math.isfinite(signal):
                finite = np.isfinite(wanted)
                wanted, found = wanted[finite], found[finite]
                signal = float(np.vdot(wanted, wanted))
            self.signal += signal
            wanted -= found
            self.noise += float(np.vdot(wanted, wanted))
            self.largest = max(self.largest, float(wanted.max(initial=0.0)), -float(wanted.min(initial=0.0)))

    def merge(self, other: "Errors") -> None:
        """Count what `other` has counted."""
        self.signal += other.signal
        self.noise += other.noise
        self.largest = max(self.largest, other.largest)

    @property
    def sqnr_db(self) -> float | None:
        """Signal-to-quantization-noise ratio in dB; None where there is no noise or no signal."""
        return 10 * math.log10(self.signal / self.noise) if self.signal and self.noise else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorReport:
    """One tensor of the output.

    Attributes
    ----------
    name : str
    shape : tuple of int
    source : str
        Type in the input.
    way : str
        What became of it.
    format : str or None
        Of the output, None where it is in none.
    nbytes : int
        In the output.
    errors : Errors or None
        None where nothing was rounded.
    """

    name: str
    shape: tuple[int, ...]
    source: str
    way: str
    format: str | None
    nbytes: int
    errors: Errors | None = field(default=None)

    @property
    def size(self) -> int:
        """Values."""
        return math.prod(self.shape)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of a value, scales and metadata included."""
        return 8 * self.nbytes / max(1, self.size)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON has it; unknowns are null."""
        return {"name": self.name, "shape": list(self.shape), "source": self.source, "way": self.way, "format": self.format,
                "bits_per_weight": self.bits_per_weight, "sqnr_db": self.errors.sqnr_db if self.errors else None,
                "max_abs_error": self.errors.largest if self.errors else None}
