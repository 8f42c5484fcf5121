import numpy as np
import pytest

from ginseng.driver import BareDriver
from ginseng.driver.boards.model import ModelBoard
from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES, Opcode, instruction_set
from ginseng.secureos.attacks import ATTACKS, run_attacks
from ginseng.secureos.errors import AttackError

DEVICE = {
    "bit flip in the weights",
    "bit flip in the program",
    "bit flip in the input",
    "two chunks swapped",
    "old input replayed",
    "memory rolled back by one run",
    "memory rolled back to an earlier session",
}


def test_every_attack_is_stopped_by_whom_it_should_be(session, tiny, samples):
    results = {result.name: result for result in run_attacks(session, samples)}
    assert set(results) == set(ATTACKS)
    for name, result in results.items():
        assert (result.outcome, result.by) == (
            ("fatal", "device")
            if name in DEVICE
            else ("refused", "model owner" if "own key" in name else "data owner")
        ), name
        assert result.reason
    assert "pcr7" in results["the host's own key in the result's slot"].reason
    assert (session.infer(samples) == tiny(samples)).all(), "the session is open again"


def test_an_attack_that_nobody_notices_is_an_error(session, samples, monkeypatch):
    monkeypatch.setattr(
        "ginseng.secureos.attacks.ATTACKS", {"nothing": lambda session, samples: None}
    )
    with pytest.raises(AttackError, match="not noticed"):
        run_attacks(session, samples)


def test_an_unknown_attack_is_refused(session, samples):
    with pytest.raises(AttackError, match="not known"):
        run_attacks(session, samples, names=["magic"])


def test_without_protection_the_same_flip_changes_results_silently(bare_config):
    """The control: what the device stops is real. Weights of a bare program are flipped."""
    encode = instruction_set(bare_config.core).encode

    def move(opcode, memory, **tokens):
        return encode(opcode, memory=int(memory), y_size=1, x_size=1, x_stride=1, **tokens)

    program = b"".join(
        (
            move(Opcode.LOAD, Memory.INP),
            move(Opcode.LOAD, Memory.WGT, push_next=1),
            move(Opcode.LOAD, Memory.UOP),
            encode(Opcode.GEMM, uop_end=1, iter_out=1, iter_in=1, reset=1),
            encode(Opcode.GEMM, uop_end=1, iter_out=1, iter_in=1, pop_prev=1, push_next=1),
            move(Opcode.STORE, Memory.OUT, pop_prev=1, push_prev=1),
            encode(Opcode.LOAD, memory=int(Memory.UOP), pop_next=1),
            encode(Opcode.FINISH),
        )
    )
    with ModelBoard(bare_config) as board:
        code, uop, inp, wgt, out = (board.allocate(4096) for _ in range(5))
        code.view[: len(program)] = np.frombuffer(program, np.uint8)
        inp.view[:16] = 1
        wgt.view[:256] = 2
        bases = {
            "uop_base": uop.address,
            "inp_base": inp.address,
            "wgt_base": wgt.address,
            "out_base": out.address,
        }
        driver = BareDriver(board)
        driver.run(code.address, len(program) // INSN_BYTES, **bases)
        assert (out.view[:16] == 32).all()
        wgt.view[0] ^= 1
        driver.run(code.address, len(program) // INSN_BYTES, **bases)
        assert out.view[0] == 33, "no fault, another result"
