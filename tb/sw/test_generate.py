"""A model compiled and fed: what is refused, which programs run, what the session's memory keeps."""

from dataclasses import replace

import numpy as np
import pytest

from sw.generate import CompiledModel, ContextError, Generator, check_length
from sw.golden.device import GoldenDevice
from sw.kernels.transformer.shape import ShapeError
from sw.perf import predict
from sw.program import Program
from tb.sw.decoders import CONFIGS, MODEL, random_weights

CONFIG = CONFIGS["16x16"]
SMALL = replace(MODEL, hidden=16, ffn=16, heads=2, kv_heads=1, head_dim=16, layers=1, context=40)
WEIGHTS = random_weights(SMALL)


@pytest.fixture(scope="module")
def compiled():
    return CompiledModel(CONFIG, SMALL, WEIGHTS, chunk=8)


@pytest.fixture
def generator(compiled):
    return Generator(GoldenDevice(CONFIG).open(len(compiled.dram)), compiled)


def test_which_programs_run(compiled, generator):
    steps = list(generator.feed(range(19)))
    assert [step.program for step in steps] == [compiled.fill, compiled.fill, compiled.prefill]
    assert [(step.position, step.count) for step in steps] == [(0, 8), (8, 8), (16, 3)]
    assert [step.args for step in steps] == [{"position": 8 * i, "count": count} for i, count in enumerate((8, 8, 3))]
    assert [step.logits is None for step in steps] == [True, True, False]
    assert steps[-1].logits.shape == (SMALL.vocab,)
    steps = list(generator.feed(range(8)))          # no chunk begins at 19
    assert [step.program for step in steps] == [compiled.decode] * 5 + [compiled.prefill]
    assert [step.logits is None for step in steps] == [True] * 5 + [False]
    assert steps[0].args == {"position": 19}
    assert generator.position == 27


def test_one_program_for_chunks_of_one():
    compiled = CompiledModel(CONFIG, SMALL, WEIGHTS, chunk=1)
    assert compiled.fill is compiled.prefill is compiled.decode
    steps = list(Generator(GoldenDevice(CONFIG).open(len(compiled.dram)), compiled).feed([1, 2]))
    assert [step.program is compiled.decode for step in steps] == [True, True]


def test_the_largest_chunk_that_fits():
    assert CompiledModel(CONFIG, SMALL, WEIGHTS).chunk == 64
    assert CompiledModel(CONFIGS["8x8"], SMALL, WEIGHTS).chunk < 64
    with pytest.raises(ShapeError):
        CompiledModel(CONFIG, SMALL, WEIGHTS, chunk=1024)


def test_programs_are_placed_once(compiled, generator, monkeypatch):
    """They share weights and cache, and lie apart otherwise: a session keeps all three."""
    placed, place = [], Program.place

    def noted(program, memory):
        placed.append(program)
        place(program, memory)

    monkeypatch.setattr(Program, "place", noted)
    for count in (11, 1, 4, 11):
        list(generator.feed(range(count)))
    assert [program.name for program in placed] == [
        "decoder, 8 tokens, no logits", "decoder, 8 tokens", "decoder, 1 token"]


def test_a_second_sequence_forgets_the_first(compiled, generator):
    *_, first = generator.feed([5, 6, 7])
    *_, longer = generator.feed(range(20))
    assert longer.position > 0
    again = Generator(generator.session, compiled)
    *_, second = again.feed([5, 6, 7])
    np.testing.assert_array_equal(first.logits, second.logits)


def test_what_memory_holds(compiled):
    weights, _ = compiled.memory.regions["weights"]
    assert compiled.dram[weights:weights + compiled.weight_bytes].any()
    least = SMALL.hidden * (SMALL.vocab + 3 * SMALL.ffn + 6 * SMALL.head_dim)
    assert least <= compiled.weight_bytes < 4 * least       # int8, scales and padding to whole tiles
    assert len(compiled.dram) >= compiled.decode.memory_bytes


def test_kernels_of_a_prediction(compiled):
    found = predict(CONFIG, compiled.decode, {"position": 30})
    assert sum(found.kernels.values()) == found.cycles
    assert {"qkv", "rotary", "attention", "gate and up", "down", "head"} <= set(found.kernels)
    assert all(cycles > 0 for cycles in found.kernels.values())


@pytest.mark.parametrize(("prompt", "count", "said"), [
    (0, 1, "the prompt must have at least one token, not none"),
    (1, 0, "the tokens to generate must be at least 1, not 0"),
    (41, 1, "the prompt must have at most 40 tokens, the context, not 41"),
    (38, 3, "prompt and generated tokens must be at most 40 together, the context, not 38 + 3 = 41"),
])
def test_lengths_that_cannot_be(prompt, count, said):
    with pytest.raises(ContextError) as error:
        check_length(prompt, count, 40)
    assert str(error.value) == said
    check_length(38, 2, 40)


def test_more_than_the_context_is_refused_before_anything_runs(generator):
    with pytest.raises(ContextError, match="the sequence must have at most 40 tokens, the context, not 41"):
        next(generator.feed(range(41)))
    assert generator.position == 0
    list(generator.feed(range(40)))
    with pytest.raises(ContextError, match="not 41"):
        next(generator.feed([1]))


@pytest.mark.parametrize(("arguments", "error", "said"), [
    ({"context": 41}, ContextError, "the context must be between 1 and the model's 40 tokens, not 41"),
    ({"context": 0}, ContextError, "the context must be between 1 and the model's 40 tokens, not 0"),
    ({"chunk": 12}, ShapeError, "the chunk must be a power of two, not 12"),
    ({"chunk": 0}, ShapeError, "the chunk must be a power of two, not 0"),
    ({"chunk": -4}, ShapeError, "the chunk must be a power of two, not -4"),
    ({"chunk": 2}, ShapeError, "tokens must be 1 or at least 4, not 2"),
])
def test_what_cannot_be_compiled(arguments, error, said):
    with pytest.raises(error) as found:
        CompiledModel(CONFIG, SMALL, WEIGHTS, **arguments)
    assert str(found.value) == said


def test_weights_that_are_not_finite():
    layer = WEIGHTS.layers[0]
    broken = layer.down.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="weights must be finite, but down of layer 0 holds NaN or infinity"):
        CompiledModel(CONFIG, SMALL, replace(WEIGHTS, layers=[replace(layer, down=broken)]))
