"""Random vector commands, legal by construction, over every source, step and output that a config has."""

from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
from hw.isa import DESCRIPTORS, RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource

__all__ = ["VectorSpace", "initial_row_scalars", "random_vector_command"]

BITS = {VectorSource.FLOAT32: 32, VectorSource.INT8: 8, VectorSource.UINT4: 4}
OUTPUT_BITS = {VectorOutput.FLOAT32: 32, VectorOutput.INT8: 8, VectorOutput.UINT4: 4}
OF_ONE_ELEMENT = (VectorSource.ROW, VectorSource.SCALAR)
OF_ONE_VALUE = (VectorFunction.RECIPROCAL, VectorFunction.RSQRT)
IN_PLACE = {VectorSource[name]: VectorOutput[name] for name in ("FLOAT32", "INT8", "UINT4", "SCALAR")}


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorSpace:
    """The memory that commands may use.

    Attributes
    ----------
    inputs : tuple of int
        Scratchpad areas that are only read.
    output : int
        The one that is written, and read in place.
    area_bytes : int
        Of each area; areas begin at lines.
    acc, acc_rows : int
        First accumulator row, and how many.
    row, rows : int
        First row scalar, and how many.
    longest : int
        Largest m and n.
    """

    inputs: tuple[int, ...]
    output: int
    area_bytes: int
    acc: int
    acc_rows: int
    row: int
    rows: int
    longest: int


class _Maker:
    def __init__(self, config: AcceleratorConfig, rng: np.random.Generator, space: VectorSpace):
        self.config, self.rng, self.space = config, rng, space

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def flag(self, probability: float = 0.5) -> int:
        return int(self.rng.random() < probability)

    def one_of(self, choices) -> int:
        return int(choices[self.integer(0, len(choices) - 1)])

    def number(self) -> int:
        """Return the bits of a float32 of ordinary size, of either sign."""
        value = self.rng.uniform(-2, 2) * 2.0 ** -self.integer(0, 10)
        return int(np.float32(value).view(np.uint32))

    def shape(self, row_bits: int, scalar: bool) -> tuple[int, int]:
        """Return m and n; a row of float32 fits into an area, and m rows of `row_bits` an element do."""
        config, space = self.config, self.space
        n = min(self.integer(1, space.longest), space.area_bytes // config.parameter_slot_bytes * config.columns)
        row = 4 if scalar else max(config.line_bytes, self.row_bytes(n, row_bits))
        m = min(self.integer(1, space.longest), space.area_bytes // row, space.rows)
        return m, min(n, space.acc_rows // m * config.columns)

    def row_bytes(self, n: int, bits: int) -> int:
        """Return the bytes of a row of whole groups, in whole slices."""
        config = self.config
        slice_bytes = self.slice_bytes(bits)
        return ceil_div(ceil_div(n, config.columns) * config.output_slot_bytes * bits, 8 * slice_bytes) * slice_bytes

    def slice_bytes(self, bits: int) -> int:
        return max(1, ceil_power_of_two(self.config.vector_lanes) * bits // 8)

    def stream(self, base: int, m: int, row_bytes: int, step: int, *, apart: bool) -> tuple[int, int]:
        """Return address and stride of m rows in an area; without `apart` one row may serve all, and rows may overlap."""
        room = self.space.area_bytes
        most = (room - row_bytes) // max(1, m - 1) // step * step
        least = row_bytes if apart else step
        stride = 0 if most < least or (not apart and self.flag(0.4)) else step * self.integer(
            least // step, min(most, max(least, row_bytes + 3 * step)) // step)
        return base + step * self.integer(0, (room - (m - 1) * stride - row_bytes) // step), stride

    def row_scalars(self, m: int) -> dict[str, int]:
        """Return row scalars for two readers and two writers; ranges are the same or apart, those of the writers apart."""
        space = self.space
        places = space.rows // m
        first = space.row + self.integer(0, space.rows - places * m)
        total, greatest = self.integer(0, places - 1), self.integer(0, places - 1)
        found = {name: self.integer(0, places - 1) for name in ("row0_addr", "row1_addr")} | {"sum_addr": total}
        found["max_addr"] = greatest if greatest != total else (total + 1) % places
        return {name: first + place * m for name, place in found.items()}

    def accumulator(self, m: int, n: int) -> dict[str, int]:
        space, groups = self.space, ceil_div(n, self.config.columns)
        stride = self.integer(m, max(m, space.acc_rows // groups))
        stride = stride if (groups - 1) * stride + m <= space.acc_rows else m
        return {"acc_addr": space.acc + self.integer(0, space.acc_rows - (groups - 1) * stride - m), "acc_tile_stride": stride}

    def requantize(self) -> dict[str, int]:
        """Return what a unit that only requantizes can do."""
        return {"source": VectorSource.ACCUMULATOR, "c_use": self.flag(), "middle": 2 * self.flag(0.3),
                "constant": self.number() if self.flag(0.2) else 0, "output": VectorOutput.INT8}

    def steps(self) -> dict[str, int]:
        """Return source, steps and output of any kind."""
        sources = [source for source in VectorSource if source != VectorSource.UINT4 or self.config.vector_lanes > 1]
        outputs = [output for output in VectorOutput if output != VectorOutput.UINT4 or self.config.vector_lanes > 1]
        source = self.one_of(sources)
        scalar = source in OF_ONE_ELEMENT
        uses = [StreamUse.NONE, StreamUse.MIDDLE, StreamUse.POST] + [StreamUse.BIAS] * 2 * (source == VectorSource.ACCUMULATOR)
        functions = [function for function in VectorFunction if scalar or function not in OF_ONE_VALUE]
        return {
            "source": source, "row0_en": self.flag(0.4), "c_use": 0 if scalar else self.one_of(uses),
            "row1_use": self.one_of(list(RowUse)), "row1_negate": self.flag(), "constant": self.number(),
            "middle": self.integer(0, 2 + self.config.range_restriction), "mask_en": self.flag(0.3),
            "mask": self.integer(0, self.space.longest),
            "mask_step": self.flag(), "function": self.one_of(functions), "post": self.integer(0, 2), "sum": self.integer(0, 2),
            "max": self.integer(0, 2),
            "output": self.one_of([VectorOutput.NONE, VectorOutput.SCALAR] if scalar else outputs),
        }

    def command(self) -> dict[str, int]:
        space = self.space
        fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.VECTOR]), 0)
        fields |= self.requantize() if self.config.vector == "requantize" else self.steps()
        source, output = VectorSource(fields["source"]), VectorOutput(fields["output"])
        scalar = source in OF_ONE_ELEMENT
        m, n = self.shape(OUTPUT_BITS.get(output, 8), scalar)
        fields |= {"m": m, "n": n, "scale": self.number(), "b_en": 0 if scalar else self.flag()}
        if fields["sum"] == 2:
            fields["post"] = 0
        if fields["sum"] and fields["max"] and space.rows < 2 * m:
            fields["max"] = 0
        fields |= self.row_scalars(m)
        if source == VectorSource.ACCUMULATOR:
            fields |= self.accumulator(m, n)
        for name in ("b", "c"):
            base = space.inputs[self.integer(0, len(space.inputs) - 1)]
            fields[f"{name}_addr"], fields[f"{name}_stride"] = self.stream(
                base, m, self.row_bytes(n, 32), self.slice_bytes(32), apart=False)
        if source == VectorSource.SCALAR or source in BITS:
            bits = BITS.get(source)
            row, step = (4, 4) if bits is None else (self.row_bytes(n, bits), self.slice_bytes(bits))
            base = space.inputs[self.integer(0, len(space.inputs) - 1)]
            fields["a_addr"], fields["a_stride"] = self.stream(base, m, row, step, apart=False)
        if output != VectorOutput.NONE:
            bits = OUTPUT_BITS.get(output)
            row, step = (4, 4) if bits is None else (self.row_bytes(n, bits), self.slice_bytes(bits))
            fields["addr"], fields["stride"] = self.stream(space.output, m, row, step, apart=True)
            if IN_PLACE.get(source) == output and self.flag(0.4):
                fields["a_addr"], fields["a_stride"] = fields["addr"], fields["stride"]
        return {name: int(value) for name, value in fields.items()}


def random_vector_command(config: AcceleratorConfig, rng: np.random.Generator, space: VectorSpace) -> dict[str, int]:
    """Return every field of a random legal command within `space`."""
    return _Maker(config, rng, space).command()


def initial_row_scalars(config: AcceleratorConfig, space: VectorSpace) -> dict[str, int]:
    """Return a command that gives every row scalar of `space` a value: the float32 words of its first input area."""
    fields = dict.fromkeys((field.name for field in DESCRIPTORS[Unit.VECTOR]), 0)
    stride = 4 if 4 * space.rows <= space.area_bytes else 0
    fields |= {"source": VectorSource.SCALAR, "m": space.rows, "n": 1, "a_addr": space.inputs[0], "a_stride": stride,
               "scale": int(np.float32(1).view(np.uint32)), "sum": 1, "sum_addr": space.row}
    return {name: int(value) for name, value in fields.items()}
