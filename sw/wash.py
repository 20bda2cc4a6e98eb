"""A program that writes every word of an accelerator's memories: what an upset has left in one of them is then gone."""

from hw.config import AcceleratorConfig
from hw.isa import Dataflow, Unit, VectorOutput, VectorSource
from sw.assembler import Assembler
from sw.program import Program

__all__ = ["wash_program"]

_ROW = 64                       # bytes read from DRAM over and over: a multiple of every beat
_MOST_ROWS = (1 << 16) - 1      # of a command


def wash_program(config: AcceleratorConfig, code_addr: int) -> Program:
    """Return a program that overwrites scratchpad, accumulator and row scalars, and reads nothing of them before.

    A word that a parity checks stays wrong until it is written, and a program may read it without need, beside what it has
    written. The scratchpad gets the program's own first bytes, the accumulator products of them, the row scalars sums.

    Parameters
    ----------
    code_addr : int
        Where the code goes, a multiple of 64; nothing else in DRAM is touched.
    """
    asm = Assembler()

    def put(unit: Unit, **fields: int) -> None:
        for name, value in fields.items():
            asm.set(f"{unit.name.lower()}.{name}", value)

    rows = config.scratchpad_bytes // _ROW
    put(Unit.LOAD, dram_addr=code_addr, dram_stride=0, row_bytes=_ROW, stride=_ROW)
    for first in range(0, rows, _MOST_ROWS):
        put(Unit.LOAD, rows=min(_MOST_ROWS, rows - first), addr=first * _ROW)
        asm.go(Unit.LOAD)
    asm.fence()
    put(Unit.MATRIX, n=config.columns, k=1, dataflow=int(Dataflow[config.dataflows[0].upper()]))
    for first in range(0, config.accumulator_rows, _MOST_ROWS):
        put(Unit.MATRIX, m=min(_MOST_ROWS, config.accumulator_rows - first), acc_addr=first)
        asm.go(Unit.MATRIX)
    asm.fence()
    if config.vector == "transformer":
        put(Unit.VECTOR, source=int(VectorSource.INT8), n=1, sum=1, output=int(VectorOutput.NONE))
        for first in range(0, config.vector_rows, _MOST_ROWS):
            put(Unit.VECTOR, m=min(_MOST_ROWS, config.vector_rows - first), sum_addr=first)
            asm.go(Unit.VECTOR)
    asm.halt()
    return Program(name="wash", config_digest=config.digest(), code=asm.words(parity=config.command_parity),
                   code_addr=code_addr, regions=(), kernels=((0, "wash"),), parity=config.command_parity)
