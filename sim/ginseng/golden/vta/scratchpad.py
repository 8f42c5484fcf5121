"""The four scratchpads of the core, as NumPy arrays (VTA specification §3)."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.port import Fatal
from ginseng.isa.config import CoreConfig, Memory

__all__ = ["Scratchpads"]


class Scratchpads:
    """UOP, INP, WGT and ACC.

    They hold seeded noise at power-up, so that a program that reads what nobody wrote shows it.

    Parameters
    ----------
    config : CoreConfig
    seed : int
        Of the noise at power-up.

    Attributes
    ----------
    uop : uint32 array of shape (depth,)
    inp : int8 array of shape (depth, batch, block)
    wgt : int8 array of shape (depth, block, block)
    acc : int32 array of shape (depth, batch, block)

    """

    def __init__(self, config: CoreConfig, seed: int = 0) -> None:
        self.config: Final = config
        rng = np.random.default_rng(seed)

        def noise(memory: Memory, dtype: Any) -> NDArray[Any]:
            raw = rng.bytes(config.depth(memory) * config.element_bytes(memory))
            shape = (config.depth(memory), *config.element_shape(memory))
            return np.frombuffer(raw, dtype).reshape(shape).copy()

        self.uop: Final[NDArray[np.uint32]] = noise(Memory.UOP, "<u4").reshape(-1)
        self.inp: Final[NDArray[np.int8]] = noise(Memory.INP, "i1")
        self.wgt: Final[NDArray[np.int8]] = noise(Memory.WGT, "i1")
        self.acc: Final[NDArray[np.int32]] = noise(Memory.ACC, "<i4")

    def of(self, memory: Memory) -> NDArray[Any]:
        """Return the array that ``memory`` lives in; OUT and ACC_8BIT live in ACC."""
        if memory is Memory.UOP:
            return self.uop
        if memory is Memory.INP:
            return self.inp
        return self.wgt if memory is Memory.WGT else self.acc

    def check(self, memory: Memory, end: int) -> None:
        """Refuse an access whose last element is ``end - 1``.

        Raises
        ------
        Fatal
            If that is outside the scratchpad (VTA specification §9, row 13).

        """
        if end > self.config.depth(memory):
            raise Fatal(f"{memory.name} index out of range")
