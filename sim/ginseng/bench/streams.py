"""Components side by side in one top, and what must come out of them: one table for all.

`run_cases` builds `StreamTop`, and has `ginseng.bench.stream_tests`, which runs in the simulator,
feed and drain every stream of every case under patterns of idle and back-pressure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Member, Out, Signature

from ginseng.bench.errors import BenchError
from ginseng.bench.vpi import run_tests

__all__ = ["MemoryCase", "StreamCase", "StreamTop", "Trace", "pack", "run_cases", "whole"]


def pack(layout: Any, **values: int) -> int:
    """Return a struct as an integer; fields left out are zero."""
    layout, word = data.Layout.cast(layout), 0
    for name, value in values.items():
        at = layout[name]
        if not 0 <= value < 1 << at.width:
            raise BenchError(f"{name} holds 0 to {(1 << at.width) - 1}, not {value}")
        word |= int(value) << at.offset
    return word


def whole(values: Iterable[int]) -> list[tuple[int, int]]:
    """Return items all of whose bits mean something, for `StreamCase.outputs`."""
    return [(value, -1) for value in values]


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """A memory beside a component, of one cycle of latency; a read gives what was there before.

    Attributes
    ----------
    words : sequence of int
        Contents, at first.
    reads : sequence of str
        Pins of each read port: enable, address and data, and grant if it can be refused.
    write : str
        Pins of the write port: enable, address, data. Empty if there is none.
    holds : bool
        Whether data stays until the next read; else what follows it is made up.

    """

    words: Sequence[int]
    reads: Sequence[str]
    write: str = ""
    holds: bool = True


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a component without streams answers, cycle by cycle.

    Attributes
    ----------
    inputs, outputs : sequence of str
        Pins.
    rows : sequence of (int, sequence of int, sequence of int)
        Cycles for which the inputs are held, their values, and those of the outputs in the last.

    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    rows: Sequence[tuple[int, Sequence[int], Sequence[int]]]


@dataclass(frozen=True, kw_only=True)
class StreamCase:
    """One component, what goes into it, and what must come out.

    Attributes
    ----------
    name : str
        A Python name.
    component : wiring.Component
        Not elaborated yet.
    inputs : mapping of str to sequence of int
        Payloads by stream, in order.
    outputs : mapping of str to sequence of (int, int)
        Payloads by stream with the mask of the bits that mean something, in order.
    strobes : mapping of str to sequence of int
        Of inputs without handshake the values, in order, each for one cycle; zero between them.
    records : mapping of str to sequence of sequence of int
        Of outputs without handshake the values, in order, in the cycles in which bit 0 of the first
        is high. The key is their names, with spaces between.
    after : mapping of str to (str, sequence of int)
        Of an input or strobe: each item is offered once so many of another stream or strobe have
        passed.
    memories : sequence of MemoryCase
        What the component reads and writes.
    constants : mapping of str to int
        Other inputs.
    settles : mapping of str to int
        Outputs after everything.
    trace : Trace or None
        In the place of all that.
    lanes : int
        Of an output whose items come from several sources: the bits at the bottom of its payload
        that name the source. Order counts among those of one source only.
    loose : bool
        Whether bits without meaning may change while an item waits.

    """

    name: str
    component: Any
    inputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    outputs: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    strobes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    records: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    after: Mapping[str, tuple[str, Sequence[int]]] = field(default_factory=dict)
    memories: Sequence[MemoryCase] = ()
    constants: Mapping[str, int] = field(default_factory=dict)
    settles: Mapping[str, int] = field(default_factory=dict)
    trace: Trace | None = None
    lanes: int = 0
    loose: bool = False


class StreamTop(wiring.Component):  # type: ignore[type-arg]  # ports come from the signature
    """The components of ``cases``, each with its ports under its name.

    Parameters
    ----------
    cases : sequence of StreamCase

    """

    def __init__(self, cases: Sequence[StreamCase]) -> None:
        self.cases = cases
        names = [case.name for case in cases]
        if len(set(names)) != len(names):
            raise BenchError(f"Stream cases have names of their own, not {names}")
        super().__init__({case.name: Out(_pins(case.component.signature)) for case in cases})

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        for case in self.cases:
            m.submodules[case.name] = case.component
            # Not `connect`: it does not take arrays of interfaces inside one that is flipped.
            signature = case.component.signature
            ours = _pins(signature).flatten(getattr(self, case.name))
            for (_, _, port), (_, member, inner) in zip(
                ours, signature.flatten(case.component), strict=True
            ):
                takes = member.flow is wiring.In
                m.d.comb += inner.eq(port) if takes else port.eq(inner)

        return m


def _pins(signature: Any) -> Signature:
    """Return ``signature`` with a pin for what is always ready: a constant is no port."""
    members: dict[str, Member] = {}
    for name, member in signature.members.items():
        if member.is_signature and isinstance(member.signature, stream.Signature):
            plain = stream.Signature(member.signature.members["payload"].shape)
            member = Member(member.flow, plain).array(*member.dimensions)
        members[name] = member
    return Signature(members)


def run_cases(cases: Sequence[StreamCase], scratch: Path) -> None:
    """Build ``cases`` and run them all; `BenchError` says which failed, `run_tests` what else."""
    plan = [
        {
            f.name: getattr(case, f.name)
            for f in fields(case)
            if f.name not in ("component", "memories", "trace")
        }
        | {
            "memories": [asdict(memory) for memory in case.memories],
            "trace": asdict(case.trace) if case.trace else None,
        }
        for case in cases
    ]
    run_tests(StreamTop(cases), "ginseng.bench.stream_tests", scratch=scratch, plan=plan)
