# amaranth: UnusedElaboratable=no
"""The fast runner of single blocks: what goes in comes out, in order, of every width, and mistakes are named."""

import numpy as np
import pytest
from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from flows.block_sim import BlockSim, pack_lanes, unpack_lanes
from flows.toolchain import ToolError
from hw.arith.int_to_float import IntToFloat
from hw.elements import FP32


class Sums(wiring.Component):
    """Combinational: ports of one, two and three words, signed and not, structured, in arrays, with names that C++ has taken."""

    def __init__(self) -> None:
        super().__init__({
            "int": In(signed(5)), "eval": In(64), "wide": In(70), "name": In(signed(130)),
            "pair": In(data.StructLayout({"a": 4, "b": 8})), "each": In(3).array(2), "nothing": In(0),
            "negated": Out(signed(6)), "all": Out(65), "wider": Out(130), "signed_wide": Out(signed(64)), "swapped": Out(12),
            "sum": Out(4), "none": Out(0)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.negated.eq(-self.int),
            self.all.eq(self.eval + 1),
            self.wider.eq(self.name + self.wide),
            self.signed_wide.eq(self.eval),
            self.swapped.eq(Cat(self.pair.b, self.pair.a)),
            self.sum.eq(self.each[0] + self.each[1]),
        ]
        return m


class Accumulator(wiring.Component):
    """A stream in, the running sum of what was taken out, from reset to reset; it takes two of three cycles."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(16)), "o": Out(32), "kept": Out(1)})

    def elaborate(self, platform):
        m = Module()
        turn, kept = Signal(2), Signal(reset_less=True)
        m.d.comb += [self.i.ready.eq(turn != 2), self.kept.eq(kept)]
        m.d.sync += [turn.eq(Mux(turn == 2, 0, turn + 1)), kept.eq(1)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self.o.eq(self.o + self.i.payload)
        return m


@pytest.fixture(scope="module")
def sums():
    return BlockSim(Sums(), "sums")


@pytest.fixture(scope="module")
def accumulator():
    return BlockSim(Accumulator(), "accumulator")


def vectors(count=1000, seed=1):
    """Return random inputs of `Sums`; the first ones are the corners of each port."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 1 << 64, (count, 2), np.uint64)
    wide[:, 1] &= np.uint64(63)
    name = rng.integers(0, 1 << 64, (count, 3), np.uint64)
    name[:, 2] &= np.uint64(3)
    found = {"int": rng.integers(-16, 16, count).astype(np.int8), "eval": rng.integers(0, 1 << 64, count, np.uint64),
             "wide": wide, "name": name, "pair": rng.integers(0, 1 << 12, count), "each__0": rng.integers(0, 8, count),
             "each__1": [7] * count}
    for column, corners in (("int", (-16, 15)), ("eval", (0, (1 << 64) - 1)), ("pair", (0, 4095))):
        found[column][:2] = corners
    return found


def python_ints(words):
    return [int.from_bytes(row.tobytes(), "little") for row in words]


def test_ports_of_every_kind(sums):
    assert sums.inputs == ("int", "eval", "wide", "name", "pair", "each__0", "each__1")
    assert sums.outputs == ("negated", "all", "wider", "signed_wide", "swapped", "sum")
    given = vectors()
    got = sums.run(given)
    assert {name: (column.dtype.name, column.shape[1:]) for name, column in got.items()} == {
        "negated": ("int64", ()), "all": ("uint64", (2,)), "wider": ("uint64", (3,)), "signed_wide": ("int64", ()),
        "swapped": ("uint64", ()), "sum": ("uint64", ())}
    np.testing.assert_array_equal(got["negated"], -given["int"].astype(np.int64))
    assert python_ints(got["all"]) == [value + 1 for value in given["eval"].tolist()]
    assert python_ints(got["wider"]) == [(a + b) % (1 << 130) for a, b in
                                         zip(python_ints(given["wide"]), python_ints(given["name"]), strict=True)]
    np.testing.assert_array_equal(got["signed_wide"], given["eval"].view(np.int64))
    np.testing.assert_array_equal(got["swapped"], given["pair"] >> 4 | (given["pair"] & 15) << 8)
    np.testing.assert_array_equal(got["sum"], given["each__0"] + 7)


def test_one_number_serves_every_vector(sums):
    given = vectors(5)
    constant = {"int": -16, "wide": 1 << 69, "name": -(1 << 129), "each__0": True, "each__1": 0}
    got = sums.run({**given, **constant})
    assert got["negated"].tolist() == [16] * 5
    assert python_ints(got["wider"]) == [(1 << 129) + (1 << 69)] * 5
    assert got["sum"].tolist() == [1] * 5
    alone = sums.run({**constant, "eval": 3, "pair": 0})
    assert alone["signed_wide"].tolist() == [3]
    assert python_ints(alone["all"]) == [4]


def test_no_vector_gives_no_result(sums):
    got = sums.run({**dict.fromkeys(sums.inputs, 0), "int": np.zeros(0, np.int64)})
    assert {len(column) for column in got.values()} == {0}


def test_a_pipeline_answers_after_its_latency():
    integers = np.random.default_rng(2).integers(-(1 << 31), 1 << 31, 10_000)
    simulator = BlockSim(IntToFloat(width=32, fmt=FP32), "int_to_float")
    got = simulator.run({"enable": 1, "i": integers}, latency=IntToFloat.latency)["o"]
    np.testing.assert_array_equal(got, integers.astype(np.float32).view(np.uint32))
    early = simulator.run({"enable": 1, "i": integers})["o"]
    np.testing.assert_array_equal(early[IntToFloat.latency:], got[:-IntToFloat.latency])


def test_a_stream_is_seen_cycle_by_cycle(accumulator):
    rng = np.random.default_rng(3)
    payload, valid = rng.integers(0, 1 << 16, 999), rng.integers(0, 2, 999)
    got = accumulator.run({"i__payload": payload, "i__valid": valid})
    np.testing.assert_array_equal(got["i__ready"], np.arange(999) % 3 != 2)
    taken = np.where(valid & got["i__ready"].astype(int), payload, 0)
    np.testing.assert_array_equal(got["o"], np.cumsum(taken) - taken)


def test_every_run_starts_from_reset(accumulator):
    first = accumulator.run({"i__payload": np.full(10, 7), "i__valid": 1})
    again = accumulator.run({"i__payload": np.full(10, 7), "i__valid": 1})
    assert first["o"].tolist() == again["o"].tolist()
    assert first["o"][-1] > 0
    assert first["kept"].tolist() == again["kept"].tolist() == [1] * 10      # reset does not reach it; the edge in reset sets it


def test_a_changed_block_is_another_build(monkeypatch, tmp_path):
    monkeypatch.setenv("HEDDLE_CACHE", str(tmp_path))
    built = []

    def build(kind, label, verilog, top, **_):
        built.append(verilog)
        raise ToolError("not built")

    monkeypatch.setattr("flows.block_sim.build_model", build)
    for width in (8, 9, 8):
        with pytest.raises(ToolError, match=r"^not built$"):
            BlockSim(IntToFloat(width=width, fmt=FP32), "block")
    assert built[0] == built[2] != built[1]
    assert len(list(tmp_path.glob("verilog-block-*"))) == 2


@pytest.mark.parametrize(("change", "error", "text"), [
    ({"j": 1}, ValueError, r"^an input port must be one of int, eval, wide, name, pair, each__0, each__1, not 'j'$"),
    ({"clk": 1}, ValueError, r"^an input port must be one of .*, not 'clk'$"),
    ({"int": [0, 1]}, ValueError, r"^eval must have 2 vectors as int has, not 5$"),
    ({"wide": np.zeros((4, 2), np.uint64)}, ValueError, r"^wide must have 5 vectors as int has, not 4$"),
    ({"int": [0, 0, 16, 0, 0]}, ValueError, r"^int must be between -16 and 15, not 16$"),
    ({"int": -17}, ValueError, r"^int must be between -16 and 15, not -17$"),
    ({"pair": np.int64(4096)}, ValueError, r"^pair must be between 0 and 4095, not 4096$"),
    ({"eval": -1}, ValueError, r"^eval must be between 0 and 18446744073709551615, not -1$"),
    ({"wide": 1 << 70}, ValueError, rf"^wide must be between 0 and {(1 << 70) - 1}, not {1 << 70}$"),
    ({"wide": np.full((5, 2), 64, np.uint64)}, ValueError, rf"^wide must be between 0 and {(1 << 70) - 1}: vector 0 is not$"),
    ({"wide": np.zeros(5, np.uint64)}, ValueError,
     r"^wide \(70 bits\) must be uint64 of shape \(vectors, 2\), not uint64 of shape \(5,\)$"),
    ({"wide": np.zeros((5, 2), np.int64)}, ValueError, r"^wide \(70 bits\) must be uint64 .*, not int64 of shape \(5, 2\)$"),
    ({"int": np.zeros((5, 1), int)}, ValueError, r"^int \(5 bits\) must be of shape \(vectors,\), not \(5, 1\)$"),
    ({"int": np.zeros(5)}, TypeError, r"^int must be of integers, not float64$"),
    ({"latency": -1}, ValueError, r"^latency must be 0 or more cycles, not -1$"),
])
def test_mistakes_are_named(sums, change, error, text):
    with pytest.raises(error, match=text):
        sums.run({**vectors(5), **{name: value for name, value in change.items() if name != "latency"}},
                 latency=change.get("latency", 0))


def test_a_missing_port_is_named(sums):
    given = vectors(5)
    del given["wide"], given["pair"]
    with pytest.raises(ValueError, match=r"^every input port must have its values, not all but wide, pair$"):
        sums.run(given)


class Asserting(wiring.Component):
    """Fails when it is told to."""

    def __init__(self) -> None:
        super().__init__({"fail": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.fail)
        m.d.sync += Assert(~self.fail)
        return m


def test_a_failed_assertion_is_an_error():
    simulator = BlockSim(Asserting(), "asserting")
    assert simulator.run({"fail": [0, 0]})["o"].tolist() == [0, 0]
    with pytest.raises(RuntimeError, match=r"^the model stopped: an assertion failed$"):
        simulator.run({"fail": [0, 1, 0]})


@pytest.mark.parametrize("width", [1, 3, 5, 8, 11, 32, 33, 63, 64])
@pytest.mark.parametrize("count", [1, 2, 13, 64])
def test_lanes_are_packed_lowest_first(width, count):
    rng = np.random.default_rng(width * count)
    lanes = rng.integers(0, 1 << width, (7, count), np.uint64)
    words = pack_lanes(lanes, width)
    assert words.shape == ((7,) if width * count <= 64 else (7, -(-width * count // 64)))
    assert python_ints(words.reshape(7, -1)) == [sum(value << width * lane for lane, value in enumerate(row))
                                                 for row in lanes.tolist()]
    np.testing.assert_array_equal(unpack_lanes(words, width, count), lanes)
    signed = unpack_lanes(words, width, count, signed=True)
    assert signed.tolist() == [[value - (1 << width) * (value >> width - 1) for value in row] for row in lanes.tolist()]
    np.testing.assert_array_equal(pack_lanes(signed, width), words)
