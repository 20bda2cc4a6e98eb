"""Where a quantized checkpoint goes: one file, or a folder with what lies beside the weights."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sw.checkpoint.plan import Step, Way
from sw.checkpoint.stored import CheckpointError
from sw.checkpoint.swap import beside, swap_folder
from sw.packing import row_bytes

__all__ = ["WEIGHTS", "check_output", "companions", "opened_output", "output_bytes"]

WEIGHTS = "model.safetensors"
"""Name of the weights in a folder."""

_COMPANIONS = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"}
_HEADER = 1 << 20


def companions(folder: Path, out: Path) -> list[Path]:
    """Return what a model's folder holds besides weights, relative to it: configuration, tokenizer, text; nothing of `out`."""
    own, inside = out.resolve(), folder.resolve()
    names = (path.relative_to(folder) for path in folder.rglob("*")
             if path.is_file() and path.suffix in _COMPANIONS and not path.name.endswith(".index.json"))
    return sorted(name for name in names if not any(part.startswith(".") for part in name.parts)
                  and not (own.is_relative_to(inside) and (inside / name).is_relative_to(own)))


def output_bytes(steps: Sequence[Step]) -> int:
    """Return about how many bytes the output has; at least as many for formats whose size the data decide."""
    total = _HEADER
    for step in steps:
        tensor = step.tensor
        if step.format is None:
            total += 4 * tensor.size if step.way is Way.DECODE else tensor.nbytes
            continue
        columns = tensor.shape[step.axis]
        rows = tensor.size // columns
        padded = -(-columns // max(1, step.format.block)) * max(1, step.format.block)
        total += rows * (row_bytes(step.format, padded) + 4 * len(step.format.side))
    return total


def check_output(out: Path, model: Path, steps: Sequence[Step], *, force: bool) -> None:
    """Refuse an output that cannot be written, or must not.

    Raises
    ------
    CheckpointError
        If it exists and `force` is false, is the model itself or the working folder, lies in no folder, or the disk is too small.
    """
    if out.suffix != ".safetensors" and ((out.exists() and not out.is_dir()) or not out.resolve().name):
        raise CheckpointError(f"OUT must be a folder or end in .safetensors, not the file {str(out)!r}")
    if out.suffix == ".safetensors" and out.is_dir():
        raise CheckpointError(f"OUT must not be a folder if it ends in .safetensors, as {str(out)!r} does")
    if out.exists() and not force:
        raise CheckpointError(f"OUT must not exist yet, unless --force is given: {str(out)!r}")
    target = (out if out.suffix == ".safetensors" else out / WEIGHTS).resolve()
    if target in {step.tensor.file.resolve() for step in steps} or out.resolve() == model.resolve():
        raise CheckpointError(f"OUT must not be MODEL itself: {str(out)!r}")
    if out.is_dir() and out.resolve() == Path.cwd():
        raise CheckpointError(f"OUT must not be the working folder, because it is replaced: {str(out)!r}")
    parent = out.resolve().parent
    if not parent.is_dir():
        raise CheckpointError(f"OUT must lie in a folder that exists, not {str(out)!r}")
    needed, free = output_bytes(steps), shutil.disk_usage(parent).free
    if needed > free:
        raise CheckpointError(f"OUT needs about {needed:,} bytes, but {str(parent)!r} has {free:,} free")


@contextlib.contextmanager
def opened_output(out: Path, model: Path, note: dict[str, object]) -> Iterator[Path]:
    """Enter the file to write the weights to; when the block ends well, OUT is there whole, else it is as it was.

    A folder gets the companions of a model's folder too, and `note` as "quantization" in its config.json. One that exists is
    replaced at once; files that only the old one has stay.
    """
    if out.suffix == ".safetensors":
        yield out
        return
    out = out.resolve()
    work = beside(out)
    work.mkdir()
    try:
        yield work / WEIGHTS
        if model.is_dir():
            for name in companions(model, out):
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model / name, work / name)
            _note(work / "config.json", note)
        if out.exists():
            swap_folder(work, out)
        else:
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _note(config: Path, note: dict[str, object]) -> None:
    """Add `note` to a config.json, if there is one with a JSON object."""
    with contextlib.suppress(OSError, ValueError):
        fields = json.loads(config.read_text())
        if isinstance(fields, dict):
            config.write_text(json.dumps({**fields, "quantization": note}, indent=2) + "\n")
