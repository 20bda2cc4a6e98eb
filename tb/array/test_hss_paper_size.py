# amaranth: UnusedElaboratable=no
"""The structured-sparsity engine at the size of the paper, 1024 MACs, in Verilator: every mode's rows, and cycles by its law."""

from typing import Any

import numpy as np
import pytest
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from flows.block_sim import BlockSim, unpack_lanes
from hw.array.hss import HssEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import hss_granule, hss_modes
from hw.isa import DESCRIPTORS, Unit
from hw.presets import preset_named
from sw.golden.array.hss import result_rows
from tb.array.hss import place

CONFIG = preset_named("hss-16x64")
TIMES = 3


class EngineBox(wiring.Component):
    """The engine beside a scratchpad that never waits, with its commands in a memory: they follow each other from `go` on."""

    def __init__(self, config: AcceleratorConfig, commands: list[int], width: int):
        self.config, self.commands, self.width = config, commands, width
        self.engine = HssEngine(config)
        super().__init__({
            "load": In(1), "line": In(range(config.scratchpad_lines)), "bytes": In(8 * config.line_bytes), "go": In(1),
            "done": Out(1), "error": Out(1), "valid": Out(1), "row": Out(16), "accumulate": Out(1),
            "sums": Out(config.columns * config.psum_width), "macs": Out(16),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.lines = lines = memory.Memory(shape=8 * self.config.line_bytes, depth=self.config.scratchpad_lines, init=[])
        write = lines.write_port()
        m.d.comb += [write.addr.eq(self.line), write.data.eq(self.bytes), write.en.eq(self.load)]
        for port in (engine.activation, engine.weight):
            read = lines.read_port()
            m.d.comb += [read.addr.eq(port.addr), read.en.eq(port.valid), port.ready.eq(1), port.data.eq(read.data)]
        m.submodules.listed = listed = memory.Memory(shape=self.width, depth=len(self.commands), init=self.commands)
        command = listed.read_port(domain="comb")
        number = Signal(range(len(self.commands) + 1))
        m.d.comb += [command.addr.eq(number), engine.unit.command.payload.eq(command.data),
                     engine.unit.command.valid.eq(self.go & (number < len(self.commands)))]
        with m.If(engine.unit.command.valid & engine.unit.command.ready):
            m.d.sync += number.eq(number + 1)
        m.d.comb += [self.done.eq(engine.unit.done), self.error.eq(engine.unit.error), self.valid.eq(engine.acc.valid),
                     self.row.eq(engine.acc.addr), self.accumulate.eq(engine.acc.accumulate), self.sums.eq(engine.acc.data),
                     self.macs.eq(engine.macs)]
        return m


def word(command: dict[str, int]) -> tuple[int, int]:
    """Return a command's bits, and how many they are."""
    bits = low = 0
    for field in DESCRIPTORS[Unit.MATRIX]:
        bits |= command[field.name] << low
        low += field.width
    return bits, low


@pytest.mark.full
def test_every_mode_at_the_size_of_the_paper() -> None:
    """M = 32 (weights hidden) and M = 11 (not): ⌈N/64⌉ · ⌈K / (2·H1·H0)⌉ · max(M, load); rows and counts of the golden model."""
    rng = np.random.default_rng(1)
    scratchpad = np.zeros(CONFIG.scratchpad_bytes, np.uint8)
    commands, laws, free = [], [], 0
    for mode, chosen in enumerate(hss_modes(CONFIG)):
        for m, n, steps in ((32, 64, 2), (11, 100, 1)):
            k = steps * hss_granule(CONFIG, chosen)
            command, _, free = place(CONFIG, mode, m, n, k, rng, scratchpad, activation_addr=free, density=0.8)
            commands += [command] * TIMES
            laws.append(ceil_div(n, 64) * ceil_div(k, 2 * chosen.h1 * chosen.h0) * max(m, 16 if chosen.dense else 24))
    words = [word(command) for command in commands]
    box = BlockSim(EngineBox(CONFIG, [bits for bits, _ in words], words[0][1]), "hss_box_16x64")
    lines, cycles = ceil_div(free, CONFIG.line_bytes), TIMES * sum(laws) + 400
    load = np.arange(lines + cycles) < lines
    image = np.zeros((lines + cycles, CONFIG.line_bytes // 8), np.uint64)
    image[:lines] = scratchpad[:lines * CONFIG.line_bytes].view(np.uint64).reshape(lines, -1)
    found = box.run({"load": load, "line": np.where(load, np.arange(lines + cycles), 0), "bytes": image, "go": ~load})
    assert not found["error"].any()
    done = np.flatnonzero(found["done"])
    assert len(done) == len(commands)
    assert [int(one) for one in np.diff(done.reshape(-1, TIMES), axis=1).ravel()] == np.repeat(laws, TIMES - 1).tolist()
    valid = np.flatnonzero(found["valid"])
    sums = unpack_lanes(found["sums"][valid], CONFIG.psum_width, CONFIG.columns, signed=True)
    expected = [row for command in commands[::TIMES] for row in list(result_rows(CONFIG, command, scratchpad)) * TIMES]
    assert found["row"][valid].tolist() == [row for row, *_ in expected]
    assert found["accumulate"][valid].tolist() == [accumulate for _, accumulate, *_ in expected]
    assert (sums == np.array([row for _, _, row, _ in expected])).all()
    assert found["macs"][valid].tolist() == [live for *_, live in expected]
