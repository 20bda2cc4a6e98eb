"""A model on the RTL of an array and of a PIM: the golden devices' tokens, everything compared after every run."""

import dataclasses
import json

import pytest

from flows.cli import main
from hw.pim.presets import PIM_PRESETS
from hw.presets import PRESETS
from hw.system import SystemConfig
from tb.sw.llamas import write_llama

MODEL = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
         "num_hidden_layers": 1, "max_position_embeddings": 48}
SYSTEM = SystemConfig(array=PRESETS["systolic-8x8"], pim=PIM_PRESETS["pim-tiny"])


@pytest.mark.xdist_group("pim-tiny")
def test_the_rtl_of_both_makes_the_golden_tokens(capsys, tmp_path):
    model, config = write_llama(tmp_path / "model", **MODEL), tmp_path / "system.json"
    config.write_text(SYSTEM.to_json())
    answers = {}
    for device in ("rtl", "golden"):
        assert main(["generate", "--config", str(config), "--model", str(model), "--prompt", "f(x)", "--tokens", "4", "--device",
                     device, "--json"]) == 0
        answers[device] = json.loads(capsys.readouterr().out)
    rtl, golden = answers["rtl"], answers["golden"]
    assert rtl["match"] is True
    assert rtl["tokens"] == golden["tokens"]
    assert (rtl["cycles_by"], golden["cycles_by"]) == ("counted", "predicted")
    assert main(["generate", "--config", str(config), "--model", str(model), "--prompt", "f(x)", "--tokens", "2", "--stall",
                 "0.8", "--json"]) == 0
    stalled = json.loads(capsys.readouterr().out)
    assert (stalled["match"], stalled["tokens"]) == (True, rtl["tokens"][:2])
    assert stalled["cycles_per_token"]["pim"] > 1.1 * rtl["cycles_per_token"]["pim"]        # its hosts stall as well
    for phase in ("prefill_cycles", "cycles_per_token"):
        assert rtl[phase]["array"] == pytest.approx(golden[phase]["array"], rel=0.1)
        assert rtl[phase]["transfer"] == golden[phase]["transfer"]
    assert rtl["cycles_per_token"]["pim"] >= golden["cycles_per_token"]["pim"]


@pytest.mark.xdist_group("pim-tiny")
def test_attention_on_the_array_and_the_mlp_on_the_pim(capsys, tmp_path):
    model, config = write_llama(tmp_path / "model", **MODEL), tmp_path / "system.json"
    config.write_text(dataclasses.replace(SYSTEM, placement=(("ffn", "pim"),)).to_json())
    answers = []
    for device in ("rtl", "golden"):
        assert main(["generate", "--config", str(config), "--model", str(model), "--prompt", "f(x)", "--tokens", "3", "--device",
                     device, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["match"] is True
    assert answers[0]["tokens"] == answers[1]["tokens"]
    assert {kernel["name"] for kernel in answers[0]["kernels"] if kernel["device"] == "pim"} == {"gate and up", "down"}
    assert answers[0]["bytes_transferred"]["prompt"] == 0
