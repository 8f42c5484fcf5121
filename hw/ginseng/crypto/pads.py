"""Pads of jobs: counter blocks through AES, in order of the jobs, as long as there is room."""

from typing import Any, Final

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ginseng.crypto.aes import Aes, RoundKey
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
    #: Out: each job as its pads begin to be made, nonce and counter left out, and each hash key,
    #: with ``hashes``.
    order: stream.Interface

    def __init__(self, config: LaneConfig) -> None:
        self.config = config
        members: dict[str, Any] = {"hashes": 1} | dict(config.job.members)
        for name in ("nonce", "counter", "mask"):
            members.pop(name, None)
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
        ciphers = [Aes(self.config.aes) for _ in range(granules)]
        for n, cipher in enumerate(ciphers):
            m.submodules[f"aes_{n}"] = cipher
        lead: Any = ciphers[0]
        job: Any = self.job.payload

        # What the next group is made of: key, nonce, the counter of each granule.
        slot, nonce = Signal(range(self.config.aes.slots)), Signal(96)
        counters = [Signal(32, name=f"counter_{n}") for n in range(granules)]
        # Whether there is one, and whether it is the pad of a tag; of a job, groups that are left,
        # and whether the chunk ends with it.
        works, masks, last = Signal(), Signal(), Signal()
        left = Signal(range(self.config.burst_beats + 1))
        mask = Signal(32, init=MASK_COUNTER)
        # Groups that may yet be begun before one is used.
        room = Signal(range(PAD_DEPTH + 1), init=PAD_DEPTH)

        issues, final, begins, free = Signal(), Signal(), Signal(), Signal()
        takes_key, takes_job = Signal(), Signal()
        order: Any = self.order.payload
        m.d.comb += [
            issues.eq(works & (room != 0) & lead.i.ready),
            final.eq(((left == 1) & ~last) | masks),
            begins.eq(~works | (issues & final)),
            free.eq(begins & self.order.ready),
            takes_key.eq(free & self.hash_key.valid),
            takes_job.eq(free & self.job.valid & ~self.hash_key.valid),
            self.hash_key.ready.eq(free),
            self.job.ready.eq(free & ~self.hash_key.valid),
            self.order.valid.eq(begins & (self.hash_key.valid | self.job.valid)),
            *(
                getattr(order, name).eq(getattr(job, name))
                for name in job.shape().members
                if name in self.layout.members
            ),
            self.o_valid.eq(lead.o_valid),
            self.o_pads.eq(Cat(cipher.o_block for cipher in ciphers)),
            self.busy.eq(lead.busy),
        ]
        with m.If(self.hash_key.valid):
            m.d.comb += [order.hashes.eq(1), order.slot.eq(self.hash_key.payload.slot)]
        for cipher, counter in zip(ciphers, counters, strict=True):
            # The number that nonce and counter are, its top byte first.
            number = Cat(counter, nonce)
            m.d.comb += [
                cipher.i.valid.eq(works & (room != 0)),
                cipher.i.payload.block.eq(Cat(number.word_select(15 - n, 8) for n in range(16))),
                cipher.i.payload.slot.eq(slot),
            ]
            for name in self.round_key.signature.members:
                port: Any = getattr(cipher.round_key, name)
                m.d.comb += port.eq(getattr(self.round_key, name))

        with m.If(issues):
            m.d.sync += [left.eq(left - 1), works.eq(~final)]
            m.d.sync += [counter.eq(counter + granules) for counter in counters]
            with m.If((left == 1) & last):
                m.d.sync += masks.eq(1)
                m.d.sync += [counter.eq(mask) for counter in counters]
        with m.If(takes_job | takes_key):
            m.d.sync += [works.eq(1), masks.eq(0), slot.eq(order.slot)]
        with m.If(takes_job):
            m.d.sync += [
                nonce.eq(job.nonce),
                left.eq(job.beats >> exact_log2(block_beats)),
                last.eq(job.last),
                *([mask.eq(job.mask)] if self.config.general else []),
                *(c.eq(job.counter + n - job.first) for n, c in enumerate(counters)),
            ]
        with m.If(takes_key):
            # The hash key is the encryption of zeros (NIST SP 800-38D, §7.1).
            m.d.sync += [nonce.eq(0), left.eq(1), last.eq(0), *(c.eq(0) for c in counters)]
        m.d.sync += room.eq(room - issues + self.used)

        return m
