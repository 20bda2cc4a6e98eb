"""Attention with the elements of heads spread over channels: partial scores go from channel to channel, which add theirs.

A channel has as many elements of each head's K and V as the others. Scores: a channel takes the sums of those before it as what
its products are added to, so a head's scores are complete behind the last one. Heads follow each other from channel to channel,
a stage behind, and all channels are at work. Softmax: every channel gets all scores and makes the same weights of them, with an
(m, l) of its own, so that weights need no way out of the softmax unit; then it adds up its elements of the output and divides
them. The host carries entries and computes nothing. Numerics: `sw.golden.pim.attention.attend_parts` with `dims`.
"""

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.pim.isa import MacMode, PimOpcode
from sw.pim.assembler import command
from sw.pim.attention_list import append_tokens, attention, burst_fields, score_chunks, setup
from sw.pim.cache_plan import CachePlan
from sw.pim.program import PimProgram, PimRegion, PimStream

__all__ = ["context_program", "dims_inputs", "dims_outputs", "scores_program", "stages"]

Floats = npt.NDArray[np.float32]


def stages(plan: CachePlan) -> int:
    """Return the stages in which all scores are made."""
    return plan.kv_heads + plan.channels - 1


def _program(plan: CachePlan, name: str, layer: int, lists: list[list[int]], **members: list[PimStream]) -> PimProgram:
    regions = tuple(
        PimRegion(name=f"K and V of head {head}", channel=channel, addr=plan.address(layer, head), size=plan.head_bytes,
                  role="scratch") for channel in range(plan.channels) for head in range(plan.kv_heads))
    return PimProgram(
        name=f"{name} of layer {layer}", config_digest=plan.config.digest(), regions=regions,
        lists=tuple(np.array([*words, command(PimOpcode.EOC)], np.uint64) for words in lists),
        inputs=tuple(members["inputs"]), outputs=tuple(members["outputs"]))


def scores_program(plan: CachePlan, layer: int, tokens: int, stage: int, scale: np.float32) -> PimProgram:
    """Return the program of a stage: channel c appends its elements of head stage − c and adds its part to that head's scores.

    Its inputs are "k<head>.<channel>", "v<head>.<channel>", "q<head>.<channel>", and behind channel 0 "t<head>.<token>", the
    entries that the stage before left of a chunk of tokens from this one on; its outputs are those.

    Raises
    ------
    ConfigError
        If there is no room for so many tokens, or for a chunk of scores in the output buffer.
    """
    config = plan.config
    if not 1 <= tokens <= plan.max_tokens:
        raise ConfigError(f"tokens must be between 1 and {plan.max_tokens}, the context, not {tokens!r}")
    lists: list[list[int]] = []
    inputs: list[PimStream] = []
    outputs: list[PimStream] = []
    for channel in range(plan.channels):
        lists.append([])
        head = stage - channel
        if not 0 <= head < plan.kv_heads:
            continue
        one, words = plan.head(layer, head), lists[-1]
        places = (config.obuf_entries - config.wide_entries) // one.entries(one.chunk)
        if places < 1:
            raise ConfigError(f"PimConfig.obuf_entries must have room for {one.entries(one.chunk)} behind {config.wide_entries}, "
                              f"not be {config.obuf_entries!r}")
        words += [*setup([one], tokens - 1, scale), *append_tokens([one]), command(PimOpcode.WRX, cnt=one.query_slices - 1)]
        inputs += [PimStream(name=f"{name}{head}.{channel}", channel=channel, kind="x", count=one.query_slices) for name in "kvq"]
        for number, (_, at, count) in enumerate(score_chunks([one], tokens)):
            entry = config.wide_entries + number % places * one.entries(one.chunk)       # entries without words for other lanes
            sums = PimStream(name=f"t{head}.{at}", channel=channel, kind="entries", count=one.entries(count))
            if channel:
                words.append(command(PimOpcode.WRACC, aidx=entry, cnt=one.entries(count) - 1))
                inputs.append(sums)
            words += [command(PimOpcode.MAC, mode=MacMode.TREE, aidx=entry, clr=int(channel == 0), last=1,
                              **burst_fields(one, one.first_row, at, count)),
                      command(PimOpcode.RDACC, aidx=entry, cnt=one.entries(count) - 1)]
            outputs.append(sums)
    return _program(plan, f"stage {stage} of scores", layer, lists, inputs=inputs, outputs=outputs)


def context_program(plan: CachePlan, layer: int, tokens: int, scale: np.float32) -> PimProgram:
    """Return the program behind the last stage: softmax of all scores, and each channel's elements of the outputs.

    Its inputs are "t<head>.<token>", which all channels get; its outputs are "o<head>.<channel>".
    """
    lists: list[list[int]] = []
    inputs: list[PimStream] = []
    outputs: list[PimStream] = []
    for channel in range(plan.channels):
        lists.append([])
        for first in range(0, plan.kv_heads, plan.config.heads):
            heads = range(first, min(first + plan.config.heads, plan.kv_heads))
            plans = [plan.head(layer, head) for head in heads]
            lists[-1] += [*setup(plans, tokens, scale), *attention(plans, tokens, given=True)]
            entries = plans[0].entries
            inputs += [PimStream(name=f"t{heads[number]}.{at}", channel=channel, kind="entries", count=entries(count))
                       for number, at, count in score_chunks(plans, tokens)]
            outputs += [PimStream(name=f"o{head}.{channel}", channel=channel, kind="entries", count=plans[0].query_slices)
                        for head in heads]
    return _program(plan, "context", layer, lists, inputs=inputs, outputs=outputs)


def dims_inputs(plan: CachePlan, queries: Floats, keys: Floats, values: Floats) -> dict[str, Floats]:
    """Return queries (kv_heads · group, dh), keys and values (kv_heads, dh) as slices of each channel."""
    config, found = plan.config, {}
    for head in range(plan.kv_heads):
        for name, rows in (("q", queries[head * plan.group:(head + 1) * plan.group]), ("k", keys[head:head + 1]),
                           ("v", values[head:head + 1])):
            padded = np.zeros((config.rows_x, plan.head_dim), np.float32)
            padded[:len(rows)] = rows
            for channel in range(plan.channels):
                mine = plan.stored(channel, padded).reshape(config.rows_x, -1, config.width)
                found[f"{name}{head}.{channel}"] = np.ascontiguousarray(mine.transpose(1, 0, 2))
    return found


def dims_outputs(plan: CachePlan, outputs: dict[str, npt.NDArray[np.uint8]]) -> Floats:
    """Return (kv_heads · group, dh) float32 of the outputs of `context_program`."""
    config, rows = plan.config, []
    for head in range(plan.kv_heads):
        parts = [outputs[f"o{head}.{channel}"].view(np.float32).reshape(-1, config.rows_x, config.width)
                 for channel in range(plan.channels)]
        rows.append(np.concatenate([part.transpose(1, 0, 2).reshape(config.rows_x, -1)[:plan.group] for part in parts], axis=1))
    return np.concatenate(rows)
