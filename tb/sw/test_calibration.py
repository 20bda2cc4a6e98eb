"""Range restriction: bounds of a model's linears, programs that hold to them, and what a bound does to a wrong sum."""

from dataclasses import replace

import numpy as np
import pytest

from hw.isa import Unit
from sw.calibration import calibrate
from sw.generate import CompiledModel
from sw.golden.branch import advance, begin, branch, commands_of
from sw.kernels.passes.command import Accumulator, Floats, PassError, vector_pass
from sw.kernels.transformer.decoder import LIMITS
from sw.kernels.transformer.shape import ShapeError
from sw.perf import predict
from sw.prompts import PromptPrograms
from tb.sw.decoders import CONFIGS, MODEL, random_weights

CONFIG = replace(CONFIGS["16x16"], protection=(("activations", "range"),))
WEIGHTS = random_weights(MODEL)
PROMPTS = np.random.default_rng(4).integers(0, MODEL.vocab, (3, 11)).tolist()


@pytest.fixture(scope="module")
def limits():
    return calibrate(CONFIGS["16x16"], MODEL, WEIGHTS, PROMPTS)


def run(programs, prompt):
    """Return the state after a prompt, and the logits."""
    memory = programs.dram.copy()
    programs.place(prompt, memory)
    state = begin(CONFIG, memory)
    advance(state, commands_of(programs.prompt, programs.prompt_args))
    return programs.logits(state.memory, len(prompt))


def test_bounds_are_of_what_the_linears_make(limits):
    assert set(limits) == set(LIMITS)
    logits = run(PromptPrograms(CONFIG, MODEL, WEIGHTS, 11, 1), PROMPTS[0])
    others = [run(PromptPrograms(CONFIG, MODEL, WEIGHTS, 11, 1), prompt) for prompt in PROMPTS[1:]]
    assert limits["head"] == max(np.abs(each).max() for each in (logits, *others))
    wider = calibrate(CONFIGS["16x16"], MODEL, WEIGHTS, PROMPTS, margin=1.5)
    assert wider["up"] == np.float32(1.5 * limits["up"])


def test_within_the_bounds_nothing_changes(limits):
    plain, limited = (PromptPrograms(CONFIG, MODEL, WEIGHTS, 11, 1, limits=given) for given in (None, limits))
    assert not np.array_equal(plain.prompt.code, limited.prompt.code)
    assert np.array_equal(run(plain, PROMPTS[1]), run(limited, PROMPTS[1]))
    cycles = [predict(CONFIG, programs.prompt, programs.prompt_args).cycles for programs in (plain, limited)]
    assert cycles[1] <= 1.001 * cycles[0]


@pytest.mark.parametrize("name", LIMITS)
def test_each_bound_binds(limits, name):
    given = {other: value if other != name else value / 4 for other, value in limits.items()}
    plain, limited = (PromptPrograms(CONFIG, MODEL, WEIGHTS, 11, 1, limits=each) for each in (limits, given))
    logits = run(limited, PROMPTS[1])
    assert not np.array_equal(run(plain, PROMPTS[1]), logits)
    if name == "head":
        assert np.abs(logits).max() == np.float32(given["head"])


def test_a_wrong_sum_does_less_harm(limits):
    errors = []
    for given in (None, limits):
        programs = PromptPrograms(CONFIG, MODEL, WEIGHTS, 11, 1, limits=given)
        commands = commands_of(programs.prompt, programs.prompt_args)
        struck = next(i for i, event in enumerate(commands) if event.unit == Unit.MATRIX
                      and programs.prompt.kernel_at(event.pc) == "attention output")
        memory = programs.dram.copy()
        programs.place(PROMPTS[2], memory)
        state = begin(CONFIG, memory)
        advance(state, commands[:struck + 1])
        runs = branch(state, 2)
        runs.accumulator[1, commands[struck].fields["acc_addr"] + 2, 5] ^= 1 << 24
        advance(runs, commands[struck + 1:])
        right, wrong = programs.logits(runs.memory, 11)
        errors.append(np.abs(right - wrong).max())
    assert errors[1] < errors[0] / 2
    assert errors[1] > 0


def test_a_compiled_model_takes_them(limits):
    compiled = CompiledModel(CONFIG, MODEL, WEIGHTS, chunk=8, limits=limits)
    plain = CompiledModel(CONFIG, MODEL, WEIGHTS, chunk=8)
    for one, other in ((compiled.decode, plain.decode), (compiled.prefill, plain.prefill)):
        assert not np.array_equal(one.code, other.code)


def test_what_cannot_be(limits):
    with pytest.raises(ShapeError, match=r"^AcceleratorConfig\.protection must have \('activations', 'range'\) for a program "
                                         r"with limits, not \(\)$"):
        PromptPrograms(CONFIGS["16x16"], MODEL, WEIGHTS, 11, 1, limits=limits)
    with pytest.raises(ShapeError, match=r"^limits must be given for qkv, output, gate, up, down, head, not qkv$"):
        PromptPrograms(CONFIG, MODEL, WEIGHTS, 11, 1, limits={"qkv": 1.0})
    with pytest.raises(ValueError, match=r"^prompts must be one or more of equal length, not of \[2, 3\]$"):
        calibrate(CONFIG, MODEL, WEIGHTS, [[1, 2], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"^prompts must be one or more of equal length, not of none$"):
        calibrate(CONFIG, MODEL, WEIGHTS, [])
    with pytest.raises(ValueError, match=r"^margin must be at least 1, not 0.5$"):
        calibrate(CONFIG, MODEL, WEIGHTS, PROMPTS, margin=0.5)
    with pytest.raises(ShapeError, match=r"^the prompt must have 2 to 64 tokens, not 65$"):
        PromptPrograms(CONFIG, MODEL, WEIGHTS, 65, 1)


def test_what_a_pass_with_a_limit_cannot_have():
    acc, to = Accumulator(0, 4), Floats(0, 64)
    with pytest.raises(PassError, match=r"^pass 'p' must have one of limit and maximum, not both$"):
        vector_pass("p", a=acc, m=1, n=1, limit=1.0, maximum=0.0, to=to)
    with pytest.raises(PassError, match=r"^pass 'p' must add a stream or row scalars where it has a limit, not the number 2.0$"):
        vector_pass("p", a=acc, m=1, n=1, limit=1.0, add=2.0, to=to)
    with pytest.raises(PassError, match=r"^pass 'p' must have one use of constant, not both limit and times$"):
        vector_pass("p", a=acc, m=1, n=1, limit=1.0, times=2.0, to=to)
