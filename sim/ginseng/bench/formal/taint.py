"""Where the values of bits can get to: information flow in a netlist of gates.

A bit is tainted if it may depend on a secret: through a gate, a register or a memory, by value, by
select or by address. What is not tainted does not depend on the secret in any cycle, whatever the
inputs do; what is tainted may still not (the analysis knows gates, not values). So a flow that is
not found does not exist, without a bound in time.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ginseng.bench.errors import BenchError

__all__ = [
    "NETLIST",
    "NETLIST_SCRIPT",
    "SECRETS",
    "Netlist",
    "Secret",
    "read_secrets",
    "write_secrets",
]

#: What Yosys writes, and what the harness says of it.
NETLIST, SECRETS = "design.json", "secrets.json"

#: One flat module of gates of one bit, registers, and memories as they are.
NETLIST_SCRIPT: Final = """
read_rtlil design.il
hierarchy -check -top top
proc
flatten
memory_collect
techmap
clean
write_json design.json
"""

_CONSTANTS: Final = {"0": 0, "1": 1, "x": None, "z": None}


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Bits, and where they must not get to.

    Nets are named by their path, ``dut.lane.mixer.o_data``; a field is ``….payload.data``.

    Attributes
    ----------
    name : str
    sources : tuple of str
        The secret, whatever it is in each cycle.
    sinks : tuple of str
        What must not depend on it.
    reaches : tuple of str
        What it must get to, so that what is cut has not cut everything.
    cuts : tuple of str
        What is public although it depends on the secret, a ciphertext: it is not followed further.
    when : mapping of str to int
        What these nets are in the cycle in which the secret is what it is. Later they are anything.

    """

    name: str
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    reaches: tuple[str, ...]
    cuts: tuple[str, ...] = ()
    when: Mapping[str, int] = field(default_factory=dict)


def write_secrets(secrets: Iterable[Secret], path: Path) -> None:
    """Write what `read_secrets` reads."""
    path.write_text(json.dumps([asdict(secret) for secret in secrets]))


def read_secrets(path: Path) -> list[Secret]:
    """Read what the harness said."""
    return [
        Secret(
            name=item["name"],
            sources=tuple(item["sources"]),
            sinks=tuple(item["sinks"]),
            reaches=tuple(item["reaches"]),
            cuts=tuple(item["cuts"]),
            when=item["when"],
        )
        for item in json.loads(path.read_text())
    ]


@dataclass(frozen=True)
class _Edge:
    """Of a bit to one that depends on it, and how.

    ``later``: in the next cycle. ``enable``: not while that bit is 0.
    """

    target: Any
    later: bool
    enable: Any = None


class Netlist:
    """A flat netlist of Yosys.

    Parameters
    ----------
    path : Path
        What `NETLIST_SCRIPT` leaves.

    Raises
    ------
    BenchError
        If it has a cell that is not understood.

    """

    def __init__(self, path: Path) -> None:
        module = json.loads(path.read_text())["modules"]["top"]
        self._nets = {name: net["bits"] for name, net in module["netnames"].items()}
        self._edges: dict[Any, list[_Edge]] = defaultdict(list)
        #: Of each output of a gate, its type and inputs.
        self._gates: dict[Any, tuple[str, list[Any]]] = {}
        for name, cell in module["cells"].items():
            self._add(name, cell)

    @property
    def gates(self) -> int:
        """How many there are."""
        return len(self._gates)

    def leaks(self, secret: Secret) -> list[str]:
        """Return what is wrong: the way to each sink that the secret gets to, or what it misses.

        Raises
        ------
        BenchError
            If a net of the secret does not exist, or it names none.

        """
        came = self._follow(secret)
        wrong = []
        for sink in secret.sinks:
            reached = [at for bit in self._bits(secret, sink) for at in _both(bit) if at in came]
            if reached:
                wrong.append(f"{secret.name} gets to {sink}: {self._way(came, reached[0])}")
        wrong += [
            f"{secret.name} misses {net}"
            for net in secret.reaches
            if not any(at in came for bit in self._bits(secret, net) for at in _both(bit))
        ]
        return wrong

    def _follow(self, secret: Secret) -> dict[tuple[Any, bool], Any]:
        """Return every tainted bit, now or later, and where its taint came from."""
        cuts = {bit for name in secret.cuts for bit in self._bits(secret, name)}
        known = self._known(secret)
        sources = [bit for name in secret.sources for bit in self._bits(secret, name)]
        came: dict[tuple[Any, bool], Any] = {
            (bit, False): None for bit in sources if bit not in known
        }
        work = deque(came)
        while work:
            at = work.popleft()
            bit, later = at
            for edge in self._edges[bit]:
                target = (edge.target, later or edge.later)
                if target in came or (not later and not self._passes(bit, edge, known)):
                    continue
                came[target] = at
                if edge.target not in cuts:
                    work.append(target)
        return came

    def _known(self, secret: Secret) -> dict[Any, int | None]:
        """Return the bits that are constant where the secret's condition holds."""
        known: dict[Any, int | None] = dict(_CONSTANTS)
        for name, value in secret.when.items():
            known |= {bit: value >> n & 1 for n, bit in enumerate(self._bits(secret, name))}
        work = deque(known)
        while work:
            for edge in self._edges[work.popleft()]:
                out = edge.target
                if edge.later or out in known or out not in self._gates:
                    continue
                certain = _evaluate(*self._gates[out], known)
                if certain is not None:
                    known[out] = certain
                    work.append(out)
        return known

    def _passes(self, bit: Any, edge: _Edge, known: Mapping[Any, int | None]) -> bool:
        """Whether the target can depend on the bit, where some are known."""
        if edge.enable is not None and known.get(edge.enable) == 0:
            return False
        if edge.later:
            return True
        if known.get(edge.target) is not None:
            return False
        gate = self._gates.get(edge.target)
        if gate is None or gate[0] != "$_MUX_":
            return True
        low, high, select = gate[1]
        value = known.get(select)
        return value is None or bit == (high if value else low) or bit == select

    def _bits(self, secret: Secret, name: str) -> list[Any]:
        if name not in self._nets:
            raise BenchError(
                f"Secret {secret.name!r} names the net {name}, which the design does not have; "
                f"names are paths of submodules and a signal, dut.queue.level"
            )
        return list(self._nets[name])

    @cached_property
    def _names(self) -> Mapping[Any, str]:
        """What each bit is called."""
        names: dict[Any, str] = {}
        for name, bits in self._nets.items():
            # Where a net has several names, that of the innermost module says most.
            for bit in bits:
                if "$" not in name and name.count(".") >= names.get(bit, "").count("."):
                    names[bit] = name
        return names

    def _way(self, came: Mapping[Any, Any], at: Any) -> str:
        """Return the named nets from the secret to a bit."""
        way: list[str] = []
        while at is not None:
            name = self._names.get(at[0], "")
            if name and name not in way[-1:]:
                way.append(name)
            at = came[at]
        return " <- ".join(way)

    def _add(self, name: str, cell: Mapping[str, Any]) -> None:
        kind, pins = cell["type"], cell["connections"]
        if kind == "$scopeinfo":
            return
        if kind == "$mem_v2":
            self._add_memory(name, cell["parameters"], pins)
        elif kind == "$_DFF_P_":
            self._edges[pins["D"][0]].append(_Edge(pins["Q"][0], later=True))
        elif kind in _GATES:
            out, inputs = pins["Y"][0], [pins[pin][0] for pin in _GATES[kind]]
            self._gates[out] = (kind, inputs)
            for bit in inputs:
                self._edges[bit].append(_Edge(out, later=False))
        else:
            raise BenchError(f"Netlist cell {name} is a {kind}; add how values pass through it")

    def _add_memory(self, name: str, parameters: Mapping[str, Any], pins: Any) -> None:
        """Add a memory: column by column, over all rows.

        Data get into their column. Which row is written or read, and whether, shows in all columns.
        """
        width, address = int(parameters["WIDTH"], 2), int(parameters["ABITS"], 2)
        columns = [f"{name}[{n}]" for n in range(width)]
        for port in range(int(parameters["WR_PORTS"], 2)):
            enables = pins["WR_EN"][port * width :][:width]
            for column, bit, enable in zip(
                columns, pins["WR_DATA"][port * width :], enables, strict=False
            ):
                self._edges[bit].append(_Edge(column, later=True, enable=enable))
                for select in (enable, *pins["WR_ADDR"][port * address :][:address]):
                    self._edges[select].append(_Edge(column, later=True, enable=enable))
        for port, clocked in enumerate(reversed(parameters["RD_CLK_ENABLE"])):
            if port >= int(parameters["RD_PORTS"], 2):
                break
            selects = [pins["RD_EN"][port], *pins["RD_ADDR"][port * address :][:address]]
            later = clocked == "1"
            for column, bit in zip(columns, pins["RD_DATA"][port * width :], strict=False):
                for select in (column, *selects):
                    self._edges[select].append(_Edge(bit, later=later))


_GATES: Final = {
    "$_NOT_": "A",
    "$_AND_": "AB",
    "$_OR_": "AB",
    "$_XOR_": "AB",
    "$_MUX_": "ABS",
}


def _evaluate(kind: str, inputs: list[Any], known: Mapping[Any, int | None]) -> int | None:
    """Return what a gate gives if that is certain."""
    values = [known.get(bit) for bit in inputs]
    match kind, values:
        case "$_AND_", [0, _] | [_, 0]:
            return 0
        case "$_OR_", [1, _] | [_, 1]:
            return 1
        case "$_MUX_", [low, high, select] if select is not None:
            return high if select else low
        case "$_MUX_", [low, high, None]:
            return low if low == high else None
        case _, [*_] if None in values:
            return None
        case "$_NOT_", [int(value)]:
            return 1 - value
        case "$_XOR_", [int(a), int(b)]:
            return a ^ b
    # All inputs are known, and none decides alone.
    return 1 if kind == "$_AND_" else 0


def _both(bit: Any) -> tuple[tuple[Any, bool], ...]:
    """Return a bit in the secret's cycle, and later."""
    return (bit, False), (bit, True)
