"""Bytes that the hardware counts for tokens after a prompt, against the formula and the program."""

from typing import Any

import pytest

from hw.config import AcceleratorConfig
from hw.timing import FETCH_LINE_BYTES
from sw.generate import CompiledModel, arguments
from sw.kernels.transformer.traffic import code_bytes, decode_bytes
from sw.models.llama import LlamaModel

__all__ = ["check_bytes"]


def check_bytes(answer: dict[str, Any], config: AcceleratorConfig, model: LlamaModel, **options: Any) -> None:
    """Check the answer of `heddle generate --json` on the RTL; `options` are those of the compiled model.

    All bytes written, and all read but whole lines of instructions, which are between what a run executes and what may be read
    ahead.
    """
    compiled = CompiledModel(config, model.config, model.checkpoint.weights(), **options)
    counted, first = answer["counters"]["decode"], answer["prompt_tokens"]
    positions = range(first, first + len(answer["tokens"]) - 1)
    found = [decode_bytes(config, compiled.memory, position, resync=position == first) for position in positions]
    assert counted["bytes_written"] == sum(token.bytes_written for token in found)
    instructions = counted["bytes_read"] - sum(token.bytes_read for token in found)
    bounds = [code_bytes(config, compiled.decode, arguments(compiled.decode, position, 1, resync=position == first))
              for position in positions]
    assert sum(least for least, _ in bounds) <= instructions <= sum(most for _, most in bounds)
    assert instructions % FETCH_LINE_BYTES == 0
    assert answer["bytes_per_token"]["read"]["instructions"] == pytest.approx(instructions / len(positions))
