"""Which Relax calls the core can take: one pattern for each operator of the compiler's table."""

from typing import Any, Final

from ginseng.compiler.operators import OPERATORS

__all__ = ["PREFIX", "operators", "relax_patterns"]

#: Of the names of patterns and of the code generator.
PREFIX: Final = "ginseng"
#: Constant folding before partitioning would lose the integers of a quantised model: such a one is
#: for `ginseng.compiler.compile_model`, whole.
_WITHOUT: Final = ("relax.quantize", "relax.dequantize")


def operators() -> tuple[str, ...]:
    """Return the Relax operators that have a pattern, ``"nn.conv2d"``, in the table's order."""
    names = (name for operator in OPERATORS for name in operator.relax if name not in _WITHOUT)
    return tuple(dict.fromkeys(name.removeprefix("relax.") for name in names))


def relax_patterns() -> list[Any]:
    """Return the patterns, named ``ginseng.nn.conv2d``.

    As tuples: of these TVM's registry lets go before the interpreter ends, of `FusionPattern` not.
    """
    from tvm.ir import Op
    from tvm.relax.dpl import is_op, wildcard

    patterns: list[Any] = []
    for name in operators():
        arguments = (wildcard() for _ in range(Op.get(f"relax.{name}").num_inputs))
        pattern = is_op(f"relax.{name}")(*arguments)
        patterns.append((f"{PREFIX}.{name}", pattern, {}, _is_one_sample))
    return patterns


def _is_one_sample(context: Any) -> bool:
    """Return whether a call makes one image or one vector of features.

    Attributes and constants are the compiler's to judge, which refuses by name.
    """
    from tvm import relax, tirx

    kind = context.matched_expr.ty
    if not isinstance(kind, relax.TensorType) or kind.shape is None or kind.ndim not in (2, 4):
        return False
    dims = list(kind.shape)
    return all(isinstance(dim, tirx.IntImm) for dim in dims) and int(dims[0]) == 1
