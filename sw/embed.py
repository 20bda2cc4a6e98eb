"""Sentence embeddings on a device: a BERT encoder compiled once, then one run for each sentence.

The host looks up word embeddings; everything after that, up to the vector of length one, is the device's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.device import Result, Session
from sw.engines import default_weights
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.encoder import EncoderMemory, encoder_memory, encoder_program
from sw.kernels.transformer.shape import PAGE, ShapeError
from sw.layout import round_up
from sw.models.bert import BertConfig, BertWeights
from sw.models.bert_image import place_encoder, place_words
from sw.program import Program

__all__ = ["CompiledEncoder", "Embedder", "Embedding"]

LARGEST_CHUNK = 64


class CompiledEncoder:
    """A model's program for a config, and the memory that it starts from.

    Parameters
    ----------
    config : AcceleratorConfig
    model : BertConfig
    weights : BertWeights
    chunk : int or None
        Tokens at once, a power of two; by default the most that fit, up to 64.
    weight_format : str or None
        Format of the layers' matrices; by default the config's first packed one.

    Attributes
    ----------
    config, model, weights
    chunk : int
    memory : EncoderMemory
    program : Program
    dram : ndarray
        Memory as the host writes it before the first run, uint8.

    Raises
    ------
    ShapeError, AreaError, ConfigError
        If the config cannot run the model, or not in such chunks; the text names the limit.
    ValueError
        If a weight is not finite; the text names it.
    """

    def __init__(self, config: AcceleratorConfig, model: BertConfig, weights: BertWeights, *, chunk: int | None = None,
                 weight_format: str | None = None):
        self.config, self.model, self.weights = config, model, weights
        self.chunk, self.memory, self.program = self._compile(
            chunk, default_weights(config) if weight_format is None else weight_format)
        self.dram: npt.NDArray[np.uint8] = np.zeros(round_up(self.program.memory_bytes, PAGE), np.uint8)
        place_encoder(config, model, self.memory, weights, self.dram)

    def _compile(self, chunk: int | None, weight_format: str) -> tuple[int, EncoderMemory, Program]:
        """Return chunk, memory and program; of several chunks the largest that the config can run."""
        size, least = LARGEST_CHUNK if chunk is None else chunk, max(2, self.config.beat_bytes // 4)
        while True:
            try:
                memory = encoder_memory(self.config, self.model, tokens=size, weight_format=weight_format)
                return size, memory, encoder_program(self.config, memory, code_addr=round_up(memory.end, PAGE))
            except (AreaError, ShapeError):
                if chunk is not None or size <= least:
                    raise
                size //= 2

    def macs(self, tokens: int) -> int:
        """Return the useful multiply-accumulates of a sentence, padding of heads left out."""
        model = self.model
        return model.layers * tokens * (4 * model.hidden**2 + 2 * model.hidden * model.ffn + 2 * tokens * model.hidden)


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding:
    """One sentence.

    Attributes
    ----------
    tokens : int
    vector : ndarray
        (hidden,) float32, of length one.
    result : Result
    """

    tokens: int
    vector: npt.NDArray[np.float32]
    result: Result


class Embedder:
    """A model on a device.

    Parameters
    ----------
    session : Session
        With at least as much memory as `compiled.dram`.
    compiled : CompiledEncoder
    """

    def __init__(self, session: Session, compiled: CompiledEncoder):
        self.session, self.compiled = session, compiled
        session.memory[:len(compiled.dram)] = compiled.dram

    def embed(self, tokens: Sequence[int]) -> Embedding:
        """Return the embedding of a sentence.

        Raises
        ------
        ValueError
            If there are no tokens, more than the model has positions, or one is none of the vocabulary.
        """
        compiled = self.compiled
        place_words(compiled.model, compiled.memory, compiled.weights, tokens, self.session.memory)
        result = self.session.run(compiled.program, {"count": len(tokens)})
        vector = result.outputs["embedding"][:4 * compiled.model.hidden].view(np.float32).copy()
        return Embedding(tokens=len(tokens), vector=vector, result=result)
