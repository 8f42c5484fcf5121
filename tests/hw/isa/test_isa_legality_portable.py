"""The portable subset of VTA specification §11.7, left once by each of its rules."""

from collections.abc import Callable
from typing import Any

import pytest

from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp, Opcode, instruction_set
from ginseng.isa.legality import Rule

#: What the finding says, where, and what leaves the subset; every program stays legal.
MUTATIONS: dict[str, tuple[str, int, Callable[[Any], Any]]] = {
    "MUL": ("MUL", 5, lambda c: c.edit(5, alu_op=AluOp.MUL)),
    "8-bit accumulators": ("ACC_8BIT", 3, lambda c: c.edit(3, memory=Memory.ACC_8BIT)),
    "shift by 16": ("shift by 16", 5, lambda c: c.edit(5, imm=16)),
    "shift by -17": ("shift by -17", 5, lambda c: c.edit(5, imm=-17)),
    "immediate with other src": ("src other", 5, lambda c: c.edit(5, src_factor_out=3)),
    "padded weights": ("padding of WGT", 2, lambda c: c.edit(2, y_pad_1=1)),
    "padded micro-ops": ("padding of UOP", 0, lambda c: c.edit(0, x_pad_1=1)),
    "rows of micro-ops": (
        "2 rows of micro-ops",
        0,
        lambda c: c.edit(0, y_size=2, x_size=2, x_stride=2),
    ),
    "micro-op loaded beyond 2047": ("micro-op 2048", 0, lambda c: c.edit(0, x_size=2049)),
    "micro-op used beyond 2047": (
        "micro-op 2048",
        4,
        lambda c: (
            c.edit(0, sram_base=2045)
            .edit(4, uop_begin=2045, uop_end=2049)
            .edit(5, uop_begin=2045, uop_end=2049)
        ),
    ),
    "no iterations": ("counts of 1", 4, lambda c: c.edit(4, iter_out=0)),
    "no micro-ops": ("counts of 1", 4, lambda c: c.edit(4, uop_begin=4)),
    "no rows to load": ("y_size is 0", 1, lambda c: c.edit(1, y_size=0, y_pad_0=2)),
    "no rows to store": ("y_size is 0", 6, lambda c: c.edit(6, y_size=0)),
    "no rows and no padding": ("y_size is 0", 1, lambda c: c.edit(1, y_size=0).edit(4, reset=1)),
    "no-op with padding": ("pads [1, 0, 0, 0]", 7, lambda c: c.edit(7, y_pad_0=1)),
    "re-use after 4 steps in GEMM": (
        "after 4 steps",
        4,
        lambda c: c.edit(4, dst_factor_in=0),
    ),
    "re-use by the second operand": (
        "after 4 steps",
        5,
        lambda c: c.edit(5, use_imm=0, src_factor_out=0),
    ),
    "store of what was loaded": (
        "stores ACC 8",
        6,
        lambda c: c.edit(3, x_size=9).edit(6, x_size=9),
    ),
    "store of what was reset": (
        "stores ACC 0",
        6,
        lambda c: c.edit(4, reset=1).edit(5, uop_begin=1),
    ),
    "load over a result": (
        "stores ACC 2",
        7,
        lambda c: c.edit(5, push_next=0).insert(
            6, Opcode.LOAD, memory=Memory.ACC, sram_base=2, y_size=1, x_size=1, push_next=1
        ),
    ),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_what_only_some_cores_get_right_is_reported(plain: Any, what: str) -> None:
    words, index, leaves = MUTATIONS[what]
    code = leaves(plain)
    found = code.check(portable=True)
    assert any(
        f.index == index and f.rule is Rule.PORTABLE and words in f.message for f in found
    ), list(map(str, found))
    assert {f.rule for f in found} == {Rule.PORTABLE}
    assert code.check() == []


def test_re_use_is_found_from_one_outer_iteration_to_the_next(plain: Any) -> None:
    # Steps 0 to 7 write 0 1 2 30, 10 11 12 40; step 8 writes 1 again, as step 1 did.
    uops = instruction_set(plain.core).uop
    words = b"".join(uops.pack(dst=dst, src=n) for n, dst in enumerate((0, 1, 2, 30)))
    code = plain.having(dram=words.ljust(1 << 16, b"\0")).edit(3, x_size=64)
    code = code.edit(4, iter_out=2, dst_factor_out=1, iter_in=2, dst_factor_in=10)
    found = [f for f in code.check(portable=True) if f.index == 4]
    assert [f.message.split(",")[0] for f in found] == [
        "an accumulator is used again after 7 steps"
    ]


def test_resets_may_meet_at_any_distance(plain: Any) -> None:
    code = plain.insert(4, Opcode.GEMM, uop_end=4, iter_out=1, iter_in=2, reset=1)
    assert code.check(portable=True) == []


def test_accumulators_may_be_used_again_after_8_steps(write: Any) -> None:
    text = """
    .uops
      {uops}
    .insns
      load uop y_size=1 x_size={n}
      load acc dram_base=0x10 y_size=1 x_size={n}
      alu add uop_end={n} iter_out=2 iter_in=1 imm=1 use_imm push_next
      store out dram_base=0x800 y_size=1 x_size={n} pop_prev push_prev
      load uop pop_next
      finish
    """
    for n in (7, 8):
        uops = "\n".join(f"uop dst={k} src={k}" for k in range(n))
        code = write(text.format(uops=uops, n=n))
        assert code.check() == []
        rules = {(f.index, f.rule) for f in code.check(portable=True)}
        assert rules == ({(2, Rule.PORTABLE)} if n == 7 else set())


def test_fewer_than_256_tokens_may_be_outstanding(write: Any) -> None:
    for count in (255, 256):
        code = write("load inp push_next\n" * count + "load uop pop_prev\n" * count + "finish\n")
        assert code.check() == []
        rules = {(f.index, f.rule) for f in code.check(portable=True)}
        assert rules == ({(255, Rule.PORTABLE)} if count == 256 else set())


def test_re_use_is_found_across_the_outer_loop_of_long_loops(write: Any) -> None:
    """The last inner iterations of one outer iteration meet the first of the next."""
    text = """
    .uops
      uop
    .insns
      load uop y_size=1 x_size=1
      load acc dram_base=0x10 y_size=4 x_size=16 x_stride=16
      alu add uop_end=1 iter_out=2 iter_in=40 dst_factor_in=1 src_factor_in=1 {factor} imm=1 use_imm
      finish
    """
    for start, steps in ((37, 3), (33, 7)):
        # Step 40 writes what step `start` wrote.
        code = write(text.format(factor=f"dst_factor_out={start} src_factor_out={start}"))
        code = code.edit(1, y_size=5)
        found = [f.message for f in code.check(portable=True)]
        assert len(found) == 1, found
        assert f"after {40 - start} steps" in found[0]
        assert 40 - start == steps
    far = write(text.format(factor="dst_factor_out=32 src_factor_out=32")).edit(1, y_size=5)
    assert far.check(portable=True) == []
