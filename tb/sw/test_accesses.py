"""What commands are said to read and write, against what the golden units do: random commands in random memories."""

from dataclasses import replace

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import DESCRIPTORS, Unit
from sw.accesses import SharedMemory, accesses
from sw.golden.state import State
from tb.array.hybrid import HYBRID_CONFIGS
from tb.sw.configs import CONFIGS
from tb.sw.schedules import RUN
from tb.vector.commands import VectorSpace, random_vector_command

BYTES = 1 << 15         # of scratchpad and DRAM
SPACE = VectorSpace(inputs=(0, 4096, 8192), output=16384, area_bytes=4096, acc=0, acc_rows=64, row=0, rows=16, longest=16)
NAMES = ("systolic-4x4", "systolic-16x16", "3x5-bus64", "w4-5x7", "12x6", "bus512")
TESTED = {name: replace(CONFIGS[name], scratchpad_bytes=BYTES) for name in NAMES}
TESTED["hybrid"] = replace(HYBRID_CONFIGS["8-2"], scratchpad_bytes=BYTES)
TESTED["transformer"] = AcceleratorConfig(rows=8, columns=16, vector_lanes=4, vector="transformer", vector_rows=64)


def random_block(rng, config):
    beat = config.beat_bytes
    rows, row_bytes, transpose, unpack = (int(rng.integers(*limits)) for limits in ((1, 30), (1, 90), (0, 2), (0, 2)))
    return {"dram_addr": beat * int(rng.integers(0, 20)), "dram_stride": beat * int(rng.integers(0, 7)), "rows": rows,
            "row_bytes": row_bytes, "addr": beat * int(rng.integers(0, 20)),
            "stride": beat * int(rng.integers(0, min(4, BYTES // beat // 400))), "transpose": transpose, "unpack": unpack,
            "stream": int(config.weight_stream and not transpose and not unpack and rng.integers(2))}


def random_matrix(rng, config):
    m, n, k = (int(rng.integers(1, 20)) for _ in range(3))
    fields = {"m": m, "n": n, "k": k, "acc_addr": int(rng.integers(0, 10)), "acc_tile_stride": int(rng.integers(0, 10)),
              "accumulate": int(rng.integers(0, 2)), "serialize": 0, "mode": int(rng.integers(len(config.weight_formats) + 1)),
              "dataflow": int(config.dataflows[rng.integers(len(config.dataflows))] == "os")}
    for name, slot, first in (("activation", config.activation_slot_bytes, 0), ("weight", config.weight_slot_bytes, BYTES // 2)):
        fields |= {f"{name}_addr": first + slot * int(rng.integers(0, 9)), f"{name}_stride": slot * int(rng.integers(0, 9)),
                   f"{name}_tile_stride": slot * int(rng.integers(0, 30))}
    if config.engine != "systolic":         # rows of activations are in one piece
        fields["activation_tile_stride"] = config.activation_slot_bytes
    return fields


def random_command(rng, config):
    unit = Unit(rng.integers(len(Unit)))
    if unit == Unit.VECTOR:
        return unit, random_vector_command(config, rng, SPACE)
    fields = random_matrix(rng, config) if unit == Unit.MATRIX else random_block(rng, config)
    return unit, {field.name: fields[field.name] for field in DESCRIPTORS[unit]}


def memories(rng, config):
    return {SharedMemory.SCRATCHPAD: rng.integers(0, 256, BYTES).astype(np.uint8),
            SharedMemory.DRAM: rng.integers(0, 256, BYTES).astype(np.uint8),
            SharedMemory.ACCUMULATOR: rng.integers(-500, 500, (config.accumulator_rows, config.columns))}


def after(config, unit, fields, before, rows):
    """Return the memories after a command."""
    found = {memory: cells.copy() for memory, cells in before.items()}
    RUN[unit](State(config=config, memory=found[SharedMemory.DRAM], scratchpad=found[SharedMemory.SCRATCHPAD],
                    accumulator=found[SharedMemory.ACCUMULATOR], rows=rows.copy(),
                    counters=dict.fromkeys(("macs", "bytes_written", "saturations"), 0)), fields)
    return found


def used_cells(config, unit, fields, cells):
    """Return which cells of each memory are read, and which are written."""
    used = {(memory, write): np.zeros(len(cells[memory]), bool) for memory in cells for write in (False, True)}
    for access in accesses(config, unit, fields):
        places = np.array([access.first])
        for count, step in zip(access.counts, access.steps, strict=True):
            places = (places[:, None] + np.arange(count) * step).ravel()
        used[access.memory, access.write][places] = True
    return used


@pytest.mark.parametrize("name", TESTED)
def test_random_commands(name):
    """Nothing else is written. What is not said to be read may be anything: what is said to be written comes out the same."""
    config, rng = TESTED[name], np.random.default_rng(len(name))
    seen = set()
    for _ in range(150):
        unit, fields = random_command(rng, config)
        before, rows = memories(rng, config), rng.standard_normal(config.vector_rows).astype(np.float32)
        found = after(config, unit, fields, before, rows)
        beats = {memory: cells.reshape(len(cells) // memory.cell_bytes(config), -1) for memory, cells in before.items()}
        used = used_cells(config, unit, fields, beats)
        other = {}
        for memory, cells in beats.items():
            other[memory] = cells.copy()
            other[memory][~used[memory, False]] ^= 0x55
        shape = {memory: cells.shape for memory, cells in before.items()}
        again = after(config, unit, fields, {memory: cells.reshape(shape[memory]) for memory, cells in other.items()}, rows)
        for memory, cells in beats.items():
            written, now, then = (used[memory, True], *(run[memory].reshape(cells.shape) for run in (found, again)))
            np.testing.assert_array_equal(now[~written], cells[~written])
            np.testing.assert_array_equal(now[written][:, 0], then[written][:, 0])      # of a beat the first byte is
            seen |= {(unit, memory, kind) for kind in (False, True) if used[memory, kind].any()}
    assert {(Unit.LOAD, SharedMemory.DRAM, False), (Unit.STORE, SharedMemory.DRAM, True),
            (Unit.MATRIX, SharedMemory.ACCUMULATOR, False), (Unit.VECTOR, SharedMemory.ACCUMULATOR, False),
            (Unit.VECTOR, SharedMemory.SCRATCHPAD, True)} <= seen
