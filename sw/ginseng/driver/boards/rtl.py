"""The board ``rtl``: the gates in Verilator, with a model of their DRAM."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.driver.allocator import Allocator
from ginseng.driver.board import Buffer
from ginseng.driver.errors import BoardError, DeviceTimeoutError
from ginseng.isa.config import SystemConfig

__all__ = ["RtlBoard", "RtlBuffer"]

#: Cycles between two looks at the clock on the wall: some tens of milliseconds.
_SLICE: Final = 20_000


@dataclass(frozen=True)
class RtlBuffer:
    """A part of the simulated DRAM."""

    address: int
    view: NDArray[np.uint8] = field(repr=False)


class RtlBoard:
    """The Verilated device behind the `Board` protocol, its DRAM in reach as on `ModelBoard`.

    Time passes only in `wait` and in register accesses. The first board of a configuration builds
    its model, which takes a minute or two; later ones find it (``GINSENG_CACHE`` says where).

    Parameters
    ----------
    config : SystemConfig or None
        Without a TEC: the protected build does not exist in gates yet.
    memory : ginseng.bench.memory.MemoryModel or None
        How DRAM behaves; the reference memory by default.
    trace : Path or None
        Waveform file to write, ``.vcd`` or ``.fst``.

    Raises
    ------
    BoardError
        If ``config`` has a TEC, or a tool that builds the model is missing or fails.

    Attributes
    ----------
    name : str
    config : SystemConfig
    simulated : tuple of str

    """

    name: Final = "rtl"

    def __init__(
        self,
        config: SystemConfig | None = None,
        *,
        memory: Any = None,
        trace: Path | None = None,
    ) -> None:
        self.config: Final = config or SystemConfig()
        if self.config.tec is not None:
            raise BoardError(
                "Board rtl has no gates of the protected build yet; use the board model, or "
                "SystemConfig(tec=None)"
            )
        try:
            from ginseng.bench.device import RtlDevice
            from ginseng.bench.errors import BenchError
            from ginseng.bench.memory import REFERENCE
        except ImportError as error:
            raise BoardError(f"Board rtl needs ginseng[rtl]: {error}") from None
        try:
            self._device: RtlDevice | None = RtlDevice(
                self.config, memory=memory or REFERENCE, trace=trace
            )
        except BenchError as error:
            raise BoardError(f"Board rtl cannot be built: {error}") from error
        self.simulated: Final = (
            "device: gates in Verilator",
            f"DRAM: the {self._device.memory.name} memory model",
        )
        bus = self.config.bus
        self._allocator: Final = Allocator(bus.window_base, bus.window_bytes)

    def __repr__(self) -> str:
        return f"RtlBoard({self.config.core.name})"

    @property
    def dram(self) -> NDArray[np.uint8]:
        """Every byte of the DRAM window, writable; index 0 is ``config.bus.window_base``."""
        dram: NDArray[np.uint8] = self._open().dram
        return dram

    @property
    def cycle(self) -> int:
        """Simulated cycles since power-up, idle ones included."""
        return int(self._open().cycle)

    def read(self, offset: int) -> int:
        """Read the 32-bit register at byte ``offset``."""
        return int(self._open().read(offset))

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte ``offset``."""
        self._open().write(offset, value)

    def allocate(self, nbytes: int) -> RtlBuffer:
        """Allocate DRAM, aligned to 4096 bytes. It holds what was there before, as DRAM does."""
        dram = self.dram
        address = self._allocator.take(nbytes)
        at = address - self.config.bus.window_base
        return RtlBuffer(address, dram[at : at + nbytes])

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back."""
        self._allocator.give(buffer.address)

    def wait(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Run the device until ``ready()`` is true, or raise `DeviceTimeoutError`."""
        device = self._open()
        end = time.monotonic() + timeout
        while not ready():
            if time.monotonic() >= end:
                raise DeviceTimeoutError(
                    f"Board {self.name} did not answer within {timeout:g} s; reset it"
                )
            # Stops at once when the device calls; then only the register accesses take time.
            device.run(_SLICE)

    def close(self) -> None:
        """Drop the device and its DRAM; closing twice is fine."""
        if self._device is not None:
            self._device.close()
        self._device = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> Any:
        if self._device is None:
            raise BoardError(f"Board {self.name} is closed; open another")
        return self._device
