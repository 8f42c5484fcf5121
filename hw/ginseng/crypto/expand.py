"""The key schedule of AES: a key into round keys, word by word (FIPS 197, §5.2)."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.aes import AesConfig, RoundKey, substitute

__all__ = ["Expand"]

_WORD: Final = 32


class Expand(wiring.Component):
    """Writes the round keys of a slot, one word a cycle; or zeros over them.

    Takes a key, then writes a round key every fourth cycle, ``config.rounds + 1`` of them. With
    ``wipe`` the key does not count and every round key becomes zero. Between two keys nothing of
    the last one stays here. Timing depends on nothing.

    Parameters
    ----------
    config : AesConfig

    """

    #: In: ``{key: config.key_bits, slot, wipe}``; byte 0 of the key in bits 7:0.
    i: stream.Interface

    def __init__(self, config: AesConfig) -> None:
        self.config = config
        command = data.StructLayout(
            {"key": config.key_bits, "slot": range(config.slots), "wipe": 1}
        )
        super().__init__(
            {
                "i": In(stream.Signature(command)),
                "round_key": Out(RoundKey(config)),
                #: Out: round keys are being written.
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        words = self.config.key_bits // _WORD
        # The words that come next, oldest first: every fourth cycle the first four are a round key.
        window: list[Any] = [Signal(_WORD, name=f"word_{n}") for n in range(words)]
        position = Signal(range(words))
        round_number = Signal(range(self.config.rounds + 1))
        constant = Signal(8)
        slot = Signal.like(self.i.payload.slot)
        wipes, starts, ends = Signal(), Signal(), Signal()

        # Every `words` words one is rotated, substituted and given a constant; of long keys also
        # the one halfway is substituted.
        newest = window[-1]
        first = position == 0
        turned = Signal(_WORD)
        m.d.comb += turned.eq(Mux(first, newest.rotate_right(8), newest))
        substituted = Cat(substitute(m, "sbox", turned))
        mask = Signal(_WORD)
        m.d.comb += mask.eq(
            Mux(first | (position == 4), substituted ^ Mux(first, constant, 0), newest)
        )

        column = position[:2]
        m.d.comb += [
            self.i.ready.eq(~self.busy),
            starts.eq(self.i.valid & self.i.ready),
            ends.eq(self.busy & (column == 0) & (round_number == self.config.rounds)),
            self.round_key.slot.eq(slot),
            self.round_key.round.eq(round_number),
            self.round_key.key.eq(Cat(window[:4])),
            self.round_key.enable.eq(self.busy & (column == 0)),
        ]
        m.d.sync += [
            Cat(window).eq(Mux(starts, self.i.payload.key, Cat(*window[1:], window[0] ^ mask))),
            position.eq(Mux(self.busy, position + 1, 0)),
        ]
        # Nothing of a key stays when it is through, or is to be seen of one that does not count.
        with m.If(Mux(starts, self.i.payload.wipe, wipes | ends | ~self.busy)):
            m.d.sync += Cat(window).eq(0)
        with m.If(column == 3):
            m.d.sync += round_number.eq(round_number + 1)
        with m.If(position == words - 1):
            m.d.sync += constant.eq((constant << 1) ^ Mux(constant[7], 0x11B, 0))
        with m.If(ends):
            m.d.sync += self.busy.eq(0)
        with m.If(starts):
            m.d.sync += [
                slot.eq(self.i.payload.slot),
                wipes.eq(self.i.payload.wipe),
                round_number.eq(0),
                constant.eq(1),
                self.busy.eq(1),
            ]

        return m
