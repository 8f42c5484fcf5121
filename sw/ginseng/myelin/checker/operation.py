"""One call of an operator, as the rules see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ginseng.myelin.checker.dependence import Dependence, Example, MixesError

__all__ = ["Operand", "Operation", "Rule", "require_apart"]


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


def require_apart(operands: Sequence[Operand], place: int, extent: Any) -> None:
    """Require that where examples are, counted from the last axis, nothing else is.

    Raises
    ------
    MixesError
        If a public tensor differs from place to place, or one example is broadcast to others'.

    """
    for operand in operands:
        if operand.rank < -place:
            continue
        one = _is_one(operand.shape[place])
        if operand.example is None and not one:
            # Where an example stands depends on who else was sampled.
            raise MixesError("a public tensor tells the places of the batch apart")
        if operand.example is not None and one != _is_one(extent):
            raise MixesError("one example is broadcast to the places of others")


def _is_one(extent: object) -> bool:
    """Whether an extent is known to be 1."""
    return isinstance(extent, int) and extent == 1


Rule = Callable[[Operation], Example]
