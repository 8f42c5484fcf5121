"""GHASH of several blocks a cycle, each times a power of the key of its own.

Outside, a block is 128 bits with byte 0 in bits 7:0.
"""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.utils import ceil_log2

from ginseng.crypto.ghash import GhashPort
from ginseng.crypto.polynomial import BLOCK, folded, gathered, products, reflected, split

__all__ = ["AggregatedGhash"]


class AggregatedGhash(wiring.Component):
    """Adds groups of blocks to the sums of several contexts.

    Takes a group every cycle, whatever its context. The sum with it is complete two cycles after it
    was taken, and given then if it was marked ``last``. Timing depends on neither blocks nor keys.

    Of a group the blocks ``first`` to before ``end`` count, and the others are zero. With ``k`` of
    them the sum is added to the first, and that times the ``k``-th power of the key.

    Parameters
    ----------
    blocks : int
        Of a group; as many powers of each key are kept.
    contexts, slots : int
        Sums that are kept side by side; keys.

    """

    #: In: see `GhashPort`.
    i: stream.Interface
    #: Cycles from a block taken to its sum.
    latency = 2

    def __init__(self, *, blocks: int, contexts: int, slots: int) -> None:
        self._blocks = blocks
        self._contexts = contexts
        self._slots = slots
        #: Powers of a key that are kept.
        self.powers = blocks
        super().__init__(GhashPort(blocks=blocks, powers=blocks, contexts=contexts, slots=slots))

    def elaborate(self, platform):
        m = Module()

        taken: Any = self.i.payload
        index, slot = ceil_log2(self._blocks), (self._slots - 1).bit_length()
        # Behind the powers is the 1 that a key is multiplied with to get there.
        one = 1 << (slot + index)
        keys = []
        for n in range(self._blocks):
            kept: Any = memory.Memory(shape=unsigned(BLOCK), depth=one + 1, init=[*[0] * one, 1])
            m.submodules[f"keys_{n}"] = kept
            keys.append((kept.write_port(), kept.read_port(domain="comb")))
        sums: Any = memory.Memory(shape=unsigned(BLOCK), depth=self._contexts, init=[])
        m.submodules.sums = sums
        put_sum, get_sum = sums.write_port(), sums.read_port(domain="comb")

        # The group that was taken, with its keys and the sum that it is added to; and the latest.
        adds, ended = Signal(), Signal()
        added, held = (Signal(taken.shape(), name=name) for name in ("added", "held"))
        factors = [Signal(BLOCK, name=f"factor_{n}") for n in range(self._blocks)]
        start, total, result = (Signal(BLOCK, name=n) for n in ("start", "total", "result"))
        m.d.comb += [self.i.ready.eq(1), get_sum.addr.eq(taken.context)]
        for n, (_, get) in enumerate(keys):
            place = Signal(range(self._blocks), name=f"place_{n}")
            m.d.comb += [
                place.eq(Mux(taken.power, taken.exponent - 1, taken.end - 1 - n)),
                get.addr.eq(Cat(place[:index], taken.slot)),
            ]
            with m.If(taken.power & (taken.exponent == 0)):
                m.d.comb += get.addr.eq(one)
            m.d.sync += factors[n].eq(get.data)
        m.d.sync += [
            adds.eq(self.i.valid),
            ended.eq(adds),
            added.eq(taken),
            start.eq(get_sum.data),
        ]

        sum_ = Signal(BLOCK)
        with m.If(~added.start):
            chained = ~held.power & (held.context == added.context)
            m.d.comb += sum_.eq(Mux(chained, total, start))
        parts: list[Any] = []
        for n, factor in enumerate(factors):
            block = reflected(m, f"block_{n}", added.blocks.word_select(n, BLOCK))
            operand = Signal(BLOCK, name=f"operand_{n}")
            m.d.comb += operand.eq(block ^ Mux(added.first == n, sum_, 0))
            a, b = split(m, f"a_{n}", operand), split(m, f"b_{n}", factor)
            found = products(m, f"product_{n}", a, b, small=False)
            parts = [x ^ y for x, y in zip(parts, found, strict=True)] if parts else found
        whole = Signal(2 * BLOCK)
        once = folded(whole[BLOCK:])
        m.d.comb += [
            whole.eq(gathered(m, "whole", parts)),
            # What is above x**127 after one fold is so after seven bits, so twice is enough.
            result.eq(whole[:BLOCK] ^ once[:BLOCK] ^ folded(once[BLOCK:])),
        ]
        with m.If(adds):
            m.d.sync += [total.eq(result), held.eq(added)]

        m.d.comb += [
            put_sum.en.eq((adds & ~added.power) | self.wipe),
            put_sum.addr.eq(Mux(self.wipe, self.sweep, added.context)),
            put_sum.data.eq(result),
            self.o_valid.eq(ended & held.last),
            self.o_context.eq(held.context),
            self.o_sum.eq(reflected(m, "sum", total)),
            self.busy.eq(adds),
            self.idle.eq(~(adds | ended)),
        ]
        for put, _ in keys:
            m.d.comb += [
                put.en.eq((ended & held.power) | self.wipe),
                put.addr.eq(Mux(self.wipe, self.sweep, Cat(held.exponent[:index], held.slot))),
                put.data.eq(total),
            ]

        return m
