"""`heddle generate` on systems of an array and a PIM, and `heddle run` on a PIM, as a user types them; on golden devices."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import flows.system
from flows.cli import main
from flows.pim.checked import CheckedPimSession
from hw.pim.presets import PIM_PRESETS
from hw.system import SYSTEM_PRESETS
from sw.device import Result
from sw.golden.device import GoldenDevice
from sw.golden.pim.device import GoldenPimDevice
from sw.models.llama import LlamaModel
from sw.pim.assembler import assemble
from sw.pim.p3 import linear_cycles
from sw.pim.program import PimProgram, PimRegion, PimStream
from sw.sampling import Sampler
from sw.system import CompiledSystem, SystemGenerator
from tb.sw.llamas import write_llama

SMALL = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
         "num_hidden_layers": 1, "max_position_embeddings": 48}


@pytest.fixture
def model(tmp_path):
    return write_llama(tmp_path / "model", **SMALL)


def generate(model, *arguments, system=("duplex-tiny",)):
    return main(["generate", *system, "--model", str(model), *map(str, arguments)])


def answer_of(capsys, model, *arguments, system=("duplex-tiny",)):
    assert generate(model, *arguments, "--device", "golden", "--json", system=system) == 0
    return json.loads(capsys.readouterr().out)


REQUEST = ("--prompt", "def f(x):", "--tokens", "4")


def test_tokens_are_those_of_the_golden_system(capsys, model):
    answer = answer_of(capsys, model, *REQUEST)
    llama, config = LlamaModel(model), SYSTEM_PRESETS["duplex-tiny"]
    compiled = CompiledSystem(config, llama.config, llama.checkpoint.weights())
    generator = SystemGenerator(GoldenDevice(config.array).open(len(compiled.dram)), GoldenPimDevice(config.pim).open(), compiled)
    tokens, found = llama.tokenizer.encode(b"def f(x):"), []
    for _ in range(4):
        *_, step = generator.feed(tokens)
        tokens = [Sampler().choose(step.logits)]
        found += tokens
    assert answer["tokens"] == found
    assert answer["match"] is None
    assert (answer["channels"], answer["placement"]) == (2, {"attention": "pim", "ffn": "pim"})
    assert answer["cycles_by"] == "predicted"
    assert answer["prefill_cycles"]["pim"] == 0
    assert all(answer["cycles_per_token"][device] > 0 for device in ("array", "transfer", "pim"))
    for phase in ("prefill_cycles", "cycles_per_token"):
        for device in ("array", "transfer", "pim"):
            parts = sum(kernel[phase] for kernel in answer["kernels"] if kernel["device"] == device)
            assert parts == pytest.approx(answer[phase][device])
    assert {kernel["name"] for kernel in answer["kernels"] if kernel["device"] == "pim"} == {"attention", "gate and up", "down"}


def test_a_table_for_people(capsys, model):
    assert generate(model, *REQUEST, "--device", "golden") == 0
    out = capsys.readouterr().out
    for text in ("duplex-tiny (golden)", "cycles, array", "cycles, PIM", "cycles, transfers", "bytes moved", "gate and up",
                 "predicted", "which is a model"):
        assert text in out


@pytest.mark.parametrize("system", [
    ("duplex-tiny", "--set", "channels=1"), ("duplex-tiny", "--set", "placement=attention:pim,ffn:pim", "--set", "link_bytes=64"),
    ("--config", "system.json"),
])
def test_other_channels_and_links_make_the_same_tokens(capsys, model, tmp_path, monkeypatch, system):
    monkeypatch.chdir(tmp_path)
    Path("system.json").write_text(SYSTEM_PRESETS["duplex-tiny"].to_json())
    expected = answer_of(capsys, model, *REQUEST)
    found = answer_of(capsys, model, *REQUEST, system=system)
    assert found["tokens"] == expected["tokens"]
    assert (found["cycles_per_token"] == expected["cycles_per_token"]) == (system[0] == "--config")


class _Wrong:
    """A PIM session whose k-th run has a wrong bit."""

    def __init__(self, session, k):
        self.session, self.memory, self.left = session, session.memory, k

    def run(self, program, args=None, inputs=None):
        result = self.session.run(program, args, inputs)
        self.left -= 1
        if self.left == 0:
            name, data = next(iter(result.outputs.items()))
            result.outputs[name] = data ^ np.uint8(1)
        return Result(outputs=result.outputs, cycles=7)

    def close(self):
        self.session.close()


def test_a_pim_that_differs_ends_the_text_and_is_named(model, monkeypatch):
    llama, config = LlamaModel(model), SYSTEM_PRESETS["duplex-tiny"]
    compiled = CompiledSystem(config, llama.config, llama.checkpoint.weights())

    asked = []

    class Array(GoldenDevice):
        timing = flows.rtl_device.MemoryTiming(stall=0.25, seed=2**62 + 3)

    class Pim(GoldenPimDevice):
        def open(self, **host):
            asked.append(host)
            return _Wrong(super().open(), 5)

    found = flows.system.generate_on_system(compiled, (Array(config.array), Pim(config.pim)), [1, 2, 3], 4, Sampler())
    assert found.match is False
    assert found.differs == "gate and up of layer 0"
    assert asked == [{"stall": 0.25, "seed": 3}]
    assert len(found.tokens) == 2           # the fifth run is the second of the second token, whose logits are not used
    assert found.to_json()["cycles_by"] == "counted"


def test_what_is_copied_to_the_golden_side_is_what_a_program_reads():
    config = PIM_PRESETS["pim-tiny"]
    session = CheckedPimSession(GoldenPimDevice(config).open(), GoldenPimDevice(config))
    for memory in session.memory:
        memory[0, :2] = np.random.default_rng(5).integers(0, 60, memory[0, :2].shape)        # of the checked side alone
    words = assemble("setm k_beats, 2\nwrx\nmac grp=0 row=1 cnt=0 clr last\nrdacc\neoc")
    region = PimRegion(name="row", channel=1, addr=16 * config.row_bytes, size=config.row_bytes, role="scratch")
    programs = [PimProgram(name="product", config_digest=config.digest(), lists=(words[-1:], words), regions=regions,
                           inputs=(PimStream(name="x", channel=1, kind="x", count=1),),
                           outputs=(PimStream(name="y", channel=1, kind="entries", count=1),)) for regions in ((region,), ())]
    inputs = {"x": np.ones((1, config.rows_x, config.lanes), np.float32)}
    assert session.run(programs[0], None, inputs).outputs["y"].any()
    assert session.match
    session.memory[1][0, 1] ^= 1                # which a program that does not name the row leaves uncopied
    session.run(programs[1], None, inputs)
    assert (session.match, session.differs) == (False, "product")
    session.close()


@pytest.mark.parametrize(("arguments", "message"), [
    (("--prompt", "x", "--tokens", "60"), "prompt and generated tokens must be at most 48 together, .*"),
    (("--prompt", "x", "--tokens", "1", "--context", "99"), "the context must be between 1 and the model's 48 tokens, not 99"),
    (("--prompt", "x", "--tokens", "1", "--kv", "int4-asym"), ("--kv is for an array alone; a system has int8 on its array and "
                                                               "float16 on its PIM")),
    (("--prompt", "x", "--tokens", "1", "--weights", "int8"), "--weights is for an array alone; .*"),
    (("--prompt", "x", "--tokens", "1", "--set", "channels=4"), "SystemConfig.channels must be between 1 and 2, .*, not 4"),
    (("--prompt", "x", "--tokens", "1", "--set", "split=layers"), "SystemConfig.split must be one of heads, tokens, .*"),
    (("--prompt", "x", "--tokens", "1", "--set", "channels=two"), "--set channels must be an integer, not 'two'"),
    (("--prompt", "x", "--tokens", "1", "--set", "rows=4"),
     "--set must name one of channels, link_bytes, placement, split for a system, not 'rows'"),
    (("--prompt", "x", "--tokens", "1", "--set", "channels"), "--set must be KEY=VALUE, not 'channels'"),
    (("--prompt", "x", "--tokens", "1", "--set", "placement=ffn:array"), "SystemConfig.placement must be with .*"),
])
def test_requests_that_are_refused(capsys, model, arguments, message):
    assert generate(model, *arguments) == 2
    error = capsys.readouterr().err.replace("\n", " ").strip()
    assert re.fullmatch(f"heddle: {message}", error), error


@pytest.mark.parametrize(("fields", "message"), [
    ('{"pim": "pim-duplex-tiny"}', "SystemConfig.array must be given"),
    ('{"array": "systolic-8x8"}', "SystemConfig.pim must be given"),
    ('{"array": "systolic-8x8", "pim": "pim-duplex-tiny", "pim": "pim-tiny"}',
     "a config must have each field once, not 'pim' twice"),
    ('{"array": "systolic-8x8", "pim": "pim-duplex-tiny", "split": 3}', "SystemConfig.split must be one of heads, .*, not 3"),
])
def test_files_that_say_no_system(capsys, model, tmp_path, fields, message):
    file = tmp_path / "system.json"
    file.write_text(fields)
    assert generate(model, *REQUEST, system=("--config", str(file))) == 2
    error = capsys.readouterr().err.strip()
    assert re.fullmatch(f"heddle: {message}", error), error
    assert generate(model, *REQUEST, system=("duplex-tiny", "--config", str(file))) == 2
    assert capsys.readouterr().err == "heddle: give either a PRESET or --config FILE\n"


def test_channels_that_share_tokens(capsys, model):
    answer = answer_of(capsys, model, *REQUEST, system=("duplex-tiny", "--set", "split=tokens"))
    assert answer["split"] == "tokens"
    assert {"merging of parts", "attention"} <= {kernel["name"] for kernel in answer["kernels"] if kernel["device"] == "pim"}


def test_a_preset_that_there_is_not_names_all(capsys, model):
    assert generate(model, *REQUEST, system=("duplex-huge",)) == 2
    error = capsys.readouterr().err
    assert "systolic-8x8" in error
    assert "duplex-tiny, duplex-tiny-attention, duplex-tiny-ffn, not 'duplex-huge'" in error


# A GEMM on a PIM -----------------------------------------------------------------------------------------------------


def run_pim(capsys, *arguments, preset="pim-tiny"):
    status = main(["run", preset, *arguments, "--json"])
    out = capsys.readouterr()
    return status, json.loads(out.out) if status == 0 else out.err.strip()


def test_a_gemm_beside_its_law(capsys):
    status, answer = run_pim(capsys, "--gemm", "3,100,128", "--device", "golden", "--channels", "2")
    assert status == 0
    assert answer["law_cycles"] == 2 * 128 * 50 / 16        # passes · K · outputs of a channel / lanes
    assert answer["law_cycles_refreshed"] > answer["law_cycles"]
    assert (answer["match"], answer["cycles"], answer["channels"], answer["macs"]) == (None, None, 2, 3 * 100 * 128)
    assert 0 < answer["max_error"] < 1e-4
    assert main(["run", "pim-tiny", "--gemm", "1,8,64", "--device", "golden"]) == 0
    assert "law, refreshed" in capsys.readouterr().out


@pytest.mark.parametrize("wtype", ["bitmod4", "int4-asym", "mxint4-b128"])
def test_a_gemm_of_quantized_weights(capsys, wtype):
    fields = (f"wtype={wtype}", "kvtype=p3-kv", "xtype=float8_e4m3fn", "ptype=float8_s0e4m4", "acc=int32", "lanes=64",
              "k_tile=256")
    status, answer = run_pim(capsys, "--gemm", "2,64,256", "--device", "golden", *(x for f in fields for x in ("--set", f)))
    assert (status, answer["law_cycles"]) == (0, 64 * 256 / 64)
    assert 0 < answer["max_error"] < 1e-4


def test_p3_llm_has_a_law_of_its_own(capsys):
    # Groups of all lanes; a page of 128 inputs and its 16 × 8 outputs, twice, and both vectors read out.
    request = "--gemm", "2,256,256", "--device", "golden", "--set", "wtype=bitmod4-g256"
    assert "p3_law_cycles" not in run_pim(capsys, *request, preset="pim-p3")[1]
    law = linear_cycles(256, 256, 2, channels=1)
    assert law == 2 * linear_cycles(256, 128, 2, channels=1) == linear_cycles(256, 4096, 2)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--workload", "minilm-layer"), "--workload is for arrays; a PIM takes --gemm M,N,K"),
    (("--gemm", "1,8,64", "--dataflow", "ws"), "a PIM takes --gemm M,N,K, without --dataflow"),
    (("--gemm", "1,8,64", "--memory-latency", "3"), "--memory-latency is for arrays; a PIM takes --gemm M,N,K"),
    (("--gemm", "1,8,64", "--memory-bandwidth", "0.5"), "--memory-bandwidth is for arrays; a PIM takes --gemm M,N,K"),
    (("--gemm", "1,8,64", "--stall", "1"), r"--stall must be between 0 and 0.95 (a probability), not 1.0"),
    (("--gemm", "1,8,64", "--seed", "-1"), "--seed must be between 0 and 2**62 - 1, not -1"),
    (("--gemm", "9000000,8,64"), ("--gemm must have at most 67108864 activations and 67108864 weights, "
                                  "not 576000000 and 512")),
    (("--gemm", "1,8"), "--gemm must be M,N,K, three whole numbers, not '1,8'"),
    (("--gemm", "0,8,64"), "--gemm must have at least one row of activations, not 0"),
    (("--gemm", "1,8,64", "--channels", "3"), "LinearPlan.channels must be between 1 and 2, the pseudo-channels, not 3"),
    (("--gemm", "1,65536,4096"), ("a linear of 65536 outputs and 4096 inputs must end within 2097152 bytes, "
                                  "a channel's, not at 536870912")),
    (("--gemm", "1,8,64", "--set", "lanes=12"), ("PimConfig.lanes must be a divisor of the 32 weights of a "
                                                    "burst, at least 16, not 12")),
])
def test_gemms_that_are_refused(capsys, arguments, message):
    assert run_pim(capsys, *arguments) == (2, f"heddle: {message}")


def test_pims_and_arrays_that_there_are_not(capsys):
    status, error = run_pim(capsys, "--gemm", "1,8,64", preset="pim-huge")
    assert (status, "not 'pim-huge'" in error) == (2, True)
    status, error = run_pim(capsys, "--gemm", "1,8,64", "--device", "golden", "--set", "wtype=bitmod4-g32", preset="pim-p3")
    assert (status, error.startswith("heddle: groups of bitmod4-g32 must be whole beats of")) == (2, True)
    status, error = run_pim(capsys, "--gemm", "4,4,4", "--channels", "2", preset="systolic-4x4")
    assert (status, error) == (2, "heddle: --channels is for a PIM; an array has none")


@pytest.mark.parametrize(("arguments", "what"), [
    (["harden", "pim-tiny", "--gemm", "1,8,64", "-o", "made"], "an array's for this, not 'pim-tiny', a PIM"),
    *((request, "an array's or a PIM's for this, not 'duplex-tiny', a system") for request in (
        ["run", "duplex-tiny", "--gemm", "1,8,64"], ["emit", "duplex-tiny", "-o", "made"], ["report", "duplex-tiny"],
        ["trace", "duplex-tiny", "--gemm", "1,8,64"], ["diagram", "duplex-tiny", "-o", "x.svg"],
        ["synth", "duplex-tiny", "--target", "asic"])),
    (["generate", "pim-tiny", "--model", "m", "--prompt", "x", "--tokens", "1"],
     "an array's or a system's for this, not 'pim-tiny', a PIM"),
])
def test_presets_of_another_kind_are_named(capsys, tmp_path, monkeypatch, arguments, what):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"heddle: PRESET must be {what}\n"


def test_a_pim_of_a_file(capsys, tmp_path):
    file = tmp_path / "pim.json"
    request = ["--gemm", "1,8,64", "--device", "golden", "--json"]
    file.write_text(PIM_PRESETS["pim-tiny"].to_json())
    answers = []
    for named in (["pim-tiny"], ["--config", str(file)], ["--config", str(file), "--set", "dcs=false"]):
        assert main(["run", *named, *request]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] != answers[2]
    for text, said in (('{"streams": 3}', "PimConfig.streams must be a power of two (nearest: 4), not 3"),
                       ('{"streams": "2"}', "PimConfig.streams must be an integer, not '2'"),
                       ('{"lanes": 16, "lanes": 32}', "a config must have each field once, not 'lanes' twice"),
                       ('{"timing": "hbm2", "streams": [2]}', "PimConfig.streams must be an integer, not (2,)"),
                       ("{", "a config must be a JSON object, not this text: ")):
        file.write_text(text)
        assert main(["run", "--config", str(file), *request]) == 2
        assert capsys.readouterr().err.startswith(f"heddle: {said}")
    assert main(["run", "pim-tiny", "--config", str(file), *request]) == 2
    assert capsys.readouterr().err == "heddle: give either a PRESET or --config FILE\n"
