"""Rows as ACT and PRE open and close them in MODE 1: what a list must keep to, refreshes too."""

from fractions import Fraction

from hw.pim.config import PimConfig
from hw.pim.isa import PimErrorCause, PimOpcode, PimRegister
from sw.pim.expand import Command, CommandError, Settings

__all__ = ["ExplicitRows"]

_BURSTS = (PimOpcode.MAC, PimOpcode.EWMUL, PimOpcode.EWADD, PimOpcode.RDCP, PimOpcode.WRCP)


class ExplicitRows:
    """Open rows, and when each rank, or with refreshes bank by bank each set, was refreshed last.

    Attributes
    ----------
    explicit : bool
        MODE 1.
    """

    def __init__(self, config: PimConfig):
        self._config, self.explicit = config, False
        units = config.row_sets if config.refresh == "same-bank" else min(config.dram.ranks, config.row_sets)
        self._each = config.row_sets // units               # sets of a unit
        self._units = units
        self._open: dict[int, int] = {}
        self._refreshed = [Fraction(0)] * units

    def take(self, command: Command, settings: Settings, tck: Fraction) -> None:
        """Follow a command that begins after `tck` clocks.

        Raises
        ------
        CommandError
            If the state of the rows forbids it.
        """
        fields = command.fields
        if command.opcode is PimOpcode.MODE:
            if fields["cnt"] > 1:
                raise CommandError(PimErrorCause.ILLEGAL_COMMAND, command.index, f"MODE must be 0 or 1, not {fields['cnt']}")
            self.explicit, self._refreshed = bool(fields["cnt"]), [tck] * self._units
            self._open.clear()
        if not self.explicit:
            return
        if command.opcode is PimOpcode.KVAP:
            index, row = self._token(fields, settings)
        else:
            index, row = self._config.named_row(fields.get("grp", 0), fields.get("row", 0))
        match command.opcode:
            case PimOpcode.ACT:
                if index in self._open:
                    self._refuse(command, f"set {index} must be closed before row {row} is opened, "
                                          f"not open with row {self._open[index]}")
                self._open[index] = row
            case PimOpcode.PRE:
                self._open.pop(index, None)
            case PimOpcode.REF:
                unit = index // self._each
                for held in self._open:
                    if held // self._each == unit:
                        self._refuse(command, f"set {held} must be closed before it is refreshed, "
                                              f"not open with row {self._open[held]}")
                self._refreshed[unit] = tck
            case opcode if opcode in _BURSTS or opcode is PimOpcode.KVAP:
                if self._open.get(index) != row:
                    self._refuse(command, f"row {row} of set {index} must be opened by ACT before {opcode.name}")

    def check_refresh(self, command: Command, tck: Fraction) -> None:
        """Look for a unit that must have been refreshed before `tck`.

        Raises
        ------
        CommandError
            If there is one.
        """
        room = self._config.dram.refi - self._config.dram.rfc
        oldest = min(self._refreshed)
        if self.explicit and tck - oldest > room:
            unit = self._refreshed.index(oldest)
            raise CommandError(PimErrorCause.COMPOSITE_TOO_LONG, command.index,
                               f"sets {unit * self._each} to {(unit + 1) * self._each - 1} must be refreshed by REF every {room} "
                               f"clocks in MODE 1, not after {float(tck - oldest):.0f}")

    def _token(self, fields: dict[str, int], settings: Settings) -> tuple[int, int]:
        """Return set and row of a head's next token."""
        config, head = self._config, settings.heads.get(fields["aidx"], {})
        number = head.get("tokens", 0) * settings.of(PimRegister.HEAD_DIM) * config.kv_bits // (8 * config.row_bytes)
        sets = config.named_sets
        return number % sets, head.get("v_row" if fields["clr"] else "k_row", 0) + number // sets

    @staticmethod
    def _refuse(command: Command, text: str) -> None:
        raise CommandError(PimErrorCause.ROW_STATE, command.index, text)
