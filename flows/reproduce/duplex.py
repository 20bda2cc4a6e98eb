"""Duplex: rates of its Logic-PIM, cycles, and when PIM is the faster engine."""

from collections.abc import Iterator
from fractions import Fraction

from flows.reproduce.options import Options
from flows.reproduce.row import Row
from hw.pim.presets import PIM_PRESETS
from sw.pim.balance import break_even
from sw.pim.cycles import gemm_cycles, refresh_factor, row_efficiency
from sw.pim.system import H100, MODELS, expert_loads, pim_engine, step

__all__ = ["rows"]

_LOGIC = PIM_PRESETS["pim-duplex"]
_STACKS = 5
_EXTERNAL = Fraction(1000 * 2 * 32, 2 * 769) * 16           # GB/s of a stack's pins: a burst a pseudo-channel every tCCD_S
_RATIOS = {8: 3.97, 16: 1.99, 24: 1.32, 32: 0.99, 64: 0.50}
_BATCHES, _CONTEXTS = (16, 32, 64, 128), (512, 1024, 2048, 4096)


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows; all are quick."""
    yield from _rates()
    yield from _cycles()
    yield from _crossover()
    yield from _throughput()


def _rates() -> Iterator[Row]:
    yield Row(quantity="bandwidth of Logic-PIM over the pins of a stack", paper=4, grade="found", target=4, tolerance=0.01,
              ours=float(_LOGIC.n_pch * _LOGIC.bandwidth / _EXTERNAL), note="8 banks every tCCD_L, 32 pseudo-channels")
    yield Row(quantity="operations a byte", paper=8, ours=float(_LOGIC.op_per_byte), grade="found", target=8)
    yield Row(quantity="TFLOPS a stack", paper=21.3, ours=float(_LOGIC.n_pch * _LOGIC.gops) / 1000, grade="found", target=21.3,
              tolerance=0.05)
    yield Row(quantity="FP16 MACs of a stack", paper=32 * 512, ours=_LOGIC.n_pch * _LOGIC.macs_per_cycle, grade="found",
              target=32 * 512)


def _cycles() -> Iterator[Row]:
    yield Row(quantity="row efficiency, one bundle", paper=None, ours=float(row_efficiency(_LOGIC)), grade="derived",
    target=0.753,
              tolerance=5e-4)
    share = 4096 * 14336 * 2 // (_STACKS * _LOGIC.n_pch)
    yield Row(quantity="row efficiency, bundles in turn", paper=None, grade="inferred", target=0.998, tolerance=5e-4,
              ours=float(row_efficiency(_LOGIC, share, ping_pong=True)), note="a matrix of a Mixtral expert over 5 stacks")
    yield Row(quantity="row efficiency × refresh, one bundle", paper=None, grade="derived", target=0.685, tolerance=5e-4,
              ours=float(row_efficiency(_LOGIC) / refresh_factor(_LOGIC)))
    yield Row(quantity="GEMM cycles, 20 tokens, 4096×448 a pseudo-channel", paper=None, grade="derived",
              target=3 * 4096 * 448 * 2 // 128, ours=float(gemm_cycles(_LOGIC, 20, 4096, 448)),
              note="⌈n/8⌉·K·M·2/128; bundles in turn, no refresh")


def _crossover() -> Iterator[Row]:
    expert = MODELS["Mixtral-47B"].expert_bytes
    ideal = pim_engine(_LOGIC, stacks=_STACKS, ping_pong=True, refresh=False)
    for tokens, ratio in _RATIOS.items():
        yield Row(quantity=f"array time / PIM time, an expert with {tokens} tokens", paper=None, grade="derived", target=ratio,
                  tolerance=0.006, ours=float(H100.time(tokens, expert) / ideal.time(tokens, expert)),
                  note="ideal efficiency of both; 3.35 TB/s and 989 TFLOPS against 5 stacks")
    for name, pim, expected in (("ideal", ideal, 24), ("rows and refresh, one bundle", pim_engine(_LOGIC, stacks=_STACKS), 16),
                                ("refresh, bundles in turn", pim_engine(_LOGIC, stacks=_STACKS, ping_pong=True), 24)):
        yield Row(quantity=f"most tokens for which PIM is faster, {name}", paper=None, grade="derived", target=expected,
                  ours=break_even(H100, pim, expert))


def _throughput() -> Iterator[Row]:
    pim = pim_engine(_LOGIC, stacks=_STACKS, ping_pong=True)
    best = {}
    for name in ("Mixtral-47B", "GLaM-143B", "Grok1-314B"):
        model = MODELS[name]
        gains = []
        for batch in _BATCHES:
            loads = expert_loads(model, batch, alpha=10, seed=batch)
            for context in _CONTEXTS:
                alone = step(model, batch, context, loads, H100).total
                gains.append(float(alone / step(model, batch, context, loads, H100, pim).total))
        best[name] = max(gains)
        yield Row(quantity=f"decode throughput over the array alone, best: {name}", paper=None, ours=max(gains), grade="inferred",
                  note=f"least {min(gains):.2f}; batch {_BATCHES[0]}–{_BATCHES[-1]}, context {_CONTEXTS[0]}–{_CONTEXTS[-1]}")
    yield Row(quantity="throughput over GPU, up to", paper=2.67, ours=max(best.values()), grade="found",
              note="decode steps alone, rooflines without links or launches; the paper serves whole requests, prefill included")
