"""What `ginseng.driver` raises."""

from ginseng.isa.mailbox import Command, Refusal

__all__ = [
    "BoardError",
    "CommandRefusedError",
    "ConfigMismatchError",
    "DeviceFatalError",
    "DeviceTimeoutError",
    "DriverError",
    "ProgramFaultError",
]


class DriverError(Exception):
    """Base of every error of ``ginseng.driver``."""


class BoardError(DriverError):
    """A board that does not exist, cannot be opened, or has no memory left."""


class ConfigMismatchError(DriverError):
    """The device is another build than the one that was asked for."""


class DeviceTimeoutError(DriverError):
    """The device did not answer in time."""


class DeviceFatalError(DriverError):
    """The device stopped for ever; only a reset leaves this state, and every key is gone."""


class ProgramFaultError(DriverError):
    """A bare program did what no program may; only a reset leaves this state."""


class CommandRefusedError(DriverError):
    """The monitor refused a command; nothing changed.

    Attributes
    ----------
    command : Command
    refusal : Refusal

    """

    def __init__(self, command: Command, refusal: Refusal) -> None:
        super().__init__(f"The monitor refused {command.name}: {refusal.name}")
        self.command = command
        self.refusal = refusal
