"""`heddle generate` on the RTL: the golden device's tokens, bit for bit, and what is counted."""

import json
from pathlib import Path

import pytest

import flows.checked
from flows.cli import main
from hw.presets import preset_named
from sw.golden.device import GoldenSession
from sw.models.llama import LlamaModel
from sw.replay import save_case
from tb.flows.decode_traffic import check_bytes
from tb.sw.llamas import write_llama

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "python-llama-1m"
MODEL = {"hidden_size": 24, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
         "num_hidden_layers": 1, "max_position_embeddings": 48}
REQUEST = ("--prompt", "def f(x):\n    ", "--tokens", "4", "--chunk", "8")


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model", **MODEL)


def generate(model, *arguments, preset="systolic-8x8"):
    return main(["generate", preset, "--model", str(model), *arguments])


def answer_of(capsys, model, *arguments, preset="systolic-8x8"):
    assert generate(model, *arguments, "--json", preset=preset) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.xdist_group("systolic-8x8")
def test_the_rtl_makes_the_golden_tokens(capsys, model):
    answer = answer_of(capsys, model, *REQUEST)
    golden = answer_of(capsys, model, *REQUEST, "--device", "golden")
    assert answer["match"] is True
    assert answer["tokens"] == golden["tokens"]
    assert answer["text"] == golden["text"]
    assert answer["kernels_by"] == "sampled"
    assert sum(kernel["prefill_cycles"] for kernel in answer["kernels"]) == answer["prefill_cycles"]
    assert sum(kernel["cycles_per_token"] for kernel in answer["kernels"]) == pytest.approx(answer["cycles_per_token"])
    assert {kernel["name"] for kernel in answer["kernels"]} <= {kernel["name"] for kernel in golden["kernels"]}
    assert answer["prefill_cycles"] == pytest.approx(answer["predicted_prefill_cycles"], rel=0.05)
    assert answer["cycles_per_token"] == pytest.approx(answer["predicted_cycles_per_token"], rel=0.05)
    prefill, decode = answer["counters"]["prefill"], answer["counters"]["decode"]
    for name in ("macs", "instructions", "bytes_written", "saturations"):
        assert prefill[name] == golden["counters"]["prefill"][name]
        assert decode[name] == golden["counters"]["decode"][name]
    cycles = answer["prefill_cycles"] + 3 * answer["cycles_per_token"]
    assert answer["utilization"] == pytest.approx((prefill["macs"] + decode["macs"]) / cycles / 64)
    assert answer["weight_bytes"] < answer["bytes_read_per_token"] == decode["bytes_read"] / 3
    assert answer["tokens_per_second"] > 0


@pytest.mark.xdist_group("systolic-8x8")
def test_a_slow_memory_changes_cycles_and_nothing_else(capsys, model):
    quick = answer_of(capsys, model, *REQUEST)
    slow = answer_of(capsys, model, *REQUEST, "--stall", "0.3", "--memory-latency", "90")
    assert slow["match"] is True
    assert slow["tokens"] == quick["tokens"]
    assert slow["cycles_per_token"] > 1.1 * quick["cycles_per_token"]


@pytest.mark.xdist_group("systolic-8x8")
def test_keys_and_values_of_four_bits(capsys, model):
    answer = answer_of(capsys, model, *REQUEST, "--kv", "int4-asym")
    assert answer["match"] is True
    assert len(answer["tokens"]) == 4


@pytest.mark.xdist_group("systolic-8x8")
def test_a_run_that_differs_ends_it(capsys, monkeypatch, tmp_path, model):
    """The golden device gets a byte of the cache wrong in the run of the second token."""
    runs = 0

    class Wrong(GoldenSession):
        def run(self, program, args=None):
            nonlocal runs
            runs += 1
            result = super().run(program, args)
            if runs == 4:               # two chunks of the prompt, then the first token
                self.memory[program.region("cache").addr] ^= 4
            return result

    def save(case):
        save_case(case, tmp_path / "case")
        return str(tmp_path / "case")

    monkeypatch.setattr("sw.golden.device.GoldenSession", Wrong)
    monkeypatch.setattr(flows.checked, "save_replay", save)
    assert generate(model, *REQUEST) == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out
    assert f"the RTL differs from the golden device; see: heddle replay {tmp_path / 'case'}" in out.replace("\n", "")
    monkeypatch.undo()
    assert main(["replay", str(tmp_path / "case"), "--json"]) == 0      # it is the golden device that was wrong
    assert json.loads(capsys.readouterr().out)["match"] is True


@pytest.mark.xdist_group("systolic-16x16")
def test_the_shipped_model_goes_on_with_python(capsys):
    """The beginning of what `make sim` does; a token moves the bytes of the formula, and lines of instructions."""
    answer = answer_of(capsys, SHIPPED, "--prompt-file", str(SHIPPED / "prompt.txt"), "--tokens", "4", preset="systolic-16x16")
    assert (answer["text"], answer["match"]) == ("_sta", True)
    check_bytes(answer, preset_named("systolic-16x16"), LlamaModel(SHIPPED))
