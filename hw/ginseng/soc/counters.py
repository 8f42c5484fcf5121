"""Performance counters in a memory, one of which grows per cycle (register map of the contract)."""

from collections.abc import Mapping
from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

_BITS = 48


class Counters(wiring.Component):
    """Adds up events, modulo ``2**48``: a month of cycles.

    Events gather in a few bits each, and are added to the counters in turn, `turns` cycles apart.
    Much smaller than a register and an adder each.

    Parameters
    ----------
    events : mapping of str to int
        Counters in the order of their numbers, and the greatest increment of each in a cycle.
    units : mapping of str to int
        What an increment of one adds to the counter, a power of two; 1 if it is left out.

    Attributes
    ----------
    turns : int
        Cycles.

    """

    def __init__(self, events: Mapping[str, int], units: Mapping[str, int] | None = None) -> None:
        self._most = dict(events)
        self._units = dict(units or {})
        self.turns = max(2, 1 << (len(self._most) - 1).bit_length())
        super().__init__(
            {
                #: In: increments of this cycle.
                "events": In(
                    data.StructLayout({k: most.bit_length() for k, most in self._most.items()})
                ),
                #: In: set every counter to zero; events of this cycle are lost.
                "clear": In(1),
                #: In: the number of a counter. Out: it is its turn, and its value, with the events
                #: before this cycle.
                "number": In(range(self.turns)),
                "current": Out(1),
                "value": Out(_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()

        contents: Any = memory.Memory(shape=_BITS, depth=self.turns, init=[])
        m.submodules.contents = contents
        read, write = contents.read_port(domain="comb"), contents.write_port()
        turn, uncleared = Signal(range(self.turns)), Signal(range(self.turns + 1))
        old = Signal(_BITS)
        gathered = Signal(
            max(
                most * self.turns * self._units.get(name, 1) for name, most in self._most.items()
            ).bit_length()
        )
        m.d.comb += [
            read.addr.eq(turn + 1),
            write.addr.eq(turn),
            write.en.eq(1),
            write.data.eq(old + gathered),
            self.current.eq(turn == self.number),
            self.value.eq(write.data),
        ]
        m.d.sync += [turn.eq(turn + 1), old.eq(read.data)]
        with m.If(uncleared != 0):
            m.d.sync += [uncleared.eq(uncleared - 1), old.eq(0)]
        for n, (name, most) in enumerate(self._most.items()):
            pending = Signal((most * self.turns).bit_length(), name=f"pending_{name}")
            with m.If(turn == n):
                m.d.comb += gathered.eq(pending * self._units.get(name, 1))
                m.d.sync += pending.eq(self.events[name])
            with m.Else():
                m.d.sync += pending.eq(pending + self.events[name])
            with m.If(self.clear):
                m.d.sync += pending.eq(0)
        with m.If(self.clear):
            # Power-up, too, starts with a clear: the device is reset before it runs.
            m.d.sync += [uncleared.eq(self.turns), old.eq(0)]

        return m
