"""Papers whose figures are compared with ours: one module of this package for each.

A module has `rows(options: Options) -> Iterator[Row]`, cheapest rows first. `Row.ours` is computed or measured there, never
typed in; a row that needs an option which was not given is made by `not_asked`.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

from flows.reproduce.options import Options
from flows.reproduce.row import GRADES, Row, Value, not_asked

__all__ = ["GRADES", "PAPERS", "Options", "Paper", "Row", "Value", "not_asked", "rows_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """A paper that `heddle reproduce` knows.

    Attributes
    ----------
    doc : str
        What is compared, in one line.
    source : str
        Authors, title, where it was published.
    module : str
        Module with `rows`.
    options : tuple of str
        Fields of `Options` that its rows use.
    """

    doc: str
    source: str
    module: str
    options: tuple[str, ...] = ()


PAPERS: dict[str, Paper] = {
    "highlight": Paper(
        doc="degrees of sparsity, cycles and speedups of every mode, area of its features, quality of patterns",
        source="Wu et al., HighLight, MICRO 2023 (abstract and slides)", module="flows.reproduce.highlight",
        options=("model", "windows", "rtl", "liberty")),
    "tasd": Paper(
        doc="what a series of structured terms loses, its speedup, series chosen for each matrix of a model",
        source="Jeong et al., TASD, MLSys 2025 (abstract)", module="flows.reproduce.tasd", options=("model", "windows")),
    "sdq": Paper(
        doc="effective throughput, bits and quality of int8 outliers with FP4 inliers",
        source="Jeong et al., SDQ, arXiv 2406.13868 (abstract)", module="flows.reproduce.sdq",
        options=("model", "windows", "liberty")),
    "sparseloop": Paper(
        doc="cycles of sparse cores: an Eyeriss-v2 PE, DSTC and structured tensor cores; density models",
        source="Wu et al., Sparseloop, MICRO 2022, and its artifact", module="flows.reproduce.sparseloop", options=("data",)),
    "duplex": Paper(
        doc="rates and rows of Logic-PIM, break-even tokens of an expert, decode throughput",
        source="Yun et al., Duplex, MICRO 2024", module="flows.reproduce.duplex"),
    "attacc": Paper(
        doc="attention next to the banks: DRAM clocks of the authors' simulator",
        source="Park et al., AttAcc, ASPLOS 2024, and its simulator's results", module="flows.reproduce.attacc"),
    "p3llm": Paper(
        doc="clocks of linear layers on 4-bit weights, rooflines, ranges of its formats",
        source="Chen et al., P3-LLM, arXiv 2511.06838, and its public simulator", module="flows.reproduce.p3llm"),
    "amma": Paper(
        doc="collectives of 16 cubes, bandwidth at a million tokens",
        source="AMMA, arXiv 2604.26103, and documents of a simulator", module="flows.reproduce.amma"),
    "hbm-pim": Paper(
        doc="rates and rows, a matrix-vector product by micro-instructions",
        source="Lee et al., HBM-PIM, ISCA 2021, and its public simulator", module="flows.reproduce.hbm_pim",
        options=("rtl",)),
    "bitmod": Paper(
        doc="cycles of terms, groups and layers, bits of a weight, areas of PEs, quality of its formats",
        source="Chen et al., BitMoD, HPCA 2025 (arXiv 2411.11745), and its authors' simulator", module="flows.reproduce.bitmod",
        options=("model", "windows", "rtl", "liberty")),
    "bbs": Paper(
        doc="cycles of bit columns, compression, speedups over Stripes, area of a PE, quality of its formats",
        source="Chen et al., BBS, MICRO 2024 (arXiv 2409.05227), and its authors' BitSim RTL", module="flows.reproduce.bbs",
        options=("model", "windows", "rtl", "liberty")),
    "hsa": Paper(
        doc="bytes of weights, utilization in prefill and decode, decode rates by bandwidth, tokens/s/mm²; design inferred",
        source="Hybrid Systolic Array, arXiv 2507.09010 (abstract)", module="flows.reproduce.hsa", options=("liberty",)),
}
"""Name → paper, in the order of `heddle reproduce --list`."""


def rows_of(name: str, options: Options) -> Iterator[Row]:
    """Return the rows of a paper, made as they are asked for.

    Raises
    ------
    ValueError
        If there is no such paper, or an option is given that none of its rows uses.
    """
    if name not in PAPERS:
        raise ValueError(f"PAPER must be one of {', '.join(PAPERS)}, not {name!r}")
    paper = PAPERS[name]
    for option in options.given:
        if option not in paper.options:
            uses = f"only --{', --'.join(paper.options)}" if paper.options else "no options"
            raise ValueError(f"heddle reproduce {name} must go without --{option}: its rows use {uses}")
    if options.windows is not None and options.model is None:
        raise ValueError("--windows must go with --model DIR: they are of text that a model predicts")
    rows: Iterator[Row] = importlib.import_module(paper.module).rows(options)
    return rows
