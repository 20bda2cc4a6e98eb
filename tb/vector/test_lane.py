"""One lane of the vector unit against numpy, in volume: every function and output, corner values, held at random."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flows.block_sim import BlockSim
from hw.elements import FP32
from hw.isa import DESCRIPTORS, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from hw.timing import VECTOR_STAGES
from hw.vector.lane import MINUS_INFINITY, VectorLane
from sw.golden.vector.elements import transform
from sw.golden.vector.streams import canonical
from tb.arith.words import operands

Words = npt.NDArray[np.uint32]
COUNT = 20_000
MINUS_ZERO = 1 << 31
TIMES = {"factor": 0, "x": 1, "f": 2}


@functools.cache
def sim(unit: str) -> BlockSim:
    lane = VectorLane(unit="transformer", limits=True) if unit == "limits" else VectorLane(
        unit=unit, scalar_functions=unit == "transformer")
    return BlockSim(lane, f"vector_lane_{unit}")


def words(seed: int) -> tuple[Words, Words]:
    """Return two operands: corners with corners, any words, words that are near each other."""
    a, b = (column.astype(np.uint32) for column in operands(FP32, 2, COUNT, seed))
    return a, b


def integers(rng: np.random.Generator, count: int) -> Words:
    corner = np.array([0, 1, -1, 127, 128, -128, -129, (1 << 24) + 1, (1 << 24) + 3, (1 << 31) - 1, -(1 << 31)])
    some = rng.integers(-1 << 31, 1 << 31, count) >> rng.integers(0, 31, count)
    return np.where(rng.random(count) < 0.1, rng.choice(corner, count), some).astype(np.int32).view(np.uint32)


def run(unit: str, static: dict[str, int], ports: dict[str, npt.ArrayLike], *,
        stall: float = 0.0) -> dict[str, npt.NDArray[Any]]:
    """Return outputs of each element; each operand is shown in the cycle of its stage only, in which noise stands otherwise."""
    stages = VECTOR_STAGES["transformer" if unit == "limits" else unit]
    when = {"a": 0, "bias": stages.bias, "scale": stages.scale, "row": stages.row, "at_least": stages.maximum,
            "addend": stages.add, "masked": stages.function, "factor": stages.post}
    count = max(np.size(column) for column in ports.values())
    rng = np.random.default_rng(count)
    steps = count + stages.output
    enable = rng.random(int((steps + 50) / (1 - stall) * 1.2)) >= stall
    enable = enable[:np.flatnonzero(enable)[steps - 1] + 2]
    at = np.flatnonzero(enable)
    inputs: dict[str, Any] = {"enable": enable.astype(np.uint8), **static}
    for name, column in ports.items():
        noise = rng.integers(0, 2 if name == "masked" else 1 << 32, len(enable), np.uint32)
        noise[at[when[name]:when[name] + count]] = column
        inputs[name] = noise.view(np.int32) if name == "bias" else noise
    outputs = sim(unit).run(inputs)
    shown = {"o": stages.output, "y": stages.result, "term": stages.result}
    return {name: column[at[shown[name]:shown[name] + count]] if shown[name] + count <= len(at) else
            column[np.append(at, len(enable) - 1)[shown[name]:shown[name] + count]] for name, column in outputs.items()}


def golden(ports: dict[str, npt.ArrayLike], **fields: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return f and y of elements with these operands."""
    complete = {field.name: 0 for field in DESCRIPTORS[Unit.VECTOR]} | fields
    count = max(np.size(column) for column in ports.values())

    def row(name: str, kind: type) -> npt.NDArray[Any]:
        return np.broadcast_to(np.asarray(ports[name], np.uint32), count).copy().view(kind)

    a = row("a", np.int32).astype(np.int64) if complete["source"] == VectorSource.ACCUMULATOR else row("a", np.float32)
    c = {StreamUse.NONE: None, StreamUse.BIAS: "bias", StreamUse.MIDDLE: "addend" if complete["middle"] in (1, 3) else "at_least",
         StreamUse.POST: "factor"}[StreamUse(complete["c_use"])]
    operand = None if c is None else row(c, np.int32 if c == "bias" else np.float32)[None]
    row0 = row("row", np.float32)[None] if complete["row0_en"] else None
    values, results = transform(complete, a[None], row("scale", np.float32)[None], operand, row0, None, 0)
    return values[0], results[0]


def same(found: npt.NDArray[Any], expected: npt.NDArray[np.float32], message: str = "") -> None:
    np.testing.assert_array_equal(found, canonical(expected).view(np.uint32), err_msg=message)


NEUTRAL: dict[str, int] = {"bias": 0, "scale": 0x3F80_0000, "row": 0x3F80_0000, "at_least": MINUS_INFINITY, "addend": MINUS_ZERO,
                           "masked": 0, "factor": 0x7FC0_0000}
STATIC = {"floating": 1, "function": 0, "times": 0, "post": 0, "output": int(VectorOutput.FLOAT32)}


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_accumulator_words(stall):
    rng = np.random.default_rng(1)
    a, bias = integers(rng, COUNT), integers(rng, COUNT)
    scale, row = ((rng.standard_normal(COUNT) * 2.0 ** rng.integers(-30, 3, COUNT)).astype(np.float32).view(np.uint32)
                  for _ in range(2))
    ports = NEUTRAL | {"a": a, "bias": bias, "scale": scale, "row": row}
    found = run("transformer", STATIC | {"floating": 0}, ports, stall=stall)
    values, _ = golden(ports, source=VectorSource.ACCUMULATOR, c_use=StreamUse.BIAS, row0_en=1)
    for name in ("o", "y", "term"):
        same(found[name], values, name)


@pytest.mark.parametrize("step", ["scale", "row", "add", "maximum", "factor"])
def test_each_step(step):
    a, b = words(2)
    fields = {"scale": {}, "row": {"row0_en": 1}, "add": {"middle": 1, "c_use": StreamUse.MIDDLE},
              "maximum": {"middle": 2, "c_use": StreamUse.MIDDLE}, "factor": {"post": 1, "c_use": StreamUse.POST}}[step]
    port = {"add": "addend", "maximum": "at_least"}.get(step, step)
    ports = NEUTRAL | {"a": a, port: b}
    found = run("transformer", STATIC | {"post": step == "factor"}, ports)
    values, results = golden(ports, source=VectorSource.FLOAT32, **fields)
    same(found["y"], results)
    same(found["term"], values)


@pytest.mark.parametrize("bound", [0.0, 1e-40, 0.75, -3.0, 3e38, np.inf, np.nan])
def test_limits(bound):
    """Corner values beyond and within; what is added comes after it."""
    a, addend = words(8)
    limit = int(np.float32(bound).view(np.uint32))
    found = run("limits", STATIC | {"limited": 1, "limit": limit}, NEUTRAL | {"a": a, "addend": addend})
    _, results = golden(NEUTRAL | {"a": a, "addend": addend}, source=VectorSource.FLOAT32, middle=3, constant=limit,
                        c_use=StreamUse.MIDDLE)
    same(found["y"], results)
    plain = run("limits", STATIC | {"limited": 0, "limit": limit}, NEUTRAL | {"a": a, "at_least": addend})
    _, results = golden(NEUTRAL | {"a": a, "at_least": addend}, source=VectorSource.FLOAT32, middle=2, c_use=StreamUse.MIDDLE)
    same(plain["y"], results)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("function", VectorFunction)
def test_functions_and_products(function, times):
    a, factor = words(3)
    masked = np.random.default_rng(4).random(a.size) < 0.1
    a = np.where(np.random.default_rng(5).random(a.size) < 0.5, a % (1 << 23) | 0x3F00_0000 | a & 0x8380_0000, a)  # more near one
    shown = np.where(masked, MINUS_INFINITY, a)
    post = {"factor": 1, "x": 2, "f": 0}[times]
    found = run("transformer", STATIC | {"function": int(function), "times": TIMES[times], "post": post != 0},
                NEUTRAL | {"a": a, "masked": masked, "factor": factor})
    values, results = golden(NEUTRAL | {"a": shown, "factor": factor}, source=VectorSource.FLOAT32, function=function, post=post,
                             c_use=StreamUse.POST)
    with np.errstate(all="ignore"):
        same(found["term"], values * values if times == "f" else values)
    same(found["y"], results)
    same(found["o"], results)


@pytest.mark.parametrize(("output", "low", "high"), [(VectorOutput.INT8, -128, 127), (VectorOutput.UINT4, 0, 15)])
def test_integers(output, low, high):
    halves = np.arange(-600, 600, dtype=np.float32) / 4
    a = np.concatenate([words(6)[0], halves.view(np.uint32), np.nextafter(halves, np.float32(0)).view(np.uint32)])
    found = run("transformer", STATIC | {"output": int(output)}, NEUTRAL | {"a": a})
    _, results = golden(NEUTRAL | {"a": a}, source=VectorSource.FLOAT32)
    expected = np.clip(np.nan_to_num(np.rint(canonical(results)), nan=0, posinf=high, neginf=low), low, high).astype(np.int64)
    np.testing.assert_array_equal(found["o"], expected & (255 if low else 15))


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_requantization(stall):
    """Subnormal scales and products count as zero there, and nothing of that is seen."""
    rng = np.random.default_rng(7)
    a, bias = integers(rng, COUNT), integers(rng, COUNT)
    total = np.abs(a.view(np.int32).astype(np.float64) + bias.view(np.int32)) + 1
    near = (rng.uniform(-160, 160, COUNT) / total).astype(np.float32).view(np.uint32)
    scale = np.where(rng.random(COUNT) < 0.7, near, words(9)[0][:COUNT])
    values, _ = golden({"a": a, "bias": bias, "scale": scale, "factor": 0}, source=VectorSource.ACCUMULATOR, c_use=StreamUse.BIAS)
    for at_least in (-np.inf, -128.5, -3.5, -0.5, 0.0, 2.5, 100.0, 126.6, np.inf, np.nan):
        whole = int(np.clip(np.nan_to_num(np.rint(at_least), nan=0, posinf=127, neginf=-128), -128, 127))
        found = run("requantize", {"at_least": whole, "nan": int(np.isnan(at_least))}, {"a": a, "bias": bias, "scale": scale},
                    stall=stall)["o"]
        results = np.maximum(values, np.float32(at_least))
        expected = np.clip(np.nan_to_num(np.rint(results), nan=0, posinf=127, neginf=-128), -128, 127).astype(np.int8)
        np.testing.assert_array_equal(found, expected.view(np.uint8))
        assert len(set(expected.tolist())) > 100 - whole or np.isnan(at_least)


def test_latency_stands_in_the_timing_table():
    for unit in VECTOR_STAGES:
        lane = VectorLane(unit=unit)
        lane._MustUse__silence = True
        assert lane.latency == VECTOR_STAGES[unit].output
