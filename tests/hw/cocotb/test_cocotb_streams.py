"""One table of stream components, under every pattern of idle and back-pressure (RFC 61)."""

import random
from functools import partial

import pytest
from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bench.errors import BenchError
from ginseng.bench.streams import StreamCase, pack, run_cases, whole
from ginseng.bench.transfers import random_reads, random_stores
from ginseng.bus.axi import AxiSignature
from ginseng.bus.burst import Cut
from ginseng.bus.plan import BASES, Rows, bases_layout
from ginseng.bus.reader import Reader
from ginseng.bus.realign import Pack, Place
from ginseng.bus.shapes import DmaShapes
from ginseng.bus.writer import Writer
from ginseng.flow.arbiter import RoundRobin
from ginseng.flow.queue import Queue, Skid
from ginseng.isa.config import BusConfig, CoreConfig
from ginseng.isa.transfer import Client, TransferDescriptor

pytestmark = pytest.mark.rtl

CORE, BUS = CoreConfig(), BusConfig()
#: A window in which rows may pass the end of the 32-bit offsets.
WIDE = BusConfig(window_bytes=1 << 36)
SHAPES = DmaShapes(CORE, BUS)
BEAT = BUS.beat_bytes
PAGE = 4096


def same(name, component, width, count=60):
    rng = random.Random(name)
    items = [rng.getrandbits(width) for _ in range(count)]
    return StreamCase(
        name=name, component=component, inputs={"i": items}, outputs={"o": whole(items)}
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
        outputs={"o": whole(merged)},
        constants={"enable": 1},
        lanes=2,
    )


def runs_of(client, unit, base, start, count, columns, stride):
    """Return what a descriptor of elements of ``unit`` bytes moves: address, bytes, final."""
    fetches, top = client is Client.FETCH, 1 << 32
    if stride == columns or fetches:
        count, columns = min(count, 1), count * columns
    runs = []
    for row in range(count if columns else 0):
        offset, left = (start + row * stride) * unit, columns * unit
        while left:
            offset = offset if fetches else offset % top
            size = left if fetches else min(left, top - offset)
            runs.append((base + offset, size, 0))
            offset, left = offset + size, left - size
    return runs[:-1] + [(*run[:2], 1) for run in runs[-1:]]


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
        base = 0 if fetches else bases[BASES[memory]]
        given = runs_of(client, unit, base, start, count, columns, stride)
        runs += [pack(shapes.run, address=a, nbytes=n, final=f) for a, n, f in given]
    return StreamCase(
        name=name,
        component=Rows(shapes, client),
        inputs={"i": descriptors},
        outputs={"o": whole(runs)},
        constants={"bases": pack(bases_layout(), **bases)},
    )


def bursts(shapes, client, address, nbytes, final):
    """Cut bytes at pages and at the longest burst: beat, beats, first, end, final."""
    granule, end, size = shapes.granule(client), address + nbytes, shapes.bus.beat_bytes
    found, beat = [], address // size
    last = -(-end // size)
    while beat < last:
        stop = min(last, (beat * size // PAGE + 1) * PAGE // size, beat + shapes.burst_beats)
        low = max(address - beat * size, 0) // granule
        high = (min(end, stop * size) - (stop - 1) * size) // granule
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
    return drawn, [burst for piece in drawn for burst in bursts(SHAPES, client, *piece)]


FIELDS = ("beat", "beats", "first", "end", "final")


def packed(found, shapes=SHAPES, client=Client.COMPUTE):
    layout = shapes.burst(client)
    return [pack(layout, **dict(zip(FIELDS, map(int, b), strict=True))) for b in found]


def cut():
    drawn, found = pieces()
    runs = [pack(SHAPES.run, address=a, nbytes=n, final=int(f)) for a, n, f in drawn]
    return StreamCase(
        name="cut",
        component=Cut(SHAPES, Client.COMPUTE),
        inputs={"i": runs},
        outputs={"o": whole(packed(found))},
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


def dense(raw, nbytes):
    """Return bytes as beats with the masks of those that mean something; others are made up."""
    parts = [raw[at : at + nbytes] for at in range(0, len(raw), nbytes)]
    return [
        (int.from_bytes(p.ljust(nbytes, b"\xee"), "little"), (1 << 8 * len(p)) - 1) for p in parts
    ]


def transfers(client, shapes, items, base):
    """Return the descriptors of transfers, what each moves, and the bursts of all."""
    descriptors, moves, found = [], [], []
    for t in items:
        extent = {"dram_base": t.dram_base, "rows": t.rows, "row_elements": t.row_elements}
        descriptors.append(pack(TransferDescriptor, memory=t.memory, stride=t.stride, **extent))
        unit = 1 << shapes.log_unit(client, t.memory)
        moves.append(runs_of(client, unit, base, *extent.values(), t.stride))
        found += [burst for run in moves[-1] for burst in bursts(shapes, client, *run)]
    return descriptors, moves, found


def reader(client, bits, seed=0):
    bus = BusConfig(data_bits=bits)
    shapes, nbytes = DmaShapes(CORE, bus), bus.beat_bytes
    base = 0 if client is Client.FETCH else 2 * PAGE - 64
    image = random.Random(f"{client} {seed}").randbytes(1 << 16)
    items = random_reads(CORE, client, len(image) - base, count=20, seed=seed)
    descriptors, moves, found = transfers(client, shapes, items, base)
    raw = data.StructLayout({"data": bits, "last": 1})
    beats, needs = [], []
    for n, (first, count, *_) in enumerate(found):
        for at in range(first, first + count):
            value = int.from_bytes(image[at * nbytes : (at + 1) * nbytes], "little")
            beats.append(pack(raw, data=value, last=int(at == first + count - 1)))
            needs.append(n + 1)
    return StreamCase(
        name=f"reader_of_{client.name.lower()}_{bits}",
        component=Reader(shapes, client),
        inputs={"descriptor": descriptors, "data": beats},
        outputs={
            "request": whole(packed(found, shapes, client)),
            "beat": [
                beat
                for runs in moves
                for beat in dense(b"".join(image[a : a + n] for a, n, _ in runs), nbytes)
            ],
        },
        records={"done": [[1]] * len(items)},
        after={"data": ("request", needs)},
        constants={"bases": pack(bases_layout(), **dict.fromkeys(BASES.values(), base))},
        settles={"fault": 0},
        # What fills the last beat of a descriptor up follows the next piece.
        loose=True,
    )


def writer(bits, seed=0):
    bus, client, base = BusConfig(data_bits=bits), Client.STORE, 2 * PAGE - 64
    shapes, nbytes = DmaShapes(CORE, bus), bus.beat_bytes
    stores = random_stores(CORE, 1 << 15, count=20, seed=seed)
    items = [store.transfer for store in stores]
    descriptors, moves, found = transfers(client, shapes, items, base)
    moved = iter(
        zip(
            (a + n for runs in moves for a, size, _ in runs for n in range(size)),
            b"".join(store.data.tobytes() for store in stores),
            strict=True,
        )
    )
    channels = AxiSignature(bus).members
    aw, w, b = (channels[name].signature.members["payload"].shape for name in ("aw", "w", "b"))
    granule, per_beat = shapes.granule(client), shapes.granules(client)
    addresses, beats, counted, sent = [], [], [], []
    for at, count, first, end, _ in found:
        addresses.append(pack(aw, id=client, address=at * nbytes, length=count - 1))
        counted.append([1, count * per_beat - first - (per_beat - end)])
        for n in range(count):
            low, high = (first if n == 0 else 0), (end if n == count - 1 else per_beat)
            value = strobe = 0
            for lane in range(granule * low, granule * high):
                address, byte = next(moved)
                assert address == (at + n) * nbytes + lane
                value, strobe = value | byte << 8 * lane, strobe | 1 << lane
            item = {"id": client, "strobe": strobe, "last": int(n == count - 1)}
            meant = (1 << w.size) - 1 & ~pack(w, data=(1 << bits) - 1) | pack(
                w, data=sum(0xFF << 8 * lane for lane in range(nbytes) if strobe >> lane & 1)
            )
            beats.append((pack(w, data=value, **item), meant))
        sent.append(len(beats))
    return StreamCase(
        name=f"writer_{bits}",
        component=Writer(shapes),
        inputs={
            "descriptor": descriptors,
            "beat": [v for store in stores for v, _ in dense(store.data.tobytes(), nbytes)],
            "b": [pack(b, id=client)] * len(found),
        },
        outputs={"aw": whole(addresses), "w": beats},
        records={"done": [[1]] * len(items), "counted granules": counted},
        after={"b": ("w", sent)},
        constants={"bases": pack(bases_layout(), **dict.fromkeys(BASES.values(), base))},
        settles={"fault": 0, "idle": 1},
    )


MOVERS = (
    partial(reader, Client.FETCH, 64),
    partial(reader, Client.COMPUTE, 64),
    partial(reader, Client.COMPUTE, 512),
    partial(writer, 64),
    partial(writer, 512),
)
CASES = (
    lambda: same("queue", Queue(12, 4), 12),
    lambda: same("queue_of_one", Queue(5, 1), 5),
    lambda: same("queue_block_ram", Queue(33, 6, block_ram=True), 33),
    lambda: same("skid", Skid(70), 70),
    round_robin,
    *(partial(rows, f"rows_of_{c.name.lower()}", c, BUS) for c in Client),
    *(partial(rows, f"wide_rows_of_{c.name.lower()}", c, WIDE) for c in Client),
    cut,
    packs,
    places,
    *MOVERS,
)


def test_streams_lose_double_and_change_nothing_under_any_pattern(tmp_path):
    run_cases([make() for make in CASES], tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(1, 9))
def test_readers_and_writers_move_what_they_should_at_length(seed, tmp_path):
    run_cases([make(seed=seed) for make in MOVERS], tmp_path)


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
    with pytest.raises(BenchError, match=says):
        run_cases([same("broken", Broken(fault), 8)], tmp_path)
