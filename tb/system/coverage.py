"""Functional coverage: named points, each with the bins that must be hit, and crosses of two points."""

from collections import Counter
from collections.abc import Iterable
from itertools import product

__all__ = ["Coverage"]


class Coverage:
    """Counts hits of declared bins; sampling anything that was not declared is an error of the bench.

    Parameters
    ----------
    points : dict of str to iterable
        Point name → its bins.
    crosses : iterable of (str, str)
        Pairs of points whose every combination must be hit.
    """

    def __init__(self, points: dict[str, Iterable], crosses: Iterable[tuple[str, str]] = ()):
        self.hits: dict[str, Counter] = {name: Counter({bin_: 0 for bin_ in bins}) for name, bins in points.items()}
        self.crosses = tuple(crosses)
        for a, b in self.crosses:
            self.hits[f"{a} × {b}"] = Counter({pair: 0 for pair in product(self.hits[a], self.hits[b])})

    def sample(self, **values: object) -> None:
        """Count one observation: a value for each point given, and every cross whose two points are given."""
        for name, value in values.items():
            self._hit(name, value)
        for a, b in self.crosses:
            if a in values and b in values:
                self._hit(f"{a} × {b}", (values[a], values[b]))

    def _hit(self, name: str, bin_: object) -> None:
        if bin_ not in self.hits[name]:
            raise KeyError(f"{bin_!r} is no bin of coverage point {name!r}")
        self.hits[name][bin_] += 1

    def holes(self) -> list[str]:
        """Return the bins never hit, as text."""
        return [f"{name}: {bin_}" for name, bins in self.hits.items() for bin_, count in bins.items() if not count]

    def report(self) -> str:
        """Return a line for each point: bins hit of bins declared."""
        return "\n".join(f"{name:32} {sum(map(bool, bins.values())):3} of {len(bins):3} bins, {sum(bins.values())} samples"
                         for name, bins in self.hits.items())
