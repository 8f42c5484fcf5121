"""GHASH: sums of blocks under powers of a key, a digit a cycle (NIST SP 800-38D, §6.4).

Outside, a block is 128 bits with byte 0 in bits 7:0. Inside, bit ``n`` is the coefficient of
``x**n``: the standard's bit order, which reverses the bits of each byte.
"""

from dataclasses import dataclass
from typing import Any, Final

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.errors import CryptoError

__all__ = ["Ghash", "GhashConfig", "Subkey"]

_BLOCK: Final = 128
#: x^128 = x^7 + x^2 + x + 1.
_FOLD: Final = (0, 1, 2, 7)
#: Products of at most so many bits are sums of shifted words; longer ones are split in three.
_LEAF: Final = 8


class Subkey(wiring.Signature):
    """Writes the hash key of a slot; members as the writer sees them."""

    def __init__(self, slots: int) -> None:
        super().__init__({"enable": Out(1), "slot": Out(range(slots)), "key": Out(_BLOCK)})


@dataclass(frozen=True, kw_only=True)
class GhashConfig:
    """How many sums and keys are kept, and how fast they grow.

    Attributes
    ----------
    contexts : int
        Sums that are kept side by side.
    slots : int
        Hash keys.
    digit : int
        Bits of a block that are multiplied in a cycle: 32, 64 or 128.

    Raises
    ------
    CryptoError
        If a number is out of its range.

    """

    contexts: int
    slots: int = 8
    digit: int = 64

    def __post_init__(self) -> None:
        if self.digit not in (32, 64, 128):
            raise CryptoError(f"GhashConfig.digit is 32, 64 or 128, not {self.digit}")
        for name in ("contexts", "slots"):
            if getattr(self, name) < 1:
                raise CryptoError(f"GhashConfig.{name} is at least 1, not {getattr(self, name)}")

    @property
    def digits(self) -> int:
        """Cycles that a block takes."""
        return _BLOCK // self.digit


class Ghash(wiring.Component):
    """Adds blocks to the sums of several contexts: ``sum = (sum ^ block) * key``.

    Takes a block every ``config.digits`` cycles, whatever its context: contexts change without
    pause. The sum with it is complete ``config.digits + 1`` cycles after it was taken, and given
    then if it was marked ``last``. Timing depends on neither blocks nor keys.

    Parameters
    ----------
    config : GhashConfig

    """

    #: In: ``{block: 128, context, slot, start, last}``; the first block of a sum has ``start``.
    i: stream.Interface

    def __init__(self, config: GhashConfig) -> None:
        self.config = config
        context = unsigned((config.contexts - 1).bit_length())
        slot = unsigned((config.slots - 1).bit_length())
        item = {"block": _BLOCK, "context": context, "slot": slot, "start": 1, "last": 1}
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout(item))),
                "subkey": In(Subkey(config.slots)),
                #: Out: a sum whose last block was taken, for one cycle.
                "o_valid": Out(1),
                "o_context": Out(context),
                "o_sum": Out(_BLOCK),
                #: In: writes zeros over the sum of context `sweep`; the domain is held in reset.
                "wipe": In(1),
                "sweep": In(context),
                #: Out: a block is being multiplied.
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        keys: Any = memory.Memory(shape=unsigned(_BLOCK), depth=self.config.slots, init=[])
        sums: Any = memory.Memory(shape=unsigned(_BLOCK), depth=self.config.contexts, init=[])
        m.submodules.keys, m.submodules.sums = keys, sums
        put_key, get_key = keys.write_port(), keys.read_port(domain="comb")
        put_sum, get_sum = sums.write_port(), sums.read_port(domain="comb")
        m.d.comb += [
            put_key.en.eq(self.subkey.enable),
            put_key.addr.eq(self.subkey.slot),
            put_key.data.eq(_reversed(m, "subkey", self.subkey.key)),
            get_key.addr.eq(self.i.payload.slot),
            get_sum.addr.eq(self.i.payload.context),
        ]

        digit, digits = self.config.digit, self.config.digits
        turn = Signal(range(digits))
        active = Signal()
        taken: Any = self.i.payload
        item: Any = Signal(taken.shape())
        # The block whose sum is complete, on its way to its place.
        ended: Any = Signal(taken.shape())
        ended_valid = Signal()
        # The block in the order of powers, its key, the sum that it is added to: `total` itself if
        # the block before it is of the same context.
        block, key, start = Signal(_BLOCK), Signal(_BLOCK), Signal(_BLOCK)
        chained = Signal()
        total, rest = Signal(_BLOCK), Signal(_BLOCK)
        done = Signal()
        m.d.comb += [done.eq(active & (turn == digits - 1)), self.i.ready.eq(~active | done)]
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), turn.eq(0)]
            with m.If(self.i.valid):
                m.d.sync += [
                    item.eq(taken),
                    block.eq(_reversed(m, "block", taken.block)),
                    key.eq(get_key.data),
                    start.eq(get_sum.data),
                    chained.eq(active & ~taken.start & (item.context == taken.context)),
                ]
                with m.If(ended_valid & (ended.context == taken.context)):
                    m.d.sync += start.eq(total)
                with m.If(taken.start):
                    m.d.sync += start.eq(0)
        with m.Else():
            m.d.sync += turn.eq(turn + 1)

        # Most significant digit first: each turn multiplies what there is by x**digit and adds the
        # product of one digit.
        first = turn == 0
        operand, carried = Signal(_BLOCK), Signal(_BLOCK)
        m.d.comb += [
            operand.eq(Mux(first, block ^ Mux(chained, total, start), rest)),
            carried.eq(Mux(first, 0, total)),
        ]
        with m.If(active):
            m.d.sync += [
                rest.eq((operand << digit)[:_BLOCK]),
                total.eq(self._step(m, operand[_BLOCK - digit :], key, carried)),
            ]

        m.d.sync += ended_valid.eq(done)
        with m.If(done):
            m.d.sync += ended.eq(item)
        m.d.comb += [
            put_sum.en.eq(ended_valid | self.wipe),
            put_sum.addr.eq(Mux(self.wipe, self.sweep, ended.context)),
            put_sum.data.eq(total),
            self.busy.eq(active),
            self.o_valid.eq(ended_valid & ended.last),
            self.o_context.eq(ended.context),
            self.o_sum.eq(_reversed(m, "sum", total)),
        ]

        return m

    def _step(self, m: Module, operand: Any, key: Any, carried: Any) -> Any:
        """Return ``(carried * x**digit + operand * key) mod P``."""
        digit, digits = self.config.digit, self.config.digits
        words = [Const(0, digit) for _ in range(digits + 1)]
        for n in range(digits):
            product = _product(m, f"product_{n}", operand, key.word_select(n, digit))
            words[n] = words[n] ^ product[:digit]
            words[n + 1] = words[n + 1] ^ product[digit:] ^ carried.word_select(n, digit)
        named = [Signal(digit, name=f"word_{n}") for n in range(digits + 1)]
        m.d.comb += [signal.eq(word) for signal, word in zip(named, words, strict=True)]
        # What stands above x**127 comes back seven places up at most, so twice is enough.
        folded = _folded(m, "fold", named[-1])
        again = _folded(m, "fold_again", folded[_BLOCK:]) if digit == _BLOCK else Const(0, 1)
        return (Cat(named[:-1]) ^ folded ^ again)[:_BLOCK]


def _folded(m: Module, name: str, top: Any) -> Any:
    """Return ``top * x**128``, not yet reduced."""
    folded = Signal(len(top) + _FOLD[-1], name=name)
    total = Const(0, 1)
    for place in _FOLD:
        total = total ^ (top << place)
    m.d.comb += folded.eq(total)
    return folded


def _product(m: Module, name: str, a: Any, b: Any) -> Any:
    """Return the product of two polynomials of equal length, twice as long (Karatsuba)."""
    size = len(a)
    result = Signal(2 * size, name=name)
    if size <= _LEAF:
        total = Const(0, 1)
        for n in range(size):
            total = total ^ ((b << n) & a[n].replicate(2 * size))
        m.d.comb += result.eq(total)
        return result
    half = size // 2
    sums = [Signal(half, name=f"{name}_{side}") for side in ("a", "b")]
    m.d.comb += [s.eq(v[:half] ^ v[half:]) for s, v in zip(sums, (a, b), strict=True)]
    low = _product(m, f"{name}l", a[:half], b[:half])
    high = _product(m, f"{name}h", a[half:], b[half:])
    middle = _product(m, f"{name}m", *sums)
    cross = Signal(size, name=f"{name}_cross")
    m.d.comb += [
        cross.eq(middle ^ low ^ high),
        result.eq(Cat(low, high) ^ (cross << half)),
    ]
    return result


def _reversed(m: Module, name: str, block: Any) -> Any:
    """Return ``block`` with the bits of each byte reversed, by swaps of whole words."""
    word: Any = block
    for distance, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
        lower = int.from_bytes(bytes([mask]) * (_BLOCK // 8), "little")
        swapped = Signal(_BLOCK, name=f"{name}_by_{distance}")
        m.d.comb += swapped.eq(((word >> distance) & lower) | ((word & lower) << distance))
        word = swapped
    return word
