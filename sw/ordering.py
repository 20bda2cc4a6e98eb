"""What the semaphores of a program promise, whatever the timing: which commands are done when another one starts.

Vector clocks over the five agents, the sequencer and its four queues. A clock has, for each queue, how many of its commands are
done for certain. What follows from what:

* A command starts after it was queued, after the commands before it in its queue have started (in the vector unit: are done),
  and after it has taken its semaphores.
* It is done after those before it in its queue, and signals then.
* The sequencer goes on from WAIT when it has taken the semaphores, and from FENCE when all commands before it are done.
* Who takes from a semaphore for the n-th time does so after n have been given. Where several agents give, the n may be any of
  theirs: only as many are certain to be one agent's as the others cannot have given up to the next FENCE. Of several takers each
  counts its own.

How deep queues are, and how many commands a unit has taken, promises nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hw.isa import SEMAPHORE_MAX, SEMAPHORES, SEQUENCER, Opcode, Unit
from sw.golden.sequencer import Event, Fault, mask_bits, run_sequencer
from sw.program import Program, ProgramError

__all__ = ["OrderedCommand", "ordered_commands"]

Clock = list[int]
AGENTS = range(SEQUENCER + 1)


@dataclass(frozen=True, slots=True)
class OrderedCommand:
    """A command of a run, and what is over when it starts.

    Attributes
    ----------
    event : Event
    unit : Unit
    number : int
        Which of its queue's commands it is, from 1 on.
    done : tuple of int
        How many commands of each queue are done when it starts, for certain.
    """

    event: Event
    unit: Unit
    number: int
    done: tuple[int, ...]


def ordered_commands(program: Program, args: Mapping[str, int] | None = None) -> Iterator[OrderedCommand]:
    """Yield the commands of a run, in program order.

    Raises
    ------
    ProgramError
        If the run, commands taken in program order, does not come to its HALT: an instruction stops it, or it waits for a
        semaphore that nothing before gives, or gives one too often.
    """
    order, stretch = _Order(program), []
    try:
        for event in run_sequencer(program.code, program.argument_values(args), parity=program.parity):
            stretch.append(event)
            if event.opcode in (Opcode.FENCE, Opcode.HALT):
                yield from order.stretch(stretch)
                stretch = []
    except Fault as fault:
        raise ProgramError(f"program {program.name!r} must run to its end, not stop with {fault.cause.name} "
                           f"at instruction {fault.pc}") from None


class _Order:
    """Clocks and semaphores while the events of a program go by."""

    def __init__(self, program: Program):
        self.program = program
        self.known = [[0] * len(Unit) for _ in AGENTS]      # when the sequencer goes on; when the queue's next command starts
        self.ends = [[0] * len(Unit) for _ in Unit]         # when the queue's last command is done
        self.numbers = [0] * len(Unit)
        self.counts = [0] * SEMAPHORES

    def stretch(self, events: list[Event]) -> Iterator[OrderedCommand]:
        """Yield the commands up to a FENCE or HALT, the last of the events; at its beginning all queues are empty."""
        self.credits = list(self.counts)                    # can be taken at once: given before the last FENCE
        self.taken = [[0] * len(AGENTS) for _ in range(SEMAPHORES)]
        self.given: list[list[list[Clock]]] = [[[] for _ in AGENTS] for _ in range(SEMAPHORES)]
        self.most = [[0] * len(AGENTS) for _ in range(SEMAPHORES)]
        for event in events:
            for index in mask_bits(event.signal):
                self.most[index][_agent(event)] += 1
        sequencer = self.known[SEQUENCER]
        for event in events:
            if event.unit is not None:
                yield self._command(event, event.unit)
                continue
            self._take(event, SEQUENCER, sequencer)
            self._give(event, SEQUENCER, list(sequencer))
        sequencer[:] = self.numbers

    def _command(self, event: Event, unit: Unit) -> OrderedCommand:
        start, end = self.known[unit], self.ends[unit]
        _join(start, self.known[SEQUENCER])
        if unit == Unit.VECTOR:
            _join(start, end)
        self._take(event, unit, start)
        self.numbers[unit] += 1
        command = OrderedCommand(event, unit, self.numbers[unit], tuple(start))
        _join(end, start)
        end[unit] = self.numbers[unit]
        self._give(event, unit, list(end))
        return command

    def _take(self, event: Event, agent: int, clock: Clock) -> None:
        """Take what an event waits for, and let the clock know what follows."""
        for index in mask_bits(event.wait):
            if self.counts[index] == 0:
                raise ProgramError(f"program {self.program.name!r} must run to its end, not wait at instruction {event.pc} for "
                                   f"semaphore {index}, which nothing before it gives")
            self.counts[index] -= 1
            self.taken[index][agent] += 1
            least = self.taken[index][agent] - self.credits[index]
            most = sum(self.most[index])
            for giver in AGENTS:
                certain = least - (most - self.most[index][giver])
                if certain > 0:
                    _join(clock, self.given[index][giver][certain - 1])

    def _give(self, event: Event, agent: int, clock: Clock) -> None:
        for index in mask_bits(event.signal):
            self.given[index][agent].append(clock)
            self.counts[index] += 1
            if self.counts[index] > SEMAPHORE_MAX:
                raise ProgramError(f"program {self.program.name!r} must run to its end, not give semaphore {index} more than "
                                   f"{SEMAPHORE_MAX} times at instruction {event.pc}")


def _agent(event: Event) -> int:
    return SEQUENCER if event.unit is None else event.unit


def _join(clock: Clock, other: Clock) -> None:
    for i, value in enumerate(other):
        if value > clock[i]:
            clock[i] = value
