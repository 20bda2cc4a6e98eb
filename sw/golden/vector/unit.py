"""A vector command, the definition: what it does to scratchpad and row scalars, or where and why it stops."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import ErrorCause, RowUse, StreamUse, VectorFunction, VectorOutput, VectorSource
from sw.golden.refusal import Refusal
from sw.golden.vector.elements import row_maximum, row_sum, transform
from sw.golden.vector.streams import Stream, canonical, input_streams, output_stream

__all__ = ["run_vector"]

Fields = Mapping[str, int]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
ENUMERATIONS = (("source", len(VectorSource)), ("middle", 4), ("function", len(VectorFunction)), ("post", 3), ("sum", 3),
                ("max", 3), ("output", len(VectorOutput)))
OF_ONE_ELEMENT = (VectorSource.ROW, VectorSource.SCALAR)
BLOCK = 1 << 14                 # elements at once: what numpy allocates for more comes from the system each time, and is slow
SCALAR_FUNCTIONS = (VectorFunction.RECIPROCAL, VectorFunction.RSQRT)


def run_vector(config: AcceleratorConfig, fields: Fields, scratchpad: Bytes, accumulator: npt.NDArray[np.int64],
               rows: Floats) -> None:
    """Do one vector command in place.

    A command's outputs may lie exactly on its own inputs, row by row and column by column, but must not overlap what other
    elements of it read.

    Parameters
    ----------
    config : AcceleratorConfig
    fields : mapping of str to int
        Every field of `DESCRIPTORS[Unit.VECTOR]`.
    scratchpad : (…, scratchpad_bytes) uint8
    accumulator : (…, accumulator_rows, C) integers
    rows : (…, vector_rows) float32
        The row scalars. An axis in front of all three: runs side by side.

    Raises
    ------
    Refusal
        At the first violation. Checked before anything is done, in this order: values that are not in their enumeration or need
        what `config.vector` leaves out, m and n, alignment, row scalars. Then each slice's addresses, row by row, A or the
        accumulator before B, C and the output: the slices before are written, and the scalars of whole rows before.
    """
    streams, output = input_streams(fields), output_stream(fields)
    _check(config, fields, streams, output)
    m, n = fields["m"], 1 if fields["source"] in OF_ONE_ELEMENT else fields["n"]
    fault = _first_fault(config, fields, streams, output, m, n)
    whole_rows = m if fault is None else fault[0]
    step = max(1, BLOCK // (n * math.prod(scratchpad.shape[:-1])))
    for start in range(0, whole_rows, step):
        block = range(start, min(start + step, whole_rows))
        _block(config, fields, streams, output, scratchpad, accumulator, rows, block, n, whole=True)
    if fault is None:
        return
    row, column, cause, addr = fault
    if column:
        _block(config, fields, streams, output, scratchpad, accumulator, rows, range(row, row + 1), column, whole=False)
    raise Refusal(cause, addr)


def _row_ranges(fields: Fields) -> Iterator[int]:
    """Yield the first row scalar of each range that a command uses."""
    if fields["row0_en"] or fields["source"] == VectorSource.ROW:
        yield fields["row0_addr"]
    if fields["row1_use"] != RowUse.NONE:
        yield fields["row1_addr"]
    if fields["sum"]:
        yield fields["sum_addr"]
    if fields["max"]:
        yield fields["max_addr"]


def _check(config: AcceleratorConfig, fields: Fields, streams: dict[str, Stream], output: Stream | None) -> None:
    """Check what does not depend on a slice."""
    for name, count in ENUMERATIONS:
        if fields[name] >= count - (name == "middle" and not config.range_restriction):
            raise Refusal(ErrorCause.UNSUPPORTED, fields[name])
    if fields["function"] in SCALAR_FUNCTIONS and fields["source"] not in OF_ONE_ELEMENT:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["function"])
    if fields["source"] in OF_ONE_ELEMENT:
        if fields["output"] not in (VectorOutput.NONE, VectorOutput.SCALAR):
            raise Refusal(ErrorCause.UNSUPPORTED, fields["output"])
        for name in ("b_en", "c_use"):
            if fields[name]:
                raise Refusal(ErrorCause.UNSUPPORTED, fields[name])
    for name, nibbles in (("source", VectorSource.UINT4), ("output", VectorOutput.UINT4)):
        if fields[name] == nibbles and config.vector_lanes == 1:
            raise Refusal(ErrorCause.UNSUPPORTED, fields[name])
    if fields["c_use"] == StreamUse.BIAS and (config.float_activations or fields["source"] != VectorSource.ACCUMULATOR):
        raise Refusal(ErrorCause.UNSUPPORTED, fields["c_use"])
    if fields["sum"] == 2 and fields["post"]:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["post"])
    if config.vector == "requantize":
        _check_requantize(fields)
    for name in ("m", "n"):
        if fields[name] == 0:
            raise Refusal(ErrorCause.BAD_SIZE, 0)
    for stream in (*streams.values(), *([output] if output else [])):
        for value in (stream.addr, stream.stride):
            if value % stream.alignment(config):
                raise Refusal(ErrorCause.MISALIGNED, value)
    for first in _row_ranges(fields):
        if first + fields["m"] > config.vector_rows:
            raise Refusal(ErrorCause.ROW_SCALAR_RANGE, first)


def _check_requantize(fields: Fields) -> None:
    """Check that a command needs no more than a vector unit that only requantizes has."""
    only = {"source": VectorSource.ACCUMULATOR, "row0_en": 0, "row1_use": RowUse.NONE, "mask_en": 0,
            "function": VectorFunction.IDENTITY, "post": 0, "sum": 0, "max": 0, "output": VectorOutput.INT8}
    for name, value in only.items():
        if fields[name] != value:
            raise Refusal(ErrorCause.UNSUPPORTED, fields[name])
    if fields["c_use"] > StreamUse.BIAS:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["c_use"])
    if fields["middle"] == 1:
        raise Refusal(ErrorCause.UNSUPPORTED, fields["middle"])


def _columns(config: AcceleratorConfig, n: int) -> list[int]:
    """Return the first column of every slice."""
    return [column for group in range(0, n, config.columns)
            for column in range(group, min(group + config.columns, n), config.vector_lanes)]


def _first_fault(config: AcceleratorConfig, fields: Fields, streams: dict[str, Stream], output: Stream | None, m: int,
                 n: int) -> tuple[int, int, ErrorCause, int] | None:
    """Return row, column, cause and address of the first slice that is out of range."""
    limit = config.scratchpad_bytes
    found: tuple[int, int, ErrorCause, int] | None = None
    columns = _columns(config, n)
    if output is not None and output.scalar:
        written = [0]
    else:
        written = columns
    if fields["source"] == VectorSource.ACCUMULATOR:
        for column in columns:
            first = fields["acc_addr"] + column // config.columns * fields["acc_tile_stride"]
            row = max(0, config.accumulator_rows - first)
            if row < m and (found is None or (row, column) < found[:2]):
                found = (row, column, ErrorCause.ACCUMULATOR_RANGE, first + row)
    for stream in (*streams.values(), *([output] if output else [])):
        for column in written if stream is output else columns:
            first = stream.addr + stream.offset(config, column)
            row = 0 if first >= limit else m if not stream.stride else ceil_div(limit - first, stream.stride)
            if row < m and (found is None or (row, column) < found[:2]):
                found = (row, column, ErrorCause.SCRATCHPAD_RANGE, first + row * stream.stride)
    return found


def _block(config: AcceleratorConfig, fields: Fields, streams: dict[str, Stream], output: Stream | None, scratchpad: Bytes,
           accumulator: npt.NDArray[np.int64], rows: Floats, block: range, n: int, *, whole: bool) -> None:
    """Do some rows, up to column n; their scalars are written if they are `whole`."""
    def scalars(name: str) -> Floats:
        return rows[..., fields[name] + block.start:fields[name] + block.stop, None].copy()

    row0 = scalars("row0_addr") if fields["row0_en"] or fields["source"] == VectorSource.ROW else None
    row1 = scalars("row1_addr") if fields["row1_use"] else None
    if row1 is not None and fields["row1_negate"]:
        row1 = -row1
    operands = {name: stream.read(config, scratchpad, block, n, _dtype(fields, name)) for name, stream in streams.items()}
    if fields["source"] == VectorSource.ACCUMULATOR:
        a: npt.NDArray[np.generic] = _read_accumulator(config, fields, accumulator, block, n)
        if config.float_activations:
            a = a.astype(np.uint32).view(np.float32)
    elif fields["source"] == VectorSource.ROW:
        assert row0 is not None
        a, row0 = row0, None
    else:
        a = operands["a"]
    a = np.broadcast_to(a, (*rows.shape[:-1], len(block), n))
    scale = np.array([fields["scale"]], np.uint32).view(np.float32)[0]
    values, results = transform(fields, a, operands.get("b", scale), operands.get("c"), row0, row1, block.start)
    if output is not None:
        output.write(config, scratchpad, block, results, VectorOutput(fields["output"]))
    if not whole:
        return
    with np.errstate(all="ignore"):
        total = row_sum(values * values if fields["sum"] == 2 else values, config.vector_lanes) if fields["sum"] else None
        seed = row1[..., 0] if row1 is not None and fields["row1_use"] == RowUse.SEED else None
        greatest = row_maximum(np.abs(results) if fields["max"] == 2 else results, seed) if fields["max"] else None
    for name, made in (("sum_addr", total), ("max_addr", greatest)):
        if made is not None:
            rows[..., fields[name] + block.start:fields[name] + block.stop] = canonical(made)


def _dtype(fields: Fields, name: str) -> type:
    """Return the type of a stream's elements; nibbles are read as bytes whatever it is."""
    if name == "a" and fields["source"] == VectorSource.INT8:
        return np.int8
    return np.int32 if name == "c" and fields["c_use"] == StreamUse.BIAS else np.float32


def _read_accumulator(config: AcceleratorConfig, fields: Fields, accumulator: npt.NDArray[np.int64], block: range,
                      n: int) -> npt.NDArray[np.int64]:
    groups = [accumulator[..., (first := fields["acc_addr"] + j * fields["acc_tile_stride"] + block.start):first + len(block), :]
              for j in range(ceil_div(n, config.columns))]
    return np.concatenate(groups, axis=-1)[..., :n].astype(np.int64)
