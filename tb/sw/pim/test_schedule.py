"""Dynamic command scheduling: what is read is what program order says, and it is never slower than waiting."""

import itertools

import numpy as np
import pytest

from hw.pim.isa import PimOpcode, Queue
from hw.pim.presets import PIM_PRESETS
from sw.pim import softmax_times as times
from sw.pim.assembler import assemble
from sw.pim.expand import CommandError
from sw.pim.schedule import MAC_LATENCY, Work, in_order, schedule
from sw.pim.work import works_of

TINY = PIM_PRESETS["pim-tiny"]


def random_works(rng, count):
    """Return work on few entries, so that most commands meet others."""
    works = []
    for _ in range(count):
        kind = rng.integers(0, 10)
        if kind == 0:
            works.append(Work(queue=Queue.SEQUENCER, barrier=bool(rng.integers(0, 2))))
            continue
        entries = [("xo"[n // 4], int(n % 4)) for n in rng.permutation(8)[:rng.integers(0, 7)]]
        cut = int(rng.integers(0, len(entries) + 1))
        in_place = rng.integers(0, 4) == 0                  # else it reads and writes different entries
        reads, writes = (entries, entries) if in_place else (entries[:cut], entries[cut:])
        step = int(rng.integers(1, 4))
        cycles = max(int(rng.integers(1, 7)), step * max(len(reads), len(writes)))
        works.append(Work(queue=Queue.COMPUTE if rng.integers(0, 2) else Queue.IO, reads=tuple(reads), writes=tuple(writes),
                          adds=bool(rng.integers(0, 2)), step=step, held=0 if in_place or rng.integers(0, 2) else cycles,
                          latency=int(rng.integers(1, 9)), cycles=cycles))
    return works


def values_in_program_order(works):
    """Return what each command reads: of every entry the numbers of the commands whose results are in it."""
    memory, seen = {}, []
    for number, work in enumerate(works):
        seen.append([memory.get(entry, ()) for entry in work.reads])
        for entry in work.writes:
            memory[entry] = (*(memory.get(entry, ()) if work.adds else ()), number)
    return seen, memory


def values_in_time(works, timed):
    """Return the same from the times at which entries are read and written."""
    events = []
    for number, (work, time) in enumerate(zip(works, timed, strict=True)):
        for i, entry in enumerate(work.reads):
            # What is held is read for the last time in the last of those cycles: after that, it may change.
            for at in {time.issue + i * work.step, time.issue + max(i * work.step, work.held - 1)}:
                events.append((at, 1, number, i, entry))
        for i, entry in enumerate(work.writes):
            events.append((time.issue + i * work.step + work.latency, 0, number, i, entry))
    memory, seen = {}, {}
    for _, is_read, number, i, entry in sorted(events):
        if is_read:
            seen.setdefault((number, i), set()).add(tuple(sorted(memory.get(entry, ()))))     # sums add up in any order
        else:
            memory[entry] = (*(memory.get(entry, ()) if works[number].adds else ()), number)
    return [[seen[number, i] for i in range(len(work.reads))] for number, work in enumerate(works)], memory


def sorted_results(memory):
    """Return the memory with results that add up in any order."""
    return {entry: tuple(sorted(numbers)) for entry, numbers in memory.items()}


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_random_programs_read_what_program_order_says(seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        works = random_works(rng, 25)
        expected, memory = values_in_program_order(works)
        for timed in (schedule(works), in_order(works)):
            seen, end = values_in_time(works, timed)
            assert [[{value} for value in values] for values in expected] == seen
            assert sorted_results(end) == sorted_results(memory)


def test_it_is_never_slower_and_mostly_faster():
    rng = np.random.default_rng(99)
    faster = 0
    for _ in range(500):
        works = random_works(rng, int(rng.integers(1, 30)))
        dynamic, waiting = schedule(works), in_order(works)
        assert all(a.issue <= b.issue and a.end <= b.end for a, b in zip(dynamic, waiting, strict=True))
        faster += max(t.end for t in dynamic) < max(t.end for t in waiting)
    assert faster > 250


def test_queues_stay_in_order_and_barriers_hold():
    rng = np.random.default_rng(7)
    for _ in range(100):
        works = random_works(rng, 30)
        timed = schedule(works)
        for (a, ta), (b, tb) in itertools.combinations(zip(works, timed, strict=True), 2):
            if a.queue is b.queue and a.queue is not Queue.SEQUENCER:
                assert ta.issue + a.cycles <= tb.issue
            if a.barrier:
                assert ta.end <= tb.issue
            if b.barrier:
                assert ta.end <= tb.issue


def test_a_missing_table_entry_would_be_noticed():
    write = Work(queue=Queue.IO, writes=(("x", 0),), latency=9)
    read = Work(queue=Queue.COMPUTE, reads=(("x", 0),))
    timed = schedule([write, read])
    assert timed[1].issue == 9
    early = [timed[0], type(timed[0])(1, 2)]
    expected, _ = values_in_program_order([write, read])
    assert values_in_time([write, read], early)[0] != [[{v} for v in values] for values in expected]


def test_macs_into_one_accumulator_follow_each_other_at_once():
    mac = Work(queue=Queue.COMPUTE, writes=(("o", 0),), adds=True, latency=6, cycles=2)
    assert [t.issue for t in schedule([mac] * 4)] == [0, 2, 4, 6]
    plain = Work(queue=Queue.COMPUTE, writes=(("o", 0),), latency=6, cycles=2)
    assert [t.issue for t in schedule([plain] * 3)] == [0, 6, 12]


def test_a_full_queue_holds_the_sequencer_back():
    slow, other = Work(queue=Queue.COMPUTE, cycles=100), Work(queue=Queue.IO)
    assert schedule([slow] * 3 + [other], depth=1)[3].issue == 101      # the third waits until the second has left
    assert schedule([slow] * 3 + [other], depth=2)[3].issue == 3
    with pytest.raises(ValueError, match=r"^depth must be at least 1, not 0$"):
        schedule([], depth=0)


def tiles(count, slices, macs):
    """Return a list that writes X for the next tile behind the MACs of this one, then reads this one's results."""
    def write(tile):
        return f"wrx xidx={4 * (tile % 2)} cnt={slices - 1}\n"

    text = "setm k_beats, 2\n" + write(0)
    for tile in range(count):
        half = tile % 2
        text += (f"mac row={tile} cnt={macs - 1} xidx={4 * half} aidx={16 * half} clr last\n{write(tile + 1)}"
                 f"rdacc aidx={16 * half} cnt={macs - 1}\n")
    return works_of(TINY, assemble(text + "eoc"))


@pytest.mark.parametrize(("count", "macs", "gain"), [(4, 2, 1.2), (64, 16, 1.6)])
def test_gain_of_tiles(count, macs, gain):
    works = tiles(count, 4, macs)
    ratio = max(t.end for t in in_order(works)) / max(t.end for t in schedule(works))
    assert ratio > gain


def test_commands_name_their_entries():
    header = "setm k_beats, 4\nsetm head_dim, 32\nseth output, 1, 40\n"
    weighing = times.sfo_cycles(TINY, 33, 2)
    cases = {
        "wrx xidx=3 cnt=1": Work(queue=Queue.IO, writes=(("x", 3), ("x", 4)), cycles=2),
        "rdacc aidx=5": Work(queue=Queue.IO, reads=(("o", 5),), cycles=1),
        "mac cnt=3 xidx=1 aidx=7": Work(
            queue=Queue.COMPUTE, reads=tuple(("x", i) for i in (1, 2, 3, 4)), writes=(("o", 7), ("o", 8)), adds=True, step=4,
            held=8, latency=MAC_LATENCY + 3, cycles=8),
        "mac mode=bcast cnt=3 xidx=15 aidx=7": Work(
            queue=Queue.COMPUTE, reads=(("x", 0), ("x", 1)), writes=tuple(("o", i) for i in (7, 8, 9, 10)), adds=True, held=8,
            latency=MAC_LATENCY + 4, cycles=8),
        "mvs aidx=5 cnt=2 xidx=1": Work(queue=Queue.IO, reads=(("o", 5), ("o", 6), ("o", 7)), writes=(("s", 1),), adds=True,
                                        latency=times.mvs_cycles(3), cycles=times.mvs_cycles(3)),
        "sfo aidx=1 value=33": Work(
            queue=Queue.IO, reads=(("s", 1), ("l", 0), ("o", 40), ("o", 41)), writes=(("s", 1), ("o", 40), ("o", 41), ("l", 0)),
            step=0, held=weighing, latency=weighing, late=times.sfo_state_cycles(TINY, 33) - weighing, cycles=weighing),
        "mvx aidx=1 xidx=2": Work(queue=Queue.IO, reads=(("s", 1),), writes=(("x", 2),), latency=times.mvx_cycles(TINY, 1),
                                  cycles=times.mvx_cycles(TINY, 1)),
        "kvap xidx=6": Work(queue=Queue.COMPUTE, reads=(("x", 6), ("x", 7)), cycles=2),
        "rdcp xidx=2": Work(queue=Queue.COMPUTE, writes=(("x", 2), ("x", 3)), latency=MAC_LATENCY, cycles=2),
        "ewmul xidx=2": Work(queue=Queue.COMPUTE, reads=(("x", 2), ("x", 3)), writes=(("x", 2), ("x", 3)), latency=MAC_LATENCY,
                             cycles=2),
        "barrier": Work(queue=Queue.SEQUENCER, barrier=True),
        "nop": Work(queue=Queue.SEQUENCER),
    }
    for text, expected in cases.items():
        assert works_of(TINY, assemble(f"{header}{text}\neoc"))[3] == expected, text


def test_every_command_has_work():
    for opcode in PimOpcode:
        if opcode not in (PimOpcode.LOOP, PimOpcode.MODI, PimOpcode.HEADER, PimOpcode.EOC):
            text = {"SETM": "setm r7, 1", "SETH": "seth tokens, 0, 1"}.get(opcode.name, opcode.name)
            assert len(works_of(TINY, assemble(f"{text}\neoc"))) == 2
    with pytest.raises(CommandError):
        works_of(TINY, assemble("nop"))
