"""Walks a store's rows: chunk by chunk, burst by burst (TEC specification §6)."""

from typing import Final

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import PAGE_BYTES
from ginseng.isa.table import GRANULE, STORE_SPAN
from ginseng.tec.shapes import TecShapes

__all__ = ["BURST_LIMIT", "Segments", "chunk_layout", "segment_layout"]

#: Longest burst of a store, in beats: its bytes are all there before the lane takes it.
BURST_LIMIT: Final = 64
#: Positions and sizes are in cipher blocks here.
_LOG: Final = (GRANULE - 1).bit_length()
#: Counter of a chunk's first block.
_FIRST_COUNTER: Final = 2
#: Of a handle in a nonce's prefix.
_HANDLE_AT: Final = 48


def segment_layout(shapes: TecShapes) -> data.StructLayout:
    """A burst of a chunk.

    ``beat``
        Its first, from the start of the window.
    ``beats``, ``first``, ``end``
        As of a lane's job.
    ``fresh``, ``final``
        Begins, ends a descriptor.
    ``start``, ``last``
        Begins, ends a chunk.
    ``index``, ``nbytes``, ``counter``
        Of the chunk; of the burst's first block.

    The rest is the plan's.
    """
    plan = shapes.plan
    kept = ("slot", "prefix", "tag_base", "tracked", "first_bit", "measured", "index")
    return data.StructLayout(
        {
            "beat": shapes.position_bits - (shapes.config.bus.beat_bytes - 1).bit_length(),
            "beats": range(shapes.burst_beats + 1),
            "first": range(shapes.granules),
            "end": range(shapes.granules + 1),
            "fresh": 1,
            "final": 1,
            "start": 1,
            "last": 1,
            "nbytes": shapes.chunk_bits,
            "counter": shapes.chunk_bits - _LOG + 1,
            **{name: plan[name].shape for name in kept},
        }
    )


def chunk_layout(shapes: TecShapes) -> data.StructLayout:
    """A chunk of a tensor: its first byte, its size in bytes, its index."""
    return data.StructLayout(
        {
            "position": shapes.position_bits,
            "nbytes": shapes.chunk_bits,
            "index": shapes.index_bits,
        }
    )


class Segments(wiring.Component):
    """Cuts plans at chunks, at 4 KiB and at `BURST_LIMIT`: a burst in three cycles and more.

    Rows that follow one another share bursts; each row of a plan whose rows do takes a cycle more.
    A plan is taken with its last burst. A plan that is not whole chunks in ascending order gives
    no burst from there on: ``fault`` rises and stays.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: plans of stores.
    i: stream.Interface
    #: Out: bursts, in order.
    o: stream.Interface
    #: In: each chunk waits to be taken from ``chunk``.
    announces: Signal
    #: Out: chunks, before their first burst.
    chunk: stream.Interface
    #: Out: the whole-chunk rule was broken.
    fault: Signal
    #: Out: a chunk is not complete.
    open_chunk: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        #: Longest burst, in beats.
        self.burst_beats = min(shapes.burst_beats, BURST_LIMIT)
        super().__init__(
            {
                "i": In(stream.Signature(shapes.plan)),
                "o": Out(stream.Signature(segment_layout(shapes))),
                "announces": In(1),
                "chunk": Out(stream.Signature(chunk_layout(shapes))),
                "fault": Out(1),
                "open_chunk": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes = self.shapes
        plan = self.i.p
        beat_bytes = shapes.config.bus.beat_bytes
        # A beat is half a block on the narrowest bus, some blocks on the widest.
        halves = GRANULE // min(beat_bytes, GRANULE)
        per_beat = max(beat_bytes // GRANULE, 1)
        log_beat = (beat_bytes - 1).bit_length()
        longest = self.burst_beats * per_beat // halves
        page = PAGE_BYTES // GRANULE
        position_bits = shapes.position_bits - _LOG
        chunk_bits = shapes.chunk_bits - _LOG

        # The next byte, and what is left of its chunk; they outlive a plan.
        at = Signal(position_bits)
        index = Signal(shapes.index_bits)
        size = Signal(chunk_bits)
        left = Signal(chunk_bits)
        counter = Signal(chunk_bits + 1)
        handle = Signal(shapes.tec.handle_bits)
        stores = Signal(range(STORE_SPAN + 1))
        start = Signal()
        # The plan's rows.
        row_index = Signal(shapes.index_bits)
        row_left = Signal(position_bits)
        rows_left = Signal(16)
        first_row = Signal()
        follow = Signal()
        fresh = Signal()

        # What the plan says in blocks.
        row_blocks = plan.row_bytes[_LOG:]
        chunk_blocks = plan.chunk[_LOG:]
        plan_handle = plan.prefix[_HANDLE_AT : _HANDLE_AT + shapes.tec.handle_bits]

        rest = Signal(position_bits)
        limit = Signal(range(longest + 1))
        space = Signal(range(longest + 1))
        taken = Signal(range(longest + 1))
        blocks = Signal(range(longest + 1))
        gap = Signal(position_bits)
        broken = Signal()
        to_page = Signal(range(page + 1))
        address = Signal(position_bits)
        row_ends = Signal()
        last = Signal()
        # SEC: TEC.CHUNK_WHOLE -- a row that does not follow begins where a chunk does.
        within = Signal(chunk_bits + 1)
        carry = Signal()
        jump = Signal()
        m.d.comb += [
            self.open_chunk.eq(left != 0),
            address.eq(plan.base[_LOG:] + at),
            to_page.eq(page - address[: (page - 1).bit_length()]),
            taken.eq(Mux(row_left < space, row_left, space)),
            row_ends.eq(row_left == taken),
            blocks.eq(limit - space),
            last.eq(left == blocks),
            within.eq(plan.within[_LOG:] + plan.stride_within[_LOG:]),
            carry.eq(first_row & (within == chunk_blocks)),
            jump.eq(carry | (Mux(first_row, within, plan.stride_within[_LOG:]) == 0)),
            self.chunk.p.position.eq(at << _LOG),
            self.chunk.p.nbytes.eq(size << _LOG),
            self.chunk.p.index.eq(index),
        ]
        m.d.sync += gap.eq(plan.stride[_LOG:] - row_blocks)

        o = self.o.p
        first = address[: (per_beat - 1).bit_length()]
        stop_at = Signal(range(per_beat + longest + 1))
        tail = stop_at[: (per_beat - 1).bit_length()]
        m.d.comb += [
            stop_at.eq(first + blocks),
            o.beat.eq((address << _LOG) >> log_beat),
            o.beats.eq(((stop_at << _LOG) + (beat_bytes - 1)) >> log_beat),
            o.first.eq(first),
            o.end.eq(Mux(tail == 0, per_beat, tail)),
            o.fresh.eq(fresh),
            o.final.eq((row_left == 0) & (rows_left == 0)),
            o.start.eq(start),
            o.last.eq(last),
            o.index.eq(index),
            o.nbytes.eq(size << _LOG),
            o.counter.eq(counter),
        ]
        for name in ("slot", "prefix", "tag_base", "tracked", "first_bit", "measured"):
            m.d.comb += o[name].eq(plan[name])

        with m.FSM():
            with m.State("Take-Plan"):
                m.d.sync += [
                    row_left.eq(row_blocks),
                    rows_left.eq(plan.rows - 1),
                    row_index.eq(plan.index),
                    first_row.eq(1),
                    fresh.eq(1),
                    follow.eq(plan.stride == plan.row_bytes),
                    handle.eq(plan_handle),
                ]
                # SEC: TEC.CHUNK_WHOLE -- ascending, without gap or repeat, before any other chunk,
                # over few stores.
                with m.If(self.open_chunk):
                    m.d.comb += broken.eq(
                        (plan.position[_LOG:] != at)
                        | (plan_handle != handle)
                        | (stores == STORE_SPAN)
                    )
                with m.Else():
                    m.d.comb += broken.eq(plan.within != 0)
                    m.d.sync += [at.eq(plan.position[_LOG:]), index.eq(plan.index)]
                with m.If(self.i.valid & ~self.fault):
                    m.d.sync += self.fault.eq(broken)
                    with m.If(~broken):
                        m.d.sync += stores.eq(stores + 1)
                        with m.If(self.open_chunk):
                            m.next = "Limit-Burst"
                        with m.Else():
                            m.next = "Measure-Rest"

            with m.State("Measure-Rest"):
                m.d.sync += rest.eq(plan.length[_LOG:] - at)
                m.next = "Open-Chunk"

            with m.State("Open-Chunk"):
                opened = Mux(rest < chunk_blocks, rest, chunk_blocks)
                m.d.sync += [
                    size.eq(opened),
                    left.eq(opened),
                    counter.eq(_FIRST_COUNTER),
                    start.eq(1),
                    stores.eq(1),
                ]
                m.next = "Announce-Chunk"

            with m.State("Announce-Chunk"):
                m.d.comb += self.chunk.valid.eq(self.announces)
                m.d.sync += [limit.eq(longest), space.eq(longest)]
                with m.If(~self.announces | self.chunk.ready):
                    m.next = "Limit-Burst"

            with m.State("Limit-Burst"):
                # Of a beat that is only partly the burst's, the rest counts too.
                whole = longest - first
                short = Mux(to_page < whole, to_page, whole)
                bound = Mux(left < short, left, short)
                m.d.sync += [limit.eq(bound), space.eq(bound)]
                m.next = "Gather-Rows"

            with m.State("Gather-Rows"):
                m.d.sync += [row_left.eq(row_left - taken), space.eq(space - taken)]
                with m.If(row_ends & follow & (rows_left != 0)):
                    m.d.sync += [row_left.eq(row_blocks), rows_left.eq(rows_left - 1)]
                with m.If((space == taken) | (row_ends & ~(follow & (rows_left != 0)))):
                    m.next = "Offer-Burst"

            with m.State("Offer-Burst"):
                m.d.comb += self.o.valid.eq(~self.fault)
                with m.If(self.o.ready & ~self.fault):
                    m.d.comb += self.i.ready.eq(o.final)
                    m.d.sync += [
                        at.eq(at + blocks),
                        counter.eq(counter + blocks),
                        left.eq(left - blocks),
                        start.eq(0),
                        fresh.eq(0),
                    ]
                    with m.If(o.final):
                        m.next = "Take-Plan"
                    with m.Elif(row_left == 0):
                        # SEC: TEC.CHUNK_WHOLE
                        m.d.sync += self.fault.eq(~last)
                        m.next = "Next-Row"
                    with m.Elif(last):
                        m.d.sync += index.eq(index + 1)
                        m.next = "Measure-Rest"
                    with m.Else():
                        m.next = "Limit-Burst"

            with m.State("Next-Row"):
                following = Signal(shapes.index_bits)
                m.d.comb += following.eq(row_index + plan.stride_index + carry)
                m.d.sync += [
                    at.eq(at + gap),
                    index.eq(following),
                    row_index.eq(following),
                    row_left.eq(row_blocks),
                    rows_left.eq(rows_left - 1),
                    first_row.eq(0),
                ]
                with m.If(~jump):
                    m.d.sync += self.fault.eq(1)
                with m.If(~self.fault):
                    m.next = "Measure-Rest"

        return m
