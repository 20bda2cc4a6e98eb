"""A serial port as the transport of a board."""

import importlib
from typing import Any

from flows.board_device import BoardDevice
from flows.toolchain import ToolError
from hw.bridge.config import BoardConfig
from hw.config import AcceleratorConfig
from sw.bridge import BridgeClient

__all__ = ["SerialPort", "board_at"]


class SerialPort:
    """8N1 without flow control; implements `sw.bridge.Transport`. Needs pyserial.

    Parameters
    ----------
    name : str
        As the system calls it, or a URL that pyserial knows (`socket://host:port`).
    baud : int

    Raises
    ------
    ToolError
        If pyserial is missing, or the port cannot be opened.
    """

    def __init__(self, name: str, baud: int):
        try:
            serial: Any = importlib.import_module("serial")
        except ImportError:
            raise ToolError("pyserial not found (it talks to boards): install it with pip install 'heddle[board]'") from None
        try:
            self._port = serial.serial_for_url(name, baudrate=baud)
        except (serial.SerialException, ValueError) as error:
            raise ToolError(f"serial port {name!r} cannot be opened: {error}") from None
        self._port.reset_input_buffer()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._port.write(data)

    def read(self, count: int, timeout: float) -> bytes:
        """Return up to `count` bytes, fewer when no more have come within `timeout` seconds."""
        self._port.timeout = timeout
        return bytes(self._port.read(count))

    def close(self) -> None:
        """Close the port."""
        self._port.close()


def board_at(port: str, config: AcceleratorConfig, *, baud: int = BoardConfig().baud) -> BoardDevice:
    """Return the board on a serial port as a device, which opens the port for each session."""
    return BoardDevice(config, lambda: BridgeClient(SerialPort(port, baud)))
