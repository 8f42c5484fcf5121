import numpy as np
import pytest

from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp, Opcode

INT32 = np.iinfo(np.int32)


def walk(count, inner=1, outer=1, **factors):
    return {"uop_begin": 0, "uop_end": count, "iter_in": inner, "iter_out": outer} | factors


def show(program, config, count):
    """Store all four bytes of the first ``count`` accumulators; leaves a token to pop."""
    for byte in range(4):
        program.insn(Opcode.LOAD, memory=Memory.UOP, push_next=1)
        program.insn(
            Opcode.STORE,
            memory=Memory.OUT,
            x_size=count,
            y_size=1,
            dram_base=program.room(Memory.OUT, count),
            pop_prev=1,
            push_prev=1,
        )
        if byte < 3:
            at = program.uops([(0, 0, 0)])
            program.insn(
                Opcode.LOAD, memory=Memory.UOP, x_size=1, y_size=1, dram_base=at, pop_next=1
            )
            shift = walk(1, count, dst_factor_in=1)
            program.insn(Opcode.ALU, **shift, alu_op=AluOp.SHR, use_imm=1, imm=8)


def results(program, config):
    """End ``program`` with stores that show every byte of ACC."""
    show(program, config, config.depth(Memory.ACC))
    program.insn(Opcode.LOAD, memory=Memory.UOP, pop_next=1)
    program.insn(Opcode.FINISH)


def fill(program, config, rng):
    """Load every scratchpad but UOP with noise; the load queue's token is popped."""
    for memory in (Memory.INP, Memory.WGT, Memory.ACC):
        depth = config.depth(memory)
        at = program.put(memory, rng.integers(0, 256, depth * config.element_bytes(memory), "u1"))
        program.insn(
            Opcode.LOAD,
            memory=memory,
            x_size=depth,
            y_size=1,
            dram_base=at,
            push_next=int(memory is Memory.WGT),
            pop_prev=int(memory is Memory.ACC),
        )


def micro_ops(program, steps):
    at = program.uops(steps)
    program.insn(Opcode.LOAD, memory=Memory.UOP, x_size=len(steps), y_size=1, dram_base=at)


def compare(program, config, bench, golden, **options):
    address, count = program.close()
    model, gates = golden(config), bench(config, **options)
    for dram in (model.dram, gates.dram):
        dram.bytes[: len(program.bytes)] = memoryview(bytes(program.bytes))
    wanted = model.run(address, count)
    assert wanted != bytes(program.bytes).ljust(len(wanted), b"\0")
    (outcome,) = gates.run([(address, count)])
    assert (outcome.done, outcome.fault) == (True, False)
    assert outcome.dram == wanted
    return outcome


@pytest.mark.parametrize("distance", range(1, 8))
def test_gemm_sees_every_earlier_sum(distance, small, bench, golden, image):
    rng = np.random.default_rng(distance)
    program = image(small)
    fill(program, small, rng)
    steps = [(n % distance, int(rng.integers(32)), int(rng.integers(32))) for n in range(21)]
    micro_ops(program, steps)
    program.insn(Opcode.GEMM, **walk(len(steps), 2))
    program.insn(Opcode.GEMM, **walk(distance), reset=1)
    program.insn(Opcode.GEMM, **walk(len(steps)))
    results(program, small)
    compare(program, small, bench, golden)


@pytest.mark.parametrize("distance", range(1, 10))
def test_alu_sees_every_earlier_result(distance, small, bench, golden, image):
    rng = np.random.default_rng(distance)
    program = image(small)
    fill(program, small, rng)
    # Each step reads, as one operand or the other, what the step ``distance`` before it wrote.
    chain = [(n + distance, n, 0) for n in range(12)]
    again = [(n % distance, 24 + n % 3, 0) for n in range(12)]
    micro_ops(program, chain + again)
    for op in AluOp:
        program.insn(Opcode.ALU, **walk(24), alu_op=op)
        program.insn(Opcode.ALU, **walk(24), alu_op=op, use_imm=1, imm=int(rng.integers(-9, 9)))
    results(program, small)
    compare(program, small, bench, golden)


def test_alu_computes_extremes_like_the_golden_core(small, bench, golden, image):
    program = image(small)
    edge = [0, 1, -1, 31, -31, -32, 127, 65535, 65536, INT32.max, INT32.min]
    pairs = np.array([(x, y) for x in edge for y in edge], "<i4")
    lanes, half = small.block * small.batch, 14
    pairs = pairs[: len(pairs) // lanes * lanes]
    for begin in range(0, len(pairs), half * lanes):
        some = pairs[begin : begin + half * lanes]
        count = len(some) // lanes
        for op in AluOp:
            for operand in range(2):
                at = program.put(Memory.ACC, some[:, operand])
                program.insn(
                    Opcode.LOAD,
                    memory=Memory.ACC,
                    sram_base=16 * operand,
                    x_size=count,
                    y_size=1,
                    dram_base=at,
                    pop_next=int(operand == 0 and bool(begin or op)),
                )
            micro_ops(program, [(0, 16, 0)])
            loops = walk(1, count, dst_factor_in=1, src_factor_in=1)
            program.insn(Opcode.ALU, **loops, alu_op=op)
            show(program, small, count)
    program.insn(Opcode.LOAD, memory=Memory.UOP, pop_next=1)
    program.insn(Opcode.FINISH)
    compare(program, small, bench, golden)


def test_programs_follow_each_other_without_reset(small, bench, golden, image, timing):
    rng = np.random.default_rng(5)
    first, model = image(small), golden(small)
    fill(first, small, rng)
    micro_ops(first, [(n, n, n) for n in range(8)])
    # A token, scratchpads and micro-ops stay for the next program.
    first.insn(Opcode.GEMM, **walk(8, 2), push_next=1)
    first.insn(Opcode.FINISH)
    address, count = first.close()
    second = image(small)
    second.bytes = bytearray(first.bytes)
    at = second.room(Memory.OUT, 8)
    second.insn(
        Opcode.STORE,
        memory=Memory.OUT,
        x_size=8,
        y_size=1,
        dram_base=at,
        pop_prev=1,
        push_prev=1,
    )
    second.insn(Opcode.GEMM, **walk(8), pop_next=1, push_next=1)
    second.insn(Opcode.FINISH)
    again, more = second.close()
    gates = bench(small, timing=timing(latency=(0, 20), idle=0.2, stall=0.2))
    programs = [(address, count), (again, more), (again, more), (again, more)]
    wanted = []
    for dram in (model.dram, gates.dram):
        dram.bytes[: len(second.bytes)] = memoryview(bytes(second.bytes))
    wanted = [model.run(*program) for program in programs]
    outcomes = gates.run(programs)
    assert len(set(wanted)) == 4
    assert [o.dram for o in outcomes] == wanted
    assert [o.insns for o in outcomes] == [count, more, more, more]


def test_what_follows_finish_is_dropped(small, bench, golden, image):
    program = image(small)
    micro_ops(program, [(0, 0, 0)])
    program.insn(Opcode.FINISH)
    for _ in range(70):
        program.insn(Opcode.LOAD, memory=Memory.UOP, pop_prev=1)
    address, count = program.close()
    gates = bench(small)
    gates.dram.bytes[: len(program.bytes)] = memoryview(bytes(program.bytes))
    outcomes = gates.run([(address, count)] * 3)
    assert [(o.done, o.fault, o.insns) for o in outcomes] == [(True, False, 2)] * 3


def test_gemm_and_alu_take_one_cycle_per_step(small, bench, image, record_property):
    cycles = {}
    for name, opcode, more in (
        ("gemm", Opcode.GEMM, {}),
        ("gemm, one accumulator", Opcode.GEMM, {"dst_factor_in": 0}),
        ("alu immediate", Opcode.ALU, {"use_imm": 1, "imm": 3}),
        ("alu tensor, even distance", Opcode.ALU, {"src": 16}),
        ("alu tensor, odd distance", Opcode.ALU, {"src": 17}),
        ("alu tensor, same half", Opcode.ALU, {"src": 8, "iter_in": 6}),
    ):
        taken = []
        for outer in (4, 16):
            program = image(small)
            steps = dict(more)
            micro_ops(program, [(0, steps.pop("src", 0), 0)])
            loops = walk(1, 14, outer, dst_factor_in=1, src_factor_in=1) | steps
            program.insn(opcode, **loops)
            program.insn(opcode, **loops)
            program.insn(Opcode.FINISH)
            gates = bench(small)
            address, count = program.close()
            gates.dram.bytes[: len(program.bytes)] = memoryview(bytes(program.bytes))
            (outcome,) = gates.run([(address, count)])
            assert outcome.done
            taken.append(outcome.cycles)
        cycles[name] = (taken[1] - taken[0]) / (2 * 12 * loops["iter_in"])
        record_property(name, cycles[name])
    # In one half of the scratchpad the two reads may take turns.
    same_half = cycles.pop("alu tensor, same half")
    assert same_half <= 2.01
    assert all(per_step <= 1.01 for per_step in cycles.values()), cycles


class Overlaps:
    """Draws compute instructions of few steps whose accumulators and micro-ops nearly meet.

    Elements lie around the borders between halves and between even and odd, which are those
    between banks; the order of instructions is kept by the core alone, there are no tokens.
    """

    def __init__(self, program, config, seed):
        self.program = program
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.acc = config.depth(Memory.ACC)

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def near(self, room):
        """Return a first element with ``room`` behind it, most often next to a border."""
        place = (0, self.acc // 2 - 2, self.acc // 2, self.acc - room, self.number(0, self.acc))
        base = place[self.number(0, 4)] + self.number(-1, 2)
        return min(max(base, 0), self.acc - room)

    def load(self):
        memory = (Memory.ACC, Memory.ACC_8BIT)[self.number(0, 1)]
        count = self.number(1, 6)
        data = self.rng.integers(0, 256, count * self.config.element_bytes(memory), "u1")
        at = self.program.put(memory, data)
        self.program.insn(
            Opcode.LOAD,
            memory=memory,
            sram_base=self.near(count + 1),
            x_size=count,
            y_size=1,
            x_pad_1=self.number(0, 1),
            dram_base=at,
        )

    def micro_ops(self):
        count = self.number(1, 4)
        begin = self.number(0, 8)
        steps = [(self.near(6), self.near(6), self.number(0, 20)) for _ in range(count)]
        at = self.program.uops(steps)
        self.program.insn(
            Opcode.LOAD,
            memory=Memory.UOP,
            sram_base=begin,
            x_size=count,
            y_size=1,
            dram_base=at,
        )

    def loops(self, operands):
        begin, count = self.number(0, 8), (1, 1, self.number(1, 4))[self.number(0, 2)]
        fields = {"uop_begin": begin, "uop_end": begin + count}
        fields |= {"iter_out": self.number(1, 3), "iter_in": self.number(1, 3)}
        for operand in operands:
            step = self.number(0, 1)
            fields |= {f"{operand}_factor_out": step, f"{operand}_factor_in": step}
        return fields

    def gemm(self):
        operands = ("dst", "src", "wgt")
        self.program.insn(Opcode.GEMM, **self.loops(operands), reset=self.number(0, 3) == 0)

    def reset(self):
        fields = self.loops(("dst",))
        fields["uop_end"] = fields["uop_begin"] + 1
        self.program.insn(Opcode.GEMM, **fields, reset=1)

    def alu(self):
        more = {"alu_op": self.number(0, 4)}
        if self.number(0, 1):
            more |= {"use_imm": 1, "imm": self.number(-33, 33)}
        self.program.insn(Opcode.ALU, **self.loops(("dst", "src")), **more)

    def draw(self, count):
        """Append ``count`` instructions."""
        self.micro_ops()
        choices = (self.load, self.micro_ops, self.gemm, self.gemm, self.reset, self.alu, self.alu)
        for _ in range(count):
            choices[self.number(0, len(choices) - 1)]()


@pytest.mark.parametrize("seed", range(6))
def test_overlapping_units_work_as_if_one_after_the_other(
    seed, small, bench, golden, image, timing
):
    rng = np.random.default_rng(seed)
    program = image(small)
    fill(program, small, rng)
    # No micro-op is left undefined.
    micro_ops(program, [(int(n), int(n), int(n)) for n in rng.integers(0, 20, 16)])
    Overlaps(program, small, seed).draw(60)
    results(program, small)
    slow = timing(latency=(0, 12), idle=0.3 * (seed % 2), seed=seed)
    compare(program, small, bench, golden, timing=slow)
