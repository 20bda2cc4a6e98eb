"""How a text goes on, token by token: the same on one device and on a system of several."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from sw.sampling import Sampler

__all__ = ["go_on"]

P = TypeVar("P")


class _Text(Protocol[P]):
    tokens: list[int]
    ended: bool
    prefill: P
    decode: P


class _Step(Protocol):
    @property
    def logits(self) -> npt.NDArray[np.float32] | None: ...


def go_on(found: _Text[P], run: Callable[[P, Sequence[int]], _Step | None], prompt: Sequence[int], count: int,
          sampler: Sampler, *, end_tokens: frozenset[int], token: Callable[[int], Any] | None) -> None:
    """Feed a prompt, then choose tokens and feed each, until there are `count`, one ends the text, or a device goes wrong.

    Parameters
    ----------
    found : Generation or SystemGeneration
        Gets the tokens, and whether the model ended the text itself.
    run : function
        Feeds tokens in a phase of `found`; returns the last step, or None where a device went wrong.
    prompt : sequence of int
    count : int
    sampler : Sampler
    end_tokens : frozenset of int
    token : function of int, or None
        Called with each token as it comes.
    """
    step = run(found.prefill, prompt)
    while step is not None and step.logits is not None:
        chosen = sampler.choose(step.logits)
        found.ended = chosen in end_tokens
        if found.ended:
            break
        found.tokens.append(chosen)
        if token is not None:
            token(chosen)
        step = run(found.decode, [chosen]) if len(found.tokens) < count else None
