"""Command lists of decode attention: append a token, then scores, online softmax and product with V, block by block.

A block is as many tokens as the buffers hold twice, at most a row of K. The scores of the next block are computed while this
one's softmax runs: their entries and slices alternate between two places, so that dynamic scheduling can overlap them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.config import PimConfig
from hw.pim.isa import HEAD_SETTINGS, MacMode, PimOpcode, PimRegister
from sw.pim.assembler import command

__all__ = ["HeadPlan", "append_token", "attention", "setup"]



@dataclass(frozen=True, kw_only=True, slots=True)
class HeadPlan:
    """Where one KV head's data lie.

    Attributes
    ----------
    config : PimConfig
    head : int
        Its number in the softmax unit.
    head_dim : int
        Elements; whole bursts of all streams, and a divisor of a row.
    group : int
        Query rows.
    max_tokens : int
        Tokens for which there is room.
    first_row : int
        First DRAM row: K, then V.

    Raises
    ------
    ConfigError
        If shapes or sizes do not fit.
    """

    config: PimConfig
    head: int
    head_dim: int
    group: int
    max_tokens: int
    first_row: int = 0

    def __post_init__(self) -> None:
        """Check that everything fits."""
        config = self.config
        if self.head_dim % config.burst_weights or config.columns % self.bursts:
            raise ConfigError(f"HeadPlan.head_dim must be a multiple of the {config.burst_weights} weights of a burst, in whole "
                              f"tokens a row, not {self.head_dim!r}")
        if not 1 <= self.group <= config.rows_x:
            raise ConfigError(f"HeadPlan.group must be between 1 and {config.rows_x}, not {self.group!r}")
        if not 0 <= self.head < config.heads:
            raise ConfigError(f"HeadPlan.head must be below {config.heads}, not {self.head!r}")
        room = (config.dram_rows - self.first_row) // 2 * self.sets * self.tokens_a_row
        if not 1 <= self.max_tokens <= room:
            raise ConfigError(f"HeadPlan.max_tokens must be between 1 and {room}, what the rows hold, not {self.max_tokens!r}")
        if self.block < 1:
            raise ConfigError(f"HeadPlan.head_dim must leave room in both buffers for two blocks, not {self.head_dim!r}")

    @property
    def bursts(self) -> int:
        """Bursts of a token's K, and of its V."""
        return max(1, self.head_dim // self.config.burst_weights)

    @property
    def tokens_a_row(self) -> int:
        """Tokens of a DRAM row."""
        return self.config.columns // self.bursts

    @property
    def sets(self) -> int:
        """Sets of banks over which rows go in turn."""
        return self.config.named_sets

    @property
    def query_slices(self) -> int:
        """Slices of the X buffer that hold the queries; also entries of the output."""
        return self.head_dim // self.config.lanes

    @property
    def block(self) -> int:
        """Tokens of a step of the online softmax: a power of two, or all of a row."""
        config = self.config
        most = min((config.obuf_entries - self.query_slices) // 2,
                   (config.xbuf_entries - self.query_slices) // 2 * config.lanes, self.tokens_a_row)
        return most if most == self.tokens_a_row else (1 << most.bit_length()) // 2 if most > 0 else 0

    @property
    def weight_slices(self) -> int:
        """Slices of a block's softmax weights."""
        return ceil_div(self.block, self.config.lanes)

    @property
    def value_row(self) -> int:
        """First DRAM row of V."""
        return self.first_row + ceil_div(ceil_div(self.max_tokens, self.tokens_a_row), self.sets)


_OUTPUT = 0                 # first entry of the output: those that BCAST writes come first in the output buffer


def setup(plan: HeadPlan, tokens: int, scale: np.float32) -> list[int]:
    """Return the settings for a head that has `tokens` tokens."""
    registers = {PimRegister.K_BEATS: plan.query_slices, PimRegister.HEAD_DIM: plan.head_dim, PimRegister.GROUP: plan.group,
                 PimRegister.MAX_TOKENS: plan.max_tokens, PimRegister.SCALE: int(np.float32(scale).view(np.uint32))}
    heads = dict(zip(HEAD_SETTINGS, (plan.first_row, plan.value_row, tokens, _OUTPUT), strict=True))
    return [*(command(PimOpcode.SETM, aidx=register, value=value) for register, value in registers.items()),
            *(command(PimOpcode.SETH, grp=HEAD_SETTINGS.index(name), aidx=plan.head, value=value)
              for name, value in heads.items())]


def append_token(plan: HeadPlan) -> list[int]:
    """Return the commands that take a token's K, then V, from the host and put them behind the others."""
    words = []
    for value in (0, 1):
        words += [command(PimOpcode.WRX, cnt=plan.query_slices - 1), command(PimOpcode.KVAP, aidx=plan.head, clr=value)]
    return words


def attention(plan: HeadPlan, tokens: int) -> npt.NDArray[np.uint64]:
    """Return the commands of attention over `tokens` tokens: queries from the host, output to the host, then EOC.

    The settings of `setup` must hold.

    Raises
    ------
    ConfigError
        If there are no tokens, or more than there is room for.
    """
    if not 1 <= tokens <= plan.max_tokens:
        raise ConfigError(f"tokens must be between 1 and {plan.max_tokens}, not {tokens!r}")
    blocks = ceil_div(tokens, plan.block)
    words = [command(PimOpcode.WRACC, aidx=_OUTPUT, cnt=plan.query_slices - 1),
             command(PimOpcode.WRX, cnt=plan.query_slices - 1), _scores(plan, 0, tokens)]
    for block in range(blocks):
        if block + 1 < blocks:
            words.append(_scores(plan, block + 1, tokens))
        words += _softmax(plan, block, tokens)
    return np.array([*words, command(PimOpcode.MRG, aidx=plan.head, xidx=plan.head),
                     command(PimOpcode.RDACC, aidx=_OUTPUT, cnt=plan.query_slices - 1), command(PimOpcode.EOC)], np.uint64)


def _burst_fields(plan: HeadPlan, first_row: int, block: int, tokens: int) -> dict[str, int]:
    """Return where a block's bursts are, and how many."""
    row, token = divmod(block * plan.block, plan.tokens_a_row)
    return {"grp": row % plan.sets, "row": first_row + row // plan.sets, "col": token * plan.bursts,
            "cnt": _in_block(plan, block, tokens) * plan.bursts - 1}


def _in_block(plan: HeadPlan, block: int, tokens: int) -> int:
    return min(plan.block, tokens - block * plan.block)


def _score_entry(plan: HeadPlan, block: int) -> int:
    return plan.query_slices + block % 2 * plan.block


def _scores(plan: HeadPlan, block: int, tokens: int) -> int:
    return command(PimOpcode.MAC, mode=MacMode.TREE, aidx=_score_entry(plan, block), clr=1, last=1,
                   **_burst_fields(plan, plan.first_row, block, tokens))


def _softmax(plan: HeadPlan, block: int, tokens: int) -> list[int]:
    count = _in_block(plan, block, tokens)
    x = plan.query_slices + block % 2 * plan.weight_slices
    return [
        command(PimOpcode.MVS, aidx=_score_entry(plan, block), cnt=count - 1, xidx=plan.head),
        command(PimOpcode.SFO, aidx=plan.head, value=count),
        command(PimOpcode.MVX, aidx=plan.head, xidx=x, cnt=ceil_div(count, plan.config.lanes) - 1),
        command(PimOpcode.MAC, mode=MacMode.BCAST, xidx=x * plan.config.lanes, aidx=_OUTPUT, last=1,
                **_burst_fields(plan, plan.value_row, block, tokens))]
