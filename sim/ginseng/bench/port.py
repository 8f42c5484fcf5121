"""The memory port as the native harness hands it over: events, and how fast it answers."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ginseng.bench.errors import BenchError
from ginseng.isa.config import BusConfig

__all__ = ["Event", "PortEvent", "PortParameters", "PortTiming"]

_CHANCES: Final = 1 << 16


class Event(IntEnum):
    """What the port asks of whoever answers it; as in ``native/port.hpp``."""

    #: A client's descriptor was taken: give its bytes.
    READ = 0
    #: The beats of a load were taken: verify it, and all loads before it.
    SETTLE = 1
    #: A store's descriptor was taken: say how many bytes it has, and what it waits for.
    STORE = 2
    #: The bytes of the store are there, and the loads it waited for verified: write them.
    WRITE = 3


class PortParameters(ctypes.Structure):
    """The C form of a `PortTiming`; as in ``native/port.hpp``."""

    _fields_ = (
        ("beat_bytes", ctypes.c_uint32),
        ("latency_min", ctypes.c_uint32),
        ("latency_max", ctypes.c_uint32),
        ("open", ctypes.c_uint32),
        ("idle", ctypes.c_uint32),
        ("stall", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
    )


class PortEvent(ctypes.Structure):
    """One event; as in ``native/port.hpp``.

    Attributes
    ----------
    kind : int
        Of `Event`.
    client : int
        Of `ginseng.isa.transfer.Client`.
    number : int
        Of READ and STORE, how many loads were taken so far, this one included; of SETTLE, which
        load; of WRITE, the store's sample.

    """

    kind: int
    client: int
    number: int

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("client", ctypes.c_uint32),
        ("number", ctypes.c_uint64),
        ("nbytes", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
    )

    @property
    def bytes(self) -> bytes:
        """The descriptor, or the bytes of a WRITE."""
        return ctypes.string_at(self.data, self.nbytes) if self.nbytes else b""


@dataclass(frozen=True, kw_only=True)
class PortTiming:
    """How a memory port behaves: every client is served at the same time, one beat a cycle.

    Attributes
    ----------
    latency : (int, int)
        Least and most cycles, uniformly drawn, from a descriptor to its first beat, and from its
        last beat to its completion, which comes in the order of issue.
    open : int
        Descriptors of a client that wait for their completion, at most.
    idle, stall : float
        Probability that no beat is offered, and that nothing is taken, in a cycle.
    seed : int

    Raises
    ------
    BenchError
        If a latency is not a range, ``open`` is below 1, or a probability not in [0, 1).

    """

    latency: tuple[int, int] = (16, 32)
    open: int = 8
    idle: float = 0.0
    stall: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.latency[0] <= self.latency[1]:
            raise BenchError(f"PortTiming.latency is (least, most) cycles, not {self.latency}")
        if self.open < 1:
            raise BenchError(f"PortTiming.open is at least 1, not {self.open}")
        if not (0 <= self.idle < 1 and 0 <= self.stall < 1):
            raise BenchError(
                f"PortTiming.idle and stall are from 0 to below 1, not {self.idle}, {self.stall}"
            )

    def parameters(self, bus: BusConfig) -> PortParameters:
        """Return the C form, for a core on ``bus``."""
        return PortParameters(
            beat_bytes=bus.beat_bytes,
            latency_min=self.latency[0],
            latency_max=self.latency[1],
            open=self.open,
            idle=round(self.idle * _CHANCES),
            stall=round(self.stall * _CHANCES),
            seed=self.seed,
        )
