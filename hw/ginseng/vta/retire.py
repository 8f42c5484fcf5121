"""Completes the instructions of one queue in order, whatever finishes first."""

from amaranth import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.flow.queue import Queue

__all__ = ["Retire", "retirement"]


def retirement(events: int) -> data.StructLayout:
    """Return what is known of an instruction under way: its pushes, and what it waits for.

    ``waits`` has a bit for each kind of event; the instruction takes one of each kind named.
    """
    return data.StructLayout({"push_prev": 1, "push_next": 1, "waits": unsigned(events)})


class Retire(wiring.Component):
    """Holds instructions until their events came, then pushes their tokens, one per cycle.

    Events of one kind come in the order of the instructions that wait for them, and are counted
    until they are taken. An event is seen from the next cycle on.

    Parameters
    ----------
    events : int
        Kinds of events.
    depth : int
        Instructions under way.

    """

    #: In: instructions started, in order.
    i: stream.Interface

    def __init__(self, events: int, depth: int) -> None:
        self.events = events
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(retirement(events))),
                #: In: one bit per kind of event, high for one cycle each time.
                "event": In(events),
                #: In: complete nothing.
                "halt": In(1),
                #: Out: for one cycle, the instruction that completes, and its tokens.
                "retired": Out(1),
                "push_prev": Out(1),
                "push_next": Out(1),
                #: Out: nothing is under way.
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.queue = queue = Queue(retirement(self.events), self.depth)

        wiring.connect(m, wiring.flipped(self.i), queue.i)

        head = queue.o.payload
        # The queue holds one more than its depth while one passes through.
        counts = [Signal(range(self.depth + 2), name=f"count_{n}") for n in range(self.events)]
        met = Signal()
        m.d.comb += [
            met.eq(1),
            self.empty.eq(queue.level == 0),
            self.retired.eq(queue.o.valid & met & ~self.halt),
            queue.o.ready.eq(self.retired),
            self.push_prev.eq(self.retired & head.push_prev),
            self.push_next.eq(self.retired & head.push_next),
        ]
        for n, count in enumerate(counts):
            with m.If(head.waits[n] & (count == 0)):
                m.d.comb += met.eq(0)
            m.d.sync += count.eq(count + self.event[n] - (self.retired & head.waits[n]))

        return m
