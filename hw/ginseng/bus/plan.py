"""Turns transfer descriptors into bytes (VTA specification §5)."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import ADDRESS_BITS
from ginseng.bus.shapes import OFFSET_BITS, DmaShapes
from ginseng.flow.arbiter import following
from ginseng.isa.config import Memory
from ginseng.isa.transfer import Client, TransferDescriptor

__all__ = ["BASES", "Planner", "bases_layout"]

#: The base register of each memory type.
BASES = {
    Memory.UOP: "uop",
    Memory.WGT: "wgt",
    Memory.INP: "inp",
    Memory.ACC: "acc",
    Memory.OUT: "out",
    Memory.ACC_8BIT: "acc",
}


def bases_layout() -> data.StructLayout:
    """One 64-bit byte address per base register."""
    return data.StructLayout(dict.fromkeys(sorted(set(BASES.values())), unsigned(64)))


class Planner(wiring.Component):
    """Converts elements to bytes and merges rows that follow one another, for all clients in turn.

    Takes one descriptor per cycle from the clients that have room, and gives its plan four cycles
    later; one multiplier serves all. A descriptor of nothing gives no plan. A memory type that
    does not exist, and a base register that is not aligned or beyond the address bits, makes the
    plan illegal.

    Parameters
    ----------
    shapes : DmaShapes

    """

    #: In: descriptors, by `Client`.
    i: Any
    #: Out: plans, by `Client`.
    o: Any
    #: In: base registers.
    bases: data.View
    #: In: whether a client may have one more descriptor in flight.
    room: Signal
    #: Out: whose descriptor is taken in this cycle.
    taken: Signal
    #: Out: whether that one moves nothing.
    empty: Signal

    def __init__(self, shapes: DmaShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "i": In(stream.Signature(TransferDescriptor)).array(len(Client)),
                "o": Out(stream.Signature(shapes.plan)).array(len(Client)),
                "bases": In(bases_layout()),
                "room": In(len(Client)),
                "taken": Out(len(Client)),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes = self.shapes
        # One plan of each client waits in registers.
        plans = [Signal(shapes.plan, name=f"plan_{client.name.lower()}") for client in Client]
        full = Signal(len(Client))
        for client, waiting in zip(Client, plans, strict=True):
            m.d.comb += [self.o[client].p.eq(waiting), self.o[client].valid.eq(full[client])]
            with m.If(self.o[client].ready):
                m.d.sync += full[client].eq(0)

        # First stage: choose a client, and what its memory type means.
        last = Signal(Client)
        chosen = Signal(Client)
        offers = Signal(len(Client))
        descriptor = Signal(TransferDescriptor)
        log = Signal(range(max(*shapes.log_element.values(), 4) + 1))
        base = Signal(64)
        known = Signal()
        busy = Signal()
        busy_client = Signal(Client)
        held = Signal(
            data.StructLayout(
                {
                    "descriptor": TransferDescriptor,
                    "log": log.shape(),
                    "base": ADDRESS_BITS,
                    "illegal": 1,
                }
            )
        )

        counts, counts_client, merges = Signal(), Signal(Client), Signal()
        counted = Signal.like(held)
        for client in Client:
            pending = (busy & (busy_client == client)) | (counts & (counts_client == client))
            # Seen a cycle late: what is offered stays, and so does the room for it.
            m.d.sync += offers[client].eq(
                self.i[client].valid
                & self.room[client]
                & ~full[client]
                & ~pending
                & ~self.taken[client]
            )
        m.d.comb += chosen.eq(following(m, last, offers))
        with m.Switch(chosen):
            for client in Client:
                with m.Case(client):
                    m.d.comb += [
                        descriptor.eq(self.i[client].p),
                        self.i[client].ready.eq(offers[client]),
                        self.taken[client].eq(offers[client]),
                    ]
        with m.If(chosen == Client.FETCH):
            m.d.comb += [log.eq(4), known.eq(1)]
        with m.Else(), m.Switch(descriptor.memory):
            for memory in Memory:
                with m.Case(memory):
                    m.d.comb += [
                        log.eq(shapes.log_element[memory]),
                        base.eq(self.bases[BASES[memory]]),
                        known.eq(1),
                    ]

        misaligned = Signal()
        with m.Switch(chosen):
            for client in Client:
                with m.Case(client):
                    m.d.comb += misaligned.eq((base & (shapes.alignment(client) - 1)) != 0)
        m.d.comb += self.empty.eq((descriptor.rows == 0) | (descriptor.row_elements == 0))
        m.d.sync += busy.eq(offers.any() & ~self.empty)
        with m.If(offers.any()):
            m.d.sync += [
                last.eq(chosen),
                busy_client.eq(chosen),
                held.descriptor.eq(descriptor),
                held.log.eq(log),
                held.base.eq(base),
                held.illegal.eq(~known | misaligned | base[ADDRESS_BITS:].any()),
            ]

        # Second stage: see whether rows follow one another.
        m.d.sync += [
            counts.eq(busy),
            counts_client.eq(busy_client),
            counted.eq(held),
            merges.eq(
                (held.descriptor.stride == held.descriptor.row_elements)
                | (held.descriptor.rows == 1)
            ),
        ]

        # Third stage: count bytes.
        wanted = counted.descriptor
        elements = Signal(32)
        plan = Signal(shapes.plan)
        offset = Signal(OFFSET_BITS + 4)

        m.d.comb += [
            elements.eq(Mux(merges, wanted.rows, 1) * wanted.row_elements),
            plan.base.eq(counted.base),
            plan.rows.eq(Mux(merges, 1, wanted.rows)),
            plan.illegal.eq(counted.illegal),
            # The fetch client counts 16-byte units without wrapping.
            plan.offset.eq(
                Mux(counts_client == Client.FETCH, offset, offset[:OFFSET_BITS]),
            ),
        ]
        with m.Switch(counted.log):
            for shift in sorted({4, *shapes.log_element.values()}):
                with m.Case(shift):
                    m.d.comb += [
                        plan.nbytes.eq(elements << shift),
                        plan.stride.eq(wanted.stride << shift),
                        offset.eq(wanted.dram_base << shift),
                    ]
        for client, waiting in zip(Client, plans, strict=True):
            with m.If(counts & (counts_client == client)):
                m.d.sync += [waiting.eq(plan), full[client].eq(1)]

        return m
