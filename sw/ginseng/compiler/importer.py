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
from ginseng.compiler.floatgraph import Call, Network
from ginseng.compiler.operators import OPERATORS

__all__ = ["Imported", "first_line", "import_model", "quiet"]

_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
#: ONNX operators that TVM's importer turns into loop nests rather than Relax operators, with the
#: names of these.
_PRIMITIVES: Final = {"Clip": ("maximum", "minimum")}
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


@dataclass(frozen=True)
class _Named:
    """What a source calls one value: by whom it is made, in the source's words."""

    value: str
    node: str
    operator: str


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
            module = _passes()(module)
    except Exception as error:
        raise CompilerError(f"Model {name}: TVM's passes refuse it: {first_line(error)}") from None
    walk = _Walk(module, inputs, named, outputs)
    network = Network(name, walk.inputs, walk.calls, walk.outputs)
    for call in walk.calls:
        network.recognise(call, OPERATORS)
    return Imported(network, module, walk.variables, digest)


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


_Source = tuple[Any, list[str], Sequence[_Named | None], int]


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
        _Named(output, node.name or output, node.op_type)
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


class _Walk:
    """Turns the bindings of ``main`` into calls, from the outputs backwards."""

    def __init__(
        self,
        module: Any,
        inputs: Sequence[str],
        named: Sequence[_Named | None],
        outputs: int,
    ) -> None:
        from tvm import ir, relax, tirx

        self._relax = relax
        self._constant = ir.GenericConst
        self._number = (tirx.FloatImm, tirx.IntImm)
        function = module["main"]
        self.variables: dict[str, Any] = {}
        self.inputs: dict[str, tuple[int, ...]] = {}
        self._names: dict[Any, str] = {}
        self._constants: dict[Any, Any] = {}
        self._tuples: dict[Any, list[Any]] = {}
        for name, parameter in zip(inputs, function.params, strict=True):
            self._bind(parameter, name)
            self.inputs[name] = self._shape(parameter, name)
        bindings = self._bindings(function)
        results = self._results(function.body.body, bindings)
        tags = {}
        for result, tag in zip(results, named, strict=False):
            if tag is not None and isinstance(result, relax.Var):
                tags.setdefault(result, tag)
        self.calls: list[Call] = []
        live = self._live(results[:outputs], bindings)
        names = self._label(bindings, tags)
        for binding in bindings:
            if binding.var in live:
                self._visit(binding, *names[binding.var])
        self.outputs = [self._output(result) for result in results[:outputs]]

    def _bindings(self, function: Any) -> list[Any]:
        relax = self._relax
        if not isinstance(function.body, relax.SeqExpr):
            raise CompilerError("The model computes nothing; give it at least one node")
        found = []
        for block in function.body.blocks:
            for binding in block.bindings:
                if not isinstance(binding, relax.VarBinding):
                    raise CompilerError(
                        f"Node {binding.var.name}: match_cast is not supported; give every value "
                        "a fixed shape"
                    )
                found.append(binding)
        return found

    def _results(self, body: Any, bindings: Sequence[Any]) -> list[Any]:
        """Return what ``main`` returns, as a flat list."""
        by_var = {b.var: b.value for b in bindings}
        seen = body
        while isinstance(seen, self._relax.Var) and isinstance(
            by_var.get(seen), self._relax.Var | self._relax.Tuple
        ):
            seen = by_var[seen]
        return list(seen.fields) if isinstance(seen, self._relax.Tuple) else [seen]

    def _operands(self, value: Any) -> list[Any]:
        relax = self._relax
        if isinstance(value, relax.Call):
            return [a for arg in value.args for a in self._operands(arg)]
        if isinstance(value, relax.Tuple):
            return [a for item in value.fields for a in self._operands(item)]
        if isinstance(value, relax.TupleGetItem):
            return self._operands(value.tuple_value)
        return [value] if isinstance(value, relax.Var) else []

    def _live(self, results: Sequence[Any], bindings: Sequence[Any]) -> set[Any]:
        live = {r for r in results if isinstance(r, self._relax.Var)}
        for binding in reversed(bindings):
            if binding.var in live:
                live.update(self._operands(binding.value))
        return live

    def _label(
        self, bindings: Sequence[Any], tags: Mapping[Any, _Named]
    ) -> dict[Any, tuple[str, str, str]]:
        """Return value, node and operator name of each binding.

        A source node that became several calls named only its result: the others have the name of
        the node that they work for.
        """
        labels, taken = {}, set(self.inputs)
        reader: dict[Any, _Named] = {}
        for binding in reversed(bindings):
            tag = tags.get(binding.var)
            value = tag.value if tag else str(binding.var.name)
            unique, n = value, 2
            while unique in taken:
                unique, n = f"{value}_{n}", n + 1
            taken.add(unique)
            source = tag or reader.get(binding.var)
            op = getattr(getattr(binding.value, "op", None), "name", "")
            labels[binding.var] = (
                unique,
                source.node if source else value,
                source.operator if source else op.removeprefix("relax."),
            )
            if source:
                reader |= dict.fromkeys(self._operands(binding.value), source)
        return labels

    def _bind(self, variable: Any, name: str) -> None:
        self._names[variable] = name
        self.variables[name] = variable

    def _shape(self, variable: Any, name: str) -> tuple[int, ...]:
        kind = variable.ty
        try:
            return tuple(int(d) for d in kind.shape)
        except (TypeError, AttributeError):
            raise CompilerError(
                f"Value {name} has no fixed shape; export the model with fixed shapes"
            ) from None

    def _argument(self, value: Any) -> Any:
        """Return a value's name, a constant's array, or a shape's tuple."""
        relax = self._relax
        if isinstance(value, relax.Var):
            if value in self._constants:
                return self._constants[value]
            return self._names.get(value)
        if isinstance(value, self._constant):
            return value.value.numpy()
        if isinstance(value, relax.ShapeExpr):
            return tuple(int(v) for v in value.values)
        if isinstance(value, self._number):
            return float(value.value)
        return None

    def _visit(self, binding: Any, value_name: str, node: str, operator: str) -> None:
        relax = self._relax
        value, variable = binding.value, binding.var
        if isinstance(value, relax.Var) and value in self._names:
            self._names[variable] = self._names[value]
            return
        if isinstance(value, self._constant):
            self._constants[variable] = value.value.numpy()
            return
        if isinstance(value, relax.Tuple):
            self._tuples[variable] = list(value.fields)
            return
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self._tuples:
            item = self._tuples[value.tuple_value][value.index]
            argument = self._argument(item)
            if isinstance(argument, str):
                self._names[variable] = argument
                return
        op = getattr(getattr(value, "op", None), "name", type(value).__name__)
        if not isinstance(value, relax.Call) or not op.startswith("relax."):
            raise CompilerError(
                f"Node {node} ({operator or op}): {op} is not supported; leave it out of the model"
            )
        arguments = tuple(self._argument(a) for a in value.args)
        if op == "relax.call_tir" and operator in _PRIMITIVES:
            op, arguments = self._primitive(value, operator, op, arguments)
        if not isinstance(variable.ty, relax.TensorType):
            raise CompilerError(
                f"Node {node} ({operator or op}): the core cannot do {op.removeprefix('relax.')}, "
                "whose result is no single tensor; leave it out of the model"
            )
        self._bind(variable, value_name)
        self.calls.append(
            Call(
                op=op,
                name=node,
                source=operator or op.removeprefix("relax."),
                output=value_name,
                args=tuple(a for a in arguments if a is not None),
                shape=self._shape(variable, value_name),
                attributes=_attributes(value.attrs),
            )
        )

    def _primitive(
        self, value: Any, operator: str, op: str, arguments: tuple[Any, ...]
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the Relax operator and arguments of a loop nest that TVM's importer wrote."""
        name = str(value.args[0].name_hint)
        for primitive in _PRIMITIVES[operator]:
            if name.rstrip("0123456789") == primitive:
                return f"relax.{primitive}", tuple(self._argument(a) for a in value.args[1].fields)
        return op, arguments

    def _output(self, result: Any) -> str:
        name = self._names.get(result)
        if name is None:
            raise CompilerError(
                "An output of the model is a constant; remove it, or check that the inputs are used"
            )
        return name


def _attributes(attrs: Any) -> dict[str, Any]:
    """Return a Relax call's attributes as plain Python."""
    if attrs is None:
        return {}
    found = {}
    for base in type(attrs).__mro__:
        info = base.__dict__.get("__tvm_ffi_type_info__")
        for item in getattr(info, "fields", None) or ():
            found[item.name] = _plain(getattr(attrs, item.name))
    return found


def _plain(value: Any) -> Any:
    """Return numbers and strings as they are, sequences as tuples of them."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__iter__"):
        return tuple(_plain(v) for v in value)
    return int(value) if hasattr(value, "__int__") else str(value)
