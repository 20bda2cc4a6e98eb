"""A channel of a PIM in Verilator on timing-checked DRAM: cycles of products and attention against their laws, and its speed."""

import resource
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.emit import to_verilog
from flows.pim.measure import PimTiming, measure_attention, measure_gemm
from flows.pim.sim import PimSim
from hw.pim.channel import PimChannel
from hw.pim.presets import PIM_PRESETS
from sw.pim.assembler import assemble

__all__ = ["presets", "rows", "speeds"]

COMMANDS = 1024
PERIOD_NS = 10
_INTEGERS = {"wtype": "int8", "kvtype": "int8", "xtype": "int8", "ptype": "float8_e4m3fn", "acc": "int32", "lanes": 32,
             "rows_x": 1, "k_tile": 512, "n_acc_slots": 2, "xbuf_entries": 32, "obuf_entries": 128}

_SIZES = {                  # preset → K and outputs of a product that is one composite, and of one with refreshes
    "pim-attacc": ((4096, 256), (16384, 256)),
    "pim-attacc-bank-group": ((2048, 248), (4096, 256)),
    "pim-attacc-buffer": ((512, 128), (1024, 128)),
    "pim-hbm": ((256, 8), (2048, 8)),
    "pim-aim": ((4096, 256), (16384, 256)),
    "pim-amma": ((2048, 256), (4096, 256)),
}


def _row(preset: str, what: str, timing: PimTiming) -> dict[str, Any]:
    counters = timing.run.counters
    return {"config": preset, "what": what, "cycles": round(timing.cycles), "law": round(timing.law), "ratio": timing.ratio,
            "list": timing.total, **{name: counters[name] for name in ("active", "stall_row", "stall_refresh", "stall_hazard")},
            "cycles_per_second": round(timing.total / timing.seconds)}


def _products(preset: str, sim: PimSim, held: tuple[int, int], refreshed: tuple[int, int]) -> list[dict[str, Any]]:
    """Return a row for a product in one composite and for one with refreshes, each in turns, if there are bundles, and not."""
    config, table = sim.config, []
    for (inner, outer), refresh in ((held, False), (refreshed, True)):
        for ping_pong in (True, False)[config.bundles == 1:]:
            what = (f"GEMM {config.rows_x}×{inner}×{outer}, {'bundles in turn' if ping_pong else 'one bundle'}, "
                    f"{'refreshed' if refresh else 'no refresh'}")
            table.append(_row(preset, what, measure_gemm(sim, k=inner, outputs=outer, ping_pong=ping_pong, refresh=refresh)))
    return table


def rows(preset: str = "pim-duplex", *, k: int = 3584, outputs: int = 256, held: tuple[int, int] = (2048, 248),
         tokens: int = 2048, head_dim: int = 128) -> list[dict[str, Any]]:
    """Return a row for each product and for attention; every result is the golden machine's.

    Parameters
    ----------
    preset : str
    k, outputs : int
        Of the product with refreshes.
    held : tuple of int
        K and outputs of the one without, whose list is one composite.
    tokens, head_dim : int
        Of attention, with as many query rows as a weight meets.
    """
    sim = PimSim(PIM_PRESETS[preset], commands=COMMANDS)
    table = _products(preset, sim, held, (k, outputs))
    what = f"attention of {sim.config.rows_x} rows to {tokens} tokens × {head_dim}"
    return [*table, _row(preset, what, measure_attention(sim, tokens=tokens, head_dim=head_dim))]


def presets(names: Sequence[str] = tuple(_SIZES)) -> list[dict[str, Any]]:
    """Return rows of products for the cores of `names` at full size, keys of `_SIZES`; every result is the golden machine's."""
    return [row for name in names for row in _products(name, PimSim(PIM_PRESETS[name], commands=COMMANDS), *_SIZES[name])]


def _of_children() -> float:
    """Return the processor time of the processes that this one has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def speeds(macs: int = 2000) -> list[dict[str, Any]]:
    """Return the cycles a second of processor time of the native simulator, and of cocotb with the model in Python, its start
    included, on one small configuration.
    """
    config = replace(PIM_PRESETS["pim-tiny"], **_INTEGERS)      # type: ignore[arg-type]
    build = build_cocotb(to_verilog(PimChannel(config), "pim_channel"), "pim_channel", label="pim-channel")
    with TemporaryDirectory() as folder:
        started = _of_children()
        run_cocotb(build, "tb.rtl.pim_bench", folder=Path(folder), testcase="a_gemm_is_refreshed_in_time", seed=1,
                   environment={"HEDDLE_BENCH_CONFIG": config.to_json()})
        seconds = _of_children() - started
        case = next(ElementTree.parse(Path(folder) / "results.xml").getroot().iter("testcase"))
        simulated = next(entry for entry in case.iter("property") if entry.get("name") == "sim_time_duration")
        slow = float(simulated.attrib["value"]) / PERIOD_NS / seconds
    words = assemble(f"setm k_beats, 16\nsetm r7, {macs}\nmodi 0, grp, 1\nloop 8, 1\nmac cnt=31 clr last\nloop r7, 1\n"
                     "mac cnt=31 clr last\neoc")
    with PimSim(config).open() as session:
        started = time.process_time()
        cycles = session.run(words).cycles
        fast = cycles / (time.process_time() - started)
    return [{"simulator": "native core", "cycles_per_second": fast, "ratio_to_cocotb": fast / slow},
            {"simulator": "cocotb channel, DRAM in Python", "cycles_per_second": slow, "ratio_to_cocotb": 1.0}]
