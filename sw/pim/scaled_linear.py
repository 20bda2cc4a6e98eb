"""A product with quantized weights in the banks: integers of a group are added by the MAC array, groups by the dequantizer.

A step is the outputs of a quarter of the output buffer and one group of K. Its zero points and special values come from the host
(WRS), then its bursts are multiplied, and three steps later, when its sums are there, the dequantizer takes them with the
scales that the host sends (DQA). Weights lie in the order of the steps, in rows of all sets of banks in turn, so each row is
opened once.

On the die and not by the host, since a host word in every cycle could not take the sums of the groups: a group of 128 4-bit
weights is a cycle of `pim-p3`'s array, and its entry ten host words; what the host sends for it, a byte and a float32 for each
output, is a twentieth of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.families import ScaledFormat
from hw.formats import format_named
from hw.pim.config import PimConfig, format_has_sides
from hw.pim.isa import MacMode, PimOpcode, PimRegister
from sw.formats.tensor import QuantizedTensor
from sw.pim.assembler import command
from sw.pim.codes import bursts_of, packed
from sw.pim.linear import repeated
from sw.pim.program import PimProgram, PimRegion, PimStream, grid_bytes
from sw.pim.scaled_operands import Scaled, quantized_activations, quantized_weights, unit_of

__all__ = ["ScaledPlan", "scaled_inputs", "scaled_outputs", "scaled_program"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
_PLACES = 4                 # steps whose outputs are in the output buffer at once
_BEHIND = _PLACES - 1       # steps between the products and the dequantizer


@dataclass(frozen=True, slots=True)
class _Step:
    """Entries of a channel and a part of K: entries from `first` on, `count` of them; slices from `piece` on, `beats` of them.

    An entry is an output of each segment. starts, ends: the group does; group: its number; runs: of its weights, (first burst,
    first entry, entries), each in a row.
    """

    number: int
    first: int
    count: int
    group: int
    piece: int
    beats: int
    starts: bool
    ends: bool
    runs: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledPlan:
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
        If weights have no scales, a size cannot be, or the channels have no room.
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
                raise ConfigError(f"ScaledPlan.{name} must be {rule}, not {getattr(self, name)!r}")
        if not config.dequantizes:
            raise ConfigError(f"PimConfig.wtype must be a format with scales, not {config.wtype!r}")
        block = self.format.block
        if block and (block % config.width or (self._beats % config.beats and config.beats % self._beats)):
            raise ConfigError(f"groups of {config.wtype} must be whole beats of {config.width} weights, that divide a burst of "
                              f"{config.beats} or are whole ones, not of {block}")
        if config.k_tile % self._share:
            raise ConfigError(f"PimConfig.k_tile must be a multiple of the {self._share} weights of a segment's burst to run a "
                              f"linear, not {config.k_tile!r}")
        if self.end > config.capacity_bytes:
            raise ConfigError(f"a linear of {self.n} outputs and {self.k} inputs must end within {config.capacity_bytes} bytes, "
                              f"a channel's, not at {self.end}")

    @property
    def format(self) -> ScaledFormat:
        """Format of the weights."""
        fmt = format_named(self.config.wtype)
        assert isinstance(fmt, ScaledFormat)
        return fmt

    @property
    def group(self) -> int:
        """Elements of K with one scale: the format's blocks, or all, filled up to whole bursts."""
        return self.format.block or ceil_div(self.k, self._share) * self._share

    @property
    def _share(self) -> int:
        """Weights of a burst that are of one segment, and so of one output."""
        return self.config.beats * self.config.width

    @property
    def _beats(self) -> int:
        return self.group // self.config.width

    @property
    def groups(self) -> int:
        """Groups of an output."""
        return ceil_div(self.k, self.group)

    @property
    def tile(self) -> int:
        """Elements of K that an output's sum takes at once, at most: those of a group, or half of the X buffer."""
        return min(self.group, self.config.k_tile)

    @property
    def outputs(self) -> int:
        """Outputs of a channel, but for the last ones'."""
        return ceil_div(self.n, self.channels)

    def of(self, channel: int) -> range:
        """Return the outputs of a channel."""
        return range(min(self.n, channel * self.outputs), min(self.n, (channel + 1) * self.outputs))

    @property
    def entries(self) -> int:
        """Entries that a channel's outputs are: of each segment one, and zeros behind the last."""
        return ceil_div(self.outputs, self.config.segments)

    @property
    def chunk(self) -> int:
        """Entries of a step: a quarter of the output buffer, in one word of the side table, at most as a command says."""
        config = self.config
        return max(1, min(config.obuf_entries // _PLACES, min(config.word_bytes, 1 << 7) // config.segments))

    @property
    def resident(self) -> bool:
        """All inputs stay in the X buffer."""
        return self.groups * self._beats <= self.config.xbuf_entries

    @property
    def loaded(self) -> int:
        """Slices of X that are loaded at once: all, or pieces that fill half of the X buffer."""
        whole = self.groups * self._beats
        piece = self.tile // self.config.width
        return whole if self.resident else max(1, self.config.xbuf_entries // 2 // piece) * piece

    def steps(self) -> Iterator[_Step]:
        """Yield the steps of one pass; a channel with fewer outputs has zeros behind them."""
        config, number, at = self.config, 0, 0
        most = self.tile // config.width
        for first in range(0, self.entries, self.chunk):
            count = min(self.chunk, self.entries - first)
            for group in range(self.groups):
                for piece in range(0, self._beats, most):
                    beats = min(most, self._beats - piece)
                    at, runs = self._runs(at, beats, count)
                    yield _Step(number, first, count, group, group * self._beats + piece, beats, piece == 0,
                                piece + beats == self._beats, runs)
                    number += 1

    def _runs(self, at: int, beats: int, entries: int) -> tuple[int, tuple[tuple[int, int, int], ...]]:
        """Return the burst behind those of `entries` from burst `at` on, and runs of them; none lies across the end of a row."""
        config = self.config
        each, per = max(1, beats // config.beats), max(1, config.beats // beats)        # bursts an entry, or entries a burst
        runs, entry = [], 0
        while entry < entries:
            room = (config.columns - at % config.columns) // each * per
            if room:
                count = min(room, entries - entry)
                runs.append((at, entry, count))
                entry, at = entry + count, at + ceil_div(count, per) * each
            else:
                at = ceil_div(at, config.columns) * config.columns
        return at, tuple(runs)

    @property
    def end(self) -> int:
        """First byte behind it in every channel, at a row of all sets."""
        config, grid = self.config, grid_bytes(self.config)
        *_, last = self.steps()
        rows = last.runs[-1][0] // config.columns + 1
        return self.addr + ceil_div(rows * config.row_bytes, grid) * grid

    def image(self, channel: int, weights: Scaled) -> Bytes:
        """Return what a channel holds from `addr` on."""
        config, mine = self.config, self.of(channel)
        image = np.zeros((self.end - self.addr) // config.row_bytes * config.columns * config.burst_weights, weights.codes.dtype)
        codes = np.zeros((self.entries, config.segments, self.groups * self._beats, config.width), weights.codes.dtype)
        own = weights.codes[mine.start:mine.stop]
        codes.reshape(self.entries * config.segments, -1)[:len(mine), :own.shape[1]] = own
        for step in self.steps():
            for at, entry, count in step.runs:
                first = step.first + entry
                part = bursts_of(config, codes[first:first + count, :, step.piece:step.piece + step.beats])
                image[at * config.burst_weights:][:len(part)] = part
        return packed(image, config.weight_bits)


def scaled_program(plan: ScaledPlan, name: str, tensor: QuantizedTensor | None = None, *, passes: int = 1) -> PimProgram:
    """Return the program of `passes` times up to X rows; the weights (N, K) in `wtype`, or None where they are there already.

    `scaled_inputs` makes its inputs, `scaled_outputs` takes its outputs.
    """
    body, sent = _pass(plan)
    words = np.array([*repeated(body, passes), command(PimOpcode.EOC)], np.uint64)
    weights = None if tensor is None else quantized_weights(tensor)
    lists, regions, inputs, outputs = [], [], [], []
    for channel in range(plan.channels):
        used = len(plan.of(channel)) > 0
        lists.append(words if used else words[-1:])
        if used:
            inputs += [PimStream(name=f"x{number}.{at}" if kind == "x" else f"{kind}{channel}.{at}", channel=channel, kind=kind,
                                 count=count) for number in range(passes) for kind, at, count in sent]
            outputs.append(PimStream(name=f"y{channel}", channel=channel, kind="entries", count=plan.entries * passes))
            data = None if weights is None else plan.image(channel, weights)
            regions.append(PimRegion(name=name, channel=channel, addr=plan.addr, size=plan.end - plan.addr,
                                     role="input" if data is None else "constant", data=data))
    return PimProgram(name=name, config_digest=plan.config.digest(), lists=tuple(lists), regions=tuple(regions),
                      inputs=tuple(inputs), outputs=tuple(outputs))


def _pass(plan: ScaledPlan) -> tuple[list[int], list[tuple[str, int, int]]]:
    """Return the commands for one row of X rows, and what the host sends in order: kind, slice or step, count."""
    config = plan.config
    words: list[int] = []
    sent: list[tuple[str, int, int]] = []
    steps = list(plan.steps())
    slices = plan.groups * plan._beats
    places = 1 if plan.resident else config.xbuf_entries // plan.loaded
    loads, beats, place = -1, 0, -1
    waiting: list[tuple[int, _Step]] = []

    def dequantize() -> None:
        entry, step = waiting.pop(0)
        complete = step.group == plan.groups - 1
        words.append(command(PimOpcode.DQA, aidx=entry, xidx=entry_of_sums(step), cnt=step.count - 1, clr=int(step.group == 0),
                             last=int(complete)))
        sent.append(("scales", step.number, step.count))
        if complete:
            words.append(command(PimOpcode.RDACC, aidx=entry, cnt=step.count - 1))

    def entry_of_sums(step: _Step) -> int:
        return step.first // plan.chunk % _PLACES * plan.chunk

    for step in steps:
        if step.piece % plan.loaded == 0 and (loads < 0 or not plan.resident):
            loads += 1
            of = min(plan.loaded, slices - step.piece)
            for first in range(0, of, 1 << 7):
                count = min(1 << 7, of - first)
                words.append(command(PimOpcode.WRX, xidx=loads % places * plan.loaded + first, cnt=count - 1))
                sent.append(("x", step.piece + first, count))
        if step.starts:
            place = (place + 1) % _PLACES
            if format_has_sides(config.wtype):
                outputs = step.count * config.segments
                words.append(command(PimOpcode.WRS, xidx=place * plan.chunk * config.segments, cnt=outputs - 1))
                sent.append(("sides", step.number, 1))
        if step.beats != beats:
            beats = step.beats
            words.append(command(PimOpcode.SETM, aidx=PimRegister.K_BEATS, value=beats))
        words += _macs(plan, step, loads % places * plan.loaded + step.piece % plan.loaded, place * plan.chunk)
        if step.ends:
            waiting.append((place * plan.chunk, step))
            if len(waiting) > _BEHIND:
                dequantize()
    while waiting:
        dequantize()
    return words, sent


def _macs(plan: ScaledPlan, step: _Step, x: int, entry: int) -> Iterator[int]:
    """Yield the products of a step, a command for each row."""
    config = plan.config
    sets = grid_bytes(config) // config.row_bytes
    for at, first, count in step.runs:
        row = plan.addr // config.row_bytes + at // config.columns
        yield command(PimOpcode.MAC, mode=MacMode.TREE, grp=row % sets, row=row // sets, col=at % config.columns,
                      cnt=ceil_div(count * step.beats, config.beats) - 1, xidx=x, aidx=entry + first, clr=int(step.starts),
                      last=1)


def scaled_inputs(plan: ScaledPlan, program: PimProgram, tensor: QuantizedTensor,
                  x: Floats) -> tuple[dict[str, npt.NDArray[Any]], Floats]:
    """Return the inputs of a program for x (n, K), n up to its passes times X, and the scale of each of its rows."""
    config = plan.config
    passes = 1 + max(int(stream.name[1:].partition(".")[0]) for stream in program.inputs if stream.kind == "x")
    if x.ndim != 2 or x.shape[1] != plan.k or not 1 <= len(x) <= passes * config.rows_x:
        raise ConfigError(f"x must be of 1 to {passes * config.rows_x} rows of {plan.k} inputs, not of shape {x.shape}")
    codes, scale = quantized_activations(x, config.xtype)
    padded = np.zeros((passes * config.rows_x, plan.groups * plan.group), codes.dtype)
    padded[:len(x), :plan.k] = codes
    slices = padded.reshape(passes, config.rows_x, -1, config.width).transpose(0, 2, 1, 3)
    weights, unit = quantized_weights(tensor), np.float32(2.0) ** unit_of(config, config.wtype, config.xtype)
    steps = list(plan.steps())
    found: dict[str, npt.NDArray[Any]] = {}
    for stream in program.inputs:
        place, _, number = stream.name.removeprefix(stream.kind).partition(".")
        if stream.kind == "x":
            found[stream.name] = slices[int(place), int(number):int(number) + stream.count]
            continue
        step, mine = steps[int(number)], plan.of(stream.channel)
        first, outputs = mine.start + step.first * config.segments, step.count * config.segments
        part = slice(first, min(first + outputs, mine.stop))
        filled = (0, outputs - max(0, part.stop - part.start))
        if stream.kind == "sides":
            found[stream.name] = _word(plan, step, np.pad(weights.sides[part, step.group], filled))
        else:
            found[stream.name] = np.pad(weights.scales[part, step.group] * unit, filled).reshape(-1, config.segments)
    return found, scale


def _word(plan: ScaledPlan, step: _Step, values: Bytes) -> Bytes:
    """Return a word of the side table with the bytes of a step in its place."""
    number = sum(1 for other in plan.steps() if other.starts and other.number < step.number)
    word = np.zeros((1, plan.config.word_bytes), np.uint8)
    first = number % _PLACES * plan.chunk * plan.config.segments % plan.config.word_bytes
    word[0, first:first + len(values)] = values
    return word


def scaled_outputs(plan: ScaledPlan, outputs: dict[str, Bytes], scale: Floats) -> Floats:
    """Return (n, N) float32 of a program's outputs, times the scales of X's rows, each product rounded."""
    config, parts = plan.config, []
    for channel in range(plan.channels):
        if mine := len(plan.of(channel)):
            entries = outputs[f"y{channel}"].view(np.float32).reshape(-1, plan.entries, config.rows_x, config.width)
            passes = entries[..., :config.segments].transpose(0, 2, 1, 3)
            parts.append(passes.reshape(-1, plan.entries * config.segments)[:, :mine])
    return np.concatenate(parts, axis=1)[:len(scale)] * scale[:, None]
