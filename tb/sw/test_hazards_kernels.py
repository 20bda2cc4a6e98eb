"""No races in what the kernels emit; and every semaphore that a decoder could not do without is missed."""

from dataclasses import replace

import numpy as np
import pytest

from hw.isa import Opcode
from sw.assembler import Instruction
from sw.embed import CompiledEncoder
from sw.generate import CompiledModel, arguments
from sw.golden.sequencer import mask_bits, run_sequencer
from sw.hazards import find_hazards
from sw.kernels.plan import Mapping, make_plan
from sw.kernels.spec import GemmSpec
from sw.kernels.tiles import TileShape
from sw.models.llama_image import place_embeddings
from sw.models.sentence_model import SentenceModel
from sw.runtime import compile_gemm, gemm_args
from tb.sw.berts import FIELDS, random_tensors, write_bert
from tb.sw.configs import CONFIGS as GEMM_CONFIGS
from tb.sw.decoders import CONFIGS, MODEL, random_weights
from tb.sw.schedules import run_in_order, starving_orders
from tb.sw.test_encoder import CONFIGS as ENCODER_CONFIGS
from tb.sw.test_gemm import EXACT, random_spec

TINY = {"heads": 2, "kv_heads": 1, "head_dim": 16, "hidden": 36, "ffn": 20, "vocab": 33, "layers": 1}
GO = (Opcode.LOAD, Opcode.MATRIX, Opcode.VECTOR, Opcode.STORE)


def gemm_hazards(config, spec, plan=None):
    program = compile_gemm(config, spec, plan=plan)
    return find_hazards(config, program, gemm_args(program, 0.5))


@pytest.mark.parametrize("name", EXACT)
def test_gemms(name):
    for seed in range(3):
        spec = random_spec(name, seed)
        assert gemm_hazards(GEMM_CONFIGS[name], spec) == [], spec


@pytest.mark.parametrize("outer", ["m", "n"])
@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("resident", [True, False])
def test_every_loop_shape(outer, dataflow, resident):
    spec = GemmSpec(m=100, n=72, k=90, batch=2, bias=True, per_channel=True, dataflow=dataflow)
    config = GEMM_CONFIGS["systolic-16x16"]
    for (m, n, k), slots in (((48, 32, 32), 2), ((16, 32, 96), 3), ((64, 64, 32), 3), ((100, 32, 512), 2)):
        mapping = Mapping(dataflow=dataflow, outer=outer, tile=TileShape(m=m, n=n, k=k), resident=resident, inner_slots=slots)
        assert gemm_hazards(config, spec, make_plan(config, spec, mapping)) == [], mapping


@pytest.mark.parametrize(("config", "chunk", "kv", "changes"), [
    ("16x16", 32, "int8", {}), ("16x16", 32, "int4-asym", {}), ("8x8", 8, "int8", {"heads": 5, "kv_heads": 1, "head_dim": 16}),
    ("8x8", 8, "int4-asym", {"heads": 2, "kv_heads": 2, "head_dim": 32, "hidden": 40, "ffn": 12, "vocab": 5}),
    ("4x4", 4, "int8", {"heads": 3, "kv_heads": 1, "head_dim": 64, "hidden": 36, "ffn": 20, "vocab": 33}),
    ("4x4", 4, "int4-asym", {**TINY, "layers": 2}), ("16x16", 16, "int8", {"heads": 3, "kv_heads": 3, "head_dim": 64}),
    ("16x16", 4, "int4-asym", {"heads": 1, "kv_heads": 1, "head_dim": 2, "hidden": 8, "ffn": 4, "vocab": 16}),
], ids=str)
def test_decoders(config, chunk, kv, changes):
    """At the first token, in the first tile of keys, around the end of one, and in later ones; chunks whole and ragged."""
    model = replace(MODEL, **changes)
    compiled = CompiledModel(CONFIGS[config], model, random_weights(model), chunk=chunk, kv=kv)
    for program in (compiled.fill, compiled.prefill, compiled.decode):
        tile = compiled.memory.shape(compiled.config, 1 if program is compiled.decode else chunk).key_tile
        single = program is compiled.decode
        for position in (0, chunk, tile - (1 if single else chunk), tile, 2 * tile + (1 if single else chunk)):
            for count in (1,) if single else (chunk - 1, chunk):
                if position + count <= compiled.context:
                    args = arguments(program, position, count)
                    assert find_hazards(compiled.config, program, args) == [], (program.name, args)


@pytest.mark.parametrize(("config", "chunk", "changes"), [
    ("16x16", 8, {}), ("4x4", 4, {}), ("8x8", 16, {"num_hidden_layers": 3}), ("bus64", 2, {}),
    ("16x16", 16, {"hidden_size": 8, "num_attention_heads": 8, "intermediate_size": 260, "max_position_embeddings": 21}),
], ids=str)
def test_encoders(config, chunk, changes, tmp_path):
    fields = {**FIELDS, **changes}
    model = SentenceModel(write_bert(tmp_path / "model", random_tensors(fields), **changes))
    compiled = CompiledEncoder(ENCODER_CONFIGS[config], model.config, model.weights, chunk=chunk)
    for count in (1, chunk - 1, chunk, 2 * chunk + 1):
        if 1 <= count <= fields["max_position_embeddings"]:
            assert find_hazards(compiled.config, compiled.program, {"count": count}) == [], count


# Mutants -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder():
    """Return config, program, arguments and memory of a token at position 150, its cache full of what could be there."""
    model = replace(MODEL, **TINY)
    weights = random_weights(model)
    compiled = CompiledModel(CONFIGS["4x4"], model, weights, chunk=4)
    memory, rng = compiled.dram.copy(), np.random.default_rng(0)
    cache, layout = compiled.memory.regions["cache"][0], compiled.memory.shape(compiled.config, 1).kv
    scales = layout.offset("key scales")
    memory[cache:cache + scales] = rng.integers(0, 256, scales)
    memory[cache + scales:cache + layout.size].view(np.float32)[:] = rng.uniform(0.01, 0.02, (layout.size - scales) // 4)
    place_embeddings(compiled.memory, weights, [5], memory)
    return compiled.config, compiled.decode, arguments(compiled.decode, 150, 1), memory


def waits(program):
    """Return instruction and semaphore of every wait of a command."""
    decoded = [(pc, Instruction.decode(int(word))) for pc, word in enumerate(program.code)]
    return [(pc, index) for pc, instruction in decoded if instruction.opcode in GO for index in mask_bits(instruction.imm)]


def without_wait(program, pc, index):
    code = program.code.copy()
    code[pc] ^= np.uint64(1 << 32 + index)
    return replace(program, code=code)


def results(config, program, args, memory, seeds=()):
    """Return whether DRAM is, after a run in program order, what it is after runs in other orders."""
    order = [event for event in run_sequencer(program.code, program.argument_values(args)) if event.unit is not None]
    expected, end = run_in_order(config, program, order, memory), program.code_addr
    return {bool(np.array_equal(run_in_order(config, program, other, memory)[:end], expected[:end]))
            for other in starving_orders(program, args, seeds)}


def test_a_decoder_in_other_orders(decoder):
    """Whichever queue comes last, and in random orders, the same bytes."""
    config, program, args, memory = decoder
    assert results(config, program, args, memory, seeds=range(3)) == {True}


def test_missing_waits(decoder):
    """Where a wait is left out and a hazard is found, some order of the commands gives other bytes; where none is, none does."""
    config, program, args, memory = decoder
    mutants = {wait: without_wait(program, *wait) for wait in waits(program)}
    found = {wait: bool(find_hazards(config, mutant, args)) for wait, mutant in mutants.items()}
    assert sum(found.values()) > len(found) / 2
    rng = np.random.default_rng(0)
    for expected in (True, False):
        candidates = [wait for wait, racing in found.items() if racing is expected]
        for i in rng.choice(len(candidates), 3, replace=False):
            wait = candidates[i]
            assert (results(config, mutants[wait], args, memory) != {True}) is expected, wait
