"""Dependence tokens between two queues (VTA specification §4)."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.insn import TOKEN_LIMIT

__all__ = ["TokenCounter"]


class TokenCounter(wiring.Component):
    """Counts tokens that one queue has pushed and the other has not popped.

    A token pushed can be popped from the next cycle on. The counter keeps its value between
    programs; a push beyond `TOKEN_LIMIT` raises ``fault``, which stays until reset.
    """

    #: In: one more token.
    push: In(1)
    #: In: one token less; only while ``available``.
    pop: In(1)
    #: Out: there is a token.
    available: Out(1)
    #: Out: a token was lost.
    fault: Out(1)

    def elaborate(self, platform):
        m = Module()

        count = Signal(range(TOKEN_LIMIT + 1))

        m.d.comb += self.available.eq(count != 0)
        with m.If(self.push & ~self.pop):
            with m.If(count == TOKEN_LIMIT):
                m.d.sync += self.fault.eq(1)
            with m.Else():
                m.d.sync += count.eq(count + 1)
        with m.Elif(self.pop & ~self.push):
            m.d.sync += count.eq(count - 1)

        return m
