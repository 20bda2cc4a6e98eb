"""The RTL of a PIM as a device: linears and attention over channels, bit for bit as the golden device has them; errors."""

from types import SimpleNamespace

import numpy as np
import pytest

import flows.pim.rtl_device
from flows.pim.checked import CheckedPimSession
from flows.pim.rtl_device import MOST_COMMANDS, RtlPimDevice
from hw.errors import ConfigError
from hw.pim.isa import PimErrorCause
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.attention import score_scale
from sw.golden.pim.device import GoldenPimDevice
from sw.pim.assembler import assemble
from sw.pim.cache_plan import CachePlan, attention_inputs, attention_program
from sw.pim.cycles import gemm_cycles, refresh_factor
from sw.pim.decode import attend_token
from sw.pim.device import PimError
from sw.pim.expand import CommandError
from sw.pim.linear import LinearPlan, linear_inputs, linear_outputs, linear_program
from sw.pim.merge_list import merge_inputs, merge_program
from sw.pim.prediction import predicted_cycles
from sw.pim.program import PimProgram, PimRegion, PimStream

CONFIG = PIM_PRESETS["pim-tiny"]
CHANNELS = 2


def halves(rng, *shape):
    return rng.normal(size=shape).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def device():
    return RtlPimDevice(CONFIG, CHANNELS)


@pytest.fixture
def checked(device):
    session = CheckedPimSession(device.open(stall=0.2, seed=3), GoldenPimDevice(CONFIG, CHANNELS))
    yield session
    session.close()


@pytest.mark.xdist_group("pim-tiny")
def test_linears_and_attention_leave_what_the_golden_device_leaves(checked):
    rng = np.random.default_rng(9)
    cache = CachePlan(config=CONFIG, channels=CHANNELS, layers=1, kv_heads=2, group=2, head_dim=32, max_tokens=60)
    for tokens in range(1, 4):
        inputs = attention_inputs(cache, halves(rng, 4, 32), halves(rng, 2, 32), halves(rng, 2, 32))
        result = checked.run(attention_program(cache, 0, tokens, score_scale(32)), None, inputs)
        assert checked.match
    weights, x = halves(rng, 45, 150), halves(rng, 3, 150)
    plan = LinearPlan(config=CONFIG, channels=CHANNELS, n=45, k=150, addr=cache.end)
    program = linear_program(plan, "products", weights, passes=2)
    result = checked.run(program, None, linear_inputs(plan, program, x))
    assert checked.match
    assert checked.differs is None
    np.testing.assert_allclose(linear_outputs(plan, result.outputs, 3), x @ weights.T, atol=1e-4)
    assert result.cycles > 0
    assert result.counters["active"] == 2 * 45 * 5 * CONFIG.beats           # passes, outputs, bursts of an output


@pytest.mark.xdist_group("pim-tiny")
def test_a_linear_takes_little_longer_than_its_law(device):
    rng = np.random.default_rng(14)
    plan = LinearPlan(config=CONFIG, channels=CHANNELS, n=256, k=256)
    program = linear_program(plan, "products", halves(rng, 256, 256), passes=3)
    session = device.open()
    result = session.run(program, None, linear_inputs(plan, program, halves(rng, 6, 256)))
    law = gemm_cycles(CONFIG, 6, 256, 128)
    assert law == 3 * 256 * 128 / 16
    assert law <= result.cycles <= 1.15 * float(law * refresh_factor(CONFIG))
    session.close()


@pytest.mark.xdist_group("pim-tiny")
def test_programs_are_predicted(device):
    rng = np.random.default_rng(15)
    cache = CachePlan(config=CONFIG, channels=CHANNELS, layers=1, kv_heads=4, group=2, head_dim=32, max_tokens=60)
    plan = LinearPlan(config=CONFIG, channels=CHANNELS, n=64, k=256, addr=cache.end)
    linear = linear_program(plan, "products", halves(rng, 64, 256))
    session, times = device.open(), []          # in one session, refreshes are due at any time of a list
    for tokens in (1, 2, 20, 40, 60):
        inputs = attention_inputs(cache, halves(rng, 8, 32), halves(rng, 4, 32), halves(rng, 4, 32))
        for program, sent in ((attention_program(cache, 0, tokens, score_scale(32)), inputs),
                              (linear, linear_inputs(plan, linear, halves(rng, 1, 256)))):
            predicted = max(predicted_cycles(CONFIG, words) for words in program.lists)
            fresh = device.open()
            assert predicted == pytest.approx(fresh.run(program, None, sent).cycles, rel=0.05)
            fresh.close()
            times.append((predicted, session.run(program, None, sent).cycles))
    assert sum(time for time, _ in times) == pytest.approx(sum(time for _, time in times), rel=0.05)
    session.close()


@pytest.mark.xdist_group("pim-tiny")
def test_tokens_over_channels_are_merged_as_on_the_golden_device(checked):
    rng = np.random.default_rng(11)
    cache = CachePlan(config=CONFIG, channels=CHANNELS, layers=1, kv_heads=1, group=2, head_dim=32, max_tokens=60, split="tokens")
    for tokens in range(1, 5):
        inputs = attention_inputs(cache, halves(rng, 2, 32), halves(rng, 1, 32), halves(rng, 1, 32))
        outputs = checked.run(attention_program(cache, 0, tokens, score_scale(32)), None, inputs).outputs
        merge = merge_program(cache, tokens)
        assert len(merge.inputs) == 2 * min(tokens, CHANNELS)
        checked.run(merge, None, merge_inputs(cache, outputs))
        assert checked.match


@pytest.mark.xdist_group("pim-tiny")
def test_elements_over_channels_are_added_up_as_on_the_golden_device(checked):
    rng = np.random.default_rng(12)
    cache = CachePlan(config=CONFIG, channels=CHANNELS, layers=1, kv_heads=3, group=2, head_dim=32, max_tokens=60,
                      split="head-dim")
    names = []
    for tokens in range(1, 4):
        attend_token(cache, 0, tokens, score_scale(32), (halves(rng, 6, 32), halves(rng, 3, 32), halves(rng, 3, 32)),
                     lambda program, inputs: names.append(program.name) or checked.run(program, None, inputs),
                     lambda name, nbytes: None)
        assert checked.match
    assert names == [*(f"stage {stage} of scores of layer 0" for stage in range(4)), "context of layer 0"] * 3


@pytest.mark.xdist_group("pim-tiny")
def test_a_difference_is_noticed(device):
    class Wrong:
        """A session whose results have a bit too many."""

        def __init__(self, session):
            self.session, self.memory = session, session.memory

        def run(self, program, args=None, inputs=None):
            result = self.session.run(program, args, inputs)
            result.outputs["y0"][0] ^= 1
            return result

        def close(self):
            self.session.close()

    rng = np.random.default_rng(10)
    plan = LinearPlan(config=CONFIG, channels=CHANNELS, n=4, k=32)
    program = linear_program(plan, "products", halves(rng, 4, 32))
    inputs = linear_inputs(plan, program, halves(rng, 1, 32))
    session = CheckedPimSession(Wrong(device.open()), GoldenPimDevice(CONFIG, CHANNELS))
    session.run(program, None, inputs)
    assert not session.match
    assert session.differs == "products"
    session.close()


@pytest.mark.xdist_group("pim-tiny")
def test_rows_that_differ_are_noticed(device):
    session = CheckedPimSession(device.open(), GoldenPimDevice(CONFIG, CHANNELS))
    region = PimRegion(name="copied", channel=0, addr=0, size=CONFIG.row_bytes, role="scratch")
    words = assemble("setm k_beats, 2\nwrx cnt=1\nwrcp cnt=0\neoc")
    program = PimProgram(name="copy", config_digest=CONFIG.digest(), lists=(words, words[-1:]), regions=(region,),
                         inputs=(PimStream(name="x", channel=0, kind="x", count=2),))
    session.run(program, None, {"x": np.ones((2, CONFIG.rows_x, CONFIG.lanes), np.float32)})
    assert session.match
    assert session.memory[0][0, 0, :2].view(np.float16) == 1
    session.close()


@pytest.mark.xdist_group("pim-tiny")
def test_a_list_that_hardware_stops_names_program_channel_and_command(device, monkeypatch):
    words = assemble("setm k_beats, 2\nwrx\nmac row=64 cnt=0 clr last\neoc")
    program = PimProgram(name="far", config_digest=CONFIG.digest(), lists=(np.zeros(0, np.uint64), words),
                         inputs=(PimStream(name="x", channel=1, kind="x", count=1),))
    inputs = {"x": np.zeros((1, CONFIG.rows_x, CONFIG.lanes), np.float32)}
    session = device.open()
    with pytest.raises(CommandError, match=r"^command 2: .* \(ROW_RANGE\)$"):
        session.run(program, None, inputs)
    monkeypatch.setattr(flows.pim.rtl_device, "check", lambda config, words: SimpleNamespace(taken=1, given=0))
    with pytest.raises(PimError, match=r"^program 'far' stopped: ROW_RANGE at command 2 of channel 1$") as caught:
        session.run(program, None, inputs)
    assert (caught.value.cause, caught.value.channel, caught.value.index) == (PimErrorCause.ROW_RANGE, 1, 2)
    session.close()


def test_lists_longer_than_any_memory_of_them():
    with pytest.raises(ConfigError, match=r"^a list must have at most 16384 commands, not 16385$"):
        RtlPimDevice(CONFIG, longest_list=MOST_COMMANDS + 1)
