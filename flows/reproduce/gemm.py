"""Cycles of one GEMM on a whole accelerator, for rows that set engines side by side."""

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from sw.kernels.spec import GemmSpec
from sw.workloads import Workload

__all__ = ["SHAPES", "gemm_cycles", "how"]

SHAPES = {"prefill": (128, 768, 768), "decode": (1, 768, 768)}
"""Phase → M, N, K of a linear layer."""


def gemm_cycles(config: AcceleratorConfig, weights: str, shape: tuple[int, int, int], *, rtl: bool) -> int:
    """Return the cycles of a weight-stationary GEMM from doorbell to interrupt, predicted or on the RTL.

    Raises
    ------
    ValueError
        If the RTL does not compute what the golden device does.
    """
    m, n, k = shape
    workload = Workload(name="layer", doc="one GEMM", weights=weights,
                        shapes=(("layer", GemmSpec(m=m, n=n, k=k, per_channel=True, b="packed")),))
    gemm = measure(workload, config, RtlDevice(config) if rtl else None, dataflow="ws").gemms[0]
    if gemm.match is False:
        raise ValueError(f"a GEMM in {weights} must come out of the RTL as of the golden model; see: heddle replay {gemm.replay}")
    return gemm.cycles if rtl else gemm.predicted_cycles


def how(rtl: bool) -> str:
    """Return how a row says where its cycles come from."""
    return "simulated" if rtl else "predicted (with --rtl: simulated)"
