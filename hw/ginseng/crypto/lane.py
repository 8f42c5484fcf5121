"""A lane of AES-GCM: chunks in bursts, those of several contexts in turn (NIST SP 800-38D)."""

from typing import Any

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.aes import RoundKey
from ginseng.crypto.job import LaneConfig, LanePort
from ginseng.crypto.mixer import Mixer
from ginseng.crypto.pads import PAD_DEPTH, Pads
from ginseng.crypto.tags import Tags
from ginseng.flow.queue import Latch, Queue

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Encrypts or decrypts the beats of jobs, and gives the tags of chunks.

    Takes a beat per cycle while pads are there and GHASH is less than its queue behind. Of a chunk
    of ``b`` blocks AES makes ``b + 1`` pads, GHASH takes ``b + 1`` blocks. Timing depends on
    neither data nor keys.

    Parameters
    ----------
    config : LaneConfig

    """

    #: In: ``{slot}``, whose hash key is to be made: its round keys stand.
    hash_key: stream.Interface
    port: Any

    def __init__(self, config: LaneConfig) -> None:
        self.config = config
        slot = data.StructLayout({"slot": range(config.aes.slots)})
        super().__init__(
            {
                "port": In(LanePort(config)),
                "round_key": In(RoundKey(config.aes)),
                "hash_key": In(stream.Signature(slot)),
                #: In: everything is forgotten while high; `wiped` says when nothing is left.
                "wipe": In(1),
                "wiped": Out(1),
                #: Out: the first stage of AES, GHASH works on a block, for counters.
                "busy_aes": Out(1),
                "busy_ghash": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Everything but the sweep is in a domain that `wipe` resets; the sweep writes zeros over
        # what is in memories, which take theirs from registers that are reset.
        m.domains.cleared = cleared = ClockDomain(local=True)
        m.d.comb += [cleared.clk.eq(ClockSignal()), cleared.rst.eq(ResetSignal() | self.wipe)]
        inside = DomainRenamer("cleared")
        sweep = Signal(range(PAD_DEPTH))
        m.d.sync += [
            sweep.eq(Mux(self.wipe, sweep + 1, 0)),
            self.wiped.eq(self.wipe & (self.wiped | (sweep == PAD_DEPTH - 1))),
        ]

        jobs = Latch(self.config.job)
        pads = Pads(self.config)
        orders = Queue(pads.layout, PAD_DEPTH)
        mixer = Mixer(self.config, pads.layout)
        tags = Tags(self.config)
        for name, part in (
            ("jobs", jobs),
            ("pads", pads),
            ("orders", orders),
            ("mixer", mixer),
            ("tags", tags),
        ):
            m.submodules[name] = inside(part)

        wiring.connect(m, jobs.o, pads.job)
        wiring.connect(m, pads.order, orders.i)
        wiring.connect(m, orders.o, mixer.order)
        wiring.connect(m, mixer.text, tags.text)
        wiring.connect(m, wiring.flipped(self.hash_key), pads.hash_key)
        wiring.connect(m, wiring.flipped(self.round_key), pads.round_key)
        wiring.connect(m, wiring.flipped(self.port.job), jobs.i)
        wiring.connect(m, wiring.flipped(self.port.i), mixer.i)
        m.d.comb += [
            mixer.pads_valid.eq(pads.o_valid),
            mixer.pads.eq(pads.o_pads),
            pads.used.eq(mixer.used),
            self.port.o_valid.eq(mixer.o_valid),
            self.port.o_data.eq(mixer.o_data),
            self.port.o_seals.eq(mixer.o_seals),
            self.port.tag_valid.eq(tags.o_valid),
            self.port.tag.eq(tags.o_tag),
            self.busy_aes.eq(pads.busy),
            self.busy_ghash.eq(tags.busy),
            *(sink.eq(self.wipe) for sink in (mixer.wipe, tags.wipe)),
            *(sink.eq(sweep) for sink in (mixer.sweep, tags.sweep)),
        ]

        return m
