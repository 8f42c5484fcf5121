"""The tensor table: takes legal rows that stand apart, and gives them their versions (§3)."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import (
    BASE_ALIGNMENT,
    ENTRY_CHUNK_LIMIT,
    GRANULE,
    KEY_SLOTS,
    Domain,
    Permission,
    Source,
    TensorRow,
)
from ginseng.tec.legal import RowRules
from ginseng.tec.placement import Placement
from ginseng.tec.shapes import TableLookup, TecShapes

__all__ = ["Table", "TableOp"]


class TableOp(enum.Enum, shape=3):
    """What is asked of the table."""

    #: Check a row, and take it.
    LOAD = 0
    #: Check whether a row may be imported from where ``row`` says.
    IMPORT = 1
    #: Check that the row is the program to enter, and that plain imports are done.
    LOCK = 2
    #: Check that every import is done.
    RUN = 3
    #: The row is in place from now on, its version is ``epoch``.
    PLACE = 4
    #: Give the rows of a run their versions: ``epoch`` or ``row.version``.
    START = 5


class Table(wiring.Component):
    """Rows by handle.

    An operation begins with ``start``; its operands stay as they are until ``done``, when
    ``refusal`` says NONE or the first rule that is broken, in the order of `Refusal`. LOAD and
    IMPORT take some tens of cycles, one for each place of the table and 4 to 8 for each row that is
    there; LOCK, RUN and START one for each place. After a reset all entries are zeroized, one in
    a cycle; ``row`` is zero meanwhile.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: `TableOp`, and what it is about.
    op: Any
    handle: Signal
    row: Any
    #: In: only ask: LOAD takes nothing.
    check: Signal
    #: In: version of what is placed or run.
    epoch: Signal
    #: In: what ``row.slot`` was declared for, a `SlotUse`; 0 if it was not.
    use: Signal
    #: In: the table is locked.
    locked: Signal
    #: In: for one cycle: a session begins, all bits of the bitmap are free.
    begin: Signal
    #: In: for one cycle.
    start: Signal
    #: Out: for one cycle.
    done: Signal
    refusal: Any
    #: In: rows are looked up, no operation is under way.
    running: Signal
    #: In: the planner. While not ``running``, the entry from ``done`` on is that of ``handle``.
    lookup: Any
    #: Out: of that entry: its source is sealed, under the key of this slot.
    sealed: Signal
    slot: Signal
    #: Out: where the source of an import is, from the start of the window, in bytes.
    source: Signal
    #: Out: bits of the written bitmap below those of all rows.
    free: Signal
    #: In: a chunk of an export was begun. Out: there are others that were not in this run.
    exported: Signal
    owes: Signal
    #: Out: every entry is zero, or was since the reset.
    wiped: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes: Final = shapes
        super().__init__(
            {
                "op": In(TableOp),
                "handle": In(16),
                "row": In(TensorRow),
                "check": In(1),
                "epoch": In(48),
                "use": In(2),
                "locked": In(1),
                "begin": In(1),
                "start": In(1),
                "done": Out(1),
                "refusal": Out(Refusal),
                "running": In(1),
                "lookup": In(TableLookup(shapes)),
                "sealed": Out(1),
                "slot": Out(range(KEY_SLOTS)),
                "source": Out(shapes.position_bits),
                "free": Out(range(shapes.tec.bitmap_bits + 1)),
                "exported": In(1),
                "owes": Out(1),
                "wiped": Out(1),
            }
        )

        # What a row says for ever, and what changes; bytes in their units. Both are read and
        # written at one address, so that a bit of 64 entries takes one LUT.
        granule, unit = exact_log2(GRANULE), exact_log2(BASE_ALIGNMENT)
        kept = data.StructLayout(
            {
                "domain": 3,
                "permissions": 3,
                "measured": 1,
                "source": 1,
                "slot": range(KEY_SLOTS),
                "base": shapes.position_bits - unit,
                "length": shapes.index_bits,
                "extent": shapes.index_bits,
                "chunk": shapes.chunk_bits - granule,
                "chunks": shapes.index_bits,
                "first_bit": range(shapes.tec.bitmap_bits),
            }
        )
        placed = data.StructLayout({"valid": 1, "placed": 1, "version": 48})
        depth = shapes.tec.table_entries
        self.rows: Final[Any] = memory.MemoryData(shape=kept, depth=depth, init=[])
        self.versions: Final[Any] = memory.MemoryData(shape=placed, depth=depth, init=[])

    def elaborate(self, platform):
        m = Module()

        tec, bus = self.shapes.tec, self.shapes.config.bus
        granule, unit = exact_log2(GRANULE), exact_log2(BASE_ALIGNMENT)
        position, bits = self.shapes.position_bits, len(self.free)

        m.submodules.rows = rows = memory.Memory(self.rows)
        m.submodules.versions = versions = memory.Memory(self.versions)
        row_port, row_write = rows.read_port(domain="comb"), rows.write_port()
        version_port, version_write = versions.read_port(domain="comb"), versions.write_port()
        m.submodules.rules = rules = RowRules()
        m.submodules.placement = placement = Placement(self.shapes)

        row, there, now = self.row, row_port.data, version_port.data
        base = Signal.like(row.base)
        index, by_index = Signal(tec.handle_bits), Signal()
        last = index == tec.table_entries - 1
        known = ~self.handle[tec.handle_bits :].any()
        found = known & now.valid
        plain = there.source == Source.PLAIN.value
        imported = there.measured & (there.domain != Domain.EXPORT.value)

        address = Signal(tec.handle_bits)
        with m.If(self.running):
            m.d.comb += address.eq(self.lookup.handle)
        with m.Elif(placement.by_index):
            m.d.comb += address.eq(placement.index)
        with m.Elif(by_index):
            m.d.comb += address.eq(index)
        with m.Else():
            m.d.comb += address.eq(self.handle)
        ports = (row_port, row_write, version_port, version_write)
        m.d.comb += [port.addr.eq(address) for port in ports]

        entry = self.lookup.entry
        m.d.comb += [
            entry.valid.eq(now.valid),
            entry.placed.eq(now.placed),
            entry.domain.eq(there.domain),
            entry.permissions.eq(there.permissions),
            entry.measured.eq(there.measured),
            entry.slot.eq(Mux(imported, 0, there.slot)),
            entry.base.eq(there.base << unit),
            entry.length.eq(there.length << granule),
            entry.extent.eq(there.extent << granule),
            entry.chunk.eq(there.chunk << granule),
            entry.version.eq(now.version),
            entry.first_bit.eq(there.first_bit),
            self.sealed.eq(~plain),
            self.slot.eq(there.slot),
            self.source.eq(base),
        ]

        imports = self.op == TableOp.IMPORT
        m.d.comb += [
            rules.row.eq(row),
            rules.use.eq(self.use),
            placement.imports.eq(imports),
            placement.tagged.eq(~(imports & plain)),
            placement.base.eq(base[granule:]),
            placement.length.eq(row.length[granule:]),
            placement.chunk.eq(row.chunk[granule:]),
            placement.free.eq(self.free),
            placement.other.valid.eq(now.valid),
            placement.other.base.eq(there.base),
            placement.other.length.eq(there.length),
            placement.other.extent.eq(there.extent),
        ]

        # What may be written: the row, and one of two versions.
        of_epoch = Signal()
        m.d.comb += [
            row_write.data.domain.eq(row.domain),
            row_write.data.permissions.eq(row.permissions),
            row_write.data.measured.eq(row.measured),
            row_write.data.source.eq(row.source),
            row_write.data.slot.eq(row.slot),
            row_write.data.base.eq(base[unit:]),
            row_write.data.length.eq(row.length[granule:]),
            row_write.data.chunk.eq(row.chunk[granule:]),
            row_write.data.chunks.eq(placement.chunks),
            row_write.data.extent.eq(placement.extent),
            row_write.data.first_bit.eq(self.free),
            version_write.data.version.eq(Mux(of_epoch, self.epoch, row.version)),
        ]

        writes = (row.permissions & Permission.W).any()
        enters = (row.permissions & Permission.X).any()
        #: There is an X row.
        entered = Signal()
        #: Whether and what was imported last, of sealed sources and of plain ones.
        some = Signal(2)
        latest = [Signal(tec.handle_bits, name=f"latest_{n}") for n in range(2)]
        repeats = Mux(
            plain, some[1] & (self.handle <= latest[1]), some[0] & (self.handle <= latest[0])
        )
        far = Cat(base[position:], Mux(imports, 0, row.length[position:])).any()
        #: Chunks of exports that are to be begun, and how their number changes.
        owed, change = Signal(bits), Signal(bits)
        m.d.comb += [self.owes.eq(owed.any()), change.eq(self.exported.replicate(bits))]
        m.d.sync += owed.eq(owed + change)

        def refuse(rule: Refusal) -> None:
            m.d.sync += self.refusal.eq(rule)
            m.next = "Answer"

        with m.FSM(init="Wipe"):
            with m.State("Wipe"):
                m.d.comb += [by_index.eq(1), row_write.en.eq(1), version_write.en.eq(1)]
                m.d.sync += index.eq(index + 1)
                with m.If(last):
                    m.d.sync += self.wiped.eq(1)
                    m.next = "Idle"

            with m.State("Idle"):
                m.d.sync += [
                    # What stands before the window wraps to far behind it.
                    base.eq(row.base - bus.window_base),
                    self.refusal.eq(Refusal.NONE),
                    index.eq(0),
                ]
                with m.If(self.start):
                    m.next = "Judge"

            with m.State("Judge"), m.Switch(self.op):
                with m.Case(TableOp.LOAD):
                    with m.If(~known):
                        refuse(Refusal.ROW_HANDLE)
                    with m.Elif(now.valid):
                        refuse(Refusal.ROW_DUPLICATE)
                    with m.Elif(rules.refusal != Refusal.NONE):
                        refuse(rules.refusal)
                    # SEC: TEC.ROW_WINDOW
                    with m.Elif(far):
                        refuse(Refusal.ROW_WINDOW)
                    with m.Else():
                        m.d.comb += placement.start.eq(1)
                        m.next = "Place"
                with m.Case(TableOp.IMPORT):
                    # SEC: TEC.TABLE_LOCKED -- plain imports are closed by LOCK.
                    with m.If(~(found & imported & (plain ^ self.locked))):
                        refuse(Refusal.IMPORT_ROW)
                    # SEC: TEC.IMPORT_ONCE
                    with m.Elif(repeats):
                        refuse(Refusal.IMPORT_ORDER)
                    # SEC: TEC.IMPORT_SOURCE
                    with m.Elif(row.base[:unit].any() | far):
                        refuse(Refusal.IMPORT_SOURCE)
                    with m.Else():
                        m.d.comb += placement.start.eq(1)
                        m.next = "Place"
                with m.Case(TableOp.LOCK):
                    # SEC: TEC.ENTRY_MEASURED
                    program = (there.permissions & Permission.X).any() & now.placed
                    with m.If(found & program):
                        m.next = "Scan-Imports"
                    with m.Else():
                        refuse(Refusal.LOCK_ENTRY)
                with m.Case(TableOp.RUN):
                    m.next = "Scan-Imports"
                with m.Case(TableOp.PLACE):
                    m.d.comb += [
                        of_epoch.eq(1),
                        version_write.data.valid.eq(1),
                        version_write.data.placed.eq(1),
                        version_write.en.eq(1),
                    ]
                    for number in range(2):
                        with m.If(plain == number):
                            m.d.sync += [some[number].eq(1), latest[number].eq(self.handle)]
                    m.next = "Answer"
                with m.Case(TableOp.START):
                    m.next = "Give-Versions"

            with m.State("Place"), m.If(placement.done):
                m.next = "Answer"
                with m.If(imports), m.If(placement.outside | placement.overlaps):
                    refuse(Refusal.IMPORT_SOURCE)
                with m.Elif(placement.outside):
                    refuse(Refusal.ROW_WINDOW)
                # SEC: TEC.ROW_OVERLAP
                with m.Elif(placement.overlaps):
                    refuse(Refusal.ROW_OVERLAP)
                # SEC: TEC.ENTRY_CHUNK
                with m.Elif(enters & (entered | (row.chunk > ENTRY_CHUNK_LIMIT))):
                    refuse(Refusal.ROW_ENTRY)
                with m.Elif(writes & placement.left[-1]):
                    refuse(Refusal.ROW_BITMAP)
                with m.Elif(~self.check):
                    with m.If(writes):
                        m.d.sync += self.free.eq(placement.left)
                    m.next = "Take"

            with m.State("Take"):
                m.d.comb += [
                    row_write.en.eq(1),
                    version_write.data.valid.eq(1),
                    # Weights that nobody measures stand where their owner put them.
                    version_write.data.placed.eq(
                        (row.domain == Domain.WEIGHTS.value) & ~row.measured
                    ),
                    version_write.en.eq(1),
                ]
                with m.If(enters):
                    m.d.sync += entered.eq(1)
                m.next = "Answer"

            with m.State("Scan-Imports"):
                m.d.comb += by_index.eq(1)
                m.d.sync += index.eq(index + 1)
                with m.If(last):
                    m.next = "Answer"
                with m.If(now.valid & imported & ~now.placed & (plain | self.locked)):
                    with m.If(self.locked):
                        refuse(Refusal.RUN_IMPORT)
                    with m.Else():
                        refuse(Refusal.LOCK_IMPORT)

            with m.State("Give-Versions"):
                m.d.comb += [
                    by_index.eq(1),
                    of_epoch.eq(there.domain == Domain.SCRATCH.value),
                    version_write.data.valid.eq(1),
                    version_write.data.placed.eq(1),
                ]
                with m.Switch(there.domain):
                    with m.Case(Domain.SCRATCH, Domain.IMPORT):
                        m.d.comb += version_write.en.eq(now.valid)
                    with m.Case(Domain.EXPORT):
                        m.d.comb += [version_write.en.eq(now.valid), change.eq(there.chunks)]
                m.d.sync += index.eq(index + 1)
                with m.If(last):
                    m.next = "Answer"

            with m.State("Answer"):
                m.d.comb += self.done.eq(1)
                m.next = "Idle"

        with m.If(self.begin):
            m.d.sync += self.free.eq(tec.bitmap_bits)

        return m
