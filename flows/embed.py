"""Embeds sentences on a device, every run compared with the golden device and with the float32 model, and counts."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.checked import CheckedSession
from flows.profile import ProfiledDevice, ProfiledSession
from sw.device import Session
from sw.embed import CompiledEncoder, Embedder, Embedding
from sw.golden.device import GoldenDevice
from sw.models.bert import encode_float
from sw.perf import MemoryModel, Prediction, predict
from sw.workloads import cosine

__all__ = ["Embeddings", "Sentence", "embed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """What a sentence took and gave.

    Attributes
    ----------
    embedding : Embedding
    cosine : float
        With the embedding of the float32 model.
    seconds : float
        Of simulation.
    kernels : dict of str to int
        Cycles by kernel, sampled (see `flows.profile`); empty on the golden device, which has no time.
    prediction : Prediction
        By `sw.perf`.
    """

    embedding: Embedding
    cosine: float
    seconds: float
    kernels: dict[str, int]
    prediction: Prediction


@dataclass(kw_only=True, slots=True)
class Embeddings:
    """Sentences, in order.

    Attributes
    ----------
    compiled : CompiledEncoder
    sentences : list of Sentence
    match : bool or None
        All of memory, and so every vector, equal to the golden device's after every run; None on that itself.
    replay : str or None
        Where the first run that differed was saved.
    build_seconds : float
    """

    compiled: CompiledEncoder
    sentences: list[Sentence] = field(default_factory=list)
    match: bool | None = None
    replay: str | None = None
    build_seconds: float = 0.0

    @property
    def timed(self) -> bool:
        """Whether the device knows cycles."""
        return any(sentence.embedding.result.cycles for sentence in self.sentences)

    @property
    def similarity(self) -> npt.NDArray[np.float64]:
        """Cosines between the sentences, (sentences, sentences)."""
        vectors = np.stack([sentence.embedding.vector for sentence in self.sentences]).astype(np.float64)
        return np.asarray(vectors @ vectors.T)

    @property
    def kernels(self) -> dict[str, int]:
        """Cycles by kernel over all sentences; sampled where the device knows cycles, else predicted."""
        found: dict[str, int] = {}
        for sentence in self.sentences:
            for name, cycles in (sentence.kernels if self.timed else sentence.prediction.kernels).items():
                found[name] = found.get(name, 0) + cycles
        return found

    def utilization(self, sentence: Sentence) -> float | None:
        """Return useful MACs over what the array could have done, in cycles from doorbell to stop; None without time."""
        embedding, peak = sentence.embedding, self.compiled.config.peak_macs_per_cycle
        cycles = embedding.result.cycles
        return self.compiled.macs(embedding.tokens) / (cycles * peak) if cycles else None

    def to_json(self) -> dict[str, Any]:
        """Return what was made and what it took, as plain JSON types."""
        return {
            "match": self.match, "chunk": self.compiled.chunk, "peak_macs_per_cycle": self.compiled.config.peak_macs_per_cycle,
            "sentences": [{
                "tokens": sentence.embedding.tokens, "cosine": sentence.cosine,
                "cycles": sentence.embedding.result.cycles or None, "predicted_cycles": sentence.prediction.cycles,
                "utilization": self.utilization(sentence),
                "run_seconds": sentence.seconds, "counters": sentence.embedding.result.counters,
                "embedding": sentence.embedding.vector.tolist(),
            } for sentence in self.sentences],
            "similarity": self.similarity.tolist(),
            "kernels": self.kernels, "kernels_by": "sampled" if self.timed else "predicted",
            "build_seconds": self.build_seconds, "replay": self.replay,
        }


def embed(compiled: CompiledEncoder, device: ProfiledDevice | None, sentences: Sequence[Sequence[int]], *,
          memory: MemoryModel | None = None, done: Callable[[int], None] | None = None) -> Embeddings:
    """Embed sentences, each a sequence of tokens; it stops where the device differs from the golden one.

    Parameters
    ----------
    compiled : CompiledEncoder
    device : ProfiledDevice or None
        By default the golden device alone.
    sentences : sequence of sequences of int
    memory : MemoryModel or None
        What the prediction takes the memory for.
    done : function of int, or None
        Called with the sentences so far.
    """
    found = Embeddings(compiled=compiled)
    golden, size = GoldenDevice(compiled.config), len(compiled.dram)
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
        embedder = Embedder(session, compiled)
        seconds = 0.0
        for tokens in sentences:
            embedding = embedder.embed(tokens)
            took, seconds = (0.0, 0.0) if sim is None else (sim.run_seconds - seconds, sim.run_seconds)
            found.sentences.append(Sentence(
                embedding=embedding, seconds=took, kernels={} if sim is None else sim.kernels,
                cosine=cosine(embedding.vector, encode_float(compiled.model, compiled.weights, tokens)),
                prediction=predict(compiled.config, compiled.program, {"count": len(tokens)}, memory)))
            if checked is not None:
                found.match, found.replay = checked.match, checked.replay
            if done is not None:
                done(len(found.sentences))
            if found.match is False:
                break
    return found
