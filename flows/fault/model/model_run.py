"""A prompt and the tokens after it on the golden device, with every tile of its matrix commands, and what becomes of it when some
of a tile's psums are wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Dataflow, Unit
from sw.golden.array.systolic import matrix_operands
from sw.golden.branch import advance, begin, branch, commands_of
from sw.golden.llama import LlamaConfig, LlamaWeights
from sw.golden.sequencer import Event
from sw.golden.state import State
from sw.prompts import PromptPrograms

__all__ = ["Corruption", "ModelRun", "Outcomes", "Point", "Tile"]

LARGEST_BATCH = 32              # runs side by side: more are no faster, and each takes the memory of the model

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Tile:
    """R rows of K and C columns of N of one matrix command: what a weight-stationary array does between two loads of weights.

    Attributes
    ----------
    command : int
        Number of the command in the prompt's program.
    k, n : int
        Number of its group of R along K, and of C along N.
    kernel : str
        Phase of the model.
    layer : int
        How often the phase has come before.
    """

    command: int
    k: int
    n: int
    kernel: str
    layer: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """Psums of a tile that are wrong: at `rows`, `columns` of it `differences` are added, each (words,) int64."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    differences: npt.NDArray[np.int64]

    def key(self) -> bytes:
        """Return what is equal for equal corruptions."""
        return b"".join(np.ascontiguousarray(part, "<i8").tobytes() for part in (self.rows, self.columns, self.differences))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """What runs gave.

    Attributes
    ----------
    tokens : (runs, generated) ndarray of int
        By greatest logit; −1 from where a logit is NaN on.
    predictions : (runs, prompt) ndarray of int
        The token of the greatest logit behind each one of the prompt; −1 where a logit is NaN.
    bits : (runs,) ndarray of float64
        Mean information of a token of the prompt but the first, −log2 of its probability; NaN where a logit is.
    """

    tokens: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]
    bits: npt.NDArray[np.float64]


class Point:
    """The state of the run before the tile's command, and what is needed of it.

    Attributes
    ----------
    tile : Tile
    activations, weights : ndarray, int8
        The tile's operands, (m, R) and (R, C), zero where the command has none.
    """

    def __init__(self, run: "ModelRun", state: State, tile: Tile):
        self._run, self._state, self.tile = run, state, tile
        config, fields = run.config, run.commands[tile.command].fields
        a, b = matrix_operands(state, fields)
        places = (tile.k, config.rows), (tile.n, config.columns)
        rows, columns = (slice(index * size, (index + 1) * size) for index, size in places)
        self.activations = _padded(a[:, rows], fields["m"], config.rows)
        self.weights = _padded(b[rows, columns], config.rows, config.columns)

    def outcomes(self, corruptions: Sequence[Corruption]) -> Outcomes:
        """Return what the model makes of each corruption of the tile: only what comes behind it is computed, side by side."""
        parts = [self._side_by_side(corruptions[start:start + LARGEST_BATCH])
                 for start in range(0, len(corruptions), LARGEST_BATCH)]
        return Outcomes(**{name: np.concatenate([getattr(part, name) for part in parts])
                           for name in ("tokens", "predictions", "bits")})

    def _side_by_side(self, corruptions: Sequence[Corruption]) -> Outcomes:
        run, tile = self._run, self.tile
        event = run.commands[tile.command]
        done = branch(self._state)
        advance(done, [event])
        runs = branch(done, len(corruptions))
        first = event.fields["acc_addr"] + tile.n * event.fields["acc_tile_stride"]
        high = (1 << (run.config.acc_width - 1)) - 1
        for accumulator, corruption in zip(runs.accumulator, corruptions, strict=True):
            accumulator[first + corruption.rows, corruption.columns] += corruption.differences
        np.clip(runs.accumulator, -high - 1, high, out=runs.accumulator)
        advance(runs, run.commands[tile.command + 1:])
        return run.finish(runs)


class ModelRun:
    """A prompt in one chunk, and tokens generated greedily, on the golden device.

    Parameters
    ----------
    config : AcceleratorConfig
        With a vector unit for transformers.
    model : LlamaConfig
    weights : LlamaWeights
    prompt : sequence of int
        At least 2 and at most 64 tokens.
    generated : int
        Tokens after it, at least 1.
    limits : mapping of str to float, or None
        As in `sw.kernels.transformer.decoder.decoder_program`.

    Attributes
    ----------
    commands : list of Event
        Of the prompt's program.
    tiles : list of Tile
        All of its weight-stationary matrix commands, in program order.
    golden : Outcomes
        Of one run, without faults.

    Raises
    ------
    ContextError
        If the model's context does not hold the tokens.
    ShapeError, AreaError
        If the config cannot run the model.
    """

    def __init__(self, config: AcceleratorConfig, model: LlamaConfig, weights: LlamaWeights, prompt: Sequence[int], *,
                 generated: int = 8, limits: Mapping[str, float] | None = None):
        self.config, self.generated = config, generated
        self.prompt: npt.NDArray[np.int64] = np.asarray(prompt, np.int64)
        self._programs = PromptPrograms(config, model, weights, len(prompt), generated, limits=limits)
        self.commands = commands_of(self._programs.prompt, self._programs.prompt_args)
        self._steps: list[list[Event]] = []
        self._dram = self._programs.dram.copy()
        self._programs.place(prompt, self._dram)
        self.tiles = list(self._tiles(self._programs.prompt.kernels))
        state = self._start()
        advance(state, self.commands)
        self.golden = self.finish(branch(state, 1))

    def _tiles(self, kernels: tuple[tuple[int, str], ...]) -> Iterator[Tile]:
        """Yield all tiles; a phase comes again where the program goes back to it."""
        firsts = [first for first, _ in kernels]
        seen, before = dict.fromkeys(range(len(kernels)), -1), -1
        for number, event in enumerate(self.commands):
            phase = int(np.searchsorted(firsts, event.pc, side="right")) - 1
            if phase != before:
                seen[phase] += 1
            before = phase
            if event.unit != Unit.MATRIX or event.fields["dataflow"] != Dataflow.WS:
                continue
            for k in range(ceil_div(event.fields["k"], self.config.rows)):
                for n in range(ceil_div(event.fields["n"], self.config.columns)):
                    yield Tile(command=number, k=k, n=n, kernel=kernels[phase][1], layer=seen[phase])

    def _start(self) -> State:
        return begin(self.config, self._dram.copy())

    def points(self, tiles: Sequence[Tile]) -> Iterator[Point]:
        """Yield the point of each tile, in ascending order; one is of use until the next is asked for."""
        state, at = self._start(), 0
        for tile in sorted(tiles):
            advance(state, self.commands[at:tile.command])
            at = tile.command
            yield Point(self, state, tile)

    def finish(self, state: State) -> Outcomes:
        """Return what runs side by side gave that have done the prompt's commands; they generate the tokens."""
        length, runs = len(self.prompt), len(state.memory)
        logits = self._programs.logits(state.memory, length)
        predictions = _greatest(logits)
        tokens = np.full((runs, self.generated), -1, np.int64)
        tokens[:, 0] = predictions[:, -1]
        for number in range(1, self.generated):
            tokens[:, number] = self._generate(state, number - 1, tokens[:, number - 1])
        return Outcomes(tokens=tokens, predictions=predictions, bits=_bits(logits[:, :-1], self.prompt[1:]))

    def _generate(self, state: State, number: int, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the tokens that follow on `tokens`, the generated ones of this number."""
        if number == len(self._steps):
            self._steps.append(commands_of(self._programs.step, {"position": len(self.prompt) + number}))
        for memory, token in zip(state.memory, tokens, strict=True):
            self._programs.place([max(int(token), 0)], memory)
        advance(begin(self.config, state.memory), self._steps[number])
        return np.where(tokens < 0, -1, _greatest(self._programs.logits(state.memory, 1)[:, 0]))


def _padded(matrix: npt.NDArray[np.int8], rows: int, columns: int) -> npt.NDArray[np.int8]:
    padded = np.zeros((rows, columns), np.int8)
    padded[:matrix.shape[0], :matrix.shape[1]] = matrix
    return padded


def _greatest(logits: Floats) -> npt.NDArray[np.int64]:
    """Return where the greatest logit is along the last axis, −1 where one is NaN."""
    return np.where(np.isnan(logits).any(axis=-1), -1, logits.argmax(axis=-1))


def _bits(logits: Floats, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the mean information of tokens (T,) under logits (runs, T, V)."""
    exact = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = exact - exact.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(shifted, np.broadcast_to(tokens[None, :, None], (*exact.shape[:2], 1)), axis=-1)[..., 0]
        nats: npt.NDArray[np.float64] = (np.log(np.exp(shifted).sum(axis=-1)) - chosen).mean(axis=-1)
    return nats / np.log(2)
