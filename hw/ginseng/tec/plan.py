"""Turns transfer descriptors into plans, and refuses those that are not legal (TEC §2, §5)."""

from typing import Any

from amaranth import Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.table import KEY_SLOTS
from ginseng.isa.transfer import Client, TransferDescriptor
from ginseng.tec.shapes import TableLookup, TecShapes

__all__ = ["PlanFault", "Planner"]


class PlanFault(enum.Enum, shape=3):
    """Why a descriptor is not legal; seen by tests only."""

    NONE = 0
    NO_RUN = 1
    MEMORY = 2
    HANDLE = 3
    PERMISSION = 4
    UOP_DOMAIN = 5
    NO_KEY = 6
    RANGE = 7


class Planner(wiring.Component):
    """Checks descriptors, and works out in which chunks their rows are, one after the other.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: descriptors, by `Client`.
    i: Any
    #: Out: ``{client, plan}``, of the reading clients.
    read: stream.Interface
    #: Out: plans of the store client.
    store: stream.Interface
    #: In: whether a client may have one more descriptor in flight, and has room for its plan.
    room: Signal
    #: Out: whose descriptor is taken in this cycle.
    taken: Signal
    #: Out: whether that one moves nothing: it gives no plan.
    empty: Signal
    #: Out: reads the table.
    lookup: Any
    #: In: the slots that have a key.
    loaded: Signal
    #: In: a run is under way; a descriptor at any other time is a fault.
    running: Signal
    #: In: the sticky fault.
    stop: Signal
    #: Out: a descriptor was not legal; stays until reset.
    fault: Signal
    #: Out: why, of the first one.
    cause: Any

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        read = data.StructLayout({"client": Client, "plan": shapes.plan})
        super().__init__(
            {
                "i": In(stream.Signature(TransferDescriptor)).array(len(Client)),
                "read": Out(stream.Signature(read)),
                "store": Out(stream.Signature(shapes.plan)),
                "room": In(len(Client)),
                "taken": Out(len(Client)),
                "empty": Out(1),
                "lookup": Out(TableLookup(shapes)),
                "loaded": In(KEY_SLOTS),
                "running": In(1),
                "stop": In(1),
                "fault": Out(1),
                "cause": Out(PlanFault),
            }
        )

    def elaborate(self, platform):
        raise NotImplementedError("The ports stand, the gates come next")
