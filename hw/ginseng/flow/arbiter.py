"""Merges streams fairly."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin"]


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
        chosen = Signal(range(self.count))
        free = Signal()

        m.d.comb += [
            free.eq(self.enable & (~self.o.valid | self.o.ready)),
            self.taken.eq(free & Cat(port.valid for port in self.i).any()),
        ]

        with m.Switch(last):
            for served in range(self.count):
                with m.Case(served):
                    # The later assignment wins, so the nearest successor comes last.
                    for distance in reversed(range(1, self.count + 1)):
                        candidate = (served + distance) % self.count
                        with m.If(self.i[candidate].valid):
                            m.d.comb += chosen.eq(candidate)

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
