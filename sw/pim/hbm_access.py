"""A DRAM command of a host of HBM-PIM, and the short sequences of them that its protocol is made of."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, CRF_WORDS, GRF_WORDS, LANES, HostAccess
from sw.pim.crf_assembler import CrfError, check_program

__all__ = ["HbmAccess", "configure", "load_program", "reserved", "set_mode", "write_registers"]

BYTES = 2 * LANES


class HbmAccess(NamedTuple):
    """One command.

    Attributes
    ----------
    kind : HostAccess
    row : int
        Of ACT.
    column : int
        Of RD and WR.
    unit : int, odd : bool
        Which bank: a unit's, even or odd; the unit counts in SB mode alone.
    data : bytes
        32 bytes, of WR.
    """

    kind: HostAccess
    row: int = 0
    column: int = 0
    unit: int = 0
    odd: bool = False
    data: bytes = b""


def reserved(name: str) -> list[HbmAccess]:
    """Return the opening and closing of a reserved row, by its name in `hw.pim.crf.BANK_ROWS`."""
    return [HbmAccess(HostAccess.ACT, row=BANK_ROWS[name]), HbmAccess(HostAccess.PRE)]


def configure(name: str, data: npt.NDArray[Any]) -> list[HbmAccess]:
    """Return the writes of the configuration row: `data` from the first column of that name on (`CONFIG_COLUMNS`).

    data: 32 bytes for each column.
    """
    columns, raw = CONFIG_COLUMNS[name], np.ascontiguousarray(data).tobytes()
    if len(raw) % BYTES or len(raw) > BYTES * len(columns):
        raise CrfError(f"data of {name} must be {BYTES} bytes for each of at most {len(columns)} columns, not {len(raw)} bytes")
    opened = [HbmAccess(HostAccess.ACT, row=BANK_ROWS["config"])]
    for index in range(len(raw) // BYTES):
        opened.append(HbmAccess(HostAccess.WR, column=columns.start + index, data=raw[BYTES * index:BYTES * (index + 1)]))
    return [*opened, HbmAccess(HostAccess.PRE)]


def set_mode(*, on: bool, clear: bool = False) -> list[HbmAccess]:
    """Return what turns PIM mode on, from word 0 of the program, or off; `clear` makes GRF_B zero."""
    data = np.zeros(BYTES, np.uint8)
    data[:2] = on, clear
    return configure("mode", data)


def load_program(words: Sequence[int]) -> list[HbmAccess]:
    """Return the writes of a program, then zeros.

    Raises
    ------
    CrfError
        If `sw.pim.crf_assembler.check_program` refuses it.
    """
    check_program(words)
    padded = np.zeros(CRF_WORDS, np.uint32)
    padded[:len(words)] = words
    return configure("crf", padded)


def write_registers(name: str, values: npt.NDArray[np.float16]) -> list[HbmAccess]:
    """Return the writes of `grf_a` or `grf_b`: values (at most 8, 16), of all units alike."""
    if values.dtype != np.float16 or values.ndim != 2 or values.shape[1] != LANES or not 1 <= len(values) <= GRF_WORDS:
        raise CrfError(f"registers must be float16 of shape (1 to {GRF_WORDS}, {LANES}), not {values.dtype} of shape "
                       f"{values.shape}")
    return configure(name, values)
