"""The one seam between software and hardware: registers, memory, time-outs."""

from collections.abc import Callable
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ginseng.driver.errors import BoardError, ConfigMismatchError
from ginseng.isa.config import SystemConfig
from ginseng.isa.registers import MAGIC, Build, register_map

__all__ = [
    "Board",
    "Buffer",
    "SimulatedBoard",
    "check_identity",
    "open_board",
    "read_register",
    "write_register",
]

_GROUP = "ginseng.boards"


class Buffer(Protocol):
    """DRAM that software and device both see."""

    @property
    def address(self) -> int:
        """Where the device sees its first byte."""
        ...

    @property
    def view(self) -> NDArray[np.uint8]:
        """Where software sees it: a writable array of its bytes."""
        ...


class Board(Protocol):
    """A loaded device. Everything else of the software is written against this alone."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        ...

    @property
    def config(self) -> SystemConfig:
        """The build that is loaded."""
        ...

    @property
    def simulated(self) -> tuple[str, ...]:
        """What on this board is not real hardware; empty on a device."""
        ...

    def read(self, offset: int) -> int:
        """Read the 32-bit register at byte ``offset``."""
        ...

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte ``offset``."""
        ...

    def allocate(self, nbytes: int) -> Buffer:
        """Allocate DRAM, aligned to 4096 bytes; it is freed by `free` or by `close`.

        Raises
        ------
        BoardError
            If there is not enough of it.

        """
        ...

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back."""
        ...

    def wait(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Let the device go on until ``ready()`` is true.

        Raises
        ------
        DeviceTimeoutError
            After ``timeout`` seconds.

        """
        ...

    def close(self) -> None:
        """Give everything back; the board cannot be used after."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class SimulatedBoard(Board, Protocol):
    """A board that lets its user do what on a device only attackers and manufacturers do."""

    @property
    def dram(self) -> NDArray[np.uint8]:
        """Every byte of the DRAM window, writable; index 0 is ``config.bus.window_base``."""
        ...

    @property
    def monitor_rom(self) -> bytes:
        """SHA-256 of the monitor ROM of this build, the reference value of PCR1."""
        ...

    def attestation_public_key(self) -> bytes:
        """Return x ‖ y of the key that signs quotes, 64 bytes, for `Manufacturer.certify`."""
        ...


def open_board(
    name: str, *, config: SystemConfig | None = None, trace: Path | None = None
) -> Board:
    """Open the board called ``name`` and check that it is the build ``config``.

    Boards are found through the entry-point group ``ginseng.boards``: a class or function that
    takes the configuration, and ``trace`` if it can, and returns a `Board`.

    Parameters
    ----------
    name : str
        Of its entry point.
    config : SystemConfig or None
        The default one by default.
    trace : Path or None
        Where waveforms go, ``.fst`` or ``.vcd``.

    Raises
    ------
    BoardError
        If no such board is installed, it cannot be opened, or has no waveforms.
    ConfigMismatchError
        If the device reports another configuration digest.

    """
    found = {point.name: point for point in entry_points(group=_GROUP)}
    if name not in found:
        raise BoardError(
            f"Board {name!r} is not known (boards: {', '.join(sorted(found)) or 'none installed'})"
        )
    make = found[name].load()
    if trace is not None and "trace" not in signature(make).parameters:
        raise BoardError(f"Board {name} has no waveforms to trace; use --board rtl")
    options = {} if trace is None else {"trace": trace}
    board: Board = make(config or SystemConfig(), **options)
    check_identity(board, config or SystemConfig())
    return board


def read_register(board: Board, name: str) -> int:
    """Read a named register; several words count as one little-endian number."""
    register = register_map(board.config)[name]
    words = (board.read(register.offset + at) for at in range(0, register.nbytes, 4))
    return sum(word << 32 * n for n, word in enumerate(words))


def write_register(board: Board, name: str, value: int) -> None:
    """Write a named register, its lowest word first."""
    register = register_map(board.config)[name]
    for n in range(register.nbytes // 4):
        board.write(register.offset + 4 * n, value >> 32 * n & 0xFFFF_FFFF)


def check_identity(board: Board, config: SystemConfig) -> None:
    """Refuse a device that is another build than ``config``.

    Raises
    ------
    ConfigMismatchError
        Naming what differs.

    """
    magic = read_register(board, "magic")
    if magic != MAGIC:
        raise ConfigMismatchError(
            f"Board {board.name} answers {magic:#010x} where a Ginseng device answers "
            f"{MAGIC:#010x}; load its bit-stream"
        )
    build = Build.BARE if config.tec is None else Build.PROTECTED
    if read_register(board, "build") & 0xFF != build:
        raise ConfigMismatchError(
            f"Board {board.name} is not a {build.name.lower()} build; load that bit-stream"
        )
    digest = read_register(board, "digest").to_bytes(32, "little")
    if digest != config.digest:
        raise ConfigMismatchError(
            f"Board {board.name} is the build {digest.hex()[:16]}…, asked for is "
            f"{config.digest.hex()[:16]}…; compile for the board, or load another bit-stream"
        )
