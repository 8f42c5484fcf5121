"""Takes ciphertext and tags to memory: bursts, responses, and the end of all (§6, §7)."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature, Response
from ginseng.flow.queue import Chain, Queue
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.transfer import Client
from ginseng.tec.measure import piece_layout
from ginseng.tec.shapes import TecShapes

__all__ = ["TAG_DEPTH", "Sink", "outgoing_layout"]

#: Chunks of which the lane has the last job, until their tag is sent.
TAG_DEPTH = 3
#: Bursts of which the lane has the job, until they are sent.
_BURST_DEPTH = 4


def outgoing_layout(shapes: TecShapes) -> data.StructLayout:
    """A burst that the lane was given.

    ``beat``, ``tag``
        Where it goes, in beats, and the tag of the chunk that it ends, in tags, from the start of
        the window.
    ``beats``, ``first``, ``end``
        As of the lane's job.
    ``last``, ``final``, ``measured``
        Ends a chunk, ends a descriptor, and whether the chunk is measured.
    """
    log_beat = (shapes.config.bus.beat_bytes - 1).bit_length()
    return data.StructLayout(
        {
            "beat": shapes.position_bits - log_beat,
            "tag": shapes.position_bits - (TAG_BYTES - 1).bit_length(),
            "beats": range(shapes.burst_beats + 1),
            "first": range(shapes.granules),
            "end": range(shapes.granules + 1),
            "last": 1,
            "final": 1,
            "measured": 1,
        }
    )


class Sink(wiring.Component):
    """Writes the lane's ciphertext burst by burst, and the tag of each chunk after its last one.

    One beat per cycle; tags go between bursts, those of a chunk while the next chunk's are made. A
    store's last burst that ends no chunk waits for the tags before it, so that the response to it
    is the store's last.

    Parameters
    ----------
    shapes : TecShapes
    burst_beats : int
        Longest burst that comes.

    Notes
    -----
    *Guarantees.* After ``stop`` no address is offered that was not offered before, and no beat but
    the one that was offered has a strobe or a bit of data set; the beats of open bursts are all
    sent.

    """

    #: In: bursts, while there is ``room``.
    burst: data.View
    enable: Signal
    #: Out: one more burst can be taken, of any length.
    room: Signal
    #: Out: of all bursts everything was sent, tags too.
    quiet: Signal
    #: Out: all data were sent; tags may be missing.
    drained: Signal
    #: In: what the lane returns.
    o_valid: Signal
    o_data: Signal
    tag_valid: Signal
    tag: Signal
    #: Out, in: the write channels of AXI.
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface
    #: Out: what measured chunks send, beat by beat: granules ``first`` to before ``end``.
    tap: stream.Interface
    #: Out: the response came that ends a descriptor, a chunk.
    finish: Signal
    chunk_finish: Signal
    #: In: the sticky fault.
    stop: Signal
    #: Out: a wrong response comes.
    fault: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: a burst of ``nbytes`` bytes is begun.
    counted: Signal
    nbytes: Signal

    def __init__(self, shapes: TecShapes, burst_beats: int) -> None:
        self.shapes = shapes
        self.burst_beats = burst_beats
        bus = shapes.config.bus
        axi = AxiSignature(bus)
        super().__init__(
            {
                "burst": In(outgoing_layout(shapes)),
                "enable": In(1),
                "room": Out(1),
                "quiet": Out(1),
                "drained": Out(1),
                "o_valid": In(1),
                "o_data": In(bus.data_bits),
                "tag_valid": In(1),
                "tag": In(8 * TAG_BYTES),
                "aw": axi.members["aw"],
                "w": axi.members["w"],
                "b": axi.members["b"],
                "tap": Out(stream.Signature(piece_layout(shapes))),
                "finish": Out(1),
                "chunk_finish": Out(1),
                "stop": In(1),
                "fault": Out(1),
                "idle": Out(1),
                "counted": Out(1),
                "nbytes": Out(range(bus.burst_bytes + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.config.bus
        burst = self.burst
        beat_bytes = bus.beat_bytes
        log_beat = (beat_bytes - 1).bit_length()
        log_tag = (TAG_BYTES - 1).bit_length()
        granules, granule = shapes.granules, shapes.granule
        # A tag fills beats of the narrowest bus, one granule of a beat of the widest.
        tag_beats = max(TAG_BYTES // beat_bytes, 1)
        capacity = _BURST_DEPTH * self.burst_beats
        begun = data.StructLayout(
            {
                "tag": 1,
                "beats": burst.beats.shape(),
                "first": burst.first.shape(),
                "end": burst.end.shape(),
                "final": 1,
                "measured": 1,
            }
        )
        place = data.StructLayout({"tag": burst.tag.shape(), "final": 1, "measured": 1})
        bursts_shape = data.StructLayout(
            {
                "beat": burst.beat.shape(),
                "beats": burst.beats.shape(),
                "first": burst.first.shape(),
                "end": burst.end.shape(),
                "last": 1,
                "final": 1,
                "measured": 1,
            }
        )
        answer = data.StructLayout({"final": 1, "chunk": 1})
        limit = bus.outstanding_writes
        m.submodules.bursts = bursts = Chain(bursts_shape, _BURST_DEPTH)
        m.submodules.places = places = Chain(place, TAG_DEPTH)
        m.submodules.tags = tags = Chain(8 * TAG_BYTES, TAG_DEPTH)
        m.submodules.ciphertext = ciphertext = Queue(
            bus.data_bits, max(capacity, 128) + 1, block_ram=True
        )
        m.submodules.begun = order = Queue(begun, limit)
        m.submodules.answers = answers = Queue(answer, limit)

        # What the lane has been given, and what it returned; room was reserved for all of it.
        for name in ("beat", "beats", "first", "end", "last", "final", "measured"):
            m.d.comb += bursts.i.p[name].eq(burst[name])
        m.d.comb += [
            bursts.i.valid.eq(self.enable),
            places.i.valid.eq(self.enable & burst.last),
            places.i.p.tag.eq(burst.tag),
            places.i.p.final.eq(burst.final),
            places.i.p.measured.eq(burst.measured),
            # SEC: TEC.CIPHERTEXT_ONLY -- nothing else than what the lane returned is written.
            ciphertext.i.valid.eq(self.o_valid),
            ciphertext.i.p.eq(self.o_data),
            tags.i.valid.eq(self.tag_valid),
            tags.i.p.eq(self.tag),
        ]
        held = Signal(range(_BURST_DEPTH + 1))
        chunks = Signal(range(TAG_DEPTH + 1))
        emptied = Signal()
        tagged = Signal()
        m.d.sync += [
            held.eq(held + self.enable - emptied),
            chunks.eq(chunks + (self.enable & burst.last) - tagged),
        ]
        m.d.comb += [
            self.room.eq((held != _BURST_DEPTH) & (chunks != TAG_DEPTH)),
            self.drained.eq(held == 0),
            self.quiet.eq(self.drained & (chunks == 0)),
        ]

        # Addresses: a tag that is there first, then data of which the first beat is there.
        #: Beats that came, less those of begun bursts, of which some are still to come.
        spare = Signal(signed(capacity.bit_length() + 1))
        #: Chunks whose last burst was begun, their tag not; tags that came and were not begun.
        due = Signal(range(TAG_DEPTH + 1))
        came = Signal(range(TAG_DEPTH + 1))
        accepted = Signal(range(limit + 1))
        free = Signal()
        begins_tag = Signal()
        begins_data = Signal()
        request = Signal.like(self.aw.p)
        head = bursts.o.p
        target = places.o.p
        tag_at = Signal(range(max(beat_bytes // TAG_BYTES, 1)))
        m.d.comb += [
            free.eq(
                (~self.aw.valid | self.aw.ready) & ~self.stop & ((accepted + self.aw.valid) < limit)
            ),
            begins_tag.eq(free & places.o.valid & (came != 0) & (due != 0)),
            begins_data.eq(
                free
                & ~begins_tag
                & bursts.o.valid
                & (spare > 0)
                & ((due == 0) | head.last | ~head.final)
            ),
            bursts.o.ready.eq(begins_data),
            places.o.ready.eq(begins_tag),
            tag_at.eq(target.tag),
            request.id.eq(Client.STORE),
            request.address.eq(
                bus.window_base
                + Mux(
                    begins_tag,
                    ((target.tag << log_tag) >> log_beat) << log_beat,
                    head.beat << log_beat,
                )
            ),
            request.length.eq(Mux(begins_tag, tag_beats, head.beats) - 1),
            order.i.valid.eq(begins_tag | begins_data),
            order.i.p.tag.eq(begins_tag),
            order.i.p.beats.eq(Mux(begins_tag, tag_beats, head.beats)),
            order.i.p.first.eq(Mux(begins_tag, tag_at, head.first)),
            order.i.p.end.eq(Mux(begins_tag, tag_at + 1, head.end)),
            order.i.p.final.eq(Mux(begins_tag, target.final, head.final & ~head.last)),
            order.i.p.measured.eq(Mux(begins_tag, target.measured, head.measured)),
        ]
        with m.If(self.aw.ready):
            m.d.sync += self.aw.valid.eq(0)
        with m.If(begins_tag | begins_data):
            m.d.sync += [self.aw.valid.eq(1), self.aw.p.eq(request)]
        m.d.sync += [
            spare.eq(spare + self.o_valid - Mux(begins_data, head.beats, 0)),
            due.eq(due + (begins_data & head.last) - begins_tag),
            came.eq(came + self.tag_valid - begins_tag),
        ]

        # Data. After a stop, what is owed is sent without strobes.
        sending = order.o.p
        count = Signal(range(self.burst_beats))
        last = Signal()
        load = Signal()
        there = Signal()
        has = Signal()
        beat = Signal(bus.data_bits)
        strobe = Signal(beat_bytes)
        marks = Signal(answer)
        piece = self.tap.p
        m.d.comb += [
            has.eq(Mux(sending.tag, tags.o.valid, ciphertext.o.valid)),
            there.eq(order.o.valid & (~self.w.valid | self.w.ready)),
            self.tap.valid.eq(there & sending.measured & has),
            load.eq(there & (self.stop | (has & (~sending.measured | self.tap.ready)))),
            last.eq(count == sending.beats - 1),
            order.o.ready.eq(load & last),
            ciphertext.o.ready.eq(load & ~sending.tag),
            emptied.eq(load & ~sending.tag & last),
            tagged.eq(load & sending.tag & last),
            tags.o.ready.eq(tagged),
            beat.eq(
                Mux(
                    sending.tag,
                    (
                        tags.o.p.word_select(count[: (tag_beats - 1).bit_length()], beat_bytes * 8)
                        if tag_beats > 1
                        else tags.o.p.replicate(beat_bytes // TAG_BYTES)
                    ),
                    ciphertext.o.p,
                )
            ),
            piece.data.eq(beat),
            piece.first.eq(Mux(count == 0, sending.first, 0)),
            piece.end.eq(Mux(last, sending.end, granules)),
        ]
        for lane in range(granules):
            inside = (piece.first <= lane) & (lane < piece.end)
            m.d.comb += strobe[lane * granule : (lane + 1) * granule].eq(inside.replicate(granule))
        with m.If(self.w.ready):
            m.d.sync += self.w.valid.eq(0)
        # SEC: TEC.FATAL_SILENT -- no beat after the one that is offered has a bit set.
        with m.If(load & self.stop):
            m.d.sync += [self.w.p.data.eq(0), self.w.p.strobe.eq(0)]
        with m.Elif(load):
            m.d.sync += [self.w.p.data.eq(beat), self.w.p.strobe.eq(strobe)]
        with m.If(load):
            m.d.sync += [
                self.w.valid.eq(1),
                self.w.p.id.eq(Client.STORE),
                self.w.p.last.eq(last),
                count.eq(Mux(last, 0, count + 1)),
                marks.final.eq(sending.final),
                marks.chunk.eq(sending.tag),
            ]

        # Responses, to bursts of which memory has all.
        wrong = Signal()
        answered = Signal()
        m.d.comb += [
            answers.i.valid.eq(self.w.valid & self.w.ready & self.w.p.last),
            answers.i.p.eq(marks),
            self.b.ready.eq(1),
            wrong.eq(
                self.b.valid
                & (
                    ~answers.o.valid
                    | (accepted == 0)
                    | (self.b.p.response != Response.OKAY)
                    | (self.b.p.id != Client.STORE)
                )
            ),
            answered.eq(self.b.valid & answers.o.valid & (accepted != 0)),
            answers.o.ready.eq(answered),
            self.finish.eq(answered & ~wrong & answers.o.p.final),
            self.chunk_finish.eq(answered & ~wrong & answers.o.p.chunk),
            self.fault.eq(wrong),
            self.idle.eq((accepted == 0) & ~self.aw.valid & ~self.w.valid & ~order.o.valid),
            self.counted.eq(begins_tag | begins_data),
            self.nbytes.eq(
                Mux(
                    begins_tag,
                    TAG_BYTES,
                    (head.beats << log_beat) - (head.first + (granules - head.end)) * granule,
                )
            ),
        ]
        m.d.sync += accepted.eq(accepted + (self.aw.valid & self.aw.ready) - answered)

        return m
