"""The gradient of one example's loss, compiled: a graph with a batch of 1 has nobody else in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ginseng.compiler.importers.source import first_line, quiet
from ginseng.myelin.errors import MyelinError
from ginseng.myelin.graph import Graph

__all__ = ["ExampleGradient"]

Array = npt.NDArray[Any]


class ExampleGradient:
    """Cross-entropy of a model's scores against a class, and its gradient, example by example.

    Parameters
    ----------
    graph : Graph
        With a batch of 1, from one input to scores of shape (1, classes).

    Raises
    ------
    MyelinError
        If it has another shape, nothing to train, or an operator without a derivative.

    """

    def __init__(self, graph: Graph) -> None:
        import tvm
        from tvm import relax
        from tvm.relax.training.loss import CrossEntropyLoss
        from tvm.relax.training.utils import AppendLoss

        if len(graph.examples) != 1 or graph.batch != 1:
            raise MyelinError(
                f"{graph.name} is trained example by example: one input with a batch of 1, not "
                f"{len(graph.examples)} with {graph.batch}"
            )
        self._tensor: Any = tvm.runtime.tensor
        function = graph.function
        #: What is trained, in the graph's order: every parameter of float32.
        self.names = tuple(
            name for name, value in graph.initial.items() if value.dtype == np.float32
        )
        if not self.names:
            raise MyelinError(
                f"{graph.name} has no parameter of float32; there is nothing to train"
            )
        scores = [int(extent) for extent in function.ret_ty.shape.values]
        if len(scores) != 2 or scores[0] != 1:
            raise MyelinError(
                f"{graph.name} gives shape {tuple(scores)} of one example; a classifier gives "
                f"(1, classes)"
            )
        self.classes = scores[1]
        self.initial = [graph.initial[name] for name in self.names]
        by_name = {parameter.name: parameter for parameter in function.params}
        loss = CrossEntropyLoss(reduction="sum")(
            relax.TensorType(scores, "float32"), relax.TensorType((1,), "int64")
        )
        try:
            with quiet():
                module = AppendLoss("main", loss)(graph.module)
                train = [p for p in module["main_loss"].params if p.name in self.names]
                module = relax.transform.Gradient("main_loss", require_grads=train)(module)
                executable = tvm.compile(module, target="llvm")
        except Exception as error:
            raise MyelinError(
                f"{graph.name} cannot be differentiated: {first_line(error)}"
            ) from None
        self._machine = relax.VirtualMachine(executable, tvm.cpu())
        self._fixed = {
            name: self._tensor(np.ascontiguousarray(value))
            for name, value in graph.initial.items()
            if name not in self.names
        }
        self._order = [name for name in by_name if name not in graph.examples]
        self._shape = tuple(int(n) for n in by_name[graph.examples[0]].ty.shape.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self._shape[1:]

    def bind(self, parameters: Sequence[Array]) -> "_Bound":
        """Return the gradient at these values of `names`."""
        given = dict(zip(self.names, parameters, strict=True)) | self._fixed
        arguments = [
            given[name] if name in self._fixed else self._tensor(np.ascontiguousarray(given[name]))
            for name in self._order
        ]
        return _Bound(self, arguments)

    def scores(self, parameters: Sequence[Array], examples: Array) -> Array:
        """Return what the model says of examples, of shape (n, classes)."""
        bound = self.bind(parameters)
        rows = [bound.scores(example) for example in examples]
        return np.concatenate(rows) if rows else np.zeros((0, self.classes), np.float32)


class _Bound:
    """At some values of the parameters."""

    def __init__(self, gradient: ExampleGradient, arguments: list[Any]) -> None:
        self._gradient, self._arguments = gradient, arguments

    def __call__(self, example: Array, label: int) -> list[Array]:
        """Return the gradient of one example's loss, one array per name."""
        gradient = self._gradient
        one = gradient._tensor(np.ascontiguousarray(example[None], np.float32))
        target = gradient._tensor(np.array([label], np.int64))
        result = gradient._machine["main_loss_adjoint"](one, *self._arguments, target)
        return [part.numpy() for part in result[1]]

    def scores(self, example: Array) -> Array:
        """Return what the model says of an example, of shape (1, classes)."""
        one = self._gradient._tensor(np.ascontiguousarray(example[None], np.float32))
        scores: Array = self._gradient._machine["main"](one, *self._arguments).numpy()
        return scores
