"""The components of the core, each beside a small model of it, under idle and back-pressure."""

import random
from functools import partial

import numpy as np
import pytest
from amaranth.lib import data

from ginseng.bench.streams import MemoryCase, StreamCase, pack, run_cases, whole
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import (
    INSN_BYTES,
    AluOp,
    MemInsn,
    Opcode,
    Queue,
    instruction_set,
    uop_layout,
)
from ginseng.isa.transfer import TransferDescriptor
from ginseng.vta.alu import Alu
from ginseng.vta.dispatch import Dispatch
from ginseng.vta.engine import Engine, piece_bits, piece_layout
from ginseng.vta.fetch import FETCH_INSNS, Fetch
from ginseng.vta.gemm import Gemm
from ginseng.vta.scoreboard import WINDOW, Event
from ginseng.vta.store import Beats
from ginseng.vta.walk import ALU_WALK, GEMM_WALK, Walk

pytestmark = pytest.mark.rtl

CORE = CoreConfig()
#: Scratchpads of 32 elements.
SMALL = CoreConfig(
    log_block=1, log_uop_buff_size=7, log_inp_buff_size=6, log_wgt_buff_size=7, log_acc_buff_size=8
)
WIDE = CoreConfig(
    log_batch=1,
    log_block=2,
    log_uop_buff_size=7,
    log_inp_buff_size=8,
    log_wgt_buff_size=9,
    log_acc_buff_size=10,
)


def dispatch(seed=0):
    rng, isa = random.Random(seed), instruction_set(CORE)
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
        Queue.LOAD: "o_load",
        Queue.COMPUTE: "o_compute",
        Queue.STORE: "o_store",
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
        outputs={name: whole(items) for name, items in outputs.items()},
    )


def dense_beats(name, element, beat, seed=0):
    """Stores of several lengths, each of which starts a beat of its own."""
    rng, items, wanted = random.Random(f"{name} {seed}"), [], []
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


def beats_of(raw, nbytes):
    """Return bytes as beats; what fills the last one up is made up."""
    parts = (raw[at : at + nbytes] for at in range(0, len(raw), nbytes))
    return [int.from_bytes(part.ljust(nbytes, b"\xee"), "little") for part in parts]


def engine(name, memories, bits, seed=0):
    """Loads with every kind of padding, some of padding only or of nothing."""
    rng, bus = random.Random(f"{name} {seed}"), BusConfig(data_bits=bits)
    layout = piece_layout(bus)
    insns, descriptors, beats, needs, pieces = [], [], [], [], []
    for _ in range(24):
        memory = rng.choice(memories)
        extent = {"x_size": rng.choice([1, 2, 5, 9]), "y_size": rng.choice([0, 1, 1, 3])}
        pads = {f"{k}_pad_{n}": rng.choice([0, 0, 1, 3]) for k in "xy" for n in "01"}
        where = {"sram_base": rng.randrange(900), "dram_base": rng.getrandbits(32)}
        stride, (x, y) = rng.randrange(40), extent.values()
        insns.append(
            pack(MemInsn, opcode=0, memory=memory, x_stride=stride, **extent, **pads, **where)
        )
        if y:
            of = {"rows": y, "row_elements": x, "stride": stride}
            descriptors.append(
                pack(TransferDescriptor, memory=memory, dram_base=where["dram_base"], **of)
            )
        width, size = piece_bits(CORE, bus, memory), CORE.element_bytes(memory)
        raw, address = b"", where["sram_base"]
        for row in range(-pads["y_pad_0"], y + pads["y_pad_1"]):
            for column in range(-pads["x_pad_0"], x + pads["x_pad_1"]):
                of = {"memory": memory, "address": address}
                address += 1
                if not (0 <= row < y and 0 <= column < x):
                    meant = {"index": (1 << 10) - 1}
                    mask = (1 << layout.size) - 1 & ~pack(layout, **meant)
                    pieces.append((pack(layout, zero=1, **of), mask))
                    continue
                element = rng.randbytes(size)
                raw += element
                for index, value in enumerate(beats_of(element, width // 8)):
                    unmeant = pack(layout, data=(1 << bits) - (1 << width))
                    mask = (1 << layout.size) - 1 & ~unmeant
                    pieces.append((pack(layout, index=index, data=value, **of), mask))
        beats += beats_of(raw, bus.beat_bytes)
        needs += [len(descriptors)] * (len(beats) - len(needs))
    return StreamCase(
        name=name,
        component=Engine(CORE, bus, memories),
        inputs={"i": insns, "memory__beat": beats},
        outputs={"memory__descriptor": whole(descriptors), "o": pieces},
        records={"written": [[1]] * len(insns)},
        after={"memory__beat": ("memory__descriptor", needs)},
    )


def fetch(bits, seed=0):
    rng, bus = random.Random(f"{bits} {seed}"), BusConfig(data_bits=bits)
    count, address = rng.choice([83, 64, 101]), rng.getrandbits(20)
    words = [rng.getrandbits(8 * INSN_BYTES) for _ in range(count)]
    descriptors, beats, needs, ends = [], [], [], []
    for at in range(0, count, FETCH_INSNS):
        some = words[at : at + FETCH_INSNS]
        of = {"row_elements": len(some), "stride": len(some)}
        descriptors.append(
            pack(TransferDescriptor, memory=Memory.UOP, dram_base=address + at, rows=1, **of)
        )
        beats += beats_of(b"".join(w.to_bytes(INSN_BYTES, "little") for w in some), bus.beat_bytes)
        needs += [len(descriptors)] * (len(beats) - len(needs))
        ends.append(len(beats))
    return StreamCase(
        name=f"fetch_{bits}",
        component=Fetch(bus),
        inputs={"memory__beat": beats},
        outputs={"memory__descriptor": whole(descriptors), "o": whole(words)},
        strobes={"start": [1], "memory__done": [1] * len(ends)},
        after={
            "memory__beat": ("memory__descriptor", needs),
            "memory__done": ("memory__beat", ends),
        },
        constants={"insn_addr": address, "insn_count": count, "stop": 0},
        settles={"exhausted": 1, "quiet": 1, "active": 0},
    )


def walk(name, kind, *, faults=False, seed=0):
    """Loops of up to 27 steps; the last one leaves its scratchpad if it is to fault."""
    rng, layout = random.Random(f"{name} {seed}"), kind.step(SMALL)
    uops = [{k: rng.randrange(4) for k in ("dst", "src", "wgt")} for _ in range(32)]
    loops, steps, fault = [], [], 0
    while len(loops) < 12:
        begin, count = rng.randrange(28), rng.choice([1, 1, 2, 3])
        out, inner = rng.randrange(1, 4), rng.randrange(1, 4)
        factors = {
            f"{k}_factor_{w}": rng.randrange(5) for k in kind.scratchpads for w in ("out", "in")
        }
        if faults and len(loops) == 11:
            out, factors["dst_factor_out"] = 3, 16
        extra = {k: rng.randrange(2) for k in kind.extra} | {"tag": rng.randrange(WINDOW)}
        # With one micro-op none is read.
        only = {"single": int(count == 1), "uop": pack(uop_layout(SMALL), **uops[begin])}
        loop = {"uop_begin": begin, "uop_end": begin + count, "iter_out": out, "iter_in": inner}
        loops.append(pack(kind.command(SMALL), **loop, **factors, **extra, **only))
        total = out * inner * count
        for n in range(total):
            o, i, u = n // (inner * count), n // count % inner, begin + n % count
            step = {
                k: uops[u][k] + o * factors[f"{k}_factor_out"] + i * factors[f"{k}_factor_in"]
                for k in kind.scratchpads
            }
            if max(step.values()) >= 32:
                fault = 1
                break
            steps.append(pack(layout, **step, **extra, last=int(n == total - 1)))
    assert fault == faults
    words = [pack(uop_layout(SMALL), **uop) for uop in uops]
    return StreamCase(
        name=name,
        component=Walk(SMALL, kind),
        inputs={"i": loops},
        outputs={"o": whole(steps)},
        memories=[MemoryCase(words=words, reads=["uop_enable uop_address uop"])],
        constants={"halt": 0},
        settles={"fault": fault, "uop_busy": 0} if not faults else {"fault": 1},
    )


def lanes(word, bits, count):
    """Split a word into signed numbers."""
    raw = word.to_bytes(bits * count // 8, "little")
    return np.frombuffer(raw, f"<i{bits // 8}").astype(np.int64)


def joined(values):
    return int.from_bytes(values.astype("<u4").tobytes(), "little")


def unit(name, component, kind, config, compute, *, reads, write, extra, memories=(), seed=0, **of):
    """Steps of a unit on accumulators, few of them, so that steps soon meet again.

    ``compute`` gives the new lanes of an accumulator from a step and all accumulators.
    """
    rng, count = random.Random(f"{name} {seed}"), config.batch * config.block
    before = [rng.getrandbits(32 * count) for _ in range(32)]
    acc = [lanes(word, 32, count) for word in before]
    items, written, ended = [], [], []
    for n in range(250):
        step = {k: rng.randrange(rng.choice([2, 32])) for k in kind.scratchpads} | extra(rng)
        step |= {"last": int(rng.random() < 0.2 or n == 249), "tag": rng.randrange(WINDOW)}
        items.append(pack(kind.step(config), **step))
        acc[step["dst"]] = compute(step, acc).astype(np.int32).astype(np.int64)
        written.append([1, step["dst"], joined(acc[step["dst"]])])
        if step["last"]:
            ended.append([pack(Event, valid=1, tag=step["tag"])])
    claims = [item[:2] for item in written]
    return StreamCase(
        name=name,
        component=component,
        inputs={"i": items},
        records={
            write: written,
            "executed": ended,
            **dict.fromkeys(of.pop("claims"), claims),
        },
        memories=[MemoryCase(words=before, reads=reads, write=write, holds=False), *memories],
        **of,
    )


def gemm(name, config, *, packed=False, seed=0):
    rng = random.Random(f"{name} {seed}")
    batch, block = config.batch, config.block
    # Extremes among them.
    inp, wgt = (
        [int.from_bytes(rng.choice([rng.randbytes(n), b"\x80" * n]), "little") for _ in range(32)]
        for n in (batch * block, block * block)
    )

    def compute(step, acc):
        if step["reset"]:
            return np.zeros(batch * block)
        x = lanes(inp[step["src"]], 8, batch * block).reshape(batch, block)
        w = lanes(wgt[step["wgt"]], 8, block * block).reshape(block, block)
        return acc[step["dst"]] + (x @ w.T).reshape(-1)

    return unit(
        name,
        Gemm(config, packed=packed),
        GEMM_WALK,
        config,
        compute,
        # Never refused.
        reads=["read__enable read__address read__data"],
        write="write__enable write__address write__data",
        extra=lambda rng: {"reset": int(rng.random() < 0.1)},
        memories=[
            MemoryCase(words=inp, reads=["enable inp_address inp"], holds=False),
            MemoryCase(words=wgt, reads=["enable wgt_address wgt"], holds=False),
        ],
        claims=["coming__valid coming__address", "next__valid next__address"],
        constants={"read__grant": 1, "write__grant": 1},
        seed=seed,
    )


def alu(seed=0):
    def compute(step, acc):
        x, y = acc[step["dst"]], acc[step["src"]]
        if step["use_imm"]:
            y = np.full_like(x, step["imm"] - (1 << 16) * (step["imm"] >> 15))
        match AluOp(step["alu_op"]):
            case AluOp.MIN:
                return np.minimum(x, y)
            case AluOp.MAX:
                return np.maximum(x, y)
            case AluOp.ADD:
                return x + y
            case AluOp.MUL:
                return x * y
        return np.array([a >> b if b >= 0 else a << -b for a, b in zip(x, y, strict=True)])

    def extra(rng):
        op, imm = rng.choice(list(AluOp)), rng.getrandbits(16)
        if op is AluOp.SHR:
            # Accumulators of any size are no amounts, which go from -31 to 31.
            return {"alu_op": op, "use_imm": 1, "imm": rng.randint(-31, 31) & 0xFFFF}
        return {"alu_op": op, "use_imm": rng.getrandbits(1), "imm": imm}

    return unit(
        "alu",
        Alu(SMALL),
        ALU_WALK,
        SMALL,
        compute,
        reads=[f"{k}__enable {k}__address {k}__data {k}__grant" for k in ("read_dst", "read_src")],
        write="write__enable write__address write__data",
        extra=extra,
        claims=["next__valid next__address"],
        constants={"write__grant": 1},
        seed=seed,
    )


COMPUTE = (Memory.UOP, Memory.ACC, Memory.ACC_8BIT)
CASES = (
    dispatch,
    partial(dense_beats, "beats_of_wide_elements", 128, 64),
    partial(dense_beats, "beats_of_narrow_elements", 128, 512),
    partial(engine, "engine_of_compute_64", COMPUTE, 64),
    partial(engine, "engine_of_compute_512", COMPUTE, 512),
    partial(engine, "engine_of_inp", (Memory.INP,), 64),
    partial(engine, "engine_of_wgt", (Memory.WGT,), 128),
    *(partial(fetch, bits) for bits in (64, 128, 512)),
    partial(walk, "gemm_walk", GEMM_WALK),
    partial(walk, "alu_walk", ALU_WALK),
    partial(walk, "walk_outside", GEMM_WALK, faults=True),
    partial(gemm, "gemm", SMALL),
    partial(gemm, "gemm_packed", WIDE, packed=True),
    alu,
)


def test_components_of_the_core_do_what_their_models_do_under_any_pattern(tmp_path):
    run_cases([make() for make in CASES], tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(1, 9))
def test_components_of_the_core_do_what_their_models_do_at_length(seed, tmp_path):
    run_cases([make(seed=seed) for make in CASES], tmp_path)
