"""Runs in the simulator: every stream of `ginseng.bench.streams` under idle and back-pressure.

What Amaranth's RFC 61 demands of a stream: valid does not wait for ready, and does not fall before
the item is taken; the payload holds until then; no item is lost, made up, or doubled.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, SimTimeoutError, with_timeout

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
    dut: Any,
    stream: str,
    items: list[int],
    *,
    idle: float = 0,
    seed: object = 0,
    may: Callable[[int], bool] = lambda n: True,
    passed: Callable[[], None] = lambda: None,
) -> None:
    """Offer ``items``, each until it is taken; item ``n`` not before ``may(n)``."""
    rng = random.Random(f"{seed} {stream}")
    payload, valid, ready = (_pin(dut, stream, name) for name in ("payload", "valid", "ready"))
    for n, item in enumerate(items):
        while rng.random() < idle or not may(n):
            await RisingEdge(dut.clk)
        payload.value = item
        valid.value = 1
        # Values right after the edge are those that it sampled.
        await RisingEdge(dut.clk)
        while not ready.value:
            await RisingEdge(dut.clk)
        valid.value = 0
        passed()


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
    passed: Callable[[], None] = lambda: None,
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
            passed()
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


async def _strobe(
    pin: Any, clk: Any, values: list[int], rng: random.Random, idle: float, agent: "_Agent"
) -> None:
    for n, value in enumerate(values):
        while rng.random() < idle or not agent.may(n):
            await RisingEdge(clk)
        pin.value = value
        await RisingEdge(clk)
        pin.value = 0
        agent.passed()


async def _record(pins: list[Any], clk: Any, wanted: list[list[int]], agent: "_Agent") -> None:
    """See that the values of ``pins`` are those wanted, whenever the first says that they count."""
    count = silence = 0
    while silence < _SILENCE:
        await RisingEdge(clk)
        if int(pins[0].value) & 1:
            found = [int(pin.value) for pin in pins]
            assert count < len(wanted), f"{agent.name}: {found} is one too many"
            assert found == wanted[count], f"{agent.name}, {count}: {found}, not {wanted[count]}"
            count += 1
            agent.passed()
        silence = silence + 1 if count == len(wanted) else 0


async def _remember(
    dut: Any, name: str, memory: dict[str, Any], rng: random.Random, refuse: float
) -> None:
    """Be a memory, which refuses what it may with probability ``refuse``."""

    def pins(names: str) -> list[Any]:
        return [_pin(dut, name, pin) for pin in names.split()]

    words = list(memory["words"])
    reads = [pins(names) for names in memory["reads"]]
    write = pins(memory["write"])
    while True:
        granted = [rng.random() >= refuse for _ in reads]
        for (*_, grant), given in zip((read[3:] or [None] for read in reads), granted, strict=True):
            if grant is not None:
                grant.value = int(given)
        await RisingEdge(dut.clk)
        for (enable, address, data, *grant), given in zip(reads, granted, strict=True):
            if enable.value and (given or not grant):
                data.value = words[int(address.value)]
            elif not memory["holds"]:
                data.value = rng.getrandbits(len(data))
        if write and write[0].value:
            words[int(write[1].value)] = int(write[2].value)


class _Agent:
    """What one stream, strobe or record of a case has passed, and what it waits for."""

    def __init__(self, case: dict[str, Any], stream: str, counts: Counter[str]) -> None:
        self.name = f"{case['name']}__{stream}"
        self._stream, self._counts = stream, counts
        self._other, self._needs = case["after"].get(stream, ("", []))

    def may(self, n: int) -> bool:
        """Whether item ``n`` may be offered."""
        return not self._needs or self._counts[self._other] >= self._needs[n]

    def passed(self) -> None:
        """Count an item."""
        self._counts[self._stream] += 1


async def _run(dut: Any, case: dict[str, Any], pattern: Pattern) -> None:
    name = case["name"]
    counts: Counter[str] = Counter()
    got: dict[str, list[int]] = {stream: [] for stream in case["outputs"]}

    def agent(stream: str) -> _Agent:
        return _Agent(case, stream, counts)

    def rng(stream: str) -> random.Random:
        return random.Random(f"{pattern.name} {name} {stream}")

    memories = [
        cocotb.start_soon(_remember(dut, name, memory, rng(str(n)), pattern.stall))
        for n, memory in enumerate(case["memories"])
    ]
    tasks = [
        feed(
            dut,
            f"{name}__{stream}",
            items,
            idle=pattern.idle,
            seed=pattern.name,
            may=agent(stream).may,
            passed=agent(stream).passed,
        )
        for stream, items in case["inputs"].items()
    ]
    tasks += [
        drain(
            dut,
            f"{name}__{stream}",
            len(items),
            got[stream],
            masks=[mask for _, mask in items] if case["loose"] else None,
            stall=pattern.stall,
            patient=pattern.patient,
            seed=pattern.name,
            passed=agent(stream).passed,
        )
        for stream, items in case["outputs"].items()
    ]
    tasks += [
        _strobe(_pin(dut, name, pin), dut.clk, values, rng(pin), pattern.idle, agent(pin))
        for pin, values in case["strobes"].items()
    ]
    tasks += [
        _record([_pin(dut, name, pin) for pin in names.split()], dut.clk, wanted, agent(names))
        for names, wanted in case["records"].items()
    ]
    for task in [cocotb.start_soon(task) for task in tasks]:
        await task
    for memory in memories:
        memory.cancel()
    for stream, items in case["outputs"].items():
        _compare(f"{name}.{stream}, {pattern.name}", got[stream], items, case["lanes"])
    for pin, value in case["settles"].items():
        assert _pin(dut, name, pin).value == value, f"{name}.{pin} is not {value} at the end"


async def _begin(dut: Any, cases: list[dict[str, Any]]) -> None:
    for case in cases:
        trace = case["trace"] or {"inputs": []}
        idle = {
            **dict.fromkeys((f"{stream}__valid" for stream in case["inputs"]), 0),
            **dict.fromkeys((f"{stream}__ready" for stream in case["outputs"]), 0),
            **dict.fromkeys((*case["strobes"], *trace["inputs"]), 0),
        }
        for port, value in (idle | case["constants"]).items():
            _pin(dut, case["name"], port).value = value
    await start(dut)


@cocotb.test()
@cocotb.parametrize(pattern=_PATTERNS)
async def every_stream_keeps_the_rules(dut: Any, pattern: Pattern) -> None:
    """Nothing is lost, doubled or changed, whoever pauses."""
    plan = read_plan()
    await _begin(dut, plan)
    cases = [case for case in plan if not case["trace"]]
    tasks = {case["name"]: cocotb.start_soon(_run(dut, case, pattern)) for case in cases}
    for name, task in tasks.items():
        try:
            await with_timeout(task, 20_000 * _PERIOD, "ns")
        except SimTimeoutError:
            raise AssertionError(f"{name}, {pattern.name}: nothing moves any more") from None


@cocotb.test()
async def every_trace_is_followed(dut: Any) -> None:
    """Components without streams answer in every cycle what they should."""
    plan = read_plan()
    await _begin(dut, plan)
    for case in plan:
        trace = case["trace"] or {"inputs": [], "outputs": [], "rows": []}
        inputs, outputs = (
            [_pin(dut, case["name"], pin) for pin in trace[way]] for way in ("inputs", "outputs")
        )
        for n, (cycles, given, wanted) in enumerate(trace["rows"]):
            for pin, value in zip(inputs, given, strict=True):
                pin.value = value
            await ClockCycles(dut.clk, cycles)
            found = [int(pin.value) for pin in outputs]
            assert found == wanted, f"{case['name']}, row {n}: {found}, not {wanted}"
