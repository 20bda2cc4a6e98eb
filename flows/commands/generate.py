"""`heddle generate`: a language model writes text on the accelerator, every run compared with the golden device."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flows.commands.common import (
    add_config_arguments,
    add_json_argument,
    config_from,
    console,
    engine_counts,
    figures_table,
    log,
    print_json,
)
from flows.commands.system import system_from
from flows.commands.workload import add_memory_arguments, timing_from
from flows.generate import Generation, generate
from flows.profile import SAMPLE_CYCLES, ProfiledDevice
from sw.engines import default_weights
from sw.generate import CompiledModel, check_length
from sw.kernels.transformer.shape import KV_FORMATS
from sw.kernels.transformer.weight_plan import LINEARS, WeightPlan
from sw.models.llama import LlamaModel
from sw.models.tokenizer import TextStream
from sw.perf import MemoryModel
from sw.sampling import Sampler

__all__ = ["Screen", "add_arguments", "prompt_from", "run"]

_NO_CHARACTER = "\ufffd"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Compile a model of the Llama family for a config and let it go on with a prompt. Embeddings of tokens and the choice of "
        "the next one are the host's work, all else the accelerator's, with activations of int8 and weights in a format that its "
        "engine takes. Every run on the "
        "RTL is repeated by the golden device, and all of memory compared.")
    add_config_arguments(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR",
                        help="a folder with config.json and model.safetensors (or its index)")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="what the model goes on with")
    prompt.add_argument("--prompt-file", type=Path, metavar="FILE", help="the same from a file")
    parser.add_argument("--tokens", type=int, required=True, metavar="N",
                        help="generate so many, or fewer where the model ends the text")
    parser.add_argument("--device", choices=("rtl", "golden"), default="rtl", help="what runs it (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T",
                        help="draw tokens by softmax(logits / T); 0: the greatest logit (default: 0)")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K greatest logits")
    parser.add_argument("--seed", type=int, default=0, help="of drawing tokens, and of stalls (default: %(default)s)")
    parser.add_argument("--context", type=int, metavar="N", help="tokens that the cache holds (default: the model's context)")
    parser.add_argument("--chunk", type=int, metavar="M",
                        help="tokens of the prompt at once, a power of two (default: the most that fit, up to 64)")
    parser.add_argument("--kv", choices=tuple(KV_FORMATS), default="int8",
                        help="format of cached keys and values (default: %(default)s)")
    parser.add_argument("--weights", metavar="FORMAT|PLAN",
                        help="format of the layers' matrices, of those of the config (default: its first packed, else plain); "
                        f"LINEAR=FORMAT,… for some of {', '.join(LINEARS)}; or a .json file with formats for each layer")
    parser.add_argument("--head", metavar="FORMAT", help="format of the output matrix (default: what a file says, else plain)")
    add_memory_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Generate, show text and figures, and return whether everything matched."""
    system = system_from(args)
    if system is not None:
        from flows.commands.generate_system import run_system

        return run_system(args, system)
    config, timing = config_from(args), timing_from(args)
    sampler = Sampler(args.temperature, args.top_k, args.seed)
    prompt = prompt_from(args)
    model = LlamaModel(args.model)
    tokens = model.tokenizer.encode(prompt)
    check_length(len(tokens), args.tokens, model.config.context if args.context is None else args.context)
    model.checkpoint.check_values()
    usual = default_weights(config)
    plan = WeightPlan.read(usual if args.weights is None else args.weights, model.config.layers, default=usual, head=args.head)
    compiled = CompiledModel(config, model.config, model.checkpoint.weights(), context=args.context, chunk=args.chunk,
                             kv=args.kv, plan=plan)
    with Screen(prompt.decode(errors="replace"), TextStream(model.tokenizer), len(tokens), silent=args.json) as screen:
        device = None
        if args.device == "rtl":
            device = ProfiledDevice(config, timing=timing)
            _ = device.build
            if device.build_seconds > 5:
                log.print(f"simulator built in {device.build_seconds:.0f} s")
        screen.fed(0)
        memory = MemoryModel(latency=timing.latency, bandwidth=timing.bandwidth)
        found = generate(compiled, device, tokens, args.tokens, sampler, end_tokens=model.end_tokens, memory=memory,
                         fed=screen.fed, token=screen.token)
    answer = {"config": config.digest(), "model": str(args.model), "device": args.device, "text": screen.text, **found.to_json()}
    if args.json:
        print_json(answer)
    else:
        _show(args, found, answer)
    return found.match is not False


def prompt_from(args: argparse.Namespace) -> bytes:
    """Return the prompt that the arguments give; a ValueError where there is none."""
    if args.prompt_file is None:
        prompt = os.fsencode(args.prompt)       # the bytes that were typed, whether or not they are UTF-8
    elif args.prompt_file.is_file():
        prompt = args.prompt_file.read_bytes()
    else:
        raise ValueError(f"--prompt-file must be a file, not {str(args.prompt_file)!r}")
    if not prompt:
        raise ValueError("the prompt must have at least one character, not none")
    return bytes(prompt)


class Screen:
    """A progress bar on a terminal until the first token, then the prompt and the text as it comes."""

    def __init__(self, prompt: str, stream: TextStream, tokens: int, *, silent: bool):
        self._prompt, self._stream, self._silent = prompt, stream, silent
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=log, transient=True,
                                  disable=not log.is_terminal)
        self._task = self._progress.add_task("building the simulator", total=None)
        self._tokens = tokens
        self._writing = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._begin()
        if self._writing:
            self._write(self._stream.end() + "\n")
        self._progress.stop()

    @property
    def text(self) -> str:
        """What was generated."""
        return self._stream.text

    def fed(self, tokens: int) -> None:
        """Show how many tokens of the prompt are through."""
        self._progress.update(self._task, description=f"prompt of {self._tokens} tokens", total=self._tokens, completed=tokens)

    def token(self, token: int) -> None:
        """Show a token."""
        self._begin()
        self._write(self._stream.push(token))

    def _begin(self) -> None:
        if not self._writing:
            self._writing = True
            self._progress.stop()
            self._write(self._prompt, "dim")

    def _write(self, text: str, style: str | None = None) -> None:
        """Write what a terminal does not take for a command."""
        if not self._silent:
            shown = "".join(c if c in "\n\t" or c.isprintable() else _NO_CHARACTER for c in text)
            console.out(shown, style=style, end="", highlight=False)


def _show(args: argparse.Namespace, found: Generation, answer: dict[str, Any]) -> None:
    """Print the tables: what prompt and tokens took, and where the cycles went."""
    name = f"{args.model.resolve().name} on {args.preset or args.config} ({args.device})"
    table = figures_table(escape(name), "", "prompt", "tokens after it", "each of them")
    for row in _figures(found):
        table.add_row(*row)
    console.print()
    console.print(table)
    kernels = figures_table("cycles by kernel, " + answer["kernels_by"], "kernel", "prompt", "", "each token", "")
    totals = [sum(kernel[key] for kernel in found.kernels) for key in ("prefill_cycles", "cycles_per_token")]
    for kernel in sorted(found.kernels, key=lambda kernel: -kernel["cycles_per_token"]):
        cells = []
        for key, total in zip(("prefill_cycles", "cycles_per_token"), totals, strict=True):
            cells += [f"{kernel[key]:,.0f}", f"{kernel[key] / total:.1%}"] if total else ["–", "–"]
        kernels.add_row(escape(kernel["name"]), *cells)
    console.print(kernels)
    if found.bytes_per_token:
        moved = figures_table("bytes of each token", "", "read", "written")
        for name in {**found.bytes_per_token["read"], **found.bytes_per_token["written"]}:
            moved.add_row(name, *(f"{found.bytes_per_token[way].get(name, 0):,.0f}" for way in ("read", "written")))
        console.print(moved)
    if found.timed:
        console.print(f"cycles: counted by the hardware; by kernel: its program counter every {SAMPLE_CYCLES} cycles")
        console.print("match: all memory after every run, logits included, against the golden device")
    else:
        console.print("the golden device has no time: cycles are predicted")
    if found.ended:
        console.print("the model ended the text")
    if found.replay:
        console.print(f"[red]the RTL differs from the golden device[/]; see: heddle replay {escape(found.replay)}")


def _figures(found: Generation) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the first table: figure, of the prompt, of the tokens after it, of each of them."""
    parts, runs = (found.prefill, found.decode), found.decode.runs

    def row(name: str, *values: float | None, form: str = ",.0f") -> tuple[str, str, str, str]:
        cells = ["–" if value is None else format(value, form) for value in values]
        return name, cells[0], cells[1], cells[2] if len(cells) > 2 else ""

    def each(name: str, values: Sequence[float]) -> tuple[str, str, str, str]:
        return row(name, *values, values[1] / runs if runs else None)

    yield row("tokens", *(part.tokens for part in parts))
    if found.timed:
        yield each("cycles", [part.cycles for part in parts])
    yield each("cycles, predicted", [part.predicted_cycles for part in parts])
    yield each("MACs", [part.counters["macs"] for part in parts])
    for counter, counts in engine_counts(found.compiled.config, *(part.counters for part in parts)):
        yield each(counter.name.replace("_", " "), counts)
    if found.timed:
        yield row("utilization", *(found.utilization(part) for part in parts), form=".1%")
        read = [part.counters["bytes_read"] for part in parts]
        yield each("bytes read", read)
        weights = found.compiled.weight_bytes
        yield row(f"of the weights' {weights:,}", *(total / weights for total in read),
                  read[1] / runs / weights if runs else None, form=".2f")
        seconds = [part.seconds for part in parts]
        yield each("bytes written", [part.counters["bytes_written"] for part in parts])
        yield row("seconds of simulation", *seconds, seconds[1] / runs if runs else None, form=".2f")
        yield row("tokens/s of simulation", *(part.tokens / part.seconds if part.runs else None for part in parts), form=".2f")
        verdict = "exact" if found.match else "DIFFERS"
        yield "match", verdict, verdict, ""
