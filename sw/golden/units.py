"""What the four units do to the memories, one command at a time: load, matrix, vector, store in plain numpy."""

from collections.abc import Callable, Mapping

import numpy as np

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause, Unit
from sw.golden.array import matrix_model
from sw.golden.refusal import Refusal, check_aligned
from sw.golden.state import Fields, State
from sw.golden.vector import unit as vector_unit
from sw.layout import round_up

__all__ = ["UNITS", "run_load", "run_matrix", "run_store", "run_vector"]

ADDRESS_SPACE = 1 << 32
PAGE = 4096                 # no burst crosses a multiple of it
RECORD = 16                 # bytes of a pair's angles: cosine and sine of the position and of one step


# Load and store -----------------------------------------------------------------------------------------------


def _check_block(config: AcceleratorConfig, fields: Fields) -> None:
    for name in ("rows", "row_bytes"):
        if fields[name] == 0:
            raise Refusal(ErrorCause.BAD_SIZE, 0)
    if fields.get("stream"):
        _check_stream(config, fields)
    for name in ("dram_addr", "dram_stride", "addr", "stride"):
        check_aligned(fields[name], config.beat_bytes)


def _check_stream(config: AcceleratorConfig, fields: Fields) -> None:
    """Check what goes from or to other places than DRAM and scratchpad: packed weights, records of angles, angles."""
    records, angles = bool(fields["transpose"]), bool(fields["unpack"])
    if (records and angles) or ((records or angles) and not config.rotary_pairs) or not (
            records or angles or config.weight_stream):
        raise Refusal(ErrorCause.UNSUPPORTED, 1)
    rows, row_bytes = (1, RECORD) if records else (2, 4)            # most rows, bytes of each pair
    if records or angles:
        if fields["rows"] > rows:
            raise Refusal(ErrorCause.BAD_SIZE, fields["rows"])
        if fields["row_bytes"] > row_bytes * config.rotary_pairs or (records and fields["row_bytes"] % RECORD):
            raise Refusal(ErrorCause.BAD_SIZE, fields["row_bytes"])


def _load_angles(state: State, fields: Fields) -> None:
    """Records → source of angles, or its cosines and sines → scratchpad."""
    beat, row_bytes = state.config.beat_bytes, fields["row_bytes"]
    width = round_up(row_bytes, beat)
    if fields["transpose"]:
        start = fields["dram_addr"]
        _check_dram(state, start, width, ErrorCause.BUS_READ)
        records = np.zeros((*state.memory.shape[:-1], width), np.uint8)
        records[..., :row_bytes] = state.memory[..., start:start + row_bytes]
        state.angles.set(records)
        return
    for row, values in zip(range(fields["rows"]), state.angles.rows(), strict=False):
        place = fields["addr"] + row * fields["stride"]
        _check_scratchpad(state, place, width)
        state.scratchpad[..., place:place + row_bytes] = values.view(np.uint8)[..., :row_bytes]
        state.scratchpad[..., place + row_bytes:place + width] = 0
    if fields["dram_stride"]:
        state.angles.advance()


def _check_dram(state: State, start: int, size: int, cause: ErrorCause) -> None:
    """Check a row of `size` bytes in DRAM; what is reported is where its first burst beyond the end starts."""
    if start >= ADDRESS_SPACE:
        raise Refusal(ErrorCause.BAD_SIZE, start % ADDRESS_SPACE)
    limit = state.memory.shape[-1]
    if start + size > limit:
        raise Refusal(cause, max(start, limit // PAGE * PAGE))
    if start + size > ADDRESS_SPACE:
        raise Refusal(ErrorCause.BAD_SIZE, 0)


def _check_scratchpad(state: State, start: int, size: int) -> None:
    """Check whole beats of the scratchpad; what is reported is the first one outside."""
    limit = state.scratchpad.shape[-1]
    if start + size > limit:
        raise Refusal(ErrorCause.SCRATCHPAD_RANGE, max(start, limit))


def run_load(state: State, fields: Fields) -> None:
    """DRAM → scratchpad, or engine; whole beats, zero past the end of a row and, turned around, past the last row."""
    beat = state.config.beat_bytes
    _check_block(state.config, fields)
    if fields["stream"] and (fields["transpose"] or fields["unpack"]):
        _load_angles(state, fields)
        return
    rows, row_bytes, addr, stride = (fields[name] for name in ("rows", "row_bytes", "addr", "stride"))
    columns = 2 * row_bytes if fields["unpack"] else row_bytes
    width = round_up(columns, beat)
    lead = state.scratchpad.shape[:-1]
    turned = np.zeros((*lead, width, round_up(rows, beat)), np.uint8) if fields["transpose"] else None
    for i in range(rows):
        start = fields["dram_addr"] + i * fields["dram_stride"]
        _check_dram(state, start, round_up(row_bytes, beat), ErrorCause.BUS_READ)
        row = state.memory[..., start:start + row_bytes]
        if fields["unpack"]:
            row = np.stack([row & 15, row >> 4], axis=-1).reshape(*row.shape[:-1], -1)
        if turned is not None:
            turned[..., :columns, i] = row
            continue
        if fields["stream"]:
            padding = np.zeros((*lead, width - columns), np.uint8)
            state.stream = np.concatenate((state.stream, row, padding) if state.stream.size else (row, padding), axis=-1)
            continue
        place = addr + i * stride
        _check_scratchpad(state, place, width)
        state.scratchpad[..., place:place + columns] = row
        state.scratchpad[..., place + columns:place + width] = 0
    if turned is None:
        return
    step = 2 * beat if fields["unpack"] else beat
    for first_column in range(0, columns, step):                    # block by block, as the transposer gives them
        for first_row in range(0, rows, beat):
            for j in range(first_column, min(first_column + step, columns)):
                place = addr + j * stride + first_row
                _check_scratchpad(state, place, beat)
                state.scratchpad[..., place:place + beat] = turned[..., j, first_row:first_row + beat]


def run_store(state: State, fields: Fields) -> None:
    """Scratchpad → DRAM; only the bytes of a row are written."""
    _check_block(state.config, fields)
    row_bytes = fields["row_bytes"]
    width = round_up(row_bytes, state.config.beat_bytes)
    for i in range(fields["rows"]):
        source = fields["addr"] + i * fields["stride"]
        _check_scratchpad(state, source, width)
        start = fields["dram_addr"] + i * fields["dram_stride"]
        _check_dram(state, start, width, ErrorCause.BUS_WRITE)
        state.memory[..., start:start + row_bytes] = state.scratchpad[..., source:source + row_bytes]
        state.counters["bytes_written"] += row_bytes


# Matrix and vector -------------------------------------------------------------------------------------------------------


def run_matrix(state: State, fields: Fields) -> None:
    """Scratchpad × scratchpad → accumulator, as the config's engine does it."""
    matrix_model(state.config)(state, fields)


def run_vector(state: State, fields: Fields) -> None:
    """Accumulator, scratchpad and row scalars → scratchpad and row scalars."""
    vector_unit.run_vector(state.config, fields, state.scratchpad, state.accumulator, state.rows)


UNITS: Mapping[Unit, Callable[[State, Fields], None]] = {
    Unit.LOAD: run_load, Unit.MATRIX: run_matrix, Unit.VECTOR: run_vector, Unit.STORE: run_store}
"""What does each unit's commands."""
