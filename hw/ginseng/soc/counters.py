"""Performance counters in a memory, one of which grows per cycle (register map of the contract)."""

from collections.abc import Mapping
from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

_BITS = 64


class Counters(wiring.Component):
    """Adds up events, modulo ``2**64``.

    Events gather in a few bits each, and are added to the counters in turn: a counter is right
    `delay` cycles after its last event. Much smaller than a register and an adder each.

    Parameters
    ----------
    events : mapping of str to int
        Counters in the order of their numbers, and the greatest increment of each in a cycle.

    Attributes
    ----------
    delay : int
        Cycles.

    """

    def __init__(self, events: Mapping[str, int]) -> None:
        self._most = dict(events)
        self.delay = 1 << (len(self._most) - 1).bit_length()
        super().__init__(
            {
                #: In: increments of this cycle.
                "events": In(
                    data.StructLayout({k: most.bit_length() for k, most in self._most.items()})
                ),
                #: In: set every counter to zero; events of this cycle are lost.
                "clear": In(1),
                #: In: the number of a counter; out: its value, in the same cycle.
                "number": In(range(self.delay)),
                "value": Out(_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()

        contents: Any = memory.Memory(shape=_BITS, depth=self.delay, init=[])
        m.submodules.contents = contents
        old, read = contents.read_port(domain="comb"), contents.read_port(domain="comb")
        write = contents.write_port()
        turn, uncleared = Signal(range(self.delay)), Signal(range(self.delay + 1))
        gathered = Signal(max(most * self.delay for most in self._most.values()).bit_length())
        m.d.comb += [
            old.addr.eq(turn),
            write.addr.eq(turn),
            write.en.eq(1),
            write.data.eq(Mux(uncleared != 0, 0, old.data) + gathered),
            read.addr.eq(self.number),
            self.value.eq(read.data),
        ]
        m.d.sync += turn.eq(turn + 1)
        with m.If(uncleared != 0):
            m.d.sync += uncleared.eq(uncleared - 1)
        for n, (name, most) in enumerate(self._most.items()):
            pending = Signal((most * self.delay).bit_length(), name=f"pending_{name}")
            with m.If(turn == n):
                m.d.comb += gathered.eq(pending)
                m.d.sync += pending.eq(self.events[name])
            with m.Else():
                m.d.sync += pending.eq(pending + self.events[name])
            with m.If(self.clear):
                m.d.sync += pending.eq(0)
        with m.If(self.clear):
            # Power-up, too, starts with a clear: the device is reset before it runs.
            m.d.sync += uncleared.eq(self.delay)

        return m
