"""Decode attention on a quantized KV cache: scores and context are programs of integers, the softmax between them is the host's.

As P3-LLM has it (arXiv 2511.06838): K and V are 4-bit integers with a zero point and a scale for each token and head, queries
E4M3, softmax weights S0E4M4. All scales are applied by the host: K's factors of channels are in the queries, V's scales of tokens
in the weights, which then fill the range of their format. K's scale of a token multiplies its score, which leaves as an integer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig, format_has_sides
from hw.pim.isa import MacMode, PimOpcode, PimRegister
from sw.pim.assembler import command
from sw.pim.codes import Codes, bursts_of, packed
from sw.pim.program import PimProgram, PimRegion, PimStream, grid_bytes

__all__ = ["KvPlan", "context_inputs", "context_program", "score_inputs", "scores_program"]

Bytes = npt.NDArray[np.uint8]
_MOST = 1 << 7              # of what a command counts


@dataclass(frozen=True, kw_only=True, slots=True)
class KvPlan:
    """Where K and V of one head lie in a channel: tokens side by side in the segments' shares of the bursts (token t in that of
    segment t mod G), then one after the other, in rows of all sets of banks in turn.

    Attributes
    ----------
    config : PimConfig
    head_dim : int
        Elements of a token: whole beats, that divide a burst or are whole ones.
    max_tokens : int
    addr : int
        First byte, at a row of all sets: K, then V.

    Raises
    ------
    ConfigError
        If sizes do not fit.
    """

    config: PimConfig
    head_dim: int
    max_tokens: int
    addr: int = 0

    def __post_init__(self) -> None:
        """Check that everything fits."""
        config = self.config
        whole = self.head_dim >= 1 and self.head_dim % config.width == 0
        if not whole or (config.beats % self.beats and (self.beats % config.beats or config.columns % self._bursts)):
            raise ConfigError(f"KvPlan.head_dim must be whole beats of {config.width}, that divide a burst or are whole ones of "
                              f"a row, not {self.head_dim!r}")
        if self.beats > min(config.bcast_entries, config.xbuf_entries):
            most = config.width * min(config.bcast_entries, config.xbuf_entries)
            raise ConfigError(f"KvPlan.head_dim must be at most {most}, what the buffers hold, not {self.head_dim!r}")
        if self.addr < 0 or self.addr % grid_bytes(config):
            raise ConfigError(f"KvPlan.addr must be a multiple of {grid_bytes(config)}, a row of all sets, not {self.addr!r}")
        room = (config.capacity_bytes - self.addr) // (2 * grid_bytes(config)) * config.named_sets * self.tokens_a_row
        if not 1 <= self.max_tokens <= room:
            raise ConfigError(f"KvPlan.max_tokens must be between 1 and {room}, what the rows hold, not {self.max_tokens!r}")

    @property
    def beats(self) -> int:
        """Beats of a token."""
        return self.head_dim // self.config.width

    @property
    def _bursts(self) -> int:
        return max(1, self.beats // self.config.beats)

    @property
    def tokens_a_row(self) -> int:
        """Tokens of a DRAM row."""
        return self.config.columns * self.config.beats // self.beats * self.config.segments

    @property
    def size(self) -> int:
        """Bytes of K, and of V: whole rows of all sets."""
        grid = grid_bytes(self.config)
        return ceil_div(ceil_div(self.max_tokens, self.tokens_a_row) * self.config.row_bytes, grid) * grid

    @property
    def block(self) -> int:
        """Tokens whose scores are computed while those before leave."""
        config = self.config
        return min(config.obuf_entries // 2 * config.segments, config.word_bytes, self.tokens_a_row, _MOST)

    def image(self, codes: Codes) -> Bytes:
        """Return what K or V lies as, from its first byte on, of (tokens, head_dim) codes."""
        config = self.config
        entries = np.zeros((ceil_div(len(codes), config.segments), config.segments, self.beats, config.width), codes.dtype)
        entries.reshape(-1, self.head_dim)[:len(codes)] = codes
        flat = np.zeros((self.size * 8 // config.kv_bits,), codes.dtype)
        bursts = bursts_of(config, entries)
        flat[:len(bursts)] = bursts
        return packed(flat, config.kv_bits)

    def macs(self, value: int, first: int, tokens: int, **fields: int) -> Iterator[tuple[int, dict[str, int]]]:
        """Yield token and fields of the MACs over tokens of K (0) or V (1), one a row; a burst is read to its end."""
        config = self.config
        sets = grid_bytes(config) // config.row_bytes
        while tokens:
            number, inside = divmod(first, self.tokens_a_row)
            count = min(tokens, self.tokens_a_row - inside)
            row = (self.addr + value * self.size) // config.row_bytes + number
            entry, entries = inside // config.segments, ceil_div(count, config.segments)
            yield first, {"grp": row % sets, "row": row // sets, "col": entry * self.beats // config.beats,
                          "cnt": ceil_div(entries * self.beats, config.beats) - 1, **fields}
            first, tokens = first + count, tokens - count


def _program(plan: KvPlan, name: str, words: list[int], inputs: list[PimStream], outputs: list[PimStream],
             value: int) -> PimProgram:
    region = PimRegion(name="kv"[value], channel=0, addr=plan.addr + value * plan.size, size=plan.size, role="input")
    return PimProgram(name=name, config_digest=plan.config.digest(), regions=(region,), inputs=tuple(inputs),
                      outputs=tuple(outputs), lists=(np.array([*words, command(PimOpcode.EOC)], np.uint64),))


def _setup(plan: KvPlan, operands: int) -> list[int]:
    config = plan.config
    same = len({config.wtype, config.kvtype}) + len({config.xtype, config.ptype}) == 2
    return [command(PimOpcode.SETM, aidx=PimRegister.K_BEATS, value=plan.beats),
            command(PimOpcode.SETM, aidx=PimRegister.OPERANDS, value=0 if same else operands)]


def _check(plan: KvPlan, tokens: int) -> None:
    if not 1 <= tokens <= plan.max_tokens:
        raise ConfigError(f"tokens must be between 1 and {plan.max_tokens}, not {tokens!r}")


def scores_program(plan: KvPlan, tokens: int) -> PimProgram:
    """Return the program of a head's scores: queries and K's zero points from the host, sums of `tokens` entries to it.

    Raises
    ------
    ConfigError
        If there are no tokens, or more than there is room for.
    """
    _check(plan, tokens)
    words = [*_setup(plan, 1), command(PimOpcode.WRX, cnt=plan.beats - 1)]
    inputs = [PimStream(name="q", channel=0, kind="x", count=plan.beats)]
    outputs: list[PimStream] = []
    before: list[int] = []
    for number, first in enumerate(range(0, tokens, plan.block)):
        count, segments = min(plan.block, tokens - first), plan.config.segments
        entry, entries = number % 2 * plan.block // segments, ceil_div(count, segments)
        if format_has_sides(plan.config.kvtype):
            words.append(command(PimOpcode.WRS, xidx=entry * segments, cnt=entries * segments - 1))
            inputs.append(PimStream(name=f"z{number}", channel=0, kind="sides", count=1))
        words += [command(PimOpcode.MAC, mode=MacMode.TREE, clr=1, last=1, aidx=entry + (token - first) // segments, **fields)
                  for token, fields in plan.macs(0, first, count)]
        words += before
        before = [command(PimOpcode.RDACC, aidx=entry, cnt=entries - 1)]
        outputs.append(PimStream(name=f"s{number}", channel=0, kind="entries", count=entries))
    return _program(plan, f"scores of {tokens} tokens", words + before, inputs, outputs, 0)


def score_inputs(plan: KvPlan, program: PimProgram, queries: Codes, zeros: Bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Return the inputs of `scores_program`: codes (g, head_dim) of the queries, zero points (tokens,) of K."""
    config = plan.config
    rows = np.zeros((config.rows_x, plan.head_dim), queries.dtype)
    rows[:len(queries)] = queries
    found: dict[str, npt.NDArray[np.generic]] = {"q": rows.reshape(config.rows_x, plan.beats, config.width).transpose(1, 0, 2)}
    for stream in program.inputs:
        if stream.kind == "sides":
            number = int(stream.name[1:])
            part = zeros[number * plan.block:(number + 1) * plan.block]
            found[stream.name] = _word(config, number % 2 * plan.block, part)
    return found


def context_program(plan: KvPlan, tokens: int) -> PimProgram:
    """Return the program of a head's context: softmax weights and V's zero points from the host, sums of a token's beats to it.

    Raises
    ------
    ConfigError
        If there are no tokens, or more than there is room for.
    """
    _check(plan, tokens)
    config = plan.config
    words, inputs = _setup(plan, 2), []
    for number, first in enumerate(range(0, tokens, config.width)):
        count, x = min(config.width, tokens - first), number % config.xbuf_entries
        words.append(command(PimOpcode.WRX, xidx=x, cnt=0))
        inputs.append(PimStream(name=f"p{number}", channel=0, kind="p", count=1))
        filled = ceil_div(count, config.segments) * config.segments
        for part in range(0, filled, min(_MOST, config.word_bytes)) if format_has_sides(config.kvtype) else ():
            some = min(_MOST, config.word_bytes, filled - part)
            words.append(command(PimOpcode.WRS, xidx=x * config.width + part, cnt=some - 1))
            inputs.append(PimStream(name=f"z{number}.{part}", channel=0, kind="sides", count=1))
        macs = list(plan.macs(1, first, count))
        for token, fields in macs:
            last = first + count == tokens and (token, fields) == macs[-1]
            words.append(command(PimOpcode.MAC, mode=MacMode.BCAST, xidx=x * config.width + token - first, clr=int(token == 0),
                                 last=int(last), **fields))
    words.append(command(PimOpcode.RDACC, cnt=plan.beats - 1))
    outputs = [PimStream(name="o", channel=0, kind="entries", count=plan.beats)]
    return _program(plan, f"context of {tokens} tokens", words, inputs, outputs, 1)


def context_inputs(plan: KvPlan, program: PimProgram, weights: Codes, zeros: Bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Return the inputs of `context_program`: codes (g, tokens) of the softmax's weights, zero points (tokens,) of V.

    A burst is read to its end: what it has beyond the last token meets weights of zero.
    """
    config = plan.config
    slices = ceil_div(weights.shape[1], config.width)
    rows = np.zeros((config.rows_x, slices * config.width), weights.dtype)
    rows[:len(weights), :weights.shape[1]] = weights
    found: dict[str, npt.NDArray[np.generic]] = {}
    for stream in program.inputs:
        number, _, part = stream.name[1:].partition(".")
        first = int(number) * config.width
        if stream.kind == "p":
            found[stream.name] = rows[None, :, first:first + config.width]
        else:
            at, most = int(part), min(_MOST, config.word_bytes, config.width - int(part))
            place = int(number) % config.xbuf_entries * config.width + at
            found[stream.name] = _word(config, place, zeros[first + at:first + at + most])
    return found


def _word(config: PimConfig, first: int, values: Bytes) -> Bytes:
    """Return a word of the side table with bytes in their place."""
    word = np.zeros((1, config.word_bytes), np.uint8)
    word[0, first % config.word_bytes:][:len(values)] = values
    return word
