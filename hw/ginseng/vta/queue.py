"""First-in first-out buffer between streams, which can be emptied at once."""

from typing import Any

from amaranth import Module, ResetInserter, Shape
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Holds up to ``depth`` payloads, in order.

    One in and one out per cycle. Latency: two cycles, or one with ``depth`` 1 or 2.

    Parameters
    ----------
    shape : ShapeLike
        Of a payload.
    depth : int
        At least 1.

    """

    #: In: what to hold.
    i: stream.Interface
    #: Out: the same, later.
    o: stream.Interface

    def __init__(self, shape: Any, depth: int) -> None:
        self.depth = depth
        self._width = Shape.cast(shape).width
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                #: In: forget everything held; nothing is to be offered in this cycle.
                "flush": In(1),
                #: Out: whether nothing is held.
                "empty": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        buffer = fifo.SyncFIFOBuffered(width=self._width, depth=self.depth)
        m.submodules.buffer = ResetInserter(self.flush)(buffer)

        m.d.comb += [
            buffer.w_data.eq(self.i.payload),
            buffer.w_en.eq(self.i.valid),
            self.i.ready.eq(buffer.w_rdy),
            self.o.valid.eq(buffer.r_rdy),
            self.o.payload.eq(buffer.r_data),
            buffer.r_en.eq(self.o.ready),
            self.empty.eq(buffer.level == 0),
        ]

        return m
