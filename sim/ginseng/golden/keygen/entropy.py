"""What may stand where a device has ring oscillators: one good source, and the bad ones.

None of them is physical entropy. Rings do not oscillate in simulation, so these show that the
health tests, the conditioner and the alarm path work, and nothing about a board's noise.
"""

import math
import random
from collections.abc import Sequence
from typing import Protocol

from ginseng.golden.keygen.errors import KeygenError

__all__ = [
    "BiasedSource",
    "CorrelatedSource",
    "EntropySource",
    "LockedSource",
    "PeriodicSource",
    "RandomSource",
    "StuckSource",
]


class EntropySource(Protocol):
    """The raw noise, before any test."""

    def sample(self) -> int:
        """Return the next raw bit, 0 or 1."""
        ...


class RandomSource:
    """Independent fair bits.

    Parameters
    ----------
    seed : int, optional
        Makes the bits reproducible, and every key with them: for tests. Without it they come from
        the operating system.

    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._bits = 0
        self._left = 0

    def __repr__(self) -> str:
        return "RandomSource()"

    def sample(self) -> int:
        """Return the next raw bit."""
        if not self._left:
            self._left = 1024
            self._bits = self._random.getrandbits(self._left)
        self._left -= 1
        bit = self._bits & 1
        self._bits >>= 1
        return bit


class BiasedSource:
    """Independent bits that are 1 with probability ``ones``.

    Parameters
    ----------
    ones : float
        0 to 1. The claim of 0.5 bit per sample holds from 0.293 to 0.707.
    seed : int

    """

    def __init__(self, ones: float, seed: int) -> None:
        self._ones = _probability("ones", ones)
        self._random = random.Random(seed)

    def sample(self) -> int:
        """Return the next raw bit."""
        return int(self._random.random() < self._ones)


class StuckSource:
    """A source that works for a while, and then stays as it is.

    Parameters
    ----------
    value : int
        The bit it is stuck at.
    after : int
        Good samples before.
    seed : int
        Of the good samples.

    """

    def __init__(self, value: int, *, after: int = 0, seed: int = 0) -> None:
        if value not in (0, 1):
            raise KeygenError(f"A source is stuck at 0 or 1, not {value}")
        self._value = value
        self._left = after
        self._good = RandomSource(seed)

    def sample(self) -> int:
        """Return the next raw bit."""
        if self._left:
            self._left -= 1
            return self._good.sample()
        return self._value


class PeriodicSource:
    """The same bits again and again.

    Parameters
    ----------
    pattern : sequence of int
        One period.

    """

    def __init__(self, pattern: Sequence[int]) -> None:
        if not pattern or set(pattern) - {0, 1}:
            raise KeygenError(f"A period is one or more bits, not {list(pattern)}")
        self._pattern = tuple(pattern)
        self._at = 0

    def sample(self) -> int:
        """Return the next raw bit."""
        bit = self._pattern[self._at]
        self._at = (self._at + 1) % len(self._pattern)
        return bit


class CorrelatedSource:
    """Balanced bits of which each equals the one before with probability ``stay``.

    Parameters
    ----------
    stay : float
        0 to 1. The claim of 0.5 bit per sample holds from 0.293 to 0.707.
    seed : int

    """

    def __init__(self, stay: float, seed: int) -> None:
        self._stay = _probability("stay", stay)
        self._random = random.Random(seed)
        self._bit = 0

    def sample(self) -> int:
        """Return the next raw bit."""
        if self._random.random() >= self._stay:
            self._bit ^= 1
        return self._bit


class LockedSource:
    """A ring without jitter: a square wave sampled by a clock that it has locked to.

    Parameters
    ----------
    frequency : float
        Of the ring, in periods per sample.
    phase : float
        At the first sample, in periods.

    """

    def __init__(self, frequency: float, phase: float = 0.0) -> None:
        if not (math.isfinite(frequency) and frequency >= 0):
            raise KeygenError(f"A frequency is finite and not negative, not {frequency}")
        self._frequency = frequency
        self._phase = phase
        self._at = 0

    def sample(self) -> int:
        """Return the next raw bit."""
        position = (self._at * self._frequency + self._phase) % 1.0
        self._at += 1
        return int(position < 0.5)


def _probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise KeygenError(f"The probability {name} is 0 to 1, not {value}")
    return value
