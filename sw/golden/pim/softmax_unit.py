"""The softmax unit of a PIM, the definition: scores, (m, l) and weights of each head, as commands change them."""

from dataclasses import dataclass, field

import numpy as np

from sw.golden.pim.attention import (
    Floats,
    Numerics,
    State,
    combine_weights,
    finish,
    merge,
    online_weights,
)

__all__ = ["Head", "SoftmaxUnit"]


@dataclass(slots=True)
class Head:
    """What the unit has of one head: scores that wait, (X, n); (m, l), (X,); weights, (X, n), and how many have been taken."""

    scores: Floats
    maximum: Floats
    total: Floats
    weights: Floats
    taken: int = 0


@dataclass(slots=True)
class SoftmaxUnit:
    """Heads of `rows` query rows each; scores come `together` at a time, of which the last of a block are dropped if too many."""

    numerics: Numerics
    rows: int
    together: int = 1
    heads: dict[int, Head] = field(default_factory=dict)

    def head(self, number: int) -> Head:
        """Return a head; one that was not there has seen nothing."""
        if number not in self.heads:
            none = np.zeros((self.rows, 0), np.float32)
            self.heads[number] = Head(none, np.full(self.rows, -np.inf, np.float32), np.zeros(self.rows, np.float32), none)
        return self.heads[number]

    def forget(self, number: int) -> None:
        """Make a head one that has seen nothing."""
        self.heads.pop(number, None)

    def drop_scores(self) -> None:
        """Forget the scores that wait, as the start of a list does."""
        for head in self.heads.values():
            head.scores = head.scores[:, :0]

    def add_scores(self, number: int, scores: Floats) -> None:
        """MVS: append (X, n) scores."""
        head = self.head(number)
        head.scores = np.concatenate((head.scores, scores), axis=1)

    def _take_scores(self, number: int, count: int) -> Floats:
        head = self.head(number)
        taken, head.scores = head.scores[:, :count], head.scores[:, -(-count // self.together) * self.together:]
        return np.ascontiguousarray(taken)

    def all_at_once(self, number: int, count: int) -> None:
        """SFM: weights of `count` scores, divided by their sum."""
        scores, head = self._take_scores(number, count), self.head(number)
        head.weights, head.taken = combine_weights(self.numerics, scores), 0

    def online(self, number: int, count: int, output: Floats) -> Floats:
        """SFO: weights of the next `count` scores and new (m, l); returns the output so far, (X, dh), scaled."""
        head, scores = self.head(number), self._take_scores(number, count)
        state, weights = online_weights(self.numerics, State(head.maximum, head.total, output), scores)
        head.maximum, head.total, head.weights, head.taken = state.maximum, state.total, weights, 0
        return state.output

    def merge(self, number: int, other: int, output: Floats, other_output: Floats) -> Floats:
        """MRG: (m, l, O) of both heads; of a head with itself O / l. Returns the output, (X, dh)."""
        head, rest = self.head(number), self.head(other)
        mine = State(head.maximum, head.total, output)
        if number == other:
            return finish(mine)
        merged = merge(mine, State(rest.maximum, rest.total, other_output))
        head.maximum, head.total = merged.maximum, merged.total
        return merged.output

    def state(self, number: int) -> Floats:
        """STS: return m and l, (X, 2)."""
        head = self.head(number)
        return np.stack((head.maximum, head.total), axis=1)

    def set_state(self, number: int, state: Floats) -> None:
        """LDS: m and l, (X, 2), of tokens that another unit has seen."""
        head = self.head(number)
        head.maximum, head.total = np.ascontiguousarray(state[:, 0]), np.ascontiguousarray(state[:, 1])

    def next_weights(self, number: int, count: int) -> Floats:
        """MVX: the next `count` weights, (X, count); zeros where there are no more."""
        head = self.head(number)
        taken = head.weights[:, head.taken:head.taken + count]
        head.taken += count
        missing = np.zeros((self.rows, count - taken.shape[1]), np.float32)
        return np.concatenate((taken, missing), axis=1)
