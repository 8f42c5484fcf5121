"""Walks plans: chunks, their tags and bursts, and which beats of them are meant."""

from typing import Any, Final

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature
from ginseng.bus.shapes import PAGE_BYTES, READERS
from ginseng.flow.arbiter import following
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.table import GRANULE
from ginseng.isa.transfer import Client
from ginseng.tec.context import keep
from ginseng.tec.mark import BLOCK_UNITS, Marks, unit_bits
from ginseng.tec.orders import (
    CHUNKS,
    TAGS,
    UNIT,
    Kind,
    buffer_depth,
    most_pieces,
    order_layout,
    visit_layout,
)
from ginseng.tec.search import TagSearch, group_bits
from ginseng.tec.shapes import NONCE_PREFIX_BITS, TecShapes

__all__ = ["Walker"]

_LOG_BLOCK: Final = (GRANULE - 1).bit_length()
_LOG_TAGS: Final = (TAGS - 1).bit_length()
#: Descriptors of a client that have a plan: one is walked, one waits.
_PLANS: Final = 2


class Walker(wiring.Component):
    """Asks for what plans need, a burst of each client in turn.

    Bursts are INCR, as long as the bus allows, never across 4 KiB, and only asked for if the
    client's buffer has room for them, so data never wait for a client. Tags come in bursts of up to
    `TAGS`, of chunks whose indices differ in their low bits only, and are kept for the next
    descriptor.

    Six cycles pass for a burst, eight more for a chunk, two for each more row in it. From a plan to
    the first address pass six cycles for a tag and three more for data.

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
    #: In: chunks of each client that are not verified.
    unverified: Any
    #: In: forget the tags.
    clear: Signal
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
                "unverified": In(data.ArrayLayout(range(CHUNKS + 1), count)),
                "clear": In(1),
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
        blocks_of_beat = max(1, bus.beat_bytes // GRANULE)
        beats_of_block = max(1, GRANULE // bus.beat_bytes)
        log_per_beat = (blocks_of_beat - 1).bit_length()
        units_of_beat = bus.beat_bytes // UNIT
        page = PAGE_BYTES // GRANULE
        most = bus.burst_bytes // GRANULE
        depth = buffer_depth(shapes)

        m.submodules.search = search = TagSearch(shapes)
        m.submodules.marks = marks = Marks(shapes)

        # What a plan says, and how far its walk has come, by client and plan.
        constants = data.StructLayout(
            {
                "raw": 1,
                "slot": shapes.plan["slot"].shape,
                "prefix": NONCE_PREFIX_BITS,
                "end": at_bits,
                "tags": group_bits(shapes),
                "chunk": size_bits,
                "chunks": shapes.index_bits,
                "tracked": 1,
                "first_bit": range(shapes.tec.bitmap_bits),
                "row": position,
                "stride": position,
                "merge": 1,
                "tight": 1,
            }
        )
        #: A chunk: its first block, its index.
        place = data.StructLayout({"at": at_bits, "index": shapes.index_bits})
        #: Of the row, whether it goes on in the next chunk, began in an earlier burst; whether
        #: nothing more of this chunk is meant.
        row = data.StructLayout({"more": 1, "begun": 1, "mute": 1})
        key = Signal(range(len(READERS) * _PLANS))
        write_key = Signal.like(key)
        client = Signal(range(len(READERS)))
        half = Signal()
        plans = keep(m, "plans", constants, key, write_key)
        places = keep(m, "places", place, key, write_key)
        rows = keep(m, "rows", row, key, write_key)
        # Start of the row from that of the chunk, in units.
        starts = keep(m, "starts", signed(position + 1), key, write_key)
        lefts = keep(m, "lefts", 16, key, write_key)
        # Size of the chunk under way in blocks, how many are asked for.
        sizes = keep(m, "sizes", size_bits, client, client)
        dones = keep(m, "dones", size_bits, client, client)
        #: Chunks asked for since the last burst of tags; stays at its greatest value.
        since = keep(m, "since", range(2 * CHUNKS), client, client)
        constant, where, flags, start = plans.get, places.get, rows.get, starts.get
        m.d.comb += key.eq(Cat(half, client))

        full = Signal(len(READERS) * _PLANS)
        heads, tails = Signal(len(READERS)), Signal(len(READERS))
        visiting = Signal(len(READERS))
        #: Pointers into the buffers, after what is reserved.
        reserved = Array(
            Signal(range(2 * depth), name=f"reserved_{n}") for n in range(len(READERS))
        )
        for n in range(len(READERS)):
            m.d.comb += self.room[n].eq(~Mux(tails[n], full[2 * n + 1], full[2 * n]))

        # A new plan. A raw one is of one row, and that is one chunk.
        takes, imports = Signal(), Signal()
        new_client = Signal.like(client)
        plan, raw = self.plan.p.plan, self.source.p
        m.d.comb += [
            imports.eq(~self.plan.valid),
            new_client.eq(Mux(imports, Client.WGT, self.plan.p.client)),
            plans.put.raw.eq(imports),
            plans.put.slot.eq(plan.slot),
            plans.put.prefix.eq(plan.prefix),
            plans.put.end.eq(plan.base[_LOG_BLOCK:] + plan.length[_LOG_BLOCK:]),
            plans.put.tags.eq(plan.tag_base >> (_LOG_BLOCK + _LOG_TAGS)),
            plans.put.chunk.eq(Mux(imports, raw.row_bytes, plan.chunk) >> _LOG_BLOCK),
            plans.put.chunks.eq(plan.chunks),
            plans.put.tracked.eq(plan.tracked),
            plans.put.first_bit.eq(plan.first_bit),
            plans.put.row.eq(Mux(imports, raw.row_bytes, plan.row_bytes) >> 2),
            plans.put.stride.eq(plan.stride >> 2),
            plans.put.merge.eq(plan.merge),
            # Rows may share beats. On 64 bits none do: what is between them is half a beat.
            plans.put.tight.eq(
                (units_of_beat > 2)
                & (plan.rows != 1)
                & (plan.stride < plan.row_bytes + bus.beat_bytes)
                & ~imports
            ),
            plans.write.eq(takes),
            write_key.eq(Mux(takes, Cat(tails.bit_select(new_client, 1), new_client), key)),
        ]
        with m.If(takes):
            m.d.comb += [sink.write.eq(1) for sink in (places, rows, starts, lefts)]
            m.d.sync += [
                full.bit_select(write_key, 1).eq(1),
                tails.bit_select(new_client, 1).eq(~tails.bit_select(new_client, 1)),
            ]

        # Who is next.
        active = Signal(len(READERS))
        for n in range(len(READERS)):
            m.d.comb += active[n].eq(Mux(heads[n], full[2 * n + 1], full[2 * n]))
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
        at_sum = Cat(C(1, 1), Mux(takes, base, where.at)) + Cat(
            back & ~takes, Mux(takes, Mux(imports, 0, skipped[:at_bits]), step[:at_bits])
        )
        m.d.sync += new_start.eq(moved)
        m.d.comb += [
            remains.eq(constant.end - where.at),
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

        # Tags.
        number = where.index[:_LOG_TAGS]
        wiring.connect(m, search.test, wiring.flipped(self.test))
        m.d.comb += [
            search.client.eq(client),
            search.index.eq(where.index),
            search.tags.eq(constant.tags),
            search.chunks.eq(constant.chunks),
            search.tracked.eq(constant.tracked),
            search.first_bit.eq(constant.first_bit),
            search.test_valid.eq(self.test_valid),
            search.test_readable.eq(self.test_readable),
            search.clear.eq(self.clear),
            search.stop.eq(self.stop),
            self.fault.eq(search.fault),
        ]

        # A burst.
        address = Signal(at_bits)
        left = Signal(size_bits)
        blocks = Signal(range(most + 1))
        begin, stop = Signal(size_bits), Signal(size_bits)
        lead = address[:log_per_beat]
        to_page = page - address[: (page - 1).bit_length()]
        allowed = Signal(range(page + 1))
        m.d.comb += allowed.eq(Mux(to_page < most - lead, to_page, most - lead))
        beats = Signal(range(shapes.burst_beats + 1))
        tag_beats = Signal(range(max(1, TAGS * TAG_BYTES // bus.beat_bytes) + 2))
        if blocks_of_beat == 1:
            m.d.comb += [beats.eq(blocks * beats_of_block)]
        else:
            m.d.comb += beats.eq((lead + blocks + blocks_of_beat - 1) >> log_per_beat)
        tag_lead = number[:log_per_beat]
        m.d.comb += tag_beats.eq(
            ((tag_lead + search.end - number) * beats_of_block + blocks_of_beat - 1) >> log_per_beat
        )
        last = Signal()
        pointer = Signal(range(2 * depth))
        used = Signal.like(pointer)
        fits = Signal()
        may = Signal()
        m.d.comb += [
            pointer.eq(reserved[client]),
            used.eq(pointer - Array(self.taken)[client]),
            fits.eq(used + Mux(constant.tight, beats * most_pieces(shapes), beats) <= depth),
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
            job.beats.eq(beats),
            job.first.eq(lead),
            job.end.eq(1 if blocks_of_beat == 1 else (lead + blocks - 1)[:log_per_beat] + 1),
            job.start.eq(begin == 0),
            job.last.eq(last),
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
            marks.beats.eq(beats),
            visit.client.eq(client),
            visit.half.eq(search.half),
            visit.tag.eq(number),
            visit.beats.eq(pointer),
        ]

        # What is written only where it is enabled takes no gate.
        m.d.comb += [
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
                    m.next = "Find-Tag"
                    with m.If(constant.raw):
                        m.next = "Add-Blocks"

            with m.State("Find-Tag"):
                m.d.comb += search.valid.eq(1)
                with m.If(search.done):
                    m.next = "Add-Blocks"
                    with m.If(search.missing):
                        m.next = "Ask-Tags"

            with m.State("Ask-Tags"):
                # Chunks that are not verified yet may need the tags of the other half only.
                with m.If(Array(self.unverified)[client] > since.get):
                    m.next = "Choose-Client"
                with m.Elif(may):
                    m.d.comb += [
                        self.order.valid.eq(1),
                        order.kind.eq(Kind.TAGS),
                        order.client.eq(client),
                        order.ends.eq(1),
                        order.drop.eq(tag_beats),
                        order.total.eq(tag_beats),
                        order.first.eq(number),
                        order.end.eq(search.end),
                        order.half.eq(~search.half),
                        search.asks.eq(1),
                        since.write.eq(1),
                        self.asked.valid.eq(1),
                        self.asked.beats.eq(tag_beats),
                    ]
                    m.d.sync += [
                        self.ar.valid.eq(1),
                        self.ar.p.address.eq(
                            bus.window_base + self._beat(Cat(number, search.group) << _LOG_BLOCK)
                        ),
                        self.ar.p.length.eq(tag_beats - 1),
                    ]
                    m.next = "Add-Blocks"

            with m.State("Add-Blocks"):
                m.d.comb += marks.clear.eq(1)
                done = Mux(visiting.bit_select(client, 1), dones.get, 0)
                m.d.sync += [
                    visiting.bit_select(client, 1).eq(1),
                    address.eq(where.at + done),
                    left.eq(sizes.get - done),
                    begin.eq(done),
                ]
                m.next = "Cut-Burst"

            with m.State("Cut-Burst"):
                m.d.sync += [
                    blocks.eq(Mux(left <= allowed, left, allowed)),
                    last.eq(left <= allowed),
                ]
                m.next = "Ask-Data"

            with m.State("Ask-Data"):
                goes = Signal()
                m.d.comb += [
                    self.job.valid.eq(may & fits & self.visit.ready & ~constant.raw),
                    goes.eq(may & fits & self.visit.ready & (self.job.ready | constant.raw)),
                    dones.write.eq(goes),
                    self.asked.valid.eq(goes),
                    self.asked.beats.eq(beats),
                ]
                m.d.sync += stop.eq(begin + blocks)
                with m.If(goes):
                    m.d.sync += [
                        self.ar.valid.eq(1),
                        self.ar.p.address.eq(bus.window_base + self._beat(address << _LOG_BLOCK)),
                        self.ar.p.length.eq(beats - 1),
                    ]
                    m.next = "Next-Row"
                with m.Elif(~fits):
                    m.next = "Choose-Client"

            with m.State("Mark-Beats"):
                m.d.comb += [
                    order.eq(marks.order),
                    order.kind.eq(Mux(constant.raw, Kind.RAW, Kind.DATA)),
                    order.client.eq(client),
                    self.order.valid.eq(marks.valid),
                    marks.takes.eq(self.order.ready | ~marks.valid),
                    rows.put.more.eq(last & ~marks.row_ends),
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
                        with m.If(last):
                            m.next = "Close-Chunk"

            with m.State("Next-Row"):
                m.d.comb += strides.eq(1)
                m.next = "Mark-Beats"

            with m.State("Close-Chunk"):
                finished = lefts.get == 0
                m.d.comb += [
                    self.visit.valid.eq(~constant.raw),
                    visit.final.eq(finished),
                    since.put.eq(since.get + (since.get != 2 * CHUNKS - 1)),
                    since.write.eq(1),
                ]
                m.d.sync += visiting.bit_select(client, 1).eq(0)
                with m.If(finished):
                    m.d.sync += [
                        full.bit_select(key, 1).eq(0),
                        heads.bit_select(client, 1).eq(~half),
                    ]
                m.next = "Choose-Client"

        m.d.comb += self.asked.client.eq(client)

        return m

    def _beat(self, address):
        """Return the address of the beat in which byte ``address`` is."""
        log_beat = (self.shapes.config.bus.beat_bytes - 1).bit_length()
        return address >> log_beat << log_beat
