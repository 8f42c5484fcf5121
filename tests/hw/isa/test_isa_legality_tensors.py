"""The rules of TEC specification §2, §3 and §6, each broken once in a legal program."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ginseng.isa.config import CoreConfig, Memory, SystemConfig, TecConfig
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.legality import Rule, TensorRule, check_program
from ginseng.isa.table import STORE_SPAN, Domain, Permission
from ginseng.program import TensorSpec

OFFSET_BITS = 26
ENTRY, UOPS, INPUT, WEIGHTS, SCRATCH, RESULT = range(6)


def at(handle: int, offset: int) -> int:
    """``dram_base`` of an element, in a table of 64 rows."""
    return handle << OFFSET_BITS | offset


def test_small_program_is_legal(protected: Any) -> None:
    assert list(map(str, protected.check())) == []


def row(code: Any, handle: int, **changes: Any) -> Any:
    """Return the program with one row of its table changed."""
    rows = (replace(r, **changes) if r.handle == handle else r for r in code.given["tensors"])
    return code.having(tensors=tuple(rows))


MUTATIONS: dict[str, tuple[Rule, int, Callable[[Any], Any]]] = {
    "no such row": (Rule.HANDLE, 1, lambda c: c.edit(1, dram_base=at(63, 0))),
    "no such row for a store": (Rule.HANDLE, 10, lambda c: c.edit(10, dram_base=at(6, 0))),
    "load without R": (Rule.PERMISSION, 8, lambda c: c.edit(8, dram_base=at(RESULT, 0))),
    "store without W": (Rule.PERMISSION, 10, lambda c: c.edit(10, dram_base=at(INPUT, 0))),
    "store to the program": (Rule.PERMISSION, 10, lambda c: c.edit(10, dram_base=at(ENTRY, 0))),
    "micro-ops from weights": (Rule.DOMAIN, 0, lambda c: c.edit(0, dram_base=at(WEIGHTS, 0))),
    "micro-ops from an input": (Rule.DOMAIN, 0, lambda c: c.edit(0, dram_base=at(INPUT, 0))),
    "load one element beyond": (Rule.ROW_RANGE, 1, lambda c: c.edit(1, dram_base=at(INPUT, 1))),
    "last row beyond": (Rule.ROW_RANGE, 1, lambda c: c.edit(1, x_stride=5)),
    "offset that would wrap into the next handle": (
        Rule.ROW_RANGE,
        1,
        lambda c: c.edit(1, dram_base=at(INPUT, (1 << OFFSET_BITS) - 1)),
    ),
    "weights one element beyond": (
        Rule.ROW_RANGE,
        2,
        lambda c: c.edit(2, dram_base=at(WEIGHTS, 1)),
    ),
    "store one element beyond": (
        Rule.ROW_RANGE,
        10,
        lambda c: c.edit(10, dram_base=at(RESULT, 1)),
    ),
    "gap inside a chunk": (Rule.CHUNK, 6, lambda c: c.edit(6, dram_base=at(SCRATCH, 3))),
    "repeat inside a chunk": (Rule.CHUNK, 6, lambda c: c.edit(6, x_stride=2)),
    "start inside a chunk": (Rule.CHUNK, 5, lambda c: c.edit(5, dram_base=at(SCRATCH, 1))),
    "another tensor in between": (
        Rule.CHUNK,
        6,
        lambda c: c.insert(
            6, Opcode.STORE, memory=Memory.OUT, dram_base=at(RESULT, 0), y_size=1, x_size=6
        ),
    ),
    "another tensor that goes on where this one stopped": (
        Rule.CHUNK,
        6,
        lambda c: c.edit(6, dram_base=at(RESULT, 4)),
    ),
    "another chunk of the same tensor in between": (
        Rule.CHUNK,
        6,
        lambda c: c.edit(6, dram_base=at(SCRATCH, 8), y_size=2),
    ),
    "incomplete chunk at FINISH": (Rule.CHUNK, 12, lambda c: c.edit(10, x_size=15)),
    "chunk written twice": (
        Rule.SINGLE_ASSIGNMENT,
        11,
        lambda c: c.put(10, c.word(10), c.edit(10, pop_prev=0, push_prev=0).word(10)),
    ),
    "row that overwrites the row before": (
        Rule.SINGLE_ASSIGNMENT,
        10,
        lambda c: c.edit(10, y_size=2, x_size=6, x_stride=0),
    ),
    "chunk that no store completes before it is read": (
        Rule.UNWRITTEN,
        8,
        lambda c: c.edit(6, y_size=2),
    ),
    "tensor that is read before it is written": (
        Rule.UNWRITTEN,
        1,
        lambda c: c.edit(1, dram_base=at(SCRATCH, 0)),
    ),
    "chunk that is read while it is written": (
        Rule.RACE,
        8,
        lambda c: c.edit(7, push_prev=0).edit(8, pop_next=0),
    ),
    "chunk whose first store alone is ordered before its read": (
        Rule.RACE,
        8,
        lambda c: c.edit(5, push_prev=1).edit(6, push_prev=0),
    ),
    "export that is not written": (
        Rule.EXPORT,
        12,
        lambda c: c.edit(10, x_size=6),
    ),
    "export that is not stored to at all": (
        Rule.EXPORT,
        12,
        lambda c: c.edit(10, x_size=0),
    ),
    "micro-ops that are not shown": (Rule.MICRO_OPS, 0, lambda c: c.having(contents={})),
    "micro-op index out of range": (
        Rule.INDEX_RANGE,
        9,
        lambda c: c.having(contents={UOPS: bytes(16) + b"\xff" * 16}),
    ),
    "race on accumulators": (
        Rule.RACE,
        9,
        lambda c: c.edit(7, pop_next=0),
    ),
    "uninitialised input": (Rule.UNINITIALISED, 4, lambda c: c.edit(1, y_size=3)),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_broken_rule_is_reported_where_it_is_broken(protected: Any, what: str) -> None:
    rule, index, breaks = MUTATIONS[what]
    broken = breaks(protected)
    assert (index, rule) in broken.broken(), list(map(str, broken.check()))


#: What is legal although it looks like one of those above.
LEGAL: dict[str, Callable[[Any], Any]] = {
    "a no-op names no tensor": lambda c: c.edit(7, dram_base=at(63, 5)),
    "padding alone names no tensor": lambda c: c.insert(
        1, Opcode.LOAD, memory=Memory.INP, dram_base=at(63, 5), x_size=1, y_pad_0=1, sram_base=99
    ),
    "a store of no rows names no tensor": lambda c: c.insert(
        10, Opcode.STORE, memory=Memory.OUT, dram_base=at(63, 5), x_size=1
    ),
    "a chunk may be one store's and a row the next's": lambda c: c.edit(5, x_size=4).edit(
        6, y_size=1, x_size=12, x_stride=0
    ),
    "input of the program's own constants": lambda c: c.edit(1, dram_base=at(WEIGHTS, 0)),
    "a short last chunk": lambda c: row(c, SCRATCH, chunk=112),
    "a chunk as large as its tensor": lambda c: row(c, SCRATCH, chunk=4096),
    "reading part of a chunk": lambda c: row(c, INPUT, length=512, chunk=512),
}


@pytest.mark.parametrize("what", LEGAL)
def test_program_at_a_limit_is_legal(protected: Any, what: str) -> None:
    assert list(map(str, LEGAL[what](protected).check())) == []


@pytest.mark.parametrize("stores", range(1, STORE_SPAN + 3))
def test_chunk_continues_over_few_stores(protected: Any, stores: int) -> None:
    isa = instruction_set(protected.core)
    parts = [1] * (stores - 1) + [16 - (stores - 1)]
    words, done = [], 0
    for n, part in enumerate(parts):
        fields = {"pop_prev": int(n == 0), "push_prev": int(n == stores - 1)}
        words.append(
            isa.encode(
                Opcode.STORE,
                memory=Memory.OUT,
                sram_base=done,
                dram_base=at(RESULT, done),
                y_size=1,
                x_size=part,
                **fields,
            )
        )
        done += part
    code = row(protected.put(10, *words), RESULT, chunk=256)
    expected = {(10 + STORE_SPAN, Rule.STORE_SPAN)} if stores > STORE_SPAN else set()
    assert code.broken() == expected


def test_no_op_stores_and_stores_of_whole_chunks_do_not_count(protected: Any) -> None:
    nop = instruction_set(protected.core).encode(Opcode.STORE, memory=Memory.UOP)
    code = protected.put(5, protected.word(5), *[nop] * 9)
    assert code.check() == []


def test_overlapping_rows_of_a_load_may_read_written_chunks_again(protected: Any) -> None:
    code = protected.edit(8, y_size=4, x_size=4, x_stride=1)
    assert code.check() == []
    assert (8, Rule.UNWRITTEN) not in code.broken()


def test_only_the_chunks_that_rows_touch_must_be_written(protected: Any) -> None:
    """Rows in the first and third of four chunks; the second and fourth are never written."""
    code = row(protected, SCRATCH, length=256, chunk=64)
    isa = instruction_set(code.core)
    store = {"memory": Memory.OUT, "y_size": 1, "x_size": 4}
    words = (
        isa.encode(Opcode.STORE, dram_base=at(SCRATCH, 0), pop_prev=1, **store),
        isa.encode(Opcode.STORE, dram_base=at(SCRATCH, 8), push_prev=1, **store),
    )
    code = code.put(5, words[0]).put(6, words[1])
    rows = {"y_size": 2, "x_size": 4, "y_pad_1": 2}
    assert code.edit(8, **rows, x_stride=8).check() == []
    assert (8, Rule.UNWRITTEN) in code.edit(8, **rows, x_stride=7).broken()
    assert (8, Rule.UNWRITTEN) in code.edit(8, **rows, x_stride=4).broken()


def test_handles_have_as_many_bits_as_the_table_needs(protected: Any) -> None:
    config = SystemConfig(tec=TecConfig(table_entries=256))
    isa = instruction_set(config.core)
    code = b"".join(
        isa.encode(
            insn.opcode,
            **insn.fields
            | (
                {"dram_base": insn["dram_base"] >> OFFSET_BITS << 24 | insn["dram_base"] & 0xFFFFFF}
                if insn.opcode in (Opcode.LOAD, Opcode.STORE)
                else {}
            ),
        )
        for insn in isa.decode_stream(protected.instructions)
    )
    assert check_program(code, config, **protected.given) == []
    assert check_program(code, SystemConfig(), **protected.given)


@pytest.mark.parametrize("chunk", [0, -16, 16])
def test_table_that_no_hardware_could_hold_is_reported(protected: Any, chunk: int) -> None:
    """Whoever shows a program chooses its table: neither time nor memory may follow its sizes."""
    code = row(protected, SCRATCH, length=1 << 39, chunk=chunk)
    assert (0, Rule.TABLE) in code.broken()


def test_bitmap_has_a_bit_for_each_writable_chunk(protected: Any) -> None:
    for bits, rules in ((5, set()), (4, {(0, Rule.TABLE)})):
        config = SystemConfig(tec=TecConfig(bitmap_bits=bits))
        found = {(f.index, f.rule) for f in replace(protected, config=config).check()}
        assert {entry for entry in found if entry[1] is Rule.TABLE} == rules


def test_tensor_has_one_row(protected: Any) -> None:
    twice = (*protected.given["tensors"], protected.given["tensors"][INPUT])
    assert protected.broken(tensors=twice) == {(0, Rule.TABLE)}


def test_tensors_of_a_program_file_serve_as_the_table(protected: Any) -> None:
    rows = [
        TensorSpec(
            name=f"t{r.handle}",
            handle=r.handle,
            domain=Domain(r.domain),
            permissions=Permission(r.permissions),
            length=r.length,
            chunk=r.chunk,
        )
        for r in protected.given["tensors"]
    ]
    assert protected.check(tensors=rows) == []


def test_build_without_tec_reads_the_same_stream_as_plain_addresses(protected: Any) -> None:
    config = SystemConfig(tec=None)
    code = protected.instructions
    image = protected.given["contents"][UOPS]

    def dram(address: int, count: int) -> bytes:
        # The handle of the micro-ops becomes part of a byte address.
        start = address - (at(UOPS, 0) * 4) % (1 << 32)
        return image[start : start + count]

    assert check_program(code, config, dram=dram) == []
    assert check_program(code, config.core, dram=dram) == []


def test_random_bytes_give_findings_and_never_raise(configs: dict[str, CoreConfig]) -> None:
    import random

    rng = random.Random(3)
    rows = [
        TensorRule(n, rng.randrange(1, 6), rng.randrange(8), 16 * rng.randrange(1, 9), 1 << 20)
        for n in range(64)
    ]
    contents = {n: rng.randbytes(1 << 12) for n in range(64)}
    for config in configs.values():
        words = b"".join(
            bytes([word[0] & ~7 | rng.randrange(5)]) + word[1:]
            for word in (rng.randbytes(16) for _ in range(300))
        )
        assert check_program(words, SystemConfig(core=config), tensors=rows, contents=contents)
        assert check_program(words, SystemConfig(core=config))
