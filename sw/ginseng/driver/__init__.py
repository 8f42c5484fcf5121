"""How software reaches a device: one `Board` protocol, and everything written against it."""

from ginseng.driver.board import Board, Buffer, open_board
from ginseng.driver.errors import (
    BoardError,
    CommandRefusedError,
    ConfigMismatchError,
    DeviceFatalError,
    DeviceTimeoutError,
    DriverError,
)
from ginseng.driver.mailbox import Monitor

__all__ = [
    "Board",
    "BoardError",
    "Buffer",
    "CommandRefusedError",
    "ConfigMismatchError",
    "DeviceFatalError",
    "DeviceTimeoutError",
    "DriverError",
    "Monitor",
    "open_board",
]
