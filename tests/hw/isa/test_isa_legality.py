"""The rules of VTA specification §11, each broken once in a legal program."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ginseng.benchmarks.isa import measure, tiled_program
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, TOKEN_LIMIT, AluOp, Opcode, instruction_set
from ginseng.isa.legality import Rule, check_program
from ginseng.isa.legality.finding import FINDINGS_PER_RULE

NOP_L = {"memory": Memory.INP}


def test_every_vector_is_legal(vectors: list[Any]) -> None:
    assert len(vectors) == 62
    found = {vector.name: list(map(str, vector.check())) for vector in vectors}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_portable_vector_is_in_the_portable_subset(vectors: list[Any]) -> None:
    portable = [vector for vector in vectors if vector.category == "portable"]
    assert len(portable) == 20
    found = {vector.name: list(map(str, vector.check(portable=True))) for vector in portable}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_vectors_that_only_a_complete_core_can_run_are_outside_the_portable_subset(
    vectors: list[Any],
) -> None:
    other = [v for v in vectors if v.category in ("directed", "hazard", "full", "config")]
    assert len(other) == 33
    for vector in other:
        rules = {finding.rule for finding in vector.check(portable=True)}
        assert rules == {Rule.PORTABLE}, vector.name


def test_small_program_is_legal_and_portable(plain: Any) -> None:
    assert plain.check(portable=True, instructions_at=0xF000) == []


#: Rule, instruction at which it must be reported, and what breaks it.
MUTATIONS: dict[str, tuple[Rule, int, Callable[[Any], Any]]] = {
    "opcode 5": (Rule.OPCODE, 7, lambda c: c.put(7, bytes([5] + 15 * [0]))),
    "opcode 7 with every bit set": (Rule.OPCODE, 4, lambda c: c.put(4, b"\xff" * 16)),
    "LOAD OUT": (Rule.MEMORY, 1, lambda c: c.edit(1, memory=Memory.OUT)),
    "LOAD memory 6": (Rule.MEMORY, 3, lambda c: c.edit(3, memory=6)),
    "LOAD no-op of memory 7": (Rule.MEMORY, 9, lambda c: c.edit(9, memory=7)),
    "STORE ACC": (Rule.MEMORY, 6, lambda c: c.edit(6, memory=Memory.ACC)),
    "STORE UOP with a size": (Rule.MEMORY, 6, lambda c: c.edit(6, memory=Memory.UOP)),
    "ALU operation 5": (Rule.ALU_OP, 5, lambda c: c.edit(5, alu_op=5)),
    "reserved bit of LOAD": (Rule.RESERVED, 1, lambda c: c.flip(1, 58)),
    "reserved bit of STORE": (Rule.RESERVED, 6, lambda c: c.flip(6, 63)),
    "reserved bit of GEMM": (Rule.RESERVED, 4, lambda c: c.flip(4, 63)),
    "reserved bit of ALU": (Rule.RESERVED, 5, lambda c: c.flip(5, 63)),
    "reserved bit of FINISH": (Rule.RESERVED, 10, lambda c: c.flip(10, 7)),
    "pad on STORE": (Rule.STORE_PAD, 6, lambda c: c.edit(6, x_pad_1=1)),
    "pad on STORE no-op": (
        Rule.STORE_PAD,
        7,
        lambda c: c.insert(7, Opcode.STORE, y_pad_0=1),
    ),
    "pop_prev on L": (Rule.TOKEN_BITS, 1, lambda c: c.edit(1, pop_prev=1)),
    "push_prev on L": (Rule.TOKEN_BITS, 2, lambda c: c.edit(2, push_prev=1)),
    "pop_next on S": (Rule.TOKEN_BITS, 6, lambda c: c.edit(6, pop_next=1)),
    "push_next on S": (Rule.TOKEN_BITS, 6, lambda c: c.edit(6, push_next=1)),
    "LOAD INP one beyond": (Rule.SRAM_RANGE, 1, lambda c: c.edit(1, sram_base=2048 - 7)),
    "LOAD ACC one beyond": (Rule.SRAM_RANGE, 3, lambda c: c.edit(3, sram_base=2048 - 7)),
    "LOAD WGT one beyond": (Rule.SRAM_RANGE, 2, lambda c: c.edit(2, sram_base=1024)),
    "LOAD UOP one beyond": (Rule.SRAM_RANGE, 0, lambda c: c.edit(0, sram_base=8192 - 3)),
    "LOAD of padding only beyond": (
        Rule.SRAM_RANGE,
        1,
        lambda c: c.edit(1, sram_base=2045, y_size=0, y_pad_0=1),
    ),
    "STORE one beyond": (Rule.SRAM_RANGE, 6, lambda c: c.edit(6, sram_base=2048 - 7)),
    "micro-op one beyond": (Rule.UOP_RANGE, 4, lambda c: c.edit(4, uop_end=8193)),
    "GEMM dst one beyond": (
        Rule.INDEX_RANGE,
        4,
        lambda c: c.edit(4, dst_factor_in=2045),
    ),
    "GEMM src one beyond": (
        Rule.INDEX_RANGE,
        4,
        lambda c: c.edit(4, src_factor_in=2045),
    ),
    "GEMM wgt one beyond": (
        Rule.INDEX_RANGE,
        4,
        lambda c: c.edit(4, wgt_factor_in=512, iter_in=3),
    ),
    "ALU dst one beyond": (Rule.INDEX_RANGE, 5, lambda c: c.edit(5, dst_factor_out=2045)),
    "ALU src one beyond, though an immediate is used": (
        Rule.INDEX_RANGE,
        5,
        lambda c: c.edit(5, src_factor_out=2045),
    ),
    "pop of a token that comes later": (Rule.TOKEN_POP, 3, lambda c: c.edit(3, pop_next=1)),
    "pop of a token that never comes": (Rule.TOKEN_POP, 9, lambda c: c.edit(8, push_next=0)),
    "token left over": (Rule.TOKEN_LEFT, 5, lambda c: c.edit(3, push_next=1)),
    "FINISH twice": (Rule.FINISH, 9, lambda c: c.insert(9, Opcode.FINISH)),
    "no FINISH": (Rule.FINISH, 10, lambda c: c.put(10)),
    "something behind FINISH": (
        Rule.FINISH,
        10,
        lambda c: c.put(10, c.word(10), c.word(7)),
    ),
    "FINISH before the last LOAD": (
        Rule.FINISH,
        10,
        lambda c: c.edit(8, push_next=0).edit(9, pop_prev=0),
    ),
    "FINISH before the last STORE": (
        Rule.FINISH,
        10,
        lambda c: c.edit(6, push_prev=0).edit(9, pop_next=0),
    ),
    "GEMM reads inputs while they are loaded": (
        Rule.RACE,
        4,
        lambda c: c.edit(2, push_next=0).edit(4, pop_prev=0),
    ),
    "LOAD overwrites inputs while they are read": (
        Rule.RACE,
        7,
        lambda c: c.edit(7, pop_next=0, y_size=1, x_size=1).insert(8, Opcode.LOAD, **NOP_L),
    ),
    "LOAD overwrites weights while they are read": (
        Rule.RACE,
        7,
        lambda c: c.edit(7, pop_next=0, memory=Memory.WGT, y_size=1, x_size=1),
    ),
    "STORE reads accumulators while they are computed": (
        Rule.RACE,
        6,
        lambda c: c.edit(5, push_next=0).edit(6, pop_prev=0),
    ),
    "ALU overwrites accumulators while they are stored": (
        Rule.RACE,
        9,
        lambda c: c.put(9, c.edit(5, push_next=0).word(5), c.word(9)),
    ),
    "LOAD ACC overwrites accumulators while they are stored": (
        Rule.RACE,
        7,
        lambda c: c.put(7, c.word(3), c.word(7)),
    ),
    "LOAD reads DRAM while it is stored": (
        Rule.RACE,
        7,
        lambda c: c.edit(7, dram_base=0x807, sram_base=100, y_size=1, x_size=1),
    ),
    "LOAD of the compute queue reads DRAM while it is stored": (
        Rule.RACE,
        7,
        lambda c: c.insert(
            7, Opcode.LOAD, memory=Memory.ACC, dram_base=0x201, sram_base=64, x_size=1, y_size=1
        ),
    ),
    "STORE overwrites DRAM while it is loaded": (
        Rule.RACE,
        7,
        lambda c: c.insert(
            3, Opcode.LOAD, memory=Memory.INP, sram_base=99, dram_base=0x7FF, y_size=1, x_size=2
        ),
    ),
    "uninitialised micro-op": (Rule.UNINITIALISED, 4, lambda c: c.edit(0, x_size=3)),
    "uninitialised input": (
        Rule.UNINITIALISED,
        4,
        lambda c: c.edit(1, x_pad_1=0),
    ),
    "uninitialised weights": (Rule.UNINITIALISED, 4, lambda c: c.edit(2, sram_base=1)),
    "uninitialised accumulator of GEMM": (Rule.UNINITIALISED, 4, lambda c: c.edit(3, x_size=7)),
    "uninitialised accumulator of ALU": (
        Rule.UNINITIALISED,
        5,
        lambda c: c.edit(5, iter_out=3),
    ),
    "uninitialised second operand of ALU": (
        Rule.UNINITIALISED,
        5,
        lambda c: c.edit(5, src_factor_out=5, use_imm=0),
    ),
    "uninitialised result": (Rule.UNINITIALISED, 6, lambda c: c.edit(6, x_size=9)),
    "LOAD ends beyond DRAM": (Rule.DRAM_RANGE, 1, lambda c: c.edit(1, dram_base=0xFF6)),
    "STORE ends beyond DRAM": (Rule.DRAM_RANGE, 6, lambda c: c.edit(6, dram_base=0xFF9)),
    "micro-ops beyond DRAM": (Rule.DRAM_RANGE, 0, lambda c: c.edit(0, dram_base=0x3FFD)),
    "micro-ops that a STORE wrote": (
        Rule.MICRO_OPS,
        9,
        lambda c: c.edit(9, dram_base=0x2000, y_size=1, x_size=1),
    ),
    "half an instruction": (
        Rule.LENGTH,
        11,
        lambda c: c.put(10, c.word(10), c.word(10)[:8]),
    ),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_broken_rule_is_reported_where_it_is_broken(plain: Any, what: str) -> None:
    rule, index, breaks = MUTATIONS[what]
    broken = breaks(plain)
    assert (index, rule) in broken.broken(), list(map(str, broken.check()))


#: Changes at the limit, one short of those above.
LEGAL: dict[str, Callable[[Any], Any]] = {
    "LOAD WGT to the last element": lambda c: c.edit(2, sram_base=1023).edit(4, wgt_factor_in=0),
    "iteration count 0 makes any index legal": lambda c: c.edit(
        4, iter_in=0, dst_factor_in=2047, uop_end=16383
    ),
    "an empty range of micro-ops is legal": lambda c: c.edit(4, uop_begin=9, uop_end=9),
    "STORE to the end of DRAM": lambda c: c.edit(6, dram_base=0xFF8),
    "STORE next to what is loaded": lambda c: c.edit(6, dram_base=0x38),
    "a no-op has no range": lambda c: c.edit(7, sram_base=65535, dram_base=(1 << 32) - 1),
    "src of a reset is not used": lambda c: c.edit(4, reset=1, src_factor_in=2047),
    "a reset initialises": lambda c: c.edit(3, x_size=0).edit(4, reset=1),
    "8-bit accumulators": lambda c: c.edit(3, memory=Memory.ACC_8BIT),
}


@pytest.mark.parametrize("what", LEGAL)
def test_program_at_a_limit_is_legal(plain: Any, what: str) -> None:
    code = LEGAL[what](plain)
    if what == "LOAD WGT to the last element":
        uops = instruction_set(code.core).uop
        words = b"".join(uops.pack(dst=n, src=n, wgt=1023) for n in range(4))
        code = code.having(dram=words.ljust(1 << 16, b"\0"))
    assert list(map(str, code.check())) == []


def test_counter_that_could_overflow_is_reported_whatever_stream_order_does(write: Any) -> None:
    """Stream order pops each token at once, but the load queue may run ahead of that."""
    one = write("load inp push_next\n load uop pop_prev\n finish")
    load, take, finish = one.word(0), one.word(1), one.word(2)
    code = replace(one, instructions=(load + take) * TOKEN_LIMIT + finish)
    assert code.check() == []
    more = replace(one, instructions=(load + take) * (TOKEN_LIMIT + 1) + finish)
    assert more.broken() == {(2 * TOKEN_LIMIT, Rule.TOKEN_LIMIT)}


def test_store_over_the_instruction_stream_is_a_race_with_fetch(plain: Any) -> None:
    assert (6, Rule.RACE) in plain.broken(instructions_at=0x8000 + 16)
    assert plain.check(instructions_at=0x8000 + 8 * 16) == []


def test_rows_between_the_stream_do_not_race_with_fetch(plain: Any) -> None:
    strided = plain.edit(6, y_size=2, x_size=4, x_stride=64)
    # Rows at 0x8000 and 0x8400; the stream of 0xb0 bytes fits between them.
    assert strided.check(instructions_at=0x8100) == []
    assert (6, Rule.RACE) in strided.broken(instructions_at=0x8400 - 0xA0)


def test_addresses_wrap_at_32_bits(write: Any) -> None:
    code = write(
        """
        load inp dram_base=0xfffffff y_size=1 x_size=2 push_next
        load uop pop_prev
        load acc dram_base=0x0 y_size=1 x_size=1 push_next
        store out y_size=1 x_size=1 dram_base=0x10000000 pop_prev push_prev
        load uop pop_next
        finish
        """
    )
    # The first load ends in bytes 0 to 15, which the store (also wrapped) then writes: ordered.
    whole = code.having(dram=lambda at, n: bytes(n))
    assert whole.check() == []
    unordered = whole.edit(0, push_next=0).edit(1, pop_prev=0)
    assert (3, Rule.RACE) in unordered.broken()
    # An image is smaller than the address space.
    assert (0, Rule.DRAM_RANGE) in code.broken()


def test_micro_ops_are_read_through_the_wrap_and_with_padding(write: Any) -> None:
    code = write(
        """
        load uop dram_base=0x3fffffff y_size=1 x_size=2 x_pad_0=1
        gemm uop_end=3 iter_out=1 iter_in=1 reset
        finish
        """
    )
    isa = instruction_set(code.core)
    image = {(1 << 32) - 4: isa.uop.pack(dst=5), 0: isa.uop.pack(dst=2047)}
    asked = []

    def dram(at: int, count: int) -> bytes:
        asked.append((at, count))
        return image[at]

    code = code.having(dram=dram)
    assert code.check() == []
    assert asked == [((1 << 32) - 4, 4), (0, 4)]
    assert (1, Rule.INDEX_RANGE) in code.edit(1, iter_in=2, dst_factor_in=1).broken()
    # A callback that has no such bytes gives fewer.
    assert (0, Rule.DRAM_RANGE) in code.broken(dram=lambda at, n: b"")


def test_findings_name_value_and_limit(plain: Any) -> None:
    (finding,) = plain.edit(6, sram_base=2041).check()
    assert str(finding) == (
        "instruction 6: sram-range: STORE touches ACC elements 2041 to 2048, "
        "the scratchpad ends at 2047"
    )
    race = plain.edit(2, push_next=0).edit(4, pop_prev=0).check()
    assert any(
        f.rule is Rule.RACE and "reads INP 0 while instruction 1 of the LOAD queue" in f.message
        for f in race
    )


def test_random_bytes_give_findings_and_never_raise(configs: dict[str, CoreConfig]) -> None:
    import random

    rng = random.Random(11)
    for config in configs.values():
        for size in (0, 1, 15, 16, 17, 160, 1600):
            code = rng.randbytes(size)
            assert check_program(code, config, dram=rng.randbytes(4096)), size
            assert check_program(code, config, dram=lambda at, n: rng.randbytes(n)), size
        # Words that decode, with every other bit random.
        words = b"".join(
            bytes([word[0] & ~7 | rng.randrange(5)]) + word[1:]
            for word in (rng.randbytes(INSN_BYTES) for _ in range(300))
        )
        assert check_program(words, config, dram=lambda at, n: rng.randbytes(n), portable=True)


def test_hostile_program_does_not_fill_the_report(plain: Any) -> None:
    code = plain.put(7, *[plain.edit(6, pop_prev=0, push_prev=0, x_size=100).word(6)] * 2000)
    found = code.check()
    assert max(sum(f.rule is rule for f in found) for rule in Rule) <= FINDINGS_PER_RULE
    assert found == sorted(found)


def test_benchmark_measures_a_legal_program() -> None:
    code, micro_ops = tiled_program(CoreConfig(), 70)
    found = check_program(code, CoreConfig(), dram=lambda at, n: micro_ops[at : at + n])
    assert found == []
    rates = measure(2)
    assert set(rates) == {"instructions", "encode", "decode", "check"}
    assert all(rate > 0 for rate in rates.values())


def test_long_stream_is_checked_in_reasonable_time(configs: dict[str, CoreConfig]) -> None:
    # Nothing of this ever leaves a window, and every step touches every accumulator.
    config = configs["default"]
    isa = instruction_set(config)
    gemm = isa.encode(
        Opcode.GEMM, uop_end=1, iter_out=1 << 7, iter_in=1 << 4, dst_factor_out=16, dst_factor_in=1
    )
    load = isa.encode(Opcode.LOAD, memory=Memory.UOP, y_size=1, x_size=1)
    alu = isa.encode(
        Opcode.ALU, uop_end=1, iter_out=1, iter_in=2048, dst_factor_in=1, alu_op=AluOp.ADD
    )
    code = load + (gemm + alu) * 2000
    found = check_program(code, config, dram=bytes(4))
    assert {(f.index, f.rule) for f in found} >= {(4001, Rule.FINISH), (1, Rule.UNINITIALISED)}
