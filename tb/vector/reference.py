"""A vector command element by element in the order in which the hardware works, with Python's numbers: slow, and of its own."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from hw.config import AcceleratorConfig
from hw.elements import FP32
from hw.isa import ErrorCause, RowUse, StreamUse, VectorFunction, VectorOutput, VectorSource
from sw.golden.arith import functions

__all__ = ["Stop", "run_slowly"]

FUNCTIONS = {
    VectorFunction.EXP2: lambda w: functions.exp2(FP32, w, subnormals=True),
    VectorFunction.SIGMOID: lambda w: functions.sigmoid(FP32, w),
    VectorFunction.NORMAL: lambda w: functions.normal(FP32, w),
    VectorFunction.RECIPROCAL: lambda w: functions.reciprocal(FP32, w, subnormals=True),
    VectorFunction.RSQRT: lambda w: functions.rsqrt(FP32, w, subnormals=True),
}
BITS = {VectorSource.FLOAT32: 32, VectorSource.INT8: 8, VectorSource.UINT4: 4, VectorSource.SCALAR: 32}
OUTPUT_BITS = {VectorOutput.FLOAT32: 32, VectorOutput.INT8: 8, VectorOutput.UINT4: 4, VectorOutput.SCALAR: 32}
QUIET_NAN = 0x7FC0_0000


class Stop(Exception):
    """An error: cause and address."""


def to_float(word: int) -> float:
    return float(np.uint32(word).view(np.float32))


def to_word(value: float) -> int:
    """Return the float32 nearest to a number; a sum or product of two float32 is rounded just once on this way."""
    if math.isnan(value):
        return QUIET_NAN
    with np.errstate(over="ignore"):
        return int(np.float32(value).view(np.uint32))


def rounded(value: float) -> float:
    return to_float(to_word(value))


def times(a: float, b: float) -> float:
    return rounded(a * b)


def plus(a: float, b: float) -> float:
    return rounded(a + b)


def larger(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    if a == b == 0:
        return 0.0 if math.copysign(1, a) > 0 or math.copysign(1, b) > 0 else -0.0
    return max(a, b)


def integer(value: float, low: int, high: int) -> int:
    if math.isnan(value):
        return 0
    return high if value >= high else low if value <= low else round(value)


def in_pairs(values: list[float]) -> float:
    while len(values) > 1:
        values = [plus(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def power_of_two(n: int) -> int:
    return next(1 << i for i in range(32) if 1 << i >= n)


class _Command:
    """One command at work on memories."""

    def __init__(self, config: AcceleratorConfig, fields: Mapping[str, int], scratchpad: np.ndarray, accumulator: np.ndarray,
                 rows: np.ndarray):
        self.config, self.f = config, fields
        self.scratchpad, self.accumulator, self.rows = scratchpad, accumulator, rows
        self.lanes = config.vector_lanes
        self.of_one = fields["source"] in (VectorSource.ROW, VectorSource.SCALAR)
        self.n = 1 if self.of_one else fields["n"]

    # Memories -----------------------------------------------------------------------------------------------------

    def place(self, name: str, row: int, column: int, bits: int) -> int:
        """Return the bit of an element; refuse its slice where it lies outside."""
        prefix = f"{name}_" if name else ""
        group, rest = divmod(column, self.config.columns)
        slot = power_of_two(self.config.columns)
        start = self.f[f"{prefix}addr"] + row * self.f[f"{prefix}stride"]
        first = start + (group * slot + rest - rest % self.lanes) * bits // 8
        if first >= self.config.scratchpad_bytes:
            raise Stop(ErrorCause.SCRATCHPAD_RANGE, first)
        return 8 * start + (group * slot + rest) * bits

    def read_word(self, bit: int) -> int:
        return int.from_bytes(self.scratchpad[bit // 8:bit // 8 + 4].tobytes(), "little")

    def accumulator_word(self, row: int, column: int) -> int:
        group, lane = divmod(column, self.config.columns)
        at = self.f["acc_addr"] + group * self.f["acc_tile_stride"] + row
        if at >= self.config.accumulator_rows:
            raise Stop(ErrorCause.ACCUMULATOR_RANGE, at)
        return int(self.accumulator[at, lane])

    def source(self, row: int, column: int, row0: float) -> float | int:
        source = self.f["source"]
        if source == VectorSource.ACCUMULATOR:
            return self.accumulator_word(row, column)
        if source == VectorSource.ROW:
            return row0
        bits = BITS[VectorSource(source)]
        at = self.place("a", row, column, bits)
        if bits == 32:
            return to_float(self.read_word(at))
        byte = int(self.scratchpad[at // 8])
        return byte - 256 * (byte > 127) if bits == 8 else byte >> at % 8 & 15

    def write(self, row: int, column: int, value: float) -> None:
        output = self.f["output"]
        if output == VectorOutput.NONE or (output == VectorOutput.SCALAR and column):
            return
        bits = OUTPUT_BITS[VectorOutput(output)]
        at = self.place("", row, column, bits)
        if bits == 32:
            self.scratchpad[at // 8:at // 8 + 4] = list(to_word(value).to_bytes(4, "little"))
        elif bits == 8:
            self.scratchpad[at // 8] = integer(value, -128, 127) & 255
        else:
            lower = int(self.scratchpad[at // 8]) & 15 if at % 8 else 0
            self.scratchpad[at // 8] = lower | integer(value, 0, 15) << at % 8

    # Elements -----------------------------------------------------------------------------------------------------

    def operand(self, use: StreamUse, row_use: RowUse, c: float, row1: float) -> float:
        if self.f["c_use"] == use:
            return c
        return row1 if self.f["row1_use"] == row_use else to_float(self.f["constant"])

    def element(self, row: int, column: int, taken: tuple[float | int, float, float], row0: float,
                row1: float) -> tuple[float, float]:
        """Return function value and result."""
        f = self.f
        a, b, c = taken
        if f["source"] == VectorSource.ACCUMULATOR and f["c_use"] == StreamUse.BIAS:
            a = max(-(1 << 31), min((1 << 31) - 1, int(a) + int(c)))
        x = times(rounded(a), b)
        if f["row0_en"] and f["source"] != VectorSource.ROW:
            x = times(x, row0)
        if f["middle"] == 3:
            largest = abs(to_float(f["constant"]))
            if math.isnan(x) or abs(x) > largest:
                x = math.copysign(largest, 1.0 if math.isnan(x) else x)
            if f["c_use"] == StreamUse.MIDDLE or f["row1_use"] == RowUse.MIDDLE:
                x = plus(x, self.operand(StreamUse.MIDDLE, RowUse.MIDDLE, c, row1))
        elif f["middle"]:
            step = plus if f["middle"] == 1 else larger
            x = step(x, self.operand(StreamUse.MIDDLE, RowUse.MIDDLE, c, row1))
        if f["mask_en"] and column >= f["mask"] + row * f["mask_step"]:
            x = -math.inf
        value = x
        if f["function"] != VectorFunction.IDENTITY:
            value = to_float(int(FUNCTIONS[VectorFunction(f["function"])](np.array([to_word(x)], np.uint32))[0]))
        if f["post"] == 1:
            return value, times(value, self.operand(StreamUse.POST, RowUse.POST, c, row1))
        return value, times(value, x) if f["post"] == 2 else value

    def slices(self) -> Iterator[list[int]]:
        """Yield the columns of each slice of a row."""
        for group in range(0, self.n, self.config.columns):
            end = min(self.n, group + self.config.columns)
            for first in range(group, end, self.lanes):
                yield list(range(first, min(first + self.lanes, end)))

    def take(self, row: int, columns: list[int], row0: float) -> list[tuple[float | int, float, float]]:
        """Read A, then B, then C of a slice."""
        a = [self.source(row, column, row0) for column in columns]
        b = [to_float(self.read_word(self.place("b", row, column, 32))) if self.f["b_en"] else to_float(self.f["scale"])
             for column in columns]
        c: list[float] = [0.0] * len(columns)
        if self.f["c_use"]:
            words = [self.read_word(self.place("c", row, column, 32)) for column in columns]
            bias = self.f["c_use"] == StreamUse.BIAS
            c = [word - (word >> 31 << 32) if bias else to_float(word) for word in words]
        return list(zip(a, b, c, strict=True))

    def row(self, i: int) -> None:
        f = self.f
        row0 = float(self.rows[f["row0_addr"] + i]) if f["row0_en"] or f["source"] == VectorSource.ROW else 0.0
        row1 = float(self.rows[f["row1_addr"] + i]) if f["row1_use"] else 0.0
        row1 = -row1 if f["row1_negate"] else row1
        running = [0.0] * 8
        greatest = row1 if f["row1_use"] == RowUse.SEED else -math.inf
        for s, columns in enumerate(self.slices()):
            taken = self.take(i, columns, row0)
            made = [self.element(i, column, each, row0, row1) for column, each in zip(columns, taken, strict=True)]
            for column, (_, result) in zip(columns, made, strict=True):
                self.write(i, column, result)
            terms = [times(value, value) if f["sum"] == 2 else value for value, _ in made]
            running[s % 8] = plus(running[s % 8], in_pairs(terms + [0.0] * (power_of_two(self.lanes) - len(terms))))
            for _, result in made:
                greatest = larger(greatest, abs(result) if f["max"] == 2 else result)
        if f["sum"]:
            self.rows.view(np.uint32)[f["sum_addr"] + i] = to_word(in_pairs(running))
        if f["max"]:
            self.rows.view(np.uint32)[f["max_addr"] + i] = to_word(greatest)


def run_slowly(config: AcceleratorConfig, fields: Mapping[str, int], scratchpad: np.ndarray, accumulator: np.ndarray,
               rows: np.ndarray) -> tuple[ErrorCause, int] | None:
    """Do a command, legal but for its ranges, in place; return where it stopped, if it did."""
    command = _Command(config, fields, scratchpad, accumulator, rows)
    try:
        for i in range(fields["m"]):
            command.row(i)
    except Stop as stop:
        cause, addr = stop.args
        return cause, addr
    return None
