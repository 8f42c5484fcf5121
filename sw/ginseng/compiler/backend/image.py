"""Assembly: the finished stream as a protected program, or as a DRAM image for a bare build."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, overload

from ginseng.compiler.backend.cost import CostModel
from ginseng.compiler.backend.lowering import Code, lower_graph
from ginseng.compiler.backend.plan import LayerPlan, layer_plans
from ginseng.compiler.backend.replay import LayerCost, replay
from ginseng.compiler.backend.segment import Role, Segment
from ginseng.compiler.backend.table import MODEL_SLOT, SESSION_SLOT, build_rows
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.graph import Graph
from ginseng.isa.config import Memory, SystemConfig
from ginseng.isa.insn import INSN_BYTES, instruction_set
from ginseng.isa.table import SlotUse
from ginseng.program import LayerSpec, PortSpec, Program, SlotSpec

__all__ = ["PlainImage", "PlainPort", "lower", "plain_image", "program"]

#: Segments of a bare image start here and at multiples of it: above every element size. Address
#: 0 is never valid (VTA specification §10.3).
_PAGE: Final = 4096


def _assemble(code: Code, place: Callable[[Segment, int, int], int]) -> bytes:
    """Return the instruction words; ``place`` gives ``dram_base`` of segment, offset, bytes."""
    encode = instruction_set(code.config.core).encode
    words = []
    for insn in code.stream.insns:
        fields = insn.fields
        if insn.segment is not None:
            size = code.config.core.element_bytes(Memory(fields["memory"]))
            fields = fields | {"dram_base": place(insn.segment, insn.offset, size)}
        words.append(encode(insn.opcode, **fields))
    return b"".join(words)


def _ports(code: Code) -> tuple[tuple[PortSpec, ...], tuple[PortSpec, ...]]:
    """Return inputs and outputs, each with the segment's name for its tensor."""
    graph = code.graph

    def port(name: str, role: Role) -> PortSpec:
        value = graph.values[name]
        segment = next(s for s in code.values[name] if s.role is role)
        return PortSpec(
            name=name,
            tensor=segment.name,
            shape=value.shape,
            shift=value.shift,
            mantissa=value.mantissa,
            zero=value.zero,
            image=value.image,
            steps=graph.steps.get(name, ()),
            row_elements=value.extents[2],
        )

    return (
        tuple(port(value.name, Role.INPUT) for value in graph.inputs),
        tuple(port(name, Role.OUTPUT) for name in graph.outputs),
    )


def program(
    graph: Graph, config: SystemConfig, *, model_sha256: str, memory: str = "reference"
) -> tuple[Program, tuple[LayerPlan, ...]]:
    """Return ``graph`` as one protected program tuned for ``memory``, and how it is scheduled.

    Raises
    ------
    CompilerError
        If it does not fit the build.

    """
    tec = config.tec
    if tec is None:
        raise CompilerError(
            "A program needs a build with a TEC; compile for SystemConfig(tec=TecConfig()), or "
            "use lower(graph, config, protect=False) for a bare one"
        )
    code = lower_graph(graph, config, CostModel.of(config, protect=True, memory=memory))
    entry = Segment("program", Role.PROGRAM, INSN_BYTES * len(code.stream.insns))
    rows = build_rows([entry, *code.segments], tec)
    places = {s: (row.handle, row.offsets[s]) for row in rows for s in row.segments}

    def place(segment: Segment, offset: int, size: int) -> int:
        handle, base = places[segment]
        if base % size:
            raise AssertionError(f"{segment.name} is not aligned to its elements")
        element = base // size + offset
        if element >= 1 << tec.offset_bits:
            raise CompilerError(
                f"Tensor {segment.name} is longer than the {tec.offset_bits} bits of an offset; "
                "use a smaller model"
            )
        return handle << tec.offset_bits | element

    entry.data = _assemble(code, place)
    specs = tuple(row.spec() for row in rows)
    held = (Role.PROGRAM, Role.UOPS, Role.WEIGHTS, Role.BIASES)
    inputs, outputs = _ports(code)
    slots = [SlotSpec(slot=SESSION_SLOT, use=SlotUse.SESSION, owner="data")]
    if any(spec.slot == MODEL_SLOT for spec in specs):
        slots.insert(0, SlotSpec(slot=MODEL_SLOT, use=SlotUse.STATIC, owner="model"))
    costs = _costs(code, protect=True)
    made = Program(
        name=graph.name,
        config=config,
        tensors=specs,
        slots=tuple(slots),
        entry="program",
        inputs=inputs,
        outputs=outputs,
        contents={row.name: row.data for row in rows if row.role in held},
        model_sha256=model_sha256,
        layers=_layers(graph, costs, _plain_costs(code)),
    )
    return made, layer_plans(code, costs)


def _layers(
    graph: Graph, costs: Sequence[LayerCost], plain_costs: Sequence[LayerCost]
) -> tuple[LayerSpec, ...]:
    """Return what each layer should take, with and without protection."""
    return tuple(
        LayerSpec(
            name=node.name,
            kind=node.kind,
            macs=node.macs,
            cycles_plain=bare.cycles,
            cycles_protected=cost.cycles,
            bytes_plain=bare.nbytes,
            bytes_protected=cost.nbytes,
            instructions=cost.instructions,
        )
        for node, cost, bare in zip(graph.nodes, costs, plain_costs, strict=True)
    )


def _costs(code: Code, *, protect: bool) -> list[LayerCost]:
    model = CostModel.of(code.config, protect=protect, memory=code.model.memory.name)
    return replay(code.stream.insns, code.config.core, model, layers=len(code.graph.nodes))


def _plain_code(graph: Graph, config: SystemConfig, memory: str) -> tuple[Code, list[LayerCost]]:
    """Return the bare form, tiled without thought of chunks."""
    code = lower_graph(graph, config, CostModel.of(config, protect=False, memory=memory))
    return code, _costs(code, protect=False)


def _plain_costs(code: Code) -> list[LayerCost]:
    """Return what the graph of a protected program takes without protection.

    The faster of two: the bare form, and the protected program's tiles. The search need not have
    found the former better.
    """
    forms = (
        _plain_code(code.graph, code.config, code.model.memory.name)[1],
        _costs(code, protect=False),
    )
    return min(forms, key=lambda costs: sum(cost.cycles for cost in costs))


@dataclass(frozen=True)
class PlainPort:
    """An input or output of a bare image: its layout, and its address in bytes."""

    port: PortSpec
    address: int


@dataclass(frozen=True, kw_only=True)
class PlainImage:
    """A graph for a build without a TEC: DRAM contents from address 0 on.

    Attributes
    ----------
    config : SystemConfig
    dram : bytes
        Instructions, micro-ops, weights; inputs, intermediates and outputs are zero.
    insn_addr : int
        Byte address of the first instruction.
    insn_count : int
    inputs, outputs : mapping of str to PlainPort
    segments : mapping of str to (int, int)
        Address and length in bytes of every tensor, by the name that a `Program` gives it.
    layers : tuple of LayerSpec
        Both estimates are those without protection.

    """

    config: SystemConfig
    dram: bytes = field(repr=False)
    insn_addr: int
    insn_count: int
    inputs: dict[str, PlainPort]
    outputs: dict[str, PlainPort]
    segments: dict[str, tuple[int, int]]
    layers: tuple[LayerSpec, ...]


def plain_image(graph: Graph, config: SystemConfig, *, memory: str = "reference") -> PlainImage:
    """Return ``graph`` with absolute addresses, tuned for ``memory``.

    Raises
    ------
    CompilerError
        If it does not fit the build.

    """
    code, costs = _plain_code(graph, config, memory)
    count = len(code.stream.insns)
    entry = Segment("program", Role.PROGRAM, INSN_BYTES * count)
    addresses: dict[Segment, int] = {}
    at = _PAGE
    for segment in (entry, *code.segments):
        addresses[segment] = at
        at += -(-segment.length // _PAGE) * _PAGE
    if at > config.bus.window_bytes:
        raise CompilerError(
            f"The image takes {at} bytes, the build's DRAM window has {config.bus.window_bytes}"
        )
    entry.data = _assemble(code, lambda s, offset, size: addresses[s] // size + offset)
    dram = bytearray(at)
    for segment in (entry, *code.segments):
        data = segment.data or b""
        dram[addresses[segment] : addresses[segment] + len(data)] = data
    inputs, outputs = _ports(code)
    ports = {segment.name: at for segment, at in addresses.items()}
    return PlainImage(
        config=config,
        dram=bytes(dram),
        insn_addr=addresses[entry],
        insn_count=count,
        inputs={p.name: PlainPort(p, ports[p.tensor]) for p in inputs},
        outputs={p.name: PlainPort(p, ports[p.tensor]) for p in outputs},
        segments={s.name: (addresses[s], s.length) for s in (entry, *code.segments)},
        layers=_layers(graph, costs, costs),
    )


@overload
def lower(
    graph: Graph, config: SystemConfig, *, protect: Literal[True] = True, memory: str = ...
) -> Program: ...


@overload
def lower(
    graph: Graph, config: SystemConfig, *, protect: Literal[False], memory: str = ...
) -> PlainImage: ...


def lower(
    graph: Graph, config: SystemConfig, *, protect: bool = True, memory: str = "reference"
) -> Program | PlainImage:
    """Return a graph as a protected program, or without ``protect`` as a bare DRAM image.

    The hash of the program's source is that of the graph. A bare image has absolute addresses and
    no chunk constraints; it runs on builds without a TEC. Either is tuned for ``memory``, one of
    `ginseng.compiler.backend.cost.MEMORIES`, and runs with any.

    Raises
    ------
    CompilerError
        If it does not fit the build, or there is no such memory.

    """
    if protect:
        return program(graph, config, model_sha256=graph.sha256, memory=memory)[0]
    return plain_image(graph, config, memory=memory)
