"""ONNX and Relax in: TVM's importer and passes, then a list of plain calls."""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Network
from ginseng.compiler.operators import OPERATORS
from ginseng.compiler.walk import Named, Walk

__all__ = ["Imported", "first_line", "import_model", "quiet"]

_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
#: ONNX operators for which there is no hope: better named before their odd shapes are.
_UNSUPPORTED: Final = ("LSTM", "GRU", "RNN", "If", "Loop", "Scan")
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
    sha256 : str
        Of the source model.

    """

    network: Network
    module: Any = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)
    sha256: str


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TVM's prints and warnings from the caller's streams."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def import_model(model: Any, name: str | None) -> Imported:
    """Import a path, an ONNX model or a Relax module.

    Raises
    ------
    CompilerError
        If TVM is missing, the model is broken, or an operator is not supported.

    """
    try:
        import onnx
        import tvm
    except ModuleNotFoundError as error:
        raise CompilerError(f"{error.name} is not installed: {_EXTRA}") from None
    if isinstance(model, str | Path):
        path = Path(model)
        name = name or path.stem
        try:
            model = onnx.load(path)
        except OSError as error:
            raise CompilerError(f"{path} cannot be read: {error.strerror or error}") from None
        except Exception as error:
            # Protobuf's DecodeError, a missing external file: onnx has no base of its own.
            raise CompilerError(f"{path} is no ONNX model: {first_line(error)}") from None
    if isinstance(model, onnx.ModelProto):
        name = name or model.graph.name or "model"
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        module, inputs, named, outputs = _from_onnx(model)
    elif isinstance(model, tvm.IRModule):
        name = name or "model"
        digest = hashlib.sha256(tvm.ir.save_json(model).encode()).hexdigest()
        module, inputs, named, outputs = _from_relax(model)
    else:
        raise CompilerError(
            f"A model is a path, an onnx.ModelProto or a tvm.IRModule, not {type(model).__name__}"
        )
    try:
        with quiet():
            module, held = _hold_integers(module)
            module = _passes()(module)
    except Exception as error:
        raise CompilerError(f"Model {name}: TVM's passes refuse it: {first_line(error)}") from None
    walk = Walk(module, inputs, named, outputs, held)
    network = Network(name, walk.inputs, walk.calls, walk.outputs)
    for call in walk.calls:
        network.recognise(call, OPERATORS)
    network.expose()
    return Imported(network, module, walk.variables, digest)


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


_Source = tuple[Any, list[str], Sequence[Named | None], int]


def _sample_dims(name: str, dims: Sequence[int | str | None]) -> list[int]:
    """Return the dimensions of an input with a batch of 1.

    Raises
    ------
    CompilerError
        If another dimension is symbolic, the batch is not 1, or the rank is odd.

    """
    if len(dims) not in (2, 4):
        raise CompilerError(
            f"Input {name} has {len(dims)} dimensions {tuple(dims)}; only (batch, channels, "
            "height, width) and (batch, features) are supported"
        )
    fixed = []
    for n, dim in enumerate(dims):
        symbolic = not isinstance(dim, int) or dim < 1
        if n == 0:
            if not symbolic and dim != 1:
                raise CompilerError(
                    f"Input {name} has a batch of {dim}; export the model with batch 1 or a "
                    "symbolic batch"
                )
            fixed.append(1)
        elif symbolic:
            raise CompilerError(
                f"Input {name} has the dynamic dimension {dim or '?'} at position {n}; export the "
                "model with fixed height, width and channels"
            )
        else:
            assert isinstance(dim, int)
            fixed.append(dim)
    return fixed


def _from_onnx(model: Any) -> _Source:
    """Import ONNX; every intermediate is a further result, so that its name survives the passes."""
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise CompilerError(f"The ONNX model is not valid: {first_line(error)}") from None
    for node in model.graph.node:
        if node.op_type in _UNSUPPORTED:
            raise CompilerError(
                f"Node {node.name or node.output[0]} ({node.op_type}): recurrent networks and "
                "control flow are not supported; unroll them, or do them on the owner's side"
            )
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes = {}
    for port in model.graph.input:
        if port.name in constants:
            continue
        kind = port.type.tensor_type
        if kind.elem_type != _FLOAT:
            raise CompilerError(
                f"Input {port.name} is {onnx.TensorProto.DataType.Name(kind.elem_type)}; export "
                "the model in float32"
            )
        dims = [d.dim_value or d.dim_param or None for d in kind.shape.dim]
        shapes[port.name] = _sample_dims(port.name, dims)
    named = [
        Named(output, node.name or output, node.op_type)
        for node in model.graph.node
        for output in node.output
        if output
    ]
    results = [port.name for port in model.graph.output]
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    for item in named:
        extended.graph.output.append(onnx.ValueInfoProto(name=item.value))
    for variant, tags in ((extended, [None] * len(results) + list(named)), (model, None)):
        try:
            with quiet():
                module = from_onnx(variant, shape_dict=shapes, keep_params_in_input=False)
        except Exception as error:
            failure = first_line(error)
            continue
        return module, list(shapes), tags or [None] * len(results), len(results)
    culprits = [n for n in named if n.operator in failure] or named[:1]
    where = f"Node {culprits[0].node} ({culprits[0].operator})" if culprits else "The model"
    raise CompilerError(
        f"{where}: TVM cannot import it: {failure}; leave it out of the model or do it on the "
        "owner's side"
    )


def _from_relax(module: Any) -> _Source:
    """Take ``main`` of a Relax module; a symbolic batch becomes 1."""
    import tvm
    from tvm import relax

    names = [v.name_hint for v in module.get_global_vars()]
    if "main" not in names or not isinstance(module["main"], relax.Function):
        raise CompilerError("The module has no Relax function named main; name it so")
    function = module["main"]
    batch = set()
    for parameter in function.params:
        kind = parameter.ty
        if not isinstance(kind, relax.TensorType) or kind.shape is None:
            raise CompilerError(f"Input {parameter.name} has no known shape; annotate it")
        dims = [int(d) if isinstance(d, tvm.tirx.IntImm) else str(d) for d in kind.shape]
        _sample_dims(str(parameter.name), dims)
        if str(kind.dtype) != "float32":
            raise CompilerError(f"Input {parameter.name} is {kind.dtype}; make it float32")
        if isinstance(dims[0], str):
            batch.add(dims[0])
    try:
        with quiet():
            if batch:
                bind = relax.transform.BindSymbolicVars(dict.fromkeys(batch, 1), "main")
                module = bind(module)
    except Exception as error:
        raise CompilerError(f"The batch of main cannot be bound: {first_line(error)}") from None
    body = function.ret_ty
    count = len(body.fields) if isinstance(body, relax.TupleType) else 1
    inputs = [str(parameter.name) for parameter in function.params]
    return module, inputs, [None] * count, count
