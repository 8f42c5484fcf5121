"""Compares the tags of chunks, in the order in which their last beats came."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.flow.queue import Queue
from ginseng.isa.formats import TAG_BYTES
from ginseng.tec.arrive import tag_layout
from ginseng.tec.orders import CHUNKS, visit_layout
from ginseng.tec.shapes import TecShapes

__all__ = ["Verifier"]


class Verifier(wiring.Component):
    """Holds a chunk's tag from memory against the lane's, and says of each chunk that it verified.

    All 128 bits are compared at once: two cycles after both tags are there, ``valid`` or ``fault``
    is high. The next tag from memory waits for that. What is behind a chunk's tag waits with it, so
    the lane is never more than one tag ahead.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: tags from memory, beat by beat.
    expected: stream.Interface
    #: In: chunks, in the order in which their tags come from the lane.
    visit: stream.Interface
    #: In: a tag from the lane.
    tag_valid: Signal
    tag: Signal
    #: Out: this chunk verified, for one cycle.
    valid: Signal
    verified: Any
    #: In: nothing verifies any more.
    stop: Signal
    #: Out: a tag differs, or nobody waits for it; for one cycle.
    fault: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "expected": In(stream.Signature(tag_layout(shapes))),
                "visit": In(stream.Signature(visit_layout(shapes))),
                "tag_valid": In(1),
                "tag": In(8 * TAG_BYTES),
                "valid": Out(1),
                "verified": Out(visit_layout(shapes)),
                "stop": In(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.queue = queue = Queue(visit_layout(self.shapes), CHUNKS)
        wiring.connect(m, wiring.flipped(self.visit), queue.i)

        # The tag from memory, a block of a wide beat or several narrow ones.
        width = 8 * TAG_BYTES
        beat = self.expected.p
        beats = max(1, width // len(beat.data))
        expected = Signal(width)
        count = Signal(range(beats + 1))
        compares = Signal()
        m.d.comb += self.expected.ready.eq(count != beats)
        with m.If(self.expected.valid & self.expected.ready):
            m.d.sync += count.eq(count + 1)
            if beats > 1:
                m.d.sync += expected.eq(Cat(expected, beat.data)[-width:])
            else:
                m.d.sync += expected.eq(beat.data.word_select(beat.at, width))
        with m.Elif(compares):
            m.d.sync += count.eq(0)

        tag = Signal(width)
        there = Signal()
        m.d.comb += [
            compares.eq(there & (count == beats) & queue.o.valid & ~self.stop),
            queue.o.ready.eq(compares),
        ]
        # SEC: TEC.VERIFY_BEFORE_USE -- all bits of the tag, whoever asked for the chunk.
        m.d.sync += [
            there.eq((there & ~compares) | self.tag_valid),
            self.valid.eq(compares & (tag == expected)),
            self.fault.eq((compares & (tag != expected)) | (self.tag_valid & there & ~compares)),
            self.verified.eq(queue.o.p),
        ]
        with m.If(self.tag_valid):
            m.d.sync += tag.eq(self.tag)

        return m
