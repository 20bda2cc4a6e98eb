"""What the vector unit does with a GEMM's sums: the fields of its command that are the same for every tile."""

from dataclasses import replace

from hw.isa import RowUse, StreamUse, VectorFunction, VectorOutput, VectorSource
from sw.kernels.spec import GemmSpec

__all__ = ["ADD", "MAXIMUM", "epilogue_fields"]

ADD, MAXIMUM = 1, 2         # of `vector.middle`
_OUTPUTS = {"int8": VectorOutput.INT8, "float32": VectorOutput.FLOAT32}


def epilogue_fields(spec: GemmSpec, *, floating: bool = False) -> dict[str, int]:
    """Return the vector fields that say what is done: (sum + bias) · scale, ReLU, and in which form it is written.

    Scales and biases, one for each column, are B and C with a stride of zero; ReLU is the maximum with the constant zero. Of
    `floating` sums it is sum · scale + bias, the bias float32; with a bias there is no ReLU then (`operand_layouts`).
    """
    if floating:
        return epilogue_fields(replace(spec, bias=False)) | ({"c_use": StreamUse.MIDDLE, "middle": ADD} if spec.bias else {})
    return {
        "source": VectorSource.ACCUMULATOR, "b_en": int(spec.per_channel), "b_stride": 0, "row0_en": 0,
        "c_use": StreamUse.BIAS if spec.bias else StreamUse.NONE, "c_stride": 0, "row1_use": RowUse.NONE, "constant": 0,
        "middle": MAXIMUM if spec.relu else 0, "mask_en": 0, "function": VectorFunction.IDENTITY, "post": 0, "sum": 0, "max": 0,
        "output": _OUTPUTS[spec.output],
    }
