"""Runs in the simulator: the whole bare build beside cocotbext-axi's memory and host."""

from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from ginseng.bench.axi_tests import memory_of
from ginseng.bench.stream_tests import start
from ginseng.bench.vpi import read_plan

__all__: list[str] = []


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def a_program_leaves_what_the_golden_device_leaves(dut: Any, pause: float) -> None:
    """Launched and polled over AXI4-Lite, as a driver does."""
    plan = read_plan()
    ram = memory_of(dut, plan, pause)
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_"), dut.clk, dut.rst)
    await start(dut)
    for offset, value in plan["registers"]:
        await host.write_dword(offset, value)
    for _ in range(2000):
        for _ in range(100):
            await RisingEdge(dut.clk)
        if dut.irq.value:
            break
    assert await host.read_dword(plan["status"]) == plan["finished"]
    after = Path(plan["after"]).read_bytes()
    assert ram.read(0, len(after)) == after
