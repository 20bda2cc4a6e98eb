"""Experts in memory spaces: one engine at a time has a space, so an expert whose space is taken is put off, not moved.

Source: Yun et al., Duplex, MICRO 2024: four spaces, one for each bank bundle; experts in turn over the spaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hw.errors import ConfigError
from sw.pim.balance import Split
from sw.pim.limits import check_count, check_rate

__all__ = ["SPACES", "Turn", "run_in_spaces", "space_of"]

SPACES = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """One expert on one engine, times in nanoseconds."""

    engine: str
    expert: int
    start: Fraction
    end: Fraction


def space_of(expert: int) -> int:
    """Return the memory space of an expert: in turn over all."""
    check_count("expert", expert, 0)
    return expert % SPACES


def run_in_spaces(split: Split, array_times: Sequence[Fraction], pim_times: Sequence[Fraction]) -> list[Turn]:
    """Return who runs what when, no space being used by both at once: turns by start time.

    An engine that is free takes the first expert of its list whose space the other does not use; if there is none, it waits until
    the other is done with its expert.

    Raises
    ------
    ConfigError
        If an expert is on both lists, or has no time.
    """
    for name, of, times in (("array", split.array, array_times), ("PIM", split.pim, pim_times)):
        for expert in of:
            check_count("expert", expert, 0, len(times) - 1)
            check_rate(f"{name}'s time of expert {expert}", times[expert], zero=True)
            if (split.array + split.pim).count(expert) > 1:
                raise ConfigError(f"an expert must be on one list, once, not {expert}")
    lists = {"array": list(split.array), "pim": list(split.pim)}
    lasts = {"array": array_times, "pim": pim_times}
    free = dict.fromkeys(lists, Fraction(0))
    running: dict[str, Turn | None] = dict.fromkeys(lists)
    turns = []
    while any(lists.values()):
        engine = min((e for e in lists if lists[e]), key=lambda e: (free[e], e))
        other = "pim" if engine == "array" else "array"
        now, rival = free[engine], running[other]
        busy = space_of(rival.expert) if rival is not None and rival.start <= now < rival.end else None
        choice = next((e for e in lists[engine] if space_of(e) != busy), None)
        if choice is None:
            assert rival is not None
            free[engine] = rival.end
            continue
        lists[engine].remove(choice)
        turn = Turn(engine, choice, now, now + lasts[engine][choice])
        running[engine], free[engine] = turn, turn.end
        turns.append(turn)
    return turns
