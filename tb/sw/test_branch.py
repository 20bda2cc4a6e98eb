"""Runs side by side are the golden device's, each on its own data; a branch that is changed goes its own way."""

import numpy as np
import pytest

from hw.isa import Unit
from sw.generate import CompiledModel
from sw.golden.branch import advance, begin, branch, commands_of
from sw.golden.device import GoldenDevice
from sw.kernels.spec import GemmSpec
from sw.models.llama_image import place_embeddings
from sw.runtime import compile_gemm, gemm_args
from tb.sw.configs import CONFIGS
from tb.sw.decoders import CONFIGS as DECODER_CONFIGS
from tb.sw.decoders import MODEL, random_weights

RUNS = 3


def golden_memory(config, program, args, memory):
    """Return what the golden device makes of a memory."""
    session = GoldenDevice(config).open(len(memory))
    program.place(session.memory)
    session.memory[:] = memory
    session._placed.append(program)
    session.run(program, args)
    return session.memory


@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("name", ["systolic-4x4", "w4-5x7", "acc16", "12x6"])
def test_gemms_side_by_side(name, dataflow):
    config = CONFIGS[name]
    spec = GemmSpec(m=9, n=11, k=23, bias=True, per_channel=True, a="transposed", dataflow=dataflow)
    program = compile_gemm(config, spec)
    rng = np.random.default_rng(1)
    memories = rng.integers(0, 256, (RUNS, program.memory_bytes), dtype=np.uint8)
    for memory in memories:
        program.place(memory)
        scales = program.region("parameters")
        words = memory[scales.addr:scales.addr + scales.size].view(np.int32)
        words[:] = np.where(np.arange(len(words)) < len(words) // 2, words >> 8, np.float32(0.01).view(np.int32))
    args = gemm_args(program)
    state = begin(config, memories.copy())
    advance(state, commands_of(program, args))
    for memory, made in zip(memories, state.memory, strict=True):
        assert np.array_equal(golden_memory(config, program, args, memory), made)
    assert not np.array_equal(state.memory[0], state.memory[1])


@pytest.mark.parametrize("kv", ["int8", "int4-asym"])
def test_decoders_side_by_side(kv):
    config = DECODER_CONFIGS["16x16"]
    compiled = CompiledModel(config, MODEL, random_weights(MODEL), chunk=8, kv=kv)
    program, args = compiled.prefill, {"position": 0, "count": 7}
    memories = np.repeat(compiled.dram[None], RUNS, axis=0)
    rng = np.random.default_rng(2)
    for memory in memories:
        program.place(memory)
        place_embeddings(compiled.memory, compiled.weights, rng.integers(0, MODEL.vocab, 7), memory)
    state = begin(config, memories.copy())
    advance(state, commands_of(program, args))
    for memory, made in zip(memories, state.memory, strict=True):
        assert np.array_equal(golden_memory(config, program, args, memory), made)


def test_a_branch_goes_its_own_way():
    config = CONFIGS["systolic-8x8"]
    spec = GemmSpec(m=6, n=8, k=12, output="float32")
    program = compile_gemm(config, spec)
    memory = np.random.default_rng(3).integers(0, 256, program.memory_bytes, dtype=np.uint8)
    program.place(memory)
    commands = commands_of(program, gemm_args(program, 1.0))
    last = max(i for i, event in enumerate(commands) if event.unit == Unit.MATRIX)
    state = begin(config, memory)
    advance(state, commands[:last + 1])
    copies, alone = branch(state, 2), branch(state)
    copies.accumulator[1, commands[last].fields["acc_addr"], 2] += 1000
    for run in (copies, alone):
        advance(run, commands[last + 1:])
    assert np.array_equal(copies.memory[0], alone.memory)
    area = program.region("c")
    made = copies.memory[:, area.addr:area.addr + area.size].copy().view(np.float32)
    assert np.flatnonzero(made[1] - made[0]).size == 1
    assert (made[1] - made[0]).max() == 1000
    assert np.array_equal(state.memory, memory)         # what a branch writes is its own
