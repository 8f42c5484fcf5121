"""Merges streams fairly."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin", "following"]


def following(m: Any, last: Any, offers: Any) -> Signal:
    """Return who of those that offer comes next after ``last``, in turn; anything if none does."""
    count = len(offers)
    chosen = Signal(range(count))
    with m.Switch(last):
        for served in range(count):
            with m.Case(served):
                # The later assignment wins, so the nearest successor comes last.
                for distance in reversed(range(1, count + 1)):
                    candidate = (served + distance) % count
                    with m.If(offers[candidate]):
                        m.d.comb += chosen.eq(candidate)
    return chosen


class RoundRobin(wiring.Component):
    """Gives the items of several streams in one, each stream in its turn.

    Takes one item per cycle and gives it in the next. A stream that offers waits for at most one
    item of each other stream.

    Parameters
    ----------
    shape : shape-like
        Of an item.
    count : int
        Streams.

    """

    #: In: the streams, ``i[0]`` to ``i[count - 1]``.
    i: Any
    #: Out: ``{source, item}``.
    o: stream.Interface
    #: In: while low, nothing is taken.
    enable: Signal
    #: Out: an item is taken in this cycle.
    taken: Signal

    def __init__(self, shape: Any, count: int) -> None:
        self.count = count
        granted = data.StructLayout({"source": range(count), "item": shape})
        super().__init__(
            {
                "i": In(stream.Signature(shape)).array(count),
                "o": Out(stream.Signature(granted)),
                "enable": In(1),
                "taken": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        #: Who was served last, and who is next.
        last = Signal(range(self.count))
        offers = Cat(port.valid for port in self.i)
        chosen = following(m, last, offers)
        free = Signal()

        m.d.comb += [
            free.eq(self.enable & (~self.o.valid | self.o.ready)),
            self.taken.eq(free & offers.any()),
        ]

        item = Signal.like(self.o.p.item)
        with m.Switch(chosen):
            for n in range(self.count):
                with m.Case(n):
                    m.d.comb += [self.i[n].ready.eq(self.taken), item.eq(self.i[n].p)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.taken):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.source.eq(chosen),
                self.o.p.item.eq(item),
                last.eq(chosen),
            ]

        return m
