"""The command line, `heddle`: one module of `flows.commands` for each command."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "list": "presets of arrays, PIMs and systems, engines, processing elements, formats, workloads",
    "emit": "write the Verilog of a config",
    "run": "run a GEMM or a workload on the RTL, compared with the golden device",
    "diagram": "draw a block diagram of a config",
    "trace": "show cycle by cycle what each unit of a run does and waits for",
    "synth": "synthesize for an FPGA or in standard cells: area, depth, timing",
    "report": "estimates of speed per area and energy per MAC",
    "inject": "inject faults into a design while it works: what they do, how sure that is, which ASIL it reaches",
    "harden": "choose what to protect for a target at the least area, and inject into the result again",
    "replay": "run a saved case again and name the first mismatch",
    "formats": "number formats: sizes, packed words, code tables",
    "quantize": "quantize a checkpoint: layer by layer, with the error of each",
    "generate": "let a language model write text on the RTL, compared with the golden device",
    "embed": "sentences become vectors on the RTL, compared with the golden device and the float32 model",
    "plan": "a format for each linear of each layer, by the sensitivity of its channels",
    "eval": "bits per byte or perplexity of a model with its numbers quantized",
    "sparsity": "quality of a model against the density of its weights",
    "reproduce": "figures of a paper beside ours",
}
"""Command → one line; its module has `add_arguments(parser)` and `run(args) -> bool`."""

HELD, FAILED, REFUSED, INTERRUPTED, CLOSED = 0, 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if it held, 1 if not or if the device or a tool failed, 2 if the request was impossible.

    Interrupted 130; 141 where standard output was closed before everything was written.
    """
    try:
        with _terminated_as_interrupted():
            return _run(arguments)
    except KeyboardInterrupt:
        return _say(KeyboardInterrupt("interrupted"), INTERRUPTED)
    except BrokenPipeError:             # `heddle formats | head`: whoever read has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Take SIGTERM as an interrupt, so that what is half done is removed; in a thread, where handlers cannot be set, not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: Sequence[str] | None) -> int:
    # Here, because they take a moment in which an interrupt must be as clean as later.
    from flows.native_sim import BusError
    from flows.pim.sim import PimHang
    from flows.toolchain import ToolError
    from sw.device import DeviceError
    from sw.models.minilm import ModelMissing
    from sw.pim.device import PimError
    from sw.pim.dram import DramViolation

    parser = argparse.ArgumentParser(
        prog="heddle", description="LLM-accelerator RTL from Python, held bit-exact to numpy golden models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, line in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        module = importlib.import_module(f"flows.commands.{name}")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        held = args.run(args)
        sys.stdout.flush()
        return HELD if held else FAILED
    except BrokenPipeError:
        raise
    except (ValueError, TypeError) as error:
        return _say(error, REFUSED)
    except (ToolError, DeviceError, BusError, ModelMissing, PimError, PimHang, DramViolation, OSError) as error:
        return _say(error, FAILED)


def _say(error: BaseException, status: int) -> int:
    # What was being built is dropped half done; Amaranth would warn of each part that was not used.
    warnings.filterwarnings("ignore", message=".* created but never used")
    print("\n".join([f"heddle: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
