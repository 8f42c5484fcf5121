"""From a model to a program: import, calibrate, quantise, lower."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ginseng.compiler.backend.image import program
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.given import GivenScales
from ginseng.compiler.graph import Graph
from ginseng.compiler.quantise import integer_graph, quantise_network
from ginseng.isa.config import SystemConfig
from ginseng.program import Program

if TYPE_CHECKING:
    import onnx
    import torch
    import tvm

__all__ = ["CompiledModel", "compile_model", "quantise_model"]


@dataclass(frozen=True)
class CompiledModel:
    """What the compiler returns.

    Attributes
    ----------
    program : Program
        Weights in the clear: it belongs to the model's owner until `seal_program` has sealed it.
    graph : Graph
        What it computes, in exact integers.

    """

    program: Program
    graph: Graph = field(repr=False)


def quantise_model(
    model: "Path | onnx.ModelProto | torch.export.ExportedProgram | tvm.IRModule",
    calibration: Mapping[str, NDArray[Any]] | None = None,
    *,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Graph, str]:
    """Import, calibrate and quantise ``model``; return its graph and the hash of its source.

    Parameters and errors are those of `compile_model`.
    """
    say = progress or (lambda _: None)
    from ginseng.compiler.importer import import_model

    imported = import_model(model, name)
    network = imported.network
    say(f"imported {network.name}: {len(network.nodes)} nodes")
    if network.grids:
        if calibration:
            raise CompilerError(
                f"Model {network.name} is quantised already and brings its own scales; leave the "
                "calibration data out, or give the float model"
            )
        return integer_graph(network, GivenScales(network)), imported.sha256
    from ginseng.compiler.calibration import calibrate, check_samples

    samples = check_samples(network.inputs, calibration or {})
    values = list(dict.fromkeys(node.output for node in network.nodes))
    ranges = calibrate(imported, samples, values, progress=say)
    graph = quantise_network(network, ranges)
    say(f"quantised {network.name}")
    return graph, imported.sha256


def compile_model(
    model: "Path | onnx.ModelProto | torch.export.ExportedProgram | tvm.IRModule",
    calibration: Mapping[str, NDArray[Any]] | None = None,
    *,
    config: SystemConfig | None = None,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> CompiledModel:
    """Compile a network into one protected program with one FINISH.

    Parameters
    ----------
    model : Path, onnx.ModelProto, torch.export.ExportedProgram or tvm.IRModule
        Of a file the suffix says what it is: ``.pt2`` of `torch.export.save`, ``.json`` of
        `tvm.ir.save_json`, ``.py`` TVMScript, anything else ONNX. Batch 1 or a symbolic batch;
        float32, or quantised (QDQ) to int8 or uint8.
    calibration : mapping of str to array, or None
        One array per model input, named after it, of shape ``(n, *sample shape)``: the ranges
        that they cause decide the scales. None for a model that is quantised already.
    config : SystemConfig or None
        The build to compile for; by default ``SystemConfig()``.
    name : str or None
        Of the program; by default the file's or the graph's.
    progress : callable or None
        Gets a line of text now and then.

    Returns
    -------
    CompiledModel

    Raises
    ------
    CompilerError
        If TVM is not installed, the model cannot be done, or it does not fit the build; one line
        that names the node, the rule and the way out. The same model and calibration give the
        same bytes.

    """
    config = SystemConfig() if config is None else config
    if config.tec is None:
        raise CompilerError(
            "A program needs a build with a TEC; compile for SystemConfig(tec=TecConfig()), or "
            "use ginseng.compiler.lower(graph, config, protect=False) for a bare build"
        )
    graph, digest = quantise_model(model, calibration, name=name, progress=progress)
    compiled = program(graph, config, model_sha256=digest)
    if progress is not None:
        progress(f"emitted {len(compiled.tensors)} tensors")
    return CompiledModel(compiled, graph)
