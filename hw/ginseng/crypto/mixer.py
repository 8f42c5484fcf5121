"""Beats meet their pads: text out, ciphertext on to GHASH."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.job import LaneConfig
from ginseng.crypto.pads import PAD_DEPTH

__all__ = ["Mixer", "TextPort"]


class TextPort(wiring.Signature):
    """Writes what GHASH is to take, in banks of a beat each; members as the writer sees them.

    ``ready``
        There is room for two groups more.
    ``enable``, ``data``
        The next beat of each bank. A group is complete with its last bank, which may come in the
        same cycle as the first bank of the next.
    ``info``
        Of the group that gets complete. After the group that is ``last`` comes that of the tag's
        pad, whose info does not count.
    """

    def __init__(self, config: LaneConfig) -> None:
        super().__init__(
            {
                "ready": In(1),
                "enable": Out(config.block_beats),
                "data": Out(config.data_bits).array(config.block_beats),
                "info": Out(text_info(config)),
            }
        )


def text_info(config: LaneConfig) -> data.StructLayout:
    """Return what goes with a group of ciphertext."""
    names = ["slot", "context", "start", "last", "nbytes", "first", "end"]
    names += ["additional"] if config.general else []
    return data.StructLayout({"hashes": 1} | {name: config.job.members[name] for name in names})


class Mixer(wiring.Component):
    """Keeps pads until their beats come.

    Parameters
    ----------
    config : LaneConfig
    order : StructLayout
        Of `ginseng.crypto.pads.Pads`.

    """

    #: In: jobs, as their pads are made.
    order: stream.Interface
    #: In: beats.
    i: stream.Interface
    text: Any

    def __init__(self, config: LaneConfig, order: data.StructLayout) -> None:
        self.config = config
        beat = unsigned(config.data_bits)
        super().__init__(
            {
                "order": In(stream.Signature(order)),
                "i": In(stream.Signature(beat)),
                #: In: a group of pads; there is room for it.
                "pads_valid": In(1),
                "pads": In(128 * config.granules),
                #: Out: a group of pads was used.
                "used": Out(1),
                #: Out: a beat, the cycle after ``i`` took it; granules that are not meant are zero.
                "o_valid": Out(1),
                "o_data": Out(beat),
                #: Out: with a beat: its job encrypts.
                "o_seals": Out(1),
                "text": Out(TextPort(config)),
                #: In: writes zeros over the pads in place `sweep`; the domain is held in reset.
                "wipe": In(1),
                "sweep": In(range(PAD_DEPTH)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config = self.config
        banks = config.block_beats
        head, tail = Signal(range(PAD_DEPTH)), Signal(range(PAD_DEPTH))
        level = Signal(range(PAD_DEPTH + 1))
        pads = []
        for bank in range(banks):
            kept: Any = memory.Memory(shape=unsigned(config.data_bits), depth=PAD_DEPTH, init=[])
            m.submodules[f"pads_{bank}"] = kept
            put, get = kept.write_port(), kept.read_port(domain="comb")
            m.d.comb += [
                put.en.eq(self.pads_valid | self.wipe),
                put.addr.eq(Mux(self.wipe, self.sweep, tail)),
                put.data.eq(self.pads.word_select(bank, config.data_bits)),
            ]
            pads.append(get)

        # The job whose beats come, and how many are left.
        order: Any = Signal(self.order.payload.shape())
        works, fresh = Signal(), Signal()
        left = Signal.like(order.beats)
        # The second beat of a block; the pad of a tag stands at the head.
        half, masks = Signal(), Signal()
        # The beat completes a group, and that is the chunk's last.
        whole, closes = Signal(), Signal()
        takes, moves, final, hashes = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            final.eq(left == 1),
            whole.eq(half if banks == 2 else 1),
            closes.eq(whole & final & order.last),
            takes.eq(self.i.valid & self.i.ready),
            self.used.eq(moves),
            # A hash key only passes, once the pad of the tag before it has.
            hashes.eq(works & order.hashes & self.text.ready & (level != 0) & ~masks),
            self.order.ready.eq(~works | (takes & final) | hashes),
        ]
        if banks == 2:
            # Of the pad of a tag the first bank is read beside the second of the chunk's last
            # block, and the second beside the first of the next block: no beat waits for it.
            needed = Mux(masks | closes, 2, 1)
            m.d.comb += [
                self.i.ready.eq(works & ~order.hashes & self.text.ready & (level >= needed)),
                moves.eq((takes & half) | masks | hashes),
                pads[0].addr.eq(head + (half | masks)),
                pads[1].addr.eq(head),
            ]
            m.d.sync += masks.eq(takes & closes)
            masking = [half | hashes, masks | hashes]
            writes = [(takes & (~half | closes)) | hashes, moves]
        else:
            m.d.comb += [
                self.i.ready.eq(works & ~order.hashes & self.text.ready & (level != 0) & ~masks),
                moves.eq(takes | (masks & (level != 0)) | hashes),
                pads[0].addr.eq(head),
            ]
            m.d.sync += masks.eq(Mux(masks, level == 0, takes & closes))
            masking = [masks | hashes]
            writes = [moves]
        m.d.sync += [
            head.eq(head + moves),
            tail.eq(tail + self.pads_valid),
            level.eq(level + self.pads_valid - moves),
        ]

        # SEC: TEC.NO_SPARE_PAD -- where a job means nothing there may be the pad of a tag.
        meant = self._meant(fresh, final, half, left, order)
        pad = Mux(half, pads[1].data, pads[0].data) if banks == 2 else pads[0].data
        shows = ~order.hidden if config.general else 1
        mixed = Signal.like(self.o_data)
        m.d.comb += mixed.eq(self.i.payload ^ pad)
        m.d.sync += [
            self.o_valid.eq(takes & shows),
            self.o_data.eq(mixed & meant),
            self.o_seals.eq(order.seals),
        ]
        # Of other groups than those of a chunk only the first block means something, and not even
        # that if it is the pad of a tag that is not masked.
        first_block = Const((1 << min(128, config.data_bits)) - 1, config.data_bits)
        bares = [Const(0)] * banks
        if config.general:
            bare = Signal()
            m.d.sync += bare.eq(Mux(takes, order.bare, bare))
            bares = [order.bare & half, bare & masks][-banks:]
        for bank, (get, masked, write) in enumerate(zip(pads, masking, writes, strict=True)):
            padded = Signal.like(self.o_data, name=f"padded_{bank}")
            m.d.comb += padded.eq(Mux(masked, 0, self.i.payload) ^ get.data)
            text = Mux(masked | order.seals, padded, self.i.payload)
            text &= Mux(masked, Mux(bares[bank], 0, first_block), meant)
            m.d.comb += [
                self.text.enable[bank].eq(write),
                self.text.data[bank].eq(Mux(self.wipe, 0, text)),
            ]
        info: Any = self.text.info
        m.d.comb += [getattr(info, name).eq(getattr(order, name)) for name in info.shape().members]
        m.d.comb += [info.start.eq(order.start & fresh), info.last.eq(order.last & final)]
        m.d.comb += [
            info.first.eq(Mux(fresh, order.first, 0)),
            info.end.eq(Mux(final, order.end, config.granules)),
        ]

        with m.If(takes):
            m.d.sync += left.eq(left - 1)
            if banks == 2:
                m.d.sync += half.eq(~half)
            with m.If(whole):
                m.d.sync += fresh.eq(0)
        with m.If(self.order.ready):
            m.d.sync += works.eq(self.order.valid)
            m.d.sync += [
                order.eq(self.order.payload),
                left.eq(self.order.payload.beats),
                fresh.eq(1),
            ]

        return m

    def _meant(self, fresh: Any, final: Any, half: Any, left: Any, order: Any) -> Any:
        """Return a mask of the bits of a beat that its job means."""
        config = self.config
        if config.granules == 1:
            granules = [Const(1, 1)]
            last_block = order.last & (left <= config.block_beats)
            ends = [last_block]
        else:
            granules = [
                ~((fresh & (order.first > n)) | (final & (order.end <= n)))
                for n in range(config.granules)
            ]
            ends = [final & order.last & (order.end == n + 1) for n in range(config.granules)]
        octets = []
        for granule, end in zip(granules, ends, strict=True):
            for n in range(config.granule):
                octet = granule
                if config.general:
                    # The last block may be short.
                    place = Mux(half, n + config.granule, n) if config.block_beats == 2 else n
                    short = order.nbytes[:4]
                    octet = granule & ~(end & (short != 0) & (place >= short))
                octets.append(octet.replicate(8))
        return Cat(octets)
