"""The check of a graph: accept it, or name the node that mixes examples, and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ginseng.myelin.checker.dependence import PUBLIC, Dependence, Example, MixesError
from ginseng.myelin.checker.loopnest import check_nest
from ginseng.myelin.checker.operation import Operand, Operation
from ginseng.myelin.checker.rules import RULES
from ginseng.myelin.errors import MyelinError

__all__ = ["Verdict", "check_function", "infer"]

#: Of a tuple, one for each of its fields.
_Value = Dependence | tuple[Any, ...]

#: Makers of constants: they take shapes and numbers, and neither random bits nor state.
_CONSTANTS: Final = frozenset(
    {"arange", "eye", "full", "hamming_window", "ones", "shape_to_tensor", "zeros"}
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a check.

    Attributes
    ----------
    accepted : bool
        Every slice of the result depends on one example.
    node : str
        That which mixes, as Relax names and writes it; empty, if none does.
    reason : str
        Why; empty, if none does.
    operators : tuple of str
        Those that were looked at.

    """

    accepted: bool
    node: str = ""
    reason: str = ""
    operators: tuple[str, ...] = ()


def infer(function: Any, axes: Mapping[str, int], module: Any = None) -> Dependence | None:
    """Return what a function's result depends on, or None if it is refused.

    Parameters
    ----------
    function, module
        As of `check_function`.
    axes : mapping of str to int
        Of each parameter that holds examples, the axis of the examples.

    """
    try:
        result = _Walk(function, axes, module).result()
    except _RefusedError:
        return None
    return None if isinstance(result, tuple) else result


class _RefusedError(Exception):
    def __init__(self, node: str, reason: str) -> None:
        super().__init__(reason)
        self.node, self.reason = node, reason


def check_function(function: Any, examples: Collection[str], module: Any = None) -> Verdict:
    """Check that slice i of what a function returns depends on example i only.

    Parameters
    ----------
    function : relax.Function
        Parameters and public data go in beside the examples. It returns one tensor, whose first
        axis is that of the examples: a loss for each, or what a model says of each.
    examples : collection of str
        The names of its parameters that hold one example per slice of their first axis.
    module : tvm.IRModule or None
        Where the loop nests are that it calls.

    Raises
    ------
    MyelinError
        If the function has no parameter of such a name, or none is named.

    """
    names = [parameter.name for parameter in function.params]
    for name in examples:
        if name not in names:
            raise MyelinError(
                f"The graph has no input {name!r} of examples; it has {', '.join(names) or 'none'}"
            )
    if not examples:
        raise MyelinError(f"Name the inputs that hold examples; there are {', '.join(names)}")
    walk = _Walk(function, dict.fromkeys(examples, 0), module)
    try:
        result = walk.result()
        if result != Example(0):
            raise _RefusedError("the result", f"is {_say(result)}, not one example per first slice")
    except _RefusedError as refused:
        return Verdict(
            accepted=False,
            node=refused.node,
            reason=refused.reason,
            operators=tuple(sorted(walk.operators)),
        )
    return Verdict(accepted=True, operators=tuple(sorted(walk.operators)))


class _Walk:
    """Goes through the bindings of a function in their order."""

    def __init__(self, function: Any, axes: Mapping[str, int], module: Any) -> None:
        from tvm import relax
        from tvm.ir import Op

        self._relax: Any = relax
        self._operator: Any = Op
        self._function, self._module = function, module
        self._values: dict[Any, _Value] = {}
        self.operators: set[str] = set()
        for parameter in function.params:
            value: _Value = PUBLIC
            if parameter.name in axes:
                value = Example(axes[parameter.name])
            self._values[parameter] = value

    def result(self) -> _Value:
        """Return what the function's result depends on; raise what is refused."""
        relax, body = self._relax, self._function.body
        if not isinstance(body, relax.SeqExpr):
            raise _RefusedError("main", "a graph that is not a sequence of bindings")
        for block in body.blocks:
            for binding in block.bindings:
                name = binding.var.name
                if isinstance(binding, relax.MatchCast):
                    raise _RefusedError(
                        name, "a shape that is found out at run time may be private"
                    )
                self._values[binding.var] = self._expression(binding.value, name)
        return self._expression(body.body, "the result")

    def _expression(self, value: Any, name: str) -> _Value:
        relax = self._relax
        if isinstance(value, relax.Var) and value in self._values:
            return self._values[value]
        if isinstance(value, relax.Tuple):
            return tuple(self._expression(field, name) for field in value.fields)
        if isinstance(value, relax.TupleGetItem):
            given = self._expression(value.tuple_value, name)
            return given[value.index] if isinstance(given, tuple) else given
        if isinstance(value, relax.Call):
            return self._call(value, name)
        if isinstance(value, relax.If):
            raise _RefusedError(name, "a branch; which way it goes may depend on examples")
        if _is_constant(relax, value):
            return PUBLIC
        raise _RefusedError(name, f"no rule for a {type(value).__name__}")

    def _call(self, call: Any, name: str) -> _Value:
        operator = str(getattr(call.op, "name", call.op))
        node = f"{name} = {operator}"
        # A function may be called anything, `relax.nn.relu` too.
        if not isinstance(call.op, self._operator) or not operator.startswith("relax."):
            raise _RefusedError(node, "no rule for a call of a function; inline it")
        operator = operator.removeprefix("relax.")
        self.operators.add(operator)
        if operator == "call_tir":
            return self._nest(call, name)
        operands: list[Operand] = []
        for argument in call.args:
            value = self._expression(argument, name)
            parts = value if isinstance(value, tuple) else (value,)
            fields = (
                argument.fields
                if isinstance(argument, self._relax.Tuple)
                else (argument,) * len(parts)
            )
            for part, field in zip(parts, fields, strict=True):
                kind = field.ty
                if isinstance(kind, self._relax.TupleType):
                    raise _RefusedError(node, "no rule for a tuple as an operand; take it apart")
                if isinstance(kind, self._relax.TensorType):
                    operands.append(Operand(part, self._shape(field, node)))
        if operator == "shape_of" and all(
            isinstance(extent, int) for operand in operands for extent in operand.shape
        ):
            # A number that stands in the program: its batch is filled, whoever was sampled.
            return PUBLIC
        if all(operand.example is None for operand in operands):
            if operator in RULES or operator in _CONSTANTS:
                return self._result(call, PUBLIC)
            raise _RefusedError(node, f"no rule for the operator {operator}")
        if operator not in RULES:
            raise _RefusedError(node, f"no rule for the operator {operator}")
        operation = Operation(
            operator, tuple(operands), call.attrs, tuple(call.args), self._shapes(call, node)
        )
        try:
            return self._result(call, RULES[operator](operation))
        except MixesError as mixes:
            raise _RefusedError(node, str(mixes)) from None

    def _nest(self, call: Any, name: str) -> _Value:
        """Look into a loop nest."""
        function, arguments = call.args[0], call.args[1]
        label = str(getattr(function, "name_hint", "?"))
        node = f"{name} = call_tir({label})"
        if self._module is None or len(call.args) != 2:
            raise _RefusedError(node, "no rule for a loop nest of which the module is not there")
        operands = []
        for field in arguments.fields:
            value = self._expression(field, name)
            if isinstance(value, tuple):
                raise _RefusedError(node, "no rule for a tuple as an operand; take it apart")
            operands.append(Operand(value, self._shape(field, node)))
        try:
            return check_nest(self._module[function], operands)
        except MixesError as mixes:
            raise _RefusedError(node, str(mixes)) from None

    def _result(self, call: Any, dependence: Dependence) -> _Value:
        kind = call.ty
        if isinstance(kind, self._relax.TupleType):
            return (dependence,) * len(kind.fields)
        return dependence

    def _shapes(self, value: Any, node: str) -> tuple[tuple[Any, ...], ...]:
        kind = value.ty
        if isinstance(kind, self._relax.TupleType):
            return tuple(self._extents(field, node) for field in kind.fields)
        return (self._extents(kind, node),)

    def _shape(self, value: Any, node: str) -> tuple[Any, ...]:
        return self._extents(value.ty, node)

    def _extents(self, kind: Any, node: str) -> tuple[Any, ...]:
        shape = getattr(kind, "shape", None)
        if not isinstance(shape, self._relax.ShapeExpr):
            raise _RefusedError(node, "a tensor whose shape is not known")
        return tuple(_extent(extent) for extent in shape.values)


def _extent(extent: Any) -> Any:
    """Return a number, or the symbol itself."""
    try:
        return int(extent)
    except TypeError:
        return extent


def _is_constant(relax: Any, value: Any) -> bool:
    """Whether it is data, a number or a shape that stands in the program."""
    if isinstance(value, relax.ShapeExpr):
        # A symbol in it is how many examples there are.
        return all(isinstance(_extent(extent), int) for extent in value.values)
    kinds = ("GenericConst", "IntImm", "FloatImm", "StringImm", "DataTypeImm")
    return type(value).__name__ in kinds


def _say(value: _Value) -> str:
    if isinstance(value, tuple):
        return "a tuple"
    return str(value)
