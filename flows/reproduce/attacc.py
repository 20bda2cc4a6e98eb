"""AttAcc: cycles of its authors' simulator, and bandwidths next to the banks."""

from collections.abc import Iterator

from flows.reproduce.options import Options
from flows.reproduce.row import Row
from hw.pim.presets import PIM_PRESETS
from sw.pim.attacc import MEASURED, AttAccPoint, closed_form, simulate
from sw.pim.cycles import row_efficiency

__all__ = ["rows"]

_NEAR = 0.05
_EXTERNAL = PIM_PRESETS["pim-attacc-buffer"].bandwidth      # of a pseudo-channel
_BANDWIDTHS = {"pim-attacc": 9, "pim-attacc-bank-group": 3, "pim-attacc-buffer": 1}


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows; all are quick."""
    for point, cycles in MEASURED:
        limit = "" if point.limited or point.place == "buffer" else ", no power limit"
        name = f"{point.place}{limit}, {point.tokens} tokens, {point.heads} heads a stack: DRAM clocks"
        yield Row(quantity=name, paper=cycles, ours=simulate(point), grade="found", target=cycles, tolerance=_NEAR * cycles,
                  note=f"model of the command stream; closed form {float(closed_form(point)):.0f}")
    worst = max(abs(float(closed_form(point)) / cycles - 1) for point, cycles in MEASURED)
    yield Row(quantity="closed form, worst of these", paper=0.0, ours=worst, grade="derived", target=0, tolerance=_NEAR)
    points = [AttAccPoint(place=place, limited=True, tokens=tokens, heads=16 * rounds)
              for place in ("bank", "bank-group", "buffer") for tokens in (2048, 3072, 4096) for rounds in range(4, 33, 2)]
    yield Row(quantity="command stream / closed form − 1, worst of even heads ≥ 4, tokens ≥ 2048", paper=None, grade="derived",
              ours=max(abs(float(simulate(p) / closed_form(p)) - 1) for p in points), target=0, tolerance=_NEAR)
    for name, times in _BANDWIDTHS.items():
        config = PIM_PRESETS[name]
        yield Row(quantity=f"bandwidth over the pins, {name}", paper=times, grade="found", target=times, tolerance=0.4,
                  ours=float(config.bandwidth / _EXTERNAL * (row_efficiency(config) if name == "pim-attacc" else 1)),
                  note="power-limited" + ("; rows counted" if name == "pim-attacc" else ""))
