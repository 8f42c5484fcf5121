"""Walks plans: chunks, their tags and bursts, and which beats of them are meant."""

from typing import Any, Final

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature
from ginseng.bus.shapes import READERS
from ginseng.flow.arbiter import following
from ginseng.isa.table import GRANULE
from ginseng.isa.transfer import Client
from ginseng.tec.cut import Cut, beat_of
from ginseng.tec.mark import BLOCK_UNITS, Marks, unit_bits
from ginseng.tec.orders import Kind, buffer_depth, most_pieces, order_layout, visit_layout
from ginseng.tec.shapes import TecShapes
from ginseng.tec.walks import Walks

__all__ = ["Walker"]

_LOG_BLOCK: Final = (GRANULE - 1).bit_length()


class Walker(wiring.Component):
    """Asks for what plans need, a burst of each client in turn.

    Bursts are INCR, as long as the bus allows, never across 4 KiB, and only asked for if the
    client's buffer has room for them, so data never wait for a client. A chunk's tag ends its last
    burst, or is one of its own where that may not be longer.

    Six cycles pass for a burst, eight more for a chunk, some more for one of a W row, two for each
    more row in it. From a plan to the first address pass seven cycles.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: ``{client, plan}``.
    plan: stream.Interface
    #: In: raw plans, walked in the place of WGT: ``row_bytes`` from ``base`` on.
    source: stream.Interface
    #: Out: a client has room for one more plan.
    room: Signal
    #: Out: bursts, as addresses of AXI.
    ar: stream.Interface
    #: Out: what to do with their beats.
    order: stream.Interface
    #: Out: bursts of chunks, for the lane.
    job: stream.Interface
    #: Out: a chunk is asked for.
    visit: stream.Interface
    #: Out: ``{bit}`` of a chunk of a W row. In: whether it may be read, in order.
    test: stream.Interface
    test_valid: Signal
    test_readable: Signal
    #: In: one more burst may be open.
    enable: Signal
    #: In: pointers into the clients' buffers, before the oldest beat.
    taken: Any
    #: In: ask for nothing any more.
    stop: Signal
    #: Out: a chunk was not written yet; stays until reset.
    fault: Signal
    #: Out: in this cycle so many beats are asked for.
    asked: data.View

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        axi = AxiSignature(shapes.config.bus)
        plan = data.StructLayout({"client": Client, "plan": shapes.plan})
        count = len(READERS)
        super().__init__(
            {
                "plan": In(stream.Signature(plan)),
                "source": In(stream.Signature(shapes.plan)),
                "room": Out(count),
                "ar": axi.members["ar"],
                "order": Out(stream.Signature(order_layout(shapes))),
                "job": Out(stream.Signature(shapes.lane.job)),
                "visit": Out(stream.Signature(visit_layout(shapes))),
                "test": Out(
                    stream.Signature(data.StructLayout({"bit": range(shapes.tec.bitmap_bits)}))
                ),
                "test_valid": In(1),
                "test_readable": In(1),
                "enable": In(1),
                "taken": In(data.ArrayLayout(range(2 * buffer_depth(shapes)), count)),
                "stop": In(1),
                "fault": Out(1),
                "asked": Out(
                    data.StructLayout(
                        {"valid": 1, "client": Client, "beats": range(shapes.burst_beats + 1)}
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.config.bus
        at_bits = shapes.position_bits - _LOG_BLOCK
        size_bits = shapes.chunk_bits - _LOG_BLOCK
        position = unit_bits(shapes)
        depth = buffer_depth(shapes)

        m.submodules.marks = marks = Marks(shapes)

        walks = Walks(m, shapes)
        client, half, key = walks.client, walks.half, walks.key
        plans, places, rows = walks.plans, walks.places, walks.rows
        starts, lefts = walks.starts, walks.lefts
        sizes, dones = walks.sizes, walks.dones
        constant, where, flags, start = plans.get, places.get, rows.get, starts.get
        full, heads, visiting = walks.full, walks.heads, Signal(len(READERS))
        #: Pointers into the buffers, after what is reserved.
        reserved = Array(
            Signal(range(2 * depth), name=f"reserved_{n}") for n in range(len(READERS))
        )

        takes, imports = Signal(), Signal()
        plan, raw = self.plan.p.plan, self.source.p
        m.d.comb += [self.room.eq(walks.room), imports.eq(~self.plan.valid)]
        walks.take(m, takes, imports, self.plan.p.client, plan, raw)

        # Who is next.
        active = walks.active
        chosen = following(m, client, active)

        # From row to chunk: on by one, back by one; and on to the next row.
        size = Signal(size_bits)
        back, ahead, strides = Signal(), Signal(), Signal()
        moved, new_start = (Signal(signed(position + 2), name=n) for n in ("moved", "new_start"))
        remains = Signal(at_bits)
        # What is added, or taken away: its complement, and 1 by a carry from the bit below.
        less = ~Cat(C(0, (BLOCK_UNITS - 1).bit_length()), size, C(0, position - size_bits))
        by = Mux(
            strides, constant.stride, Mux(back, constant.chunk * BLOCK_UNITS, less.as_signed())
        )
        carry = Signal()
        start_sum = Cat(C(1, 1), start).as_signed() + Cat(carry, by).as_signed()
        # A new plan's first chunk is placed by the same adder.
        step = Cat(Mux(back, ~constant.chunk, size), back.replicate(at_bits))
        base = Mux(imports, raw.base, plan.base)[_LOG_BLOCK:]
        skipped = plan.position[_LOG_BLOCK:] - plan.within[_LOG_BLOCK:]
        # A tag more: the carry, or the 1 that a complement lacks.
        at_sum = Cat(C(1, 1), Mux(takes, base, where.at)) + Cat(
            ~back & ~takes, Mux(takes, Mux(imports, 0, skipped[:at_bits]), step[:at_bits])
        )
        m.d.sync += new_start.eq(moved)
        m.d.comb += [
            # Of the last chunk, its blocks without the tag.
            remains.eq(constant.end + ~where.at),
            back.eq((start < 0) & ~flags.begun),
            carry.eq(~strides & ~back),
            moved.eq(start_sum >> 1),
            ahead.eq(flags.more | (~back & (new_start >= 0))),
            starts.put.eq(Mux(takes, Mux(imports, 0, plan.within >> 2), new_start)),
            places.put.at.eq(at_sum >> 1),
            places.put.index.eq(
                Mux(takes, plan.index, where.index + Cat(1, back.replicate(shapes.index_bits - 1)))
            ),
            lefts.put.eq(Mux(takes, Mux(imports, 1, plan.rows), lefts.get - 1)),
        ]

        # A burst.
        m.submodules.cut = cut = Cut(shapes)
        address = Signal(at_bits)
        left = Signal(size_bits)
        #: Of the chunk; whether they end it, and whether the burst does, by its tag.
        blocks = Signal.like(cut.blocks)
        ends, tag = Signal(), Signal()
        begin, stop = Signal(size_bits), Signal(size_bits)
        m.d.comb += [
            cut.address.eq(address),
            cut.blocks.eq(blocks),
            cut.tag.eq(tag),
        ]
        lead, allowed, beats, data_beats = cut.lead, cut.allowed, cut.beats, cut.data_beats
        #: The tag has beats of its own; there are no others.
        apart, alone = Signal(), Signal()
        m.d.comb += [apart.eq(tag & (beats != data_beats)), alone.eq(blocks == 0)]
        last = tag | (constant.raw & ends)
        pointer = Signal(range(2 * depth))
        used = Signal.like(pointer)
        fits = Signal()
        may = Signal()
        m.d.comb += [
            pointer.eq(reserved[client]),
            used.eq(pointer - Array(self.taken)[client]),
            # A tag alone needs none: who waited for room here would let others come before it.
            fits.eq(
                used + Mux(constant.tight, data_beats * most_pieces(shapes), data_beats) <= depth
            ),
            may.eq(self.enable & ~self.stop & ~self.ar.valid & self.order.ready),
        ]
        with m.If(self.ar.ready):
            m.d.sync += self.ar.valid.eq(0)
        job = self.job.p
        m.d.comb += [
            job.slot.eq(constant.slot),
            job.context.eq(client),
            job.nonce.eq(where.index | (constant.prefix << 32)),
            job.counter.eq(begin + 2),
            job.beats.eq(data_beats),
            job.first.eq(lead),
            job.end.eq((lead + blocks - 1)[: cut.log_per_beat] + 1),
            job.start.eq(begin == 0),
            job.last.eq(ends),
            job.nbytes.eq(sizes.get << _LOG_BLOCK),
        ]

        # Which beats of it are meant.
        order, visit = self.order.p, self.visit.p
        m.d.comb += [
            marks.start.eq(start),
            marks.row.eq(constant.row),
            marks.begun.eq(flags.begun),
            marks.mute.eq(flags.mute),
            marks.final.eq(lefts.get == 1),
            marks.begin.eq(begin),
            marks.stop.eq(stop),
            marks.lead.eq(lead),
            marks.beats.eq(data_beats),
            self.asked.client.eq(client),
            visit.client.eq(client),
            visit.beats.eq(pointer),
        ]

        # What is written only where it is enabled takes no gate.
        m.d.comb += [
            self.test.p.bit.eq(constant.first_bit + where.index),
            sizes.put.eq(size),
            dones.put.eq(begin + blocks),
        ]

        with m.FSM():
            with m.State("Choose-Client"):
                m.d.comb += [
                    self.plan.ready.eq(1),
                    self.source.ready.eq(~self.plan.valid & self.room[Client.WGT]),
                    takes.eq(self.plan.valid | (self.source.valid & self.source.ready)),
                ]
                with m.If(~takes & active.any() & ~self.stop):
                    m.d.sync += [client.eq(chosen), half.eq(heads.bit_select(chosen, 1))]
                    with m.If(visiting.bit_select(chosen, 1)):
                        m.next = "Add-Blocks"
                    with m.Else():
                        m.next = "Size-Chunk"

            with m.State("Size-Chunk"):
                m.d.sync += size.eq(
                    Mux((remains < constant.chunk) & ~constant.raw, remains, constant.chunk)
                )
                m.next = "Move-Start"

            with m.State("Move-Start"):
                m.next = "Find-Chunk"

            with m.State("Find-Chunk"):
                m.d.comb += [
                    rows.write.eq(1),
                    rows.put.begun.eq(flags.begun),
                ]
                with m.If(back | ahead):
                    m.d.comb += [places.write.eq(1), starts.write.eq(1)]
                    m.next = "Size-Chunk"
                with m.Else():
                    m.d.comb += sizes.write.eq(1)
                    m.next = "Add-Blocks"
                    with m.If(constant.tracked):
                        m.next = "Ask-Bit"

            with m.State("Ask-Bit"):
                m.d.comb += self.test.valid.eq(~self.stop)
                with m.If(self.test.valid & self.test.ready):
                    m.next = "Await-Bit"

            with m.State("Await-Bit"), m.If(self.test_valid):
                # SEC: TEC.WRITTEN_BITMAP -- what an earlier run or session left is never read.
                with m.If(self.test_readable):
                    m.next = "Add-Blocks"
                with m.Else():
                    m.d.sync += self.fault.eq(1)
                    m.next = "Stop"

            with m.State("Add-Blocks"):
                m.d.comb += marks.clear.eq(1)
                done = Mux(visiting.bit_select(client, 1), dones.get, 0)
                m.d.sync += [
                    address.eq(where.at + done),
                    left.eq(sizes.get - done),
                    begin.eq(done),
                ]
                m.next = "Cut-Burst"

            with m.State("Cut-Burst"):
                m.d.sync += [
                    blocks.eq(Mux(left <= allowed, left, allowed)),
                    ends.eq(left <= allowed),
                    tag.eq((left < allowed) & ~constant.raw),
                ]
                m.next = "Ask-Data"

            with m.State("Ask-Data"):
                goes = Signal()
                m.d.comb += [
                    self.job.valid.eq(may & fits & self.visit.ready & ~constant.raw & ~alone),
                    goes.eq(
                        may & fits & self.visit.ready & (self.job.ready | constant.raw | alone)
                    ),
                    dones.write.eq(goes),
                    self.asked.valid.eq(goes),
                    self.asked.beats.eq(beats),
                ]
                m.d.sync += stop.eq(begin + blocks)
                with m.If(goes):
                    m.d.sync += [
                        # From its first burst on: until then nothing is kept of how far it is.
                        visiting.bit_select(client, 1).eq(1),
                        self.ar.valid.eq(1),
                        self.ar.p.address.eq(beat_of(bus, address)),
                        self.ar.p.length.eq(beats - 1),
                    ]
                    m.next = "Next-Row"
                    with m.If(alone):
                        m.next = "Order-Tag"
                with m.Elif(~fits):
                    m.next = "Choose-Client"

            with m.State("Mark-Beats"):
                m.d.comb += [
                    strides.eq(1),  # `new_start` follows every cycle, and the order may wait.
                    order.eq(marks.order),
                    order.kind.eq(Mux(constant.raw, Kind.RAW, Kind.DATA)),
                    order.client.eq(client),
                    order.ends.eq(marks.order.ends & ~apart),
                    order.tagged.eq(marks.order.ends & tag & ~apart),
                    order.tag_at.eq((lead + blocks)[: cut.log_per_beat]),
                    self.order.valid.eq(marks.valid),
                    marks.takes.eq(self.order.ready | ~marks.valid),
                    rows.put.more.eq(ends & ~marks.row_ends),
                    rows.put.begun.eq(~marks.row_ends),
                    rows.put.mute.eq(marks.row_ends & (marks.final | ~constant.merge)),
                ]
                with m.If(marks.takes):
                    with m.If(marks.meets):
                        m.d.comb += [
                            rows.write.eq(1),
                            starts.write.eq(marks.row_ends),
                            lefts.write.eq(marks.row_ends),
                        ]
                        m.d.sync += reserved[client].eq(pointer + marks.pieces)
                    m.next = "Next-Row"
                    with m.If(marks.over):
                        m.next = "Choose-Client"
                        with m.If(apart):
                            m.next = "Order-Tag"
                        with m.Elif(last):
                            m.next = "Close-Chunk"
                        with m.Elif(ends):
                            # Tags come in the order of the lane's: nobody else's may come before.
                            m.next = "Add-Blocks"

            with m.State("Order-Tag"):
                m.d.comb += [
                    order.kind.eq(Kind.TAG),
                    order.client.eq(client),
                    order.total.eq(beats - data_beats),
                    order.ends.eq(1),
                    self.order.valid.eq(1),
                ]
                with m.If(self.order.ready):
                    m.next = "Close-Chunk"

            with m.State("Next-Row"):
                m.d.comb += strides.eq(1)
                m.next = "Mark-Beats"

            with m.State("Close-Chunk"):
                finished = lefts.get == 0
                m.d.comb += [
                    self.visit.valid.eq(~constant.raw),
                    visit.final.eq(finished),
                ]
                m.d.sync += visiting.bit_select(client, 1).eq(0)
                with m.If(finished):
                    m.d.sync += [
                        full.bit_select(key, 1).eq(0),
                        heads.bit_select(client, 1).eq(~half),
                    ]
                m.next = "Choose-Client"

            with m.State("Stop"):
                pass

        return m
