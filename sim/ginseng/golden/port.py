"""The seam between the core and whoever answers for memory: plain DMA or TEC.

The model of `ginseng.isa.transfer`: the core issues transfer descriptors, one port answers. What
happens *when* matters only for the store barrier (TEC specification §5), so a read gives its bytes
at once and says later that they are verified.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import Memory
from ginseng.isa.transfer import Client

__all__ = ["Fatal", "MemoryPort", "Transfer"]


class Fatal(Exception):  # noqa: N818 -- the specification's word for the sticky fault state
    """A fault of TEC specification §7. Whoever owns the device zeroizes it and stops for ever.

    Attributes
    ----------
    cause : str
        Which rule was broken; for debug builds and tests, never shown to the host.

    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Transfer:
    """A `TransferDescriptor` in Python; the direction is the method it is passed to."""

    memory: Memory
    dram_base: int
    rows: int
    row_elements: int
    stride: int


class MemoryPort(Protocol):
    """What the core sees of memory."""

    @property
    def issued(self) -> int:
        """LOAD descriptors taken so far (clients COMPUTE, INP and WGT; in one order)."""
        ...

    @property
    def verified(self) -> int:
        """Length of the longest prefix of them whose every chunk verified."""
        ...

    def read(self, client: Client, transfer: Transfer) -> NDArray[np.uint8]:
        """Return ``rows * row_elements`` elements, dense.

        The bytes may be used at once, but they are verified only when `verified` has reached the
        value that `issued` has on return (for FETCH: they are verified on return).

        Raises
        ------
        Fatal
            If the transfer is not allowed, or a chunk does not verify.

        """
        ...

    def settle(self) -> bool:
        """Verify the oldest unverified read; return whether there was one.

        Raises
        ------
        Fatal
            If its chunk does not verify.

        """
        ...

    def write(self, transfer: Transfer, data: NDArray[np.uint8], sample: int) -> None:
        """Write ``rows * row_elements`` elements, given dense; done on return.

        The caller has waited until ``verified >= sample``, the store barrier's sample; a port that
        protects checks it again.

        Raises
        ------
        Fatal
            If the transfer is not allowed.

        """
        ...
