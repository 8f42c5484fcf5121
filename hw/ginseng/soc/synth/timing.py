"""Static timing: the longest paths of a mapped netlist, by the delays of its cells and nets."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ginseng.soc.synth.delays import CLOCK, PORT_LAUNCH_NS, PORT_SETUP_NS, End, arcs, wire_ns
from ginseng.soc.synth.errors import SynthError
from ginseng.soc.synth.netlist import Bit, Cell, Netlist

__all__ = ["Path", "Step", "longest_paths"]


@dataclass(frozen=True, slots=True)
class Step:
    """One cell of a path: the net before it, then itself.

    Attributes
    ----------
    cell, kind, pins : str
        Instance, primitive, and the way through it (``I0>O``).
    net_ns, cell_ns, total_ns : float
        Of the net before, of the cell, and from the clock edge to after the cell.
    signal, source : str
        The signal after it, if it has a name, and where that or the cell was written.

    """

    cell: str
    kind: str
    pins: str
    net_ns: float
    cell_ns: float
    total_ns: float
    signal: str
    source: str


@dataclass(frozen=True, slots=True)
class Path:
    """The slowest path to one register, memory or port, setup included.

    Attributes
    ----------
    start, end : str
        Names of what launches and what captures, without the index of a bit.
    ns : float
        From the clock edge to the next one that would be in time.
    levels : int
        Cells on the way, the first and the last not counted.
    steps : tuple of Step

    """

    start: str
    end: str
    ns: float
    levels: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Edge:
    """From one node of the graph to another, through ``cell`` (None: a port of the design)."""

    source: int
    target: int
    net_ns: float
    cell_ns: float
    cell: Cell | None
    pins: str
    bit: Bit


class _Graph:
    """Nodes: one per driven bit, one per arc between whole ports, and the two clock edges."""

    LAUNCH, CAPTURE = 0, 1

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.edges: list[_Edge] = []
        self.captures: list[_Edge] = []
        self.count = 2
        self.nodes: dict[Bit, int] = {}
        for bits in netlist.inputs.values():
            for bit in bits:
                self._add(_Edge(self.LAUNCH, self._node(bit), 0, PORT_LAUNCH_NS, None, "", bit))
        for cell in netlist.cells.values():
            if cell.kind not in _TRANSPARENT:
                self._cell(cell)
        for bits in netlist.outputs.values():
            for bit in bits:
                if isinstance(bit, int):
                    self._capture(bit, None, "", PORT_SETUP_NS)

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _node(self, bit: Bit) -> int:
        if bit not in self.nodes:
            self.nodes[bit] = self._new()
        return self.nodes[bit]

    def _add(self, edge: _Edge) -> None:
        self.edges.append(edge)

    def _wire(self, bit: Bit, cell: Cell | None, port: str) -> float:
        pin = self.netlist.drivers.get(bit)
        driver = (self.netlist.cells[pin.cell], pin.port) if pin else None
        return wire_ns(driver, (cell, port) if cell else None, self.netlist.loads[bit])

    def _capture(self, bit: Bit, cell: Cell | None, port: str, setup: float) -> None:
        wire = self._wire(bit, cell, port)
        edge = _Edge(self._node(bit), self.CAPTURE, wire, setup, cell, f"{port}>", bit)
        self.captures.append(edge)

    def _cell(self, cell: Cell) -> None:
        for arc in arcs(cell):
            sources = [] if arc.start == CLOCK else _bits(cell.inputs, arc.start)
            targets = [] if arc.end == CLOCK else _bits(cell.outputs, arc.end)
            if arc.end == CLOCK:
                for bit in sources:
                    self._capture(bit, cell, arc.start[0], arc.ns)
                continue
            pins = f"{arc.start[0] or 'CLK'}>{arc.end[0]}"
            if arc.start == CLOCK:
                for bit in targets:
                    self._add(_Edge(self.LAUNCH, self._node(bit), 0, arc.ns, cell, pins, bit))
                continue
            if len(sources) > 1 and len(targets) > 1:
                # Through a node of its own: the sum of the bits, not their product.
                middle = self._new()
                for bit in sources:
                    wire = self._wire(bit, cell, arc.start[0])
                    self._add(_Edge(self._node(bit), middle, wire, 0, cell, pins, bit))
                for bit in targets:
                    self._add(_Edge(middle, self._node(bit), 0, arc.ns, cell, pins, bit))
                continue
            for bit in sources:
                wire = self._wire(bit, cell, arc.start[0])
                for target in targets:
                    edge = _Edge(self._node(bit), self._node(target), wire, arc.ns, cell, pins, bit)
                    self._add(edge)

    def arrivals(self) -> tuple[list[float], dict[int, _Edge]]:
        """Return the latest arrival at each node, and the edge that brings it.

        Raises
        ------
        SynthError
            If there is a combinational loop.

        """
        outgoing: dict[int, list[_Edge]] = defaultdict(list)
        waits = [0] * self.count
        for edge in self.edges:
            outgoing[edge.source].append(edge)
            waits[edge.target] += 1
        arrival = [0.0] * self.count
        via: dict[int, _Edge] = {}
        ready = [node for node in range(self.count) if not waits[node] and node != self.CAPTURE]
        visited = 0
        while ready:
            node = ready.pop()
            visited += 1
            for edge in outgoing[node]:
                time = arrival[node] + edge.net_ns + edge.cell_ns
                if edge.target not in via or time > arrival[edge.target]:
                    arrival[edge.target] = time
                    via[edge.target] = edge
                waits[edge.target] -= 1
                if not waits[edge.target]:
                    ready.append(edge.target)
        if visited < self.count - 1:
            stuck = {edge.cell.name for edge in self.edges if waits[edge.target] and edge.cell}
            raise SynthError(
                f"Netlist has a combinational loop through or before {len(stuck)} cells, "
                f"{', '.join(sorted(stuck)[:8])} among them; a path through it has no end"
            )
        return arrival, via


#: Cells that are not on any path between registers: clock buffers and marks.
_TRANSPARENT = ("BUFG", "$scopeinfo", "GND", "VCC")


def _bits(ports: dict[str, tuple[Bit, ...]], end: End) -> list[Bit]:
    """Return the bits of a port, or one; constants and what is not connected left out."""
    port, index = end
    bits = ports.get(port, ())
    chosen: Iterable[Bit] = bits if index is None else bits[index : index + 1]
    return [bit for bit in chosen if isinstance(bit, int)]


def longest_paths(netlist: Netlist) -> list[Path]:
    """Return the slowest path to every register, memory and output port, slowest first.

    The bits of one register count as one. Clocks are ideal, and there is one of them.

    Raises
    ------
    SynthError
        If there is a combinational loop, or a cell without figures.

    """
    graph = _Graph(netlist)
    arrival, via = graph.arrivals()
    worst: dict[str, tuple[float, _Edge]] = {}
    for edge in graph.captures:
        ns = arrival[edge.source] + edge.net_ns + edge.cell_ns
        name = _end_name(netlist, edge)
        if name not in worst or ns > worst[name][0]:
            worst[name] = (ns, edge)
    slowest = sorted(worst.items(), key=lambda item: (-item[1][0], item[0]))
    return [_path(netlist, arrival, via, name, ns, edge) for name, (ns, edge) in slowest]


def _signal(netlist: Netlist, bit: Bit) -> str:
    name, index = netlist.names.get(bit, ("", None))
    return name if index is None else f"{name}[{index}]"


def _cell_name(netlist: Netlist, cell: Cell) -> str:
    """Return the name of what a cell holds: its memory, its signal, or where it was written."""
    if "$" not in cell.name:
        return re.sub(r"(\.\d+)+$", "", cell.name)
    for bits in cell.outputs.values():
        for bit in bits:
            if bit in netlist.names:
                return netlist.names[bit][0]
    return cell.source or cell.name


def _end_name(netlist: Netlist, edge: _Edge) -> str:
    if edge.cell is not None:
        port = edge.pins.rstrip(">")
        return _cell_name(netlist, edge.cell) + ("" if port == "D" else f".{port}")
    return netlist.names.get(edge.bit, (str(edge.bit), None))[0]


def _path(
    netlist: Netlist,
    arrival: list[float],
    via: dict[int, _Edge],
    name: str,
    ns: float,
    last: _Edge,
) -> Path:
    chain = [last]
    while chain[-1].source != _Graph.LAUNCH:
        if chain[-1].source not in via:
            break
        chain.append(via[chain[-1].source])
    chain.reverse()
    steps, total, carried = [], 0.0, 0.0
    for edge, following in zip(chain, [*chain[1:], None], strict=True):
        total += edge.net_ns + edge.cell_ns
        if following and following.cell is edge.cell and not edge.cell_ns:
            # The first half of an arc between whole ports.
            carried = edge.net_ns
            continue
        after = following.bit if following else edge.bit
        signal = _signal(netlist, after)
        cell = edge.cell
        steps.append(
            Step(
                cell=cell.name if cell else "",
                kind=cell.kind if cell else "port",
                pins=edge.pins,
                net_ns=round(edge.net_ns + carried, 3),
                cell_ns=round(edge.cell_ns, 3),
                total_ns=round(total, 3),
                signal=signal,
                source=(cell.source if cell else "")
                or netlist.sources.get(netlist.names.get(after, ("", None))[0], ""),
            )
        )
        carried = 0.0
    first = chain[0]
    start = (
        _cell_name(netlist, first.cell) if first.cell else _signal(netlist, first.bit).split("[")[0]
    )
    return Path(
        start=start, end=name, ns=round(ns, 3), levels=max(0, len(steps) - 2), steps=tuple(steps)
    )
