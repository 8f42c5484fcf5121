"""The quantised graph: what a compiled program computes, in exact integers, without TVM.

A value is int8 with a scale and a zero point: the integer ``q`` means
``(q - zero) * mantissa * 2**-shift``; scales that the compiler chooses itself have mantissa 1 and
zero point 0. Every node kind (one file each in `ginseng.compiler.operators`) states its integer
semantics in its docstring; they leave nothing open, so that anybody can evaluate a graph and
compare with the device bit by bit. Two functions that they use:

``clip(v)``
    ``min(max(v, output.lo), output.hi)``: an activation is part of the node that it follows.
``round_shift(v, s)``
    ``(v + (2**(s - 1) if s > 0 else 0)) >> s``, arithmetic: the nearest, ties upward.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from ginseng.compiler.errors import CompilerError
from ginseng.program import OwnerStep

if TYPE_CHECKING:
    from ginseng.compiler.backend.lowering import Layer

__all__ = ["ACC_LIMIT", "INT8", "Graph", "Node", "Value"]

#: Accumulators are int32: every intermediate result must lie in ``-ACC_LIMIT .. ACC_LIMIT - 1``.
ACC_LIMIT: Final = 1 << 31
#: Least and greatest int8.
INT8: Final = (-128, 127)


@dataclass(frozen=True, kw_only=True)
class Value:
    """An int8 tensor of one sample.

    Attributes
    ----------
    name : str
    shape : tuple of int
        ``(channels, height, width)`` or ``(features,)``.
    shift, mantissa, zero : int
        The integer ``q`` means ``(q - zero) * mantissa * 2**-shift``.
    image : tuple of int or None
        ``(channels, height, width)`` of which ``shape`` is the flattened form, channels slowest;
        the core then knows the image only.
    lo, hi : int
        Every element lies in ``lo .. hi``; its producer clips to this range.

    """

    name: str
    shape: tuple[int, ...]
    shift: int
    mantissa: int = 1
    zero: int = 0
    image: tuple[int, int, int] | None = None
    lo: int = INT8[0]
    hi: int = INT8[1]

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise CompilerError(
                f"Value {self.name}: a sample is (channels, height, width) or (features,), "
                f"not {self.shape}; reshape it in the model"
            )
        if self.image is not None and (len(self.shape) != 1 or prod(self.image) != self.size):
            raise CompilerError(f"Value {self.name}: {self.shape} is not {self.image} flattened")
        if not INT8[0] <= self.lo <= self.hi <= INT8[1]:
            raise CompilerError(
                f"Value {self.name}: its range {self.lo} .. {self.hi} is not one of int8; "
                "calibrate with data that reach it"
            )

    @property
    def scale(self) -> Fraction:
        """What one step of the integers means, exactly."""
        return self.mantissa * Fraction(2) ** -self.shift

    @property
    def extents(self) -> tuple[int, int, int]:
        """``(channels, height, width)``; a vector is one pixel."""
        if self.image is not None:
            return self.image
        return (self.shape[0], 1, 1) if len(self.shape) == 1 else self.shape  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Elements of one sample."""
        return prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Node(ABC):
    """One operation of the graph; subclasses state what it computes.

    Attributes
    ----------
    name : str
        The model's name for it, unique in its graph.
    inputs : tuple of str
        Names of the values it reads.
    output : Value
        What it makes; its ``lo`` and ``hi`` are the bounds of the node's final clip.

    """

    name: str
    inputs: tuple[str, ...]
    output: Value

    #: Which operator this is, in `LayerSpec.kind` and in errors.
    kind: ClassVar[str]
    #: Whether the integers of the output mean numbers in its scale; else they are codes.
    scaled: ClassVar[bool] = True

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, without padding of channels."""
        return 0

    @abstractmethod
    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return a bound of the magnitude of every intermediate result, for any int8 input."""

    @abstractmethod
    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents that the output must have.

        Raises
        ------
        CompilerError
            If the inputs do not fit the node.

        """

    def placed(self, inputs: Sequence[Value], block: int) -> Mapping[int, int]:
        """Return which inputs are parts of the output as they are, and their first blocks there.

        Their producers store them in place; blocks have ``block`` channels.
        """
        return {}

    @abstractmethod
    def lower(self, inputs: Sequence[Value], layer: "Layer") -> None:
        """Emit the instructions of this node through ``layer`` (`ginseng.compiler.backend`)."""

    def refuse(self, what: str) -> CompilerError:
        """Return the error that says ``what`` of this node."""
        return CompilerError(f"Node {self.name} ({self.kind}): {what}")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network of integers: nodes in the order in which they run.

    Attributes
    ----------
    steps : mapping of str to tuple of OwnerStep
        What the owner of the data does to inputs before, and to outputs after.

    Raises
    ------
    CompilerError
        If a node reads what nobody made before it, two nodes or values have one name, a shape does
        not fit, or an accumulator could overflow.

    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    steps: Mapping[str, tuple[OwnerStep, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known: dict[str, Value] = {}
        names: set[str] = set()
        for value in self.inputs:
            if value.name in known:
                raise CompilerError(f"Graph {self.name}: two inputs are named {value.name}")
            known[value.name] = value
        if not self.nodes:
            raise CompilerError(f"Graph {self.name} computes nothing; give it at least one node")
        for node in self.nodes:
            if node.name in names:
                raise node.refuse("another node has this name; names are unique")
            names.add(node.name)
            missing = [name for name in node.inputs if name not in known]
            if missing:
                raise node.refuse(f"it reads {missing[0]}, which nothing before it makes")
            if node.output.name in known:
                raise node.refuse(f"its output {node.output.name} exists already")
            sources = [known[name] for name in node.inputs]
            extents = node.output_extents(sources)
            if extents != node.output.extents:
                raise node.refuse(f"its output is {extents}, not {node.output.extents}")
            worst = node.worst_case(sources)
            if worst >= ACC_LIMIT:
                raise node.refuse(
                    f"its accumulators could reach {worst}, beyond int32; split its reduction, or "
                    "use smaller weights or biases"
                )
            known[node.output.name] = node.output
        for name in self.outputs:
            if name not in known:
                raise CompilerError(f"Graph {self.name}: its output {name} does not exist")
            if name in {value.name for value in self.inputs}:
                raise CompilerError(
                    f"Graph {self.name}: its output {name} is an input; the core only moves what "
                    "it computes, so drop this output"
                )
        if not self.outputs:
            raise CompilerError(f"Graph {self.name} has no output")
        read = {name for node in self.nodes for name in node.inputs}
        for name in known:
            if name not in read and name not in self.outputs:
                raise CompilerError(
                    f"Graph {self.name}: nothing uses {name}; remove it from the model"
                )

    @cached_property
    def values(self) -> Mapping[str, Value]:
        """Every value by name."""
        return {v.name: v for v in (*self.inputs, *(n.output for n in self.nodes))}

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides what the graph computes, hexadecimal."""
        hasher = hashlib.sha256(repr((self.name, self.inputs, self.outputs)).encode())
        for node in self.nodes:
            for item in fields(node):
                content = getattr(node, item.name)
                text = (node.kind, item.name, getattr(content, "shape", content))
                hasher.update(repr(text).encode())
                hasher.update(content.tobytes() if isinstance(content, np.ndarray) else b"")
        return hasher.hexdigest()

    def sources(self, node: Node) -> tuple[Value, ...]:
        """Return the values that ``node`` reads."""
        return tuple(self.values[name] for name in node.inputs)

    def readers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read the value ``name``."""
        return tuple(node for node in self.nodes if name in node.inputs)
