"""Cycles of the core in gates on layers of ResNet-18, compiled and checked, by memory model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.memory import REALISTIC, REFERENCE, MemoryModel
from ginseng.benchmarks.errors import BenchmarkError
from ginseng.benchmarks.vta_layers import RESNET18, ConvLayer, conv_graph
from ginseng.benchmarks.vta_units import Unit, conv_unit, units
from ginseng.compiler import Graph, PlainImage, lower
from ginseng.compiler.reference import evaluate
from ginseng.driver import BareDriver
from ginseng.driver.bare import read_counters
from ginseng.driver.boards.rtl import RtlBoard
from ginseng.isa.config import BusConfig, BusProtocol, SystemConfig

__all__ = ["CONFIG", "Gates", "measure", "run_image"]

#: The build that is measured: bursts of up to 256 beats of 64 bits.
CONFIG: Final = SystemConfig(tec=None, bus=BusConfig(protocol=BusProtocol.AXI4))
#: Seconds that one program may take before it is given up.
_TIMEOUT: Final = 900.0
#: Counters that are reported on their own; the others are the stall breakdown.
_TRAFFIC: Final = ("read_bytes", "write_bytes")


@dataclass
class Gates:
    """The core in gates over one memory, and how fast it simulates.

    Attributes
    ----------
    board : RtlBoard
    cycles : int
        Simulated so far, in programs.
    seconds, cpu_seconds : float
        That they took, on the clock and of the processor.

    """

    board: RtlBoard
    cycles: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def open(cls, memory: MemoryModel) -> Self:
        """Build or find the model, and open it."""
        return cls(RtlBoard(CONFIG, memory=memory))

    def run(self, insn_addr: int, insn_count: int) -> int:
        """Run the program that DRAM holds; return its cycles."""
        start, cpu = time.perf_counter(), time.process_time()
        cycles = BareDriver(self.board).run(insn_addr, insn_count, timeout=_TIMEOUT)
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu
        self.cycles += cycles
        # Refuses a run in which the gates broke a rule of the bus.
        _ = self.board.traffic
        return cycles


def run_image(
    gates: Gates, graph: Graph, image: PlainImage, sample: NDArray[np.int8]
) -> tuple[int, bool]:
    """Run a graph of one input and one output; return cycles, and whether NumPy agrees."""
    dram, core = gates.board.dram, gates.board.config.core
    (given,), (result,) = image.inputs.values(), image.outputs.values()
    dram[: len(image.dram)] = np.frombuffer(image.dram, np.uint8)
    packed = given.port.pack(sample, batch=core.batch, block=core.block)
    dram[given.address : given.address + len(packed)] = np.frombuffer(packed, np.uint8)
    cycles = gates.run(image.insn_addr, image.insn_count)
    size = image.segments[result.port.tensor][1]
    stored = dram[result.address : result.address + size].tobytes()
    outputs = result.port.unpack(stored, batch=core.batch, block=core.block)
    wanted = evaluate(graph, {given.port.name: sample})[result.port.name]
    return cycles, bool(np.array_equal(outputs[: len(sample)], wanted))


def measure(
    *,
    layers: Sequence[str] = (),
    memories: Sequence[MemoryModel] = (REFERENCE, REALISTIC),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run every layer and every unit benchmark on gates under each memory.

    Parameters
    ----------
    layers : sequence of str
        Names in `RESNET18`; all by default.
    memories : sequence of MemoryModel
        The first gives the top level of the document.
    progress : callable or None
        Is told what is under way.

    Returns
    -------
    dict
        ``config``, ``bus``, ``memory``, ``layers``, ``total_cycles``, ``sim_cycles_per_second``
        (and per second of the processor, which others on the machine do not change),
        ``runs`` (per memory), ``units`` (of the first memory), ``memories`` (their parameters).
        Of a layer, ``macs`` are those of one sample with the zeros of the border, ``macs_done``
        those that the device did (channels that fill a block included), ``utilisation`` the share
        of cycles in which it multiplied, ``bytes`` what crossed the bus,
        ``predicted_cycles`` and ``predicted_error`` the compiler's own model, ``counters`` every
        counter of the device.

    Raises
    ------
    BenchmarkError
        If a layer is not known, or a result differs from NumPy's or the golden device's.

    """
    known = {layer.name: layer for layer in RESNET18}
    unknown = [name for name in layers if name not in known]
    if unknown:
        raise BenchmarkError(f"Layer {unknown[0]!r} is not known (layers: {', '.join(known)})")
    say = progress or (lambda _: None)
    chosen = [known[name] for name in layers] if layers else list(RESNET18)
    say("compiles " + ", ".join(layer.name for layer in chosen))
    graphs = {layer: conv_graph(layer) for layer in chosen}
    # Each memory has its own programs: the compiler tunes for one of them.
    images = {
        memory.name: {
            layer: lower(graph, CONFIG, protect=False, memory=memory.name)
            for layer, graph in graphs.items()
        }
        for memory in memories
    }
    runs, by_unit = [], list[dict[str, Any]]()
    opened = list[Gates]()
    for memory in memories:
        say(f"builds or finds the gates, and opens them over the {memory.name} memory")
        gates = Gates.open(memory)
        opened.append(gates)
        with gates.board:
            rows = [
                _layer(gates, layer, graphs[layer], images[memory.name][layer], memory, say)
                for layer in chosen
            ]
            if memory is memories[0]:
                by_unit = [_unit(gates, unit, say) for unit in units()] + [_end_to_end(gates, say)]
        runs.append({"memory": memory.name, "layers": rows, "total_cycles": _total(rows)})
    first = runs[0]
    cycles, seconds = sum(g.cycles for g in opened), sum(g.seconds for g in opened)
    return {
        "config": CONFIG.core.name,
        "bus": f"{CONFIG.bus.protocol.name}, {CONFIG.bus.data_bits} bit",
        **first,
        "sim_cycles_per_second": cycles / seconds,
        "sim_cycles_per_cpu_second": cycles / sum(g.cpu_seconds for g in opened),
        "sim_seconds": seconds,
        "runs": runs,
        "units": by_unit,
        "memories": {memory.name: asdict(memory) for memory in memories},
    }


def _total(rows: Sequence[dict[str, Any]]) -> int:
    return sum(int(row["count"]) * int(row["cycles"]) for row in rows)


def _sample(graph: Graph) -> NDArray[np.int8]:
    rng = np.random.default_rng([7, *graph.name.encode()])
    return rng.integers(-128, 128, (1, *graph.inputs[0].shape), np.int8)


def _layer(
    gates: Gates,
    layer: ConvLayer,
    graph: Graph,
    image: PlainImage,
    memory: MemoryModel,
    say: Callable[[str], None],
) -> dict[str, Any]:
    cycles, exact = run_image(gates, graph, image, _sample(graph))
    if not exact:
        raise BenchmarkError(
            f"Layer {layer.name} is not what NumPy computes; `nox -s rtl` tests the gates"
        )
    counters = read_counters(gates.board)
    predicted = image.layers[0].cycles_plain
    # Not of `layer.macs`: a compiler that skips the zeros of the border needs fewer cycles.
    steps = counters["gemm_uops"] - counters["reset_uops"]
    utilisation = steps / cycles
    say(f"{memory.name} {layer.name}: {cycles:,} cycles, {100 * utilisation:.1f} % of MACs")
    return {
        "name": layer.name,
        "count": layer.count,
        "cycles": cycles,
        "macs": layer.macs,
        "utilisation": utilisation,
        "macs_done": steps * CONFIG.core.macs,
        "bytes": sum(counters[name] for name in _TRAFFIC),
        "predicted_cycles": predicted,
        "predicted_error": predicted / cycles - 1,
        "counters": counters,
    }


def _unit(gates: Gates, unit: Unit, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure one unit: a program with and without what is measured."""
    cycles = 0
    for part, sign in ((unit.whole, 1), (unit.frame, -1)):
        gates.board.dram[: len(part.image)] = part.image
        cycles += sign * gates.run(part.insn_addr, part.insn_count)
        if not np.array_equal(gates.board.dram[: len(part.image)], part.golden()):
            raise BenchmarkError(f"Unit {unit.name} is not what the golden core computes")
    return _unit_row(unit.name, cycles, unit.ideal, say)


def _end_to_end(gates: Gates, say: Callable[[str], None]) -> dict[str, Any]:
    layer, ideal = conv_unit(CONFIG)
    graph = conv_graph(layer)
    cycles, exact = run_image(gates, graph, lower(graph, CONFIG, protect=False), _sample(graph))
    if not exact:
        raise BenchmarkError("Unit end to end is not what NumPy computes")
    return _unit_row("end to end", cycles, ideal, say)


def _unit_row(name: str, cycles: int, ideal: int, say: Callable[[str], None]) -> dict[str, Any]:
    say(f"{name}: {cycles:,} cycles, ideal {ideal:,}")
    return {"name": name, "cycles": cycles, "ideal": ideal, "efficiency": ideal / cycles}
