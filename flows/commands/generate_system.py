"""`heddle generate` on a system: an array reads the prompt, array and PIM write, every run compared with the golden devices."""

import argparse
from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from flows.commands.common import console, figures_table, log, print_json
from flows.commands.workload import timing_from
from flows.pim.rtl_device import RtlPimDevice
from flows.rtl_device import RtlDevice
from flows.system import SystemGeneration, generate_on_system
from hw.system import SystemConfig
from sw.generate import check_length
from sw.models.llama import LlamaModel
from sw.models.tokenizer import TextStream
from sw.sampling import Sampler
from sw.system import CompiledSystem

__all__ = ["run_system"]


def run_system(args: argparse.Namespace, config: SystemConfig) -> bool:
    """Generate, show text and figures, and return whether everything matched."""
    from flows.commands.generate import Screen, prompt_from

    for name, given in (("--kv", args.kv != "int8"), ("--weights", args.weights is not None), ("--head", args.head is not None)):
        if given:
            raise ValueError(f"{name} is for an array alone; a system has int8 on its array and {config.pim.wtype} on its PIM")
    timing, sampler, prompt = timing_from(args), Sampler(args.temperature, args.top_k, args.seed), prompt_from(args)
    model = LlamaModel(args.model)
    tokens = model.tokenizer.encode(prompt)
    check_length(len(tokens), args.tokens, model.config.context if args.context is None else args.context)
    model.checkpoint.check_values()
    compiled = CompiledSystem(config, model.config, model.checkpoint.weights(), context=args.context, chunk=args.chunk)
    with Screen(prompt.decode(errors="replace"), TextStream(model.tokenizer), len(tokens), silent=args.json) as screen:
        devices = None
        if args.device == "rtl":
            pim = RtlPimDevice(config.pim, config.channels, longest_list=compiled.longest_list)
            devices = RtlDevice(config.array, timing=timing), pim
            _ = devices[0].build
            devices[1].build()
            if devices[0].build_seconds > 5:
                log.print(f"simulator of the array built in {devices[0].build_seconds:.0f} s")
        screen.fed(0)
        found = generate_on_system(compiled, devices, tokens, args.tokens, sampler, end_tokens=model.end_tokens, fed=screen.fed,
                                   token=screen.token)
    answer = {"config": config.digest(), "model": str(args.model), "device": args.device, "text": screen.text, **found.to_json()}
    if args.json:
        print_json(answer)
    else:
        _show(args, found, answer)
    return found.match is not False


def _show(args: argparse.Namespace, found: SystemGeneration, answer: dict[str, Any]) -> None:
    """Print what each device took, and each kernel."""
    name = f"{args.model.resolve().name} on {args.preset or args.config} ({args.device})"
    table = figures_table(escape(name), "", "prompt", "each token after it")
    for row in _figures(found):
        table.add_row(*row)
    console.print()
    console.print(table)
    kernels = figures_table(f"cycles by kernel, {answer['cycles_by']}", "device", "kernel", "prompt", "each token")
    for kernel in answer["kernels"]:
        kernels.add_row(kernel["device"], escape(kernel["name"]), f"{kernel['prefill_cycles']:,.0f}",
                        f"{kernel['cycles_per_token']:,.0f}")
    console.print(kernels)
    config = found.compiled.config
    if found.timed:
        console.print("match: the array's whole memory after every run, the PIM's results and rows, against the golden devices")
    else:
        console.print("the golden devices have no time: cycles are predicted")
    console.print(f"cycles: each device's own ({config.pim.clock_mhz} MHz for the PIM); of transfers those of a link of "
                  f"{config.link_bytes} bytes a cycle, which is a model")
    if found.ended:
        console.print("the model ended the text")
    if found.differs:
        console.print(f"[red]the RTL differs from the golden device[/]: {escape(found.differs)}")


def _figures(found: SystemGeneration) -> Iterator[tuple[str, str, str]]:
    prompt, decode = found.prefill, found.decode
    steps = decode.tokens

    def each(total: int) -> str:
        return f"{total / steps:,.0f}" if steps else "–"

    yield "tokens", f"{prompt.tokens:,}", f"{steps:,} of them" if steps else "–"
    for device, name in (("array", "cycles, array"), ("pim", "cycles, PIM"), ("transfer", "cycles, transfers")):
        yield name, f"{prompt.cycles[device]:,}", each(decode.cycles[device])
    yield "bytes moved", f"{prompt.nbytes['transfer']:,}", each(decode.nbytes["transfer"])
    yield "runs, array and PIM", f"{prompt.runs['array']:,}", each(decode.runs["array"] + decode.runs["pim"])
    if found.match is not None:
        verdict = "exact" if found.match else "DIFFERS"
        yield "match", verdict, verdict
