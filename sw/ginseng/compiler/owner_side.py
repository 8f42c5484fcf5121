"""Takes first and last layers off the core, if the model's owner says so: ``--owner-side``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import frexp
from typing import Any, Final

import numpy as np

from ginseng.compiler.floatgraph import Call
from ginseng.compiler.operators.affine import per_channel
from ginseng.program import OwnerStep

__all__ = ["OwnerSide"]

#: What the owner can do, and the core cannot.
_NOT_ON_CORE: Final = ("nn.softmax", "sigmoid", "tanh", "permute_dims")
_PLAIN: Final = {
    "nn.softmax": "softmax",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "argmax": "argmax",
    "permute_dims": "transpose",
    "reshape": "reshape",
    "flatten": "reshape",
    "squeeze": "reshape",
    "expand_dims": "reshape",
}
_AFFINE: Final = ("add", "subtract", "multiply", "divide")


class OwnerSide:
    """The calls that stay on the core, and what the owner does before and after.

    From an input on, everything that the owner can do moves; before an output, the first layer
    that the core cannot do and what follows it. Values in between have one reader each.

    Parameters
    ----------
    calls : sequence of Call
    inputs : mapping of str to tuple of int
        Shapes, batch included.
    outputs : sequence of str
    variables : mapping of str to object
        Where each value stands.

    Attributes
    ----------
    calls, inputs, variables
        The same without what moved: the core's first value has the input's name, its last one the
        output's.
    steps : dict of str to tuple of OwnerStep
        By input and output.

    """

    def __init__(
        self,
        calls: Sequence[Call],
        inputs: dict[str, tuple[int, ...]],
        outputs: Sequence[str],
        variables: dict[str, Any],
    ) -> None:
        self.calls = list(calls)
        self.inputs = dict(inputs)
        self.variables = dict(variables)
        self.steps: dict[str, tuple[OwnerStep, ...]] = {}
        self._outputs: Final = list(outputs)
        for name in inputs:
            self._move_begin(name)
        for name in dict.fromkeys(outputs):
            self._move_end(name)

    def _readers(self, value: str) -> list[Call]:
        return [call for call in self.calls for a in call.args if isinstance(a, str) and a == value]

    def _shape(self, value: str) -> tuple[int, ...]:
        made = {call.output: call.shape for call in self.calls}
        return made.get(value) or self.inputs[value]

    def _move_begin(self, name: str) -> None:
        """Move the layers that only shape or scale an input."""
        steps = []
        while name not in self._outputs:
            readers = self._readers(name)
            if len(readers) != 1 or readers[0].output in self._outputs:
                break
            (call,) = readers
            step = self._step(call, beginning=True)
            if step is None:
                break
            steps.append(step)
            self.calls.remove(call)
            self.calls = [_renamed(other, call.output, name) for other in self.calls]
            self.inputs[name] = call.shape
            self.variables[name] = self.variables[call.output]
        if steps:
            self.steps[name] = tuple(steps)

    def _move_end(self, name: str) -> None:
        """Move the first layer before an output that the core cannot do, and those after it."""
        made = {call.output: call for call in self.calls}
        chain: list[tuple[Call, OwnerStep]] = []
        value = name
        while value in made:
            used = len(self._readers(value)) + self._outputs.count(value)
            step = self._step(made[value], beginning=False) if used == 1 else None
            if step is None:
                break
            chain.append((made[value], step))
            value = next(a for a in made[value].args if isinstance(a, str))
        while chain and chain[-1][0].op.removeprefix("relax.") not in _NOT_ON_CORE:
            chain.pop()
        if not chain:
            return
        first = next(a for a in chain[-1][0].args if isinstance(a, str))
        if first not in made or len(self._readers(first)) + self._outputs.count(first) != 1:
            raise chain[-1][0].refuse(
                "nothing is left for the core before it, or its input is used otherwise too; "
                "leave it out of the model"
            )
        moved = {id(call) for call, _ in chain}
        self.calls = [
            replace(call, output=name) if call.output == first else call
            for call in self.calls
            if id(call) not in moved
        ]
        self.variables[name] = self.variables[first]
        self.steps[name] = tuple(step for _, step in reversed(chain))

    def _step(self, call: Call, *, beginning: bool) -> OwnerStep | None:
        """Return what the owner would do instead of ``call``, None if it cannot."""
        op = call.op.removeprefix("relax.")
        values = [a for a in call.args if isinstance(a, str)]
        if len(values) != 1:
            return None
        before, after = self._shape(values[0]), call.shape
        if before[:1] != (1,) or (after[:1] != (1,) and op != "argmax"):
            return None
        make = partial(OwnerStep, before=before[1:], after=after[1:])
        if beginning and op in _AFFINE:
            return _affine(call, make)
        kind = _PLAIN.get(op)
        if kind is None or (beginning and kind not in ("transpose", "reshape")):
            return None
        axis = call.attr("axis")
        if kind in ("softmax", "argmax"):
            if not isinstance(axis, int) or axis % len(before) == 0:
                return None
            return make(op=kind, axis=axis % len(before) - 1)
        if kind == "transpose":
            axes = call.attr("axes") or tuple(reversed(range(len(before))))
            if axes[0] != 0:
                return None
            return make(op=kind, axes=tuple(a - 1 for a in axes[1:]))
        return make(op=kind)


def _affine(call: Call, make: Callable[..., OwnerStep]) -> OwnerStep | None:
    """Return a scaling of an input by constants, one for each index of an axis."""
    left, right = call.args
    op = call.op.removeprefix("relax.")
    reverse = isinstance(left, np.ndarray)
    constant = left if reverse else right
    if (reverse and op == "divide") or not np.isfinite(constant).all():
        return None
    if op == "divide" and not constant.all():
        return None
    # Which axis the constants belong to; a channels-last image has its channels there.
    for axis in range(1, len(call.shape)):
        order = (0, axis, *(a for a in range(1, len(call.shape)) if a != axis))
        aligned = constant.reshape((1,) * (len(call.shape) - constant.ndim) + constant.shape)
        numbers = per_channel(aligned.transpose(order), tuple(call.shape[a] for a in order))
        if numbers is not None:
            break
    else:
        return None
    ones, zeros = np.ones(len(numbers)), np.zeros(len(numbers))
    factors, offsets = {
        "add": (ones, numbers),
        "subtract": (-ones, numbers) if reverse else (ones, -numbers),
        "multiply": (numbers, zeros),
        "divide": (1 / numbers if op == "divide" else ones, zeros),
    }[op]
    return make(
        op="affine",
        axis=axis - 1,
        factors=tuple(map(_real, factors)),
        offsets=tuple(map(_real, offsets)),
    )


def _real(number: float) -> tuple[int, int]:
    """Return a float64 exactly, as mantissa and shift."""
    mantissa, exponent = frexp(float(number))
    return int(mantissa * (1 << 53)), 53 - exponent


def _renamed(call: Call, old: str, new: str) -> Call:
    args = tuple(new if isinstance(a, str) and a == old else a for a in call.args)
    return replace(call, args=args)
