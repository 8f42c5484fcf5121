"""Random legal programs: one result, whatever the schedule, and it is the specification's."""

from typing import Any

import numpy as np
import pytest

from ginseng.bench.programs import Program, random_program
from ginseng.golden.port import Fatal
from ginseng.golden.vta import RandomScheduler, Scheduler
from ginseng.isa.config import NAMED_CORES, CoreConfig, Memory
from ginseng.isa.insn import Opcode, Queue, instruction_set
from ginseng.isa.legality import check_program

TINY = CoreConfig(
    log_batch=1,
    log_block=1,
    log_uop_buff_size=5,
    log_inp_buff_size=5,
    log_wgt_buff_size=5,
    log_acc_buff_size=7,
)
CONFIGS = {**NAMED_CORES, "tiny": TINY}


def outcome(machine: Any, program: Program, scheduler: Scheduler | None, **how: Any) -> Any:
    """Return the image after ``program``."""
    m = machine(config=program.config, nbytes=len(program.image), **how)
    m.dram.bytes[:] = program.image
    m.core.start(program.insn_addr // 16, program.insn_count)
    m.core.run(scheduler)
    return m.dram.bytes


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(12))
def test_every_schedule_of_a_legal_program_gives_what_stream_order_gives(
    machine: Any, naive: Any, name: str, seed: int
) -> None:
    program = random_program(CONFIGS[name], seed)
    right = naive(program.config, program.image).run(program.insn_addr, program.insn_count)
    assert (right != program.image).any()
    for scheduler, slow in (
        (None, False),
        (RandomScheduler(seed), False),
        (RandomScheduler(9), True),
    ):
        # Strict: a legal program leaves no token and FINISH is its last act.
        after = outcome(machine, program, scheduler, slow=slow, strict_finish=True)
        np.testing.assert_array_equal(after, right)


def test_the_generator_is_repeatable_and_uses_the_whole_instruction_set() -> None:
    seen: set[Any] = set()
    for seed in range(60):
        program = random_program(CoreConfig(), seed)
        np.testing.assert_array_equal(program.image, random_program(CoreConfig(), seed).image)
        begin, end = program.insn_addr, program.insn_addr + 16 * program.insn_count
        for insn in instruction_set(CoreConfig()).decode_stream(program.image[begin:end].tobytes()):
            seen.add(insn.opcode)
            seen.add((insn.queue, "nop") if insn.is_nop else insn.queue)
            seen |= {(insn.queue, bit) for bit in insn.fields if "p" in bit and insn[bit]}
            if insn.opcode is Opcode.ALU:
                seen.add(("op", insn["alu_op"], insn["use_imm"]))
            if insn.opcode is Opcode.GEMM:
                seen.add(("reset", insn["reset"]))
            if insn.opcode is Opcode.LOAD and not insn.is_nop:
                seen.add(("memory", insn["memory"]))
    assert seen >= set(Opcode)
    assert seen >= set(Queue) | {(queue, "nop") for queue in Queue}
    assert seen >= {("op", op, imm) for op in range(5) for imm in (0, 1)}
    assert seen >= {("memory", m) for m in Memory if m is not Memory.OUT}
    assert seen >= {("reset", 0), ("reset", 1)}
    tokens = {Queue.LOAD: "next", Queue.STORE: "prev"}
    for queue, side in tokens.items():
        assert seen >= {(queue, f"pop_{side}"), (queue, f"push_{side}")}
    sides = [f"{way}_{side}" for way in ("pop", "push") for side in ("prev", "next")]
    assert seen >= {(Queue.COMPUTE, bit) for bit in sides}
    pads = ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")
    assert seen >= {(Queue.LOAD, pad) for pad in pads} | {(Queue.COMPUTE, pad) for pad in pads}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_checker_of_the_contract_finds_nothing_in_them(name: str) -> None:
    for seed in range(20):
        program = random_program(CONFIGS[name], seed, length=40)
        begin, end = program.insn_addr, program.insn_addr + 16 * program.insn_count
        words, dram = program.image[begin:end].tobytes(), program.image.tobytes()
        assert check_program(words, program.config, dram=dram) == []


def test_without_their_tokens_the_same_programs_race(machine: Any) -> None:
    isa = instruction_set(CoreConfig())
    wrong = 0
    for seed in range(8):
        program = random_program(CoreConfig(), seed)
        right = outcome(machine, program, None).copy()
        begin, end = program.insn_addr, program.insn_addr + 16 * program.insn_count
        stripped = b"".join(
            isa.encode(
                insn.opcode,
                **{k: v for k, v in insn.fields.items() if k[:4] not in ("pop_", "push")},
            )
            for insn in isa.decode_stream(program.image[begin:end].tobytes())
        )
        image = program.image.copy()
        image[begin:end] = np.frombuffer(stripped, np.uint8)
        racy = Program(program.config, image, program.insn_addr, program.insn_count)
        try:
            after = outcome(machine, racy, RandomScheduler(seed))
        except Fatal:
            wrong += 1
        else:
            data = np.ones(len(image), bool)
            data[begin:end] = False
            wrong += bool((after != right)[data].any())
    assert wrong >= 6
