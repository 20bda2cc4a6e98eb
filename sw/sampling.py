"""How the next token is chosen from a model's logits: the greatest, or drawn at random."""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens.

    Parameters
    ----------
    temperature : float
        What logits are divided by before the softmax; 0 takes the greatest logit, of equal ones the first.
    top_k : int or None
        Tokens with the greatest logits, among which one is drawn; by default all.
    seed : int
        Of the drawing: the same seed draws the same tokens from the same logits.

    Raises
    ------
    ValueError
        If a parameter cannot be.
    """

    def __init__(self, temperature: float = 0.0, top_k: int | None = None, seed: int = 0):
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"temperature must be 0 or a positive number, not {temperature!r}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k!r}")
        if top_k is not None and temperature == 0:
            raise ValueError(f"top_k must go with a temperature above 0, not {top_k!r} with 0, which takes the greatest logit")
        if seed < 0:
            raise ValueError(f"seed must be 0 or a positive integer, not {seed!r}")
        self.temperature, self.top_k = temperature, top_k
        self._random = np.random.default_rng(seed)

    def choose(self, logits: npt.NDArray[np.float32]) -> int:
        """Return a token for logits, (vocabulary,) float32.

        Raises
        ------
        ValueError
            If a logit is NaN.
        """
        if np.isnan(logits).any():
            raise ValueError(f"logits must be numbers, but {int(np.isnan(logits).sum())} of {logits.size} are NaN")
        if self.temperature == 0:
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")[:self.top_k]
        scaled = (logits[order].astype(np.float64) - float(logits[order[0]])) / self.temperature
        weights = np.exp(scaled)
        return int(order[np.searchsorted(np.cumsum(weights), self._random.random() * weights.sum(), side="right")])
