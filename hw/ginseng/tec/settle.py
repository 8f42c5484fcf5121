"""Completes reads: those of a client in order, and the prefix of all that verified."""

from amaranth import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.flight import DEPTH, Flight
from ginseng.bus.port import READ_COUNT_BITS
from ginseng.bus.shapes import READERS
from ginseng.flow.queue import Queue
from ginseng.isa.transfer import Client

__all__ = ["Settle"]

#: The clients whose descriptors are numbered.
_COUNTED = (Client.COMPUTE, Client.INP, Client.WGT)
#: Loads that are not counted as verified, at most.
_LOADS = len(_COUNTED) * DEPTH


class Settle(wiring.Component):
    """Keeps the descriptors in flight of every reading client.

    A descriptor completes once all its beats were taken and all its chunks verified, one that moves
    nothing as soon as it is the oldest of its client. ``verified`` follows ``issued``: the longest
    prefix of all loads that verified, one cycle each.
    """

    #: In: a descriptor of this client was taken, and whether it moves nothing.
    begin: In(len(READERS))
    empty: In(1)
    #: In: all beats of a descriptor were taken, all its chunks verified; each in order.
    delivered: In(len(READERS))
    opened: In(len(READERS))
    #: In: nothing completes any more.
    stop: In(1)
    #: Out: one more can be taken.
    room: Out(len(READERS))
    #: Out: the oldest descriptor completes.
    done: Out(len(READERS))
    #: Out: loads taken, and verified; both modulo 2**16.
    issued: Out(READ_COUNT_BITS)
    verified: Out(READ_COUNT_BITS)

    def elaborate(self, platform):
        m = Module()

        load = data.StructLayout({"client": range(len(READERS)), "empty": 1})
        m.submodules.loads = loads = Queue(load, _LOADS)
        for n, client in enumerate(READERS):
            m.submodules[client.name.lower()] = flight = Flight()
            # How many more were delivered than opened, modulo a power of two.
            ahead = Signal(range(-DEPTH, DEPTH + 1), name=f"ahead_{n}")
            delivered, opened = self.delivered[n], self.opened[n]
            m.d.comb += [
                flight.begin.eq(self.begin[n]),
                flight.empty.eq(self.empty),
                flight.stop.eq(self.stop),
                flight.finish.eq(
                    (delivered & opened) | (delivered & (ahead < 0)) | (opened & (ahead > 0))
                ),
                # Loads that are done, and wait for their turn to be counted, are many if an older
                # one of another client takes long.
                self.room[n].eq(flight.room & (loads.i.ready if client in _COUNTED else 1)),
                self.done[n].eq(flight.done),
            ]
            m.d.sync += ahead.eq(ahead + delivered - opened)

        # SEC: TEC.STORE_BARRIER -- `verified` grows in the order of `issued`, whoever is first.
        verified = Signal(data.ArrayLayout(range(_LOADS + 1), len(READERS)))
        begins = Signal()
        passes = Signal()
        oldest = loads.o.p
        m.d.comb += [
            loads.i.p.empty.eq(self.empty),
            loads.i.valid.eq(begins),
            passes.eq(
                loads.o.valid & ~self.stop & (oldest.empty | (Array(verified)[oldest.client] != 0))
            ),
            loads.o.ready.eq(passes),
        ]
        for n, client in enumerate(READERS):
            if client in _COUNTED:
                with m.If(self.begin[n]):
                    m.d.comb += [begins.eq(1), loads.i.p.client.eq(n)]
                uses = passes & ~oldest.empty & (oldest.client == n)
                m.d.sync += verified[n].eq(verified[n] + self.opened[n] - uses)
        m.d.sync += [
            self.issued.eq(self.issued + begins),
            self.verified.eq(self.verified + passes),
        ]

        return m
