"""Ciphertext through GHASH, behind the beats; a tag per chunk."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.aggregate import AggregatedGhash
from ginseng.crypto.ghash import Ghash
from ginseng.crypto.job import LaneConfig
from ginseng.crypto.mixer import TextPort, text_info
from ginseng.crypto.pads import PAD_DEPTH

__all__ = ["Tags"]

#: Groups that may be written after `TextPort.ready` was high.
_MARGIN = 3


class Tags(wiring.Component):
    """Queues ciphertext for GHASH, adds the block of lengths and masks the sum.

    Parameters
    ----------
    config : LaneConfig

    """

    text: Any

    def __init__(self, config: LaneConfig) -> None:
        self.config = config
        super().__init__(
            {
                "text": In(TextPort(config)),
                #: Out: the tag of a chunk, for one cycle; byte 0 in bits 7:0.
                "o_valid": Out(1),
                "o_tag": Out(128),
                #: In: writes zeros over what is in place `sweep`; the domain is held in reset.
                "wipe": In(1),
                "sweep": In(range(PAD_DEPTH)),
                #: Out: GHASH has a block.
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config = self.config
        sizes = {"contexts": config.contexts, "slots": config.aes.slots}
        ghash: Any = (
            Ghash(**sizes)
            if config.block_beats > 1
            else AggregatedGhash(blocks=config.granules, **sizes)
        )
        m.submodules.ghash = ghash
        head = Signal(range(PAD_DEPTH))
        level = Signal(range(PAD_DEPTH + 1))
        writes, moves = Signal(), Signal()
        parts = []
        for bank in range(config.block_beats):
            tail = Signal(range(PAD_DEPTH), name=f"tail_{bank}")
            kept: Any = memory.Memory(shape=unsigned(config.data_bits), depth=PAD_DEPTH, init=[])
            m.submodules[f"texts_{bank}"] = kept
            put, get = kept.write_port(), kept.read_port(domain="comb")
            m.d.comb += [
                put.en.eq(self.text.enable[bank] | self.wipe),
                put.addr.eq(Mux(self.wipe, self.sweep, tail)),
                put.data.eq(self.text.data[bank]),
                get.addr.eq(head),
            ]
            m.d.sync += tail.eq(tail + self.text.enable[bank])
            parts.append(get.data)
        infos: Any = memory.Memory(shape=text_info(config), depth=PAD_DEPTH, init=[])
        m.submodules.infos = infos
        put_info, get_info = infos.write_port(), infos.read_port(domain="comb")
        m.d.comb += [
            writes.eq(self.text.enable[-1]),
            put_info.en.eq(writes),
            put_info.addr.eq(tail),
            put_info.data.eq(self.text.info),
            get_info.addr.eq(head),
        ]
        m.d.sync += [
            head.eq(head + moves),
            level.eq(level + writes - moves),
            self.text.ready.eq(level < PAD_DEPTH - _MARGIN),
        ]

        # The chunk's ciphertext is through: next is the block of lengths, and the pad of its tag
        # stands at the head.
        closes, takes = Signal(), Signal()
        group = Cat(parts)
        # Another chunk's may come while the tag is on its way: the second register waits for it.
        masks = [Signal(128, name=f"mask_{n}") for n in range(2)]
        # Whatever the latency is: half of it is after the tag before and before the pad after.
        moved = Signal(ghash.latency // 2)
        m.d.sync += moved.eq(Cat(takes & closes, moved))
        with m.If(moved[-1]):
            m.d.sync += masks[1].eq(masks[0])
        info: Any = get_info.data
        closed: Any = Signal(info.shape())
        # Bits of additional data and of ciphertext (§7.1).
        lengths = Signal(128)
        m.d.comb += lengths[:64].eq(closed.nbytes << 3)
        if config.general:
            m.d.comb += lengths[64:].eq(closed.additional << 3)
        # A hash key comes once for each of its powers, each time alone.
        exponent, alone = Signal(range(ghash.powers)), Signal()
        item: Any = ghash.i.payload
        m.d.comb += [
            item.power.eq(info.hashes & ~closes),
            item.exponent.eq(exponent),
            ghash.i.valid.eq((level != 0) & (ghash.idle | ~(item.power | alone))),
            takes.eq(ghash.i.valid & ghash.i.ready),
            moves.eq(takes & (~item.power | (exponent == ghash.powers - 1))),
            item.last.eq(closes),
        ]
        with m.If(takes):
            m.d.sync += [exponent.eq(Mux(moves, 0, exponent + 1)), alone.eq(item.power)]
        with m.If(closes):
            m.d.comb += [
                item.blocks.eq(Cat(lengths.word_select(15 - n, 8) for n in range(16))),
                item.end.eq(1),
                item.context.eq(closed.context),
                item.slot.eq(closed.slot),
            ]
        with m.Else():
            m.d.comb += [
                item.blocks.eq(group),
                item.first.eq(info.first),
                item.end.eq(Mux(info.hashes, 1, info.end)),
                item.context.eq(info.context),
                item.slot.eq(info.slot),
                item.start.eq(info.start | info.hashes),
            ]
        with m.If(moves):
            m.d.sync += closes.eq(~closes & info.last & ~info.hashes)
            with m.If(closes):
                m.d.sync += masks[0].eq(group[:128])
            with m.Else():
                m.d.sync += closed.eq(info)

        m.d.comb += [
            self.o_valid.eq(ghash.o_valid),
            self.o_tag.eq(ghash.o_sum ^ masks[1]),
            self.busy.eq(ghash.busy),
            ghash.wipe.eq(self.wipe),
            ghash.sweep.eq(self.sweep),
        ]

        return m
