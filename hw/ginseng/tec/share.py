"""One lane for reads and writes: the half-duplex build (TEC specification §8)."""

from typing import Any, Final

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.flow.arbiter import RoundRobin
from ginseng.flow.queue import Queue
from ginseng.tec.shapes import LanePort, TecShapes

__all__ = ["LaneShare"]

#: Jobs of reads that wait for the lane: their bursts are asked for.
_READS: Final = 8
#: Of those, whose pads are made before their beats come.
_AHEAD: Final = 2
#: Jobs of which beats, or a tag, are owed: more than a lane and its pads can have.
_DEPTH: Final = 16


class LaneShare(wiring.Component):
    """Gives one lane to reads and to writes, job by job, each in its turn.

    Beats pass in the order of the jobs. A read's beats may be far away, and even behind what the
    writes have to send: while these have beats that wait, a read has its turn once its own are
    there. Otherwise pads are made as soon as it asks, and its beats wait for nothing.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: reads and writes.
    users: Any
    #: In: writes have beats that wait; only they may have the lane: a burst is under way.
    pressing: Signal
    exclusive: Signal
    #: Out: the lane.
    lane: Any

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "users": In(LanePort(shapes)).array(2),
                "pressing": In(1),
                "exclusive": In(1),
                "lane": Out(LanePort(shapes)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        job = self.lane.job.p
        turn = data.StructLayout({"user": 1, "beats": job.beats.shape()})
        m.submodules.reads = reads = Queue(job.shape(), _READS)
        m.submodules.arbiter = arbiter = RoundRobin(job.shape(), 2)
        m.submodules.turns = turns = Queue(turn, _DEPTH)
        m.submodules.tags = tags = Queue(1, _DEPTH)
        reading, writing = self.users
        wiring.connect(m, wiring.flipped(reading.job), reads.i)
        wiring.connect(m, wiring.flipped(writing.job), arbiter.i[1])

        #: Jobs of reads that were given the lane and whose beats are not all there.
        owed = Signal(range(_DEPTH + 1))
        may = Signal()
        given = arbiter.i[0].valid & arbiter.i[0].ready
        m.d.comb += [
            may.eq(
                Mux(self.pressing, (owed == 0) & reading.i.valid, owed < _AHEAD) & ~self.exclusive
            ),
            arbiter.i[0].valid.eq(reads.o.valid & may),
            arbiter.i[0].p.eq(reads.o.p),
            reads.o.ready.eq(arbiter.i[0].ready & may),
        ]

        granted = arbiter.o.p
        room = turns.i.ready & tags.i.ready
        taken = Signal()
        m.d.comb += [
            arbiter.enable.eq(1),
            job.eq(granted.item),
            self.lane.job.valid.eq(arbiter.o.valid & room),
            arbiter.o.ready.eq(self.lane.job.ready & room),
            taken.eq(self.lane.job.valid & self.lane.job.ready),
            turns.i.valid.eq(taken),
            turns.i.p.user.eq(granted.source),
            turns.i.p.beats.eq(granted.item.beats),
            tags.i.valid.eq(taken & granted.item.last),
            tags.i.p.eq(granted.source),
        ]

        # Whose beat the lane takes, and whose it gave in the cycle after.
        head = turns.o.p
        owner = Signal()
        seen = Signal.like(head.beats)
        last, passes = Signal(), Signal()
        m.d.comb += [
            last.eq(seen == head.beats - 1),
            self.lane.i.valid.eq(
                turns.o.valid & Mux(head.user, self.users[1].i.valid, self.users[0].i.valid)
            ),
            self.lane.i.p.eq(Mux(head.user, self.users[1].i.p, self.users[0].i.p)),
            passes.eq(self.lane.i.valid & self.lane.i.ready),
            turns.o.ready.eq(passes & last),
            tags.o.ready.eq(self.lane.tag_valid),
        ]
        m.d.sync += [
            owner.eq(head.user),
            owed.eq(owed + given - (passes & last & (head.user == 0))),
        ]
        with m.If(passes):
            m.d.sync += seen.eq(Mux(last, 0, seen + 1))
        for n, user in enumerate(self.users):
            m.d.comb += [
                user.i.ready.eq(self.lane.i.ready & turns.o.valid & (head.user == n)),
                user.o_valid.eq(self.lane.o_valid & (owner == n)),
                user.o_data.eq(self.lane.o_data),
                user.o_seals.eq(self.lane.o_seals),
                user.tag_valid.eq(self.lane.tag_valid & (tags.o.p == n)),
                user.tag.eq(self.lane.tag),
            ]

        return m
