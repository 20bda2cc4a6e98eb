"""Programs of a PIM: what a file keeps, what arguments and inputs may be, and what is refused."""

import dataclasses

import numpy as np
import pytest

from hw.pim.isa import PimOpcode, PimRegister
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.device import GoldenPimDevice
from sw.pim.assembler import assemble, command
from sw.pim.device import channels_of
from sw.pim.expand import CommandError
from sw.pim.program import (
    PimProgram,
    PimRegion,
    PimStream,
    load_pim_program,
    read_rows,
    save_pim_program,
    write_rows,
)
from sw.program import ProgramError, save_program
from tb.sw.test_program import program as array_program

TINY = PIM_PRESETS["pim-tiny"]
ROW = TINY.row_bytes
LIST = np.array([command(PimOpcode.SETM, aidx=PimRegister.R7, value=1), *assemble(
    "setm k_beats, 2\nwrx\nloop r7, 1\nmac grp=1 cnt=3 clr last\nrdacc cnt=3\neoc")], np.uint64)
DATA = np.frombuffer((np.arange(ROW // 2) % 7).astype(np.float16).tobytes(), np.uint8)


def program_of(**changes):
    fields = {
        "name": "products", "config_digest": TINY.digest(), "lists": (LIST, np.zeros(0, np.uint64)),
        "regions": (PimRegion(name="weights", channel=0, addr=ROW, size=ROW, role="constant", data=DATA),),
        "inputs": (PimStream(name="x", channel=0, kind="x", count=1),),
        "outputs": (PimStream(name="y", channel=0, kind="entries", count=4),), "arguments": {"times": ((0, 0),)}}
    return PimProgram(**(fields | changes))


def ones(count=1):
    return np.ones((count, TINY.rows_x, TINY.lanes), np.float32)


def test_a_program_runs_and_its_file_runs_alike(tmp_path):
    session = GoldenPimDevice(TINY).open()
    result = session.run(program_of(), {"times": 1}, {"x": ones()})
    # Each output is a burst of 32 weights, of which the one slice of X meets the first 16: bursts are of two beats.
    weights = (np.arange(ROW // 2) % 7).reshape(-1, 32)
    entries = result.outputs["y"].view(np.float32).reshape(4, TINY.rows_x, TINY.lanes)
    np.testing.assert_array_equal(entries[:, 0, 0], weights[:4, :16].sum(axis=1))
    assert result.counters["bursts"] == 4
    file = tmp_path / "products.safetensors"
    save_pim_program(program_of(), file)
    loaded = load_pim_program(file, TINY.digest())
    again = GoldenPimDevice(TINY).open().run(loaded, {"times": 1}, {"x": ones()})
    np.testing.assert_array_equal(again.outputs["y"], result.outputs["y"])
    before = file.read_bytes()
    save_pim_program(loaded, file)
    assert file.read_bytes() == before
    session.close()


def test_arguments_are_values_of_settings():
    words = program_of().words({"times": 0x12345678})
    assert int(words[0][0]) == command(PimOpcode.SETM, aidx=PimRegister.R7, value=0x12345678)
    assert int(program_of().lists[0][0]) == command(PimOpcode.SETM, aidx=PimRegister.R7, value=1)


def test_constants_are_placed_again_where_another_program_wrote():
    session = GoldenPimDevice(TINY).open()
    first, second = program_of(), program_of(regions=(
        PimRegion(name="others", channel=0, addr=ROW, size=ROW, role="constant", data=np.zeros(ROW, np.uint8)),))
    results = [session.run(program, {"times": 1}, {"x": ones()}).outputs["y"] for program in (first, second, first)]
    assert not results[1].any()
    np.testing.assert_array_equal(results[0], results[2])
    assert first.overlaps(second)
    session.memory[0][1, 0] = 0             # what lies there by now is whoever's who wrote it last
    assert not session.run(first, {"times": 1}, {"x": ones()}).outputs["y"].any()


def test_rows_go_over_the_sets_in_turn():
    # 32 sets, of which commands name 16.
    config = dataclasses.replace(PIM_PRESETS["pim-attacc-buffer"], interval=4, pim_per_burst=2, dram_rows=4)
    memory = np.zeros((config.row_sets, config.dram_rows, config.row_bytes), np.uint8)
    data = np.repeat(np.arange(16 * 8, dtype=np.uint8), config.row_bytes)
    write_rows(config, memory, 0, data)
    np.testing.assert_array_equal(read_rows(config, memory, 0, len(data)), data)
    assert [int(memory[place][0]) for place in ((0, 0), (15, 0), (0, 1), (16, 0), (31, 3))] == [0, 15, 16, 64, 127]


@pytest.mark.parametrize(("changes", "message"), [
    ({"lists": (np.zeros(0, np.uint64),)}, r"PimProgram.lists must be uint64 commands of each channel, not \['0 × uint64'\]"),
    ({"lists": (LIST.astype(np.int64), LIST)}, r"PimProgram.lists must be uint64 .*, not \['7 × int64', '7 × uint64'\]"),
    ({"inputs": (PimStream(name="x", channel=2, kind="x", count=1),)}, "'x' must be of one of 2 channels, not 2"),
    ({"outputs": (PimStream(name="y", channel=0, kind="x", count=1),)}, r"PimProgram.outputs must be entries .*, not \['y'\]"),
    ({"arguments": {"times": ((0, 7),)}}, r"PimProgram.arguments must name commands of the lists, not \{'times': .*\}"),
    ({"regions": tuple(PimRegion(name=name, channel=0, addr=addr, size=2 * ROW, role="scratch")
                       for name, addr in (("a", 0), ("b", ROW)))},
     "PimProgram.regions must be disjoint, but a of channel 0 ends at 0x1000 and b starts at 0x800"),
])
def test_programs_that_cannot_be(changes, message):
    with pytest.raises(ProgramError, match=f"^{message}$"):
        program_of(**changes)


@pytest.mark.parametrize(("changes", "message"), [
    ({"role": "output"}, "PimRegion.role must be one of constant, input, scratch, not 'output'"),
    ({"channel": -1}, "PimRegion.channel must be at least 0, not -1"),
    ({"addr": -1}, "PimRegion.addr must be at least 0, not -1"),
    ({"size": 0}, "PimRegion.size must be at least 1, not 0"),
    ({"data": None}, "PimRegion.data must be given for constants, and only for those, not for 'weights'"),
    ({"data": DATA[1:]}, r"PimRegion.data must be uint8 of shape \(2048,\), not uint8 of \(2047,\)"),
])
def test_regions_that_cannot_be(changes, message):
    with pytest.raises(ProgramError, match=f"^{message}$"):
        dataclasses.replace(program_of().regions[0], **changes)


def test_streams_that_cannot_be():
    with pytest.raises(ProgramError, match=r"^PimStream must have a kind of x, p, entries, sides, scales, a channel and a "
                                           r"count, not PimStream"):
        PimStream(name="x", channel=0, kind="words", count=1)
    for changes, message in (({"name": None}, "name must be a string, not None"),
                             ({"count": 1.5}, "count must be an integer, not 1.5"),
                             ({"channel": True}, "channel must be an integer, not True")):
        with pytest.raises(ProgramError, match=f"^PimStream.{message}$"):
            PimStream(**({"name": "x", "channel": 0, "kind": "x", "count": 1} | changes))
    with pytest.raises(ProgramError, match=r"^PimRegion.channel must be an integer, not 1.5$"):
        dataclasses.replace(program_of().regions[0], channel=1.5)


@pytest.mark.parametrize(("changes", "message"), [
    ({"inputs": (PimStream(name="x", channel=0, kind="x", count=2),)}, "channel 0 .* must take the 2 slices .*, not 1"),
    ({"inputs": ()}, "channel 0 .* must take the 0 slices .*, not 1"),
    ({"inputs": (*program_of().inputs, PimStream(name="x", channel=1, kind="x", count=1))},
     "channel 1 .* must take the 1 slices .*, not 0"),
    ({"outputs": ()}, "channel 0 .* must give the 0 slices .*, not 4"),
])
def test_streams_that_a_list_does_not_have(changes, message):
    bad = program_of(**changes)
    inputs = {stream.name: ones(stream.count) for stream in bad.inputs}
    with pytest.raises(ProgramError, match=f"^the list of {message}$"):
        GoldenPimDevice(TINY).open().run(bad, {"times": 1}, inputs)


@pytest.mark.parametrize(("args", "inputs", "message"), [
    ({}, {"x": ones()}, "argument 'times' of program 'products' must be given"),
    ({"times": 1, "turns": 1}, {"x": ones()}, "argument must be one of times, not 'turns'"),
    ({"times": 1 << 32}, {"x": ones()}, "argument 'times' must be between 0 and 4294967295, not 4294967296"),
    ({"times": 1}, {}, "input 'x' of program 'products' must be given"),
    ({"times": 1}, {"x": ones(), "z": ones()}, "input must be one of x, not 'z'"),
    ({"times": 1}, {"x": ones(2)}, r"input 'x' must have shape \(1, 2, 16\), not \(2, 2, 16\)"),
])
def test_runs_that_cannot_be(args, inputs, message):
    with pytest.raises(ProgramError, match=f"^{message}$"):
        GoldenPimDevice(TINY).open().run(program_of(), args, inputs)


@pytest.mark.parametrize(("program", "message"), [
    (program_of(config_digest="0" * 12), f"program 'products' must be compiled for config {TINY.digest()}, not 0+"),
    (program_of(lists=(LIST,)), "program 'products' must be compiled for 2 channels, not 1"),
    (program_of(regions=(PimRegion(name="far", channel=0, addr=TINY.capacity_bytes, size=ROW, role="scratch"),)),
     "program 'products' must fit into 2097152 bytes of a channel, not need 2099200"),
])
def test_programs_for_another_device(program, message):
    with pytest.raises(ProgramError, match=f"^{message}$"):
        GoldenPimDevice(TINY).open().run(program, {"times": 1}, {"x": ones()})


def test_a_list_that_would_stop_is_refused_before_anything_runs():
    session = GoldenPimDevice(TINY).open()
    bad = program_of(lists=(np.array([*LIST[:4], *assemble("mac row=64 cnt=3 clr last\nrdacc cnt=3\neoc")], np.uint64), LIST[:0]))
    with pytest.raises(CommandError, match=r"\(ROW_RANGE\)$"):
        session.run(bad, {"times": 1}, {"x": ones()})
    assert not session.memory[0].any()


def test_files_that_hold_no_program(tmp_path):
    file = tmp_path / "p.safetensors"
    with pytest.raises(ProgramError, match="must be a heddle-pim-program file, but there is none"):
        load_pim_program(file)
    save_program(array_program(), file)
    with pytest.raises(ProgramError, match="must be a heddle-pim-program file, not heddle-program"):
        load_pim_program(file)
    save_pim_program(program_of(), file)
    with pytest.raises(ProgramError, match=f"must be compiled for config 123, not {TINY.digest()}"):
        load_pim_program(file, "123")


@pytest.mark.parametrize("channels", [0, 3])
def test_channels_that_there_are_not(channels):
    with pytest.raises(ValueError, match=rf"^channels must be between 1 and 2, the pseudo-channels, not {channels}$"):
        channels_of(TINY, channels)
