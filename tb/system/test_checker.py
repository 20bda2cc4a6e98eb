"""The scoreboard's own tests: it must fail on wrong, missing, extra and zero results, and on a wrong end."""

import pytest

from hw.isa import ErrorCause
from tb.system.checker import Observation, Prediction, RunChecker
from tb.system.coverage import Coverage

WRITES = {0x100: 1, 0x101: 2, 0x102: 3}
GOOD = [(0x100, 1), (0x101, 2), (0x102, 3)]


def verdict(prediction: Prediction, observation: Observation) -> RunChecker:
    checker = RunChecker()
    checker.check("run", prediction, observation)
    return checker


def test_a_right_run_passes():
    verdict(Prediction(writes=WRITES), Observation(writes=GOOD, done=True)).finish()


@pytest.mark.parametrize(("writes", "text"), [
    ([(0x100, 1), (0x101, 9), (0x102, 3)], r"^run: byte 0x101 is 0x09, expected 0x02$"),
    ([(0x100, 1), (0x102, 3)], r"^run: 1 bytes never written, the first at 0x101$"),
    ([*GOOD, (0x103, 0)], r"^run: byte 0x103 written, and nothing was expected there$"),
    ([*GOOD, (0x102, 3)], r"^run: byte 0x102 written twice$"),
])
def test_a_wrong_run_fails(writes, text):
    with pytest.raises(AssertionError, match=text):
        verdict(Prediction(writes=WRITES), Observation(writes=writes, done=True)).finish()


def test_no_results_at_all_fail():
    with pytest.raises(AssertionError, match=r"^nothing was compared: 0 runs, 0 bytes$"):
        RunChecker().finish()
    with pytest.raises(AssertionError, match=r"nothing was compared: 1 runs, 0 bytes"):
        verdict(Prediction(), Observation(done=True)).finish()


def test_the_end_must_be_the_expected_one():
    failing = Prediction(writes=WRITES, cause=ErrorCause.MISALIGNED, pc=7)
    verdict(failing, Observation(writes=GOOD[:1], cause=ErrorCause.MISALIGNED, pc=7)).finish()
    with pytest.raises(AssertionError, match="ended with NONE, done=True; expected MISALIGNED"):
        verdict(failing, Observation(writes=GOOD, done=True)).finish()
    with pytest.raises(AssertionError, match="error at instruction 8, expected 7"):
        verdict(failing, Observation(writes=GOOD, cause=ErrorCause.MISALIGNED, pc=8)).finish()
    with pytest.raises(AssertionError, match="ended with NONE, done=False; expected NONE"):
        verdict(Prediction(writes=WRITES), Observation(writes=GOOD)).finish()


def test_a_flood_of_errors_is_cut_short():
    checker = verdict(Prediction(writes={0: 0}), Observation(writes=[(addr, 0) for addr in range(1, 40)], done=True))
    assert len(checker.errors) == 9
    assert checker.errors[-1] == "run: … and 32 more"


def test_coverage_counts_bins_and_crosses_and_names_holes():
    coverage = Coverage({"flow": ["ws", "os"], "ragged": [False, True]}, crosses=[("flow", "ragged")])
    coverage.sample(flow="ws", ragged=True)
    assert coverage.holes() == ["flow: os", "ragged: False", "flow × ragged: ('ws', False)", "flow × ragged: ('os', False)",
                                "flow × ragged: ('os', True)"]
    with pytest.raises(KeyError, match="'rs' is no bin of coverage point 'flow'"):
        coverage.sample(flow="rs")
    assert "1 of   2 bins, 1 samples" in coverage.report()
