"""How software reaches a device: one `Board` protocol, and everything written against it."""

from ginseng.driver.bare import BareDriver
from ginseng.driver.board import Board, Buffer, SimulatedBoard, open_board
from ginseng.driver.errors import (
    BoardError,
    CommandRefusedError,
    ConfigMismatchError,
    DeviceFatalError,
    DeviceTimeoutError,
    DriverError,
    ProgramFaultError,
)
from ginseng.driver.mailbox import Monitor

__all__ = [
    "BareDriver",
    "Board",
    "BoardError",
    "Buffer",
    "CommandRefusedError",
    "ConfigMismatchError",
    "DeviceFatalError",
    "DeviceTimeoutError",
    "DriverError",
    "Monitor",
    "ProgramFaultError",
    "SimulatedBoard",
    "open_board",
]
