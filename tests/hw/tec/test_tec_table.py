"""The table in gates: rows are taken and refused to the byte as by the golden table."""

import itertools
import random

import pytest
from amaranth import ResetInserter, Signal
from amaranth.sim import Simulator

from ginseng.golden.tec.table import TensorTable
from ginseng.isa.config import BusConfig, SystemConfig, TecConfig
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Permission, SlotUse
from ginseng.tec.legal import RowRules
from ginseng.tec.shapes import TecShapes
from ginseng.tec.table import Table, TableOp

R, W, X = (int(p) for p in (Permission.R, Permission.W, Permission.X))
STATIC, SESSION, UNDECLARED = 1, 2, 3
USES = {STATIC: SlotUse.STATIC, SESSION: SlotUse.SESSION}
PYNQ = SystemConfig()
SMALL = SystemConfig(
    bus=BusConfig(window_base=0x9000, window_bytes=0x5000),
    tec=TecConfig(table_entries=4, bitmap_bits=16),
)
#: One legal row of each domain that differs in what is checked.
SCRATCH = {"domain": 2, "permissions": R | W, "chunk": 64, "length": 256}
ENTRY = {"domain": 3, "permissions": R | X, "measured": 1, "source": 1, "chunk": 512, "length": 512}
WEIGHTS = {"domain": 1, "permissions": R, "slot": STATIC, "chunk": 64, "length": 256, "version": 5}


def number(word):
    return int.from_bytes(word, "little")


class Tables:
    """A table in Amaranth's simulator, and a golden one."""

    def __init__(self, config, ctx, dut, reset):
        self.ctx, self.dut, self.reset = ctx, dut, reset
        tec = config.tec
        self.golden = TensorTable(config, tec.table_entries, tec.bitmap_bits)

    async def wipe(self):
        """Return after how many cycles all is zero."""
        self.ctx.set(self.dut.row.as_value(), 0)
        self.ctx.set(self.reset, 1)
        await self.ctx.tick()
        self.ctx.set(self.reset, 0)
        cycles = 0
        while not self.ctx.get(self.dut.wiped):
            await self.ctx.tick()
            cycles += 1
        return cycles

    async def begin(self):
        """Start a session."""
        self.golden.clear()
        cycles = await self.wipe()
        self.ctx.set(self.dut.begin, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.begin, 0)
        return cycles

    async def load(self, handle, word, *, check=0):
        ctx, dut = self.ctx, self.dut
        slot = TENSOR_ROW.unpack(word)["slot"]
        ctx.set(dut.op, TableOp.LOAD)
        ctx.set(dut.handle, handle)
        ctx.set(dut.row.as_value(), number(word))
        ctx.set(dut.use, int(USES.get(slot, 0)))
        ctx.set(dut.check, check)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        *_, refusal = await ctx.tick().sample(dut.refusal).until(dut.done)
        return Refusal(refusal)

    async def both(self, handle, word):
        if random.Random(number(word)).random() < 0.3:
            asked = await self.load(handle, word, check=1)
        else:
            asked = None
        expected = self.golden.load(handle, word, USES)
        got = await self.load(handle, word)
        assert got is expected, (handle, TENSOR_ROW.unpack(word))
        assert asked in (None, got)
        return got


def simulate(config, process):
    dut, reset = Table(TecShapes(config)), Signal()

    async def bench(ctx):
        tables = Tables(config, ctx, dut, reset)
        await tables.begin()
        await process(tables)

    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.sec("TEC.LEGAL_ROWS")
def test_every_kind_of_row_is_taken_or_refused_as_by_the_golden_table():
    dut = RowRules()

    async def bench(ctx):
        for domain, permissions, measured, source, slot, version in itertools.product(
            range(16), range(8), (0, 1), (0, 1), range(4), (0, 5)
        ):
            word = TENSOR_ROW.pack(
                domain=domain,
                permissions=permissions,
                measured=measured,
                source=source,
                slot=slot,
                version=version,
                chunk=64,
                length=256,
            )
            table = TensorTable(PYNQ, 64, 1 << 16)
            ctx.set(dut.row.as_value(), number(word))
            ctx.set(dut.use, int(USES.get(slot, 0)))
            assert Refusal(ctx.get(dut.refusal)) is table.load(0, word, USES), word

    sim = Simulator(dut)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.sec("TEC.ROW_WINDOW")
def test_the_numbers_of_a_row_are_checked_to_the_byte():
    window = PYNQ.bus.window_bytes
    edges = [
        (64, {}),
        (0xFFFF, {}),
        (4096, {}),
        *((0, {"length": n}) for n in (0, 8, 264, (1 << 40) - 16, window + 16, 1 << 29)),
        *((0, {"chunk": n}) for n in (0, 8, 72, (1 << 20) - 16, (1 << 20) - 1)),
        *((0, {"base": n}) for n in (64, window, window - 128, window - 256, (1 << 40) - 128)),
        *((0, {"base": window - n, "chunk": 16, "length": 128}) for n in (128, 256)),
        *((0, {"length": (1 << 40) - 16, "chunk": n}) for n in (16, 256, 272, 1024)),
        *((0, {"length": n << 36, "chunk": 16 * n}) for n in (1, 9, 15)),
        *((0, {"length": (n << 36) + 16, "chunk": 16 * n}) for n in (1, 9, 15)),
        (0, {"length": window, "chunk": 4096}),
        *((0, {"length": window // 2 + n, "chunk": 16}) for n in (0, 16)),
        *((0, {"length": window - n, "chunk": 4096}) for n in (1 << 19, (window >> 8) - 1024)),
        *((0, {"length": (1 << 20) + n, "chunk": 16}) for n in (0, 16)),
        *((0, ENTRY | {"chunk": n, "length": 2048}) for n in (512, 528)),
    ]

    async def process(tables):
        seen = set()
        for handle, fields in edges:
            tables.golden.clear()
            word = TENSOR_ROW.pack(**SCRATCH | fields)
            expected = tables.golden.load(handle, word, USES)
            assert await tables.load(handle, word, check=1) is expected, (handle, fields)
            seen.add(expected)
        assert len(seen) == 8

    simulate(PYNQ, process)


@pytest.mark.sec("TEC.ROW_OVERLAP")
def test_rows_that_meet_by_a_granule_are_refused_and_others_not():
    """Three rows at random in a window that hardly holds them, many times."""

    async def process(tables):
        rng, counts = random.Random(3), dict.fromkeys(Refusal, 0)
        base = SMALL.bus.window_base
        for _ in range(80):
            await tables.begin()
            for handle in range(4):
                kind = rng.choice([SCRATCH, ENTRY, WEIGHTS])
                chunk = 16 * rng.randint(1, 33)
                word = TENSOR_ROW.pack(
                    **kind
                    | {
                        "chunk": chunk,
                        "length": min(16 * rng.choice([1, 8, 63, 64, 65, 300]), 40 * chunk),
                        "base": base + 128 * rng.randrange(-1, 162),
                    }
                )
                counts[await tables.both(handle, word)] += 1
        wanted = ("NONE", "ROW_WINDOW", "ROW_OVERLAP", "ROW_ENTRY", "ROW_BITMAP")
        assert all(counts[Refusal[name]] > 4 for name in wanted), {
            rule.name: count for rule, count in counts.items() if count
        }

    simulate(SMALL, process)


@pytest.mark.sec("TEC.ZEROIZE")
def test_a_reset_zeroizes_every_entry_within_one_cycle_each():
    async def process(tables):
        ctx, dut = tables.ctx, tables.dut
        for handle, kind in enumerate((SCRATCH, ENTRY, WEIGHTS)):
            place = {"base": 0x9000 + 0x400 * handle}
            assert await tables.load(handle, TENSOR_ROW.pack(**kind | place)) is Refusal.NONE

        def held():
            memories = (dut.rows, dut.versions)
            return [ctx.get(m[n].as_value()) for m in memories for n in range(m.depth)]

        assert sum(map(bool, held())) == 6
        assert ctx.get(dut.free) < SMALL.tec.bitmap_bits
        assert await tables.wipe() <= SMALL.tec.table_entries
        assert not any(held())
        assert not ctx.get(dut.free)

    simulate(SMALL, process)
