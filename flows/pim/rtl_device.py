"""The RTL of a PIM as a device that runs PimPrograms: a simulated channel for each list, side by side."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flows.pim.emit import COMMANDS, PimEmission
from flows.pim.sim import PimListError, PimRun, PimSim
from flows.pim.sim import PimSession as PimChannelSession
from hw.config import ceil_power_of_two
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from sw.device import Result
from sw.pim.checker import check
from sw.pim.codes import codes_of
from sw.pim.device import Floats, PimError, channels_of
from sw.pim.program import Memory, PimProgram, PimStream

__all__ = ["MOST_COMMANDS", "RtlPimDevice", "RtlPimSession"]

MOST_COMMANDS = 1 << 14         # of a list memory


class RtlPimSession:
    """Simulated channels and their DRAM.

    Attributes
    ----------
    memory : tuple of ndarray
        DRAM of each channel, (sets of banks, rows, bytes of a row) uint8, writable in place.
    ended : dict of int to PimRun
        Of the last program: each channel that had a list, and what it did.
    """

    def __init__(self, config: PimConfig, channels: list[PimChannelSession]):
        self.config, self._channels = config, channels
        self._pool = ThreadPoolExecutor(len(channels))
        self.memory: Memory = tuple(channel.memory for channel in channels)
        self.ended: dict[int, PimRun] = {}
        self._placed: list[PimProgram] = []

    def run(self, program: PimProgram, args: Mapping[str, int] | None = None,
            inputs: Mapping[str, Floats] | None = None) -> Result:
        """Run `program`; see `sw.pim.device.PimSession.run`."""
        program.check(self.config, len(self._channels))
        lists, sent = program.words(args), program.host_words(self.config, inputs)
        for number, words in enumerate(lists):
            report = check(self.config, cast("list[int]", words)) if len(words) else None
            program.check_streams(number, report.taken if report else 0, report.given if report else 0)
        if not any(known is program for known in self._placed):
            program.place(self.config, self.memory)
        self._placed = [program, *(known for known in self._placed if known is not program and not known.overlaps(program))]
        running = [self._pool.submit(self._channel, program, number, words, self._bytes(sent[number]))
                   for number, words in enumerate(lists) if len(words)]
        ended = self.ended = {number: run for number, run in (one.result() for one in running)}
        outputs: dict[str, npt.NDArray[np.uint8]] = {}
        for number, run in ended.items():
            entries, at = run.host_out.reshape(-1, 4 * self.config.rows_x * self.config.width), 0
            for stream in program.outputs:
                if stream.channel == number:
                    outputs[stream.name] = entries[at:at + stream.count].reshape(-1)
                    at += stream.count
        counters: dict[str, int] = {}
        for run in ended.values():
            for name, count in run.counters.items():
                counters[name] = counters.get(name, 0) + count
        return Result(outputs=outputs, cycles=max(run.cycles for run in ended.values()), counters=counters)

    def _channel(self, program: PimProgram, number: int, words: npt.NDArray[np.uint64],
                 host_in: npt.NDArray[np.uint8]) -> tuple[int, PimRun]:
        try:
            return number, self._channels[number].run(words, host_in)
        except PimListError as error:
            raise PimError(program.name, error.cause, number, error.index) from None

    def _bytes(self, sent: list[tuple[PimStream, npt.NDArray[Any]]]) -> npt.NDArray[np.uint8]:
        """Return values as host words: slices in the format of X, entries as accumulators are, row by row; all else filled up."""
        word, config = self._channels[0].sim.word_bytes, self.config
        parts = [np.zeros(0, np.uint8)]
        for stream, values in sent:
            data = np.frombuffer(codes_of(config, stream.kind, values).tobytes(), np.uint8)
            parts += [data, np.zeros(-len(data) % word, np.uint8)]
        return np.concatenate(parts).reshape(-1, word)

    def close(self) -> None:
        """Free the simulations."""
        self._pool.shutdown()
        for channel in self._channels:
            channel.close()


class RtlPimDevice:
    """The RTL of a PIM; implements `sw.pim.device.PimDevice`. Emitted and built when it is first opened.

    Parameters
    ----------
    config : PimConfig
    channels : int or None
        By default all pseudo-channels of the config.
    longest_list : int
        Commands of the longest list that it will get: the list memory is made for them.
    traced : bool
        Runs have events, see `flows.pim.sim.PimSim`.
    waves : Path or None
        Where the first channel of the first session writes its waves.

    Raises
    ------
    ConfigError
        If it has not got so many channels, or no list memory is so large.
    """

    def __init__(self, config: PimConfig, channels: int | None = None, *, longest_list: int = COMMANDS,
                 traced: bool = False, waves: Path | None = None):
        if longest_list > MOST_COMMANDS:
            raise ConfigError(f"a list must have at most {MOST_COMMANDS} commands, not {longest_list}")
        self.config = config
        self.channels = channels_of(config, channels)
        self._waves = waves
        self._sim = PimSim(config, commands=max(COMMANDS, ceil_power_of_two(longest_list)), traced=traced,
                           waves=waves.suffix if waves else None)

    @property
    def emission(self) -> PimEmission:
        """The Verilog."""
        return self._sim.emission

    def build(self) -> None:
        """Emit and build the simulator, if that is not done.

        Raises
        ------
        ToolError
            If it cannot be built.
        """
        _ = self._sim.library

    def open(self, *, stall: float = 0.0, seed: int = 0) -> RtlPimSession:
        """Return a new session with zeroed DRAM; the host stalls as `flows.pim.sim` has it."""
        channels = [self._sim.open(stall=stall, seed=seed + i) for i in range(self.channels)]
        if self._waves is not None:
            channels[0].record_waves(self._waves)
            self._waves = None
        return RtlPimSession(self.config, channels)
