"""DRAM: bytes at addresses, and an error outside them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.port import Fatal

__all__ = ["Dram"]


class Dram:
    """The DRAM window that a device may touch; it holds zeros until it is written.

    Parameters
    ----------
    base : int
        Address of the first byte.
    nbytes : int
        Size. The host's memory is taken up only where it has been written.

    Attributes
    ----------
    bytes : uint8 array of shape (nbytes,)
        All of it, writable: what a host, or an attacker, sees.

    """

    def __init__(self, base: int, nbytes: int) -> None:
        self.base: Final = base
        self.bytes: Final[NDArray[np.uint8]] = np.zeros(nbytes, np.uint8)

    def _slice(self, address: int, nbytes: int) -> slice:
        at = address - self.base
        if at < 0 or nbytes < 0 or at + nbytes > len(self.bytes):
            raise Fatal("bus error")
        return slice(at, at + nbytes)

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Return a copy of ``nbytes`` bytes from ``address`` on.

        Raises
        ------
        Fatal
            If one of them is outside the window.

        """
        return self.bytes[self._slice(address, nbytes)].copy()

    def write(self, address: int, data: NDArray[np.uint8] | bytes) -> None:
        """Write ``data`` from ``address`` on.

        Raises
        ------
        Fatal
            If one byte would be outside the window; nothing has been written then.

        """
        where = self._slice(address, len(data))
        self.bytes[where] = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
