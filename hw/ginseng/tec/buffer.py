"""Buffers beats in a block RAM, for a reader that may be held back."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Buffer"]


class Buffer(wiring.Component):
    """Holds up to ``depth`` items, in order; whoever writes knows that there is room.

    An item can be given two cycles after it was written, one per cycle. The pointers count items
    modulo twice the depth.

    Parameters
    ----------
    shape : shape-like
        Of an item.
    depth : int
        Items, a power of two.

    """

    #: In: write ``item``.
    write: Signal
    item: Any
    #: In: pointer before the first item that may not be given yet; `written` to give all.
    limit: Signal
    #: Out: the same items.
    o: stream.Interface
    #: Out: pointers after the youngest item, before the oldest.
    written: Signal
    taken: Signal
    #: In: write whatever ``item`` is over all there is, and give nothing.
    wipe: Signal

    def __init__(self, shape: Any, depth: int) -> None:
        self.shape = shape
        self.depth = depth
        pointer = range(2 * depth)
        super().__init__(
            {
                "write": In(1),
                "item": In(shape),
                "limit": In(pointer),
                "o": Out(stream.Signature(shape)),
                "written": Out(pointer),
                "taken": Out(pointer),
                "wipe": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        kept: Any = memory.Memory(shape=self.shape, depth=self.depth, init=[])
        m.submodules.kept = kept
        put, get = kept.write_port(), kept.read_port()

        reads = Signal()
        m.d.comb += [
            put.addr.eq(self.written),
            put.data.eq(self.item),
            put.en.eq(self.write | self.wipe),
            get.addr.eq(self.taken),
            reads.eq((self.taken != self.limit) & (~self.o.valid | self.o.ready)),
            # What it gave is forgotten too.
            get.en.eq(reads | self.wipe),
            self.o.p.eq(get.data),
        ]
        m.d.sync += [
            self.written.eq(self.written + put.en),
            self.taken.eq(self.taken + reads),
        ]
        with m.If(self.wipe):
            m.d.sync += self.o.valid.eq(0)
        with m.Elif(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(reads)

        return m
