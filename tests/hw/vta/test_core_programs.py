import numpy as np
import pytest

from ginseng.bench.programs import random_program
from ginseng.isa.config import BusConfig


def run_both(config, seed, bench, golden, timing, bus=None, length=16, **options):
    program = random_program(config, seed, length=length)
    window = 1 << 16
    assert len(program.image) <= window
    model, gates = golden(config, window), bench(config, bus, timing=timing, **options)
    for dram in (model.dram, gates.dram):
        dram.bytes[: len(program.image)] = program.image
    wanted = model.run(program.insn_addr, program.insn_count)
    (outcome,) = gates.run([(program.insn_addr, program.insn_count)])
    assert (outcome.done, outcome.fault) == (True, False)
    assert np.array_equal(np.frombuffer(outcome.dram, np.uint8), np.frombuffer(wanted, np.uint8))
    counters = model.core.counters
    assert (outcome.gemm_uops, outcome.alu_uops, outcome.insns) == (
        counters.gemm_uops,
        counters.alu_uops,
        counters.insns,
    )
    return outcome


@pytest.mark.parametrize("seed", range(5))
def test_a_random_program_leaves_what_the_golden_core_leaves(seed, small, bench, golden, timing):
    run_both(small, seed, bench, golden, timing())


@pytest.mark.parametrize("seed", range(8, 12))
def test_idle_and_stalling_memory_changes_nothing(seed, small, bench, golden, timing):
    slow = timing(latency=(0, 40), idle=0.3, stall=0.4, seed=seed)
    run_both(small, seed, bench, golden, slow)


@pytest.mark.parametrize("bits", [64, 128, 512])
def test_every_bus_width_serves_another_shape(bits, wide, bench, golden, timing):
    bus = BusConfig(data_bits=bits, window_bytes=1 << 16)
    run_both(wide, 20 + bits, bench, golden, timing(idle=0.2, stall=0.2), bus=bus)
