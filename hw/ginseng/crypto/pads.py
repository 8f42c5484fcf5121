"""Pads of jobs: counter blocks through AES, in order of the jobs, as long as there is room."""

from typing import Any, Final

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ginseng.crypto.aes import Aes, RoundKey
from ginseng.crypto.ghash import Subkey
from ginseng.crypto.job import LaneConfig

__all__ = ["PAD_DEPTH", "Pads"]

#: Groups of pads that are made ahead.
PAD_DEPTH: Final = 32
#: The counter whose pad masks the tag, with a nonce of 96 bits (NIST SP 800-38D, §7.1).
MASK_COUNTER: Final = 1


class Pads(wiring.Component):
    """Makes the pads of jobs and, after those of a chunk, that of its tag.

    A group is the pads of a beat, or of the beats of a block; the pad of a tag is a group of its
    own, whose other blocks mean nothing. Pads follow each other as `AesConfig.passes` says, from
    one job to the next too.

    Parameters
    ----------
    config : LaneConfig

    """

    #: In: jobs.
    job: stream.Interface
    #: In: ``{slot}``, whose hash key is to be made, between two jobs.
    hash_key: stream.Interface
    #: Out: each job as its pads begin to be made, nonce and counter left out.
    order: stream.Interface

    def __init__(self, config: LaneConfig) -> None:
        self.config = config
        members = dict(config.job.members)
        for name in ("nonce", "counter"):
            del members[name]
        #: Of an order.
        self.layout = data.StructLayout(members)
        super().__init__(
            {
                "job": In(stream.Signature(config.job)),
                "hash_key": In(
                    stream.Signature(data.StructLayout({"slot": range(config.aes.slots)}))
                ),
                "order": Out(stream.Signature(self.layout)),
                "round_key": In(RoundKey(config.aes)),
                "subkey": Out(Subkey(config.aes.slots)),
                #: Out: a group of pads, for one cycle.
                "o_valid": Out(1),
                "o_pads": Out(128 * config.granules),
                #: In: a group was used: there is room for one more.
                "used": In(1),
                #: Out: the first stage of AES has a block.
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        granules, block_beats = self.config.granules, self.config.block_beats
        ciphers = [Aes(self.config.aes, mark=1) for _ in range(granules)]
        for n, cipher in enumerate(ciphers):
            m.submodules[f"aes_{n}"] = cipher
        lead: Any = ciphers[0]
        job: Any = self.job.payload

        # What the next group is made of: key, nonce, the counter of each granule.
        slot, nonce = Signal(range(self.config.aes.slots)), Signal(96)
        counters = [Signal(32, name=f"counter_{n}") for n in range(granules)]
        # Whether there is one, and whether it is the pad of a tag or makes a hash key; of a job,
        # groups that are left, and whether the chunk ends with it.
        works, masks, hashes, last = Signal(), Signal(), Signal(), Signal()
        left = Signal(range(self.config.burst_beats + 1))
        # The hash key is on its way.
        waits = Signal()
        # Groups that may yet be begun before one is used.
        room = Signal(range(PAD_DEPTH + 1), init=PAD_DEPTH)

        offers, issues, final, free = Signal(), Signal(), Signal(), Signal()
        takes_key, takes_job = Signal(), Signal()
        m.d.comb += [
            offers.eq(works & (hashes | (room != 0))),
            issues.eq(offers & lead.i.ready),
            final.eq((left == 1) & ~last | masks),
            free.eq(~waits & (~works | (issues & final))),
            takes_key.eq(free & self.hash_key.valid),
            takes_job.eq(self.job.valid & self.job.ready),
            self.hash_key.ready.eq(free),
            self.job.ready.eq(free & ~self.hash_key.valid & self.order.ready),
            self.order.valid.eq(free & ~self.hash_key.valid & self.job.valid),
            self.o_valid.eq(lead.o_valid & ~lead.o_mark),
            self.o_pads.eq(Cat(cipher.o_block for cipher in ciphers)),
            self.subkey.enable.eq(lead.o_valid & lead.o_mark),
            self.subkey.slot.eq(slot),
            self.subkey.key.eq(lead.o_block),
            self.busy.eq(lead.busy),
        ]
        for name in self.layout.members:
            m.d.comb += getattr(self.order.payload, name).eq(getattr(job, name))
        for cipher, counter in zip(ciphers, counters, strict=True):
            # The number that nonce and counter are, its top byte first.
            number = Cat(counter, nonce)
            m.d.comb += [
                cipher.i.valid.eq(offers),
                cipher.i.payload.block.eq(Cat(number.word_select(15 - n, 8) for n in range(16))),
                cipher.i.payload.slot.eq(slot),
                cipher.i.payload.mark.eq(hashes),
            ]
            for name in self.round_key.signature.members:
                port: Any = getattr(cipher.round_key, name)
                m.d.comb += port.eq(getattr(self.round_key, name))

        with m.If(issues):
            m.d.sync += [left.eq(left - 1), works.eq(~(final | hashes)), waits.eq(hashes)]
            m.d.sync += [counter.eq(counter + granules) for counter in counters]
            with m.If((left == 1) & last):
                m.d.sync += masks.eq(1)
                m.d.sync += [counter.eq(MASK_COUNTER) for counter in counters]
        with m.If(takes_job):
            m.d.sync += [
                works.eq(1),
                masks.eq(0),
                hashes.eq(0),
                slot.eq(job.slot),
                nonce.eq(job.nonce),
                left.eq(job.beats >> exact_log2(block_beats)),
                last.eq(job.last),
            ]
            m.d.sync += [c.eq(job.counter + n - job.first) for n, c in enumerate(counters)]
        with m.If(takes_key):
            m.d.sync += [
                works.eq(1),
                masks.eq(0),
                hashes.eq(1),
                slot.eq(self.hash_key.payload.slot),
                # The hash key is the encryption of zeros (NIST SP 800-38D, §7.1).
                nonce.eq(0),
                left.eq(0),
            ]
            m.d.sync += [counter.eq(0) for counter in counters]
        with m.If(self.subkey.enable):
            m.d.sync += waits.eq(0)
        m.d.sync += room.eq(room - (issues & ~hashes) + self.used)

        return m
