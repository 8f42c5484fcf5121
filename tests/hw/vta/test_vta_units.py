"""Components of the core on their own, under idle and back-pressure."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.vta.dot import Dot, dot_latency
from ginseng.vta.engine import Engine, piece_bits
from ginseng.vta.fetch import Fetch
from ginseng.vta.store import Beats
from ginseng.vta.walk import GEMM_WALK, Walk

PATTERNS = [(0, 0), (0.5, 0), (0, 0.5), (0.4, 0.4)]


def simulate(dut, *processes, background=()):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    for process in processes:
        sim.add_testbench(process)
    for process in background:
        sim.add_testbench(process, background=True)
    sim.run()


def feeder(stream, items, idle, seed=1):
    async def process(ctx):
        rng = random.Random(seed)
        for item in items:
            while rng.random() < idle:
                await ctx.tick()
            ctx.set(stream.payload, item)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    return process


def drain(stream, count, stall, got, seed=2):
    async def process(ctx):
        rng = random.Random(seed)
        held = None
        for _ in range(200 * count + 200):
            if len(got) == count:
                return
            ready = rng.random() >= stall
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            if held is not None:
                assert valid, "valid was taken back"
                assert payload == held, "the payload changed while it waited"
            held = payload if valid and not ready else None
            if valid and ready:
                got.append(payload)
        raise AssertionError(f"{len(got)} of {count} came")

    return process


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("log_batch", "log_block"), [(0, 1), (0, 2), (1, 3), (0, 4)])
def test_products_are_exact_packed_or_not(packed, log_batch, log_block):
    config = CoreConfig(
        log_batch=log_batch,
        log_block=log_block,
        log_inp_buff_size=8,
        log_wgt_buff_size=9,
        log_acc_buff_size=10,
    )
    dut, latency = Dot(config, packed=packed), dot_latency(config)
    rng = np.random.default_rng(1)

    def draw(n, rows):
        # Extremes among them: chains whose every product is one overflow first.
        if n % 3 == 0:
            return rng.integers(-128, 128, (rows, config.block))
        values = [-128, 127] if n % 3 == 1 else [-128, -128, -128, -128, -127, 126]
        return rng.choice(values, (rows, config.block))

    operands = [(draw(n % 4, config.batch), draw(n % 7, config.block)) for n in range(56)]
    extreme = np.full((config.block, config.block), -128)
    for columns in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        wgt = draw(0, config.block)
        wgt[columns] = -128
        operands.append((extreme[: config.batch], wgt))
    # Sums of nothing come between the others.
    zero = [n % 5 == 4 for n in range(len(operands))]

    async def process(ctx):
        for n in range(len(operands) + latency):
            if n >= latency:
                inp, wgt = operands[n - latency]
                expected = (inp @ wgt.T) * (not zero[n - latency])
                sums, carries = ctx.get(dut.sums), ctx.get(dut.carries)
                assert [
                    [sums[b][j] + carries[b][j] for j in range(config.block)]
                    for b in range(config.batch)
                ] == expected.tolist()
            if n < len(operands):
                inp, wgt = operands[n]
                ctx.set(dut.inp, inp.tolist())
                ctx.set(dut.wgt, wgt.tolist())
            ctx.set(dut.valid, n < len(operands) and not zero[n])
            ctx.set(dut.zero, n < len(operands) and zero[n])
            await ctx.tick()

    simulate(dut, process)


@pytest.mark.parametrize(("idle", "stall"), PATTERNS)
@pytest.mark.parametrize(("element", "beat"), [(16, 64), (64, 64), (256, 64), (128, 512)])
def test_beats_are_dense_and_end_with_their_store(element, beat, idle, stall):
    rng = random.Random(7)
    lengths = [1, 2, 5, 8]
    items, wanted = [], []
    for length in lengths:
        elements = [rng.getrandbits(element) for _ in range(length)]
        items += [{"data": e, "last": n == length - 1} for n, e in enumerate(elements)]
        raw = b"".join(e.to_bytes(element // 8, "little") for e in elements)
        wanted.append(raw)
    dut, got = Beats(element, beat), []
    count = sum(-(-8 * len(raw) // beat) for raw in wanted)
    simulate(dut, feeder(dut.i, items, idle), drain(dut.o, count, stall, got))
    stores, raw = [], b""
    for item in got:
        raw += item.data.to_bytes(beat // 8, "little")
        if item.last:
            stores.append(raw)
            raw = b""
    assert raw == b""
    assert [s[: len(w)] for s, w in zip(stores, wanted, strict=True)] == wanted


def memory(port, answer, beat_bytes, idle, stall, seed=3):
    """Answer the descriptors of a read port in order; ``answer`` gives a descriptor's bytes."""

    async def process(ctx):
        rng = random.Random(seed)
        beats, marks, ready, offered = [], [], False, False
        while True:
            _, _, valid, payload, taken = await ctx.tick().sample(
                port.descriptor.valid, port.descriptor.payload, port.beat.ready
            )
            ctx.set(port.done, 0)
            if valid and ready:
                raw = answer(payload)
                raw += b"\xee" * (-len(raw) % beat_bytes)
                beats += [
                    int.from_bytes(raw[at : at + beat_bytes], "little")
                    for at in range(0, len(raw), beat_bytes)
                ]
                marks.append(len(beats))
            if offered and taken:
                beats.pop(0)
                marks = [mark - 1 for mark in marks]
                offered = False
            if marks and marks[0] <= 0:
                marks.pop(0)
                ctx.set(port.done, 1)
            if not offered and beats and rng.random() >= idle:
                ctx.set(port.beat.payload, beats[0])
                offered = True
            ctx.set(port.beat.valid, offered)
            ready = rng.random() >= stall
            ctx.set(port.descriptor.ready, ready)

    return process


@pytest.mark.parametrize(("idle", "stall"), PATTERNS)
@pytest.mark.parametrize("bits", [64, 128, 512])
def test_fetch_gives_every_instruction_in_order(bits, idle, stall):
    dut, got, asked = Fetch(BusConfig(data_bits=bits)), [], []
    count, address = 83, 1000
    words = [random.Random(n).getrandbits(128) for n in range(count)]

    def answer(descriptor):
        begin = descriptor.dram_base - address
        asked.append((begin, descriptor.row_elements))
        assert descriptor.rows == 1
        return b"".join(
            w.to_bytes(16, "little") for w in words[begin : begin + descriptor.row_elements]
        )

    async def start(ctx):
        ctx.set(dut.insn_addr, address)
        ctx.set(dut.insn_count, count)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)

    port = memory(dut.memory, answer, bits // 8, idle, stall)
    simulate(dut, start, drain(dut.o, count, stall, got), background=[port])
    assert got == words
    assert sum(length for _, length in asked) == count


def test_fetch_asks_for_no_more_than_it_has_room_for():
    dut = Fetch(BusConfig())
    asked = []

    def answer(descriptor):
        asked.append(descriptor.row_elements)
        return bytes(16 * descriptor.row_elements)

    async def never(ctx):
        ctx.set(dut.insn_count, 1000)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().repeat(400)
        # Beats are never refused, though nobody takes an instruction.
        assert ctx.get(dut.memory.beat.ready)

    simulate(dut, never, background=[memory(dut.memory, answer, 8, 0, 0)])
    assert asked == [32, 32]


@pytest.mark.parametrize(("idle", "stall"), PATTERNS)
@pytest.mark.parametrize("bits", [64, 256])
@pytest.mark.parametrize("kind", [Memory.UOP, Memory.INP, Memory.WGT, Memory.ACC, Memory.ACC_8BIT])
def test_loads_write_rows_and_padding(kind, bits, idle, stall):
    config, bus = CoreConfig(), BusConfig(data_bits=bits)
    element, bits_of_piece = config.element_bytes(kind), piece_bits(config, bus, kind)
    rng = random.Random(5)
    shapes = [(3, 2, 1, 0, 2, 1), (1, 1, 0, 0, 0, 0), (2, 0, 1, 1, 0, 0), (5, 3, 0, 1, 0, 2)]
    insns, wanted, pieces = [], [], 0
    for x, y, top, bottom, left, right in shapes:
        base = rng.randrange(100)
        insns.append(
            {
                "opcode": Opcode.LOAD,
                "memory": kind,
                "sram_base": base,
                "dram_base": rng.randrange(1000),
                "x_size": x,
                "y_size": y,
                "x_stride": x,
                "y_pad_0": top,
                "y_pad_1": bottom,
                "x_pad_0": left,
                "x_pad_1": right,
            }
        )
        for r in range(top + y + bottom):
            for c in range(left + x + right):
                inside = top <= r < top + y and left <= c < left + x
                wanted.append((base, rng.randbytes(element) if inside else None))
                pieces += 8 * element // bits_of_piece if inside else 1
                base += 1
    rows = [raw for _, raw in wanted if raw is not None]
    dut, got, written = Engine(config, bus, [kind]), [], []

    def answer(descriptor):
        count = descriptor.rows * descriptor.row_elements
        raw = b"".join(rows[:count])
        del rows[:count]
        return raw

    async def watch(ctx):
        while True:
            _, _, pulse = await ctx.tick().sample(dut.written)
            written.append(pulse)

    simulate(
        dut,
        feeder(dut.i, insns, idle),
        drain(dut.o, pieces, stall, got),
        background=[memory(dut.memory, answer, bits // 8, idle, stall), watch],
    )
    seen, open_piece = [], b""
    for piece in got:
        if piece.zero:
            seen.append((piece.address, None))
            continue
        assert piece.index == len(open_piece) * 8 // bits_of_piece
        open_piece += (piece.data % (1 << bits_of_piece)).to_bytes(bits_of_piece // 8, "little")
        if len(open_piece) == element:
            seen.append((piece.address, open_piece))
            open_piece = b""
    assert seen == wanted
    assert sum(written) >= len(insns) - 1


@pytest.mark.parametrize(("idle", "stall"), PATTERNS)
def test_a_walk_gives_every_step_in_order(idle, stall, small):
    rng = random.Random(4)
    words = [(rng.randrange(4), rng.randrange(4), rng.randrange(4)) for _ in range(32)]
    insns, wanted = [], []
    for _ in range(6):
        begin = rng.randrange(28)
        fields = {
            "uop_begin": begin,
            "uop_end": begin + rng.randrange(1, 4),
            "iter_out": rng.randrange(1, 4),
            "iter_in": rng.randrange(1, 4),
        }
        factors = {
            f"{k}_factor_{w}": rng.randrange(5)
            for k in ("dst", "src", "wgt")
            for w in ("out", "in")
        }
        single = fields["uop_end"] - begin == 1
        only = dict(zip(("dst", "src", "wgt"), words[begin], strict=True))
        insns.append(fields | factors | {"single": single, "uop": only})
        for o in range(fields["iter_out"]):
            for n in range(fields["iter_in"]):
                for u in range(begin, fields["uop_end"]):
                    step = [
                        index + o * factors[f"{k}_factor_out"] + n * factors[f"{k}_factor_in"]
                        for index, k in zip(words[u], ("dst", "src", "wgt"), strict=True)
                    ]
                    wanted.append((*step, 0))
        wanted[-1] = (*wanted[-1][:3], 1)
    dut, got = Walk(small, GEMM_WALK), []
    isa = instruction_set(small)

    async def uops(ctx):
        while True:
            _, _, enable, address = await ctx.tick().sample(dut.uop_enable, dut.uop_address)
            # With one micro-op none is read.
            if enable:
                d, s, w = words[address]
                word = int.from_bytes(isa.uop.pack(dst=d, src=s, wgt=w), "little")
                ctx.set(dut.uop.as_value(), word)

    simulate(
        dut,
        feeder(dut.i, insns, idle),
        drain(dut.o, len(wanted), stall, got),
        background=[uops],
    )
    assert [(s.dst, s.src, s.wgt, s.last) for s in got] == wanted
