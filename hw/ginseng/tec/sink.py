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

    ``beat``
        Where it goes, in beats from the start of the window.
    ``beats``, ``first``, ``end``
        As of the lane's job.
    ``last``, ``joins``, ``final``, ``measured``
        Ends a chunk, whose tag is in the same burst; ends a descriptor; the chunk is measured.
    """
    log_beat = (shapes.config.bus.beat_bytes - 1).bit_length()
    return data.StructLayout(
        {
            "beat": shapes.position_bits - log_beat,
            "beats": range(shapes.burst_beats + 1),
            "first": range(shapes.granules),
            "end": range(shapes.granules + 1),
            "last": 1,
            "joins": 1,
            "final": 1,
            "measured": 1,
        }
    )


class Sink(wiring.Component):
    """Writes the lane's ciphertext burst by burst, and the tag of each chunk after its last one.

    One beat per cycle. The tag is behind the chunk's last beat, in the same burst if it ``joins``,
    else in one of its own.

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
        granules, granule = shapes.granules, shapes.granule
        # A tag fills beats of the narrowest bus, one granule of a beat of the widest.
        tag_beats = max(TAG_BYTES // beat_bytes, 1)
        capacity = _BURST_DEPTH * self.burst_beats
        begun = data.StructLayout(
            {
                "data": 1,
                "tag": 1,
                "beats": burst.beats.shape(),
                "first": burst.first.shape(),
                "end": burst.end.shape(),
                "final": 1,
                "measured": 1,
            }
        )
        answer = data.StructLayout({"final": 1, "chunk": 1})
        limit = bus.outstanding_writes
        m.submodules.bursts = bursts = Chain(outgoing_layout(shapes), _BURST_DEPTH)
        m.submodules.tags = tags = Chain(8 * TAG_BYTES, TAG_DEPTH)
        m.submodules.ciphertext = ciphertext = Queue(
            bus.data_bits, max(capacity, 128) + 1, block_ram=True
        )
        m.submodules.begun = order = Queue(begun, limit)
        m.submodules.answers = answers = Queue(answer, limit)

        # What the lane has been given, and what it returned; room was reserved for all of it.
        m.d.comb += [
            bursts.i.valid.eq(self.enable),
            bursts.i.p.eq(burst),
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

        # Addresses, each once something is there: the lane has been given the rest.
        #: Beats, and tags, that came, less those of begun bursts; some are still to come.
        spare = Signal(signed(capacity.bit_length() + 1))
        came = Signal(signed(TAG_DEPTH.bit_length() + 1))
        #: The chunk's data were begun, its tag has a burst of its own.
        owes = Signal()
        accepted = Signal(range(limit + 1))
        free = Signal()
        begins_tag = Signal()
        begins_data = Signal()
        request = Signal.like(self.aw.p)
        head = bursts.o.p
        joined = Signal()
        separate = Signal()
        more = Signal(range(tag_beats + 1))
        if granules == 1:
            m.d.comb += more.eq(Mux(joined, tag_beats, 0))
        else:
            m.d.comb += more.eq(joined & (head.end == granules))
        m.d.comb += [
            free.eq(
                (~self.aw.valid | self.aw.ready) & ~self.stop & ((accepted + self.aw.valid) < limit)
            ),
            begins_tag.eq(free & owes & (came > 0)),
            begins_data.eq(free & ~owes & bursts.o.valid & (spare > 0)),
            joined.eq(head.last & head.joins),
            separate.eq(head.last & ~head.joins),
            bursts.o.ready.eq(begins_tag | (begins_data & ~separate)),
            request.id.eq(Client.STORE),
            request.address.eq(
                bus.window_base + ((head.beat + Mux(owes, head.beats, 0)) << log_beat)
            ),
            request.length.eq(Mux(owes, tag_beats, head.beats + more) - 1),
            order.i.valid.eq(begins_tag | begins_data),
            order.i.p.data.eq(~owes),
            order.i.p.tag.eq(owes | joined),
            order.i.p.beats.eq(head.beats),
            order.i.p.first.eq(head.first),
            order.i.p.end.eq(head.end),
            order.i.p.final.eq(head.final & (owes | ~separate)),
            order.i.p.measured.eq(head.measured),
        ]
        with m.If(self.aw.ready):
            m.d.sync += self.aw.valid.eq(0)
        with m.If(begins_tag | begins_data):
            m.d.sync += [
                self.aw.valid.eq(1),
                self.aw.p.eq(request),
                owes.eq(begins_data & separate),
            ]
        m.d.sync += [
            spare.eq(spare + self.o_valid - Mux(begins_data, head.beats, 0)),
            came.eq(came + self.tag_valid - (begins_tag | (begins_data & joined))),
        ]

        # Data. After a stop, what is owed is sent without strobes.
        sending = order.o.p
        count = Signal(range(self.burst_beats))
        word = Signal(range(tag_beats))
        #: The tag's own beats; the chunk's last beat, with its tag behind it.
        tagging, behind = Signal(), Signal()
        ends, shares = Signal(), Signal()
        last = Signal()
        load = Signal()
        there = Signal()
        has = Signal()
        beat = Signal(bus.data_bits)
        strobe = Signal(beat_bytes)
        marks = Signal(answer)
        piece = self.tap.p
        m.d.comb += [
            tagging.eq(behind | ~sending.data),
            ends.eq(~tagging & (count == sending.beats - 1)),
            has.eq(Mux(tagging, tags.o.valid, ciphertext.o.valid & (tags.o.valid | ~shares))),
            there.eq(order.o.valid & (~self.w.valid | self.w.ready)),
            self.tap.valid.eq(there & sending.measured & has),
            load.eq(there & (self.stop | (has & (~sending.measured | self.tap.ready)))),
            last.eq(Mux(tagging, word == tag_beats - 1, ends & (~sending.tag | shares))),
            order.o.ready.eq(load & last),
            ciphertext.o.ready.eq(load & ~tagging),
            emptied.eq(load & ends),
            tagged.eq(load & last & sending.tag),
            tags.o.ready.eq(tagged),
            piece.data.eq(beat),
            piece.first.eq(Mux(tagging | (count != 0), 0, sending.first)),
            piece.end.eq(Mux(tagging, 1, Mux(ends, sending.end + shares, granules))),
        ]
        if granules == 1:
            tag = tags.o.p.word_select(word, bus.data_bits)
            m.d.comb += beat.eq(Mux(tagging, tag, ciphertext.o.p))
        else:
            m.d.comb += shares.eq(sending.tag & ends & (sending.end != granules))
            for lane in range(granules):
                here = slice(8 * lane * granule, 8 * (lane + 1) * granule)
                tags_here = tagging | (shares & (sending.end == lane))
                m.d.comb += beat[here].eq(Mux(tags_here, tags.o.p, ciphertext.o.p[here]))
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
                count.eq(Mux(ends | tagging, 0, count + 1)),
                behind.eq(~last & (ends | tagging)),
                word.eq(Mux(tagging & ~last, word + 1, 0)),
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
                    (head.beats << log_beat)
                    - (head.first + (granules - head.end)) * granule
                    + Mux(joined, TAG_BYTES, 0),
                )
            ),
        ]
        m.d.sync += accepted.eq(accepted + (self.aw.valid & self.aw.ready) - answered)

        return m
