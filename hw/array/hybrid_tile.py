"""What the blocks of the hybrid engine tell each other: tiles, jobs of the weight reader, tags that travel beside the array."""

from amaranth.lib import data

from hw.array.tile import running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.hybrid import PASS_ROWS, block_shapes, cluster_slots
from hw.isa import DESCRIPTORS, Unit

__all__ = ["hybrid_tag_layout", "hybrid_tile_layout", "largest_passes", "weight_job_layout"]

_WIDTHS = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}


def largest_passes(config: AcceleratorConfig) -> int:
    """Return the passes of the largest block that the config has."""
    return max(shape.passes for shape in block_shapes(config))


def hybrid_tile_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a tile, N rows of K by N columns, with all slots that are streamed against it.

    `packed`: its weights are words of the weight reader, whose scales are shifts (`shifts`) or factors; else they are plain, and
    go on where the last tile's ended with `resume`. `clusters`: it runs on the clusters. `first_pass`, `last_pass` of its block,
    `block_end`: nothing more needs the block's scales. `steps`: tokens, from token 0 of a piece on. `rows`: valid ones; 0 where
    only padding of the block is left. `accumulate`, `last` of its command, `bank`: as in `hw.array.tile`.
    """
    return data.StructLayout({
        "packed": 1, "shifts": 1, "clusters": 1, "first_pass": 1, "last_pass": 1, "block_end": 1, "resume": 1, "accumulate": 1,
        "last": 1, "bank": 1,
        "activation_addr": running_address("activation_addr"),
        "activation_stride": _WIDTHS["activation_stride"],
        "weight_addr": running_address("weight_addr"),
        "weight_stride": _WIDTHS["weight_stride"],
        "acc_addr": running_address("acc_addr"),
        "steps": _WIDTHS["m"],
        "rows": range(config.rows + 1),
        "columns": range(config.columns + 1),
    })


def weight_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a command's job for the weight reader.

    Records for `groups` of outputs, `tile_stride` bytes from one's first to the next one's, `blocks` records each; each record is
    read `repeats` + 1 times and has `beats` of elements. With `stream` they come from the load unit. `shifts`: their scales are.
    """
    return data.StructLayout({
        "addr": _WIDTHS["weight_addr"], "tile_stride": _WIDTHS["weight_tile_stride"], "groups": _WIDTHS["n"],
        "blocks": _WIDTHS["k"], "repeats": _WIDTHS["m"], "beats": 16, "stream": 1, "shifts": 1,
    })


def hybrid_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of the tag of a slot: what the foot does with its psums.

    `index`: token of its piece, or slot of its tile on the clusters. The others are those of its tile; `block_end` and `last`
    only of the tile's last slot.
    """
    return data.StructLayout({
        "packed": 1, "shifts": 1, "first_pass": 1, "last_pass": 1, "block_end": 1, "accumulate": 1, "last": 1,
        "addr": ceil_log2(config.accumulator_rows),
        "index": ceil_log2(max(PASS_ROWS if largest_passes(config) > 1 else 2, cluster_slots(config))),
    })
