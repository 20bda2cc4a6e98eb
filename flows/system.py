"""Generates text on a system of an array and a PIM, every run compared with the golden devices, and counts by device."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from flows.checked import CheckedSession
from flows.pim.checked import CheckedPimSession
from flows.pim.rtl_device import RtlPimDevice
from flows.rtl_device import RtlDevice
from flows.text_loop import go_on
from sw.device import Session
from sw.generate import check_length
from sw.golden.device import GoldenDevice
from sw.golden.pim.device import GoldenPimDevice
from sw.perf import MemoryModel, predict
from sw.pim.device import PimSession
from sw.pim.prediction import predicted_cycles
from sw.pim.program import PimProgram
from sw.program import Program
from sw.sampling import Sampler
from sw.system import CompiledSystem, SystemGenerator, SystemRun, SystemStep

__all__ = ["SystemGeneration", "SystemPhase", "generate_on_system"]

DEVICES = ("array", "transfer", "pim")
_PIM_SEEDS = 1 << 62             # seeds of channels are one apart, and below 2**63


@dataclass(kw_only=True, slots=True)
class SystemPhase:
    """Sums over the prompt, or over the tokens after it, by device.

    Attributes
    ----------
    tokens : int
    runs, cycles, nbytes : Counter
        Of each of "array", "transfer", "pim": how many runs, their cycles (of each device's own clock), bytes moved.
    kernels : Counter
        (device, name) → cycles.
    """

    tokens: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    cycles: Counter[str] = field(default_factory=Counter)
    nbytes: Counter[str] = field(default_factory=Counter)
    kernels: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, step: SystemStep, cycles_of: Callable[[SystemRun], int]) -> None:
        """Add tokens."""
        self.tokens += step.count
        for run in step.runs:
            cycles = cycles_of(run)
            self.runs[run.device] += 1
            self.cycles[run.device] += cycles
            self.nbytes[run.device] += run.nbytes
            self.kernels[run.device, run.name.partition(" of layer")[0]] += cycles


@dataclass(kw_only=True, slots=True)
class SystemGeneration:
    """A prompt and what came after it.

    Attributes
    ----------
    compiled : CompiledSystem
    timed : bool
        Cycles of array and PIM are counted by the RTL; else predicted. Those of transfers are the link's always.
    tokens : list of int
    ended : bool
        Whether the model ended the text itself.
    match : bool or None
        Everything equal to the golden devices'; None on those themselves.
    differs : str or None
        The first program that differed.
    prefill, decode : SystemPhase
    """

    compiled: CompiledSystem
    timed: bool
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    match: bool | None = None
    differs: str | None = None
    prefill: SystemPhase = field(default_factory=SystemPhase)
    decode: SystemPhase = field(default_factory=SystemPhase)

    def microseconds(self, device: str, cycles: float) -> float | None:
        """Return the time of a device's cycles; None for those of the array, whose clock is not part of its config."""
        return cycles / self.compiled.config.pim.clock_mhz if device == "pim" else None

    def to_json(self) -> dict[str, Any]:
        """Return what was made and what it took, as plain JSON types."""
        decode, steps = self.decode, self.decode.tokens
        config = self.compiled.config
        return {
            "match": self.match, "tokens": self.tokens, "ended": self.ended, "prompt_tokens": self.prefill.tokens,
            "chunk": self.compiled.base.chunk, "context": self.compiled.context, "channels": config.channels,
            "split": config.split, "placement": dict(config.placement), "cycles_by": "counted" if self.timed else "predicted",
            "prefill_cycles": {device: self.prefill.cycles[device] for device in DEVICES},
            "cycles_per_token": {device: decode.cycles[device] / steps for device in DEVICES} if steps else None,
            "bytes_transferred": {"prompt": self.prefill.nbytes["transfer"],
                                  "per_token": decode.nbytes["transfer"] / steps if steps else None},
            "kernels": [{"device": device, "name": name, "prefill_cycles": self.prefill.kernels[device, name],
                         "cycles_per_token": decode.kernels[device, name] / steps if steps else 0.0}
                        for device, name in {**self.prefill.kernels, **decode.kernels}],
            "differs": self.differs,
        }


def predicted_pim_cycles(compiled: CompiledSystem, program: PimProgram) -> int:
    """Return the predicted cycles of the channel that takes longest."""
    return max(predicted_cycles(compiled.config.pim, cast("list[int]", words)) for words in program.lists if len(words))


class _Cycles:
    """What runs take: what was counted, else what is predicted, once for each program."""

    def __init__(self, compiled: CompiledSystem, timed: bool):
        self._compiled, self._timed = compiled, timed
        self._memory = MemoryModel(latency=32, bandwidth=1.0)
        self._known: dict[tuple[int, tuple[tuple[str, int], ...]], tuple[object, int]] = {}

    def of(self, run: SystemRun) -> int:
        if run.program is None or self._timed:
            return run.cycles
        key = id(run.program), tuple(sorted(run.args.items()))
        if key not in self._known:
            if isinstance(run.program, Program):
                cycles = predict(self._compiled.config.array, run.program, run.args, self._memory).cycles
            else:
                cycles = predicted_pim_cycles(self._compiled, run.program)
            self._known[key] = run.program, cycles          # which keeps the program, and so its id
        return self._known[key][1]


def generate_on_system(compiled: CompiledSystem, devices: tuple[RtlDevice, RtlPimDevice] | None, prompt: Sequence[int],
                       count: int, sampler: Sampler, *, end_tokens: frozenset[int] = frozenset(),
                       fed: Callable[[int], None] | None = None,
                       token: Callable[[int], None] | None = None) -> SystemGeneration:
    """Feed a prompt and generate up to `count` tokens; it stops at an end token, or where a device differs from its golden one.

    Parameters
    ----------
    compiled : CompiledSystem
    devices : (RtlDevice, RtlPimDevice) or None
        By default the golden devices alone. Hosts of the channels stall as the array's memory does (`MemoryTiming.stall`).
    prompt : sequence of int
    count : int
    sampler : Sampler
    end_tokens : frozenset of int
    fed, token : function of int, or None
        Called with the prompt's tokens so far, and with each token as it comes.

    Raises
    ------
    ContextError
        If the cache does not hold prompt and tokens; nothing has run then.
    """
    check_length(len(prompt), count, compiled.context)
    found = SystemGeneration(compiled=compiled, timed=devices is not None)
    golden, golden_pim = GoldenDevice(compiled.config.array), GoldenPimDevice(compiled.config.pim, compiled.config.channels)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        checked: tuple[CheckedSession, CheckedPimSession] | None = None
        array: Session
        pim: PimSession
        if devices is None:
            array, pim = golden.open(len(compiled.dram)), golden_pim.open()
        else:
            timing = devices[0].timing
            array = CheckedSession(devices[0].open(len(compiled.dram)), golden, pool, asdict(timing))
            pim = CheckedPimSession(devices[1].open(stall=timing.stall, seed=timing.seed % _PIM_SEEDS), golden_pim)
            checked = array, pim
        stack.callback(array.close)
        stack.callback(pim.close)
        generator, cycles = SystemGenerator(array, pim, compiled), _Cycles(compiled, found.timed)

        def run(phase: SystemPhase, tokens: Sequence[int]) -> SystemStep | None:
            """Feed tokens; return the last step, or None where a device went wrong."""
            last = None
            for step in generator.feed(tokens):
                phase.add(step, cycles.of)
                if checked is not None:
                    found.match = checked[0].match and checked[1].match
                    found.differs = checked[0].replay or checked[1].differs
                if found.match is False:
                    return None
                if fed is not None and phase is found.prefill:
                    fed(phase.tokens)
                last = step
            return last

        go_on(found, run, prompt, count, sampler, end_tokens=end_tokens, token=token)
    return found
