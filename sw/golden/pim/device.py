"""The golden PIM device: command lists interpreted in numpy, channel by channel; the executable definition."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from hw.pim.config import PimConfig
from hw.pim.isa import PimOpcode
from sw.device import Result
from sw.golden.pim.machine import PimMachine
from sw.pim.checker import check
from sw.pim.codes import codes_of
from sw.pim.device import Floats, channels_of
from sw.pim.program import Memory, PimProgram

__all__ = ["GoldenPimDevice", "GoldenPimSession"]


class GoldenPimSession:
    """A session of the golden device; it has no time.

    Attributes
    ----------
    memory : tuple of ndarray
        DRAM of each channel, (sets of banks, rows, bytes of a row) uint8, writable in place.
    """

    def __init__(self, config: PimConfig, channels: int):
        self.config = config
        shape = config.row_sets, config.dram_rows, config.row_bytes
        self.memory: Memory = tuple(np.zeros(shape, np.uint8) for _ in range(channels))
        self._machines = [PimMachine(config, memory) for memory in self.memory]
        self._placed: list[PimProgram] = []

    def run(self, program: PimProgram, args: Mapping[str, int] | None = None,
            inputs: Mapping[str, Floats] | None = None) -> Result:
        """Run `program`; see `sw.pim.device.PimSession.run`."""
        program.check(self.config, len(self._machines))
        words, sent = program.words(args), program.host_words(self.config, inputs)
        for channel, one in enumerate(words):
            report = check(self.config, cast("list[int]", one)) if len(one) else None
            program.check_streams(channel, report.taken if report else 0, report.given if report else 0)
        if not any(known is program for known in self._placed):
            program.place(self.config, self.memory)
        self._placed = [program, *(known for known in self._placed if known is not program and not known.overlaps(program))]
        outputs: dict[str, npt.NDArray[np.uint8]] = {}
        counters = dict.fromkeys(("commands", "bursts", "macs"), 0)
        for channel, (machine, one) in enumerate(zip(self._machines, words, strict=True)):
            for stream, values in sent[channel]:
                if stream.kind == "scales":
                    machine.host_in.append(values)
                else:
                    machine.host_in.extend(codes_of(self.config, stream.kind, values))
            for command, settings in machine.steps(cast("list[int]", one)) if len(one) else ():
                machine.execute(command, settings)
                counters["commands"] += 1
                if command.opcode is PimOpcode.MAC:
                    counters["bursts"] += command.fields["cnt"] + 1
            at = 0
            for stream in program.outputs:
                if stream.channel == channel:
                    entries = np.array(machine.host_out[at:at + stream.count], self.config.acc)
                    outputs[stream.name] = np.ascontiguousarray(entries).reshape(-1).view(np.uint8)
                    at += stream.count
            machine.host_out.clear()
            machine.host_in.clear()
        counters["macs"] = counters["bursts"] * self.config.burst_weights * self.config.rows_x
        return Result(outputs=outputs, counters=counters)

    def close(self) -> None:
        """Forget the memory."""
        self.memory = ()
        self._machines.clear()
        self._placed.clear()


class GoldenPimDevice:
    """The golden model of a PIM; implements `sw.pim.device.PimDevice`.

    Parameters
    ----------
    config : PimConfig
    channels : int or None
        By default all pseudo-channels of the config.

    Raises
    ------
    ConfigError
        If it has not got so many channels.
    """

    def __init__(self, config: PimConfig, channels: int | None = None):
        self.config = config
        self.channels = channels_of(config, channels)

    def open(self) -> GoldenPimSession:
        """Return a new session with zeroed DRAM."""
        return GoldenPimSession(self.config, self.channels)
