"""`heddle generate` on the RTL of a hybrid engine: packed weights on mesh and clusters, past the scratchpad for one token."""

import json
from dataclasses import replace

import pytest

from flows.cli import main
from hw.presets import preset_named
from sw.kernels.transformer.weight_plan import WeightPlan
from sw.models.llama import LlamaModel
from tb.array.hybrid import SMALL_HYBRID
from tb.flows.decode_traffic import check_bytes
from tb.sw.llamas import FIELDS, random_tensors, write_llama

CONFIG = replace(preset_named("systolic-8x8"), **SMALL_HYBRID | {"scratchpad_bytes": 1 << 16, "accumulator_rows": 512},
                 weight_formats=("mxint4", "int4-g32-int8"), rotary_pairs=8)
MODEL = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
         "num_hidden_layers": 1, "max_position_embeddings": 48}


@pytest.mark.xdist_group("hybrid-8x8")
@pytest.mark.parametrize(("weights", "more"), [
    ("mxint4", ()), ("int4-g32-int8", ("--stall", "0.3", "--memory-latency", "90")), ("int8", ())])
def test_the_rtl_makes_the_golden_tokens(capsys, tmp_path, weights, more):
    """Memory after every run is compared; cycles are near those predicted unless memory stalls."""
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    model = write_llama(tmp_path / "model", **MODEL)
    request = ["--prompt", "def f(x):", "--tokens", "3", "--chunk", "8", "--weights", weights, "--json", *more]
    assert main(["generate", "--config", str(tmp_path / "config.json"), "--model", str(model), *request]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["match"] is True
    assert len(answer["tokens"]) == 3
    assert main(["generate", "--config", str(tmp_path / "config.json"), "--model", str(model), "--device", "golden",
                 *request]) == 0
    golden = json.loads(capsys.readouterr().out)
    assert golden["tokens"] == answer["tokens"]
    for name in CONFIG.engine_counters:
        assert golden["counters"]["decode"][name] == answer["counters"]["decode"][name]
    check_bytes(answer, CONFIG, LlamaModel(model), chunk=8, plan=WeightPlan.uniform(MODEL["num_hidden_layers"], weights))
    if not more:
        assert answer["prefill_cycles"] == pytest.approx(answer["predicted_prefill_cycles"], rel=0.1)
        assert answer["cycles_per_token"] == pytest.approx(answer["predicted_cycles_per_token"], rel=0.05)


def test_blocks_that_lose_bits_are_shown(capsys, tmp_path):
    """Half of a matrix is 12 octaves below the other half; there are 8 guard bits."""
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    tensors = random_tensors({**FIELDS, **MODEL})
    tensors["model.layers.0.mlp.down_proj.weight"][:, :32] *= 2.0**-12
    request = ["generate", "--config", str(tmp_path / "config.json"), "--prompt", "def f(x):", "--tokens", "2", "--chunk", "8",
               "--device", "golden"]
    assert main([*request, "--model", str(write_llama(tmp_path / "spread", tensors, **MODEL))]) == 0
    line, = (line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["blocks", "rounded"])
    assert line.split() == ["blocks", "rounded", "64", "32", "32"]      # of 32 outputs, in each run
    assert main([*request, "--model", str(write_llama(tmp_path / "even", **MODEL))]) == 0
    assert "blocks rounded" not in capsys.readouterr().out
