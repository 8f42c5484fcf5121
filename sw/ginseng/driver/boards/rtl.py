"""The board ``rtl``: the gates in Verilator, with models of what is around them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.driver.allocator import Allocator
from ginseng.driver.bare import read_counters
from ginseng.driver.board import Buffer
from ginseng.driver.errors import BoardError, DeviceTimeoutError
from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import MODEL_MONITOR_ROM

__all__ = ["RtlBoard", "RtlBuffer"]

#: What stands around the gates of a build with a TEC.
_AROUND_THE_GATES: Final = (
    "VTA core and TEC: gates in Verilator",
    "key generator, attestation and monitor: Python models, no gates",
    "entropy: operating system",
    "root of trust: simulated",
)
#: Cycles between two looks at the clock on the wall: some tens of milliseconds.
_SLICE: Final = 20_000


@dataclass(frozen=True)
class RtlBuffer:
    """A part of the simulated DRAM."""

    address: int
    view: NDArray[np.uint8] = field(repr=False)


class RtlBoard:
    """The Verilated device behind the `Board` protocol; a `SimulatedBoard`.

    Without a TEC, all of it is gates. With one, core and TEC are, and the key generator, the
    attestation block and the monitor around them are the golden models: `simulated` says so.

    Time passes only in `wait` and in register accesses. The first board of a configuration builds
    its model, which takes a minute or two; later ones find it (``GINSENG_CACHE`` says where).

    Parameters
    ----------
    config : SystemConfig or None
    memory : ginseng.bench.memory.MemoryModel or None
        How DRAM behaves; the reference memory by default.
    trace : Path or None
        Waveform file to write, ``.vcd`` or ``.fst``.

    Raises
    ------
    BoardError
        If a tool that builds the model is missing or fails.

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
        try:
            from ginseng.bench.device import RtlDevice
            from ginseng.bench.errors import BenchError
            from ginseng.bench.memory import REFERENCE
            from ginseng.bench.protected import ProtectedRtlDevice
        except ImportError as error:
            raise BoardError(f"Board rtl needs ginseng[rtl]: {error}") from None
        kind = ProtectedRtlDevice if self._protected else RtlDevice
        dram = memory or REFERENCE
        self._device: ProtectedRtlDevice | RtlDevice | None
        try:
            self._device = kind(self.config, memory=dram, trace=trace)
        except BenchError as error:
            raise BoardError(f"Board rtl cannot be built: {error}") from error
        gates = _AROUND_THE_GATES if self._protected else ("device: gates in Verilator",)
        self.simulated: Final = (*gates, f"DRAM: the {dram.name} memory model")
        bus = self.config.bus
        self._allocator: Final = Allocator(bus.window_base, bus.window_bytes)

    def __repr__(self) -> str:
        return f"RtlBoard({self.config.core.name}, protected={self._protected})"

    @property
    def dram(self) -> NDArray[np.uint8]:
        """Every byte of the DRAM window, writable; index 0 is ``config.bus.window_base``."""
        dram: NDArray[np.uint8] = self._open().dram
        return dram

    @property
    def cycle(self) -> int:
        """Simulated cycles since power-up, idle ones included."""
        return int(self._open().cycle)

    @property
    def monitor_rom(self) -> bytes:
        """SHA-256 of what stands for the monitor ROM, the reference value of PCR1."""
        return sha256(MODEL_MONITOR_ROM).digest()

    @property
    def traffic(self) -> Any:
        """What the DRAM saw, a `ginseng.bench.model.BusTraffic`.

        Raises
        ------
        BoardError
            If the device broke a rule of AXI.

        """
        from ginseng.bench.errors import BusError

        try:
            return self._open().traffic
        except BusError as error:
            raise BoardError(f"Board {self.name}: {error}; this is a defect of the gates") from None

    @property
    def counters(self) -> dict[str, int]:
        """What the gates counted in the last run, by name.

        Names are those of `ginseng.isa.registers.COUNTERS`; a build with a TEC has also
        ``aes_busy`` and ``ghash_busy``, cycles in which its lane works on a block.
        """
        return dict(self._open().counters) if self._protected else read_counters(self)

    @property
    def waves(self) -> str:
        """Where waveforms go, and what is other than was asked for; empty without ``trace``."""
        device = self._open()
        if device.wave_file is None:
            return ""
        return f"{device.wave_file}" + (f" ({device.note})" if device.note else "")

    def attestation_public_key(self) -> bytes:
        """Return x ‖ y of the key that signs quotes; what a manufacturer reads once and certifies.

        Raises
        ------
        BoardError
            If the build has no TEC, and so no such key.

        """
        if not self._protected:
            raise BoardError("A bare build has no attestation key; use a config with a TEC")
        return bytes(self._open().attestation_public_key)

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

    @property
    def _protected(self) -> bool:
        return self.config.tec is not None

    def _open(self) -> Any:
        if self._device is None:
            raise BoardError(f"Board {self.name} is closed; open another")
        return self._device
