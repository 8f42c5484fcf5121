"""From a model of any format to recognised nodes: TVM's importers and passes, then plain calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Network
from ginseng.compiler.importers.onnx import from_onnx_model
from ginseng.compiler.importers.relax import from_relax_module, load_relax
from ginseng.compiler.importers.source import Source, first_line, quiet
from ginseng.compiler.importers.torch import from_exported, is_exported, load_exported
from ginseng.compiler.operators import OPERATORS
from ginseng.compiler.operators.conv2d import FloatConv2d
from ginseng.compiler.owner_side import OwnerSide
from ginseng.compiler.packing import pack_first
from ginseng.compiler.walk import Walk

__all__ = ["Imported", "import_model"]

_EXTRA: Final = "the compiler needs TVM and ONNX; pip install 'ginseng[tvm]'"


@dataclass(frozen=True)
class Imported:
    """A model as Relax, and what the walk through it found.

    Attributes
    ----------
    network : Network
        Recognised, not yet quantised.
    module : tvm.IRModule
        After the passes; its ``main`` is what calibration runs.
    variables : mapping of str to relax.Var
        Where each value of the network stands in ``main``.
    inputs : mapping of str to tuple of int
        What the model takes, batch included: shapes before what the owner does.
    sha256 : str
        Of the source model.

    """

    network: Network
    module: Any = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)
    inputs: Mapping[str, tuple[int, ...]]
    sha256: str


def import_model(model: Any, name: str | None, *, owner_side: bool = False) -> Imported:
    """Import a path, or a model of one of the formats in memory.

    With ``owner_side``, first and last layers that the core cannot do go to the data's owner.

    Raises
    ------
    CompilerError
        If TVM is missing, the model is broken, or an operator is not supported.

    """
    source = _source(model, name)
    try:
        with quiet():
            module, held = _hold_integers(source.module)
            module = _passes()(module)
    except Exception as error:
        raise CompilerError(
            f"Model {source.name}: TVM's passes refuse it: {first_line(error)}"
        ) from None
    walk = Walk(module, source.inputs, source.named, source.outputs, held)
    calls, inputs, variables = walk.calls, walk.inputs, walk.variables
    steps = {}
    if owner_side:
        moved = OwnerSide(calls, inputs, walk.outputs, variables)
        calls, inputs, variables, steps = moved.calls, moved.inputs, moved.variables, moved.steps
    network = Network(source.name, inputs, calls, walk.outputs)
    network.steps.update(steps)
    for call in calls:
        network.recognise(call, OPERATORS)
    for node in network.nodes:
        name = network.sole_input(node.inputs[0])
        if not isinstance(node, FloatConv2d) or name is None or name in network.images:
            continue
        _, *image = network.inputs[name]
        step = pack_first(node, image) if len(image) == 3 else None
        if step is not None:
            network.pack(name, step)
    network.expose()
    return Imported(network, module, variables, walk.inputs, source.sha256)


def _source(model: Any, name: str | None) -> Source:
    """Return a model as Relax."""
    try:
        import onnx
        import tvm
    except ModuleNotFoundError as error:
        raise CompilerError(f"{error.name} is not installed: {_EXTRA}") from None
    if isinstance(model, str | Path):
        path = Path(model)
        name = name or path.stem
        load = {".pt2": load_exported, ".json": load_relax, ".py": load_relax}
        model = load.get(path.suffix, _load_onnx)(path)
    if isinstance(model, onnx.ModelProto):
        return from_onnx_model(model, name)
    if isinstance(model, tvm.IRModule):
        return from_relax_module(model, name)
    if is_exported(model):
        return from_exported(model, name)
    raise CompilerError(
        "A model is a path, an onnx.ModelProto, a torch.export.ExportedProgram or a tvm.IRModule, "
        f"not {type(model).__name__}"
    )


def _load_onnx(path: Path) -> Any:
    """Read ONNX."""
    import onnx

    try:
        return onnx.load(path)
    except OSError as error:
        raise CompilerError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        # Protobuf's DecodeError, a missing external file: onnx has no base of its own.
        raise CompilerError(f"{path} is no ONNX model: {first_line(error)}") from None


def _hold_integers(module: Any) -> tuple[Any, list[Any]]:
    """Make parameters of the constants that ``main`` quantises or dequantises.

    Constant folding would turn them into floats, and their integers and scales would be lost.
    Returns the module, and what the further parameters stand for.
    """
    from tvm import ir, relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    names = ("relax.quantize", "relax.dequantize")
    parameters: list[Any] = []
    held: list[Any] = []

    @mutator
    class Hold(PyExprMutator):  # type: ignore[misc]
        def visit_call_(self, call: Any) -> Any:
            if getattr(call.op, "name", "") not in names or not isinstance(
                call.args[0], ir.GenericConst
            ):
                return self.visit_expr_post_order(call)
            parameters.append(relax.Var(f"held{len(held)}", call.args[0].ty))
            held.append(call.args[0].value.numpy())
            return relax.Call(call.op, [parameters[-1], *call.args[1:]], call.attrs)

    main = module["main"]
    body = Hold(module).visit_expr(main.body)
    if not held:
        return module, held
    function = relax.Function([*main.params, *parameters], body, main.ret_ty, main.is_pure)
    functions = dict(module.functions_items())
    functions[module.get_global_var("main")] = function.with_attr("global_symbol", "main")
    return relax.transform.Normalize()(type(module)(functions)), held


def _passes() -> Any:
    """Return the pipeline: decompose, canonicalise, fold, one plain block of bindings."""
    import tvm
    from tvm.relax import transform

    return tvm.transform.Sequential(
        [
            transform.DecomposeOpsForInference(),
            transform.CanonicalizeBindings(),
            transform.FoldConstant(),
            transform.ToNonDataflow(),
            transform.DeadCodeElimination(),
        ]
    )
