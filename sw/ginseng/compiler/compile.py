"""From a model to a program: import, calibrate, quantise, lower."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ginseng.compiler.backend.cost import memory_timing
from ginseng.compiler.backend.image import program
from ginseng.compiler.backend.plan import LayerPlan
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.given import given_graph
from ginseng.compiler.graph import Graph
from ginseng.compiler.methods import calibration_method
from ginseng.compiler.quantise import Scales, integer_graph
from ginseng.compiler.weights import WeightScales
from ginseng.isa.config import SystemConfig
from ginseng.program import Program

if TYPE_CHECKING:
    import onnx
    import torch
    import tvm

    from ginseng.compiler.accuracy import AccuracyReport
    from ginseng.compiler.calibration import ProgressBar

__all__ = ["CompiledModel", "QuantisedModel", "compile_model", "quantise_model"]


@dataclass(frozen=True)
class CompiledModel:
    """What the compiler returns.

    Attributes
    ----------
    program : Program
        Weights in the clear: it belongs to the model's owner until `seal_program` has sealed it.
    graph : Graph
        What it computes, in exact integers.
    plan : tuple of LayerPlan
        How each layer is scheduled.
    accuracy : AccuracyReport or None
        If one was asked for.

    """

    program: Program
    graph: Graph = field(repr=False)
    plan: tuple[LayerPlan, ...] = field(repr=False)
    accuracy: "AccuracyReport | None" = field(default=None, repr=False)


@dataclass(frozen=True)
class QuantisedModel:
    """A model on its way to a program.

    Attributes
    ----------
    graph : Graph
    sha256 : str
        Of the source model.
    accuracy : AccuracyReport or None
        If one was asked for.

    """

    graph: Graph
    sha256: str
    accuracy: "AccuracyReport | None" = None


def quantise_model(
    model: "Path | onnx.ModelProto | torch.export.ExportedProgram | tvm.IRModule",
    calibration: Mapping[str, NDArray[Any]] | None = None,
    *,
    name: str | None = None,
    method: str = "minmax",
    weights: str = "auto",
    owner_side: bool = False,
    compare: Mapping[str, NDArray[Any]] | None = None,
    progress: Callable[[str], None] | None = None,
    bar: "ProgressBar | None" = None,
) -> QuantisedModel:
    """Import, calibrate and quantise ``model``.

    Parameters and errors are those of `compile_model`.
    """
    say = progress or (lambda _: None)
    # Before the long work: a method that is not there is found out.
    calibration_method(method)
    WeightScales.parse(weights)
    from ginseng.compiler.importer import import_model

    imported = import_model(model, name, owner_side=owner_side)
    network = imported.network
    say(f"imported {network.name}: {len(network.nodes)} nodes")
    if network.grids:
        if calibration or compare:
            raise CompilerError(
                f"Model {network.name} is quantised already and brings its own scales; leave the "
                "calibration data and samples to compare with out, or give the float model"
            )
        return QuantisedModel(given_graph(network), imported.sha256)
    from ginseng.compiler.calibration import FloatRun, calibrate, check_samples

    samples = check_samples(imported.inputs, calibration or {})
    held = None if compare is None else check_samples(imported.inputs, compare)
    run = FloatRun(imported, [node.output for node in network.nodes])
    seen = calibrate(run, samples, bar=bar)
    say(f"calibrated {len(seen)} values")
    graph = integer_graph(network, Scales(seen, method, weights))
    say(f"quantised {network.name}")
    if held is None:
        return QuantisedModel(graph, imported.sha256)
    from ginseng.compiler.accuracy import accuracy_report

    return QuantisedModel(graph, imported.sha256, accuracy_report(graph, run, held, bar=bar))


def compile_model(
    model: "Path | onnx.ModelProto | torch.export.ExportedProgram | tvm.IRModule",
    calibration: Mapping[str, NDArray[Any]] | None = None,
    *,
    config: SystemConfig | None = None,
    name: str | None = None,
    method: str = "minmax",
    weights: str = "auto",
    owner_side: bool = False,
    compare: Mapping[str, NDArray[Any]] | None = None,
    memory: str = "reference",
    progress: Callable[[str], None] | None = None,
    bar: "ProgressBar | None" = None,
) -> CompiledModel:
    """Compile a network into one protected program with one FINISH.

    Parameters
    ----------
    model : Path, onnx.ModelProto, torch.export.ExportedProgram or tvm.IRModule
        Of a file the suffix says what it is: ``.pt2`` of `torch.export.save`, ``.json`` of
        `tvm.ir.save_json`, anything else ONNX. Batch 1 or a symbolic batch;
        float32, or quantised (QDQ) to int8 or uint8.
    calibration : mapping of str to array, or None
        One array per model input, named after it, of shape ``(n, *sample shape)``: the ranges
        that they cause decide the scales. None for a model that is quantised already.
    config : SystemConfig or None
        The build to compile for; by default ``SystemConfig()``.
    name : str or None
        Of the program; by default the file's or the graph's.
    method : str
        Of calibration: ``minmax``, ``percentile:SHARE`` or ``mse`` (`ginseng.compiler.methods`).
    weights : str
        How many scales the weights of a layer have: ``tensor``, ``channel`` (one for each output
        channel) or ``auto`` (`ginseng.compiler.weights`).
    owner_side : bool
        Whether first and last layers that the core cannot do (`ginseng.program.OwnerStep`), and
        scalings of inputs, are done by the owner of the data; the program's ports record them.
    compare : mapping of str to array, or None
        Samples on which every layer is held against the float network, shaped as ``calibration``;
        the result is in `CompiledModel.accuracy`.
    memory : str
        The DRAM to tune for: ``reference`` or ``realistic`` (`ginseng.compiler.backend.cost`). Any
        program runs with any.
    progress : callable or None
        Gets a line of text now and then.
    bar : callable or None
        Opens a progress bar, given a label and a number of steps: a context manager whose value
        is called once per step.

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
    # Before the long work: a memory that is not there is found out.
    memory_timing(memory)
    config = SystemConfig() if config is None else config
    if config.tec is None:
        raise CompilerError(
            "A program needs a build with a TEC; compile for SystemConfig(tec=TecConfig()), or "
            "use ginseng.compiler.lower(graph, config, protect=False) for a bare build"
        )
    quantised = quantise_model(
        model,
        calibration,
        name=name,
        method=method,
        weights=weights,
        owner_side=owner_side,
        compare=compare,
        progress=progress,
        bar=bar,
    )
    compiled, plan = program(quantised.graph, config, model_sha256=quantised.sha256, memory=memory)
    if progress is not None:
        progress(f"emitted {len(compiled.tensors)} tensors")
    return CompiledModel(compiled, quantised.graph, plan, quantised.accuracy)
