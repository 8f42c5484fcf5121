"""The TEC's control: chunks written once, versions given once, tensors apart and in the window."""

from unittest.mock import patch

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib.wiring import Out

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Proof
from ginseng.isa.config import BusConfig, SystemConfig, TecConfig
from ginseng.tec import bitmap as bitmap_module
from ginseng.tec import control as control_module
from ginseng.tec import placement as placement_module
from ginseng.tec import shapes as shapes_module
from ginseng.tec.bitmap import Bitmap
from ginseng.tec.control import Control, ControlOp
from ginseng.tec.keys import Limits
from ginseng.tec.placement import Placement
from ginseng.tec.shapes import TecShapes


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

    def anything(self, name: str) -> type:
        """Return a part of which only the ports are left."""

        def elaborate(part, platform):
            m = Module()
            for path, member, value in part.signature.flatten(part):
                if member.flow is Out:
                    port = Value.cast(value)
                    m.d.comb += port.eq(self.free("_".join(map(str, (name, *path))), len(port)))
            return m

        return type(name, (getattr(control_module, name),), {"elaborate": elaborate})

    def build(self, m: Module) -> None:
        parts = {name: self.anything(name) for name in self.PARTS}
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
            m.d.comb += Assert(dut.importing.epoch > epoch)
        with m.If(begins):
            m.d.sync += run.eq(number)
            m.d.comb += [Assert(op == ControlOp.RUN), Assert(number > run)]
        m.d.comb += [
            Assert(dut.importing.epoch <= self.EPOCHS),
            Assert(~dut.importing.valid | (op == ControlOp.IMPORT)),
            # While one is in use, it stays.
            Assert(~(imports & dut.importing.valid) | (dut.importing.epoch == epoch)),
            Assert(~(runs & dut.running) | (dut.importing.epoch == epoch)),
            # What is only asked changes nothing.
            Assert(~(check & (dut.importing.valid | begins))),
            Cover(begins & (epoch != 0)),
        ]


class Apart(Harness):
    """`Placement` of one row beside others, and a granule of the solver's choice."""

    ENTRIES, WINDOW, GRANULE, ALIGNMENT = 2, 4096, 512, 1024
    CONFIG = SystemConfig(
        bus=BusConfig(window_bytes=WINDOW), tec=TecConfig(table_entries=ENTRIES, bitmap_bits=2)
    )

    def build(self, m: Module) -> None:
        with (
            patch.multiple(shapes_module, GRANULE=self.GRANULE, MAX_CHUNK=2 * self.GRANULE),
            patch.multiple(placement_module, GRANULE=self.GRANULE, BASE_ALIGNMENT=self.ALIGNMENT),
        ):
            shapes = TecShapes(self.CONFIG)
            dut = Placement(shapes)
            m.submodules.dut = dut.elaborate(None)
        # How many chunks a row has is divided out in the design; here it is any number.
        self.replace("dut.difference", len(dut.chunk) + 2)
        row = {
            name: self.constant(m, name, shapes.index_bits)
            for name in ("base", "tag_base", "length")
        }
        imports, tagged = self.constant(m, "imports"), self.constant(m, "tagged")
        table = [self.constant(m, f"row_{n}", dut.other.shape()) for n in range(self.ENTRIES)]
        own = self.constant(m, "own", range(self.ENTRIES))
        started = Signal()
        m.d.sync += started.eq(1)
        m.d.comb += [
            dut.start.eq(~started),
            dut.imports.eq(imports),
            dut.tagged.eq(tagged),
            Assume(tagged | imports),
            *(getattr(dut, name).eq(value) for name, value in row.items()),
        ]
        source = Signal(dut.other.shape())
        for n, entry in enumerate(table):
            with m.If(Mux(dut.by_index, dut.index, own) == n):
                m.d.comb += dut.other.eq(entry)
            with m.If(own == n):
                m.d.comb += source.eq(entry)

        unit, end = self.ALIGNMENT // self.GRANULE, self.WINDOW // self.GRANULE
        length = Mux(imports, source.length, row["length"])
        chunks = Mux(imports, source.chunks, dut.chunks)
        spans = [(row["base"], length, 1), (row["tag_base"], chunks, tagged)]
        granule = self.constant(m, "granule", range(end + 1))

        def holds(base, count):
            return (base <= granule) & (granule < base + count)

        good = dut.done & ~dut.outside & ~dut.overlaps
        held = [there & holds(base, count) for base, count, there in spans]
        for base, count, there in spans:
            m.d.comb += Assert(~(good & there) | (base + count <= end))
        with m.If(good):
            m.d.comb += Assert(imports | ~(held[0] & held[1]))
            for entry in table:
                others = holds(entry.base * unit, entry.length) | holds(
                    entry.tag_base * unit, entry.chunks
                )
                m.d.comb += Assert(~(entry.valid & others & (held[0] | held[1])))
        m.d.comb += [
            Cover(good & imports & table[0].valid & table[1].valid),
            Cover(good & ~imports & table[0].valid & table[1].valid & holds(row["base"], length)),
            Cover(dut.done & dut.overlaps),
        ]


BITMAP, CONTROL, PLACEMENT = (f"ginseng.tec.{name}" for name in ("bitmap", "control", "placement"))

PROOFS = [
    Proof(
        name="bitmap",
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
                old="""                            with m.Default():
                                with m.If(~held.check):
                                    m.next = "Count-Epoch"
""",
                new="""                            with m.Default():
                                m.next = "Count-Epoch"
""",
            ),
        ),
    ),
    Proof(
        name="placement",
        claim="P5: a row or source that is neither outside nor overlaps lies inside the window, "
        "and shares no granule with data or tags of any row, nor a row with its own tags",
        harness=Apart,
        configuration=f"window of {Apart.WINDOW // Apart.GRANULE} granules, bases are multiples of "
        f"{Apart.ALIGNMENT // Apart.GRANULE}, {Apart.ENTRIES} rows, also illegal ones; a row has "
        "any number of chunks, instead of the quotient",
        generalises="rows are compared one after the other in a loop, all alike; positions are "
        "compared as whole numbers, and an operation starts from the same registers each time",
        depth=80,
        bugs=(
            Bug(
                name="tags are not compared with tags",
                module=PLACEMENT,
                old="with m.Elif(other_tags & (tags | ~self.tagged)):",
                new="with m.Elif(tags | (other_tags & ~self.tagged)):",
            ),
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
                old="m.d.sync += [self.chunks.eq(acc), acc.eq(end), other_tags.eq(1)]",
                new="m.d.sync += [self.chunks.eq(acc), acc.eq(end * 2), other_tags.eq(1)]",
            ),
            Bug(
                name="a row is not compared with its own tags",
                module=PLACEMENT,
                old="                        m.d.sync += window.eq(0)\n"
                '                        m.next = "Compare-Span"',
                new="                        m.d.sync += Cat(window, apart, other_tags).eq(0b010)\n"
                '                        m.next = "Seek-Row"',
            ),
        ),
    ),
]
