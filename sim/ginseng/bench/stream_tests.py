"""Runs in the simulator: every stream of `ginseng.bench.streams` under idle and back-pressure.

What Amaranth's RFC 61 demands of a stream: valid does not wait for ready, and does not fall before
the item is taken; the payload holds until then; no item is lost, made up, or doubled.
"""

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, SimTimeoutError, with_timeout

from ginseng.bench.vpi import read_plan

__all__ = ["Pattern", "drain", "feed", "start"]

_PERIOD = 10
#: Cycles after the last item in which no other may come.
_SILENCE = 40


@dataclass(frozen=True)
class Pattern:
    """How often a source pauses and a sink refuses; a patient sink waits for valid first."""

    name: str
    idle: float = 0
    stall: float = 0
    patient: bool = False


_PATTERNS = (
    Pattern("no pause"),
    Pattern("idle", idle=0.6),
    Pattern("back-pressure", stall=0.6),
    Pattern("both", idle=0.4, stall=0.4),
    Pattern("ready only after valid", patient=True, stall=0.2),
)


async def start(dut: Any) -> None:
    """Start the clock and reset."""
    Clock(dut.clk, _PERIOD, unit="ns").start()
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


def _pin(dut: Any, stream: str, name: str) -> Any:
    return getattr(dut, f"{stream}__{name}")


async def feed(
    dut: Any, stream: str, items: list[int], *, idle: float = 0, seed: object = 0
) -> None:
    """Offer ``items``, each until it is taken."""
    rng = random.Random(f"{seed} {stream}")
    payload, valid, ready = (_pin(dut, stream, name) for name in ("payload", "valid", "ready"))
    for item in items:
        while rng.random() < idle:
            await RisingEdge(dut.clk)
        payload.value = item
        valid.value = 1
        # Values right after the edge are those that it sampled.
        await RisingEdge(dut.clk)
        while not ready.value:
            await RisingEdge(dut.clk)
        valid.value = 0


async def drain(
    dut: Any,
    stream: str,
    count: int,
    got: list[int],
    *,
    masks: list[int] | None = None,
    stall: float = 0,
    patient: bool = False,
    seed: object = 0,
) -> None:
    """Take ``count`` items into ``got``, then see that no more come.

    ``masks`` has the bits of each that must not change while it waits; by default all.
    """
    rng = random.Random(f"{seed} {stream}")
    payload, valid, ready = (_pin(dut, stream, name) for name in ("payload", "valid", "ready"))
    held: int | None = None
    silence = 0
    while silence < _SILENCE:
        takes = rng.random() >= stall and (not patient or held is not None)
        ready.value = int(takes)
        await RisingEdge(dut.clk)
        offered = int(payload.value) if valid.value else None
        if held is not None:
            assert offered is not None, f"{stream}: valid fell before the item was taken"
            mask = -1 if masks is None else masks[len(got)]
            same = offered & mask == held & mask
            assert same, f"{stream}: {held:#x} became {offered:#x} while it waited"
        held = None if takes else offered
        if takes and offered is not None:
            got.append(offered)
            assert len(got) <= count, f"{stream}: {offered:#x} is one item too many"
        silence = silence + 1 if len(got) == count else 0
    ready.value = 0


def _compare(stream: str, got: list[int], wanted: list[list[int]], lanes: int) -> None:
    for items in (got, wanted):
        assert len(items) == len(wanted), f"{stream}: {len(got)} items, not {len(wanted)}"
    mine, theirs = defaultdict(list), defaultdict(list)
    low = (1 << lanes) - 1
    for item in got:
        mine[item & low].append(item)
    for item, mask in wanted:
        theirs[item & low].append((item, mask))
    for lane, pairs in theirs.items():
        for n, (item, (value, mask)) in enumerate(zip(mine[lane], pairs, strict=True)):
            assert item & mask == value & mask, f"{stream}, item {n}: {item:#x}, not {value:#x}"


async def _run(dut: Any, case: dict[str, Any], pattern: Pattern) -> None:
    name = case["name"]
    tasks = [
        cocotb.start_soon(feed(dut, f"{name}__{s}", items, idle=pattern.idle, seed=pattern.name))
        for s, items in case["inputs"].items()
    ]
    got: dict[str, list[int]] = {stream: [] for stream in case["outputs"]}
    tasks += [
        cocotb.start_soon(
            drain(
                dut,
                f"{name}__{stream}",
                len(items),
                got[stream],
                masks=[mask for _, mask in items] if case["loose"] else None,
                stall=pattern.stall,
                patient=pattern.patient,
                seed=pattern.name,
            )
        )
        for stream, items in case["outputs"].items()
    ]
    for task in tasks:
        await task
    for stream, items in case["outputs"].items():
        _compare(f"{name}.{stream}, {pattern.name}", got[stream], items, case["lanes"])


@cocotb.test()
@cocotb.parametrize(pattern=_PATTERNS)
async def every_stream_keeps_the_rules(dut: Any, pattern: Pattern) -> None:
    """Nothing is lost, doubled or changed, whoever pauses."""
    cases = read_plan()
    for case in cases:
        for port, value in case["constants"].items():
            getattr(dut, f"{case['name']}__{port}").value = value
        for stream in case["inputs"]:
            _pin(dut, f"{case['name']}__{stream}", "valid").value = 0
        for stream in case["outputs"]:
            _pin(dut, f"{case['name']}__{stream}", "ready").value = 0
    await start(dut)
    tasks = {case["name"]: cocotb.start_soon(_run(dut, case, pattern)) for case in cases}
    for name, task in tasks.items():
        try:
            await with_timeout(task, 20_000 * _PERIOD, "ns")
        except SimTimeoutError:
            raise AssertionError(f"{name}, {pattern.name}: nothing moves any more") from None
