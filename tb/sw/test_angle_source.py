"""Tokens whose angles come from the load unit's source: when the host sets it, that history does not matter, runs again."""

from dataclasses import replace

import numpy as np
import pytest

from hw.isa import ErrorCause
from hw.presets import preset_named
from sw.device import ProtectionError
from sw.generate import CompiledModel, Generator
from sw.golden.device import GoldenDevice
from sw.golden.llama import LlamaConfig, rotation, rotation_steps
from sw.golden.token.angles import RESYNC as RESYNC_POSITIONS
from sw.golden.token.angles import Angles, angle_records
from sw.hazards import find_hazards
from sw.kernels.transformer.angle_source import source_holds
from sw.kernels.transformer.decoder import decoder_memory, decoder_program
from sw.kernels.transformer.shape import ShapeError
from sw.program import RESYNC
from sw.retry import RetryingSession
from tb.sw.decoders import random_weights

MODEL = LlamaConfig(vocab=32, hidden=32, ffn=48, layers=2, heads=2, kv_heads=1, head_dim=16, context=512, rope_theta=1e4,
                    norm_eps=1e-5, tied=True)
CONFIG = preset_named("hybrid-16x16")
TABLE = replace(CONFIG, rotary_pairs=0)
WEIGHTS = random_weights(MODEL, 3)


def compiled(config=CONFIG, **options):
    return CompiledModel(config, MODEL, WEIGHTS, **{"chunk": 8, **options})


def logits_of(model, tokens, decoded):
    """Return steps that append tokens one by one behind a prompt."""
    generator = Generator(GoldenDevice(model.config).open(len(model.dram)), model)
    list(generator.feed(tokens))
    return [next(generator.feed([token])) for token in decoded]


def test_it_is_set_when_the_position_is_another_and_no_table_is_read() -> None:
    """After a prompt and every 256 positions; angles are as good as those of the table."""
    model, table = compiled(chunk=64), compiled(TABLE, chunk=64)
    prompt, decoded = [1 + i % 20 for i in range(248)], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    steps, others = logits_of(model, prompt, decoded), logits_of(table, prompt, decoded)
    assert [step.args[RESYNC] for step in steps] == [1, *[0] * 7, 1, 0, 0]
    assert RESYNC_POSITIONS == 256
    assert all(RESYNC not in step.args for step in others)
    for step, other in zip(steps, others, strict=True):
        assert step.logits is not None
        assert other.logits is not None
        assert np.abs(step.logits - other.logits).max() < 0.02 * np.abs(other.logits).max()
    start, size = model.memory.regions["angles"]
    model.dram[start:start + size] = 0xFF                                       # NaN, were they read
    first = logits_of(model, [], [3])[0].logits
    assert first is not None
    assert np.isfinite(first).all()


def test_a_position_has_the_same_angles_whatever_came_before() -> None:
    """A prompt of twelve and a token, or of eight and five: bit for bit the same logits."""
    model, tokens = compiled(), list(range(2, 15))
    chunks = logits_of(model, tokens[:8], tokens[8:])
    generator = Generator(GoldenDevice(model.config).open(len(model.dram)), model)
    list(generator.feed(tokens[:8]))
    list(generator.feed(tokens[8:9]))
    generator._angles = None                        # as after an error
    other = [next(generator.feed([token])) for token in tokens[9:]]
    assert other[0].args[RESYNC] == 1
    assert chunks[1].args[RESYNC] == 0
    assert chunks[-1].logits is not None
    assert other[-1].logits is not None
    assert chunks[-1].logits.tobytes() == other[-1].logits.tobytes()


def test_records_are_what_the_recurrence_gives() -> None:
    steps = rotation_steps(MODEL)
    angles = Angles(8)
    angles.set(angle_records(steps, 0))
    for position in range(256 + 3):
        if position % RESYNC_POSITIONS == 0:
            angles.set(angle_records(steps, position))
        assert angles.words.astype("<i4").tobytes() == angle_records(steps, position).tobytes()
        cos, sin = rotation(MODEL, position, 1)
        assert np.abs(np.concatenate(angles.rows()) - np.concatenate((cos[0], sin[0]))).max() < 4.3e-5
        angles.advance()


@pytest.mark.parametrize("resync", [0, 1])
def test_no_races(resync: int) -> None:
    model = compiled()
    assert find_hazards(CONFIG, model.decode, {"position": 9, RESYNC: resync}) == []


def test_a_run_that_takes_nothing_from_the_one_before() -> None:
    model = compiled()
    assert model.decode.from_any_state({"position": 3, RESYNC: 0}) == {"position": 3, RESYNC: 1}
    assert model.prefill.from_any_state({"position": 0, "count": 2}) == {"position": 0, "count": 2}
    assert model.fill.from_any_state(None) == {}


def test_a_run_that_is_repeated_sets_the_source_again() -> None:
    """It may have gone on by a position already."""
    model, seen = compiled(), []
    golden = GoldenDevice(CONFIG).open(len(model.dram))

    class Failing:
        """Fails when a token's run is done, once."""

        memory = golden.memory

        def run(self, program, args=None):
            result = golden.run(program, args)
            if program is model.decode:
                seen.append(args[RESYNC])
                if len(seen) == 2:
                    raise ProtectionError("", cause=ErrorCause.PROTECTION, pc=0, addr=0, kernel="")
            return result

        def close(self):
            golden.close()

    generator = Generator(RetryingSession(CONFIG, Failing(), retries=1, save=True), model)
    found = [next(generator.feed([token])).logits for token in (4, 5, 6)]
    assert seen == [1, 0, 1, 0]
    expected = [step.logits for step in logits_of(model, [], (4, 5, 6))]
    assert np.array(found).tobytes() == np.array(expected).tobytes()


@pytest.mark.parametrize(("pairs", "head_dim", "holds"), [(64, 128, True), (64, 130, False), (0, 16, False), (64, 12, False)])
def test_which_heads_the_source_holds(pairs: int, head_dim: int, holds: bool) -> None:
    """Not larger ones, nor those whose rows are no whole beats of 16 bytes: they take the table."""
    assert source_holds(replace(CONFIG, rotary_pairs=pairs), head_dim) == holds


@pytest.mark.parametrize(("config", "tokens"), [(CONFIG, 8), (TABLE, 1)])
def test_programs_that_cannot_use_it(config, tokens: int) -> None:
    memory = decoder_memory(config, MODEL, tokens=8)
    with pytest.raises(ShapeError, match=rf"^angles must come from the table for {tokens} tokens, or where the source of angles "
                       rf"\({config.rotary_pairs} pairs\) or the scratchpad is too small$"):
        decoder_program(config, memory, tokens=tokens, code_addr=memory.end, make_angles=True)
