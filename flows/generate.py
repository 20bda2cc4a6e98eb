"""Generates text on a device, every run compared with the golden device, and counts."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from flows.checked import CheckedSession
from flows.profile import ProfiledDevice, ProfiledSession
from flows.text_loop import go_on
from sw.device import Session
from sw.generate import CompiledModel, Generator, Step, check_length
from sw.golden.device import GoldenDevice
from sw.kernels.transformer.traffic import decode_bytes
from sw.perf import MemoryModel, Prediction, predict
from sw.program import RESYNC
from sw.sampling import Sampler

__all__ = ["Generation", "Phase", "generate"]


@dataclass(kw_only=True, slots=True)
class Phase:
    """Sums over the runs of the prompt, or of the tokens after it.

    Attributes
    ----------
    runs, tokens : int
    cycles : int
        Doorbell to stop; 0 on the golden device, which has no time.
    predicted_cycles : int
        By `sw.perf`.
    seconds : float
        Of simulation.
    counters : dict of str to int
    kernels, predicted_kernels : dict of str to int
        Cycles by kernel: sampled (see `flows.profile`), and by `sw.perf`.
    read, written : dict of str to int
        Bytes by `sw.kernels.transformer.traffic`, where activations stay on the chip: all but instructions.
    """

    runs: int = 0
    tokens: int = 0
    cycles: int = 0
    predicted_cycles: int = 0
    seconds: float = 0.0
    counters: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    predicted_kernels: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)

    def add(self, step: Step, seconds: float, kernels: dict[str, int]) -> None:
        """Add a run."""
        self.runs += 1
        self.tokens += step.count
        self.cycles += step.result.cycles
        self.seconds += seconds
        self.counters.update(step.result.counters)
        self.kernels.update(kernels)

    def add_bytes(self, compiled: CompiledModel, step: Step) -> None:
        """Add the bytes of a token by their formula."""
        found = decode_bytes(compiled.config, compiled.memory, step.position, resync=bool(step.args.get(RESYNC)))
        self.read.update(found.read)
        self.written.update(found.written)

    def add_prediction(self, prediction: Prediction) -> None:
        """Add what a run was predicted to take."""
        self.predicted_cycles += prediction.cycles
        self.predicted_kernels.update(prediction.kernels)


@dataclass(kw_only=True, slots=True)
class Generation:
    """A prompt and what came after it.

    Attributes
    ----------
    compiled : CompiledModel
    tokens : list of int
        Generated, in order, without one that ends the text.
    ended : bool
        Whether the model ended the text itself.
    match : bool or None
        All of memory, and so every logit and token, equal to the golden device's after every run; None on that itself.
    replay : str or None
        Where the run that differed was saved.
    prefill, decode : Phase
    build_seconds : float
    """

    compiled: CompiledModel
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    match: bool | None = None
    replay: str | None = None
    prefill: Phase = field(default_factory=Phase)
    decode: Phase = field(default_factory=Phase)
    build_seconds: float = 0.0

    @property
    def run_seconds(self) -> float:
        """Of simulation, so far."""
        return self.prefill.seconds + self.decode.seconds

    @property
    def timed(self) -> bool:
        """Whether the device knows cycles."""
        return self.prefill.cycles > 0

    def per_token(self, cycles: int) -> float | None:
        """Return a sum over the decode runs for each of them, if there were any and it is known."""
        return cycles / self.decode.runs if self.decode.runs and cycles else None

    def utilization(self, *phases: Phase) -> float | None:
        """Return MACs over what the array could have done, in cycles from doorbell to stop; None without time."""
        cycles = sum(phase.cycles for phase in phases)
        macs = sum(phase.counters["macs"] for phase in phases)
        return macs / (cycles * self.compiled.config.peak_macs_per_cycle) if cycles else None

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """Name, cycles in the prompt, and for each token after it; sampled where the device knows cycles, else predicted."""
        prefill, decode = ((phase.kernels if self.timed else phase.predicted_kernels) for phase in (self.prefill, self.decode))
        return [{"name": name, "prefill_cycles": prefill[name], "cycles_per_token": self.per_token(decode[name]) or 0.0}
                for name in {**prefill, **decode}]

    @property
    def bytes_per_token(self) -> dict[str, dict[str, float]] | None:
        """Bytes "read" and "written" for each token after the prompt, by term; None where activations do not stay on the chip.

        "instructions" are what the counters have besides, where the device has them.
        """
        decode, runs = self.decode, self.decode.runs
        if not decode.read:
            return None
        found = {"read": dict(decode.read), "written": dict(decode.written)}
        if self.timed:
            found["read"]["instructions"] = decode.counters["bytes_read"] - sum(decode.read.values())
        return {way: {name: count / runs for name, count in terms.items()} for way, terms in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what was made and what it took, as plain JSON types."""
        prefill, decode, timed = self.prefill, self.decode, self.timed
        read = prefill.counters["bytes_read"] + decode.counters["bytes_read"]
        return {
            "match": self.match, "tokens": self.tokens, "ended": self.ended, "prompt_tokens": prefill.tokens,
            "chunk": self.compiled.chunk, "context": self.compiled.context,
            "prefill_cycles": prefill.cycles or None, "cycles_per_token": self.per_token(decode.cycles),
            "predicted_prefill_cycles": prefill.predicted_cycles,
            "predicted_cycles_per_token": self.per_token(decode.predicted_cycles),
            "utilization": self.utilization(prefill, decode), "prefill_utilization": self.utilization(prefill),
            "decode_utilization": self.utilization(decode), "peak_macs_per_cycle": self.compiled.config.peak_macs_per_cycle,
            "weight_bytes": self.compiled.weight_bytes, "bytes_read": read if timed else None,
            "bytes_written": prefill.counters["bytes_written"] + decode.counters["bytes_written"],
            "bytes_read_per_token": self.per_token(decode.counters["bytes_read"]),
            "bytes_written_per_token": self.per_token(decode.counters["bytes_written"]), "bytes_per_token": self.bytes_per_token,
            "kernels": self.kernels, "kernels_by": "sampled" if timed else "predicted",
            "tokens_per_second": decode.runs / decode.seconds if timed and decode.runs else None,
            "sim_cycles_per_second": (prefill.cycles + decode.cycles) / self.run_seconds if timed else None,
            "build_seconds": self.build_seconds, "run_seconds": self.run_seconds,
            "counters": {"prefill": dict(prefill.counters), "decode": dict(decode.counters)}, "replay": self.replay,
        }


def generate(compiled: CompiledModel, device: ProfiledDevice | None, prompt: Sequence[int], count: int, sampler: Sampler, *,
             end_tokens: frozenset[int] = frozenset(), memory: MemoryModel | None = None,
             fed: Callable[[int], None] | None = None, token: Callable[[int], None] | None = None) -> Generation:
    """Feed a prompt and generate up to `count` tokens; it stops at an end token, or where the device differs from the golden one.

    Parameters
    ----------
    compiled : CompiledModel
    device : ProfiledDevice or None
        By default the golden device alone.
    prompt : sequence of int
    count : int
    sampler : Sampler
    end_tokens : frozenset of int
    memory : MemoryModel or None
        What the prediction takes the memory for.
    fed : function of int, or None
        Called with the prompt's tokens so far after each of its chunks.
    token : function of int, or None
        Called with each token as it comes.

    Raises
    ------
    ContextError
        If the cache does not hold prompt and tokens; nothing has run then.
    """
    check_length(len(prompt), count, compiled.context)
    found = Generation(compiled=compiled)
    golden, size = GoldenDevice(compiled.config), len(compiled.dram)
    stays = compiled.memory.on_chip(compiled.config) is not None
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        sim: ProfiledSession | None = None
        checked: CheckedSession | None = None
        session: Session
        if device is None:
            session = golden.open(size)
        else:
            sim = device.open(size)
            found.build_seconds = device.build_seconds
            session = checked = CheckedSession(sim, golden, pool, asdict(device.timing))
        stack.callback(session.close)
        generator = Generator(session, compiled)
        predictions: list[tuple[Phase, Future[Prediction]]] = []

        def run(phase: Phase, tokens: Sequence[int]) -> Step | None:
            """Feed tokens; return the last step, or None where the device went wrong."""
            last = None
            for step in generator.feed(tokens):
                seconds = 0.0 if sim is None else sim.run_seconds - found.run_seconds
                phase.add(step, seconds, {} if sim is None else sim.kernels)
                if stays and phase is found.decode:
                    phase.add_bytes(compiled, step)
                predictions.append((phase, pool.submit(predict, compiled.config, step.program, step.args, memory)))
                if checked is not None:
                    found.match, found.replay = checked.match, checked.replay
                if found.match is False:
                    return None
                if fed is not None and phase is found.prefill:
                    fed(phase.tokens)
                last = step
            return last

        go_on(found, run, prompt, count, sampler, end_tokens=end_tokens, token=token)
        for phase, prediction in predictions:
            phase.add_prediction(prediction.result())
    return found
