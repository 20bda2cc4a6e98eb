"""`heddle embed`: sentences become vectors on the accelerator, every run compared with the golden device."""

import argparse
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flows.commands.common import add_config_arguments, add_json_argument, config_from, console, figures_table, log, print_json
from flows.commands.workload import add_memory_arguments, timing_from
from flows.embed import Embeddings, embed
from flows.profile import SAMPLE_CYCLES, ProfiledDevice
from sw.embed import CompiledEncoder
from sw.models.minilm import MiniLM
from sw.models.sentence_model import SentenceModel
from sw.perf import MemoryModel

__all__ = ["add_arguments", "run"]

_OWN = "minilm"
_SHOWN = 28                 # characters of a text
_NO_CHARACTER = "\ufffd"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Compile a sentence transformer (BERT, mean over the tokens, length one) for a config and embed texts. The host looks up "
        "word embeddings, all else is the accelerator's work, with weights, activations, keys and values of int8. Every vector "
        "is compared with the float32 model's; every run on the RTL is repeated by the golden device, and all of memory "
        "compared.")
    add_config_arguments(parser)
    parser.add_argument("--model", default=_OWN, metavar="DIR",
                        help="a folder with config.json, tokenizer.json and model.safetensors (or its index), or "
                        "`minilm`: all-MiniLM-L6-v2 (default: %(default)s)")
    parser.add_argument("--text", nargs="+", action="extend", required=True, metavar="TEXT",
                        help="what to embed; may be given several times")
    parser.add_argument("--device", choices=("rtl", "golden"), default="rtl", help="what runs it (default: %(default)s)")
    parser.add_argument("--chunk", type=int, metavar="M",
                        help="tokens at once, a power of two (default: the most that fit, up to 64)")
    parser.add_argument("--weights", metavar="FORMAT",
                        help="format of the layers' matrices, of those of the config (default: its first packed one, else plain)")
    parser.add_argument("--seed", type=int, default=0, help="of stalls (default: %(default)s)")
    add_memory_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Embed, show the figures, and return whether everything matched."""
    config, timing = config_from(args), timing_from(args)
    model = MiniLM() if args.model == _OWN else SentenceModel(Path(args.model))
    sentences = [model.sentence(text) for text in args.text]
    model.checkpoint.check_values()
    compiled = CompiledEncoder(config, model.config, model.weights, chunk=args.chunk, weight_format=args.weights)
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=log, transient=True,
                  disable=not log.is_terminal) as progress:
        task = progress.add_task("building the simulator", total=None)
        device = None
        if args.device == "rtl":
            device = ProfiledDevice(config, timing=timing)
            _ = device.build
            if device.build_seconds > 5:
                log.print(f"simulator built in {device.build_seconds:.0f} s")
        progress.update(task, description="texts", total=len(sentences), completed=0)
        found = embed(compiled, device, sentences, memory=MemoryModel(latency=timing.latency, bandwidth=timing.bandwidth),
                      done=lambda count: progress.update(task, completed=count))
    answer = {"config": config.digest(), "model": args.model, "device": args.device, **found.to_json()}
    for text, sentence in zip(args.text, answer["sentences"], strict=False):
        sentence["text"] = text
    if args.json:
        print_json(answer)
    else:
        _show(args, found, answer)
    return found.match is not False


def _show(args: argparse.Namespace, found: Embeddings, answer: dict[str, Any]) -> None:
    """Print the tables: the texts, how alike they are, and where the cycles went."""
    name = args.model if args.model == _OWN else Path(args.model).resolve().name
    table = figures_table(escape(f"{name} on {args.preset or args.config} ({args.device})"), "text", "tokens", "cosine",
                   "cycles", "predicted", "util", "sim s")
    for sentence in answer["sentences"]:
        cycles, used = sentence["cycles"], sentence["utilization"]
        table.add_row(escape(_short(sentence["text"])), f"{sentence['tokens']}", f"{sentence['cosine']:.5f}",
                      f"{cycles:,}" if cycles else "–", f"{sentence['predicted_cycles']:,}", f"{used:.1%}" if used else "–",
                      f"{sentence['run_seconds']:.1f}" if cycles else "–")
    console.print(table)
    console.print("cosine: with the float32 model's vector; util: useful MACs / cycles / peak")
    if len(found.sentences) > 1:
        alike = figures_table("cosines between the texts", "", *(str(i + 1) for i in range(len(found.sentences))))
        for i, row in enumerate(answer["similarity"]):
            alike.add_row(f"{i + 1}  {escape(_short(args.text[i]))}", *(f"{value:.3f}" for value in row))
        console.print(alike)
    kernels = figures_table("cycles by kernel, " + answer["kernels_by"], "kernel", "cycles", "")
    total = sum(found.kernels.values())
    for name, cycles in sorted(found.kernels.items(), key=lambda kernel: -kernel[1]):
        kernels.add_row(escape(name), f"{cycles:,}", f"{cycles / total:.1%}")
    console.print(kernels)
    if found.timed:
        console.print(f"cycles: counted by the hardware; by kernel: its program counter every {SAMPLE_CYCLES} cycles")
        console.print(f"all memory after every run, against the golden device: {'exact' if found.match else 'DIFFERS'}")
    else:
        console.print("the golden device has no time: cycles are predicted")
    if found.replay:
        console.print(f"[red]the RTL differs from the golden device[/]; see: heddle replay {escape(found.replay)}")


def _short(text: str) -> str:
    line = "".join(c if c.isprintable() else _NO_CHARACTER for c in " ".join(text.split()))
    return line if len(line) <= _SHOWN else line[:_SHOWN - 1] + "…"
