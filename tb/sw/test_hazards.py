"""Races found in hand-made and random programs: every pair of units, every way to order them, and how tokens are counted."""

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import StreamUse, Unit, VectorOutput, VectorSource
from sw.accesses import SharedMemory
from sw.assembler import Assembler
from sw.golden.sequencer import run_sequencer
from sw.hazards import find_hazards
from sw.program import Program, ProgramError
from tb.sw.schedules import legal_order

CONFIG = AcceleratorConfig(vector="transformer")
PLACE = 0x1000
SCRATCHPAD, DRAM, ACCUMULATOR = SharedMemory
BLOCK = {"rows": 2, "row_bytes": 32, "dram_stride": 32, "stride": 32}
LOAD = {**BLOCK, "dram_addr": 0x10000, "addr": 0x2000}
STORE = {**BLOCK, "dram_addr": 0x20000, "addr": 0x2800}
MATRIX = {"m": 4, "n": 4, "k": 8, "activation_addr": 0x3000, "activation_stride": 4, "activation_tile_stride": 16,
          "weight_addr": 0x3800, "weight_stride": 4, "weight_tile_stride": 4, "acc_addr": 128, "acc_tile_stride": 4}
VECTOR = {"m": 2, "n": 8, "source": VectorSource.INT8, "a_addr": 0x4000, "a_stride": 32, "b_addr": 0x4800, "b_stride": 32,
          "c_addr": 0x5000, "c_stride": 32, "addr": 0x5800, "stride": 32, "output": VectorOutput.INT8}

# What is used → unit, memory, whether it is written, and the fields of a command that uses PLACE so and nothing else that
# another unit does.
USES = {
    "load from": (Unit.LOAD, DRAM, False, {**LOAD, "dram_addr": PLACE}),
    "store to": (Unit.STORE, DRAM, True, {**STORE, "dram_addr": PLACE}),
    "load to": (Unit.LOAD, SCRATCHPAD, True, {**LOAD, "addr": PLACE}),
    "transposed load to": (Unit.LOAD, SCRATCHPAD, True, {**LOAD, "addr": PLACE, "transpose": 1}),
    "unpacking load to": (Unit.LOAD, SCRATCHPAD, True, {**LOAD, "addr": PLACE, "unpack": 1, "stride": 64}),
    "store from": (Unit.STORE, SCRATCHPAD, False, {**STORE, "addr": PLACE}),
    "activations": (Unit.MATRIX, SCRATCHPAD, False, {**MATRIX, "activation_addr": PLACE}),
    "weights": (Unit.MATRIX, SCRATCHPAD, False, {**MATRIX, "weight_addr": PLACE, "dataflow": 1}),
    "float32 rows": (Unit.VECTOR, SCRATCHPAD, False, {**VECTOR, "source": VectorSource.FLOAT32, "a_addr": PLACE}),
    "int8 rows": (Unit.VECTOR, SCRATCHPAD, False, {**VECTOR, "a_addr": PLACE}),
    "uint4 rows": (Unit.VECTOR, SCRATCHPAD, False, {**VECTOR, "source": VectorSource.UINT4, "a_addr": PLACE}),
    "scalars": (Unit.VECTOR, SCRATCHPAD, False, {**VECTOR, "source": VectorSource.SCALAR, "a_addr": PLACE,
                                                 "output": VectorOutput.NONE}),
    "B": (Unit.VECTOR, SCRATCHPAD, False, {**VECTOR, "b_en": 1, "b_addr": PLACE}),
    "C": (Unit.VECTOR, SCRATCHPAD, False, {**VECTOR, "c_use": StreamUse.POST, "c_addr": PLACE, "c_stride": 0}),
    "results": (Unit.VECTOR, SCRATCHPAD, True, {**VECTOR, "addr": PLACE}),
    "result scalars": (Unit.VECTOR, SCRATCHPAD, True, {**VECTOR, "addr": PLACE, "output": VectorOutput.SCALAR}),
    "sums": (Unit.MATRIX, ACCUMULATOR, True, {**MATRIX, "acc_addr": 16}),
    "sums added to": (Unit.MATRIX, ACCUMULATOR, True, {**MATRIX, "acc_addr": 16, "accumulate": 1}),
    "accumulator rows": (Unit.VECTOR, ACCUMULATOR, False, {**VECTOR, "source": VectorSource.ACCUMULATOR, "acc_addr": 16,
                                                           "acc_tile_stride": 4}),
}
PAIRS = [(a, b) for a in USES for b in USES if USES[a][1] == USES[b][1]]
BYSTANDERS = {Unit.LOAD: LOAD, Unit.MATRIX: MATRIX, Unit.VECTOR: VECTOR, Unit.STORE: STORE}


def go(asm, unit, fields, wait=(), signal=()):
    """Set the fields of a command, and those that any other one sets to zero; queue it."""
    names = {name for other, _, _, given in USES.values() for name in given if other == unit}
    for name in sorted({*BYSTANDERS[unit], *names}):
        asm.set(f"{unit.name.lower()}.{name}", int(fields.get(name, 0)))
    asm.go(unit, wait=wait, signal=signal)


def program_of(asm, kernels=()):
    asm.halt()
    return Program(name="hand-made", config_digest=CONFIG.digest(), code=asm.words(), code_addr=1 << 20, regions=(),
                   kernels=tuple(kernels))


def hazards(asm):
    return find_hazards(CONFIG, program_of(asm))


def races(a, b):
    """Return whether two uses of the same memory race, when nothing orders them."""
    return USES[a][0] != USES[b][0] and (USES[a][2] or USES[b][2])


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=str)
def test_pairs(first, second):
    """What nothing orders is found, but not within a queue or where both read, and not where the places differ."""
    (unit, memory, wrote, fields), (other, _, writes, others) = USES[first], USES[second]
    asm = Assembler()
    go(asm, unit, fields)
    earlier = len(asm) - 1
    go(asm, other, others)
    later = len(asm) - 1
    found = hazards(asm)
    if not races(first, second):
        assert found == []
        return
    (hazard,) = found
    assert (hazard.kind, hazard.memory) == ("WAW" if wrote and writes else "RAW" if wrote else "WAR", memory)
    assert hazard.address == (16 if memory is ACCUMULATOR else PLACE)
    assert (hazard.earlier.unit, hazard.earlier.instruction, hazard.earlier.number) == (unit, earlier, 1)
    assert (hazard.later.unit, hazard.later.instruction, hazard.later.number) == (other, later, 1)
    asm = Assembler()
    go(asm, unit, fields)
    key = next(name for name, value in others.items() if value == hazard.address and name.endswith("addr"))
    go(asm, other, {**others, key: others[key] + (64 if memory is ACCUMULATOR else 0x800)})
    assert hazards(asm) == []


@pytest.mark.parametrize("how", ["semaphore", "WAIT", "FENCE", "another queue", "done in order", "started in order"])
@pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if races(*pair)], ids=str)
def test_what_orders(first, second, how):
    (unit, _, _, fields), (other, _, _, others) = USES[first], USES[second]
    third = next(u for u in Unit if u not in (unit, other))
    asm = Assembler()
    go(asm, unit, fields, signal=[] if how in ("done in order", "FENCE") else [3])
    if how == "WAIT":
        asm.wait(3)
    elif how == "FENCE":
        asm.fence()
    elif how == "another queue":
        go(asm, third, BYSTANDERS[third], wait=[3], signal=[4])
    elif how == "done in order":
        go(asm, unit, BYSTANDERS[unit], signal=[3])
    elif how == "started in order":
        go(asm, other, BYSTANDERS[other], wait=[3])
    go(asm, other, others, wait={"semaphore": [3], "done in order": [3], "another queue": [4]}.get(how, []))
    assert hazards(asm) == []


@pytest.mark.parametrize("how", ["token of another", "credit", "token of the sequencer", "later token"])
def test_what_does_not_order(how):
    """Tokens that need not come from the command, and orders of start that are none of the end."""
    asm = Assembler()
    if how == "credit":
        asm.signal(3)
    go(asm, Unit.LOAD, USES["load to"][3], signal=[3] if how == "credit" else [])
    if how == "token of another":
        go(asm, Unit.MATRIX, MATRIX, signal=[3])
    elif how == "token of the sequencer":
        asm.signal(3)
    elif how == "later token":
        go(asm, Unit.MATRIX, MATRIX, signal=[3])
        go(asm, Unit.LOAD, LOAD, signal=[3])
    go(asm, Unit.VECTOR, USES["int8 rows"][3], wait=[3])
    assert [hazard.kind for hazard in hazards(asm)] == ["RAW"]


def test_padding_is_not_used():
    """Columns that the array masks and bytes behind a row are nobody's; a load fills its last beat."""
    def found(written, unit, fields):
        asm = Assembler()
        go(asm, Unit.VECTOR, {**VECTOR, "m": 1, "addr": PLACE + written})
        go(asm, unit, fields)
        return [hazard.address - PLACE for hazard in hazards(asm)]

    ragged = {**MATRIX, "m": 1, "k": 6, "activation_addr": PLACE}           # bytes 0 to 3, 16 and 17
    assert [found(at, Unit.MATRIX, ragged) for at in (-8, -4, 4, 8, 12, 16, 20)] == [[], [0], [], [], [16], [16], []]
    store = {**STORE, "rows": 1, "row_bytes": 19, "addr": PLACE}
    assert [found(at, Unit.STORE, store) for at in (8, 16, 20)] == [[8], [16], []]
    load = {**LOAD, "rows": 1, "row_bytes": 19, "addr": PLACE}
    assert [found(at, Unit.LOAD, load) for at in (8, 20, 28, 32)] == [[8], [20], [28], []]


# Counting ----------------------------------------------------------------------------------------------------


def ring(asm, *, credits, slots, turns=5, reset=False):
    """Slots that loads fill and the vector unit reads, over and over; with `reset` a second time from the first slot on."""
    for _ in range(credits):
        asm.signal(0)
    for _ in range(1 + reset):
        asm.set("r1", 0)
        with asm.loop(turns):
            for name, value in LOAD.items():
                asm.set(f"load.{name}", value)
            asm.set("load.addr", "r1", PLACE)
            asm.go(Unit.LOAD, wait=[0], signal=[1])
            for name, value in VECTOR.items():
                asm.set(f"vector.{name}", int(value))
            asm.set("vector.a_addr", "r1", PLACE)
            asm.go(Unit.VECTOR, wait=[1], signal=[0])
            asm.add("r1", "r1", "r0", 64)
            asm.min("r1", "r1", "r1", -64 * slots)


@pytest.mark.parametrize(("credits", "slots", "free"), [(1, 2, True), (2, 2, True), (3, 2, False), (3, 3, True), (2, 1, False)])
def test_rings(credits, slots, free):
    asm = Assembler()
    ring(asm, credits=credits, slots=slots)
    assert [hazard.kind for hazard in hazards(asm)] == ([] if free else ["WAR"])


@pytest.mark.parametrize(("turns", "free"), [(4, True), (5, False)])
def test_a_ring_that_begins_anew(turns, free):
    """From the first slot on while that slot may be in use: all is well only after whole turns."""
    asm = Assembler()
    ring(asm, credits=2, slots=2, turns=turns, reset=True)
    assert [(hazard.kind, hazard.earlier.unit, hazard.later.unit, hazard.later.number) for hazard in hazards(asm)] == (
        [] if free else [("WAR", Unit.VECTOR, Unit.LOAD, 6)])


def test_two_that_give():
    """One token of two givers may be either's; two are both's."""
    for takes, expected in ((1, {Unit.LOAD, Unit.MATRIX}), (2, set())):
        asm = Assembler()
        go(asm, Unit.LOAD, USES["load to"][3], signal=[0])
        go(asm, Unit.MATRIX, USES["sums"][3], signal=[0])
        for _ in range(takes - 1):
            go(asm, Unit.VECTOR, VECTOR, wait=[0])
        go(asm, Unit.VECTOR, {**USES["accumulator rows"][3], "b_en": 1, "b_addr": PLACE}, wait=[0])
        assert {hazard.earlier.unit for hazard in hazards(asm)} == expected


def test_two_that_take():
    """Which of the two tokens each gets is a matter of timing: the first is all that either can be certain of."""
    asm = Assembler()
    go(asm, Unit.LOAD, LOAD, signal=[0])
    go(asm, Unit.LOAD, USES["load to"][3], signal=[0])
    go(asm, Unit.MATRIX, MATRIX, wait=[0])
    go(asm, Unit.VECTOR, USES["int8 rows"][3], wait=[0])
    assert [hazard.later.unit for hazard in hazards(asm)] == [Unit.VECTOR]


def test_tokens_left_at_a_fence():
    """They are the first to be taken behind it; what the sequencer gives later does not count among them."""
    for left, free in ((0, True), (1, False)):
        asm = Assembler()
        for _ in range(left):
            go(asm, Unit.LOAD, LOAD, signal=[0])
        asm.fence()
        go(asm, Unit.LOAD, USES["load to"][3], signal=[0])
        go(asm, Unit.VECTOR, USES["int8 rows"][3], wait=[0])
        asm.fence()
        asm.signal(0)
        assert (hazards(asm) == []) is free


def random_program(rng, *, single):
    """Return a program of commands that share two places; `single`: every semaphore has one giver and one taker."""
    asm, counts, givers, takers = Assembler(), [0] * 4, {}, {}
    uses = ["load to", "store from", "activations", "int8 rows", "results", "store to", "load from"]

    def chosen(agent, roles, those):
        picked = [i for i in range(4) if those(i) and rng.random() < 0.4 and (not single or roles.setdefault(i, agent) == agent)]
        return picked

    for _ in range(rng.integers(4, 16)):
        kind = rng.choice(["go"] * 8 + ["signal", "wait", "fence"])
        unit, _, _, fields = USES[uses[rng.integers(len(uses))]]
        agent = unit if kind == "go" else "sequencer"
        wait = chosen(agent, takers, lambda i: counts[i]) if kind in ("go", "wait") else []
        signal = chosen(agent, givers, lambda i: True) if kind in ("go", "signal") else []
        for i in wait:
            counts[i] -= 1
        for i in signal:
            counts[i] += 1
        if kind == "go":
            go(asm, unit, fields, wait, signal)
        elif kind == "fence":
            asm.fence()
        elif wait or signal:
            getattr(asm, kind)(*wait, *signal)
    return program_of(asm)


def expected_hazards(program):
    """Return the instructions of the pairs that race, by trying: of two commands that use one place, the later one can run though
    the earlier one never does. Of a queue's commands that used the place alike only the last one before is looked at.
    """
    uses = {tuple(sorted(fields.items())): (memory, wrote) for _, memory, wrote, fields in USES.values()}
    commands, last, found = [e for e in run_sequencer(program.code, {}) if e.unit is not None], {}, set()
    numbers = dict.fromkeys(Unit, 0)
    for later in commands:
        numbers[later.unit] += 1
        fields = {name: value for name, value in later.fields.items() if name in BYSTANDERS[later.unit] or value}
        memory, writes = uses[tuple(sorted(fields.items()))]
        for (unit, known, wrote), (earlier, number) in last.items():
            if unit != later.unit and known == memory and (wrote or writes):
                possible = legal_order(program, {}, lambda agents: agents[0], held=(unit, number))
                if any(event.pc == later.pc for event in possible):
                    found.add((earlier.pc, later.pc))
        last[later.unit, memory, writes] = later, numbers[later.unit]
    return found


@pytest.mark.parametrize("single", [True, False])
def test_random_programs(single):
    """Exactly what can happen where each semaphore has one giver and one taker, and at least that where not."""
    rng, some = np.random.default_rng(single), 0
    for _ in range(80):
        program = random_program(rng, single=single)
        found = {(h.earlier.instruction, h.later.instruction) for h in find_hazards(CONFIG, program)}
        expected = expected_hazards(program)
        assert found == expected if single else found >= expected
        some += bool(expected)
    assert 20 < some < 80


# What is said ------------------------------------------------------------------------------------------------


def test_each_pair_of_instructions_once():
    asm = Assembler()
    with asm.loop(10):
        go(asm, Unit.LOAD, USES["load to"][3])
        go(asm, Unit.STORE, USES["store from"][3])
    found = hazards(asm)
    assert sorted((h.kind, h.earlier.unit, h.earlier.number, h.later.number) for h in found) == [
        ("RAW", Unit.LOAD, 1, 1), ("WAR", Unit.STORE, 1, 2)]


def test_the_text_of_a_hazard():
    asm = Assembler()
    go(asm, Unit.LOAD, USES["load to"][3])
    second = len(asm)
    go(asm, Unit.STORE, USES["store from"][3])
    program = program_of(asm, [(0, "fill"), (second, "drain")])
    (hazard,) = find_hazards(CONFIG, program)
    assert str(hazard) == (f"RAW at 0x1000 of the scratchpad: store 1 (instruction {hazard.later.instruction}, kernel 'drain') "
                           f"may start before load 1 (instruction {second - 1}, kernel 'fill') is done")


@pytest.mark.parametrize(("body", "said"), [
    (lambda asm: asm.wait(2), "not wait at instruction 0 for semaphore 2, which nothing before it gives"),
    (lambda asm: [asm.signal(5) for _ in range(256)], "not give semaphore 5 more than 255 times at instruction 255"),
    (lambda asm: asm.word(0), "not stop with ILLEGAL_INSTRUCTION at instruction 0"),
])
def test_programs_that_do_not_end(body, said):
    asm = Assembler()
    body(asm)
    with pytest.raises(ProgramError) as error:
        hazards(asm)
    assert str(error.value) == f"program 'hand-made' must run to its end, {said}"


def test_commands_beyond_a_memory():
    for unit, fields, memory in ((Unit.LOAD, {**LOAD, "addr": 32768 - 32}, "scratchpad"),
                                 (Unit.STORE, {**STORE, "dram_addr": (1 << 32) - 16}, "DRAM"),
                                 (Unit.MATRIX, {**MATRIX, "acc_addr": 253}, "accumulator")):
        asm = Assembler()
        go(asm, unit, fields)
        with pytest.raises(ProgramError, match=rf"^commands of program 'hand-made' must stay inside the {memory}, "
                                               rf"not leave it at instruction {len(asm) - 1}$"):
            hazards(asm)
