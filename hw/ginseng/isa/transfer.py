"""Transfer descriptors: how the core asks for memory, whoever answers (TEC specification §2)."""

from amaranth.lib import data, enum

from ginseng.isa.config import Memory

__all__ = ["Client", "Direction", "TransferDescriptor"]


class Direction(enum.IntEnum, shape=1):
    """Which way the beats flow, seen from the core."""

    READ = 0
    WRITE = 1


class Client(enum.IntEnum, shape=3):
    """Who asks; each has a port of its own, completions are in order per client."""

    FETCH = 0
    #: Loads of the compute queue: UOP, ACC and ACC_8BIT.
    COMPUTE = 1
    INP = 2
    WGT = 3
    STORE = 4


class TransferDescriptor(data.Struct):
    """Rows of elements to move; padding never appears here, it is made on chip.

    ``dram_base`` and ``stride`` count elements of ``memory``; the fetch client counts 16-byte
    units. With ``rows`` or ``row_elements`` zero nothing moves and the completion comes at once.
    """

    direction: Direction
    memory: Memory
    dram_base: 32
    rows: 16
    row_elements: 16
    stride: 16
