"""Reads: rows to chunks, each chunk fetched whole, opened and verified (TEC specification §5)."""

from typing import Any

from amaranth import Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature
from ginseng.bus.port import READ_COUNT_BITS
from ginseng.bus.shapes import READERS
from ginseng.isa.transfer import Client
from ginseng.tec.shapes import LanePort, TecShapes

__all__ = ["ReadFault", "ReadPath"]


class ReadFault(enum.Enum, shape=2):
    """What went wrong; seen by tests only."""

    NONE = 0
    #: A response that is not OKAY, another identifier, a wrong ``last``, data nobody asked for.
    BUS = 1
    #: A chunk was not written yet.
    UNWRITTEN = 2
    TAG = 3


class ReadPath(wiring.Component):
    """Answers the clients that read, and the importer.

    All reads have one identifier, 0.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: ``{client, plan}``, of `Planner`.
    plan: stream.Interface
    #: In: raw plans of the importer: one row of whole chunks from ``base + position`` on, while no
    #: other client reads. Out: their dense beats.
    source: stream.Interface
    source_beat: stream.Interface
    #: In: a descriptor of this client was taken, and whether it moves nothing.
    begin: Signal
    empty: Signal
    #: Out: this client may have one more descriptor in flight, and there is room for its plan.
    room: Signal
    #: Out: dense beats, by client as in `READERS`.
    beat: Any
    #: Out: a descriptor of this client completes: all its beats taken, all its chunks verified.
    done: Signal
    #: Out: loads taken, and the longest prefix of them that verified; both modulo 2**16.
    issued: Signal
    verified: Signal
    #: Out: to the lane.
    lane: Any
    #: Out: ``{bit}`` of a chunk of a W row. In: whether it may be read, in order.
    test: stream.Interface
    test_valid: Signal
    test_readable: Signal
    #: Out, in: the read channels of AXI.
    ar: stream.Interface
    r: stream.Interface
    #: In: a run starts: forget the tags.
    clear: Signal
    #: In: the sticky fault.
    stop: Signal
    #: In: overwrite the buffers, for as long as this is high; only while ``stop``.
    wipe: Signal
    #: Out: nothing is left.
    wiped: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: something went wrong; stays until reset.
    fault: Signal
    #: Out: what, of the first.
    cause: Any
    #: Out: in this cycle ``beats`` beats are asked for, for this client.
    asked: data.View

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        bus = shapes.config.bus
        axi = AxiSignature(bus)
        beat = stream.Signature(unsigned(bus.data_bits))
        plan = data.StructLayout({"client": Client, "plan": shapes.plan})
        asked = data.StructLayout(
            {"valid": 1, "client": Client, "beats": range(shapes.burst_beats + 1)}
        )
        super().__init__(
            {
                "plan": In(stream.Signature(plan)),
                "source": In(stream.Signature(shapes.plan)),
                "source_beat": Out(beat),
                "begin": In(len(READERS)),
                "empty": In(1),
                "room": Out(len(READERS)),
                "beat": Out(beat).array(len(READERS)),
                "done": Out(len(READERS)),
                "issued": Out(READ_COUNT_BITS),
                "verified": Out(READ_COUNT_BITS),
                "lane": Out(LanePort(shapes)),
                "test": Out(
                    stream.Signature(data.StructLayout({"bit": range(shapes.tec.bitmap_bits)}))
                ),
                "test_valid": In(1),
                "test_readable": In(1),
                "ar": axi.members["ar"],
                "r": axi.members["r"],
                "clear": In(1),
                "stop": In(1),
                "wipe": In(1),
                "wiped": Out(1),
                "idle": Out(1),
                "fault": Out(1),
                "cause": Out(ReadFault),
                "asked": Out(asked),
            }
        )

    def elaborate(self, platform):
        raise NotImplementedError("The ports stand, the gates come next")
