"""What arrays of bit-serial PEs have in common: their ports, what is said of a column, and how results leave."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitvert_channel import metadata_layout
from hw.errors import ConfigError
from hw.pe.bitvert.sums import LANES

__all__ = ["bitvert_array_members", "bitvert_step_layout", "put_out_rows"]


def bitvert_step_layout(tag_width: int) -> data.StructLayout:
    """Return the layout of what is known of a column besides its bits.

    `first`, `second`, `ends`: it is the first, second or last one of its weights; `fresh`: the first column of a result; `last`:
    the last one, of whose result `rows` rows are put out with the tag `tag`; `subtract`: of the constant (`bitvert_channel`).
    """
    return data.StructLayout({"first": 1, "second": 1, "ends": 1, "fresh": 1, "last": 1, "subtract": 1, "rows": 9,
                              "tag": tag_width})


def bitvert_array_members(rows: int, columns: int, psum_width: int, tag_width: int) -> dict[str, wiring.Member]:
    """Return the members of an array of R×C PEs; see `BitvertArray`.

    Raises
    ------
    ConfigError
        If there is no row or no column, or more than 256.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if not 1 <= value <= 256:
            raise ConfigError(f"BitvertArray.{name} must be between 1 and 256, not {value!r}")
    return {
        "valid": In(1),
        "step": In(bitvert_step_layout(tag_width)),
        "bits": In(data.ArrayLayout(LANES, columns)),
        "meta": In(data.ArrayLayout(metadata_layout, columns)),
        "activations": In(data.ArrayLayout(data.ArrayLayout(signed(8), LANES), rows)),
        "o_valid": Out(1),
        "o_row": Out(range(rows)),
        "o_last": Out(1),
        "o_tag": Out(tag_width),
        "o": Out(data.ArrayLayout(signed(psum_width), columns)),
        "busy": Out(1),
    }


def put_out_rows(m: Module, array: Any, take: Value, taken: data.View, results: list[list[Value]]) -> Value:
    """Put out the rows of a result, one a cycle; return whether rows are left.

    Parameters
    ----------
    array : component with `bitvert_array_members`
    take : Value
        The results come in the next cycle, and stay.
    taken : view of `bitvert_step_layout`
        Their last column, with `take`.
    results : list of list of Value
        By column and row.
    """
    drained = Signal(array.step.shape(), name="drained", reset_less=True)
    row, left = Signal(range(array.rows), name="drained_row"), Signal(range(array.rows + 1), name="drained_left")
    with m.If(take):
        m.d.sync += [drained.eq(taken), row.eq(0), left.eq(taken.rows)]
    with m.Elif(left != 0):
        m.d.sync += [row.eq(row + 1), left.eq(left - 1)]
    m.d.sync += [array.o_valid.eq(left != 0), array.o_row.eq(row), array.o_last.eq(left == 1), array.o_tag.eq(drained.tag)]
    for c, column in enumerate(results):
        picked = Signal(signed(array.psum_width), name=f"picked_{c}", reset_less=True)
        m.d.sync += picked.eq(Array(column)[row])
        m.d.comb += array.o[c].eq(picked)
    return (left != 0) | array.o_valid
