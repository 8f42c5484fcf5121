"""The banks of ACC under every mix of readers and writers."""

import random

import pytest
from amaranth.sim import Simulator

from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.vta.acc import ALU_LATENCY, Accumulators, granules

READERS = ("gemm_read", "alu_dst", "alu_src", "store_read")


def bank_of(address, depth):
    """The rule that schedules rely on: half of the scratchpad, even or odd."""
    return address >= depth // 2, address % 2 if depth > 2 else 0


@pytest.mark.parametrize("load", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("log_depth", [1, 2, 5])
def test_banks_keep_what_is_written_and_refuse_only_in_conflict(log_depth, load):
    config = CoreConfig(
        log_block=2,
        log_uop_buff_size=7,
        log_inp_buff_size=6,
        log_wgt_buff_size=9,
        log_acc_buff_size=4 + log_depth,
    )
    bus = BusConfig()
    depth, parts = config.depth(Memory.ACC), granules(config, bus)
    width = 8 * config.element_bytes(Memory.ACC) // parts
    dut, rng = Accumulators(config, bus), random.Random(log_depth)
    contents = [None] * depth

    async def bench(ctx):
        gemm, alu = {}, {}

        def claim(name, address):
            port = getattr(dut, name)
            ctx.set(port.valid, address is not None)
            ctx.set(port.address, address or 0)

        def write(name, address, enable=1):
            port = getattr(dut, name)
            value = rng.getrandbits(parts * width)
            ctx.set(port.enable, enable if address is not None else 0)
            ctx.set(port.address, address or 0)
            ctx.set(port.data, value)
            return value

        for address in range(depth):
            value = write("other_write", address, (1 << parts) - 1)
            contents[address] = value
            await ctx.tick()
        for now in range(400):
            gemm[now + ALU_LATENCY] = rng.randrange(depth) if rng.random() < load else None
            claim("gemm_coming", gemm[now + ALU_LATENCY])
            claim("gemm_next", gemm.get(now + 1))
            claim("alu_next", alu.get(now + 1))
            changes = []
            for name, plan in (("gemm_write", gemm), ("alu_write", alu)):
                address = plan.get(now)
                value = write(name, address)
                if address is not None:
                    changes.append((address, value, (1 << parts) - 1))
            mask = rng.getrandbits(parts) if rng.random() < load else 0
            address = rng.randrange(depth)
            value = write("other_write", address, mask)
            busy = [bank_of(a, depth) for a, _, _ in changes]
            assert len(busy) == len(set(busy)), "GEMM and ALU write one bank"
            free = bank_of(address, depth) not in busy
            if mask:
                assert ctx.get(dut.other_write.grant) == free
            if mask and free:
                changes.append((address, value, mask))

            wanted, taken, expected = {}, [], []
            coming = gemm[now + ALU_LATENCY]
            for name in READERS:
                port = getattr(dut, name)
                wanted[name] = rng.randrange(depth) if rng.random() < load else None
                ctx.set(port.enable, wanted[name] is not None)
                ctx.set(port.address, wanted[name] or 0)
            for name in READERS:
                if wanted[name] is None:
                    continue
                place = bank_of(wanted[name], depth)
                blocked = place in taken
                if name == "alu_dst" and coming is not None:
                    blocked |= place == bank_of(coming, depth)
                assert ctx.get(getattr(dut, name).grant) == (not blocked)
                if not blocked:
                    taken.append(place)
                    expected.append((name, contents[wanted[name]]))
                    if name == "alu_dst":
                        alu[now + ALU_LATENCY] = wanted[name]
            await ctx.tick()
            for name, value in expected:
                assert ctx.get(getattr(dut, name).data) == value
            for address, value, mask in changes:
                for part in range(parts):
                    if mask >> part & 1:
                        ones = ((1 << width) - 1) << part * width
                        contents[address] = contents[address] & ~ones | value & ones

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
