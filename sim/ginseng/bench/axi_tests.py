"""Runs in the simulator: the plain DMA beside cocotbext-axi's memory."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiRam

from ginseng.bench.stream_tests import drain, feed, start
from ginseng.bench.vpi import read_plan

__all__ = ["memory_of"]

_PERIOD = 10


def _pauses(chance: float, seed: object) -> Iterator[bool]:
    rng = random.Random(str(seed))
    while True:
        yield rng.random() < chance


def memory_of(dut: Any, plan: dict[str, Any], chance: float) -> Any:
    """Return a memory that holds the image, each channel pausing with probability ``chance``."""
    image = Path(plan["before"]).read_bytes()
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, size=len(image))
    ram.write(0, image)
    reads, writes = ram.read_if, ram.write_if
    channels = (
        *(reads.ar_channel, reads.r_channel),
        *(writes.aw_channel, writes.w_channel, writes.b_channel),
    )
    for n, channel in enumerate(channels):
        channel.set_pause_generator(_pauses(chance, n))
    return ram


async def _count(dut: Any, port: str, counts: dict[str, int]) -> None:
    while True:
        await RisingEdge(dut.clk)
        counts[port] += int(getattr(dut, f"memory__{port}__done").value)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def every_transfer_moves_its_bytes(dut: Any, pause: float) -> None:
    """Reads bring what memory holds, stores leave what they should, each completes once."""
    plan = read_plan()
    streams = plan["streams"]
    for port, value in plan["constants"].items():
        getattr(dut, port).value = value
    for client in ("fetch", "compute", "inp", "wgt", "store"):
        getattr(dut, f"memory__{client}__descriptor__valid").value = 0
    ram = memory_of(dut, plan, pause)
    await start(dut)
    counts = dict.fromkeys(plan["done"], 0)
    watchers = [cocotb.start_soon(_count(dut, port, counts)) for port in counts]
    feeds = [
        cocotb.start_soon(feed(dut, f"memory__{name}", items, idle=pause / 2, seed=pause))
        for name, items in streams["in"].items()
    ]
    got: dict[str, list[int]] = {name: [] for name in streams["out"]}
    drains = [
        cocotb.start_soon(
            drain(
                dut,
                f"memory__{name}",
                len(items),
                got[name],
                masks=[mask for _, mask in items],
                stall=pause / 2,
                seed=pause,
            )
        )
        for name, items in streams["out"].items()
    ]
    for task in (*feeds, *drains):
        await with_timeout(task, 400_000 * _PERIOD, "ns")
    for _ in range(100_000):
        if counts == plan["done"]:
            break
        await RisingEdge(dut.clk)
    assert counts == plan["done"]
    for watcher in watchers:
        watcher.cancel()
    assert not dut.memory__fault.value
    for name, items in streams["out"].items():
        for n, (mine, (value, mask)) in enumerate(zip(got[name], items, strict=True)):
            assert mine & mask == value & mask, f"{name}, beat {n}: {mine:#x}, not {value:#x}"
    after = Path(plan["after"]).read_bytes()
    assert ram.read(0, len(after)) == after
