"""Queues, tokens, two-phase loads and the store barrier (VTA specification §4; TEC §5)."""

from typing import Any

import numpy as np
import pytest

from ginseng.golden.port import Fatal
from ginseng.golden.vta import Kind, RandomScheduler, Step, stream_order
from ginseng.golden.vta.core import FETCH_INSNS
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp, Opcode, Queue


def only(core: Any, kind: Kind, queue: Queue | None = None) -> Step:
    """Return the enabled step of ``kind``, which must be there."""
    (step,) = (s for s in core.enabled() if s.kind is kind and queue in (None, s.queue))
    return step


def enabled(core: Any) -> set[tuple[Kind, Queue | None]]:
    return {(step.kind, step.queue) for step in core.enabled()}


def test_a_step_that_is_not_enabled_is_refused(machine: Any) -> None:
    m = machine()
    m.start(m.finish())
    with pytest.raises(ValueError, match="enabled step"):
        m.core.step(Step(Kind.SETTLE))


def test_tokens_survive_from_one_program_to_the_next(machine: Any) -> None:
    m = machine()
    m.run(m.nop(Queue.COMPUTE, push_next=1), m.finish(push_prev=1))
    assert sum(m.core.tokens.values()) == 2
    m.run(
        m.nop(Queue.LOAD, pop_next=1, push_next=1),
        m.nop(Queue.STORE, pop_prev=1, push_prev=1),
        m.finish(pop_prev=1, pop_next=1),
    )
    assert not any(m.core.tokens.values())


def test_scratchpads_survive_until_they_are_cleared(machine: Any) -> None:
    m = machine()
    pads = m.core.pads
    m.core.pads.acc[5] = 9
    m.uops((5, 5))
    m.run(m.once(Opcode.ALU, alu_op=AluOp.ADD), m.finish())
    m.run(m.once(Opcode.ALU, alu_op=AluOp.ADD), m.finish())
    assert set(pads.acc[5].flat) == {36}
    m.core.clear()
    assert not any(pad.any() for pad in (pads.acc, pads.inp, pads.wgt))
    assert pads.uop.any()
    m.core.clear_uops()
    assert not pads.uop.any()


def test_reset_zeroes_everything_and_forgets_the_program(machine: Any) -> None:
    m = machine()
    with pytest.raises(Fatal, match="watchdog"):
        m.run(m.nop(Queue.COMPUTE, push_next=1), m.nop(Queue.COMPUTE, pop_prev=1))
    m.core.reset()
    pads = m.core.pads
    assert not any(pad.any() for pad in (pads.uop, pads.inp, pads.wgt, pads.acc))
    assert not any(m.core.tokens.values())
    assert m.core.finished
    assert m.core.enabled() == []


def test_power_up_noise_depends_on_the_seed_alone(machine: Any) -> None:
    first, second = machine().core.pads, machine().core.pads
    np.testing.assert_array_equal(first.acc, second.acc)
    assert np.unique(first.inp).size == 256


def test_the_stream_is_fetched_piece_by_piece(machine: Any) -> None:
    m = machine()
    # The third piece holds illegal opcodes, which nobody looks at after FINISH.
    program = [m.nop(Queue.COMPUTE)] * (3 * FETCH_INSNS)
    program[FETCH_INSNS + 5] = m.finish()
    program[2 * FETCH_INSNS :] = [b"\x07" * 16] * FETCH_INSNS
    m.run(*program)
    assert m.core.counters.insns == FETCH_INSNS + 6
    program[FETCH_INSNS + 5] = m.nop(Queue.COMPUTE)
    with pytest.raises(Fatal, match="opcode"):
        m.run(*program)


class TestTwoPhaseLoads:
    def test_data_are_there_at_once_but_the_token_waits_for_verification(
        self, machine: Any
    ) -> None:
        m = machine(slow=True)
        at = m.place(bytes(range(16)))
        m.start(m.load(Memory.INP, 0, at, push_next=1), m.finish(pop_prev=1))
        core = m.core
        core.step(only(core, Kind.FETCH))
        core.step(only(core, Kind.ISSUE, Queue.LOAD))
        assert core.pads.inp[0, 0].tolist() == [*range(16)]
        assert enabled(core) == {(Kind.SETTLE, None)}
        core.step(only(core, Kind.SETTLE))
        assert enabled(core) == {(Kind.RETIRE, Queue.LOAD)}
        core.step(only(core, Kind.RETIRE))
        assert enabled(core) == {(Kind.ISSUE, Queue.COMPUTE)}

    def test_loads_overlap_and_complete_in_order_no_ops_too(self, machine: Any) -> None:
        m = machine(slow=True)
        load = m.load(Memory.WGT, 0, 0, push_next=1)
        nop = m.nop(Queue.LOAD, push_next=1)
        m.start(load, load, nop, *[m.nop(Queue.COMPUTE, pop_prev=1)] * 3, m.finish())
        core = m.core
        core.step(only(core, Kind.FETCH))
        for _ in range(3):
            core.step(only(core, Kind.ISSUE, Queue.LOAD))
        assert enabled(core) == {(Kind.SETTLE, None)}
        core.step(only(core, Kind.SETTLE))
        core.step(only(core, Kind.RETIRE))
        assert (Kind.RETIRE, Queue.LOAD) not in enabled(core)
        core.step(only(core, Kind.SETTLE))
        retired = []
        while any(s.kind is Kind.RETIRE for s in core.enabled()):
            step = only(core, Kind.RETIRE)
            retired.append(step.index)
            core.step(step)
        assert retired == [1, 2]
        core.run()
        assert not any(core.tokens.values())

    def test_the_compute_queue_waits_for_its_own_load(self, machine: Any) -> None:
        m = machine(slow=True)
        m.start(m.load(Memory.ACC, 0, 0), m.finish())
        m.core.step(only(m.core, Kind.FETCH))
        m.core.step(only(m.core, Kind.ISSUE))
        assert enabled(m.core) == {(Kind.SETTLE, None)}
        m.core.step(only(m.core, Kind.SETTLE))
        assert enabled(m.core) == {(Kind.RETIRE, Queue.COMPUTE)}

    def test_a_load_of_padding_only_reads_nothing(self, machine: Any) -> None:
        m = machine(slow=True)
        m.run(m.load(Memory.ACC, 0, 0, y_size=0, y_pad_0=2), m.finish())
        assert m.port.issued == 0
        assert not m.core.pads.acc[:2].any()

    def test_a_forged_read_stops_the_program_when_it_is_settled(self, machine: Any) -> None:
        m = machine(slow=True)
        m.port.forged = {2}
        with pytest.raises(Fatal, match="tag mismatch"):
            m.run(m.load(Memory.ACC, 0, 0), m.load(Memory.ACC, 0, 0), m.finish())


class TestStoreBarrier:
    """Against programs that drop the tokens which would have ordered them."""

    def begin(self, machine: Any, *words: bytes) -> Any:
        machine.start(*words)
        machine.core.step(only(machine.core, Kind.FETCH))
        return machine.core

    @pytest.mark.parametrize("writer", ["GEMM", "reset", "ALU", "LOAD"])
    def test_a_store_waits_for_every_load_issued_before_the_last_write_to_acc(
        self, machine: Any, writer: str
    ) -> None:
        m = machine(slow=True)
        m.uops((0, 0, 0))
        compute = {
            "GEMM": m.once(Opcode.GEMM),
            "reset": m.once(Opcode.GEMM, reset=1),
            "ALU": m.once(Opcode.ALU, alu_op=AluOp.ADD),
            "LOAD": m.load(Memory.ACC, 0, 0),
        }[writer]
        core = self.begin(m, m.load(Memory.INP, 0, 0), m.store(0, 4096), compute)
        core.step(only(core, Kind.ISSUE, Queue.LOAD))
        core.step(only(core, Kind.ISSUE, Queue.COMPUTE))
        core.step(only(core, Kind.ISSUE, Queue.STORE))
        reads = 2 if writer == "LOAD" else 1
        assert m.port.issued == reads
        for _ in range(reads):
            assert (Kind.TRANSFER, Queue.STORE) not in enabled(core)
            core.step(only(core, Kind.SETTLE))
        core.step(only(core, Kind.TRANSFER))
        assert m.port.writes == [(reads, reads)]

    def test_a_store_that_samples_first_does_not_wait_for_later_loads(self, machine: Any) -> None:
        m = machine(slow=True)
        core = self.begin(m, m.load(Memory.INP, 0, 0), m.store(0, 4096))
        core.step(only(core, Kind.ISSUE, Queue.STORE))
        core.step(only(core, Kind.ISSUE, Queue.LOAD))
        core.step(only(core, Kind.TRANSFER))
        assert m.port.writes == [(0, 0)]

    def test_loading_micro_ops_does_not_hold_a_store(self, machine: Any) -> None:
        m = machine(slow=True)
        core = self.begin(m, m.load(Memory.UOP, 0, 0), m.store(0, 4096))
        core.step(only(core, Kind.ISSUE, Queue.COMPUTE))
        core.step(only(core, Kind.ISSUE, Queue.STORE))
        assert (Kind.TRANSFER, Queue.STORE) in enabled(core)

    @pytest.mark.parametrize("writer", ["GEMM", "ALU", "LOAD"])
    @pytest.mark.parametrize(("element", "fatal"), [(3, False), (4, True), (5, True), (6, False)])
    def test_from_sample_to_last_beat_a_write_into_its_range_is_a_fault(
        self, machine: Any, writer: str, element: int, fatal: bool
    ) -> None:
        m = machine(slow=True)
        m.uops((element, 0, 0))
        compute = {
            "GEMM": m.once(Opcode.GEMM, reset=1),
            "ALU": m.once(Opcode.ALU, use_imm=1),
            "LOAD": m.load(Memory.ACC, element, 0),
        }[writer]
        core = self.begin(m, m.store(4, 4096, x_size=2), compute)
        core.step(only(core, Kind.ISSUE, Queue.STORE))
        if fatal:
            with pytest.raises(Fatal, match="store holds"):
                core.step(only(core, Kind.ISSUE, Queue.COMPUTE))
        else:
            core.step(only(core, Kind.ISSUE, Queue.COMPUTE))
        m.core.reset()
        core = self.begin(m, m.store(4, 4096, x_size=2), compute)
        core.step(only(core, Kind.ISSUE, Queue.STORE))
        core.step(only(core, Kind.TRANSFER))
        core.step(only(core, Kind.ISSUE, Queue.COMPUTE))

    def test_clearing_acc_clears_its_taint(self, machine: Any) -> None:
        m = machine(slow=True)
        m.run(m.load(Memory.ACC, 0, 0), m.finish())
        assert m.core.acc_taint == 1
        m.core.clear()
        assert m.core.acc_taint == 0


@pytest.mark.parametrize("queue", [Queue.LOAD, Queue.STORE])
def test_a_strict_finish_does_not_overtake_what_another_queue_has_begun(
    machine: Any, queue: Queue
) -> None:
    m = machine(slow=True, strict_finish=True)
    m.start(m.load(Memory.INP, 0, 0) if queue is Queue.LOAD else m.store(0, 4096), m.finish())
    m.core.step(only(m.core, Kind.FETCH))
    m.core.step(only(m.core, Kind.ISSUE, queue))
    with pytest.raises(Fatal, match="busy"):
        m.core.step(only(m.core, Kind.ISSUE, Queue.COMPUTE))


def test_a_store_without_rows_asks_the_port_for_nothing(machine: Any) -> None:
    m = machine(slow=True)
    m.run(m.store(0, 4096, y_size=0, push_prev=1), m.finish(pop_next=1))
    assert m.port.writes == []


def test_stream_order_finishes_what_has_begun_before_it_starts_anything() -> None:
    steps = [
        Step(Kind.FETCH),
        Step(Kind.ISSUE, Queue.LOAD, 7),
        Step(Kind.ISSUE, Queue.COMPUTE, 3),
        Step(Kind.TRANSFER, Queue.STORE, 9),
        Step(Kind.SETTLE),
    ]
    order = []
    while steps:
        order.append(stream_order(steps))
        steps.remove(order[-1])
    assert [(s.kind, s.index) for s in order] == [
        (Kind.SETTLE, 0),
        (Kind.TRANSFER, 9),
        (Kind.ISSUE, 3),
        (Kind.ISSUE, 7),
        (Kind.FETCH, 0),
    ]


def test_dropped_tokens_are_a_race_that_some_schedule_shows(machine: Any) -> None:
    results = set()
    for seed in range(20):
        m = machine()
        m.place(bytes([1] * 16))
        m.core.pads.inp[0] = 0
        m.core.pads.wgt[0] = 1
        m.core.pads.acc[0] = 0
        m.uops((0, 0, 0))
        m.run(
            m.load(Memory.INP, 0, 0),
            m.once(Opcode.GEMM),
            m.finish(),
            scheduler=RandomScheduler(seed),
        )
        results.add(int(m.core.pads.acc[0, 0, 0]))
    assert results == {0, 16}
