"""Command lists of decode attention: tokens are appended, then scores, online softmax and product with V, block by block.

Heads go in pairs, as AttAcc has them: while the scores of one are computed, the other is in the softmax, and while its output is
added up, the first one is. A head that is alone computes the scores of its next block meanwhile. What the two have in the buffers
is apart, so that dynamic scheduling overlaps it; the lists are in an order that is right without.

Source: Park et al., AttAcc, ASPLOS 2024, section on head-level pipelining. How we differ: blocks with an online softmax, so that
neither scores nor weights of a whole context need room.
"""

from collections.abc import Sequence

import numpy as np

from hw.config import ceil_div
from hw.errors import ConfigError
from hw.pim.isa import HEAD_SETTINGS, MacMode, PimOpcode, PimRegister
from sw.pim.assembler import command
from sw.pim.head_plan import HeadPlan

__all__ = ["append_tokens", "attention", "burst_fields", "score_chunks", "setup"]


def setup(plans: Sequence[HeadPlan], tokens: int, scale: np.float32) -> list[int]:
    """Return the settings for heads that have `tokens` tokens each; their plans are alike but for head and rows.

    Raises
    ------
    ConfigError
        If two heads have the same number.
    """
    first = plans[0]
    if len({plan.head for plan in plans}) != len(plans):
        raise ConfigError(f"heads of a list must have numbers of their own, not {[plan.head for plan in plans]!r}")
    registers = {PimRegister.K_BEATS: first.query_slices, PimRegister.HEAD_DIM: first.head_dim, PimRegister.GROUP: first.group,
                 PimRegister.MAX_TOKENS: first.max_tokens, PimRegister.SCALE: int(np.float32(scale).view(np.uint32))}
    words = [command(PimOpcode.SETM, aidx=register, value=value) for register, value in registers.items()]
    for number, plan in enumerate(plans):
        settings = plan.first_row, plan.value_row, tokens, _output(plan, number)
        words += [command(PimOpcode.SETH, grp=which, aidx=plan.head, value=value)
                  for which, (_, value) in enumerate(zip(HEAD_SETTINGS, settings, strict=True))]
    return words


def append_tokens(plans: Sequence[HeadPlan]) -> list[int]:
    """Return the commands that take a token's K, then V, of each head from the host and put them behind the others."""
    words = []
    for plan in plans:
        for value in (0, 1):
            x = value % plan.places * plan.query_slices
            words += [command(PimOpcode.WRX, xidx=x, cnt=plan.query_slices - 1),
                      command(PimOpcode.KVAP, aidx=plan.head, xidx=x, clr=value)]
    return words


def score_chunks(plans: Sequence[HeadPlan], tokens: int) -> list[tuple[int, int, int]]:
    """Return the chunks of scores in the order of `attention`: number of the head, first token, and tokens."""
    steps = _Steps(plans[0], tokens)
    return [(number, at, count) for group in _groups(plans) for block in range(steps.blocks) for number in group
            for at, count in steps.chunks(block)]


def _groups(plans: Sequence[HeadPlan]) -> list[range]:
    """Return which heads go together."""
    return [range(at, min(at + plans[0].places, len(plans))) for at in range(0, len(plans), plans[0].places)]


def attention(plans: Sequence[HeadPlan], tokens: int, *, divided: bool = True, given: bool = False) -> list[int]:
    """Return the commands of attention over `tokens` tokens of each head, without EOC.

    The host sends the queries of head after head, and gets their outputs in the same order. The settings of `setup` must hold.

    Parameters
    ----------
    plans : sequence of HeadPlan
    tokens : int
    divided : bool
        The output is divided by l; else it is not, and an entry follows it whose lanes 0 and 1 are m and l (STS).
    given : bool
        The host sends no queries but the scores, entries in the order of `score_chunks`; K is not read.

    Raises
    ------
    ConfigError
        If there are no tokens, or more than there is room for.
    """
    first = plans[0]
    if not 1 <= tokens <= first.max_tokens:
        raise ConfigError(f"tokens must be between 1 and {first.max_tokens}, not {tokens!r}")
    steps, groups = _Steps(first, tokens, given=given), _groups(plans)
    words = [word for number in groups[0] for word in steps.queries(number)]
    for index, group in enumerate(groups):
        following = [word for number in (groups[index + 1] if index + 1 < len(groups) else ()) for word in steps.queries(number)]
        heads = [(number, plans[number]) for number in group]
        words += _alone(steps, *heads[0], following) if len(heads) == 1 else _together(steps, heads, following)
        for number, plan in heads:
            words += _finish(plan, number, divided=divided)
    return words


def _together(steps: "_Steps", heads: list[tuple[int, HeadPlan]], following: list[int]) -> list[int]:
    """Return the blocks of two heads: scores of both, then the products with V of both."""
    words = []
    for block in range(steps.blocks):
        for number, plan in heads:
            words += steps.scores(plan, number, block) + steps.weights(plan, number, block)
        if block + 1 == steps.blocks:
            words += following
        for number, plan in heads:
            words += steps.context(plan, number, number, block)
    return words


def _alone(steps: "_Steps", number: int, plan: HeadPlan, following: list[int]) -> list[int]:
    """Return the blocks of a head: the scores of the next one stand before the product of this one with V."""
    words = steps.scores(plan, number, 0)
    for block in range(steps.blocks):
        words += steps.weights(plan, block, block)
        words += steps.scores(plan, number, block + 1) if block + 1 < steps.blocks else following
        words += steps.context(plan, number, block, block)
    return words


def burst_fields(plan: HeadPlan, first_row: int, at: int, count: int) -> dict[str, int]:
    """Return the fields that say where the bursts of `count` tokens from token `at` on are, all in one row."""
    row, token = divmod(at, plan.tokens_a_row)
    return {"grp": row % plan.sets, "row": first_row + row // plan.sets, "col": token // plan.tokens_a_step * plan.bursts,
            "cnt": ceil_div(count, plan.tokens_a_step) * plan.bursts - 1}


def _output(plan: HeadPlan, number: int) -> int:
    """Return the first entry of the output of the `number`-th head: those that BCAST writes come first in the output buffer."""
    return number % plan.places * plan.query_slices


def _finish(plan: HeadPlan, number: int, *, divided: bool) -> list[int]:
    entry = _output(plan, number)
    read = command(PimOpcode.RDACC, aidx=entry, cnt=plan.query_slices - 1)
    if divided:
        return [command(PimOpcode.MRG, aidx=plan.head, xidx=plan.head), read]
    return [read, command(PimOpcode.STS, aidx=entry, xidx=plan.head), command(PimOpcode.RDACC, aidx=entry)]


class _Steps:
    """Parts of lists, for heads of one shape and as many tokens; the entries of scores are used in turn."""

    def __init__(self, shape: HeadPlan, tokens: int, *, given: bool = False):
        self._shape, self._tokens, self._given, self._chunk = shape, tokens, given, 0
        self.blocks = ceil_div(tokens, shape.block)

    def chunks(self, block: int) -> list[tuple[int, int]]:
        """Return where each chunk of a block begins in the context, and its tokens."""
        shape, end = self._shape, min(self._tokens, (block + 1) * self._shape.block)
        return [(at, min(shape.chunk, end - at)) for at in range(block * shape.block, end, shape.chunk)]

    def queries(self, number: int) -> list[int]:
        """Return what takes the queries of the `number`-th head from the host."""
        shape = self._shape
        return [] if self._given else [command(PimOpcode.WRX, xidx=_output(shape, number), cnt=shape.query_slices - 1)]

    def scores(self, plan: HeadPlan, number: int, block: int) -> list[int]:
        """Return a block's products with K; each chunk's scores go to the softmax unit."""
        words = []
        for at, count in self.chunks(block):
            entry = plan.places * plan.query_slices + self._chunk % plan.chunks * plan.entries(plan.chunk)
            self._chunk += 1
            made = command(PimOpcode.MAC, mode=MacMode.TREE, xidx=_output(plan, number), aidx=entry, clr=1, last=1,
                           **burst_fields(plan, plan.first_row, at, count))
            words += [command(PimOpcode.WRACC, aidx=entry, cnt=plan.entries(count) - 1) if self._given else made,
                      command(PimOpcode.MVS, aidx=entry, cnt=plan.entries(count) - 1, xidx=plan.head)]
        return words

    def _slice(self, place: int) -> int:
        return self._shape.places * self._shape.query_slices + place % 2 * self._shape.weight_slices

    def weights(self, plan: HeadPlan, place: int, block: int) -> list[int]:
        """Return a block's softmax; its weights go to one of two places of the X buffer."""
        count = sum(count for _, count in self.chunks(block))
        return [command(PimOpcode.SFO, aidx=plan.head, value=count),
                command(PimOpcode.MVX, aidx=plan.head, xidx=self._slice(place), cnt=ceil_div(count, plan.config.width) - 1)]

    def context(self, plan: HeadPlan, number: int, place: int, block: int) -> list[int]:
        """Return a block's products with V: one accumulation, which is the output of the first block, or is added to it."""
        chunks, element = self.chunks(block), self._slice(place) * plan.config.width
        return [command(PimOpcode.MAC, mode=MacMode.BCAST, xidx=element + at - chunks[0][0], aidx=_output(plan, number),
                        clr=int(block == 0 and index == 0), last=int(index == len(chunks) - 1),
                        **burst_fields(plan, plan.value_row, at, count)) for index, (at, count) in enumerate(chunks)]
