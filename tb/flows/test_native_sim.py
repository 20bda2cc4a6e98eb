"""The native simulator and its memory model, on a small bus master."""

import numpy as np
import pytest

from flows.build import NativeBuild, build_native
from flows.emit import to_verilog
from flows.native_sim import BusError, MemoryTiming, NativeSim
from tb.flows.adder import BURST, MODES, REGISTERS, VectorAdder

BYTES = 8  # of a beat
A, B, SUM = 0x1000, 0x3000, 0x5000
MEMORY = 1 << 16


@pytest.fixture(scope="module")
def adder() -> NativeBuild:
    return build_native(to_verilog(VectorAdder(8 * BYTES), "heddle"), "heddle", bus_width=8 * BYTES, waves=".vcd",
                        label="adder")


def start(sim: NativeSim, beats: int, *, seed: int = 0, a: int = A, b: int = B, total: int = SUM,
          mode: str = "legal") -> np.ndarray:
    """Fill both vectors, ring the doorbell and return the sum to expect."""
    random = np.random.default_rng(seed)
    sim.memory[:] = 0
    data = random.integers(0, 256, (2, beats * BYTES), np.uint8)
    for addr, row in zip((a, b), data, strict=True):
        sim.memory[addr:addr + row.size] = row[:max(0, sim.memory.size - addr)]
    for name, value in (("A", a), ("B", b), ("SUM", total), ("BEATS", beats), ("MODE", MODES[mode]), ("START", 1)):
        sim.write(REGISTERS[name], value)
    return data[0] + data[1]


@pytest.mark.parametrize("beats", [1, BURST, 3 * BURST + 1, 200])
@pytest.mark.parametrize("timing", [
    MemoryTiming(), MemoryTiming(latency=1), MemoryTiming(latency=7, bandwidth=0.3),
    MemoryTiming(stall=0.5, seed=1), MemoryTiming(latency=3, bandwidth=0.7, stall=0.9, seed=2),
])
def test_result_does_not_depend_on_timing(adder, beats, timing):
    with NativeSim(adder, MEMORY, timing) as sim:
        for seed in range(2):
            expected = start(sim, beats, seed=seed)
            assert sim.run(200_000)
            assert sim.read(REGISTERS["STATUS"]) == 1
            assert np.array_equal(sim.memory[SUM:SUM + expected.size], expected)
            assert not sim.memory[SUM + expected.size:].any()
            assert sim.read_beats == 2 * beats * (seed + 1)
            assert sim.write_beats == beats * (seed + 1)


def test_latency_is_in_cycles_and_bandwidth_in_beats(adder):
    def cycles(beats: int, **timing) -> int:
        with NativeSim(adder, MEMORY, MemoryTiming(**timing)) as sim:
            start(sim, beats)
            before = sim.cycle
            assert sim.run(100_000)
            return sim.cycle - before

    base = cycles(BURST, latency=10)
    assert cycles(BURST, latency=110) - base == 200  # one read and one write round trip
    slow = cycles(200, bandwidth=0.25, latency=1)
    assert slow == pytest.approx(2 * 200 * 4, abs=20)  # 400 read beats, four cycles each; the writes hide behind them


def test_runs_are_reproducible(adder):
    def run(seed: int) -> tuple[int, bytes]:
        with NativeSim(adder, MEMORY, MemoryTiming(stall=0.4, seed=seed)) as sim:
            start(sim, 100)
            assert sim.run(100_000)
            return sim.cycle, sim.memory.tobytes()

    assert run(5) == run(5)
    assert run(5)[0] != run(6)[0]
    assert run(5)[1] == run(6)[1]


def test_two_simulations_are_independent(adder):
    with NativeSim(adder, MEMORY) as first, NativeSim(adder, MEMORY) as second:
        expected = start(first, 50, seed=1), start(second, 60, seed=2)
        done = [False, False]
        while not all(done):
            done = [first.run(7), second.run(11)]
        for sim, total in zip((first, second), expected, strict=True):
            assert np.array_equal(sim.memory[SUM:SUM + total.size], total)


@pytest.mark.parametrize("mode", ["read", "write", "range"])
def test_error_responses_reach_the_design(adder, mode):
    with NativeSim(adder, MEMORY) as sim:
        if mode == "read":
            sim.inject(B + 40, B + 40, writes=False)
        elif mode == "write":
            sim.inject(SUM + 40, SUM + 47, response="DECERR", reads=False)
        expected = start(sim, 20, a=MEMORY - 64 if mode == "range" else A)
        assert sim.run(10_000)
        assert sim.read(REGISTERS["STATUS"]) == 3
        if mode == "write":
            got = sim.memory[SUM:SUM + expected.size]
            assert not got[40:48].any()
            assert np.array_equal(np.delete(got, np.s_[40:48]), np.delete(expected, np.s_[40:48]))
        sim.clear_injections()
        start(sim, 20)
        assert sim.run(10_000)
        assert sim.read(REGISTERS["STATUS"]) == 1


@pytest.mark.parametrize(("arguments", "text"), [
    ({"a": A + 4}, r"^bus rule broken: cycle \d+: ARADDR 0x00001004 is not a multiple of the beat \(8\)$"),
    ({"b": 0x2FF8}, r"^bus rule broken: cycle \d+: AR burst of 64 bytes at 0x00002ff8 crosses a 4 KiB boundary$"),
    ({"total": 0x5FC8}, r"^bus rule broken: cycle \d+: AW burst of 64 bytes at 0x00005fc8 crosses a 4 KiB boundary$"),
    ({"mode": "early_last"}, r"^bus rule broken: cycle \d+: WLAST is 1 with 1 beats of the burst to come$"),
    ({"mode": "unstable"}, r"^bus rule broken: cycle \d+: W payload changed while waiting for WREADY$"),
])
def test_broken_rules_are_named(adder, arguments, text):
    with NativeSim(adder, MEMORY, MemoryTiming(stall=0.3, seed=3)) as sim:
        def everything() -> None:  # a rule may break while the driver still waits for its last answer
            start(sim, 32, **arguments)
            sim.run(10_000)

        with pytest.raises(BusError, match=text):
            everything()
        with pytest.raises(BusError, match=text):
            sim.run(1)
        with pytest.raises(BusError, match=text):
            sim.read(REGISTERS["STATUS"])


def test_write_log_tells_when_each_byte_was_written(adder):
    with NativeSim(adder, MEMORY) as sim:
        assert sim.written().size == 0
        sim.log_writes()
        expected = start(sim, 20)
        assert sim.run(10_000)
        log = sim.written()
        assert log["addr"].tolist() == list(range(SUM, SUM + 20 * BYTES, BYTES))
        assert (np.diff(log["cycle"].astype(np.int64)) > 0).all()
        assert np.array_equal(log["data"][:, :BYTES].ravel(), expected)
        assert (log["strobe"] == (1 << BYTES) - 1).all()
        sim.log_writes(False)
        assert sim.written().size == 0


def test_snapshot_brings_everything_back(adder):
    with NativeSim(adder, MEMORY, MemoryTiming(stall=0.3, seed=9)) as sim:
        expected = start(sim, 100)
        assert not sim.run(150)
        snapshot = sim.snapshot()
        ends = []
        for _ in range(3):
            assert sim.run(100_000)
            ends.append((sim.cycle, sim.memory.tobytes(), sim.read(REGISTERS["STATUS"]), sim.read_beats))
            sim.memory[:] = 1
            sim.restore(snapshot)
        assert ends[0] == ends[1] == ends[2]
        assert np.array_equal(np.frombuffer(ends[0][1], np.uint8)[SUM:SUM + expected.size], expected)


def test_waves_are_written_on_request(adder, tmp_path):
    with NativeSim(adder, MEMORY) as sim:
        sim.waves(tmp_path / "run.vcd")
        start(sim, 4)
        assert sim.run(1000)
        sim.waves(None)
        text = (tmp_path / "run.vcd").read_text()
        assert "m_axi_araddr" in text
        assert "$enddefinitions" in text
        with pytest.raises(OSError, match=r"^cannot write waves to '.*missing/run.vcd'$"):
            sim.waves(tmp_path / "missing" / "run.vcd")
        with pytest.raises(ValueError, match=r"^this model writes \.vcd waves, not 'run\.fst'$"):
            sim.waves("run.fst")


def test_a_closed_simulation_says_so(adder):
    sim = NativeSim(adder, MEMORY)
    sim.close()
    sim.close()
    with pytest.raises(ValueError, match=r"^the simulation is closed$"):
        sim.run(1)


@pytest.mark.parametrize(("fields", "text"), [
    ({"latency": 0}, r"^MemoryTiming\.latency must be an integer between 1 and 1000000, not 0$"),
    ({"bandwidth": 0.0}, r"^MemoryTiming\.bandwidth must be between 2\*\*-16 and 1 \(beats per cycle\), not 0\.0$"),
    ({"bandwidth": 1.5}, r"^MemoryTiming\.bandwidth must be between 2\*\*-16 and 1 \(beats per cycle\), not 1\.5$"),
    ({"stall": 1.0}, r"^MemoryTiming\.stall must be between 0 and 0\.95 \(a probability\), not 1\.0$"),
    ({"seed": -1}, r"^MemoryTiming\.seed must be an integer between 0 and 2\*\*64 - 1, not -1$"),
])
def test_impossible_timings_are_refused(fields, text):
    with pytest.raises(ValueError, match=text):
        MemoryTiming(**fields)
