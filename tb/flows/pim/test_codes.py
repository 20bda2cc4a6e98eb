"""Weights with scales, zero points and special values on the simulated core: random lists and linears as the golden machine."""

import dataclasses

import numpy as np
import pytest

from flows.pim.checked import CheckedPimSession
from flows.pim.rtl_device import RtlPimDevice
from flows.pim.sim import PimSim
from hw.pim.config import format_has_sides
from hw.pim.presets import PIM_PRESETS
from sw.formats.tensor import quantize
from sw.golden.pim.device import GoldenPimDevice
from sw.golden.pim.machine import PimMachine
from sw.pim.assembler import assemble
from sw.pim.scaled_linear import ScaledPlan, scaled_inputs, scaled_program

P3 = dataclasses.replace(PIM_PRESETS["pim-tiny"], wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn", ptype="float8_s0e4m4",
                         acc="int32", lanes=64, k_tile=256, n_acc_slots=2)
CONFIGS = {
    "P3-LLM": P3,
    "MXINT4": dataclasses.replace(P3, wtype="mxint4", kvtype="int4-asym", streams=1, lanes=32, k_tile=64, xbuf_entries=8),
    "BitMoD × float16": dataclasses.replace(
        P3, wtype="bitmod4", kvtype="bitmod4", xtype="float16", ptype="float16", acc="float32", streams=1, lanes=32,
        k_tile=128, n_acc_slots=8),
}
COMMANDS = 512


class Pair:
    """A session and the golden machine with the same rows, and what the host sends to both."""

    def __init__(self, config, seed):
        self.config, self.sim, self.rng = config, PimSim(config, commands=COMMANDS), np.random.default_rng(seed)
        self.session, self.machine, self.host = self.sim.open(seed=seed, stall=0.2), PimMachine(config), []
        for grp in range(3):
            for row in range(3):
                data = self.rng.integers(0, 256, config.row_bytes, dtype=np.uint8)
                self.session.row(grp, row).reshape(-1)[:] = data
                self.machine._row(grp, row).reshape(-1)[:] = data

    def send(self, values):
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.host += [data, np.zeros(-len(data) % self.config.word_bytes, np.uint8)]
        return values

    def x(self, count):
        """Send slices of codes, none of them NaN or large."""
        config = self.config
        shape = count, config.rows_x, config.lanes
        if config.xtype == "float16":
            codes = self.rng.standard_normal(shape).astype(np.float16).view(np.uint16)
        else:
            codes = self.rng.integers(0, 120, shape, dtype=np.uint8) | self.rng.integers(0, 2, shape, dtype=np.uint8) << 7
        self.machine.host_in.extend(self.send(codes))

    def sides(self):
        size = self.config.word_bytes
        word = self.rng.integers(0, 16, size, dtype=np.uint8) | self.rng.integers(0, 4, size, dtype=np.uint8) << 6
        self.machine.host_in.append(self.send(word))

    def scales(self, count):
        self.machine.host_in.append(self.send(self.rng.standard_normal(count).astype(np.float32)))

    def bias(self, count):
        shape = count, self.config.rows_x, self.config.lanes
        self.machine.host_in.extend(self.send(self.rng.integers(-999, 999, shape).astype(self.config.acc)))

    def run(self, text):
        words = assemble(text)
        self.machine.run(words)
        run = self.session.run(words, np.concatenate(self.host).reshape(-1, self.config.word_bytes))
        return self.sim.entries(run.host_out), np.array(self.machine.host_out)


def random_list(pair):
    """Return products in both modes and all formats, and what moves their operands and results, in any order."""
    config, rng = pair.config, pair.rng
    ways = 3 if config.acc == "int32" else 1
    has_sides = config.has_sides
    text = f"setm k_beats, {config.beats}\nwracc cnt={config.wide_entries - 1}\nwrx cnt=3\n"
    pair.bias(config.wide_entries)
    pair.x(4)
    if has_sides:
        text += "wrs cnt=31\n"
        pair.sides()
    for _ in range(80):
        a, x = int(rng.integers(0, max(1, config.wide_entries - config.beats + 1))), int(rng.integers(0, 4 - config.beats + 1))
        place = f"row={rng.integers(0, 3)} grp={rng.integers(0, 3)} col={rng.integers(0, 8)}"
        match int(rng.integers(0, 8)):
            case 0:
                text += f"wrx xidx={x}\n"
                pair.x(1)
            case 1 if has_sides:
                first = int(rng.integers(0, 20))
                text += f"wrs xidx={first} cnt={rng.integers(0, 8)}\n"
                pair.sides()
            case 2:
                count = int(rng.integers(1, 20))
                clr, last = rng.choice(["", "clr"]), "last" if rng.random() < 0.3 else ""
                text += f"dqa aidx={a} xidx={rng.integers(0, 8)} cnt={count - 1} {clr} {last}\n"
                pair.scales(count)
            case 3:
                text += f"rdacc aidx={a}\n"
            case 4 | 5:
                text += f"mac {place} cnt={rng.integers(0, 12)} xidx={x} aidx={a} last {rng.choice(['', 'clr'])}\n"
            case 6:
                text += f"mac mode=bcast {place} cnt={rng.integers(0, 12)} xidx={rng.integers(0, 20)} aidx={a} last clr\n"
            case _:
                text += f"setm operands, {rng.integers(0, ways)}\n"
    return text + f"rdacc cnt={config.wide_entries - 1}\neoc"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.xdist_group("pim-codes")
def test_random_lists_leave_what_the_golden_machine_leaves(name):
    for seed in range(3):
        pair = Pair(CONFIGS[name], seed)
        found, golden = pair.run(random_list(pair))
        np.testing.assert_array_equal(found.view(np.uint32), golden.view(np.uint32))
        assert np.unique(golden).size > 100


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.xdist_group("pim-codes")
def test_linears_leave_what_the_golden_device_leaves(name):
    config, rng = CONFIGS[name], np.random.default_rng(7)
    tensor = quantize(rng.standard_normal((70, 300)).astype(np.float32), config.wtype)
    plan = ScaledPlan(config=config, channels=2, n=70, k=300)
    program = scaled_program(plan, "linear", tensor, passes=2)
    inputs, _ = scaled_inputs(plan, program, tensor, rng.standard_normal((3, 300)).astype(np.float32))
    session = CheckedPimSession(RtlPimDevice(config, 2, longest_list=COMMANDS).open(stall=0.2), GoldenPimDevice(config, 2))
    result = session.run(program, None, inputs)
    assert session.match
    assert result.cycles > 0
    assert any(stream.kind == "sides" for stream in program.inputs) == format_has_sides(config.wtype)
    session.close()
