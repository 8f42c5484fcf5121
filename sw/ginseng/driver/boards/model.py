"""The board ``model``: the golden device in Python, no gates."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.driver.allocator import Allocator
from ginseng.driver.board import Buffer
from ginseng.driver.errors import BoardError, DeviceTimeoutError
from ginseng.golden.attest import public_bytes
from ginseng.golden.bare import BareDevice
from ginseng.golden.keygen import DeviceIdentity, attestation_public_key
from ginseng.golden.protected import ProtectedDevice
from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import MODEL_MONITOR_ROM

__all__ = ["ModelBoard", "ModelBuffer"]

#: Seconds between two looks at a device that answers within the register write.
_POLL: Final = 0.001


@dataclass(frozen=True)
class ModelBuffer:
    """A part of the model's DRAM."""

    address: int
    view: NDArray[np.uint8] = field(repr=False)


class ModelBoard:
    """The golden device behind the `Board` protocol; a `SimulatedBoard`.

    Parameters
    ----------
    config : SystemConfig or None
        With a TEC: the protected device; without: the bare one.
    identity : DeviceIdentity or None
        The device secret; a fresh one by default, so two boards are two devices.

    Attributes
    ----------
    name : str
    config : SystemConfig
    simulated : tuple of str

    """

    name: Final = "model"

    def __init__(
        self, config: SystemConfig | None = None, *, identity: DeviceIdentity | None = None
    ) -> None:
        self.config: Final = config or SystemConfig()
        self.simulated: Final = (
            "device: Python model, no gates, no notion of time",
            *(("entropy: operating system", "root of trust: simulated") if self._protected else ()),
        )
        self._identity: Final = identity or DeviceIdentity.generate()
        self._device: ProtectedDevice | BareDevice | None = (
            ProtectedDevice(self.config, self._identity)
            if self._protected
            else BareDevice(self.config)
        )
        bus = self.config.bus
        self._allocator: Final = Allocator(bus.window_base, bus.window_bytes)

    def __repr__(self) -> str:
        return f"ModelBoard({self.config.core.name}, protected={self._protected})"

    @property
    def dram(self) -> NDArray[np.uint8]:
        """Every byte of the DRAM window, writable; index 0 is ``config.bus.window_base``."""
        return self._open().dram.bytes

    @property
    def monitor_rom(self) -> bytes:
        """SHA-256 of what stands for the monitor ROM, the reference value of PCR1."""
        return sha256(MODEL_MONITOR_ROM).digest()

    def attestation_public_key(self) -> bytes:
        """Return x ‖ y of the key that signs quotes; what a manufacturer reads once and certifies.

        Raises
        ------
        BoardError
            If the build has no TEC, and so no such key.

        """
        if not self._protected:
            raise BoardError("A bare build has no attestation key; use a config with a TEC")
        return public_bytes(attestation_public_key(self.config, self._identity))

    def read(self, offset: int) -> int:
        """Read the 32-bit register at byte ``offset``."""
        return self._open().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte ``offset``; a command is done on return."""
        self._open().write(offset, value)

    def allocate(self, nbytes: int) -> ModelBuffer:
        """Allocate DRAM, aligned to 4096 bytes. It holds what was there before, as DRAM does."""
        dram = self.dram
        address = self._allocator.take(nbytes)
        at = address - self.config.bus.window_base
        return ModelBuffer(address, dram[at : at + nbytes])

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back."""
        self._allocator.give(buffer.address)

    def wait(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Return once ``ready()`` is true, or raise `DeviceTimeoutError`."""
        end = time.monotonic() + timeout
        while not ready():
            if time.monotonic() >= end:
                raise DeviceTimeoutError(
                    f"Board {self.name} did not answer within {timeout:g} s; reset it"
                )
            time.sleep(_POLL)

    def close(self) -> None:
        """Drop the device with its keys and DRAM; closing twice is fine."""
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

    def _open(self) -> ProtectedDevice | BareDevice:
        if self._device is None:
            raise BoardError(f"Board {self.name} is closed; open another")
        return self._device
