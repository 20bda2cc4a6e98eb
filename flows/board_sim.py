"""A board in simulation: the Verilog of a `Board`, its link a transport of bytes as a serial port would be."""

import ctypes
import functools
from pathlib import Path

from flows.emit import to_verilog
from flows.verilated import build_model
from hw.bridge.board import Board
from hw.bridge.config import BoardConfig
from hw.config import AcceleratorConfig

__all__ = ["BOARD_TOP", "BoardSim", "board_verilog"]

BOARD_TOP = "board"
"""Verilog module name of a board."""
_HARNESS = Path(__file__).with_name("native") / "board.cpp"


@functools.lru_cache(maxsize=8)
def board_verilog(config: AcceleratorConfig, board: BoardConfig) -> str:
    """Return the Verilog of a board, module `BOARD_TOP`."""
    return to_verilog(Board(config, board), BOARD_TOP)


class BoardSim:
    """One simulated board after power-up; implements `sw.bridge.Transport`. Time passes only while `read` waits.

    Parameters
    ----------
    config : AcceleratorConfig
    board : BoardConfig

    Raises
    ------
    ToolError
        If the simulator cannot be built.
    """

    def __init__(self, config: AcceleratorConfig, board: BoardConfig):
        self.board = board
        divisor = board.divisor if board.link == "uart" else 0
        library, _ = build_model(
            "board", f"{config.digest()}-{board.link}", board_verilog(config, board), BOARD_TOP, waves=None,
            vpi=False, control="", main=_HARNESS, companions=(), defines=(f"-DHEDDLE_DIVISOR={divisor}",),
            link=("-shared", "-Wl,-Bsymbolic"), output="libboard.so")
        self._library = ctypes.CDLL(str(library))
        for name, result, arguments in (
            ("create", ctypes.c_void_p, []), ("destroy", None, []), ("cycle", ctypes.c_uint64, []),
            ("framing_errors", ctypes.c_uint64, []), ("send", None, [ctypes.c_char_p, ctypes.c_uint64]),
            ("receive", ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]),
        ):
            function = getattr(self._library, f"heddle_board_{name}")
            function.restype, function.argtypes = result, [ctypes.c_void_p, *arguments] if name != "create" else arguments
        self._handle: int | None = self._library.heddle_board_create()

    @property
    def cycle(self) -> int:
        """Cycles since power-up."""
        return int(self._library.heddle_board_cycle(self._open()))

    @property
    def framing_errors(self) -> int:
        """Bytes from the board whose start or stop bit was wrong."""
        return int(self._library.heddle_board_framing_errors(self._open()))

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._library.heddle_board_send(self._open(), data, len(data))

    def read(self, count: int, timeout: float) -> bytes:
        """Return up to `count` bytes, fewer when the board was silent for `timeout` seconds of its own clock."""
        buffer = ctypes.create_string_buffer(count)
        patience = max(1, round(timeout * self.board.clock_hz))
        received = self._library.heddle_board_receive(self._open(), buffer, count, patience)
        return buffer.raw[:received]

    def close(self) -> None:
        """Free the simulation."""
        if self._handle is not None:
            self._library.heddle_board_destroy(self._handle)
            self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the board is closed")
        return self._handle
