# amaranth: UnusedElaboratable=no
"""What the runtime knows of the BitMoD engine: weights as packed are the matrix that the format says; cycles as predicted."""

import dataclasses
import random

import numpy as np
import pytest

from hw.array.bitmod_engine import BitmodEngine
from hw.config import AcceleratorConfig
from hw.elements import FP16, FP32
from hw.engines.bitmod import bitmod_mode, bitmod_modes
from hw.errors import ConfigError
from hw.formats import FORMATS as FORMATS_BY_NAME
from hw.formats import format_named
from hw.isa import Dataflow
from hw.presets import PRESETS
from sw.engines import engine_runtime
from sw.engines.bitmod import BITMOD, BitmodTiming, bitmod_stream
from sw.formats import dequantize, quantize
from sw.golden.arith.floating import decode
from sw.golden.array.bitmod import product, run_matrix
from sw.golden.device import GoldenDevice
from sw.golden.refusal import Refusal
from sw.golden.state import State
from sw.kernels.case import random_case
from sw.kernels.gemm import gemm_code
from sw.kernels.spec import GemmSpec
from sw.layout import LayoutError
from sw.mapper import choose_plan
from sw.perf import predict_code
from sw.runtime import compile_case, run_case
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import simulate

FORMATS = ("bitmod4-g16", "bitmod3-g32", "int6-g32-int8", "int8-g16-int8", "int5-g16-int8", "int3-g16-int8", "int4-g16-int8")
CONFIG = AcceleratorConfig(engine="bitmod", dataflows=("ws",), rows=4, columns=4, weight_formats=FORMATS, bus_width=64,
                           scratchpad_bytes=2048, scratchpad_banks=4, accumulator_rows=32)


def golden_state(config: AcceleratorConfig, scratchpad: np.ndarray, lead: tuple[int, ...] = ()) -> State:
    return State(config=config, memory=np.zeros((*lead, 0), np.uint8), scratchpad=scratchpad,
                 accumulator=np.full((*lead, config.accumulator_rows, config.columns), 99, np.int64),
                 rows=np.zeros((*lead, 16), np.float32), counters={"macs": 0, "saturations": 0})


@pytest.mark.parametrize(("m", "n", "k"), [(5, 7, 64), (2, 4, 50), (1, 8, 37)])
@pytest.mark.parametrize("mode", range(len(FORMATS) + 1))
def test_packed_product(mode: int, m: int, n: int, k: int) -> None:
    """A matrix packed, multiplied by the golden model and scaled is activations times the matrix that the format stands for.

    Exactly, but for the float32 rounding of a column's scale and of each value of the dequantized matrix.
    """
    rng = np.random.default_rng(n)
    a, matrix = rng.integers(-128, 128, (m, k)).astype(np.int8), rng.normal(size=(n, k)).astype(np.float32)
    layout = BITMOD.layout(CONFIG, mode, n, k)
    packed, scale = BITMOD.pack(CONFIG, layout, matrix)
    assert packed.shape == (layout.size,)
    left = np.pad(a, ((0, 0), (0, -k % 8))).view(np.uint8)
    used = np.concatenate([left.ravel(), packed])
    state = golden_state(CONFIG, np.pad(used, (0, CONFIG.scratchpad_bytes - used.size)))
    command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=left.shape[1], weight_addr=left.size,
                         weight_stride=layout.weight_stride, weight_tile_stride=layout.group_stride, acc_tile_stride=m)
    run_matrix(state, command)
    found = np.concatenate([state.accumulator[j * m:j * m + m] for j in range(layout.groups)], axis=1)
    expected = dequantize(quantize(matrix, "int8" if mode == 0 else FORMATS[mode - 1])).T.astype(np.float64)
    error = np.abs(found[:, :n] * scale - a.astype(np.float64) @ expected)
    assert (error <= 2.0**-22 * (np.abs(a.astype(np.float64)) @ np.abs(expected))).all()
    assert (found[:, n:] == 0).all()
    assert state.counters == {"macs": m * n * k, "saturations": 0}


def test_saturation_is_group_by_group() -> None:
    """Every addition to the accumulator saturates, in order of the groups, in runs side by side as alone."""
    config = dataclasses.replace(CONFIG, weight_formats=("int8-g16-int8",), acc_width=20)
    rng = np.random.default_rng(1)
    scratchpad = rng.integers(0, 256, (2, config.scratchpad_bytes), dtype=np.uint8)
    command = command_of(3, 4, 64, Dataflow.WS, mode=1, activation_stride=64, weight_addr=512, weight_stride=8, accumulate=1)
    together = golden_state(config, scratchpad, (2,))
    run_matrix(together, command)
    clipped = 0
    for index in range(2):
        state = golden_state(config, scratchpad[index])
        run_matrix(state, command)
        assert (together.accumulator[index] == state.accumulator).all()
        sums = np.full((3, 4), 99, np.int64)
        for group in range(4):
            single = golden_state(dataclasses.replace(config, acc_width=32), scratchpad[index])
            run_matrix(single, command | {"k": 16, "accumulate": 0, "activation_addr": 16 * group,
                                          "weight_addr": 512 + group * 8 * 9})
            total = sums + single.accumulator[:3]
            sums = np.clip(total, -1 << 19, (1 << 19) - 1)
            clipped += int((sums != total).any(axis=1).sum())
        assert (state.accumulator[:3] == sums).all()
    assert together.counters["saturations"] == clipped > 4


@pytest.mark.parametrize("name", ["bitmod4-g128", "bitmod3-g128", "int6-g128-int8"])
def test_float16_activations(name: str) -> None:
    """What the tile of float16 activations computes of a quantized matrix, within 2^−12 of Σ |activation · weight|."""
    rng = np.random.default_rng(5)
    a = rng.normal(size=(8, 384)).astype(np.float16)
    tensor = quantize(rng.normal(size=(16, 384)), name)
    fields, outer = tensor.encoded.fields, tensor.side["outer_scale"].astype(np.float64)
    mode = bitmod_mode(tensor.format)
    specials = np.array(mode.specials)[fields["special"][:, :, 0]] if "special" in fields else np.zeros((16, 3))
    words = product(FP16, a.view(np.uint16).astype(np.int64), fields["codes"].reshape(16, -1).astype(np.int64),
                    fields["scale"][:, :, 0].astype(np.int64), specials, precision=mode.precision, group=mode.group)
    left, right = a.astype(np.float64), dequantize(tensor).astype(np.float64)
    error = np.abs(decode(FP32, words) * outer - left @ right.T)
    assert (error <= 2.0**-12 * (np.abs(left) @ np.abs(right.T))).all()


def test_a_record() -> None:
    """A header, then pieces in order of the steps that need them; bits of a code per k: 4, 6 and 3, scale and index apart."""
    matrix = np.linspace(-1, 1, 64).reshape(4, 16)
    tensor = quantize(matrix, "bitmod4-g16")
    (stream, scale), fields = bitmod_stream(tensor, 4), tensor.encoded.fields
    header = np.stack([fields["scale"][:, 0, 0], fields["special"][:, 0, 0]], axis=1).ravel()
    assert stream.shape == (1, 1, 5, 8)
    assert stream[0, 0, 0].tolist() == header.tolist()
    assert stream[0, 0, 2].tolist() == [fields["codes"][c, 0, 4 + k] | fields["codes"][c + 1, 0, 4 + k] << 4
                                        for k in range(4) for c in (0, 2)]
    np.testing.assert_array_equal(scale, tensor.side["outer_scale"] / 2)
    codes = quantize(matrix, "int6-g16-int8").encoded.fields["codes"]
    stream, _ = bitmod_stream(quantize(matrix, "int6-g16-int8"), 4)
    assert stream.shape == (1, 1, 7, 8)                             # header, high, low, low, high, low, low
    assert stream[0, 0, 1, 0] == sum(int(codes[c, 0, 0] >> 4) << 2 * c for c in range(4))
    assert stream[0, 0, 3, 0] == codes[0, 0, 4] & 15 | (codes[1, 0, 4] & 15) << 4
    for name, pieces in (("int3-g16-int8", 4), ("bitmod3-g16", 4), ("int5-g16-int8", 6), ("int8-g16-int8", 9)):
        assert bitmod_stream(quantize(matrix, name), 4)[0].shape == (1, 1, pieces, 8)
        assert bitmod_mode(format_named(name)).pieces == pieces


@pytest.mark.parametrize("weights", ["", *FORMATS])
def test_gemm(weights: str) -> None:
    """A program on the golden device, K cut between records, is the product with the matrix that the format stands for."""
    case = random_case("gemm", GemmSpec(m=9, n=10, k=200, per_channel=True, b="packed", weights=weights), CONFIG.weight, 3)
    program = compile_case(CONFIG, case)
    found, result = run_case(GoldenDevice(CONFIG).open(program.memory_bytes), program, case)
    matrix = dequantize(quantize(case.b.T, weights)).T if weights else case.b
    expected = np.clip(case.a.astype(np.float64) @ matrix.astype(np.float64) * case.scale, -128, 127)
    assert np.abs(found - expected).max() <= 0.5 + 1e-4
    assert np.ptp(found.astype(int)) > 100
    assert result.counters["macs"] == 9 * 10 * 200


@pytest.mark.parametrize("weights", ["", "bitmod4-g128", "int6-g128-int8"])
def test_mappings_suit_the_engine(weights: str) -> None:
    """K is cut into pieces that the array takes without waiting for its drain: a GEMM is its multiply-accumulates within 10 %."""
    config = PRESETS["bitmod-16x16"]
    spec = GemmSpec(m=64, n=256, k=384, per_channel=True, b="packed", weights=weights)
    plan = choose_plan(config, spec)
    cycles = predict_code(config, gemm_code(config, plan), {}).cycles
    terms = bitmod_modes(config)[plan.tiles["b"].mode].terms
    assert cycles <= 1.1 * 64 * 256 * 384 * terms / (4 * 16 * 16)


def test_layouts() -> None:
    """Modes as the config numbers them, records of groups."""
    runtime = engine_runtime(CONFIG)
    assert runtime is BITMOD
    plain, packed = runtime.layout(CONFIG, 0, 7, 50), runtime.layout(CONFIG, 2, 7, 50)
    assert (plain.record_bytes, plain.granule, plain.group_stride) == (4, 1, 200)
    assert (packed.record_k, packed.granule, packed.record_bytes, packed.weight_stride) == (32, 32, 8 * 7, 8)
    assert (packed.groups, packed.group_stride, packed.size) == (2, 112, 224)
    with pytest.raises(ConfigError, match=r"^mode must be 0 to 7 \(weight_formats\), not 8$"):
        runtime.layout(CONFIG, 8, 4, 32)


@pytest.mark.parametrize(("name", "text"), [
    ("nf4-g128", r"elements of int8, int6, int5, int4, int3, fp4, fp3 and no zero point, not 'nf4-g128'"),
    ("int4-asym-g128", r"elements of int8, .* and no zero point, not 'int4-asym-g128'"),
    ("2:4", r"elements of int8, .* and no zero point, not '2:4'"),
    ("fp4-g128", r"8-bit group scales, as bitmod4-g128 or int6-g128-int8, not 'fp4-g128'"),
    ("int8", r"8-bit group scales, as bitmod4-g128 or int6-g128-int8, not 'int8'"),
    ("bitmod4-g24", r"groups of a multiple of 16, at most 4096, not 'bitmod4-g24'"),
    ("bitmod4-g8192", r"groups of a multiple of 16, at most 4096, not 'bitmod4-g8192'"),
])
def test_formats_that_the_engine_cannot_read(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^a format for BitMoD must have {text}$"):
        bitmod_mode(format_named(name))


@pytest.mark.parametrize(("changes", "text"), [
    ({"special_code": 0}, "its special value in the code of −0"),
    ({"specials": (5.0, -5.0, 7.0, -7.0)}, "up to four special values of two terms each"),
    ({"specials": (5.0, -5.0, 16.0, -8.0)}, "up to four special values of two terms each"),
])
def test_special_values_that_the_engine_cannot_hold(changes: dict, text: str) -> None:
    fmt = dataclasses.replace(FORMATS_BY_NAME["bitmod4-g128"], **changes)
    with pytest.raises(ConfigError, match=rf"^a format for BitMoD must have {text}, not 'bitmod4-g128'$"):
        bitmod_mode(fmt)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(LayoutError,
                       match=r"^weights for BitMoD must be of shape \(N, K\) with blocks along K, not \(16, 4\) along axis 0$"):
        bitmod_stream(quantize(np.ones((16, 4)), "bitmod4-g16", axis=0), 4)
    with pytest.raises(LayoutError, match=r"^weights for BitMoD must be of shape \(N, K\) .*, not \(1, 4, 16\) along axis 2$"):
        bitmod_stream(quantize(np.ones((1, 4, 16)), "bitmod4-g16"), 4)


def test_refused_commands_change_nothing() -> None:
    state = golden_state(CONFIG, np.zeros(CONFIG.scratchpad_bytes, np.uint8))
    with pytest.raises(Refusal, match=r"^scratchpad_range at 0x800$"):
        run_matrix(state, command_of(1, 4, 16, Dataflow.WS, weight_addr=2048))
    assert (state.accumulator == 99).all()
    assert state.counters["macs"] == 0


def test_cycles_are_predicted() -> None:
    """In every command of a mixed run, the cycle in which it is taken and the one of `done`, operands in different banks."""
    rng = random.Random(3)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)
    commands = [command_of(rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 70), Dataflow.WS, mode=rng.randrange(4),
                           activation_addr=4 * rng.randrange(4), activation_stride=4 * rng.randint(0, 6), weight_addr=1024,
                           weight_stride=8 * rng.randrange(2)) for _ in range(20)]
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    timing = BitmodTiming(CONFIG)
    for command, taken, done in zip(commands, bench.taken, bench.done, strict=True):
        at = max(timing.next, bench.taken[0])
        assert (at, timing.command(at, command)) == (taken, done)


def test_operands_in_one_bank() -> None:
    """Lines and pieces in turn: how one waits for the other is predicted within 10 % where every cycle has a read."""
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4, one_port=True)
    commands = [command_of(8, 8, 64, Dataflow.WS, mode=mode, activation_stride=32, weight_addr=256) for mode in (0, 1, 2, 3)]
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    timing, done = BitmodTiming(CONFIG), 0.0
    for command in commands:
        done = timing.command(max(timing.next, bench.taken[0]), command)
    apart = BitmodTiming(CONFIG)
    for command in commands:
        last = apart.command(max(apart.next, bench.taken[0]), command | {"weight_addr": 1024})
    assert last < done
    assert abs(done - bench.done[-1]) <= 0.1 * bench.done[-1]
