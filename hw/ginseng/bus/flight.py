"""Completes descriptors in order, those that move nothing among them."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.flow.queue import Queue

__all__ = ["DEPTH", "Flight"]

#: Descriptors of one client in flight.
DEPTH = 8


class Flight(wiring.Component):
    """Keeps the descriptors in flight of one client, up to `DEPTH`.

    ``done`` is high for one cycle per descriptor, in order: for one that moves nothing as soon as
    it is the oldest, for any other once ``finish`` was high for it, a cycle later at the earliest.
    """

    #: In: a descriptor was taken.
    begin: In(1)
    #: In: it moves nothing.
    empty: In(1)
    #: In: the oldest descriptor that moves something has ended.
    finish: In(1)
    #: In: nothing completes any more.
    stop: In(1)
    #: Out: one more can be taken.
    room: Out(1)
    #: Out: the oldest descriptor completes.
    done: Out(1)

    def elaborate(self, platform):
        m = Module()

        m.submodules.queue = queue = Queue(1, DEPTH)
        finished = Signal(range(DEPTH + 1))
        counted = Signal()

        m.d.comb += [
            queue.i.valid.eq(self.begin),
            queue.i.p.eq(self.empty),
            self.room.eq(queue.i.ready),
            queue.o.ready.eq(~self.stop & (queue.o.p | (finished != 0))),
            counted.eq(queue.o.valid & queue.o.ready & ~queue.o.p),
            self.done.eq(queue.o.valid & queue.o.ready),
        ]
        m.d.sync += finished.eq(finished + self.finish - counted)

        return m
