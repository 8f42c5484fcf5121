"""Walks a store's rows: chunk by chunk, burst by burst (TEC specification §6)."""

from typing import Final

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import PAGE_BYTES
from ginseng.isa.table import GRANULE, STORE_SPAN
from ginseng.tec.shapes import TecShapes

__all__ = ["BURST_LIMIT", "Segments", "chunk_layout", "segment_layout"]

#: Longest burst of a store, in beats: its bytes are all there before the lane takes it.
BURST_LIMIT: Final = 128
#: Positions and sizes are in cipher blocks here.
_LOG: Final = (GRANULE - 1).bit_length()
#: Counter of a chunk's first block.
_FIRST_COUNTER: Final = 2


def segment_layout(shapes: TecShapes) -> data.StructLayout:
    """A burst of a chunk.

    ``beat``
        Its first, from the start of the window.
    ``beats``, ``first``, ``end``
        As of a lane's job.
    ``fresh``, ``final``
        Begins, ends a descriptor.
    ``start``, ``last``, ``joins``
        Begins, ends a chunk; its tag may be in the same burst.
    ``index``, ``nbytes``, ``counter``
        Of the chunk; of the burst's first block.

    The rest is the plan's.
    """
    plan = shapes.plan
    kept = ("slot", "prefix", "tracked", "first_bit", "measured", "index")
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
            "joins": 1,
            "nbytes": shapes.chunk_bits,
            "counter": shapes.chunk_bits - _LOG + 1,
            **{name: plan[name].shape for name in kept},
        }
    )


def chunk_layout(shapes: TecShapes) -> data.StructLayout:
    """A chunk of a tensor: its size in bytes, its index."""
    return data.StructLayout({"nbytes": shapes.chunk_bits, "index": shapes.index_bits})


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
        log_beat = (beat_bytes - 1).bit_length()
        # Blocks of a beat and of the longest burst, powers of two; a beat may be half a block.
        per_beat = max(beat_bytes // GRANULE, 1)
        log_per_beat = (per_beat - 1).bit_length()
        longest = self.burst_beats * beat_bytes // GRANULE
        log_longest = (longest - 1).bit_length()
        log_page = (PAGE_BYTES // GRANULE - 1).bit_length()
        position_bits = shapes.position_bits - _LOG
        chunk_bits = shapes.chunk_bits - _LOG

        # What the plan says in blocks.
        base, extent, chunk_blocks = plan.base[_LOG:], plan.extent[_LOG:], plan.chunk[_LOG:]
        row_blocks, stride = plan.row_bytes[_LOG:], plan.stride[_LOG:]
        stride_within = plan.stride_within[_LOG:]

        # The next byte from the start of the window, and what is left of its chunk; they outlive a
        # plan.
        where = Signal(position_bits)
        index = Signal(shapes.index_bits)
        size = Signal(chunk_bits)
        left = Signal(chunk_bits)
        counter = Signal(chunk_bits + 1)
        stores = Signal(range(STORE_SPAN + 1))
        start = Signal()
        # The plan's rows: where one begins, what is left of it, its number from 1.
        row_where = Signal(position_bits)
        row_index = Signal(shapes.index_bits)
        row_left = Signal(position_bits)
        row = Signal(16)
        first_row = Signal()
        midway = Signal()
        follow = Signal()
        fresh = Signal()

        # One adder each for the next byte and its chunk: as a plan is taken, as a row jumps, as a
        # burst is given, over the tags in between; and for the tensor's end.
        takes, ends, jumps, given = Signal(), Signal(), Signal(), Signal()
        passes = Signal()
        idle, opens, next_row = Signal(), Signal(), Signal()
        blocks = Signal(range(longest + 1))
        last = Signal()
        final_row = Signal()
        carry = Signal()
        reached = Signal(position_bits)
        reached_index = Signal(shapes.index_bits)
        m.d.comb += [
            reached.eq(
                Mux(idle | ends, base, Mux(jumps | passes, row_where, where))
                + Mux(
                    ends,
                    extent,
                    Mux(
                        idle,
                        plan.position[_LOG:],
                        Mux(jumps, stride, Mux(passes, plan.stride_index, blocks)),
                    ),
                )
                + Mux(passes, carry, given & last)
            ),
            reached_index.eq(
                Mux(idle, plan.index, Mux(jumps, row_index, index))
                + Mux(jumps, plan.stride_index, 0)
                + Mux(jumps, carry, given & last)
            ),
            self.open_chunk.eq(left != 0),
            self.chunk.p.nbytes.eq(left << _LOG),
            self.chunk.p.index.eq(index),
            last.eq(left == blocks),
            final_row.eq(row == plan.rows),
            carry.eq(first_row & midway),
        ]
        with m.If((takes & ~self.open_chunk) | jumps | given):
            m.d.sync += [where.eq(reached), index.eq(reached_index)]
        with m.If(takes | jumps | passes):
            m.d.sync += row_where.eq(reached)
        with m.If(takes | jumps):
            m.d.sync += row_index.eq(reached_index)
        # Outside of the state machine, so that constants are loaded by the registers' resets.
        with m.If(idle):
            m.d.sync += row.eq(1)
        with m.Elif(next_row):
            m.d.sync += row.eq(row + 1)
        with m.If(opens):
            m.d.sync += counter.eq(_FIRST_COUNTER)
        with m.Elif(given):
            m.d.sync += counter.eq(counter + blocks)

        # A burst ends with its chunk, at 4 KiB, and where it is long enough; what is not the
        # burst's of a beat counts too.
        limit = Signal(range(longest + 1))
        space = Signal(range(longest + 1))
        taken = Signal(range(longest + 1))
        short = Signal(range(longest + 1))
        row_ends = Signal()
        more = Signal()
        first = where[:log_per_beat]
        near = where[log_longest:log_page].all() if log_longest < log_page else Const(1)
        m.d.comb += [
            short.eq(longest - Mux(near, where[:log_longest], first)),
            taken.eq(Mux(row_left < space, row_left, space)),
            row_ends.eq(row_left == taken),
            more.eq(follow & ~final_row),
            blocks.eq(limit - space),
        ]

        o = self.o.p
        stop_at = Signal(range(per_beat + longest + 1))
        next_block = Signal(log_page)
        most = shapes.burst_beats * beat_bytes // GRANULE
        tail = stop_at[:log_per_beat]
        m.d.comb += [
            stop_at.eq(first + blocks),
            next_block.eq(where + blocks),
            o.beat.eq((where << _LOG) >> log_beat),
            o.beats.eq(((stop_at << _LOG) + (beat_bytes - 1)) >> log_beat),
            o.first.eq(first),
            o.end.eq(Mux(tail == 0, per_beat, tail)),
            o.fresh.eq(fresh),
            o.final.eq((row_left == 0) & final_row),
            o.start.eq(start),
            o.last.eq(last),
            # At the end of a page, and of what the bus allows, it is a burst of its own.
            o.joins.eq(last & (next_block != 0) & (stop_at < most)),
            o.index.eq(index),
            o.nbytes.eq(size << _LOG),
            o.counter.eq(counter),
        ]
        for name in ("slot", "prefix", "tracked", "first_bit", "measured"):
            m.d.comb += o[name].eq(plan[name])

        tensor_end = Signal(position_bits)
        rest = Signal(position_bits)
        aligned = Signal()
        broken = Signal()
        with m.FSM():
            with m.State("Take-Plan"):
                # SEC: TEC.CHUNK_WHOLE -- ascending, without gap or repeat, before any other chunk,
                # over few stores. Addresses tell tensors apart too.
                m.d.comb += broken.eq(Mux(self.open_chunk, stores == STORE_SPAN, plan.within != 0))
                m.d.sync += [
                    row_left.eq(row_blocks),
                    first_row.eq(1),
                    midway.eq(self.open_chunk),
                    aligned.eq(stride_within == Mux(self.open_chunk, left, 0)),
                    fresh.eq(1),
                    follow.eq(plan.stride == plan.row_bytes),
                ]
                m.d.comb += [idle.eq(1), takes.eq(self.i.valid & ~self.fault)]
                with m.If(takes):
                    m.d.sync += [self.fault.eq(broken), stores.eq(stores + 1)]
                    with m.If(~broken):
                        m.next = "Find-End"

            with m.State("Find-End"):
                m.d.comb += ends.eq(1)
                m.d.sync += tensor_end.eq(reached)
                with m.If(self.open_chunk):
                    m.d.sync += self.fault.eq(row_where != where)
                    m.next = "Limit-Burst"
                with m.Else():
                    m.next = "Measure-Rest"

            with m.State("Measure-Rest"):
                # Of the last chunk, its blocks without the tag.
                m.d.sync += rest.eq(tensor_end + ~where)
                m.next = "Open-Chunk"

            with m.State("Open-Chunk"):
                m.d.comb += opens.eq(1)
                m.d.sync += [
                    left.eq(Mux(rest < chunk_blocks, rest, chunk_blocks)),
                    start.eq(1),
                    stores.eq(1),
                ]
                m.next = "Announce-Chunk"

            with m.State("Announce-Chunk"):
                m.d.comb += self.chunk.valid.eq(self.announces)
                m.d.sync += size.eq(left)
                with m.If(~self.announces | self.chunk.ready):
                    m.next = "Limit-Burst"

            with m.State("Limit-Burst"):
                bound = Mux(left < short, left, short)
                m.d.sync += [limit.eq(bound), space.eq(bound)]
                with m.If(~self.fault):
                    m.next = "Gather-Rows"

            with m.State("Gather-Rows"):
                m.d.comb += next_row.eq(row_ends & more)
                m.d.sync += [
                    row_left.eq(Mux(next_row, row_blocks, row_left - taken)),
                    space.eq(space - taken),
                ]
                with m.If((space == taken) | (row_ends & ~more)):
                    m.next = "Offer-Burst"

            with m.State("Offer-Burst"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    given.eq(self.o.ready),
                    self.i.ready.eq(given & o.final),
                ]
                with m.If(given):
                    m.d.sync += [
                        left.eq(left - blocks),
                        start.eq(0),
                        fresh.eq(0),
                    ]
                    with m.If(o.final):
                        m.next = "Take-Plan"
                    with m.Elif(row_left == 0):
                        # SEC: TEC.CHUNK_WHOLE
                        m.d.sync += self.fault.eq(~last)
                        m.next = "Pass-Tags"
                    with m.Elif(last):
                        m.next = "Measure-Rest"
                    with m.Else():
                        m.next = "Limit-Burst"

            with m.State("Pass-Tags"):
                m.d.comb += passes.eq(1)
                m.next = "Jump-Row"

            with m.State("Jump-Row"):
                m.d.comb += [jumps.eq(~self.fault), next_row.eq(jumps)]
                m.d.sync += [
                    row_left.eq(row_blocks),
                    first_row.eq(0),
                    aligned.eq(stride_within == 0),
                ]
                with m.If(jumps):
                    # SEC: TEC.CHUNK_WHOLE -- what does not follow begins a chunk.
                    m.d.sync += self.fault.eq(~aligned)
                    m.next = "Measure-Rest"

        return m
