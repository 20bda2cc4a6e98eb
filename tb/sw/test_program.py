"""Programs: rules of regions and arguments, files that survive, files that must not."""

import dataclasses
import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from sw.layout import output_rows
from sw.program import Program, ProgramError, Region, load_program, save_program
from tb.sw.configs import CONFIGS

CONFIG = CONFIGS["systolic-4x4"]


def program(**changes) -> Program:
    """Return a small legal program with `changes`."""
    fields = {
        "name": "small", "config_digest": CONFIG.digest(), "code": np.array([1, 2, 3], np.uint64), "code_addr": 256,
        "regions": (
            Region(name="w", addr=0, size=64, role="constant", data=np.arange(64, dtype=np.uint8)),
            Region(name="c", addr=64, size=64, role="output", layout=output_rows(CONFIG, 4, 16)),
            Region(name="x", addr=128, size=100, role="input"),
        ),
        "arguments": {"w": 0, "c": 3}, "kernels": ((0, "first"), (2, "second"))}
    return Program(**{**fields, **changes})


def test_file_round_trip(tmp_path):
    path = tmp_path / "p.heddle"
    save_program(program(), path)
    found = load_program(path, CONFIG.digest())
    for field in dataclasses.fields(Program):
        if field.name not in ("code", "regions"):
            assert getattr(found, field.name) == getattr(program(), field.name)
    np.testing.assert_array_equal(found.code, program().code)
    assert [(r.name, r.addr, r.size, r.role, r.layout) for r in found.regions] == [
        (r.name, r.addr, r.size, r.role, r.layout) for r in program().regions]
    np.testing.assert_array_equal(found.regions[0].data, np.arange(64))
    save_program(found, tmp_path / "again.heddle")
    assert (tmp_path / "again.heddle").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, share):
    path = tmp_path / "p.heddle"
    save_program(program(), path)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(ProgramError, match=r"^\S+ must be a whole heddle-program file, not a truncated or foreign one \("):
        load_program(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "p.heddle"
    with pytest.raises(ProgramError, match=r"^\S+ must be a heddle-program file, but there is none$"):
        load_program(path)
    path.write_text("something else entirely, and long enough to hold a header")
    with pytest.raises(ProgramError, match="not a truncated or foreign one"):
        load_program(path)
    save_file({"code": np.zeros(1, np.uint64)}, path)
    with pytest.raises(ProgramError, match=r"^\S+ must be a heddle-program file, not another safetensors file$"):
        load_program(path)
    save_file({"code": np.zeros(1, np.uint64)}, path, metadata={"heddle": '{"format": "heddle-program", "version": 99}'})
    with pytest.raises(ProgramError, match=r"^\S+ must be of version 1, not 99$"):
        load_program(path)
    for header in ("nonsense", "[]", "3"):
        save_file({"code": np.zeros(1, np.uint64)}, path, metadata={"heddle": header})
        with pytest.raises(ProgramError, match=r"^\S+ must be a whole heddle-program file, not a truncated or foreign one \("):
            load_program(path)
    for fields in ({}, [], "nonsense", {"regions": 3}, None):
        header = json.dumps({"format": "heddle-program", "version": 1, "program": fields})
        save_file({"code": np.zeros(1, np.uint64)}, path, metadata={"heddle": header})
        with pytest.raises(ProgramError, match=r"^\S+ must hold a whole program, not this: "):
            load_program(path)


def test_program_of_another_config(tmp_path):
    path = tmp_path / "p.heddle"
    save_program(program(), path)
    other = CONFIGS["systolic-8x8"].digest()
    with pytest.raises(ProgramError, match=rf"^\S+ must be compiled for config {other}, not {CONFIG.digest()}$"):
        load_program(path, other)
    with pytest.raises(ProgramError, match=rf"^program 'small' must be compiled for config {other}, not {CONFIG.digest()}$"):
        program().check(other, 1 << 20)


@pytest.mark.parametrize(("changes", "text"), [
    ({"addr": 32}, "Region.addr must be a multiple of 64, not 32"),
    ({"addr": -64}, "Region.addr must be a multiple of 64, not -64"),
    ({"size": 0}, "Region.size must be at least 1 and end within 32 bits of address, not 0"),
    ({"addr": (1 << 32) - 64, "size": 65}, "Region.size must be at least 1 and end within 32 bits of address, not 65"),
    ({"role": "guest"}, "Region.role must be one of input, output, constant, scratch, not 'guest'"),
    ({"role": "constant"}, "Region.data must be the contents of constant 'r', not None"),
    ({"data": np.zeros(3, np.uint8)}, "Region.data must be uint8 of shape (64,), not uint8 of (3,)"),
    ({"layout": output_rows(CONFIG, 5, 16)}, "Region.size must be at least 80 (its layout), not 64"),
])
def test_bad_region(changes, text):
    with pytest.raises(ProgramError, match=f"^{re.escape(text)}$"):
        Region(**{"name": "r", "addr": 0, "size": 64, "role": "input", **changes})


@pytest.mark.parametrize(("changes", "text"), [
    ({"code": np.zeros(0, np.uint64)}, "Program.code must be uint64 instructions, not uint64 of shape (0,)"),
    ({"code": np.zeros(3, np.int64)}, "Program.code must be uint64 instructions, not int64 of shape (3,)"),
    ({"code_addr": 8}, "Program.code_addr must be a multiple of 64, not 8"),
    ({"code_addr": (1 << 32) - 64, "code": np.zeros(9, np.uint64)},
     "Program.code must end within 32 bits of address, not at 0x100000008"),
    ({"code_addr": 192}, "Program.regions must be disjoint, but x ends at 0xe4 and the code starts at 0xc0"),
    ({"arguments": {"a": 1, "b": 1}}, "Program.arguments must be different indices below 16, not {'a': 1, 'b': 1}"),
    ({"arguments": {"a": 16}}, "Program.arguments must be different indices below 16, not {'a': 16}"),
    ({"regions": (Region(name="r", addr=0, size=8, role="input"), Region(name="r", addr=64, size=8, role="input"))},
     "Program.regions must have different names, not ['r', 'r']"),
])
def test_bad_program(changes, text):
    with pytest.raises(ProgramError, match=f"^{re.escape(text)}$"):
        program(**changes)


def test_memory_and_placing():
    small = program()
    assert small.memory_bytes == 320
    memory = np.full(320, 7, np.uint8)
    small.place(memory)
    np.testing.assert_array_equal(memory[:64], np.arange(64))
    np.testing.assert_array_equal(memory[64:256], 7)
    np.testing.assert_array_equal(memory[256:280].view("<u8"), [1, 2, 3])
    assert {name: len(data) for name, data in small.read_outputs(memory).items()} == {"c": 64}
    with pytest.raises(ProgramError, match=r"^program 'small' must fit into 300 bytes of memory, not need 320$"):
        small.check(CONFIG.digest(), 300)


def test_arguments():
    small = program()
    assert small.argument_values({"c": 5, "w": 9}) == {0: 9, 3: 5}
    with pytest.raises(ProgramError, match=r"^argument 'c' of program 'small' must be given$"):
        small.argument_values({"w": 1})
    with pytest.raises(ProgramError, match=r"^argument must be one of w, c, not 'q'$"):
        small.argument_values({"w": 1, "c": 2, "q": 3})
    with pytest.raises(ProgramError, match=r"^argument 'w' must be between 0 and 4294967295, not -1$"):
        small.argument_values({"w": -1, "c": 2})


def test_names():
    assert [program().kernel_at(pc) for pc in range(4)] == ["first", "first", "second", "second"]
    assert program(kernels=((1, "late"),)).kernel_at(0) == "small"
    assert program().region("c").addr == 64
    with pytest.raises(ProgramError, match=r"^region must be one of w, c, x, not 'y'$"):
        program().region("y")
