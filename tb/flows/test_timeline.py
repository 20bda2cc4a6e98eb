"""Timelines of traced runs: against the hardware's counters, and against the program."""

from itertools import pairwise

import numpy as np
import pytest

from flows.emit import emit
from flows.native_sim import MemoryTiming
from flows.rtl_device import RtlDevice
from flows.view.timeline import Span, UnitTimeline, timeline_of
from flows.view.traced import TracedDevice
from hw.isa import Opcode, Unit
from hw.presets import PRESETS
from sw.golden.sequencer import mask_bits, run_sequencer
from sw.kernels.case import random_case
from sw.runtime import compile_case, gemm_args, run_case
from sw.workloads import gemm_workload

pytestmark = pytest.mark.xdist_group("traced-4x4")

CONFIG = PRESETS["systolic-4x4"]


def _run(shape, timing=None, dataflow="auto"):
    (name, spec), = gemm_workload(*shape).shapes
    case = random_case(name, spec, CONFIG.weight, 0)
    program = compile_case(CONFIG, case, dataflow=dataflow)
    device = TracedDevice(CONFIG, timing=timing)
    session = device.open(program.memory_bytes)
    _, result = run_case(session, program, case)
    events = session.sim.traced()
    session.close()
    (timeline,) = device.timelines
    return timeline, result, program, events


@pytest.mark.parametrize(("shape", "timing", "dataflow"), [
    ((16, 16, 16), MemoryTiming(), "ws"),
    ((9, 21, 30), MemoryTiming(), "os"),
    ((20, 8, 40), MemoryTiming(latency=90, stall=0.4, seed=3), "auto"),
    ((1, 64, 64), MemoryTiming(bandwidth=0.3), "auto"),
])
def test_cycles_are_those_of_the_hardwares_counters(shape, timing, dataflow):
    timeline, result, _, _ = _run(shape, timing, dataflow)
    counters = result.counters
    assert timeline.cycles == counters["cycles"]
    for name, unit in timeline.units.items():
        assert unit.busy_cycles == counters[f"{name}_busy"], name
        assert unit.wait_cycles == counters[f"{name}_wait"], name
    assert timeline.units["matrix"].active_cycles == counters["matrix_active"]
    for name in ("load", "store"):
        unit = timeline.units[name]
        assert unit.busy_cycles - unit.active_cycles == counters[f"{name}_stall"], name
    executing = sum(span.cycles for span in timeline.sequencer if span.state == "executing")
    assert executing == counters["instructions"]


def test_spans_do_not_overlap_and_commands_are_whole():
    timeline, _, program, _ = _run((16, 16, 16))
    for spans in (timeline.sequencer, timeline.fetch, *(unit.busy for unit in timeline.units.values()),
                  *(unit.waits for unit in timeline.units.values())):
        assert spans
        assert all(0 <= span.first < span.end <= timeline.cycles for span in spans)
        assert all(before.end <= after.first for before, after in pairwise(spans))
    assert sum(span.cycles for span in timeline.sequencer) == timeline.cycles
    for unit in timeline.units.values():
        assert unit.commands
        assert {span.index for span in unit.busy} == set(range(len(unit.commands)))
        for command in unit.commands:
            assert command.queued < command.taken < command.done
            assert command.kernel == program.name
    macs = sum(c.fields["m"] * c.fields["n"] * c.fields["k"] for c in timeline.units["matrix"].commands)
    assert macs == 16 * 16 * 16
    assert {command.what.split(",")[0] for command in timeline.units["load"].commands} == {"a", "b", "parameters"}


def test_a_command_begins_after_the_commands_that_it_waits_for():
    timeline, _, program, _ = _run((16, 16, 16))
    commands = [command for unit in timeline.units.values() for command in unit.commands]
    given = [event for event in run_sequencer(program.code, program.argument_values(gemm_args(program)))
             if event.opcode == Opcode.SIGNAL]
    checked = 0
    for command in commands:
        for semaphore in mask_bits(command.wait):
            taken = sum(c.wait >> semaphore & 1 for c in commands if c.taken <= command.taken)
            signalled = sum(c.signal >> semaphore & 1 for c in commands if c.done < command.taken)
            assert signalled + sum(event.signal >> semaphore & 1 for event in given) >= taken
            checked += 1
    assert checked > len(commands)


def test_shares_of_a_unit_add_up_and_waits_are_named():
    timeline, result, _, _ = _run((16, 16, 16))
    for name, row in timeline.summary().items():
        assert row["busy"] + row["wait"] + row["idle"] == pytest.approx(1), name
    longest = timeline.longest_waits(3)
    assert [wait.cycles for wait in longest] == sorted((wait.cycles for wait in longest), reverse=True)
    assert longest[0].semaphores
    assert longest[0].cause.split()[0] in ("load", "matrix", "vector", "store")
    assert longest[0].cycles <= result.counters[f"{longest[0].unit}_wait"]


def test_cycles_in_which_a_head_waits_behind_a_busy_unit_are_not_stalled():
    unit = UnitTimeline(busy=[Span(2, 6, "busy"), Span(6, 8, "busy"), Span(20, 30, "busy")],
                        waits=[Span(0, 3, "waiting"), Span(7, 12, "waiting"), Span(25, 40, "waiting")])
    assert unit.wait_cycles == 23
    assert unit.stalled_cycles() == 2 + 4 + 10


def test_a_traced_run_gives_what_any_run_gives():
    _, result, program, _ = _run((16, 16, 16))
    (name, spec), = gemm_workload(16, 16, 16).shapes
    session = RtlDevice(CONFIG).open(program.memory_bytes)
    _, plain = run_case(session, program, random_case(name, spec, CONFIG.weight, 0))
    assert plain.counters == result.counters
    assert np.array_equal(plain.outputs["c"], result.outputs["c"])
    with pytest.raises(ValueError, match=r"^tracing needs a model whose handshakes are public: build it with trace=True$"):
        session.sim.trace()
    assert session.sim.traced().size == 0
    session.close()


def test_events_of_another_program_are_refused():
    _, _, program, events = _run((16, 16, 16))
    args = gemm_args(program)
    with pytest.raises(ValueError, match=r"^events must hold a run of 'gemm', not 0 events without one$"):
        timeline_of(events[:0], program, args)
    with pytest.raises(ValueError, match=r"^events must hold the whole run of 'gemm', not one that never stops$"):
        timeline_of(events[:100], program, args)
    broken = events.copy()
    broken["value"][broken["channel"] == 4 + Unit.LOAD] += 1
    with pytest.raises(ValueError, match=r"^load command 0 must be queued by instruction \d+, not \d+$"):
        timeline_of(broken, program, args)
    broken = events.copy()
    broken["value"][broken["channel"] == 12 + Unit.STORE] += 1
    with pytest.raises(ValueError, match=r"^store command 0 must be of instruction \d+, not \d+$"):
        timeline_of(broken, program, args)


def test_the_traced_signals_are_in_the_verilog():
    from flows.build import TRACED

    verilog = emit(CONFIG).verilog
    for block, names in TRACED.items():
        body = verilog[verilog.index(f"module heddle_{block}("):]
        body = body[:body.index("endmodule")]
        for name in names:
            assert f" {name}" in body, name


