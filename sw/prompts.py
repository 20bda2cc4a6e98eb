"""A prompt in one chunk with the logits of all its tokens, and one token after the other behind it: programs and memory."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.generate import check_length
from sw.golden.llama import LlamaConfig, LlamaWeights
from sw.kernels.transformer.decoder import DecoderMemory, decoder_memory, decoder_program
from sw.kernels.transformer.shape import PAGE, ShapeError
from sw.layout import round_up
from sw.models.llama_image import place_embeddings, place_model
from sw.program import Program

__all__ = ["LARGEST_PROMPT", "PromptPrograms"]

LARGEST_PROMPT = 64


class PromptPrograms:
    """What `sw.generate.CompiledModel` does not have: logits behind every token of a chunk.

    Parameters
    ----------
    config : AcceleratorConfig
        With a vector unit for transformers.
    model : LlamaConfig
    weights : LlamaWeights
    length, generated : int
        Tokens of the prompt, 2 to 64, and tokens after it.
    limits : mapping of str to float, or None
        As in `sw.kernels.transformer.decoder.decoder_program`.

    Attributes
    ----------
    memory : DecoderMemory
    prompt, step : Program
        A prompt of that length from position 0 on; one token.
    dram : ndarray
        Weights and angles, uint8; both programs share it.

    Raises
    ------
    ContextError
        If the model's context does not hold the tokens.
    ShapeError, AreaError
        If the config cannot run the model.
    """

    def __init__(self, config: AcceleratorConfig, model: LlamaConfig, weights: LlamaWeights, length: int, generated: int, *,
                 limits: Mapping[str, float] | None = None):
        check_length(length, generated, model.context)
        if not 2 <= length <= LARGEST_PROMPT:
            raise ShapeError(f"the prompt must have 2 to {LARGEST_PROMPT} tokens, not {length}")
        self.model, self.weights, self.length = model, weights, length
        rows = max(1 << (length - 1).bit_length(), config.beat_bytes // 4)
        self.memory: DecoderMemory = decoder_memory(config, model, tokens=rows, logits_rows=rows, context=length + generated)
        end = round_up(self.memory.end, PAGE)
        self.prompt: Program = decoder_program(config, self.memory, tokens=rows, code_addr=end, head="all", limits=limits)
        self.step: Program = decoder_program(config, self.memory, tokens=1, code_addr=end, limits=limits)
        self.dram: npt.NDArray[np.uint8] = np.zeros(end, np.uint8)
        place_model(config, self.memory, weights, self.dram)

    @property
    def prompt_args(self) -> dict[str, int]:
        """Arguments of the prompt's program."""
        return {"position": 0, "count": self.length}

    def place(self, tokens: Sequence[int], dram: npt.NDArray[np.uint8]) -> None:
        """Write the embeddings of a prompt, or of one token, into `dram`."""
        place_embeddings(self.memory, self.weights, tokens, dram)

    def logits(self, dram: npt.NDArray[np.uint8], rows: int) -> npt.NDArray[np.float32]:
        """Return a copy of the logits of the first `rows` tokens in DRAM, (…, bytes) uint8 → (…, rows, vocabulary)."""
        start, _ = self.memory.regions["logits"]
        words = dram[..., start:start + rows * self.memory.logits_row].copy().view(np.float32)
        return words.reshape(*dram.shape[:-1], rows, -1)[..., :self.model.vocab]
