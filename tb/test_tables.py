"""The pure-data tables: config, presets, formats, registers, instruction set."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw import isa, regs
from hw.config import AcceleratorConfig, ceil_div, ceil_log2, ceil_power_of_two
from hw.errors import ConfigError
from hw.formats import format_named
from hw.presets import PRESETS, preset_named


def test_presets_round_trip_and_have_distinct_digests():
    for config in PRESETS.values():
        assert AcceleratorConfig.from_json(config.to_json()) == config
    assert len({config.digest() for config in PRESETS.values()}) == len(PRESETS)


def test_presets_are_named_after_their_shape():
    for name, config in PRESETS.items():
        assert name.startswith(config.engine)
        columns = config.columns // 2 if config.engine == "dstc" else config.columns   # half multiply at once
        assert name.endswith(f"-{config.rows}x{columns}")


@pytest.mark.parametrize(("field", "value", "rule"), [
    ("rows", 0, "between 1 and 256"),
    ("columns", 257, "between 1 and 256"),
    ("acc_width", 15, "between 16 and 32"),
    ("bus_width", 100, "64, 128, 256 or 512"),
    ("scratchpad_bytes", 3000, r"a power of two \(nearest: 4096\)"),
    ("scratchpad_banks", 3, r"a power of two \(nearest: 4\)"),
    ("vector", "softmax", "one of requantize, transformer"),
    ("vector_lanes", 3, r"columns \(4\), or a power of two that divides it"),
    ("vector_lanes", 8, r"columns \(4\), or a power of two that divides it"),
    ("vector_rows", 100, r"a power of two \(nearest: 128\)"),
    ("vector_rows", 8, "between 16 and 65536"),
    ("accumulator_rows", 16, None),
    ("weight_formats", ("mxint4-b32", "mxint4-b32"), "up to 255 formats, each once"),
    ("weight_formats", ("mxint4-b32",), "empty for the systolic engine"),
    ("dataflows", (), "a non-empty choice of 'ws' and 'os', each once"),
    ("dataflows", ("ws", "ws"), "a non-empty choice of 'ws' and 'os', each once"),
    ("dataflows", ("rs",), "a non-empty choice of 'ws' and 'os', each once"),
    ("activation_format", "int4", r"an 8-bit format \(rows of bytes leave the vector unit\)"),
    ("queue_depth", 1, "between 2 and 16"),
    ("scratchpad_bytes", 1 << 25, "between 1024 and 16777216"),
])
def test_an_impossible_field_is_named_with_its_rule(field, value, rule):
    if rule is None:
        assert AcceleratorConfig(**{field: value}).accumulator_rows == value   # the smallest that four rows need
        return
    with pytest.raises(ConfigError, match=rf"^AcceleratorConfig\.{field} must be {rule}, not {re.escape(repr(value))}$"):
        AcceleratorConfig(**{field: value})


def test_sizes_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.accumulator_rows must be at least 32 "
                                          r"\(banks × rows of the array\), not 16$"):
        AcceleratorConfig(rows=16, accumulator_rows=16)
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.scratchpad_bytes must be at least 2048 \(4 lines of 64 bytes a "
                                          r"bank\), not 1024$"):
        AcceleratorConfig(bus_width=512, scratchpad_bytes=1024)
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.vector must be 'transformer' for range restriction, not "
                                          r"'requantize': what only requantizes saturates$"):
        AcceleratorConfig(protection=(("activations", "range"),))
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig\.acc_width must be 32 with the vector unit for transformers, "
                                          r"not 24$"):
        AcceleratorConfig(vector="transformer", acc_width=24)


@pytest.mark.parametrize(("field", "value"), [("rows", 4.0), ("rows", True), ("bus_width", "128")])
def test_a_wrong_type_is_a_type_error(field, value):
    with pytest.raises(TypeError, match=rf"^AcceleratorConfig\.{field} must be an integer, not {value!r}$"):
        AcceleratorConfig(**{field: value})


def test_weight_formats_are_a_list_of_formats():
    assert AcceleratorConfig.from_dict({"weight_formats": []}) == AcceleratorConfig()
    with pytest.raises(TypeError, match=r"^AcceleratorConfig\.weight_formats must be a tuple of strings, not 'int4'$"):
        AcceleratorConfig.from_dict({"weight_formats": "int4"})
    with pytest.raises(TypeError, match=r"^AcceleratorConfig\.weight_formats must be a tuple of strings, not \(5,\)$"):
        AcceleratorConfig.from_dict({"weight_formats": [5]})
    with pytest.raises(ConfigError, match=r"^format must be a name that .* not .int9.$"):
        AcceleratorConfig(weight_formats=("int9",))


def test_dataflows_are_a_list_of_names():
    for value in (5, None, {"ws": 1}, "ws", [["ws"]]):
        with pytest.raises(TypeError, match=r"^AcceleratorConfig\.dataflows must be a tuple of strings, not .*$"):
            AcceleratorConfig.from_dict({"dataflows": value})


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"^format must be a name that .* lists \(near it: int8, .*\), not .int9.$"):
        format_named("int9")
    with pytest.raises(ConfigError, match=r"^preset must be one of systolic-4x4, .*, not 'gemmini'$"):
        preset_named("gemmini")
    with pytest.raises(ConfigError, match=r"^AcceleratorConfig has no field 'row' \(it has .*\)$"):
        AcceleratorConfig.from_dict({"row": 4})
    with pytest.raises(ConfigError, match=r"^a config must be a JSON object, not this text: .*$"):
        AcceleratorConfig.from_json("rows = 4")
    with pytest.raises(ConfigError, match=r"^a config must be a JSON object, not list$"):
        AcceleratorConfig.from_json("[4]")


@given(rows=st.integers(1, 256), depth=st.integers(1, 4096), weight=st.sampled_from(["int8", "int4"]))
def test_a_psum_cannot_overflow_inside_the_array(rows, depth, weight):
    config = AcceleratorConfig(rows=rows, os_depth=depth, weight_format=weight, accumulator_rows=4096,
                               scratchpad_bytes=1 << 20)
    largest = config.activation.minimum * config.weight.minimum * max(rows, depth)
    assert -(1 << (config.psum_width - 1)) <= -largest
    assert largest <= (1 << (config.psum_width - 1)) - 1


@given(n=st.integers(1, 1 << 20), d=st.integers(1, 1 << 10))
def test_integer_helpers(n, d):
    assert ceil_div(n, d) == -(-n // d)
    assert (1 << ceil_log2(n)) >= n > ((1 << ceil_log2(n)) >> 1)
    assert ceil_power_of_two(n) == 1 << ceil_log2(n)


def test_registers_do_not_overlap_and_fit():
    offsets = [r.offset for r in regs.REGISTERS]
    assert len(set(offsets)) == len(offsets)
    assert len({r.name for r in regs.REGISTERS}) == len(offsets)
    for r in regs.REGISTERS:
        assert r.offset % 4 == 0
        assert r.offset < regs.REGISTER_SPACE
        assert sum(f.width for f in r.fields) <= 32
        assert r.access in ("R", "RW", "W", "RW1C")
        assert r.doc
    assert regs.register("CONTROL").access == "W"


def test_every_opcode_is_described_and_every_destination_fits_its_field():
    assert set(isa.OPCODES) == set(isa.Opcode)
    assert 0 not in set(isa.Opcode)
    widths = {f.name: f.width for f in isa.INSTRUCTION_FIELDS}
    assert sum(widths.values()) == 8 * isa.INSTRUCTION_BYTES
    assert len(isa.DESTINATIONS) <= 1 << widths["a"]
    assert sorted(isa.DESTINATIONS.values()) == list(range(len(isa.DESTINATIONS)))
    for fields in isa.DESCRIPTORS.values():
        assert all(field.width <= 32 for field in fields)
        assert len({field.name for field in fields}) == len(fields)


@pytest.mark.parametrize(("unit", "name", "values"), [
    (isa.Unit.MATRIX, "dataflow", isa.Dataflow), (isa.Unit.VECTOR, "source", isa.VectorSource),
    (isa.Unit.VECTOR, "c_use", isa.StreamUse),
    (isa.Unit.VECTOR, "row1_use", isa.RowUse), (isa.Unit.VECTOR, "function", isa.VectorFunction),
    (isa.Unit.VECTOR, "output", isa.VectorOutput)])
def test_values_fit_their_fields_and_are_described(unit, name, values):
    width = next(field.width for field in isa.DESCRIPTORS[unit] if field.name == name)
    assert [member.value for member in values] == list(range(len(values)))
    assert len(values) <= 1 << width
    assert all(member.doc and values(member.value) is member for member in values)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AcceleratorConfig().rows = 8
