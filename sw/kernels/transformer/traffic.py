"""Bytes that one token moves between the accelerator and DRAM, term by term, where its activations stay on the chip.

P·bits/8 for the weights, once; the cache, read and appended; and what a token begins and ends with. What the bus rounds up to
whole beats is in each term. Instructions are fetched through a cache that reads ahead: how far it gets before the sequencer
branches away depends on time, so that they have a least and a most.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from hw.timing import FETCH_LINE_BYTES, fetch_ahead
from sw.golden.sequencer import run_sequencer
from sw.kernels.transformer.decoder import DecoderMemory, value_span
from sw.kernels.transformer.layer_linears import head_linear, layer_linears
from sw.kernels.transformer.linear_shape import Linear
from sw.kernels.transformer.shape import ShapeError
from sw.layout import round_up
from sw.program import Program

__all__ = ["DecodeBytes", "code_bytes", "decode_bytes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeBytes:
    """Bytes of one token.

    Attributes
    ----------
    read : dict of str to int
        "weights" (packed, scales of blocks included), "column scales", "keys and values", "scales of keys and values" (with zero
        points), "beats of new scales" (loaded to have a word written into each), "embedding", "angles".
    written : dict of str to int
        "keys and values", "beats of new scales", "logits".
    """

    read: dict[str, int]
    written: dict[str, int]

    @property
    def bytes_read(self) -> int:
        """All that is read but instructions."""
        return sum(self.read.values())

    @property
    def bytes_written(self) -> int:
        """All that is written."""
        return sum(self.written.values())


def decode_bytes(config: AcceleratorConfig, memory: DecoderMemory, position: int, *, resync: bool = False) -> DecodeBytes:
    """Return the bytes of the token at `position`, in a program of one token with its logits.

    resync: angles, where a source on the chip makes them, are set to the position.

    Raises
    ------
    ShapeError
        If activations of this model do not stay on this config's chip: what they move in DRAM has no such formula.
    """
    on_chip = memory.on_chip(config)
    if on_chip is None:
        raise ShapeError(f"activations must stay on the chip for a formula of bytes, not need more than the config's "
                         f"{config.scratchpad_bytes} scratchpad bytes")
    shape, beat, kv = on_chip.shape, config.beat_bytes, on_chip.shape.kv
    head = head_linear(config, shape, 1, memory.plan.head)
    linears = [(len(run.layers), linear, value_span(shape, linear) if name == "qkv" else (linear.n,)) for run in memory.runs
               for name, linear in layer_linears(config, shape, memory.gate_tile, run.formats).items()]
    words, row = 2 if kv.bits == 4 else 1, shape.head_dim * kv.bits // 8
    tokens = position + 1
    tiles = [min(shape.key_tile, tokens - first) for first in range(0, tokens, shape.key_tile)]
    layers, heads = shape.layers, kv.heads
    beats = layers * 2 * heads * words * beat
    angles = 8 * shape.head_dim * resync if memory.makes_angles(config) else 4 * shape.head_dim
    return DecodeBytes(
        read={
            "weights": sum(count * linear.layout.size for count, linear, _ in linears) + head.layout.size,
            "column scales": sum(count * _scale_bytes(config, linear, spans) for count, linear, spans in linears)
            + _scale_bytes(config, head, (head.n,)),
            "keys and values": layers * 2 * heads * tokens * round_up(row, beat),
            "scales of keys and values": layers * heads * 2 * words * sum(round_up(4 * tile, beat) for tile in tiles),
            "beats of new scales": beats,
            "embedding": round_up(4 * shape.hidden, beat),
            "angles": round_up(angles, beat),
        },
        written={"keys and values": layers * 2 * heads * row, "beats of new scales": beats, "logits": 4 * shape.vocab})


def _scale_bytes(config: AcceleratorConfig, linear: Linear, spans: Iterable[int]) -> int:
    """Return the bytes of a linear's column scales, those of each tile of a span in whole beats."""
    return sum(round_up(4 * min(linear.tile_n, span - first), config.beat_bytes)
               for span in spans for first in range(0, span, linear.tile_n))


def code_bytes(config: AcceleratorConfig, program: Program, args: Mapping[str, int]) -> tuple[int, int]:
    """Return the bytes of the instructions that a run fetches: those that it executes, and with all that may be read ahead."""
    last = ceil_div(program.code_bytes, FETCH_LINE_BYTES) - 1
    entered = [line for event in run_sequencer(program.code, program.argument_values(args), parity=program.parity)
               for line, _ in event.lines]
    found = []
    for ahead in (0, fetch_ahead(config.command_lines)):
        cache: dict[int, int] = {}
        fetched = 0
        for entry in entered:
            for line in range(entry, min(entry + ahead, last) + 1):
                if cache.get(line % config.command_lines) != line:
                    cache[line % config.command_lines] = line
                    fetched += 1
        found.append(FETCH_LINE_BYTES * fetched)
    return min(found), max(found)

