"""One call of an operator, as the rules see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ginseng.myelin.checker.dependence import Dependence, Example, MixesError

__all__ = ["Operand", "Operation", "Rule"]


@dataclass(frozen=True)
class Operand:
    """A tensor that goes in.

    Attributes
    ----------
    dependence : Dependence
    shape : tuple
        Extents; a number, or a symbol of Relax.

    """

    dependence: Dependence
    shape: tuple[Any, ...]

    @property
    def rank(self) -> int:
        """Of the shape."""
        return len(self.shape)

    @property
    def example(self) -> int | None:
        """The axis of the examples; None, if it is public."""
        return self.dependence.axis if isinstance(self.dependence, Example) else None

    def axis(self, axis: int) -> int:
        """Return an axis counted from the front."""
        return axis % self.rank


@dataclass(frozen=True)
class Operation:
    """A call of an operator, at least one of whose operands depends on examples.

    Attributes
    ----------
    name : str
        Of the operator, ``nn.conv2d``.
    operands : tuple of Operand
        The tensors, those of a tuple one by one.
    attributes : object
        Of the call.
    arguments : tuple
        All the arguments, tensors or not.
    results : tuple of tuple
        The shapes of what comes out.

    """

    name: str
    operands: tuple[Operand, ...]
    attributes: Any
    arguments: tuple[Any, ...]
    results: tuple[tuple[Any, ...], ...]

    def only_first(self) -> int:
        """Return the first operand's axis of examples, if all others are public.

        Raises
        ------
        MixesError
            If one is not, or the first is.

        """
        first, *others = self.operands
        if first.example is None or any(other.example is not None for other in others):
            raise MixesError("parameters that depend on examples")
        return first.example

    def keeps_layout(self, layout: Any, what: str) -> int:
        """Return the result's axis of examples, if they are on the axis N of a layout.

        Raises
        ------
        MixesError
            If they are on another.

        """
        axis, given = self.only_first(), str(layout)
        if axis != given.index("N"):
            raise MixesError(f"{what} over the examples (axis {axis} of {given})")
        return (str(self.attributes.out_layout) or given).index("N")

    def keeps(self, axes: Sequence[int], what: str) -> int:
        """Return the first operand's axis of examples, if it is none of ``axes``.

        Raises
        ------
        MixesError
            If it is.

        """
        axis = self.only_first()
        if axis in {self.operands[0].axis(a) for a in axes}:
            raise MixesError(f"{what} over the examples (axis {axis})")
        return axis


Rule = Callable[[Operation], Example]
