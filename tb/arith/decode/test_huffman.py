# amaranth: UnusedElaboratable=no
"""Huffman decoder: every value of coded tensors, one a cycle, whatever the streams do."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from flows.block_sim import BlockSim
from hw.arith.decode.huffman import HuffmanDecoder
from hw.errors import ConfigError
from hw.families import HuffmanFormat
from hw.formats import FORMATS
from sw.formats.canonical import CanonicalCode
from sw.formats.huffman import HuffmanCodec
from tb.arith.decode.huffman_system import DEPTH, HuffmanSystem, Job, job_of, table_writes
from tb.formats.huffman_reference import canonical_codes, encode_bits
from tb.sim import check_stream, get_all, put_all, simulate

FORMAT = FORMATS["dfloat11"]


def gaussian(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Return bfloat16 words of weights like those of a language model."""
    weights = np.random.default_rng(seed).standard_normal((rows, columns)) * 0.02
    return weights.astype(ml_dtypes.bfloat16).view(np.uint16)


def coded(words: np.ndarray, fmt: HuffmanFormat = FORMAT) -> tuple[CanonicalCode, np.ndarray, np.ndarray]:
    """Return code, stream and starts of bfloat16 words."""
    side = HuffmanCodec().quantize(fmt, (words.astype(np.uint32) << 16).view(np.float32)).side
    return CanonicalCode.from_lengths(side["lengths"], fmt.longest), side["stream"], side["starts"]


def deep(rows: int, columns: int) -> tuple[np.ndarray, CanonicalCode, np.ndarray, np.ndarray]:
    """Return words whose code has codes of every length from 1 to 32, all of them common, and their code, stream and starts."""
    rng = np.random.default_rng(32)
    used = rng.permutation(256)[:33]
    lengths = np.zeros(256, np.uint8)
    lengths[used] = [*range(1, 33), 32]
    exponents = rng.choice(used, (rows, columns))
    exponents[:, :64] = used[-1]                            # 32 bits a cycle for a while: as fast as words come
    stream, starts = encode_bits(exponents.tolist(), canonical_codes(lengths.tolist()), FORMAT.chunk)
    words = (rng.integers(0, 2, exponents.shape) << 15 | exponents << 7 | rng.integers(0, 128, exponents.shape)).astype(np.uint16)
    code = CanonicalCode.from_lengths(lengths, 32)
    return words, code, np.frombuffer(stream, np.uint8), np.array(starts, np.uint32)


def pack_run(run: tuple[int, int, int], word_width: int) -> int:
    gap_bits = (word_width // 8 - 1).bit_length()
    return run[0] | run[1] << 16 | run[2] << 16 + gap_bits


class System:
    """A compiled `HuffmanSystem`."""

    def __init__(self, word_width: int):
        self.word_width = word_width
        self.sim = BlockSim(HuffmanSystem(FORMAT, word_width), f"huffman_system_{word_width}")

    def decode(self, code: CanonicalCode, job: Job, *, stall: float = 0.0, seed: int = 0) -> tuple[dict[str, np.ndarray], int]:
        """Return outputs of every cycle after the memories were filled, and the cycle in which the last value was given."""
        rng = np.random.default_rng(seed)
        lengths, symbols = table_writes(code)
        runs = [pack_run(run, self.word_width) for run in job.runs]
        load = max(len(lengths), len(symbols), len(runs), len(job.words), len(job.values))
        assert load <= DEPTH
        cycles = load + int((len(job.values) + 3 * len(runs) + 50) * (1 + 12 * stall))
        inputs: dict[str, np.ndarray] = {}

        def column(name: str, values, dtype=np.uint64) -> None:
            inputs[name] = np.zeros(cycles, dtype)
            inputs[name][:len(values)] = values

        for name, values in (("run", runs), ("i", job.words), ("sign_mantissa", job.sign_mantissa)):
            column(f"{name}_data", values)
            column(f"{name}_en", np.ones(len(values)))
            inputs[f"{name}_go"] = (rng.random(cycles) >= stall) & (np.arange(cycles) >= load)
        inputs["ready"] = rng.random(cycles) >= stall
        for index, name in enumerate(("length", "limit", "base")):
            column(f"write_length__{name}", [row[index] for row in lengths])
        column("write_length__en", np.ones(len(lengths)))
        column("write_symbol__symbol", symbols)
        column("write_symbol__index", np.arange(len(symbols)))
        column("write_symbol__en", np.ones(len(symbols)))
        outputs = {name: array[load:] for name, array in self.sim.run(inputs).items()}
        given = (outputs["valid"] == 1) & (inputs["ready"][load:] == 1)
        assert outputs["value"][given].tolist() == job.values.tolist()
        assert outputs["last"][given].tolist() == job.last.tolist()
        return outputs, int(np.flatnonzero(given)[-1])


@pytest.fixture(scope="module", params=[32, 64])
def system(request) -> System:
    return System(request.param)


def test_one_value_a_cycle(system):
    words = gaussian(4, 2000)
    code, stream, starts = coded(words)
    chunks = starts.size
    job = job_of(stream, starts, words, FORMAT.chunk, system.word_width, [(0, chunks)])
    outputs, end = system.decode(code, job)
    assert not outputs["bad_code"].any()
    first = int(outputs["run_taken"].argmax())
    # The first word is taken in the cycle of the first run; from then on, a value a cycle, and one cycle for each further run.
    assert end - first == HuffmanDecoder.latency + len(job.values) - 1 + chunks - 1


def test_gaps_take_a_cycle(system):
    fmt = dataclasses.replace(FORMAT, chunk=150)
    words = gaussian(30, 250)
    code, stream, starts = coded(words, fmt)
    order = np.random.default_rng(1).permutation(30)
    job = job_of(stream, starts, words, fmt.chunk, system.word_width, [(2 * row, 2 * row + 2) for row in order])
    outputs, end = system.decode(code, job)
    gaps = sum(gap > 0 for _, gap, _ in job.runs)
    assert gaps > 10
    first = int(outputs["run_taken"].argmax())
    # A piece whose first word is not in the buffer yet waits for it: at most a cycle each, for the word behind a `last` run.
    least = HuffmanDecoder.latency + len(job.values) - 1 + len(job.runs) - 1 + gaps
    assert least <= end - first <= least + len(order)


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_codes_of_every_length(system, stall):
    words, code, stream, starts = deep(4, 2000)
    job = job_of(stream, starts, words, FORMAT.chunk, system.word_width, [(0, 5), (11, 15), (7, 8), (5, 9)])
    outputs, end = system.decode(code, job, stall=stall, seed=3)
    assert not outputs["bad_code"].any()
    if not stall:
        first = int(outputs["run_taken"].argmax())
        gaps = sum(gap > 0 for _, gap, _ in job.runs)
        least = HuffmanDecoder.latency + len(job.values) - 1 + len(job.runs) - 1 + gaps
        assert least <= end - first <= least + 4


def test_every_symbol_under_stalls(system):
    words = np.random.default_rng(4).permutation(np.arange(65536, dtype=np.uint16)).reshape(32, -1)
    code, stream, starts = coded(words)
    assert code.lengths.min() == code.lengths.max() == 8
    for part in range(0, 128, 16):
        pieces = [(chunk, chunk + 4) for chunk in range(part, part + 16, 4)]
        job = job_of(stream, starts, words, FORMAT.chunk, system.word_width, pieces)
        system.decode(code, job, stall=0.1 * (part % 48) / 16, seed=part)


def test_bits_that_are_no_code(system):
    """A stream of ones, where the only code is 0: a flag, and still as many values as asked for."""
    lengths = np.zeros(256, np.uint8)
    lengths[127] = 1
    code = CanonicalCode.from_lengths(lengths, 32)
    job = Job(runs=[(40, 0, 1)], words=[0, (1 << system.word_width) - 1][:3 - system.word_width // 32],
              sign_mantissa=np.zeros(40, np.uint16), values=np.full(40, 127 << 7, np.uint16),
              last=np.append(np.zeros(39, np.uint8), 1))
    outputs, _ = system.decode(code, job)
    assert outputs["bad_code"][-1] == (system.word_width == 32)


@pytest.mark.parametrize(("word_width", "longest"), [(8, 8), (16, 12), (32, 32), (64, 32)])
@pytest.mark.parametrize(("stall", "word_stall"), [(0.0, 0.0), (0.5, 0.5), (0.0, 0.97)])
def test_rows_in_any_order_with_random_stalls(word_width, longest, stall, word_stall):
    fmt = dataclasses.replace(FORMAT, longest=longest, chunk=20)
    words = gaussian(6, 50, seed=word_width)
    code, stream, starts = coded(words, fmt)
    pieces = [(3, 6), (0, 3), (9, 10), (6, 9), (10, 18)]
    job = job_of(stream, starts, words, fmt.chunk, word_width, pieces)
    dut = HuffmanDecoder(fmt, word_width=word_width)
    lengths, symbols = table_writes(code)
    got: list = []

    async def load_and_run(ctx):
        for port, names, rows in ((dut.write_length, ("length", "limit", "base"), lengths),
                                  (dut.write_symbol, ("index", "symbol"), list(enumerate(symbols)))):
            ctx.set(port.en, 1)
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    ctx.set(getattr(port, name), value)
                await ctx.tick()
            ctx.set(port.en, 0)
        runs = [{"count": count, "gap": gap, "last": last} for count, gap, last in job.runs]
        await put_all(dut.run, runs, stall=stall, seed=1)(ctx)

    seed = word_width
    simulate(dut, load_and_run, put_all(dut.sign_mantissa, job.sign_mantissa.tolist(), stall=stall, seed=seed),
             put_all(dut.i, job.words, stall=word_stall, seed=seed + 1),
             get_all(dut.o, len(job.values), got, stall=stall, seed=seed + 2),
             background=[check_stream(dut.o, "o")], seed=seed)
    assert [(word.value.as_bits(), word.last) for word in got] == list(zip(job.values, job.last, strict=True))


@pytest.mark.parametrize(("word_width", "least", "longest"), [(16, 32, 32), (48, 32, 32), (8, 12, 12)])
def test_bad_word_width(word_width, least, longest):
    rule = rf"^HuffmanDecoder\.word_width must be a power of two and at least {least}, not {word_width}$"
    with pytest.raises(ConfigError, match=rule):
        HuffmanDecoder(dataclasses.replace(FORMAT, longest=longest), word_width=word_width)
