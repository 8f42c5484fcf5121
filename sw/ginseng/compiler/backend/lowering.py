"""Walks a quantised graph and collects its instructions, layer by layer."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.chunks import choose_chunk
from ginseng.compiler.backend.cost import CostModel
from ginseng.compiler.backend.instruction import Uops
from ginseng.compiler.backend.replay import replay
from ginseng.compiler.backend.segment import Role, Segment
from ginseng.compiler.backend.stream import Stream
from ginseng.compiler.backend.tiling import Tiling
from ginseng.compiler.backend.tuned import Tuned, recall, remember
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.graph import Graph, Node
from ginseng.isa.config import CoreConfig, Memory, SystemConfig
from ginseng.isa.formats import chunk_count
from ginseng.isa.insn import AluOp

#: Tilings of a layer that are tried out instruction by instruction.
_TRIALS: Final = 28
#: Bytes of DRAM traffic that are worth a cycle to whoever shares it.
_WORTH: Final = 256

__all__ = ["Code", "Layer", "Slots", "lower_graph"]


class Slots:
    """Areas of a scratchpad that are filled in turn, the least recently used one first."""

    def __init__(self, base: int, size: int, count: int) -> None:
        self._free: Final = [base + n * size for n in reversed(range(count))]
        self._held: OrderedDict[Hashable, int] = OrderedDict()

    @classmethod
    def at(cls, places: Sequence[int]) -> "Slots":
        """Return areas that begin at ``places``."""
        slots = cls(0, 0, 0)
        slots._free.extend(reversed(places))
        return slots

    def get(self, key: Hashable) -> tuple[int, bool]:
        """Return the area that holds ``key``, and whether it must be filled anew."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key], False
        area = self._free.pop() if self._free else self._held.popitem(last=False)[1]
        self._held[key] = area
        return area, True


@dataclass(frozen=True)
class Code:
    """A lowered graph, before assembly.

    Attributes
    ----------
    config : SystemConfig
    graph : Graph
    stream : Stream
        Finished.
    segments : tuple of Segment
        In order of creation.
    values : dict
        The segments that hold each value: what its readers load, what the owner takes, and larger
        ones of which it is a part.
    tuned : dict
        How each tiled layer is cut, by the name of its node.
    model : CostModel
        For which it is tuned.

    """

    config: SystemConfig
    graph: Graph
    stream: Stream
    segments: tuple[Segment, ...]
    values: dict[str, list[Segment]]
    tuned: dict[str, Tuned]
    model: CostModel


class Layer:
    """What a node emits through: its operands' places, the stream, common sequences.

    Attributes
    ----------
    config : CoreConfig
    model : CostModel
    stream : Stream
    node : Node

    """

    def __init__(self, builder: "_Builder", node: Node) -> None:
        self._builder: Final = builder
        self._constants: Final[dict[tuple[Role, bytes], Segment]] = {}
        self.node: Final = node
        self.stream: Final = builder.stream
        self.config: Final[CoreConfig] = builder.config.core
        self.model: Final = builder.model

    def blocks(self, channels: int) -> int:
        """Return how many blocks hold ``channels`` channels."""
        return -(-channels // self.config.block)

    def source(self, operand: int = 0) -> Segment:
        """Return where the readers of an operand find it."""
        return self._builder.values[self.node.inputs[operand]][0]

    def placed(self) -> frozenset[int]:
        """Return which operands their producers store in this node's output already."""
        return self._builder.placed[self.node.output.name]

    def constant(self, role: Role, data: NDArray[np.generic]) -> Segment:
        """Return a segment that holds ``data``, the same for the same data."""
        raw = data.tobytes()
        if (role, raw) not in self._constants:
            number = sum(known is role for known, _ in self._constants)
            name = f"{self.node.name}.{role.value}" + (f".{number}" if number else "")
            self._constants[role, raw] = self._builder.segment(name, role, len(raw), raw)
        return self._constants[role, raw]

    def store(self, offset: int, *, sram: int, cols: int, rows: int = 1, stride: int = 0) -> None:
        """Store results at element ``offset`` of the output, wherever that is kept."""
        limit = (1 << 16) - 1
        for segment, begin in self._builder.targets(self.node.output.name):
            at = begin + offset
            if rows > 1 and stride == cols and rows * cols <= limit:
                self.stream.store(segment, at, sram=sram, cols=rows * cols)
            elif rows > 1 and stride > limit:
                for r in range(rows):
                    self.stream.store(segment, at + r * stride, sram=sram + r * cols, cols=cols)
            else:
                self.stream.store(segment, at, sram=sram, cols=cols, rows=rows, stride=stride)

    def tune(
        self,
        walk: Hashable,
        candidates: Callable[[], Sequence[Tiling]],
        neighbours: Callable[[Tiling], Sequence[Tiling]],
        emit: Callable[[Tiling, "Layer"], None],
    ) -> Tiling | None:
        """Return the tiling whose instructions, replayed on their own, take the fewest cycles.

        Parameters
        ----------
        walk : hashable
            Everything about the layer that decides; its repr says it all. Layers with the same
            are tuned once, and never again as long as the cache keeps them.
        candidates : callable
            Gives tilings to begin with, none if none fits; called only if the layer is to be tuned.
        neighbours : callable
            Gives tilings near one. From the best so far the search goes on to the best of them
            until none is better, or `_TRIALS` have been tried.
        emit : callable
            Emits the layer with a tiling.

        """
        builder = self._builder
        key = (walk, builder.readers(self.node), builder.config.core, builder.model)
        tuned = builder.tuned.get(key) or recall(key)
        if tuned is None:
            options = candidates()
            if not options:
                return None
            if builder.model.protect:
                # What is best without a TEC is a good place to begin: it only lacks tags.
                plain = replace(builder.model, tag_bytes=0, verify=0)
                options = [self._search(options, neighbours, emit, plain).best, *options]
            tuned = self._search(options, neighbours, emit, builder.model)
            remember(key, tuned)
        builder.tuned[key] = builder.plans[self.node.name] = tuned
        return tuned.best

    def _search(
        self,
        options: Sequence[Tiling],
        neighbours: Callable[[Tiling], Sequence[Tiling]],
        emit: Callable[[Tiling, "Layer"], None],
        model: CostModel,
    ) -> Tuned:
        #: What ranks it, cycles, bytes, order of trial; None where it cannot be emitted.
        costs: dict[Tiling, tuple[int, int, int, int] | None] = {}
        refusal: CompilerError | None = None

        def ranked() -> list[tuple[tuple[int, int, int, int], Tiling]]:
            found = [(cost, tiling) for tiling, cost in costs.items() if cost is not None]
            return sorted(found, key=lambda entry: entry[0])

        while fresh := [option for option in options if option not in costs]:
            before = ranked()[:1]
            for option in fresh[: _TRIALS - len(costs)]:
                try:
                    cycles, nbytes = self._builder.trial(self.node, partial(emit, option), model)
                    costs[option] = (cycles + nbytes // _WORTH, cycles, nbytes, len(costs))
                except CompilerError as error:
                    costs[option] = None
                    refusal = error
            order = ranked()
            if not order:
                raise self.node.refuse(str(refusal))
            if order[:1] == before or len(costs) >= _TRIALS:
                break
            options = neighbours(order[0][1])
        (cost, best), *others = ranked()[:2]
        second = others[0] if others else None
        return Tuned(
            best=best,
            cycles=cost[1],
            nbytes=cost[2],
            tried=len(costs),
            second=None if second is None else second[1],
            second_cycles=0 if second is None else second[0][1],
            second_nbytes=0 if second is None else second[0][2],
        )

    def fits(self, needed: int, memory: Memory, what: str) -> None:
        """Refuse ``what`` if it takes more than a whole scratchpad.

        Raises
        ------
        CompilerError
            If ``needed`` elements exceed the depth of ``memory``.

        """
        depth = self.config.depth(memory)
        if needed > depth:
            raise self.node.refuse(
                f"{what} takes {needed} elements of the {memory.name} buffer, which has {depth}; "
                "use smaller images, or a build with a larger buffer"
            )


class _Builder:
    """Segments of one program."""

    def __init__(self, graph: Graph, config: SystemConfig, model: CostModel) -> None:
        self.config: Final = config
        self.model: Final = model
        self.segments: Final[list[Segment]] = []
        self.values: Final[dict[str, list[Segment]]] = {}
        self.placed: Final[dict[str, frozenset[int]]] = {}
        self._parts: Final[dict[str, list[tuple[str, int]]]] = {}
        self.tuned: Final[dict[Hashable, Tuned]] = {}
        self.plans: Final[dict[str, Tuned]] = {}
        self._graph: Final = graph
        self.stream: Final = Stream(config.core, self.segment("uops", Role.UOPS, 0, None))
        for value in graph.inputs:
            self._place(value.name, Role.INPUT, value.extents)
        for node in graph.nodes:
            self._place_inputs(node)
        for node in graph.nodes:
            name = node.output.name
            # What another node reads and what an owner takes are two tensors: an export is
            # write-only.
            if any(self._reads(reader, name) for reader in graph.readers(name)):
                self._place(name, Role.SCRATCH, node.output.extents)
            if name in graph.outputs:
                self._place(name, Role.OUTPUT, node.output.extents)

    def _place_inputs(self, node: Node) -> None:
        """Note which producers store into the output of ``node``, which then has less to do."""
        made = {other.output.name for other in self._graph.nodes}
        placed = node.placed(self._graph.sources(node), self.config.core.block)
        plane = prod(node.output.extents[1:])
        used = {n: block for n, block in placed.items() if node.inputs[n] in made}
        self.placed[node.output.name] = frozenset(used)
        for n, block in used.items():
            parts = self._parts.setdefault(node.inputs[n], [])
            parts.append((node.output.name, block * plane))

    def _reads(self, node: Node, value: str) -> bool:
        """Return whether ``node`` loads ``value``, and not only finds it in place."""
        placed = self.placed[node.output.name]
        return any(name == value and n not in placed for n, name in enumerate(node.inputs))

    def targets(self, value: str) -> list[tuple[Segment, int]]:
        """Return where ``value`` is stored: segments, and the element at which it begins."""
        found = [(segment, 0) for segment in self.values.get(value, [])]
        for whole, begin in self._parts.get(value, []):
            found += [(segment, begin + at) for segment, at in self.targets(whole)]
        return found

    def segment(self, name: str, role: Role, length: int, data: bytes | None) -> Segment:
        segment = Segment(name, role, length, data)
        self.segments.append(segment)
        return segment

    def _place(self, name: str, role: Role, extents: tuple[int, int, int]) -> None:
        core = self.config.core
        channels, height, width = extents
        elements = -(-channels // core.block) * height * width
        length = elements * core.element_bytes(Memory.OUT)
        where = self.values.setdefault(name, [])
        where.append(self.segment(f"{role.value}.{name}", role, length, None))

    def trial(self, node: Node, emit: Callable[[Layer], None], model: CostModel) -> tuple[int, int]:
        """Return cycles and bytes of ``node`` alone under ``model``, emitted by ``emit``."""
        sources = dict.fromkeys(self._graph.sources(node))
        alone = Graph(
            name=node.name, inputs=tuple(sources), nodes=(node,), outputs=(node.output.name,)
        )
        builder = _Builder(alone, self.config, model)
        emit(Layer(builder, node))
        builder.stream.finish()
        for segment in builder.segments:
            if model.protect and segment.length:
                segment.chunk = choose_chunk(segment)
        cost = replay(builder.stream.insns, self.config.core, model, layers=1)[0]
        # Whoever reads what is stored has a burst and a tag for each of its chunks.
        readers = self.readers(node) if model.protect else 0
        written = [s for s in builder.segments if readers and s.writes]
        shared = readers * sum(chunk_count(s.length, s.chunk) for s in written)
        burst = model.occupied([model.beats(model.tag_bytes)])
        return cost.cycles + shared * burst, cost.nbytes + shared * model.tag_bytes

    def readers(self, node: Node) -> int:
        """Return how many nodes read the chunks that ``node`` stores; none without a TEC."""
        return len(self._graph.readers(node.output.name)) if self.model.protect else 0


def lower_graph(graph: Graph, config: SystemConfig, model: CostModel) -> Code:
    """Return the instructions of ``graph``, tiled for the least cost under ``model``.

    Raises
    ------
    CompilerError
        If a node does not fit the buffers of the build.

    """
    builder = _Builder(graph, config, model)
    for number, node in enumerate(graph.nodes):
        builder.stream.begin_layer(number)
        node.lower(graph.sources(node), Layer(builder, node))
    builder.stream.finish()
    made = (node.output.name for node in graph.nodes)
    stored = {name: [segment for segment, _ in builder.targets(name)] for name in made}
    return Code(
        config,
        graph,
        builder.stream,
        tuple(builder.segments),
        builder.values | stored,
        builder.plans,
        model,
    )


def clip_passes(lo: int, hi: int, reach: tuple[int, int]) -> list[tuple[AluOp, int]]:
    """Return the ALU passes that clip values of the range ``reach`` to ``lo .. hi``."""
    passes = []
    if reach[0] < lo:
        passes.append((AluOp.MAX, lo))
    if reach[1] > hi:
        passes.append((AluOp.MIN, hi))
    return passes


def grid(*steps: tuple[int, int, int, int]) -> Uops:
    """Return micro-ops of nested loops, the last one fastest.

    Parameters
    ----------
    *steps : tuple of int
        Count, and the steps of ``dst``, ``src`` and ``wgt``.

    """
    indices = []
    for which in (1, 2, 3):
        total = np.zeros(1, np.int64)
        for step in steps:
            total = (total[:, None] + np.arange(step[0], dtype=np.int64) * step[which]).ravel()
        indices.append(total)
    return Uops(*indices)


def product(outer: Uops, inner: Uops) -> Uops:
    """Return the micro-ops of two nested sequences, the indices of both added."""
    pairs = ((outer.dst, inner.dst), (outer.src, inner.src), (outer.wgt, inner.wgt))
    return Uops(*((a[:, None] + b).ravel() for a, b in pairs))


def shifted(uops: Uops, *, dst: int = 0, src: int = 0, wgt: int = 0) -> Uops:
    """Return the same micro-ops at other bases."""
    return Uops(uops.dst + dst, uops.src + src, uops.wgt + wgt)
