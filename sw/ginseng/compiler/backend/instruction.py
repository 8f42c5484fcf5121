"""Instructions before assembly, and the channels of tokens between their queues."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.kernels import Kernel
from ginseng.compiler.backend.segment import Access, Segment
from ginseng.isa.insn import Opcode, Queue

__all__ = ["CHANNELS", "ONCE", "Insn", "Loop", "Span", "Uops"]

#: Elements of ACC, the end excluded.
Span = tuple[int, int]

_L, _C, _S = Queue.LOAD, Queue.COMPUTE, Queue.STORE
#: Token bits of each channel, by (pushing, popping) queue: the one that pushes, the one that pops
#: (VTA specification §4).
CHANNELS: Final = {
    (_L, _C): ("push_next", "pop_prev"),
    (_C, _L): ("push_prev", "pop_next"),
    (_C, _S): ("push_next", "pop_prev"),
    (_S, _C): ("push_prev", "pop_next"),
}


@dataclass(frozen=True, slots=True)
class Loop:
    """One of the two hardware loops of GEMM and ALU: a count and index steps."""

    count: int = 1
    dst: int = 0
    src: int = 0
    wgt: int = 0


#: No loop.
ONCE: Final = Loop()


@dataclass(frozen=True, slots=True)
class Uops:
    """Micro-ops to run in each iteration, as index arrays of equal length."""

    dst: NDArray[np.int64]
    src: NDArray[np.int64]
    wgt: NDArray[np.int64]

    @classmethod
    def one(cls, dst: int, src: int = 0, wgt: int = 0) -> "Uops":
        """Return a single micro-op."""
        return cls(*(np.array([index], np.int64) for index in (dst, src, wgt)))


@dataclass(eq=False, slots=True)
class Insn:
    """An instruction before assembly: where its DRAM area and its kernel end up is still open.

    Attributes
    ----------
    opcode : Opcode
    queue : Queue
    fields : dict
        Everything but ``dram_base`` and the micro-op range.
    steps : int
        Micro-op steps of a GEMM or ALU.
    segment, offset, access
        DRAM area of a LOAD or STORE that moves anything, and the first element in it.
    kernel : Kernel or None
    index : int
        Rises along the stream.
    layer : int
        Which layer it belongs to.
    writes, reads : Span or None
        Accumulators that its walk or load may reach as destination, and as second operand.

    """

    opcode: Opcode
    queue: Queue
    fields: dict[str, int]
    index: int
    layer: int
    steps: int = 0
    segment: Segment | None = None
    offset: int = 0
    access: Access | None = None
    kernel: Kernel | None = None
    writes: Span | None = None
    reads: Span | None = None
