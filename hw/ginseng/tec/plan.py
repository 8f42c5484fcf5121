"""Turns transfer descriptors into plans, and refuses those that are not legal (TEC §2, §5)."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import MEMORIES, DmaShapes
from ginseng.flow.arbiter import following
from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.table import GRANULE, KEY_SLOTS, Domain, Permission
from ginseng.isa.transfer import Client, TransferDescriptor
from ginseng.tec.shapes import NoncePrefix, TableLookup, TecShapes

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

    A descriptor that moves nothing takes three cycles and gives no plan. Any other takes seven, two
    more for each bit of the greater of ``index`` and ``stride_index``, and at least one for each
    bit of ``rows - 1``. A plan waits until it is taken, and no descriptor is taken then.

    An entry that does not exist, is not in place or lacks the permission, a slot without a key, a
    memory type that is not the client's, micro-ops from anywhere but a program, a row that ends
    beyond its tensor, and a descriptor outside of a run raise ``fault``; nothing is taken any more.

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
        m = Module()

        shapes = self.shapes
        # Who is next is chosen a cycle before: with a select that comes late, a multiplexer of five
        # takes twice the room.
        client = Signal(Client)
        grant = Signal(len(Client))
        arriving, item = (Signal(TransferDescriptor, name=n) for n in ("arriving", "item"))
        offers = Signal(len(Client))
        chosen = following(m, client, offers)
        masked: Any = 0
        for n, port in enumerate(self.i):
            wanted = Value.cast(port.p)
            masked |= wanted & grant[n].replicate(len(wanted))
            m.d.comb += offers[n].eq(port.valid & self.room[n])

        m.d.comb += Value.cast(arriving).eq(masked)

        # What is asked for, in bytes. The shift is known a cycle before, as a number of few bits:
        # one lookup table per bit of each product.
        moves = Signal()
        units = DmaShapes(shapes.config.core, shapes.config.bus).log_element
        log_granule = (GRANULE - 1).bit_length()
        logs = sorted({(INSN_BYTES - 1).bit_length(), *units.values()})
        new_unit, new_known = self._unit(m, client, arriving.memory, logs)
        unit, known = Signal.like(new_unit), Signal()
        bits = shapes.position_bits
        offset = item.dram_base[: shapes.tec.offset_bits]
        first = Signal(shapes.tec.offset_bits + logs[-1])
        row = Signal(16 + logs[-1])
        stride = Signal(16 + logs[-1])
        with m.Switch(unit):
            for n, log in enumerate(logs):
                with m.Case(n) if n + 1 < len(logs) else m.Default():
                    m.d.comb += [
                        first.eq(offset << log),
                        row.eq(item.row_elements << log),
                        stride.eq(item.stride << log),
                    ]

        # May it be?
        entry = self.lookup.entry
        m.d.comb += [
            self.lookup.handle.eq(item.dram_base[shapes.tec.offset_bits :]),
            moves.eq((item.rows != 0) & (item.row_elements != 0)),
        ]
        needed = Mux(
            client == Client.FETCH,
            Permission.X.value,
            Mux(client == Client.STORE, Permission.W.value, Permission.R.value),
        )
        steers = (client == Client.COMPUTE) & (item.memory == Memory.UOP)
        cause = Signal(PlanFault)
        with m.If(~self.running):
            m.d.comb += cause.eq(PlanFault.NO_RUN)
        with m.Elif(~known & (moves | (client != Client.STORE))):
            m.d.comb += cause.eq(PlanFault.MEMORY)
        with m.Elif(moves):
            with m.If(~entry.valid | ~entry.placed):
                m.d.comb += cause.eq(PlanFault.HANDLE)
            # SEC: TEC.FETCH_X_ONLY
            with m.Elif((entry.permissions & needed) == 0):
                m.d.comb += cause.eq(PlanFault.PERMISSION)
            # SEC: TEC.UOP_DOMAIN -- what steers the core is measured.
            with m.Elif(steers & (entry.domain != Domain.PROGRAM)):
                m.d.comb += cause.eq(PlanFault.UOP_DOMAIN)
            # SEC: TEC.UNLOADED_SLOT
            with m.Elif(~self.loaded.bit_select(entry.slot, 1)):
                m.d.comb += cause.eq(PlanFault.NO_KEY)

        plan = Signal(shapes.plan)
        # Each register adds; it is loaded by adding to zero, which takes no multiplexer.
        loads = Signal()
        # Where the last row ends, from the first byte: `row` plus `stride` times (rows - 1).
        span = Signal(bits + 1)
        factor = Signal(bits)
        times = Signal(16)
        #: A sum, a product or the first byte itself is beyond any tensor.
        over, lost = Signal(), Signal()
        joins = Signal()
        # First byte and stride by chunks: what is left of each, and the chunk, shifted.
        granules = max(bits, shapes.chunk_bits) - log_granule
        rest, step = Signal(granules), Signal(granules)
        divisor = Signal(granules + 1)
        shift = Signal(range(granules + 1))
        fits, fits_step = Signal(), Signal()
        divides, fresh = Signal(), Signal()
        for left, value, fit in ((rest, first, fits), (step, stride, fits_step)):
            less = Signal(granules + 2)
            m.d.comb += [
                less.eq(
                    left + Mux(loads, (value >> log_granule)[:granules], Cat(~divisor, 1)) + ~loads
                ),
                fit.eq(~less[-1]),
            ]
            with m.If(loads | (divides & fit)):
                m.d.sync += left.eq(less)
        length = Signal(bits)
        # Of the last byte in the tensor; then of the first one in place, behind the tags before it.
        end = Signal(bits + 1)
        places = Signal()
        m.d.comb += end.eq(plan.position + Mux(places, plan.index << log_granule, span))

        m.d.comb += [
            self.read.p.client.eq(client),
            self.read.p.plan.eq(plan),
            self.store.p.eq(plan),
        ]
        for field, low, high in (
            ("within", plan.position, rest),
            ("stride_within", plan.stride, step),
        ):
            m.d.comb += self.read.p.plan[field].eq(Cat(low[:log_granule], high))
            m.d.comb += self.store.p[field].eq(Cat(low[:log_granule], high))

        with m.If(loads | times[0]):
            m.d.sync += [
                span.eq(span[:bits] + Mux(loads, row, factor)),
                over.eq(over | lost | span[bits]),
            ]
        with m.If(times != 0):
            m.d.sync += [
                times.eq(times >> 1),
                factor.eq(factor << 1),
                lost.eq(lost | factor[-1]),
            ]

        prefix = Signal(NoncePrefix)
        m.d.comb += [
            prefix.version.eq(entry.version),
            prefix.handle.eq(self.lookup.handle),
            prefix.domain.eq(entry.domain),
        ]

        with m.FSM():
            with m.State("Choose-Client"):
                m.d.sync += [
                    client.eq(chosen),
                    grant.eq(1 << chosen),
                    rest.eq(0),
                    step.eq(0),
                    span.eq(0),
                    times.eq(0),
                ]
                with m.If(offers.any() & ~self.stop):
                    m.next = "Take-Descriptor"

            with m.State("Take-Descriptor"):
                m.d.sync += [item.eq(arriving), unit.eq(new_unit), known.eq(new_known)]
                m.next = "Check-Descriptor"

            with m.State("Check-Descriptor"):
                m.d.comb += [
                    self.taken.eq(grant),
                    self.empty.eq(~moves),
                    loads.eq(1),
                    *(port.ready.eq(grant[n]) for n, port in enumerate(self.i)),
                ]
                with m.If(cause != PlanFault.NONE):
                    m.d.sync += [self.fault.eq(1), self.cause.eq(cause)]
                    m.next = "Stop"
                with m.Elif(~moves):
                    m.next = "Choose-Client"
                with m.Else():
                    m.next = "Align-Chunk"
                m.d.sync += [
                    plan.slot.eq(entry.slot),
                    plan.prefix.eq(prefix.as_value()),
                    plan.base.eq(entry.base),
                    plan.extent.eq(entry.extent),
                    length.eq(entry.length),
                    plan.chunk.eq(entry.chunk),
                    plan.tracked.eq((entry.permissions & Permission.W.value) != 0),
                    plan.first_bit.eq(entry.first_bit),
                    plan.measured.eq(entry.measured),
                    plan.position.eq(first),
                    plan.rows.eq(item.rows),
                    plan.stride.eq(stride),
                    plan.merge.eq(item.stride >= item.row_elements),
                    plan.index.eq(0),
                    plan.stride_index.eq(0),
                    joins.eq((item.stride == item.row_elements) | (item.rows == 1)),
                    factor.eq(stride),
                    times.eq(item.rows - 1),
                    over.eq(first[bits:].any() | row[bits:].any()),
                    lost.eq(stride[bits:].any()),
                    divisor.eq(entry.chunk >> log_granule),
                    shift.eq(0),
                    fresh.eq(1),
                ]

            # The chunk is moved up until it is greater than both, then down again.
            with m.State("Align-Chunk"):
                # Rows that follow one another are one, whatever the stride.
                m.d.sync += fresh.eq(0)
                with m.If(fresh):
                    m.d.sync += plan.row_bytes.eq(span)
                    with m.If(joins):
                        m.d.sync += [step.eq(0), plan.stride.eq(0), plan.rows.eq(1)]
                with m.If(fits | (fits_step & ~joins)):
                    m.d.sync += [divisor.eq(divisor << 1), shift.eq(shift + 1)]
                with m.Elif(shift == 0):
                    m.next = "Compare-End"
                with m.Else():
                    m.d.sync += [divisor.eq(divisor >> 1), shift.eq(shift - 1)]
                    m.next = "Divide"

            with m.State("Divide"):
                m.d.comb += divides.eq(1)
                m.d.sync += [
                    plan.index.eq(Cat(fits, plan.index)),
                    plan.stride_index.eq(Cat(fits_step, plan.stride_index)),
                    divisor.eq(divisor >> 1),
                    shift.eq(shift - 1),
                ]
                with m.If(shift == 0):
                    m.next = "Compare-End"

            with m.State("Compare-End"), m.If(times == 0):
                # SEC: TEC.RANGE_UNWRAPPED -- every row, before any address is issued.
                with m.If(over | span[bits] | (end > length)):
                    m.d.sync += [self.fault.eq(1), self.cause.eq(PlanFault.RANGE)]
                    m.next = "Stop"
                with m.Else():
                    m.next = "Count-Tags"
                with m.If(joins):
                    m.d.sync += plan.row_bytes.eq(span)

            with m.State("Count-Tags"):
                m.d.comb += places.eq(1)
                m.d.sync += plan.position.eq(end)
                m.next = "Give-Plan"

            with m.State("Give-Plan"):
                stores = client == Client.STORE
                m.d.comb += [
                    self.read.valid.eq(~stores & ~self.stop),
                    self.store.valid.eq(stores & ~self.stop),
                ]
                with m.If(Mux(stores, self.store.ready, self.read.ready) & ~self.stop):
                    m.next = "Choose-Client"

            with m.State("Stop"):
                pass

        return m

    def _unit(self, m, client, memory, logs):
        """Return the place in ``logs`` of log2 of the bytes of an element, and whether it is one.

        It is if the client may name its memory type.
        """
        log = DmaShapes(self.shapes.config.core, self.shapes.config.bus).log_element
        unit, known = Signal(range(len(logs))), Signal()
        with m.If(client == Client.FETCH):
            m.d.comb += [unit.eq(logs.index((INSN_BYTES - 1).bit_length())), known.eq(1)]
        with m.Else(), m.Switch(memory):
            for one in Memory:
                with m.Case(one):
                    m.d.comb += unit.eq(logs.index(log[one]))
                    for owner, memories in MEMORIES.items():
                        with m.If(client == owner):
                            m.d.comb += known.eq(one in memories)
        return unit, known
