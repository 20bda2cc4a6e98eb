"""Repeated runs: what may be repeated, what is put back, what is given up; GEMMs in parts."""

from dataclasses import replace

import numpy as np
import pytest

from hw.isa import ErrorCause
from hw.presets import PRESETS
from sw.accesses import SharedMemory
from sw.assembler import assemble
from sw.device import DeviceError, DeviceHang, ProtectionError, device_error
from sw.generate import CompiledModel
from sw.golden.device import GoldenDevice
from sw.kernels.spec import GemmSpec
from sw.models.llama_image import place_embeddings
from sw.program import Program, ProgramError, Region
from sw.retry import RepeatError, RetryingSession, overwritten_inputs
from sw.runtime import compile_gemm, gemm_args, reference_gemm, run_gemm
from sw.split import SplitGemm
from tb.sw.decoders import CONFIGS, MODEL, random_weights

CONFIG = PRESETS["systolic-4x4"]
SPEC = GemmSpec(m=10, n=9, k=21, bias=True)


class FailingSession:
    """A golden session whose runs of these numbers end in an error after they have spoilt what they write."""

    def __init__(self, session, failing, cause=ErrorCause.PROTECTION):
        self.session, self.failing, self.cause = session, set(failing), cause
        self.count, self.washes = 0, 0

    @property
    def memory(self):
        return self.session.memory

    def run(self, program, args=None):
        result = self.session.run(program, args)
        if program.name == "wash":
            self.washes += 1
            return result
        self.count += 1
        if self.count - 1 in self.failing:
            self.memory[program.code_addr] ^= 0xFF
            kind = DeviceHang if self.cause == ErrorCause.WATCHDOG else device_error
            raise kind("it stopped", cause=self.cause, pc=3, addr=1, kernel="some")
        return result

    def close(self):
        self.session.close()


def sessions(config, size, failing, cause=ErrorCause.PROTECTION, **options):
    failing_session = FailingSession(GoldenDevice(config).open(size), failing, cause)
    return failing_session, RetryingSession(config, failing_session, **options)


def operands(spec, seed=0):
    rng = np.random.default_rng(seed)
    return {"a": rng.integers(-128, 128, (spec.m, spec.k), np.int8), "b": rng.integers(-128, 128, (spec.k, spec.n), np.int8),
            "bias": rng.integers(-1000, 1000, spec.n, np.int32)}


def expected(given):
    return reference_gemm(given["a"], given["b"], bias=given["bias"], scale=0.01)


def test_a_gemm_overwrites_nothing_that_it_reads():
    program = compile_gemm(CONFIG, SPEC)
    assert overwritten_inputs(CONFIG, program, gemm_args(program, 1.0)) == {}


def program_of(text, *regions):
    return Program(name="probe", config_digest=CONFIG.digest(), code=assemble(text), code_addr=0x1000, regions=regions)


BLOCK = "set load.rows, 2\nset load.row_bytes, 20\nset load.dram_stride, 64\nset load.stride, 32\n"
STORE = "set store.rows, 2\nset store.row_bytes, {0}\nset store.dram_addr, {1}\nset store.dram_stride, 64\nset store.stride, 32\n"


@pytest.mark.parametrize(("text", "found"), [
    (BLOCK + "load signal 0\nwait 0\n" + STORE.format(20, 32) + "store\nhalt", {}),
    (BLOCK + "load signal 0\nwait 0\n" + STORE.format(5, 16) + "store\nhalt", {SharedMemory.DRAM: [(16, 20), (80, 84)]}),
    (STORE.format(20, 0) + "store signal 0\nwait 0\n" + BLOCK + "load\nhalt", {SharedMemory.SCRATCHPAD: []}),
    (STORE.format(8, 0) + "store signal 0\nwait 0\n" + BLOCK + "load signal 0\nwait 0\nstore\nhalt",
     {SharedMemory.DRAM: [], SharedMemory.SCRATCHPAD: [(0, 8), (32, 40)]}),
])
def test_what_is_read_and_then_overwritten(text, found):
    """To the byte, also in the middle of a beat; what was written first may be written again."""
    made = overwritten_inputs(CONFIG, program_of(text))
    if found == {SharedMemory.SCRATCHPAD: []}:          # it stores what was in the scratchpad before it, and loads over it
        assert made == {SharedMemory.SCRATCHPAD: [(0, 20), (32, 52)]}
    else:
        assert made == {memory: stretches for memory, stretches in found.items() if stretches}


@pytest.mark.parametrize("cause", [ErrorCause.PROTECTION, ErrorCause.COMMAND_PARITY])
@pytest.mark.parametrize("failing", [(), (0,), (0, 1)])
def test_a_gemm_is_repeated(failing, cause):
    program, given = compile_gemm(CONFIG, SPEC), operands(SPEC)
    failing_session, session = sessions(CONFIG, program.memory_bytes, failing, cause, retries=2)
    made, result = run_gemm(session, program, SPEC, **given, scale=0.01)
    assert np.array_equal(made, expected(given))
    assert result.counters["retries"] == session.retries == len(failing)
    assert failing_session.count == 1 + len(failing)
    assert failing_session.washes == len(failing)


def test_it_gives_up():
    program, given = compile_gemm(CONFIG, SPEC), operands(SPEC)
    failing_session, session = sessions(CONFIG, program.memory_bytes, range(9), retries=2)
    with pytest.raises(ProtectionError, match=r"^it stopped\nthe run has been repeated 2 times$"):
        run_gemm(session, program, SPEC, **given, scale=0.01)
    assert failing_session.count == 3


@pytest.mark.parametrize(("cause", "on", "runs"), [
    (ErrorCause.BUS_READ, ProtectionError, 1), (ErrorCause.WATCHDOG, ProtectionError, 1),
    (ErrorCause.WATCHDOG, (ProtectionError, DeviceHang), 2), (ErrorCause.BUS_READ, DeviceError, 2)])
def test_only_errors_of_the_hardware_are_worth_it(cause, on, runs):
    program, given = compile_gemm(CONFIG, SPEC), operands(SPEC)
    failing_session, session = sessions(CONFIG, program.memory_bytes, [0], cause, retries=1, on=on)
    if runs == 1:
        with pytest.raises(DeviceError, match=r"^it stopped$"):
            run_gemm(session, program, SPEC, **given, scale=0.01)
    else:
        assert np.array_equal(run_gemm(session, program, SPEC, **given, scale=0.01)[0], expected(given))
    assert failing_session.count == runs


@pytest.mark.parametrize(("tokens", "first"), [(8, "0x0"), (1, "0x[0-9a-f]+")])
def test_a_decoder_is_repeated_only_if_its_rows_are_saved(tokens, first):
    """Rows of the residual; of one token, which stays on the chip, the beats of the cache that new scales are written into."""
    compiled = CompiledModel(CONFIGS["16x16"], MODEL, random_weights(MODEL), chunk=8)
    program = compiled.prefill if tokens > 1 else compiled.decode
    args = {"position": 0, "count": tokens} if tokens > 1 else {"position": 0}
    logits = []
    for save, failing in ((False, ()), (True, (0,)), (False, (0,))):
        _, session = sessions(compiled.config, len(compiled.dram), failing, retries=1, save=save)
        session.memory[:] = compiled.dram
        place_embeddings(compiled.memory, compiled.weights, [3] * tokens, session.memory)
        if failing and not save:
            with pytest.raises(RepeatError, match=r"^it stopped; it cannot be repeated, since program 'decoder, \d tokens?' "
                                                  rf"overwrites what it has read, first {first} to 0x[0-9a-f]+ of DRAM$"):
                session.run(program, args)
        else:
            logits.append(session.run(program, args).outputs["logits"])
    assert np.array_equal(*logits)


def test_what_was_in_the_scratchpad_is_not_saved():
    text = STORE.format(20, 0) + "store signal 0\nwait 0\n" + BLOCK + "load\nhalt"
    program = program_of(text, Region(name="x", addr=0, size=256, role="output"))
    _, session = sessions(CONFIG, 1 << 14, [0], retries=1, save=True)
    with pytest.raises(RepeatError, match=r"overwrites what it has read, first 0x0 to 0x13 of scratchpad$"):
        session.run(program)


def test_retries_are_none_or_more():
    with pytest.raises(ValueError, match=r"^retries must be at least 0, not -1$"):
        sessions(CONFIG, 64, [], retries=-1)
    program, given = compile_gemm(CONFIG, SPEC), operands(SPEC)
    failing_session, session = sessions(CONFIG, program.memory_bytes, [0], retries=0)
    with pytest.raises(ProtectionError, match=r"^it stopped$"):
        run_gemm(session, program, SPEC, **given, scale=0.01)
    session.close()
    assert failing_session.memory.size == 0


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, a="transposed"), replace(SPEC, batch=2, b="rows")])
def test_of_a_gemm_in_parts_only_the_one_that_failed_is_repeated(spec):
    split = SplitGemm(CONFIG, spec, 4, base=4096)
    assert [part.spec.m for part in split.parts] == [4, 4, 2]
    assert split.parts[0].program.code_addr == split.parts[1].program.code_addr != split.parts[2].program.code_addr
    given = operands(spec)
    if spec.batch > 1:
        given |= {name: np.stack([given[name]] * spec.batch) for name in ("a", "b")}
    failing_session, session = sessions(CONFIG, split.memory_bytes, [1, 2], retries=3)
    made, results = split.run(session, **given, scale=0.01)
    assert np.array_equal(made, expected(given))
    assert [result.counters["retries"] for result in results] == [0, 2, 0]
    assert failing_session.count == 5


def test_scales_of_channels_in_parts():
    spec = replace(SPEC, per_channel=True)
    given, scale = operands(spec), np.linspace(0.001, 0.02, spec.n, dtype=np.float32)
    split = SplitGemm(CONFIG, spec, 3)
    made, _ = split.run(GoldenDevice(CONFIG).open(split.memory_bytes), **given, scale=scale)
    assert np.array_equal(made, reference_gemm(given["a"], given["b"], bias=given["bias"], scale=scale))


@pytest.mark.parametrize("rows", [0, 11])
def test_parts_have_rows(rows):
    with pytest.raises(ProgramError, match=rf"^rows of a part must be between 1 and 10, those of the GEMM, not {rows}$"):
        SplitGemm(CONFIG, SPEC, rows)
