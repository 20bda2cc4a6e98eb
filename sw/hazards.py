"""Races: commands of different queues that use the same memory and that no semaphore orders.

The golden device runs commands in program order, so that a semaphore that is missing does not show on it, and on the RTL only
where timing happens to be unlucky. Here every two commands of different queues that use the same byte, one of them writing it,
must be ordered by what `sw.ordering` can prove.

Within a queue nothing has to be proved: vector commands run one after the other, loads and stores move their data in the order of
the commands, and results enter the accumulator in that order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.accesses import Access, SharedMemory, accesses
from sw.ordering import OrderedCommand, ordered_commands
from sw.program import Program, ProgramError

__all__ = ["Hazard", "HazardCommand", "find_hazards"]

Numbers = npt.NDArray[np.int32]
DRAM_BYTES = 1 << 32


@dataclass(frozen=True, kw_only=True, slots=True)
class HazardCommand:
    """One of two commands that are not ordered.

    Attributes
    ----------
    unit : Unit
    number : int
        Which of its queue's commands in this run it is, from 1 on.
    instruction : int
    kernel : str
        Name of the kernel that the instruction belongs to.
    """

    unit: Unit
    number: int
    instruction: int
    kernel: str

    def __str__(self) -> str:
        return f"{self.unit.name.lower()} {self.number} (instruction {self.instruction}, kernel {self.kernel!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hazard:
    """Two commands that use the same memory, and that timing alone orders.

    Attributes
    ----------
    kind : str
        "RAW" (the later one reads what the earlier one writes), "WAR" (it writes what that one reads) or "WAW" (both write).
    memory : SharedMemory
    address : int
        The first that both use: a byte, or a row of the accumulator.
    earlier, later : HazardCommand
        In program order; the later one may start before the earlier one is done.
    """

    kind: str
    memory: SharedMemory
    address: int
    earlier: HazardCommand
    later: HazardCommand

    def __str__(self) -> str:
        return (f"{self.kind} at {self.address:#x} of the {self.memory.value}: {self.later} may start before {self.earlier} "
                f"is done")


def find_hazards(config: AcceleratorConfig, program: Program, args: Mapping[str, int] | None = None) -> list[Hazard]:
    """Return the races of a run; each pair of instructions that race for a memory in one way is named once.

    It is certain that there are no others: every order of commands that semaphores allow gives what the golden device gives.
    Where several agents give to one semaphore, less can be proved, and a hazard that is none may be named (see `sw.ordering`).

    Parameters
    ----------
    config : AcceleratorConfig
    program : Program
    args : mapping of str to int, or None
        Its arguments. A hazard may show with some only: lengths and positions decide what commands there are.

    Raises
    ------
    ProgramError
        If the run does not come to its end, or a command uses memory that there is not.
    """
    search = _Search(config, program)
    found: dict[tuple[int, int, SharedMemory, str], Hazard] = {}
    for command in ordered_commands(program, args):
        for hazard in search.add(command):
            found.setdefault((hazard.earlier.instruction, hazard.later.instruction, hazard.memory, hazard.kind), hazard)
    return list(found.values())


class _Search:
    """Who used each cell of the memories last, by unit and by reading and writing."""

    def __init__(self, config: AcceleratorConfig, program: Program):
        self.config, self.program = config, program
        self.sizes = {SharedMemory.SCRATCHPAD: config.scratchpad_bytes, SharedMemory.ACCUMULATOR: config.accumulator_rows,
                      SharedMemory.DRAM: DRAM_BYTES // config.beat_bytes}
        self.rooms = dict.fromkeys(SharedMemory, 0)         # cells of the arrays, which grow as they are needed
        self.last: dict[SharedMemory, dict[tuple[Unit, bool], Numbers]] = {memory: {} for memory in SharedMemory}
        self.instructions: dict[Unit, list[int]] = {unit: [] for unit in Unit}

    def add(self, command: OrderedCommand) -> Iterator[Hazard]:
        """Yield what is wrong with a command, and note what it uses."""
        used = accesses(self.config, command.unit, command.event.fields)
        self.instructions[command.unit].append(command.event.pc)
        for access in used:
            self._make_room(command, access)
            for (unit, wrote), last in self.last[access.memory].items():
                known = command.done[unit]
                if unit == command.unit or not (wrote or access.write) or known == len(self.instructions[unit]):
                    continue
                cells = _view(last, access)
                if cells.max() > known:
                    yield self._hazard(command, access, unit, wrote, cells, known)
        for access in used:
            arrays, key = self.last[access.memory], (command.unit, access.write)
            if key not in arrays:
                arrays[key] = np.zeros(self.rooms[access.memory], np.int32)
            _view(arrays[key], access)[...] = command.number

    def _make_room(self, command: OrderedCommand, access: Access) -> None:
        """Have all arrays of a memory reach beyond an access."""
        memory, end = access.memory, access.first + 1
        end += sum((count - 1) * step for count, step in zip(access.counts, access.steps, strict=True))
        if end > self.sizes[memory]:
            raise ProgramError(f"commands of program {self.program.name!r} must stay inside the {memory.value}, "
                               f"not leave it at instruction {command.event.pc}")
        if end > self.rooms[memory]:
            self.rooms[memory] = min(self.sizes[memory], 1 << (end - 1).bit_length())
            for key, last in self.last[memory].items():
                self.last[memory][key] = np.zeros(self.rooms[memory], np.int32)
                self.last[memory][key][:len(last)] = last

    def _hazard(self, command: OrderedCommand, access: Access, unit: Unit, wrote: bool, cells: Numbers, known: int) -> Hazard:
        racing = np.argwhere(cells > known)
        first = racing[np.argmin(racing @ np.array(access.steps))]
        cell = access.first + int(first @ np.array(access.steps))
        number = int(cells[tuple(first)])
        return Hazard(kind="WAW" if wrote and access.write else "RAW" if wrote else "WAR", memory=access.memory,
                      address=cell * access.memory.cell_bytes(self.config), earlier=self._named(unit, number),
                      later=self._named(command.unit, command.number))

    def _named(self, unit: Unit, number: int) -> HazardCommand:
        instruction = self.instructions[unit][number - 1]
        return HazardCommand(unit=unit, number=number, instruction=instruction, kernel=self.program.kernel_at(instruction))


def _view(last: Numbers, access: Access) -> Numbers:
    """Return a view of the cells of an access, in its shape."""
    size = last.itemsize
    return np.ndarray(access.counts, last.dtype, last, size * access.first, tuple(size * step for step in access.steps))
