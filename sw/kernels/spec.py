"""What a GEMM is, before anybody decides how to run it: shapes, storage forms, epilogue; and how its operands lie in DRAM."""

from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from sw.layout import (
    MatrixLayout,
    column_matrix,
    output_rows,
    packed_weights,
    parameter_rows,
    row_activations,
    weight_rows,
)

__all__ = ["A_FORMS", "B_FORMS", "GemmSpec", "SpecError", "groups_apart", "operand_layouts"]

A_FORMS = ("rows", "transposed")
B_FORMS = ("packed", "rows", "transposed")
OUTPUTS = {"int8": 8, "float32": 32}
DATAFLOW_CHOICES = ("ws", "os", "auto")
LARGEST = 1 << 24           # of a dimension; keeps every byte count within 32 bits of address arithmetic


class SpecError(ValueError):
    """A GEMM that cannot be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmSpec:
    """C = (A · B + bias) · scale, for `batch` independent pairs of matrices; as int8 (requantized) or as float32.

    With floating-point activations A · B · scale + bias.

    Attributes
    ----------
    m, n, k : int
        M rows of activations, N outputs, K reduction.
    batch : int
        Independent matrices of the same shape; bias and scales are shared.
    a : str
        "rows": A is given as M×K. "transposed": as K×M.
    b : str
        "packed": constant weights in tiles of the array. "rows": K×N. "transposed": N×K (int8 weights only).
    dataflow : str
        "ws", "os" or "auto".
    bias : bool
        Add an int32 bias to each output channel; a float32 one with floating-point activations.
    per_channel : bool
        A float32 scale for each output channel, instead of one for all.
    relu : bool
        Clamp at zero from below.
    output : str
        "int8", rounded to nearest even and saturated, or "float32", which takes a vector unit for transformers.
    weights : str
        Format of B, one of the config's `weight_formats`; B is packed then, of one matrix, with a scale for each output.
        "": plain integers.
    """

    m: int
    n: int
    k: int
    batch: int = 1
    a: str = "rows"
    b: str = "packed"
    dataflow: str = "auto"
    bias: bool = False
    per_channel: bool = False
    relu: bool = False
    output: str = "int8"
    weights: str = ""

    def __post_init__(self) -> None:
        for name in ("m", "n", "k", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"GemmSpec.{name} must be an integer, not {value!r}")
            self._must(name, 1 <= value <= LARGEST, f"between 1 and {LARGEST}")
        self._must("output", self.output in OUTPUTS, f"one of {', '.join(OUTPUTS)}")
        size = self.batch * (self.m * self.k + self.k * self.n + self.m * self.n * self.output_bits // 8)
        if size >= 1 << 32:
            raise SpecError(f"a GEMM's matrices must fit into 32 bits of address together, not {size} bytes "
                            f"({self.m}×{self.n}×{self.k}, batch {self.batch})")
        self._must("a", self.a in A_FORMS, f"one of {', '.join(A_FORMS)}")
        self._must("b", self.b in B_FORMS, f"one of {', '.join(B_FORMS)}")
        self._must("dataflow", self.dataflow in DATAFLOW_CHOICES, f"one of {', '.join(DATAFLOW_CHOICES)}")
        if self.weights:
            self._must("b", self.b == "packed", f"'packed' for weights in {self.weights}")
            self._must("batch", self.batch == 1, f"1 for weights in {self.weights}")
            self._must("per_channel", self.per_channel, f"True for weights in {self.weights}")

    def _must(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise SpecError(f"GemmSpec.{name} must be {rule}, not {getattr(self, name)!r}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole batch."""
        return self.batch * self.m * self.n * self.k

    @property
    def output_bits(self) -> int:
        """Bits of an element of C."""
        return OUTPUTS[self.output]

    @property
    def has_parameters(self) -> bool:
        """True if the vector unit reads biases or scales from memory."""
        return self.bias or self.per_channel


def groups_apart(config: AcceleratorConfig, spec: GemmSpec) -> bool:
    """Return whether groups of R rows of a transposed A start at beats of their own.

    Tiles start at beats. Where the beat is much wider than the array, the smallest tile of a transposed A (a beat of rows) times
    the smallest of C (a beat of columns) could be more than the accumulator holds; then tiles of R rows are made possible.
    """
    groups = min(ceil_div(spec.n, config.columns), max(1, config.beat_bytes // config.output_slot_bytes))
    rows = min(spec.m, config.beat_bytes)
    return spec.a == "transposed" and rows * groups > config.accumulator_rows // 2


def operand_layouts(config: AcceleratorConfig, spec: GemmSpec, dataflow: str) -> dict[str, MatrixLayout]:
    """Return the DRAM layout of each operand of a GEMM: "a", "b" unless in a format, "c", and "parameters" if it has any.

    The rows of a layout are those of the matrix as it is given, so A transposed has K rows.
    """
    m, n, k, batch = spec.m, spec.n, spec.k, spec.batch
    if spec.output != "int8" and config.vector == "requantize":
        raise SpecError(f"GemmSpec.output must be 'int8' with the vector unit {config.vector!r}, not {spec.output!r}")
    if config.float_activations:
        if spec.a != "rows":
            raise SpecError(f"GemmSpec.a must be 'rows' with {config.activation_format} activations, not {spec.a!r}")
        if spec.relu and spec.bias:
            raise SpecError(f"GemmSpec.relu must be False with a bias and {config.activation_format} activations, not True")
    if spec.b == "transposed" and config.weight.bits != 8:
        raise SpecError(f"GemmSpec.b must be 'packed' or 'rows' with {config.weight_format} weights, not 'transposed'")
    rows, columns = (m, k) if spec.a == "rows" else (k, m)
    apart = groups_apart(config, spec)
    if (spec.a == "rows") == (dataflow == "ws"):
        a = row_activations(config, rows, columns, batch, apart=apart)
    else:
        a = column_matrix(config, rows, columns, config.rows, batch, apart=config.rows if apart else 0)
    layouts = {"a": a}
    if spec.weights:
        pass            # no matrix of numbers: `sw.engines.weight_layout`
    elif spec.b == "packed":
        layouts["b"] = packed_weights(config, k, n, batch)
    elif spec.b == "rows":
        layouts["b"] = weight_rows(config, k, n, batch)
    else:
        layouts["b"] = column_matrix(config, n, k, config.columns, batch)
    layouts["c"] = output_rows(config, m, n, batch, bits=spec.output_bits)
    if spec.has_parameters:
        layouts["parameters"] = parameter_rows(config, n)
    return layouts
