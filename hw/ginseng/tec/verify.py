"""Compares the tags of chunks, in the order in which their last beats came."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import READERS
from ginseng.flow.queue import Queue
from ginseng.isa.formats import TAG_BYTES
from ginseng.tec.arrive import tags_layout
from ginseng.tec.orders import CHUNKS, TAGS, visit_layout
from ginseng.tec.shapes import TecShapes

__all__ = ["Verifier"]


class Verifier(wiring.Component):
    """Keeps two groups of tags per client, and says of each chunk that it verified.

    All 128 bits are compared at once: two cycles after the lane gave the tag, ``valid`` or
    ``fault`` is high.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: tags from memory.
    tags_valid: Signal
    tags: Any
    #: In: chunks, in the order in which their tags come from the lane.
    visit: stream.Interface
    #: In: a tag from the lane.
    tag_valid: Signal
    tag: Signal
    #: Out: this chunk verified, for one cycle.
    valid: Signal
    verified: Any
    #: Out: chunks of each client that did not yet.
    unverified: Any
    #: In: nothing verifies any more.
    stop: Signal
    #: Out: a tag differs, or nobody waits for it; for one cycle.
    fault: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "tags_valid": In(1),
                "tags": In(tags_layout(shapes)),
                "visit": In(stream.Signature(visit_layout(shapes))),
                "tag_valid": In(1),
                "tag": In(8 * TAG_BYTES),
                "valid": Out(1),
                "verified": Out(visit_layout(shapes)),
                "unverified": Out(data.ArrayLayout(range(CHUNKS + 1), len(READERS))),
                "stop": In(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.queue = queue = Queue(visit_layout(self.shapes), CHUNKS)
        wiring.connect(m, wiring.flipped(self.visit), queue.i)
        waiting = queue.o.p

        # A tag is where the low bits of its chunk's index say.
        beat_bytes = self.shapes.config.bus.beat_bytes
        per_beat = max(1, beat_bytes // TAG_BYTES)
        beats = max(1, TAG_BYTES // beat_bytes)
        width = min(8 * TAG_BYTES, 8 * beat_bytes)
        log_per_beat = (per_beat - 1).bit_length()
        tags = self.tags
        words = []
        start = tags.first >> log_per_beat
        for n in range(max(per_beat, beats)):
            kept: Any = memory.Memory(
                shape=width, depth=2 * len(READERS) * TAGS // per_beat, init=[]
            )
            m.submodules[f"tags_{n}"] = kept
            put, get = kept.write_port(), kept.read_port(domain="comb")
            if per_beat > 1:
                row = Signal(range(TAGS // per_beat))
                number = row * per_beat + n
                m.d.comb += [
                    row.eq(start + tags.beat),
                    put.en.eq(self.tags_valid & (number >= tags.first) & (number < tags.end)),
                    put.data.eq(tags.data.word_select(n, width)),
                ]
            else:
                row = Signal(range(TAGS))
                m.d.comb += [
                    row.eq(tags.first + tags.beat // beats),
                    put.en.eq(self.tags_valid & ((tags.beat % beats) == n)),
                    put.data.eq(tags.data),
                ]
            m.d.comb += [
                put.addr.eq(Cat(row, tags.half, tags.client)),
                get.addr.eq(Cat(waiting.tag[log_per_beat:], waiting.half, waiting.client)),
            ]
            words.append(get.data)
        expected = Signal(8 * TAG_BYTES)
        if per_beat > 1:
            with m.Switch(waiting.tag[:log_per_beat]):
                for n in range(per_beat):
                    with m.Case(n):
                        m.d.comb += expected.eq(words[n])
        else:
            m.d.comb += expected.eq(Cat(words))

        tag = Signal(8 * TAG_BYTES)
        compares = Signal()
        equal = Signal()
        m.d.comb += [
            equal.eq(queue.o.valid & (tag == expected)),
            queue.o.ready.eq(compares),
        ]
        # SEC: TEC.VERIFY_BEFORE_USE -- all bits of the tag, whoever asked for the chunk.
        m.d.sync += [
            tag.eq(self.tag),
            compares.eq(self.tag_valid & ~self.stop),
            self.valid.eq(compares & equal & ~self.stop),
            self.fault.eq(compares & ~equal),
            self.verified.eq(waiting),
        ]
        begins = self.visit.valid & self.visit.ready
        for n in range(len(READERS)):
            m.d.sync += self.unverified[n].eq(
                self.unverified[n]
                + (begins & (self.visit.p.client == n))
                - (compares & (waiting.client == n))
            )

        return m
