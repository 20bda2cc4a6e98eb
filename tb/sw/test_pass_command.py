"""The rules of a pass: its fields, its operands, what the pipeline cannot do."""

import re

import pytest

from hw.isa import DESCRIPTORS, Unit, VectorFunction
from sw.kernels.passes import ITSELF, Accumulator, Floats, Int8, Mask, PassError, Row, Scalars, Uint4, vector_pass
from sw.kernels.passes.activations import mean_rows


def test_a_pass_has_every_field():
    one = vector_pass("all", a=Accumulator(3, 4), m=2, n=5, bias=Floats(64), scale=Floats(128, 16), row=7,
                      maximum=Row(8, negate=True), mask=Mask(9, causal=True), function=VectorFunction.SIGMOID, times=ITSELF,
                      sum_to=10, amax_to=11, to=Int8(256, 8))
    names = {field.name for field in DESCRIPTORS[Unit.VECTOR]}
    assert one.fields.keys() == names
    assert {name: one.fields[name] for name in names - {"a_addr", "a_stride", "constant", "scale"}} == {
        "source": 0, "m": 2, "n": 5, "acc_addr": 3, "acc_tile_stride": 4, "b_en": 1, "b_addr": 128, "b_stride": 16, "row0_en": 1,
        "row0_addr": 7, "c_use": 1, "c_addr": 64, "c_stride": 0, "row1_use": 1, "row1_addr": 8, "row1_negate": 1, "middle": 2,
        "mask_en": 1, "mask": 9, "mask_step": 1, "function": 2, "post": 2, "sum": 1, "sum_addr": 10, "max": 2, "max_addr": 11,
        "output": 1, "addr": 256, "stride": 8}
    plain = vector_pass("none", a=Floats(0), m=1)
    assert plain.fields["scale"] == 0x3F80_0000
    assert not any(value for name, value in plain.fields.items() if name not in ("source", "m", "n", "function", "scale"))


def test_operands_may_be_registers():
    one = vector_pass("registers", a=Floats("r4", ("r5", 8)), m="r6", n=("r7", 1), scale="r8", add=("r9", 0),
                      to=Uint4(("r4", 64), 8))
    fields = one.needed
    assert [fields[name] for name in ("a_addr", "a_stride", "m", "n", "scale", "constant", "addr", "stride")] == [
        "r4", ("r5", 8), "r6", ("r7", 1), "r8", ("r9", 0), ("r4", 64), 8]
    assert "b_addr" not in fields
    assert "row0_addr" not in fields
    parts = mean_rows(5, 8, ("r4", 64), 32)
    assert [part.fields.get("c_addr") for part in parts] == [("r4", 160), ("r4", 128), ("r4", 96), 0]
    assert mean_rows(2, 8, "r4", 32)[0].fields["c_addr"] == ("r4", 32)


REFUSED = {
    "one use of c, not both add and times": dict(add=Floats(0), times=Floats(64)),
    "one use of row1, not both add and seed": dict(add=Row(0), seed=1, max_to=2),
    "one use of constant, not both maximum and times": dict(maximum=0.0, times=2.0),
    "one of add and maximum, not both": dict(add=1.0, maximum=2.0),
    "one sum of a row, not two": dict(sum_to=1, squares_to=2),
    "one max of a row, not two": dict(max_to=1, amax_to=2),
    "no last factor where it sums squares: they share a multiplier": dict(squares_to=1, times=2.0),
    "a maximum where it has a seed, not only 3": dict(seed=3),
    "read the accumulator where it adds a bias, not Floats": dict(bias=Floats(0)),
    "read Row or Scalars for RSQRT, not rows of columns": dict(function=VectorFunction.RSQRT),
    "write to the scratchpad, not Row; row scalars get sums and maxima": dict(to=Row(3)),
    "have no factor of each row where it reads row scalars, not 5": dict(a=Row(0), row=5),
    "read row scalars as they are, not negated: scale them by -1": dict(a=Row(0, negate=True)),
    "have no stream as operand where it reads one element a row": dict(a=Scalars(0), add=Floats(0)),
    "write Scalars where it reads one element a row": dict(a=Row(0), to=Floats(0)),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_what_the_pipeline_cannot_do_is_refused(rule):
    with pytest.raises(PassError, match=re.escape(rule) + "$"):
        vector_pass("odd", **({"a": Floats(0), "m": 1} | REFUSED[rule]))


def test_one_constant_may_serve_twice():
    assert vector_pass("both", a=Floats(0), m=1, add=2.0, times=2.0).needed["constant"] == 0x4000_0000
