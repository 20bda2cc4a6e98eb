"""One pseudo-channel of a PIM that runs command lists, the definition of what they do: DRAM, buffers, softmax unit.

Buffers and DRAM hold codes; the X buffer's are of `xtype`, or of `ptype` where MAC takes V × probabilities. K and V of a head
are tokens, dealt out to the segments, one after the other from its first row on: rows of all sets of banks in turn, then the
next row.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.pim.config import PimConfig
from hw.pim.isa import AF_MODES, MacMode, PimOpcode, PimRegister
from sw.golden.arith.functions import normal, sigmoid
from sw.golden.pim.accumulators import Accumulators
from sw.golden.pim.attention import numerics_of
from sw.golden.pim.moe import float32_function
from sw.golden.pim.operands import Operand, ways_of
from sw.golden.pim.softmax_unit import SoftmaxUnit
from sw.pim.checker import check
from sw.pim.codes import Codes, encoded, packed, unpacked
from sw.pim.expand import Command, Settings, expand

__all__ = ["PimMachine"]

Floats = npt.NDArray[np.float32]


class PimMachine:
    """Memory, buffers and units.

    Parameters
    ----------
    config : PimConfig
    memory : ndarray or None
        DRAM, (sets of banks, rows of each, bytes of a row) uint8; by default all of it.

    Attributes
    ----------
    host_in : deque of ndarray
        What WRX, slices of (X, width), as codes or as float32 in `xtype`, and WRACC, entries of (X, width), take; WRS, a word of
        the side table, (word_bytes,) uint8, and DQA, scales, (cnt + 1, G) float32; first in, first out.
    host_out : list of ndarray
        What RDACC has read: entries, (X, width), in the type of the accumulators.
    xbuf : ndarray, (slices, X, width)
        Codes.
    obuf : ndarray, (entries, X, width) float32 or int32
    sides : ndarray of uint8
        Side table: zero points, and special values' numbers, of outputs (TREE) or elements of X (BCAST).
    """

    def __init__(self, config: PimConfig, memory: npt.NDArray[np.uint8] | None = None):
        self.config = config
        self._ways = ways_of(config)
        self._x = self._ways[0][1]
        self.host_in: deque[npt.NDArray[Any]] = deque()
        self.host_out: list[npt.NDArray[Any]] = []
        self.xbuf = np.zeros((config.xbuf_entries, config.rows_x, config.width), f"u{self._x.bits // 8}")
        self.obuf = np.zeros((config.obuf_entries, config.rows_x, config.width), config.acc)
        self.sides = np.zeros(config.sides, np.uint8)
        self.partial = np.zeros((config.obuf_entries, config.rows_x, config.segments), np.float32)
        self.softmax = SoftmaxUnit(numerics_of(config), config.rows_x, config.segments)
        self.tokens: dict[int, int] = {}
        self._accumulators = Accumulators(self.obuf, config.n_acc_slots)
        whole = np.zeros(config.capacity_bytes, np.uint8) if memory is None else memory
        self._memory = whole.reshape(config.row_sets, -1, config.columns, config.burst_bytes * config.streams)

    def run(self, words: Sequence[int]) -> None:
        """Run a list that `sw.pim.checker.check` finds sound.

        Raises
        ------
        CommandError
            If it does not; nothing has happened then.
        """
        check(self.config, words)
        self.softmax.drop_scores()
        for command, settings in self.steps(words):
            self.execute(command, settings)

    @staticmethod
    def steps(words: Sequence[int]) -> Iterable[tuple[Command, Settings]]:
        """Yield the commands of a list, each with the settings that hold for it."""
        settings = Settings()
        for command in expand(words, settings):
            yield command, Settings(list(settings.registers), {head: dict(of) for head, of in settings.heads.items()})

    # Memory ---------------------------------------------------------------------------------------------------

    def _row(self, grp: int, row: int) -> npt.NDArray[np.uint8]:
        return self._memory[self.config.named_row(grp, row)]

    def write_row(self, grp: int, row: int, values: npt.NDArray[Any]) -> None:
        """Write a row of weights as a host does: up to a row's elements, in the order in which bursts bring them.

        `values` are codes, unsigned, or what a plain `wtype` stands for.
        """
        codes = values if values.dtype.kind == "u" else encoded(values.astype(np.float32), self.config.wtype)
        data = packed(codes.reshape(-1), self.config.weight_bits)
        self._row(grp, row).reshape(-1)[:len(data)] = data

    def read_codes(self, grp: int, row: int) -> Codes:
        """Return a row's weights as codes: (columns, weights of a burst)."""
        return unpacked(self._row(grp, row), self.config.weight_bits)

    def read_row(self, grp: int, row: int) -> Floats:
        """Return a row's weights as float32, with zero points and special values 0: (columns, weights of a burst)."""
        return self._ways[0][0].values(self.read_codes(grp, row))

    def x_values(self) -> Floats:
        """Return the X buffer as float32, its codes read in `xtype`."""
        return self._x.values(self.xbuf)

    def _to_x(self, values: Floats) -> Codes:
        """Return float32 as codes of X."""
        return encoded(values, self.config.xtype)

    def place(self, first_row: int, row: int) -> tuple[int, int]:
        """Return set and row of the `row`-th row of a region that begins at `first_row`."""
        sets = self.config.named_sets
        return row % sets, first_row + row // sets

    # Commands -------------------------------------------------------------------------------------------------

    def execute(self, command: Command, settings: Settings) -> None:
        """Do what one command does."""
        fields = command.fields
        count = fields.get("cnt", 0) + 1
        x = slice(fields.get("xidx", 0), fields.get("xidx", 0) + count)
        entries = slice(fields.get("aidx", 0), fields.get("aidx", 0) + count)
        match command.opcode:
            case PimOpcode.SETH:
                if fields["grp"] == 2:
                    self.tokens[fields["aidx"]] = fields["value"]
                elif fields["grp"] == 3:
                    self.softmax.forget(fields["aidx"])
            case PimOpcode.WRX:
                slices = np.array([self.host_in.popleft() for _ in range(count)])
                self.xbuf[x] = slices if slices.dtype.kind == "u" else self._to_x(slices.astype(np.float32))
            case PimOpcode.WRACC:
                self.obuf[entries] = [self.host_in.popleft() for _ in range(count)]
            case PimOpcode.RDACC:
                self.host_out += list(self.obuf[entries].copy())
            case PimOpcode.WRS:
                first = fields["xidx"] % self.config.word_bytes
                self.sides[x] = self.host_in.popleft()[first:first + count]
            case PimOpcode.DQA:
                self._dequantize(fields, count)
            case PimOpcode.MVX:
                weights = self.softmax.next_weights(fields["aidx"], count * self.config.width)
                self.xbuf[x] = self._to_x(weights.reshape(self.config.rows_x, count, self.config.width).transpose(1, 0, 2))
            case PimOpcode.MVS:
                scale = np.array(settings.of(PimRegister.SCALE), np.uint32).view(np.float32)
                sums = self.obuf[entries, :, :self.config.segments].transpose(1, 0, 2)
                with np.errstate(over="ignore", invalid="ignore"):
                    self.softmax.add_scores(fields["xidx"], sums.reshape(self.config.rows_x, -1) * scale)
            case PimOpcode.SFM:
                self.softmax.all_at_once(fields["aidx"], fields["value"])
            case PimOpcode.SFO:
                mine = self._output(fields["aidx"], settings)
                self._put(mine, self.softmax.online(fields["aidx"], fields["value"], self._get(mine)))
            case PimOpcode.MRG:
                mine, other = (self._output(fields[name], settings) for name in ("aidx", "xidx"))
                self._put(mine, self.softmax.merge(fields["aidx"], fields["xidx"], self._get(mine), self._get(other)))
            case PimOpcode.STS:
                self.obuf[fields["aidx"]] = 0
                self.obuf[fields["aidx"], :, :2] = self.softmax.state(fields["xidx"])
            case PimOpcode.LDS:
                self.softmax.set_state(fields["xidx"], self.obuf[fields["aidx"], :, :2])
            case PimOpcode.AF:
                self._activation(fields, count)
            case PimOpcode.MAC:
                self._mac(fields, settings)
            case PimOpcode.EWMUL | PimOpcode.EWADD | PimOpcode.RDCP | PimOpcode.WRCP:
                self._bursts(command.opcode, fields)
            case PimOpcode.KVAP:
                self._append(fields, settings)

    def _mac(self, fields: dict[str, int], settings: Settings) -> None:
        period, segments = settings.of(PimRegister.K_BEATS), self.config.segments
        beats, way = self._beats(fields), self._ways[settings.of(PimRegister.OPERANDS)]
        tree = fields["mode"] == MacMode.TREE
        touched: dict[int, None] = {}
        elements = self.xbuf.transpose(1, 0, 2).reshape(self.config.rows_x, -1)
        for j, weights in enumerate(beats):
            if tree:
                entry = fields["aidx"] + j // period
                at = entry * segments
                part = self.xbuf[fields["xidx"] + j % period, :, None]
            else:
                entry = fields["aidx"] + j % period
                at = fields["xidx"] + j // period * segments
                part = elements[:, at:at + segments, None]
            restart = entry not in touched and (bool(fields["clr"]) or j >= period)
            touched[entry] = None
            products = self._products(way, weights, part, at)
            self._accumulators.add(entry, products, tree=tree, restart=restart, replaces=bool(fields["clr"]))
            if tree and j % period == period - 1 and j < len(beats) - 1:
                self._accumulators.close(entry)
        if fields["last"]:
            for open_entry in list(touched)[-1:] if tree else touched:
                self._accumulators.close(open_entry)

    def _products(self, way: tuple[Operand, Operand], weights: Codes, x: Codes, at: int) -> npt.NDArray[Any]:
        """Return products of a beat, (X, segments, width) float32 or int64; `at`: where the segments' sides begin."""
        weight, other = way
        sides = self.sides[at:at + self.config.segments, None] if weight.has_sides else 0
        if self.config.acc == "int32":
            return weight.integers(weights, sides) * other.integers(x)
        return weight.values(weights, sides) * other.values(x)

    def _dequantize(self, fields: dict[str, int], count: int) -> None:
        """Add outputs, in float32 and times their scales, to what is dequantized so far; each step rounds."""
        scales, segments = self.host_in.popleft(), self.config.segments
        for i in range(count):
            entry, place = fields["aidx"] + i, fields["xidx"] + i
            scaled = self.obuf[entry, :, :segments].astype(np.float32) * scales[i]
            self.partial[place] = (np.float32(0) if fields["clr"] else self.partial[place]) + scaled
            if fields["last"]:
                self.obuf[entry, :, :segments] = self.partial[place].view(self.obuf.dtype)

    def _beats(self, fields: dict[str, int]) -> Codes:
        """Return the beats of a command's bursts, (beats, segments, width): each segment's streams in turn make its beats."""
        config, columns = self.config, slice(fields["col"], fields["col"] + fields["cnt"] + 1)
        bursts = self.read_codes(fields["grp"], fields["row"])[columns].reshape(-1, config.segments, config.beats, config.width)
        return bursts.transpose(0, 2, 1, 3).reshape(-1, config.segments, config.width)

    def _bursts(self, opcode: PimOpcode, fields: dict[str, int]) -> None:
        count = fields["cnt"] + 1
        x = slice(fields["xidx"], fields["xidx"] + count * self.config.beats)
        if opcode is PimOpcode.WRCP:
            data = packed(self.xbuf[x, 0].reshape(-1), self._x.bits).reshape(count, -1)
            self._row(fields["grp"], fields["row"])[fields["col"]:fields["col"] + count, :data.shape[1]] = data
            return
        codes = self._beats(fields)[:, :1]
        if opcode is PimOpcode.RDCP:
            self.xbuf[x] = codes
        else:
            bursts, slices = self._ways[0][0].values(codes), self._x.values(self.xbuf[x])
            with np.errstate(over="ignore", invalid="ignore"):
                self.xbuf[x] = self._to_x(slices * bursts if opcode is PimOpcode.EWMUL else slices + bursts)

    def _append(self, fields: dict[str, int], settings: Settings) -> None:
        """Write one token's K or V, row 0 of the slices, behind those of its head."""
        config, head, dim = self.config, fields["aidx"], settings.of(PimRegister.HEAD_DIM)
        data = packed(self.xbuf[fields["xidx"]:, 0].reshape(-1)[:dim], self._x.bits)
        token = self.tokens.get(head, 0)
        turn, segment = divmod(token, config.segments)
        row, offset = divmod(turn * len(data), config.row_bytes // config.segments)
        region = settings.heads.get(head, {}).get("v_row" if fields["clr"] else "k_row", 0)
        where = self._row(*self.place(region, row)).reshape(config.columns, config.segments, -1)
        mine = where[:, segment].reshape(-1)                # a copy: what the segment's streams of a row hold
        mine[offset:offset + len(data)] = data
        where[:, segment] = mine.reshape(config.columns, -1)
        self.tokens[head] = token + fields["clr"]

    def _activation(self, fields: dict[str, int], count: int) -> None:
        """Make slices of entries; with `clr` of their outputs alone, an element each, behind which zeros fill the last slice."""
        entries = self.obuf[fields["aidx"]:]
        with np.errstate(over="ignore", invalid="ignore"):
            values = _function(AF_MODES[fields["mode"]], entries[:count], entries[count:2 * count])
        slices = values
        if fields["clr"]:
            width, segments = self.config.width, self.config.segments
            slices = np.zeros((-(-count * segments // width), self.config.rows_x, width), np.float32)
            for number, outputs in enumerate(values[:, :, :segments].transpose(0, 2, 1).reshape(-1, self.config.rows_x)):
                slices[number // width, :, number % width] = outputs
        self.xbuf[fields["xidx"]:fields["xidx"] + len(slices)] = self._to_x(slices)

    def _output(self, head: int, settings: Settings) -> slice:
        """Return the entries of a head's output."""
        first = settings.heads.get(head, {}).get("output", 0)
        return slice(first, first + self.config.token_beats(settings.of(PimRegister.HEAD_DIM)))

    def _get(self, entries: slice) -> Floats:
        return np.ascontiguousarray(self.obuf[entries].transpose(1, 0, 2)).reshape(self.config.rows_x, -1)

    def _put(self, entries: slice, output: Floats) -> None:
        self.obuf[entries] = output.reshape(self.config.rows_x, -1, self.config.width).transpose(1, 0, 2)


def _function(mode: str, values: Floats, factors: Floats) -> Floats:
    """Return an activation function of values; "gated" multiplies it by the factors."""
    if mode == "gelu":
        return values * float32_function(normal, values)
    result = values if mode == "identity" else values * float32_function(sigmoid, values)
    return result * factors if mode == "gated" else result
