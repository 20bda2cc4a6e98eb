"""HBM-PIM's units of one pseudo-channel, the definition: modes, reserved rows, and a micro-instruction for each column command.

Arithmetic is FP16, rounded to nearest even at every step: a MAC rounds its product, then its sum. With `auto`, sources are the
registers of the column address's low 3 bits; so is the destination, but for a MAC, which adds into the register of row bit 0 and
column bits 4:3, so that one instruction serves a tile of 8 × 8.

Source: public documents and simulator of HBM-PIM, for protocol and layout. How we differ: what the hardware leaves undefined
(malformed programs, an instruction that reads one bank when a command opens the other) is an error here.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hw.pim.crf import BANK_ROWS, CONFIG_COLUMNS, CRF_WORDS, GRF_WORDS, LANES, CrfOpcode, HostAccess, Operand, PimMode
from sw.pim.crf_assembler import CrfError, check_program, decode_instruction
from sw.pim.hbm_access import HbmAccess, load_program

__all__ = ["UNITS", "HbmPim"]

UNITS = 8                   # of a pseudo-channel; each serves an even and an odd bank
_ROWS, _COLUMNS = 1 << 14, 32
AUTO = 8                    # column commands of one instruction with `auto`
_BANKS = (Operand.EVEN_BANK, Operand.ODD_BANK)

Halves = npt.NDArray[np.float16]


class HbmPim:
    """Banks and units of a pseudo-channel; every access is a DRAM command.

    Attributes
    ----------
    mode : PimMode
    row : int or None
        That is open.
    done : bool
        No program has begun, or it has ended.
    instructions : int
        That have run, since the beginning.
    products_of_sums : int
        Those of them that multiply what the one before has added up: two steps of arithmetic wait for each other.

    Raises
    ------
    CrfError
        By commands in an order that the protocol has not got, and by micro-instructions that cannot run.
    """

    def __init__(self) -> None:
        self.mode = PimMode.SB
        self.row: int | None = None
        self.done = True
        self.instructions = self.products_of_sums = 0
        self._grf = {operand: np.zeros((UNITS, GRF_WORDS, LANES), np.float16) for operand in (Operand.GRF_A, Operand.GRF_B)}
        self._srf = {operand: np.zeros((UNITS, GRF_WORDS), np.float16) for operand in (Operand.SRF_M, Operand.SRF_A)}
        self._out = {operand: np.zeros((UNITS, LANES), np.float16) for operand in (Operand.A_OUT, Operand.M_OUT)}
        self._crf = [0] * CRF_WORDS
        self._store: dict[tuple[int, int, int, int], Halves] = {}
        self._restart()

    def _restart(self) -> None:
        self._pc, self._left, self._jumps = 0, 0, {}        # type: ignore[var-annotated]
        self._summed: tuple[Operand, int] | None = None     # where the last instruction has put a sum

    def fill(self, row: int, odd: bool, values: Halves) -> None:
        """Put a row of all units' even or odd banks into memory, without a command: values (32, 8, 16) float16."""
        _within("row", row, _ROWS)
        if values.shape != (_COLUMNS, UNITS, LANES) or values.dtype != np.float16:
            raise CrfError(f"values of a row must be float16 of shape {(_COLUMNS, UNITS, LANES)}, not {values.dtype} of shape "
                           f"{values.shape}")
        for column, unit in np.ndindex(*values.shape[:2]):
            self._store[unit, int(odd), row, column] = values[column, unit].copy()

    # Commands -------------------------------------------------------------------------------------------------

    def run(self, accesses: Sequence[HbmAccess]) -> list[bytes]:
        """Do what a host commands; return what its reads outside of PIM mode give."""
        found = []
        for access in accesses:
            if access.kind is HostAccess.ACT:
                self.activate(access.row)
            elif access.kind is HostAccess.PRE:
                self.precharge()
            elif access.kind is HostAccess.WR:
                self.write(access.column, np.frombuffer(access.data, np.uint8), unit=access.unit, odd=access.odd)
            else:
                data = self.read(access.column, unit=access.unit, odd=access.odd)
                if self.mode is not PimMode.HAB_PIM:
                    found.append(data.tobytes())
        return found

    def activate(self, row: int) -> None:
        """Open a row: in all banks but in SB mode."""
        _within("row", row, _ROWS)
        if self.row is not None:
            raise CrfError(f"row {row:#x} must wait for a PRE, row {self.row:#x} is open")
        self.row = row

    def precharge(self) -> None:
        """Close the row; a reserved one changes the mode."""
        if self.row == BANK_ROWS["enter_hab"] and self.mode is PimMode.SB:
            self.mode = PimMode.HAB
        elif self.row == BANK_ROWS["exit_hab"]:
            if self.mode is PimMode.HAB_PIM:
                raise CrfError("HAB mode must not be left while PIM mode is on")
            self.mode = PimMode.SB
        self.row = None

    def write(self, column: int, data: npt.NDArray[np.uint8], *, unit: int = 0, odd: bool = False) -> None:
        """Write 32 bytes: to one bank in SB mode, to all even or odd ones in HAB mode; else it is a column command."""
        if data.shape != (2 * LANES,) or data.dtype != np.uint8:
            raise CrfError(f"data must be {2 * LANES} bytes, not {data.dtype} {data.shape}")
        _within("column", column, _COLUMNS)
        _within("unit", unit, UNITS)
        row = self._open()
        if row == BANK_ROWS["config"]:
            self._configure(column, data)
        elif self.mode is PimMode.HAB_PIM:
            self._step(row, column, odd)
        else:
            for one in range(UNITS) if self.mode is PimMode.HAB else (unit,):
                self._store[one, int(odd), row, column] = data.view(np.float16).copy()

    def read(self, column: int, *, unit: int = 0, odd: bool = False) -> npt.NDArray[np.uint8]:
        """Return 32 bytes of a bank; in PIM mode a column command, whose data means nothing: zeros."""
        _within("column", column, _COLUMNS)
        _within("unit", unit, UNITS)
        row = self._open()
        if self.mode is PimMode.HAB_PIM:
            self._step(row, column, odd)
            return np.zeros(2 * LANES, np.uint8)
        return self._bank(unit, odd, row, column).view(np.uint8).copy()

    def _open(self) -> int:
        if self.row is None:
            raise CrfError("a column command must have an open row")
        return self.row

    def _bank(self, unit: int, odd: bool, row: int, column: int) -> Halves:
        return self._store.get((unit, int(odd), row, column), np.zeros(LANES, np.float16))

    def _configure(self, column: int, data: npt.NDArray[np.uint8]) -> None:
        if self.mode is PimMode.SB:
            raise CrfError("the configuration row must be written in HAB mode")
        name = next((name for name, columns in CONFIG_COLUMNS.items() if column in columns), None)
        if name is None:
            raise CrfError(f"column of the configuration row must be one that configures, not {column:#x}")
        at = column - CONFIG_COLUMNS[name].start
        halves = data.view(np.float16)
        if name == "mode":
            if data[0] & 1:
                check_program(self._crf)
                self._restart()
                self.done = False
            self.mode = PimMode.HAB_PIM if data[0] & 1 else PimMode.HAB
            if data[1] & 1:
                self._grf[Operand.GRF_B][:] = 0
        elif name == "srf":
            self._srf[Operand.SRF_M][:], self._srf[Operand.SRF_A][:] = halves[:GRF_WORDS], halves[GRF_WORDS:]
        elif name == "crf" and self.mode is PimMode.HAB_PIM:
            raise CrfError("the CRF must be written while PIM mode is off")
        elif name == "crf":
            self._crf[8 * at:8 * at + 8] = [int(word) for word in data.view(np.uint32)]
        else:
            self._grf[Operand.GRF_A if name == "grf_a" else Operand.GRF_B][:, at] = halves

    def grf(self, operand: Operand) -> Halves:
        """Return GRF_A or GRF_B of all units: (8, 8, 16) float16."""
        return self._grf[operand].copy()

    # Micro-instructions ---------------------------------------------------------------------------------------

    def _step(self, row: int, column: int, odd: bool) -> None:
        """Run what one column command runs."""
        if self.done:
            return
        opcode, values = self._fetch()
        if opcode is CrfOpcode.EXIT:
            self.done = True
            return
        if opcode is CrfOpcode.NOP:
            self._summed = None
        else:
            self._execute(opcode, values, row, column, odd)
        self.instructions += 1
        if not self._left:
            self._left = values["count"] if opcode is CrfOpcode.NOP else (AUTO - 1) * values["auto"]
            self._pc += not self._left
        else:
            self._left -= 1
            self._pc += not self._left

    def _fetch(self) -> tuple[CrfOpcode, dict[str, int]]:
        """Return the instruction of this column command, jumps taken: a JUMP goes back `count` times, then is passed."""
        while True:
            opcode, values = decode_instruction(self._crf[self._pc])
            if opcode is not CrfOpcode.JUMP:
                return opcode, values
            left = self._jumps.get(self._pc, values["count"])
            self._jumps[self._pc] = left - 1
            if left:
                self._pc -= values["offset"]
            else:
                del self._jumps[self._pc]
                self._pc += 1

    def _execute(self, opcode: CrfOpcode, values: dict[str, int], row: int, column: int, odd: bool) -> None:
        low = column % GRF_WORDS
        auto = bool(values["auto"])
        of_mac = row % 2 * 4 + column // GRF_WORDS % 4
        dst_index = (of_mac if opcode is CrfOpcode.MAC else low) if auto else values["dst_index"]
        place = Operand(values["dst"]), dst_index
        multiplies, adds = opcode in (CrfOpcode.MUL, CrfOpcode.MAC, CrfOpcode.MAD), opcode in (
            CrfOpcode.ADD, CrfOpcode.MAC, CrfOpcode.MAD)
        factors = [(Operand(values[name]), low if auto else values[f"{name}_index"]) for name in ("src0", "src1")]

        def source(name: str, index: str) -> Halves:
            operand, number = Operand(values[name]), values[index]
            if operand in _BANKS:
                self._same_bank(operand, odd)
                return np.stack([self._bank(unit, odd, row, column) for unit in range(UNITS)])
            if operand in self._out:
                return self._out[operand]
            if operand in self._srf:
                return np.repeat(self._srf[operand][:, number, None], LANES, axis=1)
            return self._grf[operand][:, low if auto else number]

        with np.errstate(over="ignore", invalid="ignore"):
            first = source("src0", "src0_index")
            if opcode in (CrfOpcode.MOV, CrfOpcode.FILL):
                result = np.where(first > 0, first, np.float16(0)) if values["relu"] else first
            elif opcode is CrfOpcode.ADD:
                result = self._out[Operand.A_OUT] = first + source("src1", "src1_index")
            else:
                result = self._out[Operand.M_OUT] = first * source("src1", "src1_index")
                if opcode is not CrfOpcode.MUL:
                    addend = self._grf[place[0]][:, dst_index] if opcode is CrfOpcode.MAC else source("src2", "src1_index")
                    result = self._out[Operand.A_OUT] = addend + result
        self._put(place, result, row, column, odd)
        self.products_of_sums += multiplies and self._summed in factors
        self._summed = place if adds else None

    def _same_bank(self, operand: Operand, odd: bool) -> None:
        if (operand is Operand.ODD_BANK) is not odd:
            raise CrfError(f"operand {operand.name} must be of the bank that is addressed, the {'odd' if odd else 'even'} one")

    def _put(self, place: tuple[Operand, int], result: Halves, row: int, column: int, odd: bool) -> None:
        operand, index = place
        if operand in _BANKS:
            self._same_bank(operand, odd)
            for unit in range(UNITS):
                self._store[unit, int(odd), row, column] = result[unit].copy()
        elif operand in self._srf:
            self._srf[operand][:] = result[:, :GRF_WORDS]
        else:
            self._grf[operand][:, index] = result

    def load_program(self, words: Sequence[int]) -> None:
        """Write a program, then zeros, over the configuration row as a host does; in HAB mode.

        Raises
        ------
        CrfError
            If `sw.pim.crf_assembler.check_program` refuses it.
        """
        self.run(load_program(words))


def _within(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise CrfError(f"{name} must be between 0 and {count - 1}, not {value!r}")
