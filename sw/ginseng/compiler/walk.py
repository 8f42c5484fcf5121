"""Walks Relax's ``main`` from its outputs backwards and lists its live calls in plain Python."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ginseng.compiler.constants import can_fold, fold
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Call
from ginseng.compiler.importers.padding import padding_attributes
from ginseng.compiler.importers.source import Named

__all__ = ["Walk"]

#: ONNX operators that TVM's importer turns into loop nests rather than Relax operators, with the
#: names of these.
_PRIMITIVES: Final = {"Clip": ("maximum", "minimum"), "Pad": ("pad",)}


class Walk:
    """Turns the bindings of ``main`` into calls.

    Parameters
    ----------
    module : tvm.IRModule
        After the passes: one block of bindings.
    inputs : sequence of str
        What the parameters are called.
    named : sequence of Named or None
        What the source calls each result of ``main``, as far as it has names.
    outputs : int
        How many of the results are outputs of the model; the others only carry names.
    held : sequence of array
        Constants that are further parameters, so that no pass folds them.

    Attributes
    ----------
    calls : list of Call
    inputs : dict of str to tuple of int
        Shapes, batch included.
    outputs : list of str
    variables : dict of str to relax.Var
        Where each value stands in ``main``.

    Raises
    ------
    CompilerError
        If there is something else than calls of Relax operators on tensors of fixed shape.

    """

    def __init__(
        self,
        module: Any,
        inputs: Sequence[str],
        named: Sequence[Named | None],
        outputs: int,
        held: Sequence[Any] = (),
    ) -> None:
        from tvm import ir, relax, tirx

        self._relax = relax
        self._module = module
        self._constant = ir.GenericConst
        self._number = (tirx.FloatImm, tirx.IntImm)
        function = module["main"]
        self.variables: dict[str, Any] = {}
        self.inputs: dict[str, tuple[int, ...]] = {}
        self._names: dict[Any, str] = {}
        self._constants: dict[Any, Any] = {}
        #: What one step of the elements of constants means that the model gives as integers.
        self._steps: dict[Any, Any] = {}
        self._tuples: dict[Any, list[Any]] = {}
        self._constants |= zip(function.params[len(inputs) :], held, strict=True)
        for name, parameter in zip(inputs, function.params[: len(inputs)], strict=True):
            self._bind(parameter, name)
            self.inputs[name] = self._shape(parameter, name)
        bindings = self._bindings(function)
        results = self._results(function.body.body, bindings)
        tags: dict[Any, Named] = {}
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
        self, bindings: Sequence[Any], tags: Mapping[Any, Named]
    ) -> dict[Any, tuple[str, str, str]]:
        """Return value, node and operator name of each binding.

        A source node that became several calls named only its result: the others have the name of
        the node that they work for.
        """
        labels, taken = {}, set(self.inputs)
        reader: dict[Any, Named] = {}
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
        if op == "relax.nn.dropout":
            # At inference it is its input, and a mask that nobody uses.
            self._tuples[variable] = list(value.args)
            return
        operands = [o for a in value.args for o in self._fields(a)]
        arguments = tuple(self._argument(o) for o in operands)
        attributes = _attributes(value.attrs)
        if can_fold(op, arguments):
            steps = self._steps.get(operands[0])
            shape = self._shape(variable, value_name)
            self._constants[variable], steps = fold(op, arguments, attributes, shape, steps)
            if steps is not None:
                self._steps[variable] = steps
            return
        if op == "relax.call_tir" and operator in _PRIMITIVES:
            op, arguments = self._primitive(value, operator, op, arguments)
        if op == "relax.pad":
            op, attributes = self._padding(variable, value, arguments)
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
                attributes=attributes,
                steps={n: self._steps[o] for n, o in enumerate(operands) if o in self._steps},
            )
        )

    def _fields(self, value: Any) -> list[Any]:
        """Return what a tuple holds; anything else holds itself."""
        if isinstance(value, self._relax.Tuple):
            return list(value.fields)
        return self._tuples.get(value, [value]) if isinstance(value, self._relax.Var) else [value]

    def _primitive(
        self, value: Any, operator: str, op: str, arguments: tuple[Any, ...]
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the Relax operator and arguments of a loop nest that TVM's importer wrote."""
        name = str(value.args[0].name_hint)
        for primitive in _PRIMITIVES[operator]:
            if name.rstrip("0123456789") == primitive:
                return f"relax.{primitive}", tuple(self._argument(a) for a in value.args[1].fields)
        return op, arguments

    def _padding(
        self, variable: Any, value: Any, arguments: tuple[Any, ...]
    ) -> tuple[str, dict[str, Any]]:
        """Return the Relax operator and attributes of a padding's loop nest."""
        source = value.args[1].fields[0]
        found = padding_attributes(
            self._module[value.args[0]],
            self._shape(source, str(arguments[0])),
            self._shape(variable, str(arguments[0])),
        )
        return "relax.nn.pad", found or {"pad_mode": "something else than a constant"}

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
