"""A language model on an array with a PIM beside it: the array reads the prompt, a transfer moves the cache, both decode.

Of each token the array makes norms, queries, keys, values, positions, the output of attention, SiLU and logits; the PIM attends,
or multiplies by the MLP's matrices, or both, as the placement says. Where it does not attend, the cache stays the array's. The
host looks up embeddings, chooses tokens, and carries rows between the two memories: it computes nothing. Rows of float32 are
rounded to the format of the PIM's activations on their way.

Results do not depend on what devices are, golden or RTL; nor, where channels share heads, on how many there are: heads and
outputs are each computed by one channel alone. Where channels share tokens, their number decides what is merged in which order.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.system import SystemConfig
from sw.device import Result, Session
from sw.generate import CompiledModel, ContextError, Generator
from sw.golden.llama import LlamaConfig, LlamaWeights
from sw.kernels.transformer.offload import offload_programs
from sw.kernels.transformer.shape import PAGE
from sw.layout import round_up
from sw.models.llama_image import place_embeddings
from sw.pim.cache_plan import CachePlan
from sw.pim.decode import attend_token, longest_programs
from sw.pim.device import PimSession
from sw.pim.linear import LinearPlan, linear_inputs, linear_outputs, linear_program
from sw.pim.program import PimProgram
from sw.pim.transfer import KvTransfer, transfer_cycles
from sw.program import Program

__all__ = ["CompiledSystem", "SystemGenerator", "SystemRun", "SystemStep"]

Floats = npt.NDArray[np.float32]


class CompiledSystem:
    """A model's programs for a system, and the memory that they start from.

    Parameters
    ----------
    config : SystemConfig
    model : LlamaConfig
    weights : LlamaWeights
    context : int or None
        Tokens that the cache holds; by default, and at most, the model's.
    chunk : int or None
        Tokens of the prompt at once.

    Attributes
    ----------
    base : CompiledModel
        What the array runs of the prompt.
    offload : OffloadPrograms
        What it runs of each token.
    cache : CachePlan or None
    transfer : KvTransfer or None
        None where attention stays on the array.
    up, down : tuple of (LinearPlan, PimProgram)
        Of each layer: gate and up together, and down; empty where the MLP stays on the array.
    dram : ndarray
        The array's memory as the host writes it before the first run, uint8.

    Raises
    ------
    ContextError, ShapeError, AreaError, ConfigError
        If one of the devices cannot run its part, or has no room; the text names the limit.
    """

    def __init__(self, config: SystemConfig, model: LlamaConfig, weights: LlamaWeights, *, context: int | None = None,
                 chunk: int | None = None):
        self.config, self.model, self.weights = config, model, weights
        context = model.context if context is None else context
        if model.heads % model.kv_heads:
            raise ConfigError(f"the model's heads must be a multiple of its {model.kv_heads} KV heads, not {model.heads}")
        self.base = CompiledModel(config.array, model, weights, context=context, chunk=chunk)
        attends, mlp = (config.device_of(kernel) == "pim" for kernel in ("attention", "ffn"))
        self.offload = offload_programs(config.array, self.base.memory, len(self.base.dram), attention=attends, mlp=mlp)
        self.cache: CachePlan | None = None
        self.transfer: KvTransfer | None = None
        if attends:
            self._place_cache(context)
        self.up: tuple[tuple[LinearPlan, PimProgram], ...] = ()
        self.down: tuple[tuple[LinearPlan, PimProgram], ...] = ()
        if mlp:
            self._place_mlp()
        self.dram: npt.NDArray[np.uint8] = np.zeros(round_up(self.offload.end, PAGE), np.uint8)
        self.dram[:len(self.base.dram)] = self.base.dram
        # The true size of a head: padding is of zeros.
        self.scale = np.float32(np.log2(np.e) / np.sqrt(model.head_dim))

    def _place_cache(self, context: int) -> None:
        """Place the cache at the beginning of the banks."""
        config, model, shape = self.config, self.model, self.offload.shape
        self.cache = CachePlan(config=config.pim, channels=config.channels, layers=model.layers, kv_heads=model.kv_heads,
                               group=model.heads // model.kv_heads, head_dim=shape.head_dim, max_tokens=context,
                               split=config.split)
        longest_programs(self.cache)                            # refuses what cannot be merged
        self.transfer = KvTransfer(source=shape.kv, addr=self.base.memory.regions["cache"][0],
                                   layer_bytes=self.base.memory.cache_bytes, target=self.cache)

    def _place_mlp(self) -> None:
        """Place all layers' matrices behind the cache, norms folded in."""
        model, addr = self.model, self.cache.end if self.cache else 0
        up: list[tuple[LinearPlan, PimProgram]] = []
        down: list[tuple[LinearPlan, PimProgram]] = []
        for number, layer in enumerate(self.weights.layers):
            for name, matrix, into in (("gate and up", np.concatenate((layer.gate, layer.up)) * layer.mlp_norm, up),
                                       ("down", layer.down, down)):
                plan = LinearPlan(config=self.config.pim, channels=self.config.channels, n=matrix.shape[0], k=matrix.shape[1],
                                  addr=addr)
                into.append((plan, linear_program(plan, f"{name} of layer {number}", matrix)))
                addr = plan.end
        assert all(plan.k == model.hidden for plan, _ in up)
        self.up, self.down = tuple(up), tuple(down)

    @property
    def context(self) -> int:
        """Tokens that the cache holds."""
        return self.base.context

    @property
    def longest_list(self) -> int:
        """Commands of the longest list that a channel of the PIM gets."""
        programs = [program for _, program in self.up + self.down]
        if self.cache is not None:
            programs += longest_programs(self.cache)
        return max(len(words) for program in programs for words in program.lists)


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemRun:
    """One run of a program, or one transfer.

    Attributes
    ----------
    device : str
        "array", "pim" or "transfer".
    name : str
    cycles : int
        Of the device, each of its own clock; of a transfer, those of the link (`SystemConfig.link_bytes`).
    nbytes : int
        That a transfer moves, else 0.
    program : Program, PimProgram or None
    args : dict of str to int
    counters : dict of str to int
    """

    device: str
    name: str
    cycles: int
    nbytes: int = 0
    program: Program | PimProgram | None = None
    args: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemStep:
    """Tokens that were fed: how many, what ran, and the logits behind the last one, (vocabulary,) float32, if they were made."""

    count: int
    runs: tuple[SystemRun, ...]
    logits: Floats | None

    def cycles(self) -> Counter[str]:
        """Return the cycles by device."""
        found: Counter[str] = Counter()
        for run in self.runs:
            found[run.device] += run.cycles
        return found


class SystemGenerator:
    """A sequence of tokens on a system.

    Parameters
    ----------
    array : Session
        With at least as much memory as `compiled.dram`.
    pim : PimSession
        Of the system's PIM and as many channels.
    compiled : CompiledSystem

    Attributes
    ----------
    position : int
        Tokens of the sequence so far.
    """

    def __init__(self, array: Session, pim: PimSession, compiled: CompiledSystem):
        self.array, self.pim, self.compiled = array, pim, compiled
        self.position = 0
        self._prompt = Generator(array, compiled.base)
        array.memory[:len(compiled.dram)] = compiled.dram
        self._runs: list[SystemRun] = []

    def feed(self, tokens: Sequence[int]) -> Iterator[SystemStep]:
        """Append tokens: the first time in chunks on the array, then one by one on both devices.

        Raises
        ------
        ContextError
            If the cache does not hold them; nothing has run then.
        ValueError
            If a token is none of the vocabulary.
        """
        if self.position + len(tokens) > self.compiled.context:
            raise ContextError(f"the sequence must have at most {self.compiled.context} tokens, the context, "
                               f"not {self.position + len(tokens)}")
        if self.position == 0:
            yield from self._feed_prompt(tokens)
        else:
            for token in tokens:
                yield self._decode(token)

    def _feed_prompt(self, tokens: Sequence[int]) -> Iterator[SystemStep]:
        for step in self._prompt.feed(tokens):
            self.position += step.count
            self._ran("array", step.program, step.result, step.args)
            transfer = self.compiled.transfer
            if self.position == len(tokens) and transfer is not None:
                transfer.run(self.array.memory, self.pim.memory, self.position)
                self._moved("keys and values", transfer.bytes_read(self.position))
            yield self._step(step.count, step.logits)

    def _decode(self, token: int) -> SystemStep:
        compiled, offload = self.compiled, self.compiled.offload
        memory = compiled.base.memory
        place_embeddings(memory, compiled.weights, [token], self.array.memory)
        self._write("delta", np.zeros(compiled.model.hidden, np.float32), moved=False)
        for layer in range(compiled.model.layers):
            weights = {"weights": memory.regions["weights"][0] + layer * memory.runs[0].layer_bytes}
            position = {"position": self.position}
            if offload.before_attention is None:
                cache = {"cache": memory.regions["cache"][0] + layer * memory.cache_bytes}
                self._run_array(offload.before_mlp, {**position, **weights, **cache})
            else:
                self._run_array(offload.before_attention, {**position, **weights})
                self._attend(layer)
                self._run_array(offload.before_mlp, weights)
            if offload.gate is not None:
                self._write("gated", self._multiply(*compiled.up[layer], self._read("normed", compiled.model.hidden)))
                self._run_array(offload.gate, {})
                self._write("delta", self._multiply(*compiled.down[layer], self._read("hidden", compiled.model.ffn)))
        result = self._run_array(offload.head, {})
        self.position += 1
        return self._step(1, result.outputs["logits"][:4 * compiled.model.vocab].view(np.float32))

    def _attend(self, layer: int) -> None:
        compiled, shape, cache = self.compiled, self.compiled.offload.shape, self.compiled.cache
        assert cache is not None
        turned = self._read("turned", (shape.heads + shape.kv_heads) * shape.head_dim).reshape(-1, shape.head_dim)
        values = self._read("qkv", shape.kv_heads * shape.head_dim, turned.size).reshape(-1, shape.head_dim)
        token = turned[:shape.heads], turned[shape.heads:], values
        context = attend_token(cache, layer, self.position + 1, compiled.scale, token, self._run_pim, self._moved)
        self._write("context", context.reshape(-1))

    def _multiply(self, plan: LinearPlan, program: PimProgram, x: Floats) -> Floats:
        result = self._run_pim(program, linear_inputs(plan, program, x[None]))
        return linear_outputs(plan, result.outputs, 1)[0]

    # What moves between the devices, and what is written down ------------------------------------------------------

    def _read(self, region: str, count: int, start: int = 0) -> Floats:
        addr = self.compiled.offload.regions[region][0] + 4 * start
        self._moved(region, 4 * count)
        return self.array.memory[addr:addr + 4 * count].view(np.float32).copy()

    def _write(self, region: str, values: Floats, *, moved: bool = True) -> None:
        addr, size = self.compiled.offload.regions[region]
        assert values.nbytes <= size
        if moved:
            self._moved(region, values.nbytes)
        self.array.memory[addr:addr + values.nbytes] = np.ascontiguousarray(values).view(np.uint8)

    def _moved(self, name: str, nbytes: int) -> None:
        cycles = transfer_cycles(nbytes, self.compiled.config.link_bytes)
        self._runs.append(SystemRun(device="transfer", name=name, cycles=cycles, nbytes=nbytes))

    def _run_array(self, program: Program, args: dict[str, int]) -> Result:
        result = self.array.run(program, args)
        self._ran("array", program, result, args)
        return result

    def _run_pim(self, program: PimProgram, inputs: dict[str, Floats]) -> Result:
        result = self.pim.run(program, None, inputs)
        self._ran("pim", program, result, {})
        return result

    def _ran(self, device: str, program: Program | PimProgram, result: Result, args: dict[str, int]) -> None:
        self._runs.append(SystemRun(device=device, name=program.name, cycles=result.cycles, program=program, args=args,
                                    counters=result.counters))

    def _step(self, count: int, logits: Floats | None) -> SystemStep:
        runs, self._runs = tuple(self._runs), []
        return SystemStep(count=count, runs=runs, logits=logits)
