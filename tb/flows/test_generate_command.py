"""`heddle generate` as a user types it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flows.generate
from flows.cli import main
from sw.generate import CompiledModel, Generator
from sw.golden.device import GoldenDevice
from sw.models.llama import LlamaModel
from sw.sampling import Sampler
from tb.sw.decoders import CONFIGS
from tb.sw.llamas import FIELDS, random_tensors, write_llama

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
         "num_hidden_layers": 1, "max_position_embeddings": 48}
CONFIG = ("systolic-4x4", "--set", "vector=transformer")


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model", **SMALL)


def generate(model, *arguments, config=CONFIG):
    return main(["generate", *config, "--model", str(model), *map(str, arguments)])


def answer_of(capsys, model, *arguments, config=CONFIG):
    assert generate(model, *arguments, "--device", "golden", "--json", config=config) == 0
    return json.loads(capsys.readouterr().out)


def expected_tokens(model, prompt, count, sampler=None):
    """Return the tokens that the golden device makes of a prompt, by hand."""
    llama, sampler = LlamaModel(model), sampler or Sampler()
    compiled = CompiledModel(CONFIGS["4x4"], llama.config, llama.checkpoint.weights())
    generator = Generator(GoldenDevice(compiled.config).open(len(compiled.dram)), compiled)
    tokens, found = llama.tokenizer.encode(prompt), []
    for _ in range(count):
        *_, step = generator.feed(tokens)
        tokens = [sampler.choose(step.logits)]
        found += tokens
    return found


def test_tokens_and_text(capsys, model):
    answer = answer_of(capsys, model, "--prompt", "def f(x):", "--tokens", "6")
    assert answer["tokens"] == expected_tokens(model, b"def f(x):", 6)
    assert answer["text"] == bytes(answer["tokens"]).replace(b"\0", b"").decode(errors="replace")
    assert (answer["prompt_tokens"], answer["context"], answer["device"], answer["ended"]) == (10, 48, "golden", False)
    assert answer["match"] is answer["cycles_per_token"] is answer["prefill_cycles"] is answer["utilization"] is None
    assert answer["bytes_read"] is answer["tokens_per_second"] is answer["bytes_read_per_token"] is None
    assert answer["predicted_prefill_cycles"] > answer["predicted_cycles_per_token"] > 0
    assert answer["kernels_by"] == "predicted"
    assert sum(kernel["prefill_cycles"] for kernel in answer["kernels"]) == answer["predicted_prefill_cycles"]
    assert sum(kernel["cycles_per_token"] for kernel in answer["kernels"]) == pytest.approx(answer["predicted_cycles_per_token"])
    assert {"qkv", "attention", "down", "head"} <= {kernel["name"] for kernel in answer["kernels"]}
    assert answer["counters"]["decode"]["macs"] > 0


def test_a_single_token_has_no_cycles_per_token(capsys, model):
    answer = answer_of(capsys, model, "--prompt", "a", "--tokens", "1")
    assert len(answer["tokens"]) == 1
    assert answer["predicted_cycles_per_token"] is None


def test_a_prompt_from_a_file(capsys, tmp_path, model):
    (tmp_path / "prompt").write_bytes(b"x = \xff1\n")
    answer = answer_of(capsys, model, "--prompt-file", tmp_path / "prompt", "--tokens", "3")
    assert answer["prompt_tokens"] == 8
    assert answer["tokens"] == expected_tokens(model, b"x = \xff1\n", 3)


def test_a_prompt_that_is_no_utf8(capsys, model):
    answer = answer_of(capsys, model, "--prompt", os.fsdecode(b"x = \xff1\n"), "--tokens", "3")
    assert answer["tokens"] == expected_tokens(model, b"x = \xff1\n", 3)


def test_sampling(capsys, model):
    drawn = ("--prompt", "a", "--tokens", "12", "--temperature", "2.5", "--seed")
    answer = answer_of(capsys, model, *drawn, "5")
    assert answer["tokens"] == expected_tokens(model, b"a", 12, Sampler(2.5, seed=5))
    assert answer["tokens"] != answer_of(capsys, model, *drawn, "6")["tokens"]
    greatest = answer_of(capsys, model, *drawn, "5", "--top-k", "1")
    assert greatest["tokens"] == answer_of(capsys, model, "--prompt", "a", "--tokens", "12")["tokens"]


@pytest.mark.parametrize("options", [("--chunk", "8"), ("--chunk", "1"), ("--context", "20"), ("--kv", "int4-asym")])
def test_options_of_compilation(capsys, model, options):
    answer = answer_of(capsys, model, "--prompt", "def f(x):", "--tokens", "2", *options)
    assert len(answer["tokens"]) == 2
    if options[0] in ("--chunk", "--context"):
        assert answer[options[0].removeprefix("--")] == int(options[1])


def test_the_model_may_end_the_text(capsys, tmp_path):
    """The second token that it would make is the one that ends a text."""
    plain = write_llama(tmp_path / "plain", **SMALL)
    first, second = expected_tokens(plain, b"a", 2)
    assert first != second
    model = write_llama(tmp_path / "model", **SMALL, eos_token_id=second)
    answer = answer_of(capsys, model, "--prompt", "a", "--tokens", "9")
    assert answer["tokens"] == [first]
    assert answer["ended"]
    assert generate(model, "--prompt", "a", "--tokens", "9", "--device", "golden") == 0
    assert "the model ended the text" in capsys.readouterr().out


def test_people_see_the_text_and_where_the_cycles_go(capsys, model):
    assert generate(model, "--prompt", "def f(x):\n", "--tokens", "5", "--device", "golden") == 0
    out = capsys.readouterr().out
    assert out.startswith("def f(x):\n")
    for said in ("model on systolic-4x4 (golden)", "cycles, predicted", "cycles by kernel, predicted", "attention", "gate and up",
                 "the golden device has no time: cycles are predicted"):
        assert said in out


def test_what_a_terminal_would_obey_is_not_written_to_it(capsys, tmp_path, model):
    (tmp_path / "prompt").write_bytes(b"a\x1b[31m\x07b")
    assert generate(model, "--prompt-file", tmp_path / "prompt", "--tokens", "1", "--device", "golden") == 0
    assert capsys.readouterr().out.startswith("a\ufffd[31m\ufffdb")


def test_text_comes_as_it_is_made(model):
    """On a terminal, the prompt is there before the last token is."""
    here, there = pty.openpty()
    command = [sys.executable, "-m", "flows.cli", "generate", *CONFIG, "--model", str(model), "--prompt", "def f(x):",
               "--tokens", "30", "--device", "golden"]
    with subprocess.Popen(command, cwd=ROOT, stdout=there, stderr=there, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(there)
        seen = b""
        while b"def f(x):" not in seen:
            seen += os.read(here, 4096)
        assert process.poll() is None
        try:
            while chunk := os.read(here, 4096):
                seen += chunk
        except OSError:
            pass            # the other side is closed
        assert process.wait() == 0
    assert b"cycles by kernel" in seen
    os.close(here)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--prompt", "x" * 48, "--tokens", "1"), "the prompt must have at most 48 tokens, the context, not 49"),
    (("--prompt", "x" * 40, "--tokens", "8"),
     "prompt and generated tokens must be at most 48 together, the context, not 41 + 8 = 49"),
    (("--prompt", "x" * 30, "--tokens", "1", "--context", "20"), "the prompt must have at most 20 tokens, the context, not 31"),
    (("--prompt", "x", "--tokens", "1", "--context", "49"), "the context must be between 1 and the model's 48 tokens, not 49"),
    (("--prompt", "x", "--tokens", "1", "--context", "0"), "the context must be at least 1 token, not 0"),
    (("--prompt", "", "--tokens", "1"), "the prompt must have at least one character, not none"),
    (("--prompt-file", "no-such-file", "--tokens", "1"), "--prompt-file must be a file, not 'no-such-file'"),
    (("--prompt", "x", "--tokens", "0"), "the tokens to generate must be at least 1, not 0"),
    (("--prompt", "x", "--tokens", "1", "--chunk", "12"), "the chunk must be a power of two, not 12"),
    (("--prompt", "x", "--tokens", "1", "--temperature", "-1"), "temperature must be 0 or a positive number, not -1.0"),
    (("--prompt", "x", "--tokens", "1", "--top-k", "2"),
     "top_k must go with a temperature above 0, not 2 with 0, which takes the greatest logit"),
    (("--prompt", "x", "--tokens", "1", "--stall", "2"),
     "MemoryTiming.stall must be between 0 and 0.95 (a probability), not 2.0"),
    (("--prompt", "x", "--tokens", "1", "--set", "vector=requantize"),
     "AcceleratorConfig.vector must be 'transformer' to run a transformer, not 'requantize'"),
    (("--prompt", "x", "--tokens", "1", "--set", "weight_format=int4"),
     "AcceleratorConfig.weight_format must be int8 to run a transformer, not 'int4'"),
])
def test_requests_that_cannot_be(capsys, monkeypatch, model, arguments, said):
    monkeypatch.setattr(flows.generate, "generate", None)
    monkeypatch.setattr("flows.rtl_device.build_native", None)      # whatever is refused is refused before anything is built
    assert generate(model, *arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"heddle: {said}\n")


def test_a_model_that_does_not_fit(capsys, monkeypatch, model):
    monkeypatch.setattr("flows.rtl_device.build_native", None)
    assert generate(model, "--prompt", "x", "--tokens", "1", "--set", "scratchpad_bytes=4096") == 2
    assert "must fit into 4096 scratchpad bytes, not need " in capsys.readouterr().err


def broken_weights():
    tensors = random_tensors({**FIELDS, **SMALL})
    tensors["model.layers.0.mlp.down_proj.weight"][3, 5] = np.nan
    return tensors


def weights_that_overflow():
    tensors = random_tensors({**FIELDS, **SMALL})
    tensors["model.layers.0.input_layernorm.weight"][3] = 3e38
    tensors["model.layers.0.self_attn.q_proj.weight"][:, 3] = 2
    return tensors


@pytest.mark.parametrize(("tensors", "said"), [
    (weights_that_overflow, "weights must be finite, but qkv of layer 0 holds NaN or infinity"),
    (broken_weights, "weights must be finite float32, not nan: model.layers.0.mlp.down_proj.weight, row 3, column 5"),
    (lambda: {name: tensor for name, tensor in random_tensors({**FIELDS, **SMALL}).items() if "k_proj" not in name},
     "must hold model.layers.0.self_attn.k_proj.weight of shape (8, 16), but has no such tensor"),
    (lambda: {**random_tensors({**FIELDS, **SMALL}), "model.norm.weight": np.ones(15, np.float32)},
     "model.norm.weight must be of shape (16,) by "),
])
def test_weights_that_cannot_be(capsys, monkeypatch, tmp_path, tensors, said):
    monkeypatch.setattr("flows.rtl_device.build_native", None)
    model = write_llama(tmp_path / "model", tensors(), **SMALL)
    assert generate(model, "--prompt", "x", "--tokens", "1") == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_model(capsys, tmp_path):
    assert generate(tmp_path / "none", "--prompt", "x", "--tokens", "1") == 2
    assert capsys.readouterr().err.startswith("heddle: MODEL must be a folder with config.json, not ")
