import pytest

from ginseng.golden.port import Fatal
from ginseng.isa.config import Memory
from ginseng.isa.insn import Opcode

L, S, G, A = Opcode.LOAD, Opcode.STORE, Opcode.GEMM, Opcode.ALU

ONCE = {"uop_begin": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}


def load(memory, **fields):
    return (L, {"memory": memory, "x_size": 1, "x_stride": 1, "y_size": 1} | fields)


def store(**fields):
    return (S, {"memory": Memory.OUT, "x_size": 1, "x_stride": 1, "y_size": 1} | fields)


def illegal(config):
    """Yield a name and the instructions, after which the program would end well."""
    for memory in (Memory.UOP, Memory.INP, Memory.WGT, Memory.ACC, Memory.ACC_8BIT):
        home = Memory.ACC if memory is Memory.ACC_8BIT else memory
        depth, name = config.depth(home), memory.name
        yield f"{name} beyond the end", [load(memory, sram_base=depth)]
        yield f"{name} one row too many", [load(memory, sram_base=depth - 1, y_size=2, x_stride=0)]
        yield f"{name} padding beyond the end", [load(memory, sram_base=depth - 2, x_pad_1=2)]
        yield f"{name} far beyond", [load(memory, x_size=65535, y_size=65535, x_stride=0)]
        yield f"{name} nothing, beyond the end", [load(memory, sram_base=depth + 1, y_size=0)]
    for memory in (Memory.OUT, 6, 7):
        yield f"LOAD of memory {int(memory)}", [load(memory)]
    yield "STORE of INP", [store(memory=Memory.INP)]
    yield "STORE beyond the end", [store(sram_base=config.depth(Memory.ACC))]
    for pad in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"):
        yield f"STORE with {pad}", [store(**{pad: 1})]
    for bit in ("pop_prev", "push_prev"):
        yield f"load queue with {bit}", [(L, {"memory": Memory.INP, bit: 1})]
    for bit in ("pop_next", "push_next"):
        yield f"store queue with {bit}", [(S, {"memory": Memory.OUT, bit: 1})]
    uops = config.depth(Memory.UOP)
    for op in (G, A):
        name = op.name
        beyond = ONCE | {"uop_begin": uops - 1, "uop_end": uops + 1}
        yield f"{name} micro-op beyond the end", [(op, beyond)]
        for way in ("out", "in"):
            for operand in ("dst", "src", *(("wgt",) if op is G else ())):
                # The micro-op loaded below names the last element of each scratchpad.
                far = ONCE | {f"iter_{way}": 2, f"{operand}_factor_{way}": 1}
                yield f"{name} {operand} steps out, {way}", [(op, far)]
    far = ONCE | {"iter_in": 2, "src_factor_in": 1, "use_imm": 1, "imm": 1}
    yield "ALU unused src steps out", [(A, far)]
    for op in (5, 6, 7):
        yield f"ALU operation {op}", [(A, ONCE | {"alu_op": op})]
        yield f"ALU operation {op}, no steps", [(A, {"alu_op": op})]
    for bit in ("pop_prev", "pop_next"):
        yield f"a {bit} that nobody pushes", [(L, {"memory": Memory.UOP, bit: 1})]


def build(image, config, insns, finish=True):
    program = image(config)
    last = [config.depth(m) - 1 for m in (Memory.ACC, Memory.INP, Memory.WGT)]
    uop = program.uops([last])
    program.insn(*load(Memory.UOP, dram_base=uop)[:1], **load(Memory.UOP, dram_base=uop)[1])
    for opcode, fields in insns:
        if isinstance(opcode, bytes):
            program.raw(opcode)
        else:
            program.insn(opcode, **fields)
    if finish:
        program.insn(Opcode.FINISH)
    return program


def outcome_of(program, config, bench, golden, **options):
    address, count = program.close()
    model, gates = golden(config, **options), bench(config, **options)
    for dram in (model.dram, gates.dram):
        dram.bytes[: len(program.bytes)] = memoryview(bytes(program.bytes))
    try:
        model.run(address, count)
        cause = None
    except Fatal as fatal:
        cause = fatal.cause
    (outcome,) = gates.run([(address, count)], limit=2000)
    return cause, outcome


def cases():
    """Names only: the configuration is a fixture."""
    from ginseng.isa.config import CoreConfig

    return [name for name, _ in illegal(CoreConfig())]


@pytest.mark.parametrize("name", cases())
def test_what_the_golden_core_refuses_raises_a_fault(name, small, bench, golden, image):
    insns = dict(illegal(small))[name]
    # A queue other than compute is waited for by nobody: it must be given time to refuse.
    wait = [(L, {"memory": Memory.UOP, "pop_prev": 1})] if insns[0][0] in (L, S) else []
    cause, outcome = outcome_of(
        build(image, small, insns + wait, finish=True), small, bench, golden
    )
    assert cause is not None
    assert (outcome.done, outcome.fault) == (False, True)


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_an_illegal_opcode_raises_a_fault(opcode, small, bench, golden, image):
    program = build(image, small, [(bytes([opcode]) + bytes(15), {})])
    cause, outcome = outcome_of(program, small, bench, golden)
    assert cause == "illegal opcode"
    assert (outcome.done, outcome.fault) == (False, True)


def test_a_program_without_finish_raises_a_fault(small, bench, golden, image):
    cause, outcome = outcome_of(build(image, small, [], finish=False), small, bench, golden)
    assert cause == "watchdog"
    assert (outcome.done, outcome.fault) == (False, True)


def test_a_reset_step_may_name_inputs_that_do_not_exist(small, bench, golden, image):
    insns = [(G, ONCE | {"reset": 1, "iter_in": 3, "src_factor_in": 9, "wgt_factor_in": 7})]
    cause, outcome = outcome_of(build(image, small, insns), small, bench, golden)
    assert cause is None
    assert (outcome.done, outcome.fault) == (True, False)


@pytest.mark.parametrize(
    ("name", "insns"),
    [
        ("instructions after FINISH", [(Opcode.FINISH, {})]),
        ("a token left", [(L, {"memory": Memory.UOP, "push_next": 1})]),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_finish_is_strict_only_where_it_is_asked_for(
    name, insns, strict, small, bench, golden, image
):
    program = build(image, small, insns)
    cause, outcome = outcome_of(program, small, bench, golden, strict_finish=strict)
    assert (cause is not None) == strict
    assert (outcome.done, outcome.fault) == (not strict, strict)


def test_a_strict_finish_accepts_a_program_that_ends_well(small, bench, golden, image):
    cause, outcome = outcome_of(build(image, small, []), small, bench, golden, strict_finish=True)
    assert cause is None
    assert (outcome.done, outcome.fault) == (True, False)


@pytest.mark.parametrize("writer", ["load", "alu", "gemm"])
def test_a_write_to_accumulators_that_a_store_holds_raises_a_fault(
    writer, small, bench, image, timing
):
    last = small.depth(Memory.ACC) - 1
    write = {
        "load": load(Memory.ACC, sram_base=last),
        "alu": (A, ONCE | {"use_imm": 1}),
        "gemm": (G, ONCE | {"reset": 1}),
    }[writer]
    program = build(image, small, [])
    program.insns.pop()
    at = program.room(Memory.OUT, last + 1)
    # No token keeps the write after the store, which takes long on this memory.
    program.insn(S, **store(x_size=last + 1, dram_base=at, push_prev=1)[1])
    for _ in range(4):
        program.insn(write[0], **write[1])
    program.insn(L, memory=Memory.UOP, pop_next=1)
    program.insn(Opcode.FINISH)
    address, count = program.close()
    gates = bench(small, timing=timing(stall=0.9))
    gates.dram.bytes[: len(program.bytes)] = memoryview(bytes(program.bytes))
    (outcome,) = gates.run([(address, count)], limit=4000)
    assert (outcome.done, outcome.fault) == (False, True)


def test_a_failure_of_memory_raises_a_fault_for_ever(small, bench, image):
    program = build(image, small, [])
    address, count = program.close()
    gates = bench(small)
    gates.dram.bytes[: len(program.bytes)] = memoryview(bytes(program.bytes))
    gates.fail_at = 10
    first, second = gates.run([(address, count)] * 2, limit=200)
    assert (first.done, first.fault) == (False, True)
    assert (second.done, second.fault) == (False, True)
