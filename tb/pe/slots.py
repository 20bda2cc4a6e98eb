"""Random slots for benches of processing elements and of meshes."""

import numpy as np

from sw.golden.pe import SlotControl

__all__ = ["random_control", "random_operand"]


def random_control(rng: np.random.Generator, dataflows: tuple[str, ...]) -> SlotControl:
    """Return a legal control word of a build with `dataflows`; idle slots included."""
    fields = {}
    if "ws" in dataflows:
        fields |= {"select": int(rng.integers(2)), "load": int(rng.random() < 0.3)}
    if "os" in dataflows:
        accumulate = int(rng.random() < 0.6)
        fields |= {"accumulate": accumulate, "shift": int(rng.random() < 0.4),
                   "first": accumulate & int(rng.random() < 0.2), "last": accumulate & int(rng.random() < 0.2)}
    return SlotControl(**fields)


def random_operand(rng: np.random.Generator, width: int) -> int:
    """Return a two's complement value, extremes often."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    return int(rng.choice([low, high, 0])) if rng.random() < 0.2 else int(rng.integers(low, high + 1))
