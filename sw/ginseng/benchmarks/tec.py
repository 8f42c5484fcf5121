"""What protection costs on gates: cycles and bytes with the TEC and without, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.memory import REALISTIC, REFERENCE, MemoryModel
from ginseng.benchmarks.errors import BenchmarkError
from ginseng.benchmarks.protected_run import run_protected
from ginseng.benchmarks.tec_traffic import moved
from ginseng.benchmarks.vta import CONFIG, Gates, run_image
from ginseng.benchmarks.vta_layers import RESNET18, conv_graph
from ginseng.compiler import Graph, lower, quantise_model
from ginseng.driver.boards.rtl import RtlBoard
from ginseng.isa.config import SystemConfig
from ginseng.isa.transfer import Client
from ginseng.program import LayerSpec, Program
from ginseng.secureos import local_session

__all__ = ["NETWORKS", "PROTECTED", "Work", "measure"]

#: The build that is held against `CONFIG`: the same core and bus, behind a TEC.
PROTECTED: Final = SystemConfig(core=CONFIG.core, bus=CONFIG.bus)
#: Of `ginseng.benchmarks.networks`, which needs ONNX and TVM.
NETWORKS: Final = ("mlp", "resnet32", "vgg9")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is run on both builds.

    Attributes
    ----------
    name : str
    kind : str
        ``layer`` or ``network``.
    graph : Graph
    sample : float array of shape (1, *sample shape)
        As its owner has it.
    count : int
        How often ResNet-18 has the layer.

    """

    name: str
    kind: str
    graph: Graph = field(repr=False)
    sample: NDArray[np.floating] = field(repr=False)
    count: int = 1


def measure(
    *,
    layers: Sequence[str] = (),
    networks: Sequence[str] = (),
    memories: Sequence[MemoryModel] = (REFERENCE, REALISTIC),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run layers and networks on gates with a TEC and without, under each memory.

    Both sides have what the compiler makes for them: the plain one knows nothing of chunks. The
    protected one runs in a session, attested and sealed; its imports are not among the cycles.

    Parameters
    ----------
    layers : sequence of str
        Names in `RESNET18`.
    networks : sequence of str
        Of `NETWORKS`. With neither, all of both.
    memories : sequence of MemoryModel
        The first gives the top level of the document.
    progress : callable or None
        Is told what is under way.

    Returns
    -------
    dict
        ``config``, ``bus``, ``tec``, ``memories`` (their parameters), and ``runs``, one per memory,
        of which the first is at the top level as well: ``memory``, ``rows``, ``cycles`` and
        ``bytes`` (each: ratios, protected by plain, as geometric means over ``layers``,
        ``networks`` and ``all``, and ``worst``, its row's name and ratio). Of a row, ``plain`` and
        ``protected`` hold ``cycles``, ``bytes``, ``predicted_cycles`` (the compiler's model) and
        all ``counters``; ``cycle_ratio`` and ``byte_ratio``; ``lane``, the shares of cycles in
        which AES and GHASH work; ``clients``, for each what moved without TEC and with, and of the
        latter what instructions name, what chunks add to it (``over_fetch``) and ``tags``.

    Raises
    ------
    BenchmarkError
        If a layer or a network is not known, or a result differs from NumPy's.

    """
    say = progress or (lambda _: None)
    works = _works(layers, networks, say)
    runs = []
    for memory in memories:
        programs = []
        for work in works:
            say(f"compiles {work.name} twice for the {memory.name} memory")
            programs.append(lower(work.graph, PROTECTED, memory=memory.name))
        say(f"builds or finds the gates, and opens them over the {memory.name} memory")
        plain = Gates.open(memory)
        with plain.board:
            rows = [
                _row(work, program, plain, memory, say)
                for work, program in zip(works, programs, strict=True)
            ]
        runs.append({"memory": memory.name, "rows": rows, **_summary(rows)})
    return {
        "config": CONFIG.core.name,
        "bus": f"{CONFIG.bus.protocol.name}, {CONFIG.bus.data_bits} bit",
        "tec": asdict(PROTECTED)["tec"],
        **runs[0],
        "runs": runs,
        "memories": {memory.name: asdict(memory) for memory in memories},
    }


def _works(
    layers: Sequence[str], networks: Sequence[str], say: Callable[[str], None]
) -> list[Work]:
    known = {layer.name: layer for layer in RESNET18}
    for what, names, all_names in (("Layer", layers, known), ("Network", networks, NETWORKS)):
        unknown = [name for name in names if name not in all_names]
        if unknown:
            raise BenchmarkError(
                f"{what} {unknown[0]!r} is not known ({what.lower()}s: {', '.join(all_names)})"
            )
    if not layers and not networks:
        layers, networks = tuple(known), NETWORKS
    works = []
    for name in layers:
        graph = conv_graph(known[name])
        rng = np.random.default_rng([7, *name.encode()])
        sample = rng.integers(-128, 128, (1, *graph.inputs[0].shape)).astype(np.float32)
        works.append(
            Work(name=name, kind="layer", graph=graph, sample=sample, count=known[name].count)
        )
    if networks:
        # Layers need neither ONNX nor TVM.
        from ginseng.benchmarks.networks import NETWORKS as MAKERS

        for name in networks:
            say(f"makes and quantises {name}")
            network = MAKERS[name]()
            quantised = quantise_model(
                network.model, {network.input: network.calibration}, name=name
            )
            works.append(
                Work(
                    name=name,
                    kind="network",
                    graph=quantised.graph,
                    sample=network.samples[:1],
                )
            )
    return works


def _row(
    work: Work,
    program: Program,
    plain: Gates,
    memory: MemoryModel,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run one work on both sides."""
    image = lower(work.graph, CONFIG, protect=False, memory=memory.name)
    (given,) = image.inputs.values()
    _, exact = run_image(plain, work.graph, image, given.port.quantise(work.sample))
    _require(exact, work, "the plain core")
    bare = _side(plain.board, image.layers, lambda layer: layer.cycles_plain)
    with (
        RtlBoard(PROTECTED, memory=memory) as board,
        local_session(board, program) as session,
    ):
        _, exact = run_protected(session, program, work.graph, work.sample)
        # Before the end of the session resets them.
        kept = _side(board, program.layers, lambda layer: layer.cycles_protected)
        # Refuses a run in which the gates broke a rule of the bus.
        _ = board.traffic
    _require(exact, work, "the core behind its TEC")
    cycles, nbytes = kept["cycles"] / bare["cycles"], kept["bytes"] / bare["bytes"]
    say(
        f"{memory.name} {work.name}: {bare['cycles']:,} cycles, with the TEC {kept['cycles']:,} "
        f"({100 * (cycles - 1):+.2f} %), bytes {100 * (nbytes - 1):+.2f} %"
    )
    return {
        "name": work.name,
        "kind": work.kind,
        "count": work.count,
        "cycle_ratio": cycles,
        "byte_ratio": nbytes,
        "plain": bare,
        "protected": kept,
        "lane": {
            unit: kept["counters"][f"{unit}_busy"] / kept["cycles"] for unit in ("aes", "ghash")
        },
        "clients": _clients(program, bare["counters"], kept["counters"]),
    }


def _require(exact: bool, work: Work, what: str) -> None:
    if not exact:
        raise BenchmarkError(
            f"{work.kind.capitalize()} {work.name} on {what} is not what NumPy computes; "
            "`nox -s rtl` tests the gates"
        )


def _side(
    board: RtlBoard, layers: Sequence[LayerSpec], predicted: Callable[[LayerSpec], int]
) -> dict[str, Any]:
    """Return what one side took."""
    counters = board.counters
    return {
        "cycles": counters["cycles"],
        "bytes": counters["read_bytes"] + counters["write_bytes"],
        "predicted_cycles": sum(predicted(layer) for layer in layers),
        "counters": counters,
    }


def _clients(
    program: Program, bare: Mapping[str, int], kept: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Return what each client moved."""
    found = {}
    for client, part in moved(program).items():
        counter = "write_bytes" if client is Client.STORE else f"{client.name.lower()}_bytes"
        found[client.name.lower()] = {
            "plain": bare[counter],
            "protected": kept[counter],
            "named": part.named,
            "over_fetch": part.chunks - part.named,
            "tags": kept[counter] - part.chunks,
        }
    return found


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return geometric means and the worst of cycles and bytes."""
    summary = {}
    for what, key in (("cycles", "cycle_ratio"), ("bytes", "byte_ratio")):
        kinds = {
            "layers": [row[key] for row in rows if row["kind"] == "layer"],
            "networks": [row[key] for row in rows if row["kind"] == "network"],
            "all": [row[key] for row in rows],
        }
        means = {
            name: exp(sum(map(log, ratios)) / len(ratios))
            for name, ratios in kinds.items()
            if ratios
        }
        worst = max(rows, key=lambda row: float(row[key]))
        summary[what] = means | {"worst": {"name": worst["name"], "ratio": worst[key]}}
    return summary
