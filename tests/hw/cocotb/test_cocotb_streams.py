"""One table of stream components, under every pattern of idle and back-pressure (RFC 61)."""

import random
from functools import partial

import pytest
from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bench.errors import BenchError
from ginseng.bench.streams import StreamCase, StreamTop, stream_plan
from ginseng.bench.vpi import run_tests
from ginseng.bus.burst import Cut
from ginseng.bus.plan import BASES, Rows, bases_layout
from ginseng.bus.realign import Pack, Place
from ginseng.bus.shapes import DmaShapes
from ginseng.flow.arbiter import RoundRobin
from ginseng.flow.queue import Queue, Skid
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.insn import Queue as QueueName
from ginseng.isa.transfer import Client, TransferDescriptor
from ginseng.vta.dispatch import Dispatch
from ginseng.vta.store import Beats

pytestmark = pytest.mark.rtl

CORE, BUS = CoreConfig(), BusConfig()
#: A window in which rows may pass the end of the 32-bit offsets.
WIDE = BusConfig(window_bytes=1 << 36)
SHAPES = DmaShapes(CORE, BUS)
BEAT = BUS.beat_bytes
PAGE = 4096


def pack(layout, **fields):
    """Return a struct as an integer."""
    layout = data.Layout.cast(layout)
    word = 0
    for name, value in fields.items():
        at = layout[name]
        assert 0 <= value < 1 << at.width, name
        word |= value << at.offset
    return word


def whole(layout_or_width, values):
    width = layout_or_width if isinstance(layout_or_width, int) else layout_or_width.size
    return [(value, (1 << width) - 1) for value in values]


def same(name, component, width, count=60):
    rng = random.Random(name)
    items = [rng.getrandbits(width) for _ in range(count)]
    return StreamCase(
        name=name, component=component, inputs={"i": items}, outputs={"o": whole(width, items)}
    )


def round_robin():
    rng = random.Random(3)
    inputs = [[rng.getrandbits(8) for _ in range(count)] for count in (40, 25, 1)]
    layout = data.StructLayout({"source": range(3), "item": 8})
    merged = [pack(layout, source=n, item=i) for n, items in enumerate(inputs) for i in items]
    return StreamCase(
        name="round_robin",
        component=RoundRobin(8, 3),
        inputs={f"i__{n}": items for n, items in enumerate(inputs)},
        outputs={"o": whole(layout, merged)},
        constants={"enable": 1},
        lanes=2,
    )


def dispatch():
    rng, isa = random.Random(4), instruction_set(CORE)
    kinds = [
        *((Opcode.LOAD, {"memory": m, "x_size": 1}) for m in Memory if m is not Memory.OUT),
        (Opcode.LOAD, {"memory": Memory.OUT}),
        (Opcode.STORE, {"memory": Memory.OUT, "x_size": 1}),
        (Opcode.STORE, {"memory": Memory.UOP}),
        (Opcode.GEMM, {"iter_in": 3}),
        (Opcode.ALU, {"imm": 5}),
        (Opcode.FINISH, {}),
    ]
    words, outputs = [], {name: [] for name in ("o_load", "o_compute", "o_store")}
    names = {
        QueueName.LOAD: "o_load",
        QueueName.COMPUTE: "o_compute",
        QueueName.STORE: "o_store",
    }
    for _ in range(80):
        opcode, fields = rng.choice(kinds)
        raw = isa.encode(opcode, **fields)
        word = int.from_bytes(raw, "little")
        words.append(word)
        outputs[names[isa.decode(raw).queue]].append(word)
    return StreamCase(
        name="dispatch",
        component=Dispatch(),
        inputs={"i": words},
        outputs={name: whole(128, items) for name, items in outputs.items()},
    )


def rows(name, client, bus):
    """Descriptors of a client become runs; rows that follow one another become one."""
    rng, shapes, top = random.Random(name), DmaShapes(CORE, bus), 1 << 32
    bases = {base: 16 * rng.randrange(1 << 12) for base in sorted(set(BASES.values()))}
    fetches, wraps = client is Client.FETCH, shapes.window_end > top
    descriptors, runs = [], []
    for n in range(40):
        memory = rng.choice(shapes.memories(client))
        unit = 1 << shapes.log_unit(client, memory)
        count = rng.choice([0, 1, 1] if fetches else [0, 1, 2, 9])
        columns = rng.choice([0, 1, 7, 300])
        stride = columns if n % 2 else rng.randrange(1 << 10)
        start = rng.randrange(1 << 16)
        if wraps and n % 4 == 3:
            # Some row passes the end of the offsets.
            start = top // unit - rng.randint(1, 400)
        fields = {
            "memory": int(memory),
            "dram_base": start,
            "rows": count,
            "row_elements": columns,
            "stride": stride,
        }
        descriptors.append(pack(TransferDescriptor, **fields))
        if stride == columns or fetches:
            count, columns = min(count, 1), count * columns
        base = 0 if fetches else bases[BASES[memory]]
        mine = []
        for row in range(count if columns else 0):
            offset, left = (start + row * stride) * unit, columns * unit
            while left:
                offset = offset if fetches else offset % top
                size = left if fetches else min(left, top - offset)
                mine.append({"address": base + offset, "nbytes": size, "final": 0})
                offset, left = offset + size, left - size
        if mine:
            mine[-1]["final"] = 1
        runs += [pack(shapes.run, **run) for run in mine]
    return StreamCase(
        name=name,
        component=Rows(shapes, client),
        inputs={"i": descriptors},
        outputs={"o": whole(shapes.run, runs)},
        constants={"bases": pack(bases_layout(), **bases)},
    )


def bursts(address, nbytes, final):
    """Cut bytes at pages and at the longest burst: beat, beats, first, end, final."""
    granule, end = SHAPES.granule(Client.COMPUTE), address + nbytes
    found, beat = [], address // BEAT
    last = -(-end // BEAT)
    while beat < last:
        stop = min(last, (beat * BEAT // PAGE + 1) * PAGE // BEAT, beat + SHAPES.burst_beats)
        low = max(address - beat * BEAT, 0) // granule
        high = (min(end, stop * BEAT) - (stop - 1) * BEAT) // granule
        found.append((beat, stop - beat, low, high, final and stop == last))
        beat = stop
    return found


def pieces(client=Client.COMPUTE, count=24):
    """Draw legal pieces and the bursts that they are."""
    rng, granule = random.Random(6), SHAPES.granule(client)
    drawn = []
    for n in range(count):
        nbytes = granule * rng.choice([1, 2, 3, 31, 64, 500, 1500])
        address = granule * rng.randint(0, 10_000)
        if n % 3 == 0:
            address = PAGE * rng.randint(1, 9) - granule * rng.randint(1, 5)
        drawn.append((address, nbytes, rng.random() < 0.5 or n == count - 1))
    return drawn, [burst for piece in drawn for burst in bursts(*piece)]


FIELDS = ("beat", "beats", "first", "end", "final")


def packed(found):
    layout = SHAPES.burst(Client.COMPUTE)
    return [pack(layout, **dict(zip(FIELDS, map(int, b), strict=True))) for b in found]


def cut():
    drawn, found = pieces()
    runs = [pack(SHAPES.run, address=a, nbytes=n, final=int(f)) for a, n, f in drawn]
    return StreamCase(
        name="cut",
        component=Cut(SHAPES, Client.COMPUTE),
        inputs={"i": runs},
        outputs={"o": whole(SHAPES.burst(Client.COMPUTE), packed(found))},
    )


def beats_of(found):
    """Give each beat of bursts: first, end, final."""
    count = SHAPES.granules(Client.COMPUTE)
    for _, beats, first, end, final in found:
        for n in range(beats):
            last = n == beats - 1
            yield (0 if n else first), (end if last else count), int(final and last)


def mask_of(first, end):
    bits = 8 * SHAPES.granule(Client.COMPUTE)
    return sum(((1 << bits) - 1) << g * bits for g in range(first, end))


def realigned():
    """Return pieces of beats, and the same granules as dense beats with their masks."""
    _, found = pieces(count=10)
    rng, bits = random.Random(8), 8 * SHAPES.granule(Client.COMPUTE)
    count = SHAPES.granules(Client.COMPUTE)
    scattered, dense, kept = [], [], []
    for first, end, final in beats_of(found):
        word = rng.getrandbits(8 * BEAT)
        scattered.append((word, first, end, final))
        kept += [word >> g * bits & (1 << bits) - 1 for g in range(first, end)]
        while len(kept) >= count or (final and kept):
            part, kept = kept[:count], kept[count:]
            value = sum(g << n * bits for n, g in enumerate(part))
            dense.append((value, mask_of(0, len(part)), int(bool(final) and not kept)))
    return found, scattered, dense


def packs():
    _, scattered, dense = realigned()
    layout = SHAPES.piece(Client.COMPUTE)
    out = data.StructLayout({"data": 8 * BEAT, "last": 1})
    return StreamCase(
        name="pack",
        component=Pack(SHAPES, Client.COMPUTE),
        inputs={"i": [pack(layout, data=w, first=f, end=e, final=x) for w, f, e, x in scattered]},
        outputs={
            "o": [
                (pack(out, data=v, last=last), pack(out, data=mask, last=1))
                for v, mask, last in dense
            ]
        },
        # What fills the last beat of a descriptor up follows the next piece.
        loose=True,
    )


def places():
    found, scattered, dense = realigned()
    layout = SHAPES.piece(Client.COMPUTE)
    marks = pack(layout, first=1, end=3, final=1)
    return StreamCase(
        name="place",
        component=Place(SHAPES, Client.COMPUTE),
        inputs={"i": [value for value, _, _ in dense], "burst": packed(found)},
        outputs={
            "o": [
                (
                    pack(layout, data=w, first=f, end=e, final=x),
                    pack(layout, data=mask_of(f, e)) | marks,
                )
                for w, f, e, x in scattered
            ]
        },
        # Granules that are not to be written follow the next dense beat.
        loose=True,
    )


def dense_beats(name, element, beat):
    """Stores of several lengths, each of which starts a beat of its own."""
    rng, items, wanted = random.Random(name), [], []
    into, out = (data.StructLayout({"data": bits, "last": 1}) for bits in (element, beat))
    for length in (1, 2, 5, 8, 1, 3, 16, 4):
        store = [rng.getrandbits(element) for _ in range(length)]
        items += [pack(into, data=e, last=int(n == length - 1)) for n, e in enumerate(store)]
        word, bits = sum(e << n * element for n, e in enumerate(store)), element * length
        for at in range(0, bits, beat):
            meant = (1 << min(beat, bits - at)) - 1
            last = int(at + beat >= bits)
            value = pack(out, data=word >> at & meant, last=last)
            wanted.append((value, pack(out, data=meant, last=1)))
    return StreamCase(
        name=name, component=Beats(element, beat), inputs={"i": items}, outputs={"o": wanted}
    )


CASES = (
    lambda: same("queue", Queue(12, 4), 12),
    lambda: same("queue_of_one", Queue(5, 1), 5),
    lambda: same("queue_block_ram", Queue(33, 6, block_ram=True), 33),
    lambda: same("skid", Skid(70), 70),
    round_robin,
    dispatch,
    *(partial(rows, f"rows_of_{c.name.lower()}", c, BUS) for c in Client),
    *(partial(rows, f"wide_rows_of_{c.name.lower()}", c, WIDE) for c in Client),
    cut,
    packs,
    places,
    lambda: dense_beats("beats_of_wide_elements", 128, 64),
    lambda: dense_beats("beats_of_narrow_elements", 128, 512),
)


def test_streams_lose_double_and_change_nothing_under_any_pattern(tmp_path):
    cases = [make() for make in CASES]
    run_tests(
        StreamTop(cases), "ginseng.bench.stream_tests", scratch=tmp_path, plan=stream_plan(cases)
    )


class Broken(wiring.Component):
    """Breaks one rule of streams."""

    def __init__(self, fault):
        self.fault = fault
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        count = Signal(8)
        m.d.sync += count.eq(count + 1)
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
        ]
        if self.fault == "took it back":
            m.d.comb += self.o.valid.eq(self.i.valid & (count[:2] != 0))
            m.d.comb += self.i.ready.eq(self.o.ready & (count[:2] != 0))
        if self.fault == "changed it":
            m.d.comb += self.o.payload.eq(self.i.payload ^ (count[2] & ~self.o.ready))
        if self.fault == "lost it":
            m.d.comb += self.i.ready.eq(1)
        if self.fault == "doubled it":
            m.d.comb += self.i.ready.eq(self.o.ready & (count[:2] != 0))
        if self.fault == "waited for ready":
            m.d.comb += self.o.valid.eq(self.i.valid & self.o.ready)
        return m


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("took it back", "valid fell before"),
        ("changed it", "while it waited"),
        ("lost it", "while it waited|valid fell before"),
        ("doubled it", "one item too many|, not 0x"),
        ("waited for ready", "nothing moves"),
    ],
)
def test_a_component_that_breaks_a_rule_is_found(fault, says, tmp_path):
    cases = [same("broken", Broken(fault), 8)]
    with pytest.raises(BenchError, match=says):
        run_tests(
            StreamTop(cases),
            "ginseng.bench.stream_tests",
            scratch=tmp_path,
            plan=stream_plan(cases),
        )
