"""Stream components side by side in one top, and what must come out of them: one table for all.

`StreamTop` is built, and `ginseng.bench.stream_tests`, which runs in the simulator, feeds and
drains every stream of every case under patterns of idle and back-pressure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ginseng.bench.errors import BenchError

__all__ = ["StreamCase", "StreamTop", "stream_plan"]


@dataclass(frozen=True, kw_only=True)
class StreamCase:
    """One component, what goes into its streams, and what must come out.

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
    constants : mapping of str to int
        Other inputs.
    lanes : int
        Of an output whose items come from several sources: the bits at the bottom of its payload
        that name the source. Order counts among those of one source only.
    loose : bool
        Whether bits without meaning may change while an item waits.

    """

    name: str
    component: Any
    inputs: Mapping[str, Sequence[int]]
    outputs: Mapping[str, Sequence[tuple[int, int]]]
    constants: Mapping[str, int] = field(default_factory=dict)
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
        super().__init__({case.name: Out(case.component.signature) for case in cases})

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        for case in self.cases:
            m.submodules[case.name] = case.component
            # Not `connect`: it does not take arrays of interfaces inside one that is flipped.
            signature = case.component.signature
            ours = signature.flatten(getattr(self, case.name))
            for (_, member, port), (_, _, inner) in zip(
                ours, signature.flatten(case.component), strict=True
            ):
                takes = member.flow is wiring.In
                m.d.comb += inner.eq(port) if takes else port.eq(inner)

        return m


def stream_plan(cases: Sequence[StreamCase]) -> list[dict[str, Any]]:
    """Return what `ginseng.bench.stream_tests` reads."""
    return [
        {
            "name": case.name,
            "inputs": {name: list(items) for name, items in case.inputs.items()},
            "outputs": {name: [list(pair) for pair in c] for name, c in case.outputs.items()},
            "constants": dict(case.constants),
            "lanes": case.lanes,
            "loose": case.loose,
        }
        for case in cases
    ]
