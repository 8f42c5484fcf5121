"""What no program may do is a fault (VTA specification §9 row 13, §11; TEC specification §7)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ginseng.golden.port import Fatal
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import TOKEN_LIMIT, AluOp, Opcode, Queue

DEPTH = {m: CoreConfig().depth(m) for m in Memory}


def gemm(m: Any, **fields: int) -> bytes:
    return m.once(Opcode.GEMM, **fields)


def alu(m: Any, **fields: int) -> bytes:
    return m.once(Opcode.ALU, **fields)


def last_index(operand: int) -> Callable[[Any], None]:
    """Point the first micro-op's ``operand`` at the last element."""

    def prepare(m: Any) -> None:
        uop = [0, 0, 0]
        uop[operand] = DEPTH[(Memory.ACC, Memory.INP, Memory.WGT)[operand]] - 1
        m.uops(uop)

    return prepare


# Each row: what is broken, how UOP is prepared, a program that is just legal, one that is not.
LIMITS: dict[str, tuple[str, Any, Any, Any]] = {
    "LOAD range": (
        "INP index",
        None,
        lambda m: m.load(Memory.INP, DEPTH[Memory.INP] - 8, 0, x_size=2, x_pad_0=2, y_pad_1=1),
        lambda m: m.load(Memory.INP, DEPTH[Memory.INP] - 7, 0, x_size=2, x_pad_0=2, y_pad_1=1),
    ),
    "LOAD of padding only": (
        "ACC index",
        None,
        lambda m: m.load(Memory.ACC, DEPTH[Memory.ACC] - 15, 0, y_size=0, y_pad_0=15),
        lambda m: m.load(Memory.ACC, DEPTH[Memory.ACC] - 14, 0, y_size=0, y_pad_0=15),
    ),
    "LOAD WGT range": (
        "WGT index",
        None,
        lambda m: m.load(Memory.WGT, DEPTH[Memory.WGT] - 1, 0),
        lambda m: m.load(Memory.WGT, DEPTH[Memory.WGT], 0),
    ),
    "LOAD UOP range": (
        "UOP index",
        None,
        lambda m: m.load(Memory.UOP, 0, 0, x_size=DEPTH[Memory.UOP]),
        lambda m: m.load(Memory.UOP, 1, 0, x_size=DEPTH[Memory.UOP]),
    ),
    "LOAD ACC_8BIT range": (
        "index",
        None,
        lambda m: m.load(Memory.ACC_8BIT, DEPTH[Memory.ACC] - 3, 0, x_size=3),
        lambda m: m.load(Memory.ACC_8BIT, DEPTH[Memory.ACC] - 2, 0, x_size=3),
    ),
    "STORE range": (
        "ACC index",
        None,
        lambda m: m.store(DEPTH[Memory.ACC] - 6, 4096, x_size=2, y_size=3),
        lambda m: m.store(DEPTH[Memory.ACC] - 5, 4096, x_size=2, y_size=3),
    ),
    "GEMM dst": (
        "ACC index",
        last_index(0),
        lambda m: gemm(m, dst_factor_out=9, dst_factor_in=9),
        lambda m: gemm(m, dst_factor_in=1, iter_in=2),
    ),
    "GEMM dst of a reset": (
        "ACC index",
        last_index(0),
        lambda m: gemm(m, reset=1),
        lambda m: gemm(m, reset=1, dst_factor_out=1, iter_out=2),
    ),
    "GEMM src": (
        "INP index",
        last_index(1),
        lambda m: gemm(m, src_factor_in=1, iter_in=2, reset=1),
        lambda m: gemm(m, src_factor_in=1, iter_in=2),
    ),
    "GEMM wgt": (
        "WGT index",
        last_index(2),
        lambda m: gemm(m, wgt_factor_out=1, iter_out=2, reset=1),
        lambda m: gemm(m, wgt_factor_out=1, iter_out=2),
    ),
    "GEMM micro-op": (
        "UOP index",
        lambda m: m.core.pads.uop.fill(0),
        lambda m: gemm(m, uop_begin=DEPTH[Memory.UOP] - 1, uop_end=DEPTH[Memory.UOP]),
        lambda m: gemm(m, uop_begin=DEPTH[Memory.UOP] - 1, uop_end=DEPTH[Memory.UOP] + 1),
    ),
    "ALU dst": (
        "ACC index",
        last_index(0),
        lambda m: alu(m, alu_op=AluOp.ADD),
        lambda m: alu(m, alu_op=AluOp.ADD, dst_factor_in=1, iter_in=2),
    ),
    "ALU src": (
        "ACC index",
        last_index(1),
        lambda m: alu(m),
        lambda m: alu(m, src_factor_out=1, iter_out=2),
    ),
    "ALU src beside an immediate": (
        "ACC index",
        last_index(1),
        lambda m: alu(m, use_imm=1),
        lambda m: alu(m, use_imm=1, src_factor_out=1, iter_out=2),
    ),
    "LOAD memory id": (
        "memory id in LOAD",
        None,
        lambda m: m.load(Memory.ACC_8BIT, 0, 0),
        lambda m: m.load(Memory.OUT, 0, 0),
    ),
    "unknown memory id": (
        "memory id in LOAD",
        None,
        lambda m: m.insn(Opcode.LOAD, memory=6),
        lambda m: m.insn(Opcode.LOAD, memory=6, x_size=1, y_size=1),
    ),
    "STORE memory id": (
        "memory id in STORE",
        None,
        lambda m: m.store(0, 4096),
        lambda m: m.store(0, 4096, memory=Memory.ACC),
    ),
    "ALU opcode": (
        "ALU opcode",
        lambda m: m.uops((0, 0)),
        lambda m: alu(m, alu_op=4),
        lambda m: alu(m, alu_op=5),
    ),
    "LOAD from outside DRAM": (
        "bus error",
        None,
        lambda m: m.load(Memory.INP, 0, (1 << 20) - 32, x_size=2),
        lambda m: m.load(Memory.INP, 0, (1 << 20) - 16, x_size=2),
    ),
    "STORE to outside DRAM": (
        "bus error",
        None,
        lambda m: m.store(0, (1 << 20) - 16),
        lambda m: m.store(0, 1 << 20),
    ),
}


def with_finish(m: Any, word: bytes) -> list[bytes]:
    """Make FINISH wait for an instruction of whatever queue."""
    insn = m.isa.decode(word)
    if insn.queue is Queue.COMPUTE:
        return [word, m.finish()]
    push, pop = ("push_next", "pop_prev") if insn.queue is Queue.LOAD else ("push_prev", "pop_next")
    return [m.insn(insn.opcode, **insn.fields | {push: 1}), m.finish(**{pop: 1})]


@pytest.mark.parametrize("rule", LIMITS)
def test_the_last_legal_value_runs_and_the_next_is_a_fault(machine: Any, rule: str) -> None:
    cause, prepare, legal, illegal = LIMITS[rule]
    m = machine()
    if prepare:
        prepare(m)
    m.run(*with_finish(m, legal(m)))
    assert m.core.finished
    with pytest.raises(Fatal, match=cause):
        m.run(*with_finish(m, illegal(m)))
    assert not m.core.finished


def test_nothing_is_checked_of_a_gemm_or_alu_without_steps(machine: Any) -> None:
    m = machine()
    m.core.pads.uop.fill(0xFFFFFFFF)
    empty = ({"iter_out": 0}, {"iter_in": 0}, {"uop_begin": 5, "uop_end": 5}, {"uop_begin": 7})
    out_of_range = {"dst_factor_out": 2047, "iter_out": 16383, "uop_end": 1}
    for none in empty:
        m.run(
            m.insn(Opcode.GEMM, **{"iter_in": 1} | out_of_range | none),
            m.insn(Opcode.ALU, **{"iter_in": 1} | out_of_range | none),
            m.finish(),
        )
    assert m.core.counters.gemm_uops == m.core.counters.alu_uops == 0


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_an_illegal_opcode_is_a_fault(machine: Any, opcode: int) -> None:
    m = machine()
    with pytest.raises(Fatal, match="opcode"):
        m.run(opcode.to_bytes(16, "little"), m.finish())


def test_reserved_bits_are_ignored(machine: Any) -> None:
    m = machine()
    m.uops((1, 1))
    words = (m.load(Memory.ACC, 0, 0), m.once(Opcode.GEMM, reset=1), m.finish())
    reserved = (0x3F << 58, 1 << 63, ((1 << 121) - 1) << 7)
    m.run(
        *(
            (int.from_bytes(word, "little") | bits).to_bytes(16, "little")
            for word, bits in zip(words, reserved, strict=True)
        )
    )
    assert m.core.counters.insns == 3


@pytest.mark.parametrize("name", ["y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"])
def test_padding_on_a_store_is_a_fault(machine: Any, name: str) -> None:
    m = machine()
    with pytest.raises(Fatal, match="padding"):
        m.run(*with_finish(m, m.store(0, 4096, **{name: 1})))


@pytest.mark.parametrize(
    ("queue", "bit"),
    [
        (Queue.LOAD, "pop_prev"),
        (Queue.LOAD, "push_prev"),
        (Queue.STORE, "pop_next"),
        (Queue.STORE, "push_next"),
    ],
)
def test_a_token_bit_that_the_queue_has_no_counter_for_is_a_fault(
    machine: Any, queue: Queue, bit: str
) -> None:
    m = machine()
    with pytest.raises(Fatal, match=bit):
        m.run(*with_finish(m, m.nop(queue, **{bit: 1})))


@pytest.mark.parametrize("queue", [Queue.LOAD, Queue.COMPUTE, Queue.STORE])
def test_a_pop_that_nobody_pushes_for_ends_at_the_watchdog(machine: Any, queue: Queue) -> None:
    m = machine()
    bit = "pop_prev" if queue is Queue.STORE else "pop_next"
    program = [m.nop(queue, **{bit: 1})]
    if queue is not Queue.COMPUTE:
        push, pop = ("push_next", "pop_prev") if queue is Queue.LOAD else ("push_prev", "pop_next")
        program = [m.nop(queue, **{bit: 1, push: 1}), m.finish(**{pop: 1})]
    with pytest.raises(Fatal, match="watchdog"):
        m.run(*program)


@pytest.mark.parametrize("count", [0, 1])
def test_a_program_without_finish_ends_at_the_watchdog(machine: Any, count: int) -> None:
    m = machine()
    with pytest.raises(Fatal, match="watchdog"):
        m.run(*[m.nop(Queue.COMPUTE)] * count)


def test_a_token_counter_that_would_overflow_is_a_fault(machine: Any) -> None:
    m = machine(nbytes=1 << 21)
    pushes = m.place(m.nop(Queue.COMPUTE, push_next=1) * TOKEN_LIMIT + m.finish())
    m.core.start(pushes // 16, TOKEN_LIMIT + 1)
    m.core.run()
    assert m.core.tokens[Queue.COMPUTE, Queue.STORE] == TOKEN_LIMIT
    with pytest.raises(Fatal, match="saturation"):
        m.run(m.nop(Queue.COMPUTE, push_next=1), m.finish())


def test_fetching_beyond_dram_is_a_fault(machine: Any) -> None:
    m = machine()
    m.core.start((1 << 20) // 16, 1)
    with pytest.raises(Fatal, match="bus error"):
        m.core.run()


class TestStrictFinish:
    """The protected build's rule (monitor specification §3)."""

    def test_a_program_that_ends_as_it_should_runs(self, machine: Any) -> None:
        m = machine(strict_finish=True)
        m.run(
            m.nop(Queue.LOAD, push_next=1),
            m.nop(Queue.STORE, push_prev=1),
            m.nop(Queue.COMPUTE, pop_prev=1, pop_next=1),
            m.finish(),
        )
        assert m.core.finished

    @pytest.mark.parametrize("strict", [True, False])
    def test_finish_must_be_the_last_instruction(self, machine: Any, strict: bool) -> None:
        m = machine(strict_finish=strict)
        program = [m.finish(), m.nop(Queue.COMPUTE)]
        if strict:
            with pytest.raises(Fatal, match="last instruction"):
                m.run(*program)
        else:
            m.run(*program)
            assert m.core.counters.insns == 1

    @pytest.mark.parametrize("queue", [Queue.LOAD, Queue.STORE])
    def test_the_other_queues_must_be_idle(self, machine: Any, queue: Queue) -> None:
        bit = "pop_next" if queue is Queue.LOAD else "pop_prev"
        for strict in (False, True):
            m = machine(strict_finish=strict)
            program = [m.nop(queue, **{bit: 1}), m.finish()]
            if strict:
                with pytest.raises(Fatal, match="busy"):
                    m.run(*program)
            else:
                m.run(*program)

    def test_no_token_may_be_left(self, machine: Any) -> None:
        m = machine(strict_finish=True)
        with pytest.raises(Fatal, match="tokens"):
            m.run(m.nop(Queue.COMPUTE, push_prev=1), m.finish())

    def test_finish_may_push_no_token_either(self, machine: Any) -> None:
        m = machine(strict_finish=True)
        with pytest.raises(Fatal, match="tokens"):
            m.run(m.finish(push_next=1))


def test_a_fault_of_an_index_leaves_the_scratchpads_alone(machine: Any) -> None:
    m = machine()
    m.uops((2047, 0, 0))
    before = m.core.pads.acc.copy()
    with pytest.raises(Fatal):
        m.run(gemm(m, dst_factor_in=1, iter_in=2), m.finish())
    np.testing.assert_array_equal(m.core.pads.acc, before)
