"""The check of a loop nest: iteration i reads row i of examples only, and writes row i only.

A nest is what an operator becomes, or what an importer writes where Relax has no operator. Each of
its blocks may name one of its own variables as the place of an example: every read of examples has
exactly that variable at their axis, every write has it at one axis, and it is used nowhere else,
not in another index, not in a condition, not as a number. The first write of a buffer is of all of
it, and nothing is read before: what memory held is not known. What is not understood is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ginseng.myelin.checker.dependence import PUBLIC, Dependence, Example, MixesError
from ginseng.myelin.checker.operation import Operand

__all__ = ["check_nest"]

_BINARY: Final = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "FloorDiv", "FloorMod", "Min", "Max", "And", "Or"}
    | {"EQ", "NE", "LT", "LE", "GT", "GE", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
    | {"LShift", "RShift"}
)
_LEAVES: Final = frozenset({"IntImm", "FloatImm"})
#: Functions of numbers; anything else could look at memory.
_PURE: Final = frozenset(
    {"abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh"}
    | {"erf", "exp", "exp10", "exp2", "fabs", "floor", "fmod", "if_then_else", "isfinite", "isinf"}
    | {"isnan", "log", "log10", "log1p", "log2", "nearbyint", "pow", "round", "rsqrt", "sigmoid"}
    | {"sin", "sinh", "sqrt", "tan", "tanh", "trunc", "likely"}
)


#: Where operators of loop nests are.
_FAMILIES: Final = frozenset({"prim", "tirx"})
#: Kind of a block's variable: every value of it is a place of its own.
_PARALLEL: Final = 0


def check_nest(function: Any, operands: Sequence[Operand]) -> Dependence:
    """Return what the result of a nest depends on.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        From the operands' buffers to one more, its last.
    operands : sequence of Operand
        What the buffers hold.

    Raises
    ------
    MixesError
        If a row of the result may depend on another example, or that cannot be told.

    """
    *inputs, output = function.params
    if len(inputs) != len(operands):
        raise MixesError("a loop nest of several results or of numbers")
    nest = _Nest()
    for parameter, operand in zip(inputs, operands, strict=True):
        nest.buffers[parameter] = operand.dependence
    nest.statement(function.body)
    if output not in nest.buffers:
        raise MixesError("a loop nest that does not write its result")
    return nest.buffers[output]


@dataclass
class _Block:
    """What the expressions of a block do with its variables."""

    #: The variables that stand at the axis of examples in reads, and how many examples those are.
    examples: list[tuple[Any, int | None]] = field(default_factory=list)
    #: The variables that are used in any other way.
    others: list[Any] = field(default_factory=list)
    #: Reads of what the block itself has written: a sum's.
    own: list[Any] = field(default_factory=list)


class _Nest:
    """Goes through the blocks of a nest in their order."""

    def __init__(self) -> None:
        #: Of each buffer that was written, or given, what it holds.
        self.buffers: dict[Any, Dependence] = {}
        #: Of the loops that are open, their variables and extents.
        self._loops: list[tuple[Any, int]] = []

    def statement(self, node: Any) -> None:
        """Take a statement outside of the innermost blocks."""
        kind = type(node).__name__
        if kind == "SeqStmt":
            for part in node.seq:
                self.statement(part)
        elif kind == "For":
            extent = _number(node.extent)
            if extent is None or _number(node.min) != 0 or node.step is not None:
                raise MixesError("a loop whose ends are computed, or that takes steps")
            self._loops.append((node.loop_var, extent))
            self.statement(node.body)
            self._loops.pop()
        elif kind == "SBlockRealize":
            if _number(node.predicate) != 1:
                raise MixesError("a block that is left out for some places")
            if node.block.match_buffers:
                raise MixesError("a block that looks at part of a buffer as another")
            if node.block.iter_vars:
                self._block(node.block, node.iter_values)
            else:
                self.statement(node.block.body)
        else:
            raise MixesError(f"no rule for a {kind} in a loop nest")

    def _block(self, block: Any, values: Any) -> None:
        """Check an innermost block, and say what it writes holds."""
        first = _stores(block.init) if block.init else []
        stores = [*first, *_stores(block.body)]
        extents = self._extents(block, values)
        for store in first or stores:
            if store.buffer not in self.buffers:
                _require_all(store, extents)
        seen = _Block()
        for store in stores:
            self._expression(store.value, seen)
            for index in store.indices:
                if type(index).__name__ != "Var":
                    self._expression(index, seen)
        for load in seen.own:
            _require_own(load, first)
        places = _distinct([variable for variable, _ in seen.examples])
        if len(places) > 1:
            raise MixesError("a block reads an example at one place and another at another")
        for store in stores:
            axes = [n for n, i in enumerate(store.indices) if places and _is(i, places[0])]
            if places and len(axes) != 1:
                raise MixesError("a block adds up examples, or writes them to places of others")
            self._write(store.buffer, Example(axes[0]) if places else PUBLIC)
        if places:
            counts = {extent for variable, extent in extents if _is(places[0], variable)}
            if counts != {count for _, count in seen.examples}:
                raise MixesError("the places of the examples are not all those of one loop")
            if any(_is(other, places[0]) for other in seen.others):
                raise MixesError("the place of an example is used as a number")

    def _extents(self, block: Any, values: Any) -> list[tuple[Any, int]]:
        """Return the variables of a block that go through all of a loop of their own."""
        found: list[tuple[Any, int]] = []
        loops: list[Any] = []
        for item, value in zip(block.iter_vars, values, strict=True):
            for variable, extent in self._loops:
                whole = _number(item.dom.extent) == extent and _number(item.dom.min) == 0
                parallel = int(item.iter_type) == _PARALLEL
                alone = not any(_is(value, other) for other in loops)
                if _is(value, variable) and whole and parallel and alone:
                    found.append((item.var, extent))
            loops.append(value)
        return found

    def _write(self, buffer: Any, dependence: Dependence) -> None:
        if self.buffers.setdefault(buffer, dependence) != dependence:
            raise MixesError("a buffer holds examples in one block, and in another something else")

    def _expression(self, node: Any, seen: _Block) -> None:
        """Note how an expression uses variables and examples."""
        kind = type(node).__name__
        if kind in _LEAVES:
            return
        if kind == "Var":
            seen.others.append(node)
        elif kind in _BINARY:
            self._expression(node.a, seen)
            self._expression(node.b, seen)
        elif kind in {"Not", "BitwiseNot"}:
            self._expression(node.a, seen)
        elif kind == "Cast":
            self._expression(node.value, seen)
        elif kind == "Select":
            for part in (node.condition, node.true_value, node.false_value):
                self._expression(part, seen)
        elif kind == "Call":
            name = str(getattr(node.op, "name", node.op))
            family, _, last = name.rpartition(".")
            # A function may be called anything, `exp` too.
            known = type(node.op).__name__ == "Op" and family in _FAMILIES and last in _PURE
            if not known:
                raise MixesError(f"no rule for a call of {name} in a loop nest")
            for part in node.args:
                self._expression(part, seen)
        elif kind == "TensorLoad":
            self._load(node, seen)
        else:
            raise MixesError(f"no rule for a {kind} in a loop nest")

    def _load(self, node: Any, seen: _Block) -> None:
        held = self.buffers.get(node.source)
        if held is None:
            seen.own.append(node)
            return
        axis = held.axis if isinstance(held, Example) else None
        for n, index in enumerate(node.indices):
            if n != axis:
                self._expression(index, seen)
            elif type(index).__name__ == "Var":
                seen.examples.append((index, _number(node.source.shape[n])))
            else:
                raise MixesError("an example is read at a place that is computed")


def _stores(node: Any) -> list[Any]:
    """Return the stores of a block that has nothing else.

    Raises
    ------
    MixesError
        If it has.

    """
    kind = type(node).__name__
    if kind == "SeqStmt":
        return [store for part in node.seq for store in _stores(part)]
    if kind == "BufferStore":
        return [node]
    raise MixesError(f"no rule for a {kind} in a block of a loop nest")


def _require_all(store: Any, extents: Sequence[tuple[Any, int]]) -> None:
    """Require that a store is to all places of its buffer.

    Raises
    ------
    MixesError
        If it is not.

    """
    used: list[Any] = []
    for index, extent in zip(store.indices, store.buffer.shape, strict=True):
        size = _number(extent)
        if size == 1 and _number(index) == 0:
            continue
        goes = any(_is(index, variable) and size == number for variable, number in extents)
        if not goes or any(_is(index, other) for other in used):
            raise MixesError("a buffer is not written everywhere before it is used")
        used.append(index)


def _require_own(load: Any, first: Sequence[Any]) -> None:
    """Require that a load is of what the block wrote there before.

    Raises
    ------
    MixesError
        If it is not.

    """
    for store in first:
        if _is(store.buffer, load.source) and all(
            _is(one, other) or _number(one) == _number(other) == 0
            for one, other in zip(store.indices, load.indices, strict=True)
        ):
            return
    raise MixesError("a buffer is read that nothing was written to")


def _distinct(variables: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for variable in variables:
        if not any(_is(variable, other) for other in found):
            found.append(variable)
    return found


def _is(one: Any, other: Any) -> bool:
    """Whether both are one and the same node, as a variable is wherever it stands."""
    return bool(one.same_as(other))


def _number(node: Any) -> int | None:
    try:
        return int(node)
    except TypeError:
        return None
