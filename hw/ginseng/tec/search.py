"""Says where a chunk's tag is, or which tags to ask for (TEC specification §5)."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import READERS
from ginseng.isa.table import GRANULE
from ginseng.tec.context import keep
from ginseng.tec.orders import TAGS
from ginseng.tec.shapes import TecShapes

__all__ = ["TagSearch", "group_bits"]

_LOG_TAGS = (TAGS - 1).bit_length()


def group_bits(shapes: TecShapes) -> int:
    """Bits of the number of a group of `TAGS` tags, from the start of the window."""
    return shapes.position_bits - (GRANULE * TAGS - 1).bit_length()


class TagSearch(wiring.Component):
    """Knows which tags of each client are in the buffer, and whether chunks may be read.

    An answer takes no cycle, for a chunk of a W row what its test takes. Where the tag is missing,
    those after it in its group come with it, up to the first chunk that may not be read now: a tag
    counts only if its chunk was readable when it was asked for.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: held until ``done``: search for the tag of chunk ``index`` of this client's tensor.
    valid: Signal
    client: Signal
    index: Signal
    #: In: the tensor: group of its first tag, chunks, whether and where they have bits.
    tags: Signal
    chunks: Signal
    tracked: Signal
    first_bit: Signal
    #: Out: the answer: the chunk may be read; its tag is missing.
    done: Signal
    missing: Signal
    #: Out: its group; chunks of it up to here may be asked for.
    group: Signal
    end: Signal
    #: Out: which half of the buffer was asked for last.
    half: Signal
    #: In: the tags from ``index`` to ``end`` are asked for, into the other half.
    asks: Signal
    #: Out: ``{bit}`` of a chunk of a W row. In: whether it may be read, in order.
    test: stream.Interface
    test_valid: Signal
    test_readable: Signal
    #: In: forget the tags.
    clear: Signal
    #: In: the sticky fault.
    stop: Signal
    #: Out: a chunk may not be read; stays until reset.
    fault: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        bit = range(shapes.tec.bitmap_bits)
        group = group_bits(shapes)
        super().__init__(
            {
                "valid": In(1),
                "client": In(range(len(READERS))),
                "index": In(shapes.index_bits),
                "tags": In(group),
                "chunks": In(shapes.index_bits),
                "tracked": In(1),
                "first_bit": In(bit),
                "done": Out(1),
                "missing": Out(1),
                "group": Out(group),
                "end": Out(range(TAGS + 1)),
                "half": Out(1),
                "asks": In(1),
                "test": Out(stream.Signature(data.StructLayout({"bit": bit}))),
                "test_valid": In(1),
                "test_readable": In(1),
                "clear": In(1),
                "stop": In(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # In the buffer are those of chunks `low` to before `high` of a group.
        layout: Any = data.StructLayout(
            {
                "group": group_bits(self.shapes),
                "low": range(TAGS),
                "high": range(TAGS + 1),
                "half": 1,
            }
        )
        groups = keep(m, "groups", layout, self.client, self.client)
        known = Signal(len(READERS))
        number, wanted = self.index[:_LOG_TAGS], self.index[_LOG_TAGS:]
        kept = groups.get
        limit = Signal(range(TAGS + 1))
        m.d.comb += [
            self.group.eq(self.tags + wanted),
            self.half.eq(kept.half),
            self.missing.eq(
                ~known.bit_select(self.client, 1)
                | (kept.group != self.group)
                | (number < kept.low)
                | (number >= kept.high)
            ),
            limit.eq(
                Mux(self.chunks[_LOG_TAGS:] == wanted, self.chunks[:_LOG_TAGS], TAGS),
            ),
            groups.write.eq(self.asks),
            groups.put.group.eq(self.group),
            groups.put.low.eq(number),
            groups.put.high.eq(self.end),
            groups.put.half.eq(~kept.half),
        ]
        with m.If(self.asks):
            m.d.sync += known.bit_select(self.client, 1).eq(1)
        with m.If(self.clear):
            m.d.sync += known.eq(0)

        # Chunks up to `probe` are being tested, up to `answers` were, up to `end` are readable.
        probe, answers, last = (
            Signal(range(TAGS + 1), name=n) for n in ("probe", "answers", "last")
        )
        m.d.comb += self.test.p.bit.eq(self.first_bit + Cat(probe[:_LOG_TAGS], wanted))
        with m.FSM():
            with m.State("Find-Tag"), m.If(self.valid):
                m.d.sync += [
                    probe.eq(number),
                    answers.eq(number),
                    last.eq(Mux(self.missing, limit, number + 1)),
                    self.end.eq(Mux(self.tracked, number, limit)),
                ]
                m.d.comb += self.done.eq(~self.tracked)
                with m.If(self.tracked):
                    m.next = "Test-Chunks"

            with m.State("Test-Chunks"):
                m.d.comb += self.test.valid.eq((probe != last) & ~self.stop)
                with m.If(self.test.valid & self.test.ready):
                    m.d.sync += probe.eq(probe + 1)
                with m.If(self.test_valid):
                    m.d.sync += answers.eq(answers + 1)
                    # The first that is not readable ends the run.
                    with m.If(self.test_readable & (answers == self.end)):
                        m.d.sync += self.end.eq(self.end + 1)
                with m.If(answers == last):
                    # SEC: TEC.WRITTEN_BITMAP -- what an earlier run or session left is never read.
                    with m.If(self.end == number):
                        m.d.sync += self.fault.eq(1)
                        m.next = "Stop"
                    with m.Else():
                        m.d.comb += self.done.eq(1)
                        m.next = "Find-Tag"

            with m.State("Stop"):
                pass

        return m
