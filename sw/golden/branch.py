"""Runs that branch off from one another: the commands of a program on states that are copied, changed and run on side by side."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.golden.sequencer import Event, run_sequencer
from sw.golden.state import State
from sw.golden.token.angles import Angles
from sw.golden.units import UNITS
from sw.program import Program

__all__ = ["advance", "begin", "branch", "commands_of"]


Element = TypeVar("Element", bound=np.generic)


def commands_of(program: Program, args: Mapping[str, int] | None = None) -> list[Event]:
    """Return the queued commands of a program, in program order; data decide over none of them."""
    events = run_sequencer(program.code, program.argument_values(args), parity=program.parity)
    return [event for event in events if event.unit is not None]


def begin(config: AcceleratorConfig, memory: npt.NDArray[np.uint8]) -> State:
    """Return the state before the first command: (…, bytes) uint8 of DRAM, which is not copied, and cleared memories."""
    lead = memory.shape[:-1]
    return State(config=config, memory=memory, scratchpad=np.zeros((*lead, config.scratchpad_bytes), np.uint8),
                 accumulator=np.zeros((*lead, config.accumulator_rows, config.columns), np.int64),
                 rows=np.full((*lead, config.vector_rows), np.nan, np.float32),
                 counters=dict.fromkeys(("macs", "bytes_written", "saturations"), 0), angles=Angles(config.rotary_pairs, lead))


def branch(state: State, copies: int | None = None) -> State:
    """Return a copy of a state; with `copies`, so many of them side by side, along a new first axis."""
    def copied(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
        return array.copy() if copies is None else np.repeat(array[None], copies, axis=0)

    return replace(state, memory=copied(state.memory), scratchpad=copied(state.scratchpad),
                   accumulator=copied(state.accumulator), rows=copied(state.rows), counters=dict(state.counters),
                   angles=state.angles.copy(copies))


def advance(state: State, commands: Iterable[Event]) -> None:
    """Do commands in place.

    Raises
    ------
    Refusal
        If one breaks a rule.
    """
    for event in commands:
        assert event.unit is not None
        UNITS[event.unit](state, event.fields)
