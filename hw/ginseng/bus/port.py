"""The port through which the core reaches memory, whoever answers (TEC specification §2)."""

from amaranth import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import BusConfig
from ginseng.isa.transfer import TransferDescriptor

__all__ = ["READ_COUNT_BITS", "MemorySignature", "ReadPort", "StoreDescriptor", "WritePort"]

#: LOAD descriptors are numbered modulo ``2**READ_COUNT_BITS``; far more than can be in flight.
READ_COUNT_BITS = 16


class StoreDescriptor(data.Struct):
    """A write, and the number of reads that what it writes may depend on (§5)."""

    transfer: TransferDescriptor
    sample: READ_COUNT_BITS


class ReadPort(wiring.Signature):
    """One client that reads; members as the client sees them.

    ``descriptor``
        What to read. A descriptor of no rows or no elements brings no beat, only its completion.
    ``beat``
        The bytes asked for, dense: rows follow each other without gap, in beats of bus width. A
        descriptor starts at bit 0 of a fresh beat; its last beat may be partly filled, and what
        fills it up is undefined. Descriptors are answered in order.
    ``done``
        High for one cycle per completed descriptor, in order, never before its last beat was
        taken: every chunk of it verified.
    """

    def __init__(self, bus: BusConfig) -> None:
        super().__init__(
            {
                "descriptor": Out(stream.Signature(TransferDescriptor)),
                "beat": In(stream.Signature(unsigned(bus.data_bits))),
                "done": In(1),
            }
        )


class WritePort(wiring.Signature):
    """The client that writes; members as the client sees them.

    ``descriptor``
        What to write, and its barrier sample.
    ``beat``
        The bytes, dense, as of `ReadPort`.
    ``done``
        High for one cycle per completed descriptor, in order: every response came.
    """

    def __init__(self, bus: BusConfig) -> None:
        super().__init__(
            {
                "descriptor": Out(stream.Signature(StoreDescriptor)),
                "beat": Out(stream.Signature(unsigned(bus.data_bits))),
                "done": In(1),
            }
        )


class MemorySignature(wiring.Signature):
    """Everything between the core and memory, as the core sees it.

    ``fetch``, ``compute``, ``inp``, ``wgt``, ``store``
        One port per client (`ginseng.isa.transfer.Client`).
    ``issued``
        Descriptors taken so far from compute, inp and wgt together.
    ``fault``
        High for ever once memory failed; nothing completes any more.
    """

    def __init__(self, bus: BusConfig) -> None:
        super().__init__(
            {
                "fetch": Out(ReadPort(bus)),
                "compute": Out(ReadPort(bus)),
                "inp": Out(ReadPort(bus)),
                "wgt": Out(ReadPort(bus)),
                "store": Out(WritePort(bus)),
                "issued": In(READ_COUNT_BITS),
                "fault": In(1),
            }
        )
