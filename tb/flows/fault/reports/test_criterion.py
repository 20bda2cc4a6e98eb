"""Which silent corruptions count as critical, without RTL: words of the golden device's memory are made wrong by hand."""

from types import SimpleNamespace

import numpy as np

from flows.fault.records import FAULT
from flows.fault.reports.criterion import MOST_JUDGED, TopOne, judged
from flows.fault.targets.gemm_run import gemm_run
from flows.fault.targets.workloads import DRAM
from hw.presets import PRESETS
from sw.golden.device import GoldenDevice
from sw.runtime import read_output
from sw.workloads import gemm_workload

CONFIG = PRESETS["systolic-4x4"]
CORRUPTION = np.dtype([("word", "<u4"), ("golden", "<u4"), ("got", "<u4")])
RUN = gemm_run(CONFIG, gemm_workload(3, 8, 8))


def golden():
    """Return memory and result of the run without faults."""
    session = GoldenDevice(CONFIG).open(RUN.program.memory_bytes)
    session.memory[:] = RUN.memory
    session.run(RUN.program, RUN.args)
    return session.memory.copy(), read_output(RUN.program, RUN.program.read_outputs(session.memory))


def wrong(change):
    """Return what an engine says of a memory in which `change(result row 0, …)` was done to bytes of the output."""
    before, _ = golden()
    after = before.copy()
    region = next(region for region in RUN.program.regions if region.role == "output")
    change(after[region.addr:region.addr + region.size].view(np.int8))
    words = np.flatnonzero(before.view("<u4") != after.view("<u4"))
    rows = np.zeros(len(words), CORRUPTION)
    rows["word"], rows["golden"], rows["got"] = words, before.view("<u4")[words], after.view("<u4")[words]
    return {DRAM: rows}


def test_another_largest_element_is_critical_and_a_smaller_change_is_not():
    criterion = TopOne(CONFIG, RUN)
    _, result = golden()
    assert result.shape == (3, 8)

    def small(region):
        lowest = int(region.argmin())
        region[lowest] += 1

    def large(region):
        region[int(region.argmax())] = -128

    assert not criterion.critical(wrong(small))
    assert criterion.critical(wrong(large))
    assert not criterion.critical({})
    assert not criterion.critical({"dut.other": np.zeros(1, CORRUPTION)})


def test_words_beyond_the_programs_memory_do_not_matter_to_its_result():
    rows = np.zeros(1, CORRUPTION)
    rows["word"], rows["got"] = len(RUN.memory), 7
    assert not TopOne(CONFIG, RUN).critical({DRAM: rows})


def test_all_are_judged_up_to_a_number():
    asked = []

    def corruptions(faults):
        asked.append(len(faults))
        return [{"critical": fault["cycle"] % 2 == 0} for fault in faults]

    criterion = SimpleNamespace(critical=lambda found: found["critical"])
    faults = np.zeros(1201, FAULT)
    faults["cycle"] = np.arange(1201)
    assert judged(SimpleNamespace(corruptions=corruptions), criterion, faults) == {"tolerable": 600, "critical": 601}
    assert asked == [500, 500, 201]
    many = judged(SimpleNamespace(corruptions=corruptions), criterion, np.zeros(MOST_JUDGED + 5, FAULT))
    assert many == {"tolerable": 0, "critical": MOST_JUDGED}
    strata = np.zeros(2 * MOST_JUDGED, FAULT)           # those of the second half are tolerable
    strata["cycle"] = np.arange(len(strata)) >= MOST_JUDGED
    spread = judged(SimpleNamespace(corruptions=corruptions), criterion, strata)
    assert spread == {"tolerable": MOST_JUDGED // 2, "critical": MOST_JUDGED // 2}
