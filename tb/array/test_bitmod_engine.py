# amaranth: UnusedElaboratable=no
"""The BitMoD engine: every row against the golden model, that against a plain product; cycles; bad commands and `abort`."""

import random
from typing import Any

import numpy as np
import pytest

from hw.array.bitmod_array import BitmodArray
from hw.array.bitmod_engine import BitmodEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitmod import bitmod_block_bytes, bitmod_command_cycles
from hw.errors import ConfigError
from hw.isa import Dataflow
from sw.golden.array.bitmod import check_bitmod
from sw.golden.pe.bitmod import PRECISIONS, weight_value
from tb.array.bitmod_commands import CONFIG, MODES, PIECE, SMALL, C, R, random_command, rows_of
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import simulate


@pytest.mark.parametrize(("stall", "one_port", "seed"), [(0.0, False, 1), (0.5, False, 2), (0.2, True, 3), (0.0, True, 4)])
def test_random_commands(stall: float, one_port: bool, seed: int) -> None:
    """All modes mixed, back to back, with pauses, operands stalled or in one bank: the same rows in the same order."""
    rng = random.Random(seed)
    order = [*range(len(MODES))]
    rng.shuffle(order)
    commands = [random_command(mode, rng) for mode in order]
    scratchpad = memory_image(CONFIG, seed)
    for command in commands:
        check_bitmod(CONFIG, command)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=seed, lanes=4)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=seed)
    expected = [row for command in commands for row in rows_of(command, scratchpad)]
    assert [row[1:] for row in bench.rows] == expected
    assert len(expected) > 40
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)


@pytest.mark.parametrize("mode", range(len(MODES)))
def test_golden_model_multiplies(mode: int) -> None:
    """The rows of the golden model, added up, are A · (scale · W) of matrices laid out as the engine says."""
    info = MODES[mode]
    rng = np.random.default_rng(3)
    m, n, k = R + 1, 2 * C - 1, info.group + 22
    bits = PRECISIONS[info.precision].element.bits
    a, codes = rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(0, 1 << bits, (k, 2 * C))
    groups = ceil_div(k, info.group) if mode else 1
    scales, special = rng.integers(0, 256, (groups, 2 * C)), rng.integers(0, 4, (groups, 2 * C))
    if mode == 0:
        scales, special = np.ones_like(scales), np.zeros_like(special)
    streams = [_stream(mode, *(field[:, j * C:j * C + C] for field in (codes, scales, special))) for j in range(2)]
    left = np.pad(a, ((0, 0), (0, -k % R))).view(np.uint8)
    used = np.concatenate([left.ravel(), *streams])
    scratchpad = np.pad(used, (0, CONFIG.scratchpad_bytes - used.size))
    command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=left.shape[1], weight_addr=left.size,
                         weight_stride=PIECE if mode else C, weight_tile_stride=streams[0].size, acc_addr=2, acc_tile_stride=10)
    check_bitmod(CONFIG, command)
    accumulator = np.full((32, C), 1 << 20)
    for row, accumulate, products in rows_of(command, scratchpad):
        accumulator[row] = np.array(products) + (accumulator[row] if accumulate else 0)
    group = np.arange(k) // info.group if mode else np.zeros(k, int)
    weights = np.array([[weight_value(info.precision, int(codes[row, column]), info.specials[special[group[row], column]])
                         * scales[group[row], column] for column in range(n)] for row in range(k)])
    found = np.concatenate([accumulator[2:2 + m], accumulator[12:12 + m]], axis=1)
    assert (found[:, :n] == a.astype(int) @ weights * (2 if info.is_float else 1)).all()
    assert (found[:, n:] == 0).all()
    assert (accumulator[[0, 1, 2 + m, 11, 12 + m]] == 1 << 20).all()


def _stream(mode: int, codes: np.ndarray, scales: np.ndarray, special: np.ndarray) -> np.ndarray:
    """Return (k, C) codes as the engine reads them, written down bit by bit; records of groups, the last one a whole one."""
    if mode == 0:
        return codes.astype(np.uint8).ravel()
    info, found = MODES[mode], []
    for group, start in enumerate(range(0, len(codes), info.group)):
        found += [byte for c in range(C) for byte in (int(scales[group, c]), int(special[group, c]))]
        part = np.zeros((info.group, C), int)
        part[:len(codes[start:start + info.group])] = codes[start:start + info.group]
        for step in range(info.group // 4):
            for first, width in ((info.low, info.high), (0, info.low)):
                if width and step % (4 // width) == 0:
                    word = 0
                    fields = part[4 * step:4 * step + 16 // width].ravel()      # k by k, column by column
                    for index, code in enumerate(fields):
                        word |= (int(code) >> first & (1 << width) - 1) << index * width
                    found += word.to_bytes(PIECE, "little")
    return np.array(found, np.uint8)


CYCLES = [(0, (R, C, 1)), (0, (1, 2 * C, 1)), (0, (2 * R + 1, C, 0.5)), (1, (2 * R, 2 * C, 1)), (2, (1, C, 2)),
          (2, (R + 3, C, 1.25)), (3, (R, C, 2)), (3, (1, C, 1))]


def test_cycles() -> None:
    """A command alone, and in an unbroken run: the formulas of the engine and of `hw.engines`."""
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)

    async def drive(ctx: Any) -> None:
        for mode, (m, n, groups) in CYCLES:
            k = int(groups * MODES[mode].group)
            bench.taken.clear()
            bench.done.clear()
            command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=64)
            await bench.feed([command])(ctx)
            await bench.feed([command] * 4)(ctx)
            assert bench.done[0] - bench.taken[0] == _alone(m, n, k, mode), (mode, m, n, k)
            assert set(np.diff(bench.done[2:])) == {bitmod_command_cycles(CONFIG, m, n, k, mode)}, (mode, m, n, k)

    simulate(dut, drive, background=[bench.memory, bench.record])


def _alone(m: int, n: int, k: int, mode: int) -> int:
    """Return the cycles of one command: its first rows or pieces, all groups (the first need not last R + 8), its last rows."""
    info = MODES[mode]
    first = max(min(m, R) + 4, (4 if mode == 0 else 2 + (info.high > 0)) + 5)
    one = [ceil_div(min(info.group, k - start), 4) * info.terms for start in range(0, k, info.group)]
    groups = one * ceil_div(m, R) * ceil_div(n, C)
    return first + groups[0] + sum(max(group, R + 8) for group in groups[1:]) + BitmodArray.latency + (m - 1) % R + 1


def test_a_row_is_fetched_for_each_valid_row_only() -> None:
    """One row of activations: a line read for each block of it, and none for rows that there are not."""
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)
    lines: list[int] = []

    async def watch(ctx: Any) -> None:
        port = dut.activation
        async for _, _, valid, ready, addr in ctx.tick().sample(port.valid, port.ready, port.addr):
            if valid and ready:
                lines.append(addr)

    command = command_of(1, C, 64, Dataflow.WS, mode=1, activation_addr=32, activation_stride=64)
    simulate(dut, bench.feed([command]), background=[bench.memory, bench.record, watch])
    assert lines == [line for line in (2, 3, 4, 5) for _ in range(CONFIG.line_bytes // bitmod_block_bytes(CONFIG))]


def test_products_fit_a_psum() -> None:
    """The pure data of the engine and the widths of its PEs agree."""
    for formats in ((), ("bitmod4-g128",), ("int6-g256-int8", "bitmod3-g16")):
        config = AcceleratorConfig(rows=R, columns=C, weight_formats=formats, **SMALL)
        assert BitmodEngine(config).shape.product_width == config.psum_width


@pytest.mark.parametrize(("fields", "text"), [
    ({"rows": 6}, r"AcceleratorConfig\.rows must be a power of two for BitMoD, at least 4 \(nearest: 8\), not 6"),
    ({"rows": 2}, r"AcceleratorConfig\.rows must be a power of two for BitMoD, at least 4 \(nearest: 4\), not 2"),
    ({"columns": 6},
     r"AcceleratorConfig\.columns must be a power of two for BitMoD, at least 2 \(nearest: 8\), not 6"),
    ({"columns": 16, "rows": 16}, r"AcceleratorConfig\.vector_lanes must be such that lines have 32 bytes .* \(lines of 16\)"),
    ({"dataflows": ("ws", "os")},
     r"AcceleratorConfig\.dataflows must be \('ws',\) for BitMoD, whose operands lie so, not \('ws', 'os'\)"),
    ({"weight_format": "int4"},
     r"AcceleratorConfig\.weight_format must be 'int8' for BitMoD \(others are weight_formats\), not 'int4'"),
    ({"protection": (("engine.*", "abft"),)},
     r"AcceleratorConfig\.protection must ask 'none' of engine\.mesh for BitMoD, which has no mesh, not 'abft'"),
    ({"weight_formats": ("nf4-g128",)}, r"a format for BitMoD must have elements of int8, .* and no zero point, not 'nf4-g128'"),
    ({"weight_formats": ("bitmod4-g16", "bitmod4-g24")},
     r"a format for BitMoD must have groups of a multiple of 16, at most 4096, not 'bitmod4-g24'"),
])
def test_refused_configs(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{text}$"):
        AcceleratorConfig(**{"rows": R, "columns": C} | SMALL | fields)
