"""Attention whose tokens are spread over channels: the parts' (m, l, O) are brought together and merged.

The host carries entries from the channels that have made them to the one that merges them; a head's parts are merged in a tree,
neighbours first (`sw.golden.pim.attention.merge_all`), and divided there. Heads are merged by the channels in turn.
"""

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.pim.isa import HEAD_SETTINGS, PimOpcode, PimRegister
from sw.pim.assembler import command
from sw.pim.cache_plan import CachePlan
from sw.pim.program import PimProgram, PimStream

__all__ = ["merge_inputs", "merge_program"]

_OUTPUT = HEAD_SETTINGS.index("output")


def merge_program(plan: CachePlan, tokens: int) -> PimProgram | None:
    """Return the program that merges what `attention_program` leaves of `tokens` tokens; None where there is one part.

    Its inputs are the outputs of that one, its outputs "o<head>".

    Raises
    ------
    ConfigError
        If a channel's softmax unit or output buffer has no place for so many parts.
    """
    config, parts, width = plan.config, min(plan.parts, tokens), plan.head_dim // plan.config.width
    if plan.parts == 1:
        return None
    most = min(config.heads, config.wide_entries // width)
    if parts > most:
        raise ConfigError(f"channels that tokens are spread over must be at most {most}, whose parts can be merged, not {parts}")
    lists, inputs, outputs = [], [], []
    for channel in range(plan.channels):
        words: list[int] = []
        for head in range(channel, plan.kv_heads, plan.channels):
            words.append(command(PimOpcode.SETM, aidx=PimRegister.HEAD_DIM, value=plan.head_dim))
            for part in range(parts):
                entry = part * width            # the state goes where the output will be: there are no more entries than these
                words += [command(PimOpcode.SETH, grp=_OUTPUT, aidx=part, value=entry), command(PimOpcode.WRACC, aidx=entry),
                          command(PimOpcode.LDS, aidx=entry, xidx=part),
                          command(PimOpcode.WRACC, aidx=entry, cnt=width - 1)]
                inputs += [PimStream(name=f"{name}{head}.{part}", channel=channel, kind="entries", count=count)
                           for name, count in (("s", 1), ("p", width))]
            words += [command(PimOpcode.MRG, aidx=a, xidx=b) for a, b in (*_tree(parts), (0, 0))]
            words.append(command(PimOpcode.RDACC, cnt=width - 1))
            outputs.append(PimStream(name=f"o{head}", channel=channel, kind="entries", count=width))
        lists.append(np.array([*words, command(PimOpcode.EOC)], np.uint64))
    return PimProgram(name="merging of parts", config_digest=config.digest(), lists=tuple(lists), inputs=tuple(inputs),
                      outputs=tuple(outputs))


def _tree(parts: int) -> list[tuple[int, int]]:
    """Return which part is merged into which: neighbours first, then neighbours of those; an odd one waits."""
    pairs, level = [], list(range(parts))
    while len(level) > 1:
        pairs += list(zip(level[0::2], level[1::2], strict=False))
        level = level[0::2]
    return pairs


def merge_inputs(plan: CachePlan, outputs: dict[str, npt.NDArray[np.uint8]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the inputs of `merge_program` for the outputs of `attention_program`."""
    shape = -1, plan.config.rows_x, plan.config.width
    return {name: data.view(np.float32).reshape(shape) for name, data in outputs.items()}
