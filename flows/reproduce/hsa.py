"""The hybrid systolic array: bytes of weights, utilization, decode rates; of its design only the abstract is known."""

from collections.abc import Iterator, Mapping

import numpy as np

from flows.reproduce.hsa_rates import SCENARIOS, model_cycles
from flows.reproduce.options import Options
from flows.reproduce.row import Row, not_asked
from hw.config import AcceleratorConfig
from hw.engines.hybrid import command_slots, mesh_cycles
from hw.engines.systolic import scale_sim_os_fold, scale_sim_ws_fold
from hw.isa import DESCRIPTORS, Unit
from hw.presets import preset_named
from sw.engines import engine_runtime, weight_layout
from sw.golden.token.rotary import advanced, exact_rotation

__all__ = ["rows"]

_PARAMETERS = 1_311_000_000         # RetNet-1.3B with embeddings, by its public config
_HERTZ = 500e6
_BANDWIDTHS = {12.8: 18.4, 25.6: 36.8, 51.2: 73.5}      # GB/s → tokens/s that weights allow, by arithmetic
_RATES = {"long input": 247, "long output": 117}        # tokens/s/mm²
_PRESET = "hybrid-16x16"
_UNREAD = "the paper's body was not available"


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows: formulas and predictions at once; areas with `--liberty`."""
    config, large = preset_named("hybrid-16x16"), preset_named("hybrid-32x32")
    bits = weight_layout(large, 2048, 2048, "mxint4").size * 8 / 2048**2
    yield Row(quantity="bits of an MXINT4 weight, blocks of 32", paper=4.25, ours=bits, grade="derived", target=4.25)
    yield from _rates(large, bits)
    for name, preset in (("16×16", config), ("32×32", large)):
        for log2 in (20, 22):
            size = 1 << log2 // 2
            busy = command_slots(preset, 1, 1, size, size) / _cycles(preset, m=1, n=size, k=size, mode=1)
            yield Row(quantity=f"weight stream busy, 2^{log2} weights, {name}", paper=None, ours=round(busy, 4), grade="inferred",
                      note=f"the abstract says 100 % utilization under DRAM bandwidth; {_UNREAD}")
    for tiles in (100, 200):
        yield Row(quantity=f"array busy in prefill, {tiles} tiles of 32 tokens", paper=None, grade="inferred",
                  ours=round(tiles * 32 / mesh_cycles(32, tiles, 32), 4), note="3N + (T−1)·max(m,N) + m − 1 cycles")
    yield from _decode(config)
    yield Row(quantity="largest error of RoPE over 4096 positions, 24 bits, resync every 256", paper=None, grade="inferred",
              ours=_rotary_error(), target=4.3e-5, tolerance=1e-6, note="the abstract names a unit without tables in DRAM")
    yield from _per_area(options.liberty)


def _per_area(liberty: str | None) -> Iterator[Row]:
    """Tokens a second and mm² of a model of 1.3 G parameters, prompt and tokens behind it together."""
    unknown = f"the paper's token counts, area and node are not known: {_UNREAD}"
    quantity = "tokens/s/mm², {}"
    if liberty is None:
        for scenario, rate in _RATES.items():
            yield not_asked(quantity.format(scenario), rate, "found", "--liberty PATH", unknown)
        return
    from flows.emit import emit
    from flows.synth.asic import synthesize
    from flows.synth.efficiency import Work, efficiency
    from flows.synth.options import AsicOptions
    from flows.synth.technology import technology

    config = preset_named(_PRESET)
    emission = emit(config)
    synthesis = synthesize(emission.verilog, top=emission.top, options=AsicOptions(liberty=liberty))
    for scenario, rate in _RATES.items():
        prompt, tokens = SCENARIOS[scenario]
        cycles = round(sum(model_cycles(config, prompt, tokens)))
        work = Work(tokens=prompt + tokens, macs=1, cycles=cycles, matrix_cycles=cycles, bytes_moved=0)
        found = efficiency(config, synthesis, work, technology())
        per_area = found["tokens_per_second_per_mm2"]
        if per_area is None:
            yield Row(quantity=quantity.format(scenario), paper=rate, ours=None, grade="found",
                      note=f"{liberty} has no areas in mm²; {unknown}")
            continue
        yield Row(quantity=quantity.format(scenario), paper=rate, ours=float(f"{per_area:.3g}"), grade="found",
                  note=f"{_PRESET}: {prompt} tokens, then {tokens}; {found['mm2']:.1f} mm² in {synthesis['liberty']['name']}, "
                       f"{found['sram_mm2']:.1f} of it memory macros by a model, post-synthesis; {found['mhz']:.0f} MHz "
                       f"({found['mhz_source']}), {found['tokens_per_second']:.3g} tokens/s, cycles predicted; {unknown}")


def _cycles(config: AcceleratorConfig, **fields: int) -> int:
    """Return the cycles of a matrix command alone, whose operands are in different banks."""
    whole: Mapping[str, int] = {field.name: 0 for field in DESCRIPTORS[Unit.MATRIX]} | {
        "weight_addr": config.scratchpad_bytes // 2, **fields}
    return int(engine_runtime(config).timing(config).command(0, whole))


def _rates(config: AcceleratorConfig, bits: float) -> Iterator[Row]:
    weight_bytes = _PARAMETERS * bits / 8
    yield Row(quantity="MB of weights a token, 1.311 G parameters", paper=696, ours=round(weight_bytes / 1e6, 1), grade="derived",
              target=696, tolerance=1)
    bus = config.beat_bytes * _HERTZ / 1e9
    for bandwidth, rate in _BANDWIDTHS.items():
        ours = min(bandwidth, bus) * 1e9 / weight_bytes
        yield Row(quantity=f"tokens/s by weights alone at {bandwidth} GB/s", paper=rate, ours=round(ours, 1), grade="derived",
                  note="" if bandwidth < bus else f"the bus of hybrid-32x32 gives {bus:.0f} GB/s at 500 MHz")


def _decode(config: AcceleratorConfig) -> Iterator[Row]:
    """1×768×768 on the clusters, beside arrays of as many MACs."""
    ours = _cycles(config, m=1, n=768, k=768, mode=1)
    systolic = preset_named("systolic-16x16")
    folds = (768 // 16)**2 * scale_sim_ws_fold(16, 16, 1), 768 // 16 * scale_sim_os_fold(16, 16, 768)
    others = (("SCALE-Sim, WS, nothing overlapped", folds[0], "derived"), ("SCALE-Sim, OS", folds[1], "derived"),
              ("systolic-16x16, int8", _cycles(systolic, m=1, n=768, k=768), "inferred"))
    for name, cycles, grade in others:
        yield Row(quantity=f"1×768×768 over {name}", paper=None, ours=round(cycles / ours, 2), grade=grade,
                  note=f"{cycles} to {ours} cycles, the engine alone, predicted")


def _rotary_error() -> float:
    angles, width = 1e4 ** (-np.arange(64) / 64), 24
    step, now, worst = exact_rotation(angles, width), exact_rotation(0 * angles, width), 0.0
    for position in range(1, 4096):
        now = exact_rotation(position * angles, width) if position % 256 == 0 else advanced(now, step, width)
        found = (now[0] + 1j * now[1]) / 2.0**(width - 2) - np.exp(1j * position * angles)
        worst = max(worst, float(np.abs(found.real).max()), float(np.abs(found.imag).max()))
    return round(worst, 7)
