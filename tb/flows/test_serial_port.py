"""The serial port of a board, with a library that only pretends."""

import sys
import types

import pytest

from flows.serial_port import SerialPort, board_at
from flows.toolchain import ToolError
from sw.bridge import BridgeError
from tb.bridge.boards import TINY


class Pretender:
    """A port that repeats what it is sent."""

    def __init__(self, name, baudrate):
        self.name, self.baudrate, self.timeout, self.waiting, self.open = name, baudrate, None, b"left over", True

    def reset_input_buffer(self):
        self.waiting = b""

    def write(self, data):
        self.waiting += data

    def read(self, count):
        found, self.waiting = self.waiting[:count], self.waiting[count:]
        return found

    def close(self):
        self.open = False


@pytest.fixture
def ports(monkeypatch):
    opened = []

    class SerialException(OSError):
        pass

    def serial_for_url(name, baudrate):
        if name == "gone":
            raise SerialException("no such device")
        opened.append(Pretender(name, baudrate))
        return opened[-1]

    library = types.SimpleNamespace(serial_for_url=serial_for_url, SerialException=SerialException)
    monkeypatch.setitem(sys.modules, "serial", library)
    return opened


def test_bytes_go_both_ways_and_what_was_there_is_dropped(ports):
    port = SerialPort("here", 9600)
    port.write(b"abc")
    assert port.read(2, 0.5) == b"ab"
    assert ports[0].timeout == 0.5
    assert port.read(2, 0.25) == b"c"
    port.close()
    assert (ports[0].name, ports[0].baudrate, ports[0].open) == ("here", 9600, False)


def test_a_port_that_cannot_be_opened_is_named(ports):
    with pytest.raises(ToolError, match=r"^serial port 'gone' cannot be opened: no such device$"):
        SerialPort("gone", 9600)


def test_a_device_opens_the_port_for_each_session_and_closes_it_after_a_failure(ports):
    device = board_at("here", TINY)
    assert not ports
    with pytest.raises(BridgeError, match=r"^INFO of 18 bytes"):      # an echo is no board
        device.open(64)
    assert not ports[0].open


def test_without_the_library_the_text_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(ToolError, match=r"^pyserial not found \(it talks to boards\): install it with "
                       r"pip install 'heddle\[board\]'$"):
        SerialPort("here", 9600)
