"""What `python -m benchmarks exposed` compares: a token without norms, and without positions, is shorter by their passes."""

from dataclasses import replace

import pytest

from benchmarks.exposed import exposed
from hw.isa import Unit
from hw.presets import preset_named
from sw.generate import CompiledModel, arguments
from sw.golden.sequencer import run_sequencer
from sw.program import Program
from tb.sw.decoders import MODEL, random_weights


def vector_commands(_: CompiledModel, program: Program) -> int:
    values = program.argument_values(arguments(program, 3, 1, resync=False))
    return sum(event.unit == Unit.VECTOR for event in run_sequencer(program.code, values, parity=program.parity))


@pytest.mark.parametrize("preset", ["hybrid-16x16", "systolic-16x16"])
def test_a_token_is_shorter_by_their_passes(preset: str) -> None:
    """Σ x² and 1/√ in the place of the scale of a row that is not normalized; three passes that turn in the place of one."""
    model = replace(MODEL, head_dim=32)
    found = exposed(preset_named(preset), model, random_weights(model), vector_commands)
    assert found["RoPE, a layer"] == 2
    assert found["RMSNorm, each"] == 1
