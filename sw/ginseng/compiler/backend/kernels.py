"""Micro-op kernels: encoded once, stored once, loaded when the scratchpad lacks them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import UOP_BYTES, uop_layout

__all__ = ["Kernel", "KernelLoad", "Kernels", "merged"]

#: Kernels that are first used together lie together in DRAM, from a multiple of this many
#: micro-ops on (64 bytes), so that chunks can follow the loads.
_ALIGNMENT: Final = 16


@dataclass(eq=False, slots=True)
class Kernel:
    """A sequence of micro-ops.

    Attributes
    ----------
    words : bytes
        Encoded.
    count : int
        Micro-ops.
    place : int or None
        Where it stands in DRAM, in micro-ops; None until first loaded.

    """

    words: bytes
    count: int
    place: int | None = None


@dataclass(frozen=True, slots=True)
class KernelLoad:
    """A LOAD that brings ``count`` micro-ops from ``place`` in DRAM to ``sram``."""

    place: int
    sram: int
    count: int


class Kernels:
    """Every kernel of a program, and which of them the scratchpad holds."""

    def __init__(self, config: CoreConfig) -> None:
        self.depth: Final = config.depth(Memory.UOP)
        layout = data.Layout.cast(uop_layout(config))
        self._fields: Final = {str(key): (f.offset, f.width) for key, f in layout}
        self._known: Final[dict[bytes, Kernel]] = {}
        self._dram = bytearray()
        self._resident: dict[Kernel, int] = {}
        self._free = 0

    def intern(
        self, dst: NDArray[np.int64], src: NDArray[np.int64], wgt: NDArray[np.int64]
    ) -> Kernel:
        """Return the kernel of these micro-ops, the same object for the same ones."""
        word = np.zeros(len(dst), "<u4")
        for name, values in (("dst", dst), ("src", src), ("wgt", wgt)):
            offset, width = self._fields[name]
            if values.min() < 0 or values.max() >= 1 << width:
                raise AssertionError(f"micro-op {name} holds {width} bits: {values.max()}")
            word |= values.astype("<u4") << np.uint32(offset)
        if len(word) > self.depth:
            raise CompilerError(
                f"A kernel of {len(word)} micro-ops exceeds the {self.depth} of the scratchpad; "
                "choose a build with a larger micro-op buffer"
            )
        words = word.tobytes()
        return self._known.setdefault(words, Kernel(words, len(word)))

    @property
    def contents(self) -> bytes:
        """Return every placed kernel, as DRAM holds them."""
        return bytes(self._dram)

    def address(self, kernel: Kernel) -> int:
        """Return where in the scratchpad ``kernel`` is now."""
        return self._resident[kernel]

    def require(self, kernels: Sequence[Kernel]) -> dict[Kernel, KernelLoad]:
        """Make ``kernels``, at most `depth` micro-ops, resident; return the missing ones' loads.

        Those that are missing stand next to each other in the order given.
        """
        missing = [k for k in dict.fromkeys(kernels) if k not in self._resident]
        if not missing:
            return {}
        if self._free + sum(k.count for k in missing) > self.depth:
            self._resident.clear()
            self._free = 0
            missing = list(dict.fromkeys(kernels))
        if any(k.place is None for k in missing):
            pad = -len(self._dram) % (_ALIGNMENT * UOP_BYTES)
            self._dram += bytes(pad)
        loads = {}
        for kernel in missing:
            if kernel.place is None:
                kernel.place = len(self._dram) // UOP_BYTES
                self._dram += kernel.words
            self._resident[kernel] = self._free
            loads[kernel] = KernelLoad(kernel.place, self._free, kernel.count)
            self._free += kernel.count
        return loads


def merged(loads: Iterable[KernelLoad]) -> list[KernelLoad]:
    """Return the same loads, those that follow one another in DRAM as one."""
    found: list[KernelLoad] = []
    for load in loads:
        last = found[-1] if found else None
        if last is not None and last.place + last.count == load.place:
            found[-1] = KernelLoad(last.place, last.sram, last.count + load.count)
        else:
            found.append(load)
    return found
