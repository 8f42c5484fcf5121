"""GHASH: sums of blocks under powers of a key, half a block a cycle (NIST SP 800-38D, §6.4).

Outside, a block is 128 bits with byte 0 in bits 7:0.
"""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.polynomial import BLOCK, folded, gathered, products, reflected, split

__all__ = ["Ghash", "GhashPort"]

_DIGIT: Final = BLOCK // 2
_DIGITS: Final = 2
#: Sums of a context: every other block goes to each.
_CHAINS: Final = 2


class GhashPort(wiring.Signature):
    """Members of what sums blocks, as it sees them itself.

    ``i``
        ``{blocks, first, end, context, slot, start, last, power, exponent}``. Blocks ``first`` to
        before ``end`` count. The first group of a sum has ``start``; the ``last`` is one block and
        directly follows the group before it. With ``start`` and ``power`` the block is a key, to
        be given for each ``exponent`` from 0 on, alone.
    ``o_valid``, ``o_context``, ``o_sum``
        A sum whose last block was taken, for one cycle.
    ``wipe``, ``sweep``
        Writes zeros over sum and keys in place ``sweep``; the domain is held in reset.
    ``busy``, ``idle``
        A product is being made; no block is under way.
    """

    def __init__(self, *, blocks: int, powers: int, contexts: int, slots: int) -> None:
        item = data.StructLayout(
            {
                "blocks": blocks * BLOCK,
                "first": range(blocks),
                "end": range(blocks + 1),
                "context": range(contexts),
                "slot": range(slots),
                "start": 1,
                "last": 1,
                "power": 1,
                "exponent": range(powers),
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(item)),
                "o_valid": Out(1),
                "o_context": Out(range(contexts)),
                "o_sum": Out(BLOCK),
                "wipe": In(1),
                "sweep": In(range(max(contexts, slots * powers))),
                "busy": Out(1),
                "idle": Out(1),
            }
        )


class Ghash(wiring.Component):
    """Sums blocks of several contexts: the last times the key, the one before times its square.

    Takes a block every other cycle, whatever its context: contexts change without pause. The sum
    with it is complete six cycles after it was taken, and given then if it was marked ``last``.
    Timing depends on neither blocks nor keys.

    A product takes a cycle for each half of a block, and longer than that from end to end. So the
    blocks of a context alternate between two sums that grow by the square of the key, but for the
    ``last``; that and the one before it are what the sum consists of in the end.

    Parameters
    ----------
    contexts : int
        Sums that are kept side by side.
    slots : int
        Keys.

    """

    #: In: see `GhashPort`.
    i: stream.Interface
    #: Powers of a key that are kept; cycles from a block taken to its sum.
    powers = _CHAINS
    latency = 6

    def __init__(self, *, contexts: int, slots: int) -> None:
        self._context = unsigned((contexts - 1).bit_length())
        self._slot = unsigned((slots - 1).bit_length())
        super().__init__(GhashPort(blocks=1, powers=self.powers, contexts=contexts, slots=slots))

    def elaborate(self, platform):
        m = Module()

        # Keys and their squares; behind them the 1 that a key is multiplied with to get there.
        one = 2 << self._slot.width
        keys: Any = memory.Memory(shape=unsigned(BLOCK), depth=one + 1, init=[*[0] * one, 1])
        sums: Any = memory.Memory(
            shape=unsigned(BLOCK), depth=_CHAINS << self._context.width, init=[]
        )
        m.submodules.keys, m.submodules.sums = keys, sums
        put_key, get_key = keys.write_port(), keys.read_port(domain="comb")
        put_sum, get_sum = sums.write_port(), sums.read_port(domain="comb")

        # The cycle in which a block is taken: its key and its sum are read. Then, a cycle each: it
        # is added to the sum; factors of its upper half and of its lower half; their products a
        # cycle later, what they sum to another.
        taken: Any = self.i.payload
        takes, adds, splits, upper, lower, ends, ended = (
            Signal(name=name)
            for name in ("takes", "adds", "splits", "upper", "lower", "ends", "ended")
        )
        m.d.sync += Cat(adds, splits, upper, lower, ends, ended).eq(
            Cat(takes, adds, splits, upper, lower, ends)
        )
        # Of each context's latest block: its chain, and whether it began the sum. The chain of
        # this one, and whether it is the chain's first.
        latest, began = (Signal(1 << self._context.width, name=n) for n in ("latest", "began"))
        chain, first = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~adds),
            takes.eq(self.i.valid & self.i.ready),
            chain.eq(~taken.start & ~latest.bit_select(taken.context, 1)),
            first.eq(taken.start | began.bit_select(taken.context, 1)),
            get_sum.addr.eq(Cat(taken.context, chain)),
            get_key.addr.eq(Cat(taken.slot, ~(taken.last | taken.power))),
        ]
        with m.If(taken.power & ~taken.exponent):
            m.d.comb += get_key.addr.eq(one)
        # Without a reset of its own, that of the register can make the zeros of a block of lengths.
        block = Signal(BLOCK, reset_less=True)
        start, key = Signal(BLOCK), Signal(BLOCK)
        item = data.StructLayout(
            {"context": self._context, "chain": 1, "slot": self._slot}
            | dict.fromkeys(("start", "last", "power", "exponent"), 1)
        )
        # The block that is added, multiplied, that whose sum ends, and that of `total`.
        stages: Any = [
            Signal(item, name=name) for name in ("added", "multiplied", "summed", "held")
        ]
        added, multiplied, summed, held = stages
        reflected_block = reflected(m, "block", taken.blocks)
        with m.If(takes | self.wipe):
            m.d.sync += block.eq(Mux(self.wipe, 0, reflected_block))
        with m.If(takes):
            m.d.sync += [
                key.eq(get_key.data),
                start.eq(get_sum.data),
                added.chain.eq(chain),
                *(getattr(added, n).eq(getattr(taken, n)) for n in item.members if n != "chain"),
            ]
            with m.If(~taken.power):
                m.d.sync += [
                    latest.bit_select(taken.context, 1).eq(chain),
                    began.bit_select(taken.context, 1).eq(taken.start),
                ]

        # The sum that a block is added to may be made just when it is needed, or be made and
        # perhaps not yet where memory is read: known a cycle before.
        x, total, before, result = (
            Signal(BLOCK, name=name) for name in ("x", "total", "before", "result")
        )
        newest: Any = Signal(item)
        place = Cat(taken.context, chain)
        in_result, in_total = Signal(), Signal()
        m.d.comb += [
            newest.eq(Mux(ends, summed, held)),
            in_result.eq(lower & (Cat(multiplied.context, multiplied.chain) == place)),
            in_total.eq(~newest.power & (Cat(newest.context, newest.chain) == place)),
        ]
        recent, known = Signal(), Signal()
        with m.If(takes):
            m.d.sync += [
                recent.eq(~first & (in_result | in_total)),
                known.eq(~first & (in_result | ~in_total)),
            ]
        with m.If(adds):
            m.d.sync += x.eq(
                block ^ Mux(recent, Mux(known, result, total), start & known.replicate(BLOCK))
            )

        # Upper half first: each product is `carried * x**64 + half * key`.
        halves = Mux(splits, x[_DIGIT:], x[:_DIGIT])
        operand = self._kept(m, "operand", split(m, "x", halves), 1)
        parts = []
        for n in range(_DIGITS):
            word = split(m, f"key_{n}", key.word_select(n, _DIGIT))
            factors = self._kept(m, f"factor_{n}", word, splits)
            found = self._kept(m, f"part_{n}", products(m, f"product_{n}", operand, factors), 1)
            parts.append(gathered(m, f"digit_{n}", found))
        carried = Signal(BLOCK)
        whole = Signal(BLOCK + _DIGIT)
        m.d.comb += [
            whole.eq(parts[0] ^ (parts[1] << _DIGIT) ^ (carried << _DIGIT)),
            result.eq(whole[:BLOCK] ^ folded(whole[BLOCK:])),
        ]
        m.d.sync += carried.eq(Mux(lower, result, 0))
        with m.If(splits):
            m.d.sync += multiplied.eq(added)
        with m.If(lower):
            m.d.sync += summed.eq(multiplied)
        with m.If(ends):
            m.d.sync += [total.eq(result), before.eq(total), held.eq(summed)]

        m.d.comb += [
            put_sum.en.eq((ended & ~held.power) | self.wipe),
            put_sum.addr.eq(Mux(self.wipe, self.sweep, Cat(held.context, held.chain))),
            put_sum.data.eq(total),
            put_key.en.eq((ended & held.power) | self.wipe),
            put_key.addr.eq(Mux(self.wipe, self.sweep, Cat(held.slot, held.exponent))),
            put_key.data.eq(total),
            self.o_valid.eq(ended & held.last),
            self.o_context.eq(held.context),
            self.o_sum.eq(reflected(m, "sum", total ^ before)),
            self.busy.eq(upper | lower),
            self.idle.eq(~Cat(adds, splits, upper, lower, ends, ended).any()),
        ]

        return m

    @staticmethod
    def _kept(m: Module, name: str, words: list[Any], enable: Any) -> list[Any]:
        """Return registers that take ``words`` while ``enable`` is high."""
        kept = [Signal(len(word), name=f"{name}_{n}") for n, word in enumerate(words)]
        with m.If(enable):
            m.d.sync += [to.eq(word) for to, word in zip(kept, words, strict=True)]
        return kept
