"""A vector pass: the descriptor of one command, written as the steps of the pipeline (docs/vector.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from hw.isa import DESCRIPTORS, RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource

__all__ = [
    "ITSELF", "Accumulator", "Floats", "Int8", "Mask", "Number", "Operand", "Pass", "PassError", "Place", "Row", "Scalars",
    "Uint4", "further", "vector_pass",
]


class PassError(ValueError):
    """A pass that the pipeline cannot do in one command."""


Operand = int | str | tuple[str, int]
"""An address, a stride, a size: a number, a register of the sequencer, or a register and a number to add to it."""
Number = float | str | tuple[str, int]
"""A float32, or where its bits are."""


@dataclass(frozen=True, slots=True)
class Accumulator:
    """Rows of int32 words: first row, rows from one group of C columns to the next."""

    addr: Operand
    tile_stride: Operand = 0


@dataclass(frozen=True, slots=True)
class Floats:
    """float32 rows in the scratchpad (int32 where they are biases): first byte, bytes from row to row; 0: one row for all."""

    addr: Operand
    stride: Operand = 0


@dataclass(frozen=True, slots=True)
class Int8:
    """int8 rows in the scratchpad."""

    addr: Operand
    stride: Operand = 0


@dataclass(frozen=True, slots=True)
class Uint4:
    """Rows of unsigned nibbles in the scratchpad."""

    addr: Operand
    stride: Operand = 0


@dataclass(frozen=True, slots=True)
class Scalars:
    """One float32 for each row in the scratchpad, side by side unless told otherwise."""

    addr: Operand
    stride: Operand = 4


@dataclass(frozen=True, slots=True)
class Row:
    """Row scalars: that of row 0; `negate`: with the sign changed (not as a source or first factor)."""

    addr: Operand
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """Columns that count: `columns` of row 0; `causal`: one more in each further row."""

    columns: Operand
    causal: bool = False


class _Itself(Enum):
    """The function's own argument as the last factor."""

    ITSELF = 1


ITSELF = _Itself.ITSELF
"""Multiply a function by its own argument: SiLU of SIGMOID, GELU of NORMAL."""

Place = Accumulator | Floats | Int8 | Uint4 | Scalars | Row
_SOURCES = {Accumulator: VectorSource.ACCUMULATOR, Floats: VectorSource.FLOAT32, Int8: VectorSource.INT8, Row: VectorSource.ROW,
            Scalars: VectorSource.SCALAR, Uint4: VectorSource.UINT4}
_OUTPUTS = {Floats: VectorOutput.FLOAT32, Int8: VectorOutput.INT8, Scalars: VectorOutput.SCALAR, Uint4: VectorOutput.UINT4}
_FIELDS = tuple(field.name for field in DESCRIPTORS[Unit.VECTOR])
_MODES = ("source", "m", "b_en", "row0_en", "c_use", "row1_use", "middle", "mask_en", "function", "post", "sum", "max", "output")


def further(address: Operand, offset: int) -> Operand:
    """Return an address so much further on."""
    if isinstance(address, int):
        return address + offset
    register, start = address if isinstance(address, tuple) else (address, 0)
    return register, start + offset


def _bits(number: Number) -> Operand:
    """Return a number as the field that holds it."""
    return number if isinstance(number, str | tuple) else int(np.float32(number).view(np.uint32))


@dataclass(frozen=True, slots=True)
class Pass:
    """One vector command.

    Attributes
    ----------
    name : str
        What it does, for traces and tables.
    fields : mapping of str to Operand
        Every field of the vector descriptor: fields keep their values from one command to the next, so none is left to chance.
    """

    name: str
    fields: Mapping[str, Operand]

    @property
    def needed(self) -> dict[str, Operand]:
        """The fields that this command depends on: what the others hold is all the same (but no n may be 0)."""
        f = self.fields
        names = list(_MODES)
        groups = (
            (f["source"] not in (VectorSource.ROW, VectorSource.SCALAR), ("n",)),
            (f["source"] == VectorSource.ACCUMULATOR, ("acc_addr", "acc_tile_stride")),
            (f["source"] not in (VectorSource.ACCUMULATOR, VectorSource.ROW), ("a_addr", "a_stride")),
            (f["b_en"], ("b_addr", "b_stride")),
            (not f["b_en"], ("scale",)),
            (f["row0_en"] or f["source"] == VectorSource.ROW, ("row0_addr",)),
            (f["c_use"], ("c_addr", "c_stride")),
            (f["row1_use"], ("row1_addr", "row1_negate")),
            (self._uses_constant, ("constant",)),
            (f["mask_en"], ("mask", "mask_step")),
            (f["sum"], ("sum_addr",)),
            (f["max"], ("max_addr",)),
            (f["output"], ("addr", "stride")),
        )
        names += [name for used, group in groups if used for name in group]
        return {name: f[name] for name in _FIELDS if name in names}

    @property
    def _uses_constant(self) -> bool:
        f = self.fields
        middle = f["middle"] == 3 or (f["middle"] and f["c_use"] != StreamUse.MIDDLE and f["row1_use"] != RowUse.MIDDLE)
        post = f["post"] == 1 and f["c_use"] != StreamUse.POST and f["row1_use"] != RowUse.POST
        return bool(middle or post)


def vector_pass(name: str, *, a: Place, m: Operand, n: Operand = 1, bias: Floats | None = None, scale: Floats | Number = 1.0,
                row: Operand | None = None, add: Floats | Row | Number | None = None,
                maximum: Floats | Row | Number | None = None, limit: Number | None = None, mask: Mask | None = None,
                function: VectorFunction = VectorFunction.IDENTITY, times: Floats | Row | Number | _Itself | None = None,
                sum_to: Operand | None = None, squares_to: Operand | None = None, max_to: Operand | None = None,
                amax_to: Operand | None = None, seed: Operand | None = None, to: Place | None = None) -> Pass:
    """Return the pass f(((a + bias) · scale · row, limited) (+ add | max maximum), masked) · times, in that order.

    Parameters
    ----------
    a : Place
        Rows of the accumulator, float32, int8 or uint4; one element each of Row and Scalars.
    m, n : Operand
        Rows and columns.
    bias : Floats
        int32, added to words of the accumulator.
    scale : Floats or Number
        Factor of every element, of each column, or of all.
    row : Operand
        Row scalar that multiplies its row.
    add, maximum : Floats, Row or Number
        At most one of them.
    limit : Number
        Largest magnitude before anything is added; not with a maximum. Only a config with range restriction has it.
    mask : Mask
        Columns beyond count as −Inf.
    times : Floats, Row, Number or ITSELF
        Factor of the function's value.
    sum_to, squares_to : Operand
        Row scalar of the sum of f, or of f² (which leaves `times` out).
    max_to, amax_to : Operand
        Row scalar of the maximum of the results, or of their magnitudes; not below the row scalar `seed`.
    to : Floats, Int8, Uint4 or Scalars
        Where results go.

    Raises
    ------
    PassError
        If the pipeline has not enough operands, or not for such rows.
    """
    fields: dict[str, Operand] = dict.fromkeys(_FIELDS, 0)
    _source(fields, name, a)
    fields |= {"m": m, "n": n, "function": function, "scale": _bits(1.0)}
    users: dict[str, str] = {}

    def use(operand: Floats | Row | Number, what: str, stream: StreamUse, row_use: RowUse) -> None:
        """Let C, row1 or the constant be the operand of a step."""
        which = {Floats: "c", Row: "row1"}.get(type(operand), "constant")
        if which in users and not (which == "constant" and fields["constant"] == _bits(operand)):   # type: ignore[arg-type]
            raise PassError(f"pass {name!r} must have one use of {which}, not both {users[which]} and {what}")
        users[which] = what
        if isinstance(operand, Floats):
            fields.update(c_use=stream, c_addr=operand.addr, c_stride=operand.stride)
        elif isinstance(operand, Row):
            fields.update(row1_use=row_use, row1_addr=operand.addr, row1_negate=int(operand.negate))
        else:
            fields["constant"] = _bits(operand)

    if bias is not None:
        if not isinstance(a, Accumulator):
            raise PassError(f"pass {name!r} must read the accumulator where it adds a bias, not {type(a).__name__}")
        use(bias, "bias", StreamUse.BIAS, RowUse.NONE)
    if isinstance(scale, Floats):
        fields |= {"b_en": 1, "b_addr": scale.addr, "b_stride": scale.stride}
    else:
        fields["scale"] = _bits(scale)
    if row is not None:
        if isinstance(a, Row):
            raise PassError(f"pass {name!r} must have no factor of each row where it reads row scalars, not {row!r}")
        fields |= {"row0_en": 1, "row0_addr": row}
    if add is not None and maximum is not None:
        raise PassError(f"pass {name!r} must have one of add and maximum, not both")
    for step, operand in ((1, add), (2, maximum)):
        if operand is not None:
            fields["middle"] = step
            use(operand, "add" if step == 1 else "maximum", StreamUse.MIDDLE, RowUse.MIDDLE)
    if limit is not None:
        if maximum is not None:
            raise PassError(f"pass {name!r} must have one of limit and maximum, not both")
        if add is not None and not isinstance(add, Floats | Row):
            raise PassError(f"pass {name!r} must add a stream or row scalars where it has a limit, not the number {add!r}")
        fields["middle"] = 3
        use(limit, "limit", StreamUse.NONE, RowUse.NONE)
    if mask is not None:
        fields |= {"mask_en": 1, "mask": mask.columns, "mask_step": int(mask.causal)}
    if isinstance(times, _Itself):
        fields["post"] = 2
    elif times is not None:
        fields["post"] = 1
        use(times, "times", StreamUse.POST, RowUse.POST)
    if seed is not None:
        if max_to is None and amax_to is None:
            raise PassError(f"pass {name!r} must have a maximum where it has a seed, not only {seed!r}")
        use(Row(seed), "seed", StreamUse.NONE, RowUse.SEED)
    for what, plain, other in (("sum", sum_to, squares_to), ("max", max_to, amax_to)):
        if plain is not None and other is not None:
            raise PassError(f"pass {name!r} must have one {what} of a row, not two")
        for way, place in ((1, plain), (2, other)):
            if place is not None:
                fields |= {what: way, f"{what}_addr": place}
    if squares_to is not None and times is not None:
        raise PassError(f"pass {name!r} must have no last factor where it sums squares: they share a multiplier")
    if to is not None:
        _output(fields, name, to)
    _check_one_element(fields, name)
    return Pass(name, fields)


def _source(fields: dict[str, Operand], name: str, a: Place) -> None:
    fields["source"] = _SOURCES[type(a)]
    if isinstance(a, Row):
        if a.negate:
            raise PassError(f"pass {name!r} must read row scalars as they are, not negated: scale them by -1")
        fields["row0_addr"] = a.addr
    elif isinstance(a, Accumulator):
        fields |= {"acc_addr": a.addr, "acc_tile_stride": a.tile_stride}
    else:
        fields |= {"a_addr": a.addr, "a_stride": a.stride}


def _output(fields: dict[str, Operand], name: str, to: Place) -> None:
    if isinstance(to, Row | Accumulator):
        raise PassError(f"pass {name!r} must write to the scratchpad, not {type(to).__name__}; row scalars get sums and maxima")
    fields |= {"output": _OUTPUTS[type(to)], "addr": to.addr, "stride": to.stride}


def _check_one_element(fields: dict[str, Operand], name: str) -> None:
    """Check what rows of one element cannot do, and what only they can."""
    if fields["source"] not in (VectorSource.ROW, VectorSource.SCALAR):
        if fields["function"] in (VectorFunction.RECIPROCAL, VectorFunction.RSQRT):
            function = VectorFunction(int(fields["function"])).name
            raise PassError(f"pass {name!r} must read Row or Scalars for {function}, not rows of columns")
        return
    if fields["b_en"] or fields["c_use"]:
        raise PassError(f"pass {name!r} must have no stream as operand where it reads one element a row")
    if fields["output"] not in (VectorOutput.NONE, VectorOutput.SCALAR):
        raise PassError(f"pass {name!r} must write Scalars where it reads one element a row")
