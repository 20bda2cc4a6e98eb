"""Attention of a token on the channels of a PIM: the programs that a plan's split takes, one after the other."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sw.device import Result
from sw.pim.cache_plan import CachePlan, attention_inputs, attention_outputs, attention_program
from sw.pim.dims_list import context_program, dims_inputs, dims_outputs, scores_program, stages
from sw.pim.merge_list import merge_inputs, merge_program
from sw.pim.program import PimProgram

__all__ = ["attend_token", "longest_programs"]

Floats = npt.NDArray[np.float32]
Run = Callable[[PimProgram, dict[str, Floats]], Result]
Moved = Callable[[str, int], None]


def attend_token(plan: CachePlan, layer: int, tokens: int, scale: np.float32, token: tuple[Floats, Floats, Floats], run: Run,
                 moved: Moved) -> Floats:
    """Append a layer's token, the `tokens`-th, attend to all of them, and return the outputs, (kv_heads · group, dh).

    Parameters
    ----------
    plan : CachePlan
    layer, tokens : int
    scale : float32
    token : tuple of ndarray
        Queries (kv_heads · group, dh), keys and values (kv_heads, dh).
    run : callable
        Runs a program with inputs on all channels.
    moved : callable
        Is told what the host carries from channel to channel: a name and bytes.

    Raises
    ------
    ConfigError
        If there is no room for so many tokens.
    """
    if plan.split == "head-dim":
        return _by_elements(plan, layer, tokens, scale, token, run, moved)
    result = run(attention_program(plan, layer, tokens, scale), attention_inputs(plan, *token))
    merge = merge_program(plan, tokens)
    if merge is not None:
        moved("parts", 2 * sum(data.nbytes for data in result.outputs.values()))        # there and back
        result = run(merge, merge_inputs(plan, result.outputs))
    return attention_outputs(plan, result.outputs)


def _by_elements(plan: CachePlan, layer: int, tokens: int, scale: np.float32, token: tuple[Floats, Floats, Floats], run: Run,
                 moved: Moved) -> Floats:
    given, shape = dims_inputs(plan, *token), (-1, plan.config.rows_x, plan.config.width)
    programs = [scores_program(plan, layer, tokens, stage, scale) for stage in range(stages(plan))]
    for program in (*programs, context_program(plan, layer, tokens, scale)):
        carried = sum(4 * given[stream.name].size for stream in program.inputs if stream.kind == "entries")
        result = run(program, {stream.name: given[stream.name] for stream in program.inputs})
        sums = {name: data.view(np.float32).reshape(shape) for name, data in result.outputs.items() if name[0] == "t"}
        given |= sums
        moved("scores", carried + sum(data.nbytes for data in sums.values()))
    return dims_outputs(plan, result.outputs)


def longest_programs(plan: CachePlan) -> list[PimProgram]:
    """Return the programs of a token at the end of the context: none of an earlier one has more commands.

    Raises
    ------
    ConfigError
        If what the channels make cannot be brought together.
    """
    end, scale = plan.max_tokens, np.float32(1)
    if plan.split == "head-dim":
        scores = [scores_program(plan, 0, end, stage, scale) for stage in range(stages(plan))]
        return [*scores, context_program(plan, 0, end, scale)]
    merge = merge_program(plan, end)
    return [attention_program(plan, 0, end, scale), *([merge] if merge else ())]
