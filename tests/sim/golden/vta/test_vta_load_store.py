"""LOAD and STORE: padding, strides, formats, and addresses that wrap."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.isa.config import NAMED_CORES, CoreConfig, Memory
from ginseng.isa.insn import Opcode

LOADED = (Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC, Memory.ACC_8BIT)


def pad_of(machine: Any, memory: Memory) -> Any:
    pads = machine.core.pads
    return {Memory.UOP: pads.uop, Memory.WGT: pads.wgt, Memory.INP: pads.inp}.get(memory, pads.acc)


def queue_order(machine: Any, load: bytes) -> list[bytes]:
    """A program of one load, whose queue FINISH waits for."""
    insn = machine.isa.decode(load)
    if insn["memory"] not in (Memory.INP, Memory.WGT):
        return [load, machine.finish()]
    return [
        machine.insn(Opcode.LOAD, **insn.fields | {"push_next": 1}),
        machine.finish(pop_prev=1),
    ]


@settings(max_examples=120, deadline=None)
@given(
    memory=st.sampled_from(LOADED),
    config=st.sampled_from(list(NAMED_CORES.values())),
    pads=st.tuples(*[st.integers(0, 15)] * 4),
    size=st.tuples(st.integers(0, 4), st.integers(0, 5)),
    stride=st.integers(0, 9),
    sram_base=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_a_load_pads_with_zeros_and_touches_nothing_else(
    machine: Any,
    naive: Any,
    memory: Memory,
    config: CoreConfig,
    pads: tuple[int, int, int, int],
    size: tuple[int, int],
    stride: int,
    sram_base: int,
    seed: int,
) -> None:
    m = machine(config=config, nbytes=1 << 18)
    m.dram.bytes[:] = np.random.default_rng(seed).integers(0, 256, 1 << 18)
    names = ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")
    load = m.load(
        memory,
        sram_base,
        7 * config.element_bytes(memory),
        x_size=size[1],
        y_size=size[0],
        x_stride=stride,
        **dict(zip(names, pads, strict=True)),
    )
    m.start(*queue_order(m, load))
    model = naive(config, m.dram.bytes)
    before = pad_of(m, memory).copy()
    if memory is Memory.UOP:
        model.uop = [int(word).to_bytes(4, "little") for word in before]
    else:
        home = Memory.ACC if memory is Memory.ACC_8BIT else memory
        model.pads[home][:] = before
    insn = model.isa.decode(load)
    if size[1]:
        model.load(insn)
    m.core.run()
    after = pad_of(m, memory)
    if memory is Memory.UOP:
        assert [int(word).to_bytes(4, "little") for word in after] == model.uop
    else:
        np.testing.assert_array_equal(after, model.pads[home])


@settings(max_examples=60, deadline=None)
@given(
    config=st.sampled_from(list(NAMED_CORES.values())),
    size=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    stride=st.integers(0, 8),
    sram_base=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_a_store_truncates_and_leaves_the_bytes_between_its_rows(
    machine: Any,
    naive: Any,
    config: CoreConfig,
    size: tuple[int, int],
    stride: int,
    sram_base: int,
    seed: int,
) -> None:
    m = machine(config=config, nbytes=1 << 16)
    m.dram.bytes[:] = np.random.default_rng(seed).integers(0, 256, 1 << 16)
    store = m.store(sram_base, 1 << 14, x_size=size[1], y_size=size[0], x_stride=stride)
    store = m.insn(Opcode.STORE, **m.isa.decode(store).fields | {"push_prev": 1})
    program = [store, m.finish(pop_next=1)]
    m.start(*program)
    model = naive(config, m.dram.bytes)
    model.pads[Memory.ACC][:] = m.core.pads.acc
    if size[1]:
        model.store(model.isa.decode(store))
    m.core.run()
    np.testing.assert_array_equal(m.dram.bytes, model.dram)


def test_micro_ops_written_by_a_two_dimensional_padded_load_steer_the_next_instruction(
    machine: Any,
) -> None:
    m = machine()
    at = m.place(m.isa.uop.pack(dst=9, src=8, wgt=7) * 4)
    m.core.pads.acc[:] = 1
    m.run(
        m.load(Memory.UOP, 0, at, x_size=1, y_size=2, x_stride=2, x_pad_0=1, y_pad_1=1),
        m.insn(Opcode.GEMM, reset=1, uop_begin=1, uop_end=2, iter_out=1, iter_in=1),
        m.finish(),
    )
    word = int.from_bytes(m.isa.uop.pack(dst=9, src=8, wgt=7), "little")
    assert m.core.pads.uop[:6].tolist() == [0, word, 0, word, 0, 0]
    assert np.flatnonzero(m.core.pads.acc[:, 0, 0] == 0).tolist() == [9]


def test_eight_bit_accumulators_are_sign_extended(machine: Any) -> None:
    m = machine()
    at = m.place(bytes(range(120, 136)))
    m.run(m.load(Memory.ACC_8BIT, 3, at, x_pad_1=1), m.finish())
    assert m.core.pads.acc[3, 0].tolist() == [*range(120, 128), *range(-128, -120)]
    assert not m.core.pads.acc[4].any()


def test_a_store_of_reset_or_loaded_accumulators_sees_them(machine: Any) -> None:
    m = machine()
    at = m.place(np.arange(300, 316, dtype="<i4").tobytes())
    m.uops((1,))
    m.core.pads.acc[:] = -1
    out = m.place(b"\x55" * 32)
    m.run(
        m.load(Memory.ACC, 0, at),
        m.insn(Opcode.GEMM, reset=1, uop_end=1, iter_out=1, iter_in=1, push_next=1),
        m.insn(
            Opcode.STORE,
            **m.isa.decode(m.store(0, out, x_size=2)).fields | {"pop_prev": 1, "push_prev": 1},
        ),
        m.finish(pop_next=1),
    )
    assert m.dram.bytes[out : out + 32].tolist() == [*(k % 256 for k in range(300, 316)), *[0] * 16]


def test_element_addresses_wrap_modulo_2_to_the_32(machine: Any) -> None:
    m = machine()
    m.place(bytes(range(64)) * 4)
    # Element 2**28 of 16 bytes is byte 2**32, which is byte 0.
    load = m.insn(
        Opcode.LOAD,
        memory=Memory.INP,
        dram_base=(1 << 28) + 1,
        y_size=2,
        x_size=1,
        x_stride=2,
    )
    m.run(*queue_order(m, load))
    assert m.core.pads.inp[:2, 0].tolist() == [[*range(16, 32)], [*range(48, 64)]]
    store = m.insn(
        Opcode.STORE, memory=Memory.OUT, dram_base=(1 << 30) + 40, y_size=1, x_size=1, push_prev=1
    )
    m.core.pads.acc[0] = 77
    m.run(store, m.finish(pop_next=1))
    assert m.dram.bytes[640:656].tolist() == [77] * 16


@pytest.mark.parametrize("memory", LOADED)
def test_a_load_without_columns_does_nothing_even_with_padding_or_an_unknown_memory(
    machine: Any, memory: Memory
) -> None:
    m = machine()
    before = [pad.copy() for pad in (m.core.pads.uop, m.core.pads.inp, m.core.pads.acc)]
    nop = {
        "sram_base": 65535,
        "dram_base": (1 << 32) - 1,
        "y_size": 9,
        "y_pad_0": 15,
        "x_pad_0": 15,
    }
    for illegal in (memory, 4, 6, 7):
        load = m.insn(Opcode.LOAD, memory=illegal, **nop)
        m.run(*queue_order(m, load))
    store = m.insn(Opcode.STORE, memory=memory, push_prev=1, **nop)
    m.run(store, m.finish(pop_next=1))
    for pad, old in zip((m.core.pads.uop, m.core.pads.inp, m.core.pads.acc), before, strict=True):
        np.testing.assert_array_equal(pad, old)
