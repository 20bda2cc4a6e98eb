"""A language model on a device: compiled once, then text token by token; the host looks up embeddings and chooses, nothing else.

Three programs share the model's memory: chunks of the prompt without logits, the prompt's last chunk, one token. The last serves
every position, since the position is an argument.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.device import Result, Session
from sw.engines import default_weights
from sw.golden.llama import LlamaConfig, LlamaWeights
from sw.golden.token.angles import RESYNC as RESYNC_POSITIONS
from sw.kernels.transformer.areas import AreaError
from sw.kernels.transformer.decoder import DecoderMemory, decoder_memory, decoder_program
from sw.kernels.transformer.shape import PAGE, ShapeError
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.layout import round_up
from sw.models.llama_image import place_angles, place_embeddings, place_model
from sw.program import RESYNC, Program

__all__ = ["CompiledModel", "ContextError", "Generator", "Step", "check_length"]

LARGEST_CHUNK = 64


class ContextError(ValueError):
    """A prompt, or tokens to be generated, that the context does not hold; or none at all."""


def check_length(prompt: int, count: int, context: int) -> None:
    """Refuse a prompt of so many tokens, or as many more, that do not fit into `context` tokens.

    Raises
    ------
    ContextError
        The text names the limit.
    """
    if context < 1:
        raise ContextError(f"the context must be at least 1 token, not {context}")
    if prompt < 1:
        raise ContextError("the prompt must have at least one token, not none")
    if count < 1:
        raise ContextError(f"the tokens to generate must be at least 1, not {count}")
    if prompt > context:
        raise ContextError(f"the prompt must have at most {context} tokens, the context, not {prompt}")
    if prompt + count > context:
        raise ContextError(f"prompt and generated tokens must be at most {context} together, the context, "
                           f"not {prompt} + {count} = {prompt + count}")


class CompiledModel:
    """A model's programs for a config, and the memory that they start from.

    Parameters
    ----------
    config : AcceleratorConfig
    model : LlamaConfig
    weights : LlamaWeights
    context : int or None
        Tokens that the cache holds; by default, and at most, the model's.
    chunk : int or None
        Tokens of the prompt at once, a power of two; by default the most that fit, up to 64.
    kv : str
        Format of keys and values, one of `sw.kernels.transformer.shape.KV_FORMATS`.
    limits : mapping of str to float, or None
        Largest magnitude of what each linear makes (`sw.calibration`); for configs with range restriction.
    plan : WeightPlan or None
        Formats of weights; by default the config's first packed one for the layers, and plain for the output matrix.

    Attributes
    ----------
    config, model, weights
    context, chunk : int
    memory : DecoderMemory
    fill, prefill, decode : Program
        A chunk of tokens, without logits and with those of the last one; one token with its logits. All one with a chunk of 1.
    dram : ndarray
        Memory as the host writes it before the first run, uint8: weights and angles.

    Raises
    ------
    ContextError
        If the context cannot be.
    ShapeError, AreaError, ConfigError
        If the config cannot run the model, or not in such chunks; the text names the limit.
    ValueError
        If a weight is not finite; the text names it.
    """

    def __init__(self, config: AcceleratorConfig, model: LlamaConfig, weights: LlamaWeights, *, context: int | None = None,
                 chunk: int | None = None, kv: str = "int8", limits: Mapping[str, float] | None = None,
                 plan: WeightPlan | None = None):
        self.config, self.model, self.weights = config, model, weights
        self.context = model.context if context is None else context
        if not 1 <= self.context <= model.context:
            raise ContextError(f"the context must be between 1 and the model's {model.context} tokens, not {context}")
        if chunk is not None and (chunk < 1 or chunk & (chunk - 1)):
            raise ShapeError(f"the chunk must be a power of two, not {chunk}")
        self._limits = limits
        memory = partial(decoder_memory, config, model, context=self.context, kv=kv,
                         plan=WeightPlan.uniform(model.layers, default_weights(config)) if plan is None else plan)
        self.chunk, self.memory, (self.fill, self.prefill, self.decode) = self._programs(chunk, memory)
        self.dram: npt.NDArray[np.uint8] = np.zeros(round_up(max(
            program.memory_bytes for program in (self.fill, self.prefill, self.decode)), PAGE), np.uint8)
        place_model(config, self.memory, weights, self.dram)

    def _programs(self, chunk: int | None,
                  memory_for: Callable[..., DecoderMemory]) -> tuple[int, DecoderMemory, tuple[Program, Program, Program]]:
        """Return chunk, memory and programs; of several chunks the largest that the config can run."""
        size = LARGEST_CHUNK if chunk is None else chunk
        while True:
            try:
                memory = memory_for(tokens=size)
                return size, memory, self._compile(memory, size)
            except (AreaError, ShapeError):
                if chunk is not None or size == 1:
                    raise
                size //= 2

    def _compile(self, memory: DecoderMemory, chunk: int) -> tuple[Program, Program, Program]:
        programs: list[Program] = []
        addr = round_up(memory.end, PAGE)
        for tokens, head in ((chunk, "none"), (chunk, "last"), (1, "last"))[0 if chunk > 1 else 2:]:
            name = "1 token" if tokens == 1 else f"{tokens} tokens" + (", no logits" if head == "none" else "")
            makes = tokens == 1 and memory.makes_angles(self.config)
            programs.append(decoder_program(self.config, memory, tokens=tokens, code_addr=addr, head=head, limits=self._limits,
                                            name=f"decoder, {name}", make_angles=makes))
            addr = round_up(addr + programs[-1].code_bytes, PAGE)
        return programs[0], programs[len(programs) // 2], programs[-1]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all layers' matrices and the output matrix, with their scales."""
        return self.memory.regions["weights"][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One run of a program.

    Attributes
    ----------
    program : Program
    position, count : int
        First token of the chunk, and how many.
    result : Result
    logits : ndarray or None
        Of the chunk's last token, (vocabulary,) float32; none where the program makes none.
    args : dict of str to int
        The program's arguments.
    """

    program: Program
    position: int
    count: int
    result: Result
    logits: npt.NDArray[np.float32] | None
    args: dict[str, int]


def arguments(program: Program, position: int, count: int, *, resync: bool = True) -> dict[str, int]:
    """Return the arguments of a program for `count` tokens from `position` on.

    `resync`: a source of angles, if it uses one, is set to `position`, not taken as the run of the position before left it.
    """
    values = {"position": position, "count": count, RESYNC: int(resync)}
    return {name: value for name, value in values.items() if name in program.arguments}


class Generator:
    """A sequence of tokens on a device; its keys and values stay in the session's memory.

    Parameters
    ----------
    session : Session
        With at least as much memory as `compiled.dram`.
    compiled : CompiledModel

    Attributes
    ----------
    position : int
        Tokens of the sequence so far.
    """

    def __init__(self, session: Session, compiled: CompiledModel):
        self.session, self.compiled = session, compiled
        self.position = 0
        self._angles: int | None = None         # position of the device's source of angles, where that is known
        session.memory[:len(compiled.dram)] = compiled.dram

    def feed(self, tokens: Sequence[int]) -> Iterator[Step]:
        """Append tokens to the sequence, a chunk at a time; only the last chunk's logits are made.

        Raises
        ------
        ContextError
            If the cache does not hold them; nothing has run then.
        ValueError
            If a token is none of the vocabulary.
        """
        compiled, left = self.compiled, len(tokens)
        if self.position + left > compiled.context:
            raise ContextError(f"the sequence must have at most {compiled.context} tokens, the context, "
                               f"not {self.position + left}")
        while left:
            whole = left > 1 and self.position % compiled.chunk == 0
            count = min(left, compiled.chunk) if whole else 1
            program = compiled.decode if not whole else compiled.prefill if count == left else compiled.fill
            yield self._run(program, tokens[len(tokens) - left:len(tokens) - left + count], logits=count == left)
            left -= count

    def _run(self, program: Program, tokens: Sequence[int], *, logits: bool) -> Step:
        compiled, position, count = self.compiled, self.position, len(tokens)
        place_embeddings(compiled.memory, compiled.weights, tokens, self.session.memory)
        args = arguments(program, position, count, resync=self._angles != position or position % RESYNC_POSITIONS == 0)
        if RESYNC in args:
            place_angles(compiled.memory, position, self.session.memory)
            self._angles = None                 # unless the run comes to its end
        result = self.session.run(program, args)
        if RESYNC in args:
            self._angles = position + 1
        self.position += count
        made = result.outputs["logits"][:4 * compiled.model.vocab].view(np.float32) if logits else None
        return Step(program=program, position=position, count=count, result=result, logits=made, args=args)
