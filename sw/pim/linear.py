"""A product with weights in the banks: n rows of X (n × K) times K × N, outputs over the channels, K in tiles.

The outputs of a channel lie one after the other, each a run of bursts along K (TREE), as many side by side as the lanes have
segments, an entry of the output buffer; a tile of K is what fills half of the X buffer, and has rows of its own. Rows go over
the sets of banks in turn, so that the next one is opened while one is read. Of an output, one channel adds everything, tile after
tile: results do not depend on the number of channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.isa import MODIFIABLE, MacMode, PimOpcode, PimRegister
from sw.pim.assembler import command
from sw.pim.plain import PLAIN_TYPES, stored
from sw.pim.program import PimProgram, PimRegion, PimStream, grid_bytes
from sw.pim.work import reserved_periods

__all__ = ["Floats", "LinearPlan", "linear_inputs", "linear_outputs", "linear_program", "repeated"]

Floats = npt.NDArray[np.float32]
_LONGEST = (1 << 16) - 1            # iterations of a LOOP
_LONGEST_BODY = (1 << 9) - 1        # commands that it repeats


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearPlan:
    """Where a linear's weights lie, and in which order they are used.

    Attributes
    ----------
    config : PimConfig
    channels : int
    n, k : int
        Outputs and inputs.
    addr : int
        First byte in every channel, at a row of all sets.

    Raises
    ------
    ConfigError
        If a size cannot be, or the channels have no room.
    """

    config: PimConfig
    channels: int
    n: int
    k: int
    addr: int = 0

    def __post_init__(self) -> None:
        """Check that everything fits."""
        config = self.config
        for name, holds, rule in (
                ("n", self.n >= 1, "at least 1"), ("k", self.k >= 1, "at least 1"),
                ("channels", 1 <= self.channels <= config.n_pch, f"between 1 and {config.n_pch}, the pseudo-channels"),
                ("addr", self.addr >= 0 and self.addr % grid_bytes(config) == 0,
                 f"a multiple of {grid_bytes(config)}, a row of all sets")):
            if not holds:
                raise ConfigError(f"LinearPlan.{name} must be {rule}, not {getattr(self, name)!r}")
        if config.k_tile % self._share:
            raise ConfigError(f"PimConfig.k_tile must be a multiple of the {self._share} weights of a segment's burst to run a "
                              f"linear, not {config.k_tile!r}")
        if config.wtype not in PLAIN_TYPES:
            raise ConfigError(f"PimConfig.wtype must be one of {', '.join(PLAIN_TYPES)} to run a linear without scales, "
                              f"not {config.wtype!r}")
        if self._last_of(self.chunk) >= config.obuf_entries:
            raise ConfigError(f"PimConfig.obuf_entries must be above {self._last_of(self.chunk)} to run a linear of {self.k} "
                              f"inputs, not {config.obuf_entries!r}")
        if self.end > config.capacity_bytes:
            raise ConfigError(f"a linear of {self.n} outputs and {self.k} inputs must end within {config.capacity_bytes} bytes, "
                              f"a channel's, not at {self.end}")

    @property
    def outputs(self) -> int:
        """Outputs of a channel, but for the last ones'."""
        return ceil_div(self.n, self.channels)

    def of(self, channel: int) -> range:
        """Return the outputs of a channel."""
        return range(min(self.n, channel * self.outputs), min(self.n, (channel + 1) * self.outputs))

    @property
    def tiles(self) -> tuple[int, ...]:
        """Bursts of an output in each tile of K: what half of the X buffer holds, at most a row."""
        most, left = min(self.config.k_tile // self._share, self.config.columns), self._bursts
        return (most,) * (left // most) + ((left % most,) if left % most else ())

    @property
    def _share(self) -> int:
        """Weights of a burst that are of one segment, and so of one output."""
        return self.config.burst_weights // self.config.segments

    @property
    def _bursts(self) -> int:
        return ceil_div(self.k, self._share)

    def entries(self, channel: int) -> int:
        """Return the entries that a channel's outputs are: of each segment one, and zeros behind the last."""
        return ceil_div(len(self.of(channel)), self.config.segments)

    def entries_a_row(self, tile: int) -> int:
        """Return the entries whose part of a tile is in one DRAM row."""
        return self.config.columns // self.tiles[tile]

    def first_row(self, tile: int) -> int:
        """Return the first row of a tile, counted over all sets in turn."""
        before = sum(ceil_div(self.entries(0), self.entries_a_row(t)) for t in range(tile))
        return self.addr // self.config.row_bytes + before

    @property
    def end(self) -> int:
        """First byte behind it in every channel, at a row of all sets."""
        grid = grid_bytes(self.config)
        return ceil_div(self.first_row(len(self.tiles)) * self.config.row_bytes, grid) * grid

    @property
    def slices(self) -> int:
        """Slices of the X buffer that a row of inputs is, padded to whole bursts."""
        return self._bursts * self.config.beats

    @property
    def chunk(self) -> int:
        """Entries that are computed while those before are sent: half of the output buffer, less what MACs keep beyond."""
        most, half = self.config.obuf_entries, min(self.entries(0), max(1, self.config.obuf_entries // 2), 1 << 7)
        return next((count for count in range(half, 0, -1) if self._last_of(count) < most), 1)

    def _last_of(self, chunk: int) -> int:
        """Return the last entry for which MACs keep room, of one chunk if that is all, else of two."""
        last, both = 0, chunk if chunk == self.entries(0) else 2 * chunk
        for tile, bursts in enumerate(self.tiles):
            count, k_beats = min(chunk, self.entries_a_row(tile)), bursts * self.config.beats
            last = max(last, both - count + reserved_periods(count * k_beats, k_beats) - 1)
        return last

    @property
    def resident(self) -> bool:
        """All inputs stay in the X buffer."""
        return self.slices <= self.config.xbuf_entries

    def image(self, channel: int, weights: Floats) -> npt.NDArray[np.uint8]:
        """Return what a channel holds from `addr` on, of weights (N, K) as float32."""
        config, mine, entries = self.config, self.of(channel), self.entries(channel)
        padded = np.zeros((entries * config.segments, self._bursts * self._share), np.float32)
        padded[:len(mine), :self.k] = weights[mine.start:mine.stop]
        image = np.zeros((self.end - self.addr) // config.row_bytes * config.row_bytes, np.uint8)
        rows = image.reshape(-1, config.columns, config.burst_bytes * config.streams)
        parts = stored(padded, config.wtype).reshape(entries, config.segments, self._bursts, -1)
        data = parts.transpose(0, 2, 1, 3).reshape(entries, self._bursts, -1)       # a burst has each segment's part
        first, at = 0, self.addr // config.row_bytes
        for tile, bursts in enumerate(self.tiles):
            each = self.entries_a_row(tile)
            for entry in range(entries):
                row, column = self.first_row(tile) - at + entry // each, entry % each * bursts
                rows[row, column:column + bursts] = data[entry, first:first + bursts]
            first += bursts
        return image


def linear_program(plan: LinearPlan, name: str, weights: Floats | None = None, *, passes: int = 1) -> PimProgram:
    """Return the program of `passes` times up to X rows; weights (N, K), or None where they are there already.

    Its input is "x", its outputs "y<channel>"; `linear_inputs` and `linear_outputs` make them.
    """
    lists, regions, inputs, outputs = [], [], [], []
    for channel in range(plan.channels):
        count = plan.entries(channel)
        body, sent = _pass(plan, count)
        words = [command(PimOpcode.EOC)]
        if count:
            words = [*repeated(body, passes), *words]
            inputs += [PimStream(name=f"x{number}.{first}", channel=channel, kind="x", count=of)
                       for number in range(passes) for first, of in sent]
            outputs.append(PimStream(name=f"y{channel}", channel=channel, kind="entries", count=count * passes))
            data = None if weights is None else plan.image(channel, weights)
            regions.append(PimRegion(name=name, channel=channel, addr=plan.addr, size=plan.end - plan.addr,
                                     role="input" if data is None else "constant", data=data))
        lists.append(np.array(words, np.uint64))
    return PimProgram(name=name, config_digest=plan.config.digest(), lists=tuple(lists), regions=tuple(regions),
                      inputs=tuple(inputs), outputs=tuple(outputs))


def repeated(body: list[int], times: int) -> list[int]:
    """Return commands `times` times: a loop around them, where its fields can say it."""
    if times > 1 and len(body) <= _LONGEST_BODY and times <= _LONGEST:
        return [command(PimOpcode.LOOP, row=times, xidx=len(body)), *body]
    return body * times


def _pass(plan: LinearPlan, entries: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the commands for one row of X rows, and the slices (first, count) that the host sends, in order."""
    config, beats = plan.config, plan.config.beats
    words: list[int] = []
    sent: list[tuple[int, int]] = []
    tile_slices = plan.tiles[0] * beats
    places = 1 if plan.resident else max(1, config.xbuf_entries // tile_slices)
    steps = period = 0
    before: list[int] = []              # what takes the last chunk's results: behind the next inputs, which it would hold up
    for number, start in enumerate(range(0, entries, plan.chunk)):
        count, entry, first = min(plan.chunk, entries - start), number % 2 * plan.chunk, 0
        for tile, bursts in enumerate(plan.tiles):
            x = first * beats if plan.resident else steps % places * tile_slices
            if number == 0 or not plan.resident:
                words.append(command(PimOpcode.WRX, xidx=x, cnt=bursts * beats - 1))
                sent.append((first * beats, bursts * beats))
            if bursts != period:
                words.append(command(PimOpcode.SETM, aidx=PimRegister.K_BEATS, value=bursts * beats))
                period = bursts
            words += _macs(plan, tile, start, count, x, entry)
            first, steps = first + bursts, steps + 1
            if tile == min(places, len(plan.tiles)) - 1:
                words += before
                before = []
        before = [command(PimOpcode.RDACC, aidx=entry, cnt=count - 1)]
    return words + before, sent


def _macs(plan: LinearPlan, tile: int, start: int, count: int, x: int, entry: int) -> list[int]:
    """Return the products of one tile of K and `count` entries from `start` on; runs of whole rows are loops."""
    words: list[int] = []
    each, bursts = plan.entries_a_row(tile), plan.tiles[tile]
    for length, at, of in _runs(plan, tile, start, count):
        place = plan.first_row(tile) + at // each
        sets = grid_bytes(plan.config) // plan.config.row_bytes
        one = command(PimOpcode.MAC, mode=MacMode.TREE, grp=place % sets, row=place // sets, col=at % each * bursts,
                      cnt=of * bursts - 1, xidx=x, aidx=entry + at - start, clr=int(tile == 0), last=1)
        if length > 1:
            words += [command(PimOpcode.MODI, grp=MODIFIABLE.index(name), row=stride) for name, stride in
                      (("grp", 1), ("aidx", each))]
            words.append(command(PimOpcode.LOOP, row=length, xidx=1))
        words.append(one)
    return words


def _runs(plan: LinearPlan, tile: int, start: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield (rows, first entry, entries of each row): runs of whole rows up to the last set, and parts of rows alone."""
    each = plan.entries_a_row(tile)
    sets = grid_bytes(plan.config) // plan.config.row_bytes
    at, end = start, start + count
    while at < end:
        whole = (end - at) // each if at % each == 0 else 0
        if whole:
            rows = min(whole, sets - (plan.first_row(tile) + at // each) % sets, _LONGEST)
            yield rows, at, each
            at += rows * each
        else:
            of = min(each - at % each, end - at)
            yield 1, at, of
            at += of


def linear_inputs(plan: LinearPlan, program: PimProgram, x: Floats) -> dict[str, Floats]:
    """Return the inputs of a program for x (n, K), n up to its passes times X."""
    config = plan.config
    passes = 1 + max(int(stream.name[1:].partition(".")[0]) for stream in program.inputs)
    if x.ndim != 2 or x.shape[1] != plan.k or not 1 <= len(x) <= passes * config.rows_x:
        raise ConfigError(f"x must be of 1 to {passes * config.rows_x} rows of {plan.k} inputs, not of shape {x.shape}")
    padded = np.zeros((passes * config.rows_x, plan.slices * config.width), np.float32)
    padded[:len(x), :plan.k] = x
    slices = padded.reshape(passes, config.rows_x, plan.slices, config.width).transpose(0, 2, 1, 3)
    found = {}
    for stream in program.inputs:
        number, _, first = stream.name[1:].partition(".")
        found[stream.name] = slices[int(number), int(first):int(first) + stream.count]
    return found


def linear_outputs(plan: LinearPlan, outputs: dict[str, npt.NDArray[np.uint8]], n: int) -> Floats:
    """Return (n, N) float32 of a program's outputs."""
    config, parts = plan.config, []
    for channel in range(plan.channels):
        if len(plan.of(channel)):
            entries = outputs[f"y{channel}"].view(np.float32).reshape(-1, plan.entries(channel), config.rows_x, config.width)
            passes = entries[..., :config.segments].transpose(0, 2, 1, 3)
            parts.append(passes.reshape(-1, plan.entries(channel) * config.segments)[:, :len(plan.of(channel))])
    return np.concatenate(parts, axis=1)[:n]
