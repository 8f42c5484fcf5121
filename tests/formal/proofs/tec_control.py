"""The TEC's control: chunks written once, versions given once, tensors apart and in the window."""

from unittest.mock import patch

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.isa.config import BusConfig, SystemConfig, TecConfig
from ginseng.isa.mailbox import Refusal
from ginseng.tec import bitmap as bitmap_module
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
    """`Control` without its table, keys and bitmap, which may answer anything at any time."""

    EPOCHS = 3
    CONFIG = SystemConfig(
        bus=BusConfig(window_bytes=4096), tec=TecConfig(table_entries=2, bitmap_bits=16)
    )
    PARTS = (
        ("table.done", 1),
        ("table.refusal", Refusal),
        ("table.sealed", 1),
        ("table.owes", 1),
        ("table.wiped", 1),
        ("keys.loaded", 1),
        ("keys.wiped", 1),
        ("keys.complete", 1),
        ("keys.asked_loaded", 1),
        ("keys.load_refusal", Refusal),
        ("keys.declare_refusal", Refusal),
        ("keys.seal_valid", 1),
        ("keys.seal_ok", 1),
        ("bitmap.clean", 1),
        ("bitmap.waits", 1),
        ("bitmap.begin_valid", 1),
        ("bitmap.begin_fresh", 1),
    )

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Control(TecShapes(self.CONFIG), Limits(epochs=self.EPOCHS))
        for path, shape in self.PARTS:
            self.replace(f"dut.session.{path}", shape)
        self.feed(m, dut.command, "command")
        m.d.comb += [
            dut.importing.done.eq(self.free("done")),
            dut.open_chunk.eq(self.free("open_chunk")),
            dut.stop.eq(self.free("stop")),
        ]
        command, taken = dut.command.p, dut.command.valid & dut.command.ready

        # The command under way, and what was given before.
        asked = Signal(command.shape())
        with m.If(taken):
            m.d.sync += asked.eq(command)
        imports, runs = Signal(), Signal()
        m.d.sync += [imports.eq(dut.importing.valid), runs.eq(dut.running)]
        begins = dut.running & ~runs
        gives = (dut.importing.valid & ~imports) | begins
        epoch, run = Signal(48), Signal(48)
        with m.If(gives):
            m.d.sync += epoch.eq(dut.importing.epoch)
            m.d.comb += Assert(dut.importing.epoch > epoch)
        with m.If(begins):
            m.d.sync += run.eq(asked.row.version)
            m.d.comb += [
                Assert(asked.op == ControlOp.RUN),
                Assert(asked.row.version > run),
                Assert(asked.row.version <= self.EPOCHS),
            ]
        m.d.comb += [
            Assert(dut.importing.epoch <= self.EPOCHS),
            Assert(~dut.importing.valid | (asked.op == ControlOp.IMPORT)),
            # While one is in use, it stays.
            Assert(~(imports & dut.importing.valid) | (dut.importing.epoch == epoch)),
            Assert(~(runs & dut.running) | (dut.importing.epoch == epoch)),
            # What is only asked changes nothing.
            Assert(~(asked.check & (dut.importing.valid | begins))),
            Cover(begins & (run == 1) & (epoch == 2)),
        ]


BITMAP, CONTROL = "ginseng.tec.bitmap", "ginseng.tec.control"

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
        configuration=f"limit of {GivenOnce.EPOCHS} epochs; table, keys and bitmap answer anything "
        "at any time",
        generalises="the limit is compared with and nothing else; the counters have their 48 bits",
        assumptions=("the monitor holds a command until it is taken", "no wipe"),
        depth=24,
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
]
