"""What a command reads and writes of the memories that several units share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import MODE_STREAM
from hw.isa import Dataflow, Unit, VectorSource
from sw.engines import engine_runtime
from sw.golden.vector.streams import Stream, input_streams, output_stream
from sw.layout import round_up

__all__ = ["Access", "SharedMemory", "accesses"]

Fields = Mapping[str, int]
OF_ONE_ELEMENT = (VectorSource.ROW, VectorSource.SCALAR)


class SharedMemory(Enum):
    """A memory of several units. Row scalars are none: they are the vector unit's own."""

    SCRATCHPAD = "scratchpad"
    DRAM = "DRAM"
    ACCUMULATOR = "accumulator"

    def cell_bytes(self, config: AcceleratorConfig) -> int:
        """Return what addresses of this memory count in its cells: bytes of a cell, 1 for the rows of the accumulator.

        DRAM has cells of a beat: all rows of blocks begin with one, so two that share a beat share its first byte.
        """
        return config.beat_bytes if self is SharedMemory.DRAM else 1


@dataclass(frozen=True, slots=True)
class Access:
    """A block of cells that a command reads or writes: those at `first` + Σ i·step for all 0 ≤ i < count.

    Attributes
    ----------
    memory : SharedMemory
    write : bool
    first : int
        Cell: a byte of the scratchpad, a beat of DRAM, or a row of the accumulator.
    counts, steps : tuple of int
        The last step is 1.
    """

    memory: SharedMemory
    write: bool
    first: int
    counts: tuple[int, ...]
    steps: tuple[int, ...]


def accesses(config: AcceleratorConfig, unit: Unit, fields: Fields) -> list[Access]:
    """Return what a command reads and writes, to the byte: padding that the array masks, or that no strobe covers, is left out.

    Parameters
    ----------
    config : AcceleratorConfig
    unit : Unit
    fields : mapping of str to int
        Every field of `DESCRIPTORS[unit]`, of a command that the unit does not refuse.
    """
    return [access for access in _OF[unit](config, fields) if 0 not in access.counts]


def _dram(config: AcceleratorConfig, fields: Fields, *, write: bool) -> Access:
    beat = config.beat_bytes
    return Access(SharedMemory.DRAM, write, fields["dram_addr"] // beat, (fields["rows"], ceil_div(fields["row_bytes"], beat)),
                  (fields["dram_stride"] // beat, 1))


def _load(config: AcceleratorConfig, fields: Fields) -> Iterator[Access]:
    """Whole beats go to the scratchpad, of DRAM or of angles."""
    angles = fields["stream"] and fields["unpack"]
    if not angles:
        yield _dram(config, fields, write=False)
        if fields["stream"]:
            return
    rows, row_bytes = fields["rows"], fields["row_bytes"] * (1 + (fields["unpack"] and not angles))
    if fields["transpose"]:
        rows, row_bytes = row_bytes, rows
    yield Access(SharedMemory.SCRATCHPAD, True, fields["addr"], (rows, round_up(row_bytes, config.beat_bytes)),
                 (fields["stride"], 1))


def _store(config: AcceleratorConfig, fields: Fields) -> Iterator[Access]:
    yield Access(SharedMemory.SCRATCHPAD, False, fields["addr"], (fields["rows"], fields["row_bytes"]), (fields["stride"], 1))
    yield _dram(config, fields, write=True)


def _matrix(config: AcceleratorConfig, fields: Fields) -> Iterator[Access]:
    if fields["mode"]:
        yield from _packed_operands(config, fields)
    else:
        yield from _plain_operands(config, fields)
    yield _accumulator(config, fields, write=True)
    if fields["accumulate"]:
        yield _accumulator(config, fields, write=False)


def _packed_operands(config: AcceleratorConfig, fields: Fields) -> Iterator[Access]:
    """Rows of activations; streams of whole records, unless the load unit gives them."""
    n, k = fields["n"], fields["k"]
    layout = engine_runtime(config).layout(config, fields["mode"], n, k)
    from_scratchpad = not (config.weight_stream and fields["mode"] & MODE_STREAM)
    for operand, count, stride, size in (("activation", fields["m"], "stride", k * config.activation_bytes),
                                         ("weight", layout.groups * from_scratchpad, "tile_stride", layout.bytes_of(k))):
        yield Access(SharedMemory.SCRATCHPAD, False, fields[f"{operand}_addr"], (count, size), (fields[f"{operand}_{stride}"], 1))


def _plain_operands(config: AcceleratorConfig, fields: Fields) -> Iterator[Access]:
    m, n, k = fields["m"], fields["n"], fields["k"]
    steps, along = (m, k) if fields["dataflow"] == Dataflow.WS else (k, m)
    for operand, count, size, group, bits in (("activation", steps, along, config.rows, config.activation.bits),
                                              ("weight", k, n, config.columns, config.weight.bits)):
        first, stride, tile = (fields[f"{operand}_{name}"] for name in ("addr", "stride", "tile_stride"))
        whole, rest = divmod(size, group)
        yield Access(SharedMemory.SCRATCHPAD, False, first, (count, whole, ceil_div(group * bits, 8)), (stride, tile, 1))
        yield Access(SharedMemory.SCRATCHPAD, False, first + whole * tile, (count, ceil_div(rest * bits, 8)), (stride, 1))


def _accumulator(config: AcceleratorConfig, fields: Fields, *, write: bool) -> Access:
    """Rows of all columns; a row is written as a whole."""
    return Access(SharedMemory.ACCUMULATOR, write, fields["acc_addr"], (ceil_div(fields["n"], config.columns), fields["m"]),
                  (fields["acc_tile_stride"], 1))


def _vector(config: AcceleratorConfig, fields: Fields) -> Iterator[Access]:
    n = 1 if fields["source"] in OF_ONE_ELEMENT else fields["n"]
    if fields["source"] == VectorSource.ACCUMULATOR:
        yield _accumulator(config, fields, write=False)
    for stream in input_streams(fields).values():
        yield from _rows(config, stream, fields["m"] if stream.stride else 1, n, write=False)
    output = output_stream(fields)
    if output is not None:
        yield from _rows(config, output, fields["m"], 1 if output.scalar else n, write=True)


def _rows(config: AcceleratorConfig, stream: Stream, rows: int, n: int, *, write: bool) -> Iterator[Access]:
    for first, size in stream.pieces(config, n):
        yield Access(SharedMemory.SCRATCHPAD, write, stream.addr + first, (rows, size), (stream.stride, 1))


_OF = {Unit.LOAD: _load, Unit.MATRIX: _matrix, Unit.VECTOR: _vector, Unit.STORE: _store}
