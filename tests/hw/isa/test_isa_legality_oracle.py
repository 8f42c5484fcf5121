"""The checker against two oracles: every access listed one by one, and the golden core."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.bench.programs import random_program
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Fatal
from ginseng.golden.vta import Core, RandomScheduler
from ginseng.isa.config import NAMED_CORES, BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, AluOp, Instruction, Opcode, Queue, instruction_set
from ginseng.isa.legality import Rule, check_program

UOP_COUNT = 8
DATA_AT, DRAM_BYTES = 64, 192

#: Who pushes and pops what (VTA specification §4), as (from, to).
POPS = {
    (Queue.LOAD, "pop_next"): (Queue.COMPUTE, Queue.LOAD),
    (Queue.COMPUTE, "pop_prev"): (Queue.LOAD, Queue.COMPUTE),
    (Queue.COMPUTE, "pop_next"): (Queue.STORE, Queue.COMPUTE),
    (Queue.STORE, "pop_prev"): (Queue.COMPUTE, Queue.STORE),
}
PUSHES = {
    (Queue.LOAD, "push_next"): (Queue.LOAD, Queue.COMPUTE),
    (Queue.COMPUTE, "push_prev"): (Queue.COMPUTE, Queue.LOAD),
    (Queue.COMPUTE, "push_next"): (Queue.COMPUTE, Queue.STORE),
    (Queue.STORE, "push_prev"): (Queue.STORE, Queue.COMPUTE),
}


def small_program(config: CoreConfig, seed: int) -> tuple[bytes, bytes]:
    """Random instructions inside every range, tokens where stream order allows them."""
    rng = random.Random(seed)
    isa = instruction_set(config)
    uops = [
        isa.uop.pack(dst=rng.randrange(4), src=rng.randrange(4), wgt=rng.randrange(2))
        for _ in range(UOP_COUNT)
    ]
    tokens = dict.fromkeys(PUSHES.values(), 0)
    words = [isa.encode(Opcode.LOAD, memory=Memory.UOP, y_size=1, x_size=UOP_COUNT)]
    for _ in range(rng.randrange(4, 14)):
        kind = rng.choice((*[Opcode.LOAD] * 3, Opcode.GEMM, Opcode.ALU, Opcode.STORE))
        if kind in (Opcode.LOAD, Opcode.STORE):
            memory = Memory.OUT
            if kind is Opcode.LOAD:
                memory = rng.choice((Memory.INP, Memory.WGT, Memory.ACC, Memory.ACC_8BIT))
            unit = config.element_bytes(memory)
            rows, columns = rng.choice(((1, 1), (1, 2), (2, 1), (2, 2)))
            fields: dict[str, int] = {
                "memory": memory,
                "sram_base": 0 if memory is Memory.WGT else rng.randrange(5),
                "dram_base": rng.randrange(DATA_AT // unit, (DRAM_BYTES - 40) // unit),
                "y_size": rows,
                "x_size": rng.choice((0, columns, columns)),
                "x_stride": rng.randrange(4),
            }
        else:
            begin = rng.randrange(UOP_COUNT - 1)
            fields = {
                "uop_begin": begin,
                "uop_end": begin + rng.randrange(3),
                "iter_out": rng.randrange(3),
                "iter_in": rng.randrange(3),
            }
            for name in ("dst", "src", "wgt"):
                for loop in ("out", "in"):
                    if name != "wgt" or kind is Opcode.GEMM:
                        fields[f"{name}_factor_{loop}"] = rng.randrange(2)
            if kind is Opcode.GEMM:
                fields["reset"] = rng.randrange(2)
            else:
                fields |= {"alu_op": rng.choice(list(AluOp)), "use_imm": rng.randrange(2)}
        queue = Instruction(kind, fields).queue
        for (owner, bit), counter in POPS.items():
            if owner is queue and tokens[counter] and rng.random() < 0.6:
                fields[bit] = 1
                tokens[counter] -= 1
        for (owner, bit), counter in PUSHES.items():
            if owner is queue and rng.random() < 0.5:
                fields[bit] = 1
                tokens[counter] += 1
        words.append(isa.encode(kind, **fields))
    return b"".join(words), b"".join(uops).ljust(DRAM_BYTES, b"\0")


def accesses(config: CoreConfig, insn: Instruction, uops: list[dict[str, int]]) -> Any:
    """List what an instruction reads and writes, in order: (write?, memory or "dram", element)."""
    if insn.opcode in (Opcode.LOAD, Opcode.STORE):
        unit = config.element_bytes(Memory(insn["memory"]))
        pad = Memory.ACC if insn["memory"] in (Memory.OUT, Memory.ACC_8BIT) else insn["memory"]
        is_load = insn.opcode is Opcode.LOAD
        for r in range(insn["y_size"]):
            for c in range(insn["x_size"]):
                start = (insn["dram_base"] + r * insn["x_stride"] + c) * unit
                for byte in range(start, start + unit):
                    yield (not is_load, "dram", byte)
                yield (is_load, Memory(pad), insn["sram_base"] + r * insn["x_size"] + c)
        return
    for o in range(insn["iter_out"]):
        for n in range(insn["iter_in"]):
            for u in range(insn["uop_begin"], insn["uop_end"]):
                yield (False, Memory.UOP, u)
                d, s, w = (
                    uops[u][k]
                    + o * insn.fields.get(f"{k}_factor_out", 0)
                    + n * insn.fields.get(f"{k}_factor_in", 0)
                    for k in ("dst", "src", "wgt")
                )
                if insn.opcode is Opcode.ALU:
                    if not insn["use_imm"]:
                        yield (False, Memory.ACC, s)
                    yield (False, Memory.ACC, d)
                elif not insn["reset"]:
                    yield (False, Memory.INP, s)
                    yield (False, Memory.WGT, w)
                    yield (False, Memory.ACC, d)
                yield (True, Memory.ACC, d)


def oracle(config: CoreConfig, code: bytes, image: bytes) -> set[tuple[int, Rule]]:
    """Find races and uninitialised reads by the definition: pairs of accesses, sets of before."""
    isa = instruction_set(config)
    uops = [isa.uop.unpack(image[4 * n : 4 * n + 4]) for n in range(UOP_COUNT)]
    insns = list(isa.decode_stream(code))
    before: list[set[int]] = []
    pushed: dict[Any, list[int]] = {counter: [] for counter in PUSHES.values()}
    popped = dict.fromkeys(pushed, 0)
    touched: list[list[Any]] = []
    found: set[tuple[int, Rule]] = set()
    known: set[Any] = {(Memory.UOP, n) for n in range(UOP_COUNT)}
    for j, insn in enumerate(insns):
        earlier = [i for i in range(j) if insns[i].queue is insn.queue][-1:]
        for (owner, bit), counter in POPS.items():
            if owner is insn.queue and insn[bit]:
                earlier.append(pushed[counter][popped[counter]])
                popped[counter] += 1
        before.append(set(earlier).union(*(before[i] for i in earlier)))
        for (owner, bit), counter in PUSHES.items():
            if owner is insn.queue and insn[bit]:
                pushed[counter].append(j)
        touched.append(list(accesses(config, insn, uops)))
        for write, memory, element in touched[j]:
            if memory != "dram" and not write and (memory, element) not in known:
                found.add((j, Rule.UNINITIALISED))
        known |= {(memory, element) for _, memory, element in touched[j] if memory != "dram"}
        written = {(m, e) for write, m, e in touched[j] if write}
        read = {(m, e) for write, m, e in touched[j] if not write}
        for i in set(range(j)) - before[j]:
            if insns[i].queue is insn.queue:
                continue
            wrote = {(m, e) for write, m, e in touched[i] if write}
            saw = {(m, e) for write, m, e in touched[i] if not write}
            if wrote & (written | read) or saw & written:
                found.add((j, Rule.RACE))
    return found


@settings(max_examples=400, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 48))
def test_races_and_uninitialised_reads_are_those_of_the_definition(
    tiny: CoreConfig, seed: int
) -> None:
    code, image = small_program(tiny, seed)
    found = {(f.index, f.rule) for f in check_program(code, tiny, dram=image)}
    rules = {Rule.RACE, Rule.UNINITIALISED}
    assert {entry for entry in found if entry[1] in rules} == oracle(tiny, code, image)
    assert {rule for _, rule in found} - rules <= {Rule.TOKEN_LEFT, Rule.FINISH}


def test_random_programs_hold_every_kind_of_finding(tiny: CoreConfig) -> None:
    """The property above means something: findings of both kinds, and their absence, are common."""
    kinds = []
    for seed in range(100):
        code, image = small_program(tiny, seed)
        kinds.append({rule for _, rule in oracle(tiny, code, image)})
    for rule in (Rule.RACE, Rule.UNINITIALISED):
        assert 10 < sum(rule in kind for kind in kinds) < 100


def execute(config: CoreConfig, program: Any, code: bytes, seed: int | None) -> Any:
    """Run on the golden core under its strictest rules; return DRAM after."""
    dram = Dram(0, len(program.image))
    dram.bytes[:] = program.image
    end = program.insn_addr + len(code)
    dram.bytes[program.insn_addr : end] = np.frombuffer(code, np.uint8)
    # Different noise at power-up in each run: a read of what nothing wrote shows.
    core = Core(config, PlainPort(dram, config, BusConfig()), strict_finish=True, seed=seed or 0)
    core.start(program.insn_addr // INSN_BYTES, len(code) // INSN_BYTES)
    core.run(None if seed is None else RandomScheduler(seed))
    return dram.bytes


def code_of(program: Any) -> bytes:
    end = program.insn_addr + program.insn_count * INSN_BYTES
    code: bytes = program.image[program.insn_addr : end].tobytes()
    return code


@pytest.mark.parametrize("name", NAMED_CORES)
def test_random_legal_programs_are_legal(name: str) -> None:
    config = NAMED_CORES[name]
    for seed in range(8):
        program = random_program(config, seed, length=40)
        found = check_program(
            code_of(program),
            config,
            dram=program.image.tobytes(),
            instructions_at=program.insn_addr,
        )
        assert list(map(str, found)) == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_program_without_findings_has_one_result_on_the_golden_core(data: st.DataObject) -> None:
    """One field of a legal program changes; if the checker still agrees, so does every schedule."""
    config = CoreConfig()
    program = random_program(config, data.draw(st.integers(0, 5)), length=12)
    code = bytearray(code_of(program))
    isa = instruction_set(config)
    index = data.draw(st.integers(0, program.insn_count - 1))
    word = bytes(code[index * INSN_BYTES : (index + 1) * INSN_BYTES])
    insn = isa.decode(word)
    codec = isa.codecs[insn.opcode]
    field = data.draw(st.sampled_from(sorted(insn.fields)))
    low, high = codec.bounds(field)
    value = data.draw(st.integers(low, high) | st.integers(max(low, 0), min(high, 3)))
    changed = isa.encode(insn.opcode, **(insn.fields | {field: value}))
    code[index * INSN_BYTES : (index + 1) * INSN_BYTES] = changed
    found = check_program(
        bytes(code),
        config,
        dram=program.image.tobytes(),
        instructions_at=program.insn_addr,
    )
    if found:
        return
    try:
        results = [execute(config, program, bytes(code), seed) for seed in (None, 1, 2)]
    except Fatal as fault:
        raise AssertionError(f"{insn.opcode.name}.{field} = {value}: {fault.cause}") from fault
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
