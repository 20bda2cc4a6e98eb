"""A prompt on the golden device to branch off from: against the device itself, token by token, with and without wrong psums."""

import numpy as np
import pytest

from flows.fault.model.model_run import Corruption, ModelRun
from hw.isa import Unit
from hw.presets import PRESETS
from sw.generate import CompiledModel, ContextError, Generator
from sw.golden.branch import advance, begin, commands_of
from sw.golden.device import GoldenDevice
from sw.kernels.transformer.shape import ShapeError
from sw.prompts import PromptPrograms
from tb.sw.decoders import MODEL, random_weights

CONFIG = PRESETS["systolic-16x16"]
WEIGHTS = random_weights(MODEL)
PROMPT = np.random.default_rng(1).integers(0, MODEL.vocab, 9).tolist()
GENERATED = 4


@pytest.fixture(scope="module")
def run() -> ModelRun:
    return ModelRun(CONFIG, MODEL, WEIGHTS, PROMPT, generated=GENERATED)


def corruption(*words):
    rows, columns, differences = (np.array(part, np.int64) for part in zip(*words, strict=True)) if words else (
        np.zeros(0, np.int64),) * 3
    return Corruption(rows=rows, columns=columns, differences=differences)


def generated(tokens):
    """Return what the golden device writes after a prompt, by the programs that generate text."""
    compiled = CompiledModel(CONFIG, MODEL, WEIGHTS, chunk=16)
    generator = Generator(GoldenDevice(CONFIG).open(len(compiled.dram)), compiled)
    made, given = [], list(tokens)
    for _ in range(GENERATED):
        *_, step = generator.feed(given)
        given = [int(step.logits.argmax())]
        made += given
    return made


def test_the_run_without_faults_is_the_devices(run):
    assert run.golden.tokens.tolist() == [generated(PROMPT)]
    programs = PromptPrograms(CONFIG, MODEL, WEIGHTS, len(PROMPT), GENERATED)
    memory = programs.dram.copy()
    programs.place(PROMPT, memory)
    state = begin(CONFIG, memory)
    advance(state, commands_of(programs.prompt, programs.prompt_args))
    logits = programs.logits(state.memory, len(PROMPT)).astype(np.float64)
    assert run.golden.predictions.tolist() == [logits.argmax(axis=1).tolist()]
    exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert np.isclose(run.golden.bits[0], -np.mean([exact[i, token] for i, token in enumerate(PROMPT[1:])]) / np.log(2))


def test_tiles_are_all_there_is(run):
    """Each tile once, in order; together they make all of the products."""
    assert len(set(run.tiles)) == len(run.tiles)
    assert run.tiles == sorted(run.tiles)
    macs = {tile.command: run.commands[tile.command].fields for tile in run.tiles}
    assert set(macs) == {i for i, event in enumerate(run.commands) if event.unit == Unit.MATRIX}
    for number, fields in macs.items():
        mine = [tile for tile in run.tiles if tile.command == number]
        assert len(mine) == -(-fields["n"] // CONFIG.columns) * -(-fields["k"] // CONFIG.rows)
    assert {tile.layer for tile in run.tiles if tile.kernel == "down"} == {0, 1}
    assert {tile.layer for tile in run.tiles if tile.kernel == "head"} == {0}


def test_operands_are_those_of_the_commands(run):
    """The products of all of a command's tiles are what it adds to the accumulator."""
    number = run.tiles[len(run.tiles) // 2].command
    tiles = [tile for tile in run.tiles if tile.command == number]
    fields = run.commands[number].fields
    sums = np.zeros((fields["m"], -(-fields["n"] // CONFIG.columns) * CONFIG.columns), np.int64)
    for point in run.points(tiles):
        assert point.activations.shape == (fields["m"], CONFIG.rows)
        first = point.tile.n * CONFIG.columns
        sums[:, first:first + CONFIG.columns] += point.activations.astype(np.int64) @ point.weights.astype(np.int64)
    state = run._start()
    advance(state, run.commands[:number])
    before = state.accumulator.copy() * fields["accumulate"]
    advance(state, [run.commands[number]])
    for group in range(sums.shape[1] // CONFIG.columns):
        rows = fields["acc_addr"] + group * fields["acc_tile_stride"] + np.arange(fields["m"])
        made = state.accumulator[rows] - before[rows]
        used = min(CONFIG.columns, fields["n"] - group * CONFIG.columns)
        assert np.array_equal(made[:, :used], sums[:, group * CONFIG.columns:][:, :used])


def test_a_corruption_goes_on_as_on_the_device(run):
    """One run at a time, every command again from the first, the sums changed on the way."""
    rng = np.random.default_rng(2)
    tiles = [run.tiles[i] for i in sorted(rng.choice(len(run.tiles), 3, replace=False))]
    for point in run.points(tiles):
        wrong = corruption((0, 1, 70_000), (3, 2, -5), (8, 0, 1 << 19))
        found = point.outcomes([corruption(), wrong])
        assert found.tokens[0].tolist() == run.golden.tokens[0].tolist()
        assert found.bits[0] == run.golden.bits[0]
        state = run._start()
        for number, event in enumerate(run.commands):
            advance(state, [event])
            if number == point.tile.command:
                first = event.fields["acc_addr"] + point.tile.n * event.fields["acc_tile_stride"]
                state.accumulator[first + wrong.rows, wrong.columns] += wrong.differences
        state.memory = state.memory[None]
        alone = run.finish(state)
        assert alone.bits[0] == found.bits[1] != run.golden.bits[0]
        assert alone.tokens[0].tolist() == found.tokens[1].tolist()
        assert alone.predictions[0].tolist() == found.predictions[1].tolist()


def test_many_go_in_several_lots(run):
    (point,) = run.points(run.tiles[-1:])
    many = [corruption((0, 1, 1000 * i)) for i in range(40)]
    found = point.outcomes(many)
    assert found.bits.shape == (40,)
    assert found.bits[33] == point.outcomes(many[33:34]).bits[0]
    assert len({one.key() for one in many}) == 40
    assert corruption((1, 2, 3)).key() == corruption((1, 2, 3)).key() != corruption((1, 3, 2)).key()


def test_a_logit_that_is_no_number_is_no_token(run):
    state = run._start()
    advance(state, run.commands)
    state.memory = state.memory[None].copy()
    start, _ = run._programs.memory.regions["logits"]
    row = run._programs.memory.logits_row
    state.memory[0, start + 8 * row:start + 8 * row + 4].view(np.float32)[0] = np.nan
    found = run.finish(state)
    assert found.predictions[0, 8] == -1
    assert found.tokens[0].tolist() == [-1] * GENERATED
    assert np.isfinite(found.bits[0])               # the last token predicts none of the prompt


def test_what_cannot_be_run():
    with pytest.raises(ShapeError, match=r"^the prompt must have 2 to 64 tokens, not 1$"):
        ModelRun(CONFIG, MODEL, WEIGHTS, [1])
    with pytest.raises(ContextError, match=r"^prompt and generated tokens must be at most 512 together"):
        ModelRun(CONFIG, MODEL, WEIGHTS, [1, 2, 3], generated=510)
