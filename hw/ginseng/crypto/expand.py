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

    Takes a key, then writes each of the ``config.rounds + 1`` round keys every fourth cycle. With
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
        # The words that come next, oldest first; what was read of them goes out at the end.
        window: list[Any] = [Signal(_WORD, name=f"word_{n}") for n in range(words)]
        gathered: list[Any] = [Signal(_WORD, name=f"gathered_{n}") for n in range(3)]
        position = Signal(range(words))
        column = Signal(range(4))
        round_number = Signal(range(self.config.rounds + 2))
        constant = Signal(8)
        slot = Signal.like(self.i.payload.slot)
        wipes = Signal()

        # Every `words` words one is rotated, substituted and given a constant; of long keys also
        # the one halfway is substituted.
        newest = window[-1]
        turned = Signal(_WORD)
        first = position == 0
        m.d.comb += turned.eq(Mux(first, newest.rotate_right(8), newest))
        substituted = Cat(substitute(m, "sbox", turned))
        mask = Signal(_WORD)
        with m.If(first):
            m.d.comb += mask.eq(substituted ^ constant)
        with m.Elif((position == 4) if words == 8 else 0):
            m.d.comb += mask.eq(substituted)
        with m.Else():
            m.d.comb += mask.eq(newest)

        m.d.comb += [
            self.i.ready.eq(~self.busy),
            self.round_key.slot.eq(slot),
            self.round_key.round.eq(round_number),
            self.round_key.key.eq(Mux(wipes, 0, Cat(*gathered, window[0]))),
            self.round_key.enable.eq(self.busy & (column == 3)),
        ]
        with m.If(self.busy):
            m.d.sync += [
                Cat(window).eq(Cat(*window[1:], window[0] ^ mask)),
                Cat(gathered).eq(Cat(*gathered[1:], window[0])),
                position.eq(Mux(position == words - 1, 0, position + 1)),
                column.eq(column + 1),
            ]
            with m.If(position == words - 1):
                m.d.sync += constant.eq((constant << 1) ^ Mux(constant[7], 0x11B, 0))
            with m.If(column == 3):
                m.d.sync += round_number.eq(round_number + 1)
                with m.If(round_number == self.config.rounds):
                    m.d.sync += [
                        self.busy.eq(0),
                        *(word.eq(0) for word in (*window, *gathered)),
                    ]
        with m.Elif(self.i.valid):
            m.d.sync += [
                Cat(window).eq(self.i.payload.key),
                slot.eq(self.i.payload.slot),
                wipes.eq(self.i.payload.wipe),
                position.eq(0),
                column.eq(0),
                round_number.eq(0),
                constant.eq(1),
                self.busy.eq(1),
            ]

        return m
