"""The TEC's control: chunks written once, versions given once, tensors apart and in the window."""

from unittest.mock import patch

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib.wiring import Out

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.isa.config import BusConfig, CoreConfig, SystemConfig, TecConfig
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import Limits
from ginseng.tec import bitmap as bitmap_module
from ginseng.tec import control as control_module
from ginseng.tec import placement as placement_module
from ginseng.tec import shapes as shapes_module
from ginseng.tec import table as table_module
from ginseng.tec.bitmap import Bitmap
from ginseng.tec.control import Control, ControlOp
from ginseng.tec.placement import Placement
from ginseng.tec.shapes import TecShapes
from ginseng.tec.table import Table, TableOp


def anything(harness: Harness, part: type, made: list) -> type:
    """Return a component of which only the ports are left; ``made`` gets those that are made."""

    def init(self, *arguments):
        part.__init__(self, *arguments)
        made.append(self)

    def elaborate(self, platform):
        m = Module()
        for path, member, value in self.signature.flatten(self):
            if member.flow is Out:
                port = Value.cast(value)
                name = "_".join(map(str, (part.__name__, *path)))
                m.d.comb += port.eq(harness.free(name, len(port)))
        return m

    return type(part.__name__, (part,), {"__init__": init, "elaborate": elaborate})


class WrittenOnce(Harness):
    """`Bitmap` and one chunk of the solver's choice."""

    BITS, WORD, OPEN = 8, 4, 2

    def build(self, m: Module) -> None:
        with (
            patch.object(bitmap_module, "_WORD", self.WORD),
            patch.object(bitmap_module, "OPEN_CHUNKS", self.OPEN),
        ):
            dut = Bitmap(self.BITS)
            m.submodules.dut = dut.elaborate(None)
        chunk = self.constant(m, "chunk", range(self.BITS))
        lowest = self.constant(m, "lowest", range(self.BITS + 1))
        self.offer(m, dut.test, "test")
        self.offer(m, dut.begin, "begin")
        m.d.comb += [
            dut.finish.eq(self.free("finish")),
            dut.clear.eq(self.free("clear")),
            dut.lowest.eq(lowest),
        ]
        begun = dut.begin.valid & dut.begin.ready
        chosen = begun & (dut.begin.p.bit == chunk)

        # Whether the chunk was begun since the last clearing, and is not finished; how many are to
        # be finished before it. Responses take longer than it takes to set a bit.
        seen, waits, settled = Signal(), Signal(), Signal(2)
        inside, ahead = Signal(range(self.OPEN + 1)), Signal(range(self.OPEN + 1))
        m.d.comb += [
            Assume(~begun | (dut.begin.p.bit >= lowest)),
            Assume(~dut.finish | ((inside != 0) & settled.all())),
            Assert(dut.waits == (inside != 0)),
            Assert(inside <= self.OPEN),
        ]
        m.d.sync += [
            inside.eq(inside + begun - dut.finish),
            settled.eq(Mux(begun, 0, Cat(1, settled))),
        ]
        with m.If(chosen):
            m.d.sync += [seen.eq(1), waits.eq(1), ahead.eq(inside - dut.finish)]
        with m.Elif(waits & dut.finish):
            m.d.sync += [ahead.eq(ahead - 1), waits.eq(ahead != 0)]
        with m.If(dut.clear):
            m.d.sync += seen.eq(0)
            m.d.comb += Assert(~begun)

        # Answers come in the second cycle.
        tested = dut.test.valid & dut.test.ready
        asks = [Signal(4, name=f"asks_{n}") for n in range(2)]
        m.d.sync += [
            asks[0].eq(Cat(begun, chosen & ~seen, tested, (dut.test.p.bit == chunk) & seen)),
            asks[1].eq(Cat(asks[0][:3], asks[0][3] & ~waits)),
        ]
        is_chosen = [Signal(2, name=f"is_chosen_{n}") for n in range(2)]
        m.d.sync += [
            is_chosen[0].eq(Cat(chosen, dut.test.p.bit == chunk)),
            is_chosen[1].eq(is_chosen[0]),
        ]
        m.d.comb += [
            Assert(dut.begin_valid == asks[1][0]),
            Assert(~(dut.begin_valid & is_chosen[1][0]) | (dut.begin_fresh == asks[1][1])),
            Assert(dut.test_valid == asks[1][2]),
            Assert(~(dut.test_valid & is_chosen[1][1]) | (dut.test_readable == asks[1][3])),
            Assert(~dut.clean | ~seen),
            Cover(dut.begin_valid & is_chosen[1][0] & ~dut.begin_fresh),
            Cover(dut.test_valid & dut.test_readable & is_chosen[1][1] & dut.waits),
            Cover(dut.clean & settled.all()),
        ]


class GivenOnce(Harness):
    """`Control`; its table, keys and bitmap answer anything at any time."""

    EPOCHS, BITS = 2, 2
    CONFIG = SystemConfig(
        bus=BusConfig(window_bytes=4096), tec=TecConfig(table_entries=2, bitmap_bits=16)
    )
    PARTS = ("Table", "KeySlots", "Bitmap")

    def build(self, m: Module) -> None:
        parts = {n: anything(self, getattr(control_module, n), []) for n in self.PARTS}
        with patch.multiple(control_module, VERSION_BITS=self.BITS, **parts):
            dut = Control(TecShapes(self.CONFIG), Limits(epochs=self.EPOCHS))
            m.submodules.dut = dut.elaborate(None)
        self.offer(m, dut.command, "command")
        m.d.comb += [
            dut.importing.done.eq(self.free("done")),
            dut.open_chunk.eq(self.free("open_chunk")),
            dut.stop.eq(self.free("stop")),
        ]
        command, taken = dut.command.p, dut.command.valid & dut.command.ready

        # The command under way, and what was given before.
        op, check, number = Signal(ControlOp), Signal(), Signal(self.BITS)
        with m.If(taken):
            m.d.sync += [op.eq(command.op), check.eq(command.check)]
            m.d.sync += number.eq(command.row.version)
        imports, runs = Signal(), Signal()
        m.d.sync += [imports.eq(dut.importing.valid), runs.eq(dut.running)]
        begins = dut.running & ~runs
        epoch, run = Signal(self.BITS), Signal(self.BITS)
        with m.If((dut.importing.valid & ~imports) | begins):
            m.d.sync += epoch.eq(dut.importing.epoch)
            m.d.comb += [
                Assert(dut.importing.epoch > epoch),
                Assert(dut.importing.epoch <= self.EPOCHS),
            ]
        with m.If(begins):
            m.d.sync += run.eq(number)
            m.d.comb += [Assert(op == ControlOp.RUN), Assert(number > run)]
        m.d.comb += [
            Assert(~dut.importing.valid | (op == ControlOp.IMPORT)),
            # While one is in use, it stays.
            Assert(~(imports & dut.importing.valid) | (dut.importing.epoch == epoch)),
            Assert(~(runs & dut.running) | (dut.importing.epoch == epoch)),
            # What is only asked changes nothing.
            Assert(~(check & (dut.importing.valid | begins))),
            Cover(begins & (epoch != 0)),
        ]


class Apart(Harness):
    """`Placement` of one row or source beside the rows of a table.

    The claim is made when it is done. Before that the harness says what it is about to compare,
    and that all that it has compared was apart, so that an induction sees it.
    """

    ENTRIES, WINDOW, GRANULE, ALIGNMENT = 2, 4096, 512, 1024
    CONFIG = SystemConfig(
        # What is stored is whole granules, as everywhere.
        core=CoreConfig(log_batch=4, log_block=5),
        bus=BusConfig(window_bytes=WINDOW),
        tec=TecConfig(table_entries=ENTRIES, bitmap_bits=2),
    )

    def build(self, m: Module) -> None:
        with (
            patch.multiple(shapes_module, GRANULE=self.GRANULE, MAX_CHUNK=2 * self.GRANULE),
            patch.multiple(placement_module, GRANULE=self.GRANULE, BASE_ALIGNMENT=self.ALIGNMENT),
        ):
            shapes = TecShapes(self.CONFIG)
            dut = Placement(shapes)
            m.submodules.dut = module = dut.elaborate(None)
        states = module._generated["fsm"].encoding
        # How many chunks a row has is divided out in the design; here it is any number.
        self.replace("dut.difference", len(dut.chunk) + 2)
        base, length = (self.constant(m, name, shapes.index_bits) for name in ("base", "length"))
        imports, tagged = self.constant(m, "imports"), self.constant(m, "tagged")
        table = [self.constant(m, f"row_{n}", dut.other.shape()) for n in range(self.ENTRIES)]
        handle = self.constant(m, "handle", range(self.ENTRIES))
        row, source = (Signal(dut.other.shape(), name=name) for name in ("row", "source"))
        for n, entry in enumerate(table):
            with m.If(dut.index == n):
                m.d.comb += row.eq(entry)
            with m.If(handle == n):
                m.d.comb += source.eq(entry)
        m.d.comb += [
            dut.start.eq(self.free("start")),
            dut.imports.eq(imports),
            dut.tagged.eq(tagged),
            dut.base.eq(base),
            dut.length.eq(length),
            dut.other.eq(Mux(dut.by_index, row.as_value(), source.as_value())),
        ]

        # Spans: first granule, and how many.
        unit, end = self.ALIGNMENT // self.GRANULE, self.WINDOW // self.GRANULE

        def span(entry):
            return entry.base * unit, entry.extent

        own = base, Mux(imports, Mux(tagged, source.extent, source.length), dut.extent)

        def apart(one, other):
            return (one[0] + one[1] <= other[0]) | (other[0] + other[1] <= one[0])

        inside = own[0] + own[1] <= end
        apart_from = [~entry.valid | apart(own, span(entry)) for entry in table]
        with_tags = imports | (dut.extent == length + dut.chunks)

        # The claim.
        good = dut.done & ~dut.outside & ~dut.overlaps
        with m.If(good):
            m.d.comb += [Assert(inside), Assert(Cat(apart_from).all()), Assert(with_tags)]
        m.d.comb += [
            Cover(good & imports & table[0].valid),
            Cover(good & ~imports),
            Cover(dut.done & dut.overlaps),
            Cover(dut.done & dut.outside),
        ]

        # What it is about to do.
        state = self.peek("dut.fsm_state", range(len(states)))
        at = {name: state == code for name, code in states.items()}
        acc = dut.left
        of_row, mine, theirs = (
            self.peek(f"dut.{name}", shape)
            for name, shape in (("of_row", 1), ("own", dut.width), ("others", dut.width))
        )
        window, back = self.peek("dut.window"), self.peek("dut.back")

        def first(n):
            return Mux(back, span(row)[n], own[n])

        def second(n):
            return Mux(window | back, own[n], span(row)[n])

        operand = Mux(of_row, theirs, mine)
        start = Signal(signed(dut.width))
        m.d.comb += start.eq(Mux(window, end, first(0)))
        divides = at["Divide"] | at["Choose-Quotient"] | at["Round-Up"]
        adds = at["Add-Length"] | at["Take-Extent"]
        compares = at["Compare-Span"] | at["Add-Base"]
        subtracts = at["Subtract-Base"] | at["Subtract-Extent"]
        ends = at["Take-Free"] | at["Subtract-Chunks"]
        looks = at["Compare-Window"] | compares | subtracts | at["Seek-Row"] | ends
        working = divides | adds | looks
        with m.If(working):
            m.d.comb += Assert(~(dut.outside | dut.overlaps))
        with m.Else():
            m.d.comb += Assert(~dut.by_index)
        with m.If(at["Add-Length"]):
            m.d.comb += [Assert(operand == length), Assume(acc <= length)]
        with m.If(at["Take-Extent"]):
            m.d.comb += Assert(acc == length + dut.chunks)
        with m.If(at["Compare-Window"]):
            m.d.comb += [Assert(window), Assert(acc == end)]
        with m.If(compares):
            m.d.comb += [Assert(~window), Assert(acc == 0)]
        with m.If(at["Add-Base"]):
            m.d.comb += Assert(operand == first(0))
        with m.If(at["Subtract-Base"]):
            m.d.comb += [Assert(acc == start), Assert(operand == second(0))]
        with m.If(at["Subtract-Extent"]):
            m.d.comb += [Assert(acc == start - second(0)), Assert(operand == second(1))]
        with m.If(divides | adds):
            m.d.comb += [Assert(window), Assert(~imports)]
        with m.If(at["Seek-Row"]):
            m.d.comb += [Assert(acc == 0), Assert(~back)]
        with m.If(window & working):
            m.d.comb += Assert(~back)
        with m.If(~window & (compares | subtracts)):
            m.d.comb += Assert(row.valid)
        with m.If(ends | at["Seek-Row"]):
            m.d.comb += Assert(~window)
        with m.If(looks):
            m.d.comb += Assert(with_tags)

        # All before that is apart.
        with m.If(looks & ~window):
            m.d.comb += Assert(inside)
        for n, separate in enumerate(apart_from):
            with m.If(ends | (looks & ~window & (dut.index > n))):
                m.d.comb += Assert(separate)


class Taken(Harness):
    """`Table` and a handle of the solver's choice; the checks of a row answer anything."""

    CONFIG = SystemConfig(
        bus=BusConfig(window_bytes=4096), tec=TecConfig(table_entries=2, bitmap_bits=4)
    )
    FIELDS = ("base", "length", "chunk")

    def build(self, m: Module) -> None:
        shapes = TecShapes(self.CONFIG)
        all_rules, placements = [], []
        with patch.multiple(
            table_module,
            RowRules=anything(self, table_module.RowRules, all_rules),
            Placement=anything(self, table_module.Placement, placements),
        ):
            dut = Table(shapes)
            m.submodules.dut = dut.elaborate(None)
        (rules,), (placement,) = all_rules, placements
        handle = self.constant(m, "handle", range(2))

        # Operands stay from start to done, and are zero until all is wiped.
        busy, starts = Signal(), Signal()
        m.d.comb += [starts.eq(self.free("starts") & ~busy & dut.wiped), dut.start.eq(starts)]
        with m.If(starts):
            m.d.sync += busy.eq(1)
        with m.Elif(dut.done):
            m.d.sync += busy.eq(0)
        for name in ("op", "handle", "row", "check", "locked", "use", "epoch"):
            port = Value.cast(getattr(dut, name))
            before = Signal(len(port), name=f"{name}_before")
            m.d.comb += port.eq(Mux(starts, self.free(name, len(port)), before))
            m.d.sync += before.eq(port)
        m.d.comb += [
            dut.begin.eq(self.free("begin")),
            dut.exported.eq(self.free("exported")),
            dut.running.eq(self.free("running") & dut.wiped & ~(busy | starts)),
            dut.lookup.handle.eq(handle),
        ]

        # What the checks said of the row, and what was taken.
        legal, fits, places, there = Signal(), Signal(), Signal(), Signal()
        extent = Signal.like(placement.extent)
        kept = {name: Signal.like(dut.lookup.entry[name]) for name in (*self.FIELDS, "extent")}
        m.d.sync += extent.eq(placement.extent)
        with m.If(placement.start):
            m.d.sync += [legal.eq(rules.refusal == Refusal.NONE), fits.eq(0), places.eq(1)]
        with m.Elif(placement.done & places):
            m.d.sync += [fits.eq(~(placement.outside | placement.overlaps)), places.eq(0)]
        ours = dut.handle[:1] == handle
        takes = dut.done & (dut.op == TableOp.LOAD) & (dut.refusal == Refusal.NONE)
        with m.If(takes):
            row, position = dut.row, shapes.position_bits
            far = (row.base[position:], row.length[position:])
            m.d.comb += [
                Assert(legal & fits),
                Assert(~Cat(*far).any()),
                Assert(dut.handle < 2),
                Assert(~(ours & there)),
            ]
            with m.If(ours & ~dut.check):
                m.d.sync += [there.eq(1), kept["extent"].eq(extent << 4)]
                m.d.sync += [kept[name].eq(row[name]) for name in self.FIELDS]
        row = dut.row
        odd = Cat(row.base[:7], row.length[:4], row.chunk[:4]).any()
        m.d.comb += [
            # What is legal by itself is in units.
            Assume((rules.refusal != Refusal.NONE) | ~odd),
            # The comparison looks at others only while it is under way (see `placement`).
            Assume(~placement.by_index | (places & ~placement.done)),
            # Only what was checked is placed.
            Assume(~(starts & (dut.op == TableOp.PLACE) & ours) | there),
            Assert(~dut.running | (dut.lookup.entry.valid == there)),
            *(
                Assert(~(dut.running & there) | (dut.lookup.entry[name] == value))
                for name, value in kept.items()
            ),
            Assert(dut.done | ~(dut.running & busy)),
            Cover(dut.running & there & (kept["base"] != 0)),
        ]


BITMAP, CONTROL, PLACEMENT, TABLE = (
    f"ginseng.tec.{name}" for name in ("bitmap", "control", "placement", "table")
)

PROOFS = [
    Proof(
        name="bitmap",
        sec=("TEC.WRITTEN_BITMAP",),
        claim="P1: between two clearings a chunk is begun as fresh at most once; it is readable "
        "exactly from when it was begun and finished to the next clearing",
        harness=WrittenOnce,
        configuration=f"{WrittenOnce.BITS} chunks, words of {WrittenOnce.WORD}, "
        f"{WrittenOnce.OPEN} open chunks",
        generalises="chunks are alike, for any of them; words and places of the list are added by "
        "loops",
        assumptions=(
            "chunks that are begun have bits from `lowest` on",
            "responses come for chunks of the list, and not before their bits are set",
        ),
        bugs=(
            Bug(
                name="a bit is not set while another is",
                module=BITMAP,
                old="begins.data | (Const(1",
                new="(Const(1",
            ),
            Bug(
                name="a chunk is readable before its responses came",
                module=BITMAP,
                old="self.test_readable.eq(written & ~open_ & usable)",
                new="self.test_readable.eq(written & usable)",
            ),
            Bug(
                name="a chunk that is finished stays in the list",
                module=BITMAP,
                old="waiting.eq(waiting[1:])",
                new="waiting.eq(Cat(0, waiting[1:]))",
            ),
            Bug(
                name="a chunk is begun while bits are being cleared",
                module=BITMAP,
                old="~(sweeps | self.clear) & ~modifies",
                new="~modifies",
            ),
            Bug(
                name="the last word is not cleared",
                module=BITMAP,
                old="with m.If(sweep == depth - 1):",
                new="with m.If(sweep == depth - 2):",
            ),
            Bug(
                name="a full list takes another chunk",
                module=BITMAP,
                old=" & ~waiting[-1]),",
                new="),",
            ),
        ),
        quick=True,
    ),
    Proof(
        name="versions",
        sec=("TEC.EPOCH", "TEC.NONCE_UNIQUE"),
        claim="P1: every import and every run has an epoch, and every run a number, that none "
        "before had in the session; none is above the limit",
        harness=GivenOnce,
        configuration=f"epochs and runs of {GivenOnce.BITS} bits instead of 48, the last is "
        f"{GivenOnce.EPOCHS}; table, keys and bitmap answer anything at any time",
        generalises="they are counted and compared as whole numbers",
        assumptions=("no wipe",),
        depth=26,
        timeout=900,
        bugs=(
            Bug(
                name="an import goes on with the epoch of the one before",
                module=CONTROL,
                old="m.d.sync += [epoch.eq(epoch + 1), second.eq(1)]",
                new="m.d.sync += [epoch.eq(epoch + (held.op == ControlOp.RUN)), second.eq(1)]",
            ),
            Bug(
                name="the same run again",
                module=CONTROL,
                old="(held.row.version > run)",
                new="(held.row.version >= run)",
            ),
            Bug(
                name="the last epoch is not the last",
                module=CONTROL,
                old="(epoch == self.limits.epochs) | (runs",
                new="(runs",
            ),
            Bug(
                name="a run is only asked for, and starts",
                module=CONTROL,
                old="with m.Default(), m.If(~held.check):",
                new="with m.Default():",
            ),
        ),
    ),
    Proof(
        name="placement",
        sec=("TEC.ROW_WINDOW", "TEC.ROW_OVERLAP"),
        claim="P5: a row or source that is neither outside nor overlaps lies inside the window, "
        "and shares no granule with any row; a row's tags belong to it",
        harness=Apart,
        configuration=f"window of {Apart.WINDOW // Apart.GRANULE} granules, bases are multiples of "
        f"{Apart.ALIGNMENT // Apart.GRANULE}, {Apart.ENTRIES} rows, also illegal ones; a row has "
        "any number of chunks, instead of the quotient",
        assumptions=("operands stay the same", "a row has no more chunks than granules"),
        generalises="rows are compared one after the other in a loop, all alike; positions are "
        "compared as whole numbers, and an operation starts from the same registers each time",
        engine=Engine.INDUCTION,
        depth=26,
        timeout=900,
        bugs=(
            Bug(
                name="a span that starts with another does not meet it",
                module=PLACEMENT,
                old="below = total[-1]",
                new="below = total[-1] & (acc != 0)",
            ),
            Bug(
                name="the last row is not looked at",
                module=PLACEMENT,
                old="last = self.index == self.shapes.tec.table_entries - 1",
                new="last = self.index == self.shapes.tec.table_entries - 2",
            ),
            Bug(
                name="tags may leave the window",
                module=PLACEMENT,
                old="m.d.sync += [self.chunks.eq(acc), acc.eq(total)]",
                new="m.d.sync += [self.chunks.eq(acc), acc.eq(total - acc)]",
            ),
            Bug(
                name="a sealed source has no tags",
                module=PLACEMENT,
                old="dense = self.imports & ~self.tagged & ~theirs",
                new="dense = self.imports & ~theirs",
            ),
        ),
    ),
    Proof(
        name="table",
        sec=("TEC.LEGAL_ROWS", "TEC.ROW_WINDOW", "TEC.ROW_OVERLAP"),
        claim="P5: a row is in the table, as it was given, exactly if it was taken: once, found "
        "legal by itself, inside the window and apart from all others",
        harness=Taken,
        configuration="2 rows, window of 4 KiB; the checks of a row answer anything at any time",
        generalises="rows are alike, any of them; what the checks mean is in `placement`, and in "
        "the tests of every kind of row",
        assumptions=(
            "operands stay from start to done",
            "only a row that was taken is placed",
            "a row that is legal by itself is aligned",
            "the comparison looks at other rows only while it is under way (see placement)",
        ),
        depth=12,
        bugs=(
            Bug(
                name="a row that is only asked for is taken",
                module=TABLE,
                old="with m.Elif(~self.check):",
                new="with m.Else():",
            ),
            Bug(
                name="a row that overlaps is taken if nothing is written to it",
                module=TABLE,
                old="with m.Elif(placement.overlaps):",
                new="with m.Elif(placement.overlaps & writes):",
            ),
            Bug(
                name="a row takes the place of another",
                module=TABLE,
                old="with m.Elif(now.valid):",
                new="with m.Elif(now.valid & self.check):",
            ),
            Bug(
                name="a row far behind the window wraps into it",
                module=TABLE,
                old="with m.Elif(far):",
                new="with m.Elif(far & writes):",
            ),
            Bug(
                name="the handle of a row is cut off",
                module=TABLE,
                old="with m.If(~known):",
                new="with m.If(~known & writes):",
            ),
        ),
    ),
]
