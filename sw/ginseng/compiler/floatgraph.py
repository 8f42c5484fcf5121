"""The network between Relax and integers: what operators recognise, absorb and quantise.

`Call` is a Relax call in plain Python, so that operators need no TVM. Each operator of the table
turns calls into `FloatNode` objects, or folds them into the node that they follow.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.constants import output_steps
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.slope import Slope
from ginseng.program import OwnerStep

if TYPE_CHECKING:
    from ginseng.compiler.quantise import Scales

__all__ = ["Call", "FloatNode", "Grid", "LinearFloatNode", "Network", "Operator"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What the integers of a value mean: as in `ginseng.compiler.graph.Value`."""

    shift: int
    mantissa: int
    zero: int

    @classmethod
    def of(cls, scale: float, zero: int) -> Self:
        """Return the grid whose step is exactly ``scale``, which is positive and finite."""
        ratio = Fraction(scale)
        shift, mantissa = ratio.denominator.bit_length() - 1, ratio.numerator
        while mantissa % 2 == 0:
            mantissa, shift = mantissa // 2, shift - 1
        return cls(shift=shift, mantissa=mantissa, zero=zero)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the Relax function.

    Attributes
    ----------
    op : str
        Relax operator, ``"relax.nn.conv2d"``.
    name : str
        The model's name for it.
    source : str
        What the model's own format calls the operator, for errors.
    output : str
        The value that it makes.
    args : tuple of str or array
        Values by name, constants by content.
    shape : tuple of int
        Of the result, the batch of 1 included.
    attributes : mapping of str to object
        Plain Python; sequences are tuples.
    steps : mapping of int to array
        For each argument that the model gives as integers (a constant with a DequantizeLinear)
        what one step of each of its elements means, in the shape of the argument.

    """

    op: str
    name: str
    source: str
    output: str
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)

    def attr(self, name: str) -> Any:
        """Return an attribute, None if the call has none of this name."""
        return self.attributes.get(name)

    def sample_shape(self) -> tuple[int, ...]:
        """Return the shape of one sample.

        Raises
        ------
        CompilerError
            If that is neither an image nor a vector.

        """
        if len(self.shape) not in (2, 4) or self.shape[0] != 1:
            raise self.refuse(
                f"its result has shape {self.shape}; only (1, channels, height, width) and "
                "(1, features) are supported, reshape it in the model"
            )
        return self.shape[1:]

    def refuse(self, what: str) -> CompilerError:
        """Return the error that says ``what`` of this call."""
        return CompilerError(f"Node {self.name} ({self.source}): {what}")


@dataclass(kw_only=True)
class FloatNode(ABC):
    """A node before quantisation; still growing while later calls are folded into it.

    Attributes
    ----------
    name : str
    inputs : list of str
        Values.
    output : str
        The value whose range decides the output's scale.
    shape : tuple of int
        Of one sample.
    clip : tuple of float or None
        Bounds of the activation that was absorbed.
    slope : tuple of float or None
        Of the leaky rectifier that was absorbed before those bounds: one for all channels, or one
        for each.

    """

    #: Whether a leaky rectifier can become part of it.
    bends: ClassVar[bool] = False

    name: str
    inputs: list[str]
    output: str
    shape: tuple[int, ...]
    clip: tuple[float, float] | None = None
    slope: tuple[float, ...] | None = None

    @property
    def tied(self) -> tuple[str, ...]:
        """Values that should have one scale, if the compiler chooses it."""
        return ()

    def integer_slope(self, output: Value) -> Slope | None:
        """Return the absorbed rectifier in integers of ``output``.

        Raises
        ------
        CompilerError
            If their zero point is not 0, where the core bends.

        """
        if self.slope is None:
            return None
        if output.zero:
            raise CompilerError(
                f"Node {self.name}: it is a leaky rectifier, and the zero point of its result is "
                f"{output.zero}, not 0; quantise the activations of the model symmetrically"
            )
        return Slope.nearest(self.slope)

    @property
    def is_linear(self) -> bool:
        """Whether no activation was absorbed yet."""
        return self.clip is None and self.slope is None

    def absorb_clip(self, lo: float, hi: float) -> None:
        """Make an activation part of this node."""
        old = self.clip or (-np.inf, np.inf)
        self.clip = (max(old[0], lo), min(old[1], hi))

    @abstractmethod
    def quantise(self, inputs: Sequence[Value], scales: "Scales") -> Node:
        """Return the integer node, given what its inputs became."""


@dataclass(kw_only=True)
class LinearFloatNode(FloatNode):
    """A node with weights, into which per-channel constants fold.

    Attributes
    ----------
    weight : float64 array
        Output channels first.
    bias : float64 array
        One number per output channel.
    steps : float64 array or None
        What one step of the weights of each output channel means, if the model is quantised
        already.

    """

    bends = True

    weight: NDArray[np.float64] = field(repr=False)
    bias: NDArray[np.float64] = field(repr=False)
    steps: NDArray[np.float64] | None = field(default=None, repr=False)

    def absorb_affine(self, operator: str, constant: NDArray[np.float64]) -> None:
        """Fold ``result op constant`` into weights and bias."""
        if operator == "add":
            self.bias = self.bias + constant
        elif operator == "subtract":
            self.bias = self.bias - constant
        else:
            factor = constant if operator == "multiply" else 1 / constant
            self.weight = self.weight * factor.reshape(-1, *(1,) * (self.weight.ndim - 1))
            self.bias = self.bias * factor


@dataclass(frozen=True)
class Operator:
    """An entry of the operator table.

    Attributes
    ----------
    name : str
    relax : tuple of str
        Relax operators that it looks at.
    recognise : callable
        Given a call and the network so far, returns the node that now makes the call's result, or
        None to leave the call to the next operator of the table; raises `CompilerError` if the
        call can be no other's.

    """

    name: str
    relax: tuple[str, ...]
    recognise: Callable[[Call, "Network"], FloatNode | None]


class Network:
    """The nodes recognised so far, and who uses what.

    Parameters
    ----------
    name : str
    inputs : mapping of str to tuple of int
        Shape of each, batch included.
    calls : sequence of Call
        Every live call in order.
    outputs : sequence of str

    Attributes
    ----------
    nodes : list of FloatNode
    steps : dict of str to tuple of OwnerStep
        What the owner does to inputs before, and to outputs after.
    packings : dict of str to OwnerStep
        How the owner packs inputs, after all other steps.
    images : dict of str to tuple of int
        Channels, height and width of inputs that the model takes flattened.
    grids : dict of str to Grid
        Of the values that the model itself quantises, and of all that it dequantises; empty if it
        leaves that to the compiler.

    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, tuple[int, ...]],
        calls: Sequence[Call],
        outputs: Sequence[str],
    ) -> None:
        self.name = name
        self.inputs = dict(inputs)
        self.outputs = list(outputs)
        self.nodes: list[FloatNode] = []
        self.grids: dict[str, Grid] = {}
        self.steps: dict[str, tuple[OwnerStep, ...]] = {}
        self.packings: dict[str, OwnerStep] = {}
        self.images: dict[str, tuple[int, int, int]] = {}
        self._shapes = {**inputs, **{c.output: c.shape for c in calls}}
        self._uses: dict[str, int] = {}
        for value in (*outputs, *(a for c in calls for a in c.args if isinstance(a, str))):
            self._uses[value] = self._uses.get(value, 0) + 1
        self._producers: dict[str, FloatNode] = {}
        self._aliases: dict[str, str] = {}
        self._fixed: set[str] = set()

    def shape(self, value: str) -> tuple[int, ...]:
        """Return the shape of a value, batch included."""
        return self._shapes[value]

    def is_read_once(self, value: str) -> bool:
        """Return whether nothing but one call uses ``value``."""
        return self._uses[value] == 1

    def resolve(self, value: str) -> str:
        """Return the value that ``value`` is another name for."""
        while value in self._aliases:
            value = self._aliases[value]
        return value

    def is_flattened(self, value: str) -> bool:
        """Return whether ``value`` is an image of more than one pixel by another name."""
        shape = self._shapes[self.resolve(value)]
        return len(self._shapes[value]) == 2 and max(shape[2:], default=1) > 1

    def is_dequantised(self, value: str) -> bool:
        """Return whether ``value`` is made of integers, not of the floats before quantisation."""
        while value in self._aliases:
            if value in self.grids:
                return True
            value = self._aliases[value]
        return False

    def alias(self, value: str, other: str) -> None:
        """Make ``value`` another name for ``other``."""
        self._aliases[value] = other

    def producer(self, value: str) -> FloatNode | None:
        """Return the node that makes ``value``, None for an input."""
        return self._producers.get(self.resolve(value))

    def sole_producer(self, value: str) -> FloatNode | None:
        """Return the node that makes ``value`` if nothing but one call uses it.

        None also if the value is fixed: a node must not fold into what made it.
        """
        while self._uses[value] == 1 and value not in self._fixed:
            if value not in self._aliases:
                return self._producers.get(value)
            value = self._aliases[value]
        return None

    def sole_input(self, value: str) -> str | None:
        """Return the input of the network that ``value`` is if one call uses it, None else."""
        while self._uses[value] == 1:
            if value not in self._aliases:
                return value if value in self.inputs else None
            value = self._aliases[value]
        return None

    def pack(self, name: str, step: OwnerStep) -> None:
        """Let the owner pack an input."""
        self.packings[name] = step
        self.inputs[name] = self._shapes[name] = (1, *step.after)

    def fix(self, value: str) -> None:
        """Let nothing more fold into what makes ``value``."""
        self._fixed.add(value)

    def rename(self, node: FloatNode, call: Call) -> None:
        """Let ``call``, folded into ``node``, be what the node now makes."""
        self._producers.pop(node.output, None)
        self._aliases.pop(call.output, None)
        node.output = call.output
        self._producers[call.output] = node

    def drop(self, node: FloatNode) -> None:
        """Remove a node that the only reader of its result does without."""
        self.nodes.remove(node)
        del self._producers[node.output]

    def _unique(self, name: str) -> str:
        """Return ``name``, with a number if a node has it already."""
        taken = {node.name for node in self.nodes}
        unique, n = name, 2
        while unique in taken:
            unique, n = f"{name}.{n}", n + 1
        return unique

    def expose(self) -> None:
        """Call the values that leave the network what the model calls its outputs."""
        for output in self.outputs:
            inner = self.resolve(output)
            node = self._producers.get(inner)
            if inner == output or node is None or inner in self.outputs:
                continue
            del self._aliases[output]
            self._aliases[inner] = output
            self._producers[output] = self._producers.pop(inner)
            node.output = output
            for reader in self.nodes:
                reader.inputs = [output if value == inner else value for value in reader.inputs]
            if inner in self.grids:
                self.grids[output] = self.grids.pop(inner)

    def recognise(self, call: Call, operators: Sequence[Operator]) -> None:
        """Let the first operator that can take ``call``.

        Raises
        ------
        CompilerError
            If none can.

        """
        for operator in operators:
            if call.op not in operator.relax:
                continue
            known = len(self._producers), len(self._aliases), len(self.nodes)
            node = operator.recognise(call, self)
            if node is not None and node not in self.nodes:
                node.inputs = [self.resolve(value) for value in node.inputs]
                node.name = self._unique(node.name)
                self.nodes.append(node)
                self._producers[node.output] = node
                if isinstance(node, LinearFloatNode):
                    try:
                        node.steps = output_steps(call.op, call.steps.get(1), len(node.weight))
                    except CompilerError as error:
                        raise call.refuse(str(error)) from None
            if node is not None or known != (
                len(self._producers),
                len(self._aliases),
                len(self.nodes),
            ):
                return
        supported = sorted({o.name for o in operators})
        raise call.refuse(
            f"the core cannot do {call.op.removeprefix('relax.')}; supported are "
            f"{', '.join(supported)}: leave it out of the model or, if it is "
            "first or last, do it on the owner's side (--owner-side)"
        )
