"""GEMM and ALU, however they are vectorised, against loops written from the specification."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.isa.config import NAMED_CORES, CoreConfig, Memory
from ginseng.isa.insn import AluOp, Opcode

SMALL = CoreConfig(
    log_batch=2,
    log_block=1,
    log_uop_buff_size=8,
    log_inp_buff_size=7,
    log_wgt_buff_size=6,
    log_acc_buff_size=9,
)
CONFIGS = [*NAMED_CORES.values(), SMALL]
INT32 = (-(1 << 31), (1 << 31) - 1)


def fill(machine: Any, seed: int, extreme: bool) -> None:
    """Put random numbers, or only the least and the greatest, into the scratchpads."""
    rng = np.random.default_rng(seed)
    for pad, (low, high) in (
        (machine.core.pads.inp, (-128, 127)),
        (machine.core.pads.wgt, (-128, 127)),
        (machine.core.pads.acc, INT32),
    ):
        if extreme:
            pad[:] = rng.choice(np.array([low, low, low + 1, high], pad.dtype), pad.shape)
        else:
            pad[:] = rng.integers(low, high + 1, pad.shape, pad.dtype)


def expected(naive: Any, machine: Any, insn: bytes) -> Any:
    """Return ACC after ``insn``, by the naive interpreter, from the machine's state."""
    model = naive(machine.config, np.zeros(0, np.uint8))
    pads = machine.core.pads
    model.uop = [int(word).to_bytes(4, "little") for word in pads.uop]
    for memory, pad in ((Memory.INP, pads.inp), (Memory.WGT, pads.wgt), (Memory.ACC, pads.acc)):
        model.pads[memory][:] = pad
    model.loop(model.isa.decode(insn))
    return model.pads[Memory.ACC]


@st.composite
def walks(draw: st.DrawFn, *, operands: tuple[str, ...]) -> dict[str, Any]:
    """Micro-ops and loops over few elements, so that steps collide at every short distance."""
    # Indices stay below 2 + 2 * 2 + 2 * 3 + 2 < 16, the shallowest scratchpad of SMALL.
    index = st.integers(0, draw(st.sampled_from([0, 1, 4])))
    uops = draw(st.lists(st.tuples(index, index, index), min_size=1, max_size=6))
    begin = draw(st.integers(0, len(uops)))
    fields = {
        "uop_begin": draw(st.sampled_from([0, 0, 0, begin])),
        "uop_end": len(uops),
        "iter_out": draw(st.integers(0, 3)),
        "iter_in": draw(st.integers(0, 4)),
    }
    for operand in operands:
        for way in ("out", "in"):
            fields[f"{operand}_factor_{way}"] = draw(st.sampled_from([0, 0, 1, 2]))
    return {"uops": uops, "fields": fields}


@settings(max_examples=120, deadline=None)
@given(
    walk=walks(operands=("dst", "src", "wgt")),
    config=st.sampled_from(CONFIGS),
    reset=st.booleans(),
    extreme=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gemm_equals_the_triple_loop(
    machine: Any, naive: Any, walk: Any, config: CoreConfig, reset: bool, extreme: bool, seed: int
) -> None:
    m = machine(config=config)
    fill(m, seed, extreme)
    m.uops(*walk["uops"])
    insn = m.insn(Opcode.GEMM, reset=int(reset), **walk["fields"])
    acc = expected(naive, m, insn)
    m.run(insn, m.finish())
    np.testing.assert_array_equal(m.core.pads.acc, acc)


@settings(max_examples=250, deadline=None)
@given(
    walk=walks(operands=("dst", "src")),
    config=st.sampled_from(CONFIGS),
    op=st.sampled_from(list(AluOp)),
    imm=st.none() | st.sampled_from([-32768, -33, -32, -31, -1, 0, 1, 31, 32, 33, 32767]),
    extreme=st.booleans(),
    seed=st.integers(0, 99),
)
def test_alu_equals_the_triple_loop(
    machine: Any,
    naive: Any,
    walk: Any,
    config: CoreConfig,
    op: AluOp,
    imm: int | None,
    extreme: bool,
    seed: int,
) -> None:
    m = machine(config=config)
    fill(m, seed, extreme)
    m.uops(*walk["uops"])
    immediate = {} if imm is None else {"use_imm": 1, "imm": imm}
    insn = m.insn(Opcode.ALU, alu_op=op, reset=seed % 2, **immediate, **walk["fields"])
    acc = expected(naive, m, insn)
    m.run(insn, m.finish())
    np.testing.assert_array_equal(m.core.pads.acc, acc)


@pytest.mark.parametrize("distance", [1, 2, 3, 4])
@pytest.mark.parametrize("op", list(AluOp))
def test_an_alu_step_sees_the_write_of_the_step_before_at_any_distance(
    machine: Any, naive: Any, op: AluOp, distance: int
) -> None:
    m = machine()
    fill(m, distance, extreme=False)
    m.uops((distance, 0))
    insn = m.once(Opcode.ALU, alu_op=op, iter_in=40, dst_factor_in=1, src_factor_in=1)
    acc = expected(naive, m, insn)
    m.run(insn, m.finish())
    np.testing.assert_array_equal(m.core.pads.acc, acc)


def test_shifts_of_every_amount_take_it_modulo_32_after_the_sign(
    machine: Any, lane: Callable[[AluOp, int, int], int]
) -> None:
    m = machine()
    amounts = [*range(-70, 71), *INT32, INT32[0] + 1, 1 << 20, -(1 << 20)]
    values = [INT32[0], -1, 1, INT32[1], 0x12345678, -0x12345678]
    pairs = [(x, y) for x in values for y in amounts]
    pairs += [(0, 0)] * (-len(pairs) % 16)
    lanes = np.array(pairs, np.int64).astype(np.int32)
    count = len(pairs) // 16
    m.core.pads.acc[:count] = lanes[:, 0].reshape(count, 1, 16)
    m.core.pads.acc[count : 2 * count] = lanes[:, 1].reshape(count, 1, 16)
    m.uops((0, count))
    steps = {"iter_in": count, "dst_factor_in": 1, "src_factor_in": 1}
    m.run(m.once(Opcode.ALU, alu_op=AluOp.SHR, **steps), m.finish())
    found = m.core.pads.acc[:count].ravel().tolist()
    assert found == [lane(AluOp.SHR, x, y) for x, y in pairs]


def test_products_and_sums_wrap_modulo_2_to_the_32(machine: Any) -> None:
    m = machine()
    m.core.pads.inp[:] = -128
    m.core.pads.wgt[:] = -128
    m.core.pads.acc[0] = INT32[1]
    m.core.pads.acc[1] = 65537
    m.core.pads.acc[2] = INT32[0]
    m.uops((0, 0, 0))
    m.run(
        m.once(Opcode.GEMM),
        m.insn(Opcode.GEMM, uop_end=1, iter_out=1, iter_in=2, dst_factor_in=1),
        m.finish(),
    )
    step = 16 << 14
    assert set(m.core.pads.acc[0].flat) == {INT32[0] - 1 + 2 * step}
    assert set(m.core.pads.acc[1].flat) == {65537 + step}
    m.uops((2, 2), (2, 2))
    m.run(m.once(Opcode.ALU, alu_op=AluOp.MUL), m.finish())
    assert set(m.core.pads.acc[2].flat) == {0}
    m.core.pads.acc[2] = 65537
    m.run(m.once(Opcode.ALU, alu_op=AluOp.MUL), m.finish())
    assert set(m.core.pads.acc[2].flat) == {65537 * 65537 % (1 << 32)}


@pytest.mark.parametrize("loop", ["pixels in the loops", "pixels in the micro-ops", "no order"])
def test_8192_micro_ops_add_up_exactly(machine: Any, loop: str) -> None:
    m = machine()
    fill(m, 1, extreme=True)
    rng = np.random.default_rng(5)
    u = np.arange(8192)
    if loop == "no order":
        d, s, w = (rng.integers(0, depth, 8192) for depth in (2046, 2046, 1024))
    elif loop == "pixels in the loops":
        d, s, w = u // 4096, u % 2000, u % 1024
    else:
        d, s, w = u % 1024, u % 2000, u // 1024
    m.uops(*zip(d.tolist(), s.tolist(), w.tolist(), strict=True))
    acc = m.core.pads.acc.astype(np.int64)
    inp, wgt = m.core.pads.inp.astype(np.int64), m.core.pads.wgt.astype(np.int64)
    for n in range(3):
        np.add.at(acc, d + n, np.einsum("ubk,ujk->ubj", inp[s + n], wgt[w]))
    m.run(
        m.insn(Opcode.GEMM, uop_end=8192, iter_out=1, iter_in=3, dst_factor_in=1, src_factor_in=1),
        m.finish(),
    )
    np.testing.assert_array_equal(m.core.pads.acc, acc.astype(np.int32))
    assert m.core.counters.gemm_uops == 3 * 8192


def test_loops_that_move_no_index_multiply_the_sum(machine: Any) -> None:
    m = machine()
    m.core.pads.inp[:], m.core.pads.wgt[:] = 127, -128
    m.core.pads.acc[:] = 5
    m.uops((0, 0, 0), (1, 0, 0))
    m.run(m.insn(Opcode.GEMM, uop_end=2, iter_out=16383, iter_in=16383), m.finish())
    total = 5 + 16383 * 16383 * 16 * 127 * -128
    assert set(m.core.pads.acc[:2].flat) == {(total + (1 << 31)) % (1 << 32) - (1 << 31)}
    assert set(m.core.pads.acc[2:].flat) == {5}
    assert m.core.counters.gemm_uops == 2 * 16383 * 16383


@pytest.mark.parametrize("shape", ["many rows", "many weights"])
def test_a_gemm_of_more_steps_than_one_block_is_exact(machine: Any, shape: str) -> None:
    m = machine()
    fill(m, 3, extreme=False)
    acc = m.core.pads.acc.astype(np.int64)
    inp = m.core.pads.inp.astype(np.int64)[:, 0]
    wgt = m.core.pads.wgt.astype(np.int64)
    m.uops(*((0, k, k) for k in range(64)))
    if shape == "many rows":
        loops = {"iter_out": 1984, "dst_factor_out": 1, "src_factor_out": 1}
        for row in range(1984):
            acc[row, 0] += np.einsum("uk,ujk->j", inp[row : row + 64], wgt[:64])
        loops |= {"iter_in": 1}
    else:
        loops = {"iter_out": 100, "src_factor_out": 1, "iter_in": 16, "dst_factor_in": 1}
        loops |= {"wgt_factor_in": 60}
        for row in range(100):
            for n in range(16):
                part = inp[row : row + 64], wgt[n * 60 : n * 60 + 64]
                acc[n, 0] += np.einsum("uk,ujk->j", *part)
    m.run(m.insn(Opcode.GEMM, uop_end=64, **loops), m.finish())
    np.testing.assert_array_equal(m.core.pads.acc, acc.astype(np.int32))


def test_an_alu_of_more_steps_than_one_block_keeps_their_order(machine: Any) -> None:
    m = machine()
    m.core.pads.acc[:] = np.arange(2048)[:, None, None]
    m.uops((0, 1))
    # Each pass shifts the lower 1000 elements down by one, 100 times.
    m.run(
        m.once(Opcode.ALU, alu_op=AluOp.SHR, use_imm=1, imm=-1),
        m.insn(
            Opcode.ALU,
            uop_end=1,
            iter_out=100,
            iter_in=1000,
            alu_op=AluOp.MAX,
            dst_factor_in=1,
            src_factor_in=1,
        ),
        m.finish(),
    )
    assert m.core.pads.acc[:1000, 0, 0].tolist() == [
        k + 100 if k < 901 else 1000 for k in range(1000)
    ]


def test_a_micro_op_of_another_configuration_has_its_own_fields(machine: Any) -> None:
    for config in CONFIGS:
        m = machine(config=config)
        top = [config.depth(memory) - 1 for memory in (Memory.ACC, Memory.INP, Memory.WGT)]
        m.uops(top)
        before = m.core.pads.acc[top[0]].astype(np.int64)
        inp, wgt = (
            p[i].astype(np.int64)
            for p, i in zip((m.core.pads.inp, m.core.pads.wgt), top[1:], strict=True)
        )
        m.run(m.once(Opcode.GEMM), m.finish())
        after = (before + inp @ wgt.T).astype(np.int32)
        np.testing.assert_array_equal(m.core.pads.acc[top[0]], after)
