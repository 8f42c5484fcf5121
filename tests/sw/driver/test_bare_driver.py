import numpy as np
import pytest

from ginseng.driver import BareDriver, BoardError, DeviceTimeoutError, ProgramFaultError
from ginseng.driver.boards.model import ModelBoard
from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES, AluOp, Opcode, instruction_set


def add_seven(config, acc_at, out_at):
    """Return a program that adds 7 to one accumulator; addresses are bytes."""
    core = config.core
    encode = instruction_set(core).encode
    acc, out = core.element_bytes(Memory.ACC), core.element_bytes(Memory.OUT)

    def memory(opcode, kind, at, **tokens):
        return encode(
            opcode, memory=int(kind), dram_base=at, y_size=1, x_size=1, x_stride=1, **tokens
        )

    return b"".join(
        (
            memory(Opcode.LOAD, Memory.UOP, 0),
            memory(Opcode.LOAD, Memory.ACC, acc_at // acc),
            encode(
                Opcode.ALU,
                uop_begin=0,
                uop_end=1,
                iter_out=1,
                iter_in=1,
                alu_op=int(AluOp.ADD),
                use_imm=1,
                imm=7,
                push_next=1,
            ),
            memory(Opcode.STORE, Memory.OUT, out_at // out, pop_prev=1, push_prev=1),
            encode(Opcode.LOAD, memory=int(Memory.UOP), pop_next=1),
            encode(Opcode.FINISH),
        )
    )


@pytest.fixture
def board(bare_config):
    with ModelBoard(bare_config) as board:
        yield board


@pytest.fixture
def loaded(board):
    """Return the arguments of `run`, and the buffer that it stores to."""
    code, uops, acc, out = (board.allocate(4096) for _ in range(4))
    window = board.config.bus.window_base
    program = add_seven(board.config, 0, 0)
    code.view[: len(program)] = np.frombuffer(program, np.uint8)
    values = np.arange(-8, 8, dtype="<i4")
    acc.view[:64] = values.view(np.uint8)
    assert window
    bases = {"uop_base": uops.address, "acc_base": acc.address, "out_base": out.address}
    return code.address, len(program) // INSN_BYTES, bases, out, values


def test_a_plain_program_runs_and_stores(board, loaded):
    address, count, bases, out, values = loaded
    cycles = BareDriver(board).run(address, count, **bases)
    assert cycles >= 0
    assert out.view[:16].view(np.int8).tolist() == (values + 7).tolist()


def test_a_second_run_needs_no_reset(board, loaded):
    address, count, bases, out, _ = loaded
    driver = BareDriver(board)
    driver.run(address, count, **bases)
    out.view[:] = 0
    driver.run(address, count, **bases)
    assert out.view[:16].any()


def test_an_illegal_program_faults_until_a_reset(board, loaded):
    address, count, bases, out, _ = loaded
    bad = board.allocate(16)
    bad.view[:] = 0xFF
    driver = BareDriver(board)
    for _ in range(2):
        with pytest.raises(ProgramFaultError, match="broke a rule"):
            driver.run(bad.address, 1, **bases)
    with pytest.raises(ProgramFaultError, match="or an earlier one did"):
        driver.run(address, count, **bases)
    driver.reset()
    driver.run(address, count, **bases)
    assert out.view[:16].any()


def test_a_program_that_never_ends_is_a_time_out(board, loaded):
    class Stuck:
        """A board whose device never finishes."""

        config, name = board.config, board.name

        def read(self, offset):
            return 0

        def write(self, offset, value):
            pass

        def wait(self, ready, *, timeout):
            board.wait(ready, timeout=timeout)

    address, count, bases, *_ = loaded
    with pytest.raises(DeviceTimeoutError):
        BareDriver(Stuck()).run(address, count, **bases, timeout=0.01)


def test_a_protected_build_is_refused(config):
    with ModelBoard(config) as board, pytest.raises(BoardError, match="tec=None"):
        BareDriver(board)
