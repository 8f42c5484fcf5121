"""Turns transfer descriptors into runs of bytes (VTA specification §5)."""

from amaranth import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import OFFSET_BITS, DmaShapes
from ginseng.isa.config import Memory
from ginseng.isa.transfer import Client, TransferDescriptor

__all__ = ["BASES", "Rows", "bases_layout"]

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


class Rows(wiring.Component):
    """Walks the rows of one client's descriptors: a run of contiguous bytes in two cycles.

    Rows that follow one another are one run. A row that passes the end of the 32-bit offset space
    continues at its start, in a run of its own. A descriptor of the fetch client is one row from
    address 0 on, which does not wrap.

    The first run is given four cycles after its descriptor was taken, and the next descriptor is
    taken once the last one is: a descriptor moves many beats, so that one adder serves for one
    thing after the other. A descriptor of nothing gives no run. What no window could hold makes
    runs illegal: a memory type that is not the client's, a base register that is not aligned or
    beyond the window, bytes beyond it.

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: descriptors.
    i: stream.Interface
    #: Out: their runs, in order.
    o: stream.Interface
    #: In: base registers, constant while there is a descriptor.
    bases: data.View
    #: Out: a descriptor was taken in the cycle before, and whether it moves nothing.
    begin: Signal
    empty: Signal

    def __init__(self, shapes: DmaShapes, client: Client) -> None:
        self.shapes = shapes
        self.client = client
        super().__init__(
            {
                "i": In(stream.Signature(TransferDescriptor)),
                "o": Out(stream.Signature(shapes.run)),
                "bases": In(bases_layout()),
                "begin": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, client = self.shapes, self.client
        fetches = client is Client.FETCH
        memories = shapes.memories(client)
        inside = shapes.position_bits
        # The run before the end of the offsets ends there: no smaller window has room for it.
        wraps = not fetches and shapes.window_end >= 1 << OFFSET_BITS

        wanted = Signal(TransferDescriptor)
        kind = Signal(range(len(memories)))
        known = Signal()
        merged = Signal()
        together = Signal(16)
        elements = Signal(32)
        number = Signal(16)
        row = Signal(32)
        address = Signal(inside + 1)
        left = Signal(OFFSET_BITS + 1 if wraps else inside)
        illegal = Signal()
        given = Signal()

        def in_bytes(count):
            """Return so many elements in bytes."""
            logs = sorted({shapes.log_unit(client, memory) for memory in memories})
            nbytes = Signal(len(count) + logs[-1])
            with m.Switch(kind):
                for n, memory in enumerate(memories):
                    with m.Default() if n == len(memories) - 1 else m.Case(n):
                        m.d.comb += nbytes.eq(count << shapes.log_unit(client, memory))
            return nbytes

        nbytes = in_bytes(elements)
        offset = in_bytes(row) if fetches else in_bytes(row)[:OFFSET_BITS]
        base, aligned = self._base(m, kind)

        m.d.comb += [
            self.empty.eq((wanted.rows == 0) | (wanted.row_elements == 0)),
            self.o.p.address.eq(address),
            self.o.p.nbytes.eq(left),
            self.o.p.final.eq(merged | (number == wanted.rows)),
            self.o.p.illegal.eq(illegal),
            given.eq(self.o.ready),
        ]
        if wraps:
            start, room, exceeds = Signal(OFFSET_BITS), Signal(OFFSET_BITS + 1), Signal()
            m.d.comb += [
                room.eq((1 << OFFSET_BITS) - start),
                exceeds.eq(left > room),
                given.eq(self.o.ready & ~exceeds),
            ]
            with m.If(exceeds):
                m.d.comb += [self.o.p.nbytes.eq(room), self.o.p.final.eq(0)]

        addend, adds = Signal(32), Signal()
        m.d.comb += addend.eq(wanted.stride)
        with m.If(adds):
            m.d.sync += row.eq(row + addend)

        with m.FSM():
            with m.State("Take-Descriptor"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [wanted.eq(self.i.p), row.eq(0), number.eq(1)]
                with m.If(self.i.valid):
                    m.next = "Scan-Descriptor"

            with m.State("Scan-Descriptor"):
                merges = (wanted.stride == wanted.row_elements) | (wanted.rows == 1) | fetches
                m.d.comb += [self.begin.eq(1), addend.eq(wanted.dram_base), adds.eq(1)]
                m.d.sync += [
                    known.eq(fetches),
                    merged.eq(merges),
                    together.eq(Mux(merges, 1 if fetches else wanted.rows, 1)),
                ]
                with m.Switch(wanted.memory):
                    for n, memory in enumerate(memories):
                        with m.Case(memory):
                            m.d.sync += [kind.eq(n), known.eq(1)]
                m.next = "Count-Elements"
                with m.If(self.empty):
                    m.next = "Take-Descriptor"

            with m.State("Count-Elements"):
                m.d.sync += elements.eq(together * wanted.row_elements)
                m.next = "Find-Row"

            with m.State("Find-Row"):
                m.d.comb += adds.eq(1)
                m.d.sync += [
                    address.eq(base[:inside] + offset[:inside]),
                    left.eq(nbytes),
                    illegal.eq(
                        ~known
                        | ~aligned
                        | base[inside:].any()
                        | offset[inside:].any()
                        | nbytes[len(left) :].any()
                    ),
                ]
                if wraps:
                    m.d.sync += start.eq(offset)
                m.next = "Give-Run"

            with m.State("Give-Run"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(given):
                    m.d.sync += number.eq(number + 1)
                    m.next = "Find-Row"
                    with m.If(self.o.p.final):
                        m.next = "Take-Descriptor"
                if wraps:
                    with m.If(self.o.ready & exceeds):
                        m.d.sync += [address.eq(base), start.eq(0), left.eq(left - room)]

        return m

    def _base(self, m, kind):
        """Return the base address, and whether it is aligned; a cycle after ``kind``."""
        shapes, client = self.shapes, self.client
        names = [BASES[memory] for memory in shapes.memories(client)]
        if client is Client.FETCH:
            return Const(0, 64), Const(1)
        base = self.bases[names[0]]
        if len(set(names)) > 1:
            base = Signal(64)
            with m.Switch(kind):
                for n, name in enumerate(names):
                    with m.Case(n):
                        m.d.sync += base.eq(self.bases[name])
        return base, (base & (shapes.alignment(client) - 1)) == 0
