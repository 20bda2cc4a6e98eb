"""Products and attention of one simulated channel of a PIM, held to the golden machine and timed against the cycle laws."""

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flows.pim.sim import PimRun, PimSession, PimSim
from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.isa import PimOpcode, PimRegister
from sw.golden.pim.attention import score_scale
from sw.golden.pim.machine import PimMachine
from sw.pim.assembler import command
from sw.pim.attention_list import attention, setup
from sw.pim.cycles import attention_cycles, gemm_cycles, tck_to_cycles
from sw.pim.head_plan import HeadPlan
from sw.pim.plain import PLAIN_TYPES
from sw.pim.prediction import predicted_cycles

__all__ = ["PimTiming", "measure_attention", "measure_gemm"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class PimTiming:
    """How long something took on the RTL, and how long its law says.

    Attributes
    ----------
    cycles : float
        PIM cycles from the first burst that is read to the last, its interval included.
    law : float
        The same by the closed form of `sw.pim.cycles`.
    total : int
        PIM cycles of the whole list, host words included.
    predicted : int
        The same as `sw.pim.prediction` has it.
    run : PimRun
    seconds : float
        Processor time of the simulation.
    """

    cycles: float
    law: float
    total: int
    predicted: int
    run: PimRun
    seconds: float

    @property
    def ratio(self) -> float:
        """Measured over law."""
        return self.cycles / self.law


class _Pair:
    """A session and the golden machine over memory of the same contents."""

    def __init__(self, sim: PimSim, seed: int):
        self.sim, self.config = sim, sim.config
        self.session: PimSession = sim.open()
        self.machine = PimMachine(sim.config)
        self.rng = np.random.default_rng(seed)
        self.seconds = 0.0                                  # processor time of the simulation

    def values(self, *shape: int) -> Floats:
        return self.rng.standard_normal(shape).astype(PLAIN_TYPES[self.config.wtype]).astype(np.float32)

    def fill(self, grp: int, row: int) -> None:
        """Put random weights into a row of both."""
        values = self.values(self.config.columns, self.config.burst_weights)
        self.machine.write_row(grp, row, values)
        self.session.row(grp, row)[:] = values.astype(PLAIN_TYPES[self.config.wtype]).view(np.uint8)

    def run(self, words: list[int], sent: list[tuple[npt.DTypeLike, Floats]], *, lanes: int) -> PimRun:
        """Run a list on both and compare so many lanes of each entry; `sent` are slices and entries and their types."""
        host_in = [self.sim.host_words(part.astype(kind)) for kind, part in sent]
        started = time.process_time()
        run = self.session.run(words, np.concatenate(host_in))
        self.seconds += time.process_time() - started
        for _, part in sent:
            self.machine.host_in.extend(part)
        for of, settings in self.machine.steps(words):
            self.machine.execute(of, settings)
        found, expected = self.sim.entries(run.host_out), np.array(self.machine.host_out)
        if not np.array_equal(found[:, :, :lanes], expected[:, :, :lanes]):
            raise RuntimeError("the channel must leave what the golden machine leaves, and it does not")
        return run


def measure_gemm(sim: PimSim, *, k: int, outputs: int, ping_pong: bool = True, refresh: bool = True, seed: int = 1) -> PimTiming:
    """Multiply X rows of k elements with k × outputs weights of one channel, in tiles of `k_tile`, each output's bursts together.

    Parameters
    ----------
    sim : PimSim
    k : int
        A multiple of k_tile, or less and a power of two of slices.
    outputs : int
        As many as the output buffer has place for, at most; those of a tile are whole rows, or a whole part of one.
    ping_pong : bool
        Rows go over the sets of banks in turn; else all are in one set.
    refresh : bool
        Refreshes come when they are due; else the list is one composite, during which they are put off: at most 128 commands.
    seed : int
        Of weights and X.

    Raises
    ------
    ConfigError
        If the sizes do not fit.
    RuntimeError
        If a result is not the golden machine's.
    """
    config = sim.config
    tile = min(k, config.k_tile)
    slices, segments, columns = tile // config.width, config.segments, config.columns
    entries = outputs // segments
    of_tile = entries * slices // config.beats              # bursts
    at_once = min(of_tile, columns)                         # of a command: of a row, or of a tile if a row has several
    whole = not (k % tile or tile % config.width or outputs % segments or entries * slices % config.beats)
    if not whole or of_tile % at_once or columns % at_once or at_once * config.beats % slices or entries > config.obuf_entries:
        raise ConfigError(f"k and outputs must be whole tiles, bursts and rows, and fit the output buffer, not {k} and {outputs}")
    pair = _Pair(sim, seed)
    sets, tiles = min(16, config.row_sets), k // tile
    load = [command(PimOpcode.WRX, xidx=index % 2 * slices, cnt=slices - 1) for index in range(tiles)]
    body, number = [], 0
    for index in range(tiles):
        if index >= 2:                                      # into the half that nobody uses any more
            body.append(load[index])
        for part in range(of_tile // at_once):
            row, column = divmod(number * at_once, columns)
            of_set, of_row = (row % sets, row // sets) if ping_pong else (0, row)
            if column == 0:
                pair.fill(of_set, of_row)
            body.append(command(PimOpcode.MAC, grp=of_set, row=of_row, col=column, cnt=at_once - 1, xidx=index % 2 * slices,
                                aidx=part * at_once * config.beats // slices, clr=int(index == 0), last=1))
            number += 1
    words = [command(PimOpcode.SETM, aidx=PimRegister.K_BEATS, value=slices), *load[:2]]
    if not refresh:
        if len(body) > 128:
            raise ConfigError(f"a list without refreshes must have at most 128 commands, not {len(body)}")
        words += [command(PimOpcode.BARRIER), command(PimOpcode.HEADER, cnt=len(body) - 1)]
    words += body
    for first in range(0, entries, 128):
        words.append(command(PimOpcode.RDACC, aidx=first, cnt=min(128, entries - first) - 1))
    x = pair.values(tiles * slices, config.rows_x, config.width)
    words.append(command(PimOpcode.EOC))
    run = pair.run(words, [(PLAIN_TYPES[config.xtype], x)], lanes=segments)
    law = gemm_cycles(config, config.rows_x, k, outputs, ping_pong=ping_pong, refresh=refresh)
    return PimTiming(cycles=float(tck_to_cycles(config, run.counters["read_clocks"])), law=float(law), total=run.cycles,
                     predicted=predicted_cycles(config, words), run=run, seconds=pair.seconds)


def measure_attention(sim: PimSim, *, tokens: int, head_dim: int, heads: int = 1, seed: int = 1) -> PimTiming:
    """Attend with X query rows to `tokens` tokens of each of some heads; the law is that of K and V alone, refreshes included.

    Raises
    ------
    ConfigError
        If the sizes do not fit.
    RuntimeError
        If a result is not the golden machine's.
    """
    config = sim.config
    each = HeadPlan(config=config, head=0, head_dim=head_dim, group=config.rows_x, max_tokens=tokens)
    rows = 2 * (each.value_row - each.first_row)
    plans = [replace(each, head=head, first_row=head * rows) for head in range(heads)]
    pair = _Pair(sim, seed)
    for plan in plans:
        for first in (plan.first_row, plan.value_row):
            for row in range(ceil_div(tokens, plan.tokens_a_row)):
                pair.fill(*pair.machine.place(first, row))
    words = [*setup(plans, tokens, score_scale(head_dim)), *attention(plans, tokens), command(PimOpcode.EOC)]
    queries = pair.values(heads * each.query_slices, config.rows_x, config.width)
    run = pair.run(words, [(PLAIN_TYPES[config.xtype], queries)], lanes=config.width)
    law = attention_cycles(config, tokens, head_dim, heads=heads)
    return PimTiming(cycles=float(tck_to_cycles(config, run.counters["read_clocks"])), law=float(law), total=run.cycles,
                     predicted=predicted_cycles(config, words), run=run, seconds=pair.seconds)
