"""How the simulated DRAM behaves: latency, limits, back-pressure, errors."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ginseng.bench.errors import BenchError
from ginseng.isa.config import BusConfig

__all__ = ["REALISTIC", "REFERENCE", "Injection", "MemoryModel", "MemoryParameters"]

_CHANCES: Final = 1 << 16


class Injection(IntEnum):
    """Errors that the memory makes on demand; as in ``native/memory.hpp``."""

    #: The beat at a byte address is answered by another response.
    READ_RESPONSE = 0
    #: The burst that writes a byte address is answered by another response.
    WRITE_RESPONSE = 1
    #: The identifier of the n-th read burst is changed, by exclusive or.
    READ_ID = 2
    #: The identifier of the n-th write response is changed, by exclusive or.
    WRITE_ID = 3
    #: The n-th read burst, if it has several beats, ends one early.
    EARLY_LAST = 4
    #: The n-th read burst ends one beat late.
    LATE_LAST = 5


class MemoryParameters(ctypes.Structure):
    """The C form of a `MemoryModel`; as in ``native/memory.hpp``."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("nbytes", ctypes.c_uint64),
        ("beat_bytes", ctypes.c_uint32),
        ("burst_beats", ctypes.c_uint32),
        ("latency_min", ctypes.c_uint32),
        ("latency_max", ctypes.c_uint32),
        ("reads", ctypes.c_uint32),
        ("writes", ctypes.c_uint32),
        ("serial", ctypes.c_uint32),
        ("mix", ctypes.c_uint32),
        ("stall", ctypes.c_uint32 * 5),
        ("unused", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
    )


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """A DRAM behind AXI, whose bus is as wide as the device's.

    Attributes
    ----------
    name : str
        What results measured with it are filed under.
    latency : (int, int)
        Least and most idle cycles, uniformly drawn, between the address and the first beat of a
        read, and between the last beat of a write and its response. If ``serial``: before the
        first beat of either, and none before the response.
    reads, writes : int
        Requests that are taken before the oldest one is answered.
    serial : bool
        One request at a time in the order of arrival, reads and writes sharing the bus: a burst of
        n beats takes ``latency + n`` cycles.
    mix : bool
        Reads of different identifiers are answered in any order, their beats mixed.
    stall : float or tuple of 5 floats
        Probability that a channel does nothing in a cycle: AR, R, AW, W, B.
    seed : int
        Of latency and stalls.

    Raises
    ------
    BenchError
        If a latency is not a range, a limit is below 1, or a probability not in [0, 1).

    """

    name: str
    latency: tuple[int, int] = (0, 0)
    reads: int = 8
    writes: int = 4
    serial: bool = False
    mix: bool = False
    stall: float | tuple[float, float, float, float, float] = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.latency[0] <= self.latency[1]:
            raise BenchError(f"MemoryModel.latency is (least, most) cycles, not {self.latency}")
        if self.reads < 1 or self.writes < 1:
            raise BenchError(
                f"MemoryModel.reads and writes are at least 1, not {self.reads} and {self.writes}"
            )
        if not all(0 <= chance < 1 for chance in self.stalls):
            raise BenchError(f"MemoryModel.stall is from 0 to below 1, not {self.stall}")

    @property
    def stalls(self) -> tuple[float, ...]:
        """The probability of each channel."""
        return self.stall if isinstance(self.stall, tuple) else (self.stall,) * 5

    def parameters(self, bus: BusConfig) -> MemoryParameters:
        """Return the C form, for a device on ``bus``."""
        return MemoryParameters(
            base=bus.window_base,
            nbytes=bus.window_bytes,
            beat_bytes=bus.beat_bytes,
            burst_beats=bus.protocol.burst_beats,
            latency_min=self.latency[0],
            latency_max=self.latency[1],
            reads=self.reads,
            writes=self.writes,
            serial=self.serial,
            mix=self.mix,
            stall=tuple(round(chance * _CHANCES) for chance in self.stalls),
            seed=self.seed,
        )


#: What numbers are measured with unless they say otherwise.
REFERENCE: Final = MemoryModel(name="reference", latency=(16, 16), serial=True)
#: As a DDR controller behaves.
REALISTIC: Final = MemoryModel(name="realistic", latency=(40, 60), seed=1)
