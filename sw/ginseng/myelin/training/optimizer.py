"""Optimizers of parameters by released gradients: after the noise, so nothing here is private."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ginseng.myelin.errors import MyelinError

__all__ = ["Adam", "Averaging", "Momentum", "Optimizer"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Optimizer(ABC):
    """Makes a step; its state is a list of arrays that the caller keeps.

    Attributes
    ----------
    rate : float
        The learning rate.

    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise MyelinError(f"Learning rate is a positive number, not {self.rate!r}")

    @abstractmethod
    def start(self, parameters: Sequence[Array]) -> list[Array]:
        """Return the state before the first step."""

    @abstractmethod
    def step(self, parameters: list[Array], gradients: Sequence[Array], state: list[Array]) -> None:
        """Change parameters and state in place."""

    def result(self, parameters: list[Array], state: list[Array]) -> list[Array]:
        """Return what the run ends with."""
        del state
        return parameters


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Stochastic gradient descent with momentum; 0 is without."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise MyelinError(f"Momentum is from 0 to below 1, not {self.momentum!r}")

    def start(self, parameters: Sequence[Array]) -> list[Array]:
        """Return velocities of nothing."""
        return [np.zeros_like(part) for part in parameters]

    def step(self, parameters: list[Array], gradients: Sequence[Array], state: list[Array]) -> None:
        """Follow the velocity, to which the gradient is added."""
        for parameter, gradient, velocity in zip(parameters, gradients, state, strict=True):
            velocity *= self.momentum
            velocity += gradient
            parameter -= self.rate * velocity


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1)."""

    first: float = 0.9
    second: float = 0.999
    epsilon: float = 1e-8

    def start(self, parameters: Sequence[Array]) -> list[Array]:
        """Return the number of steps, and both moments of every parameter."""
        moments = [np.zeros_like(part) for _ in range(2) for part in parameters]
        return [np.zeros(1, np.int64), *moments]

    def step(self, parameters: list[Array], gradients: Sequence[Array], state: list[Array]) -> None:
        """Follow the mean gradient, in units of its own spread."""
        count, *moments = state
        count += 1
        ones = 1 - self.first ** int(count[0]), 1 - self.second ** int(count[0])
        half = len(parameters)
        for parameter, gradient, mean, square in zip(
            parameters, gradients, moments[:half], moments[half:], strict=True
        ):
            mean += (1 - self.first) * (gradient - mean)
            square += (1 - self.second) * (gradient * gradient - square)
            parameter -= self.rate * (mean / ones[0]) / (np.sqrt(square / ones[1]) + self.epsilon)


@dataclass(frozen=True)
class Averaging(Optimizer):
    """Ends with an average of where another optimizer was, the last steps first.

    What noise each step adds is averaged too, and costs nothing: it is done after the release.

    Attributes
    ----------
    inner : Optimizer
        Its rate is what counts.
    decay : float
        Of the weight of a step with each that follows.

    """

    rate: float = field(init=False, default=1.0)
    inner: Optimizer
    decay: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay < 1:
            raise MyelinError(f"Decay of an average is between 0 and 1, not {self.decay!r}")

    def start(self, parameters: Sequence[Array]) -> list[Array]:
        """Return sums of nothing, their weight, and the state of the other."""
        sums = [np.zeros_like(part) for part in parameters]
        return [np.zeros(1), *sums, *self.inner.start(parameters)]

    def step(self, parameters: list[Array], gradients: Sequence[Array], state: list[Array]) -> None:
        """Let the other make its step, and add where it is."""
        weight, sums, others = state[0], state[1:][: len(parameters)], state[1:][len(parameters) :]
        self.inner.step(parameters, gradients, others)
        weight *= self.decay
        weight += 1
        for total, parameter in zip(sums, parameters, strict=True):
            total *= self.decay
            total += parameter

    def result(self, parameters: list[Array], state: list[Array]) -> list[Array]:
        """Return the average, or the parameters if there was no step."""
        weight, sums = state[0], state[1:][: len(parameters)]
        if not weight[0]:
            return parameters
        return [(total / weight[0]).astype(total.dtype) for total in sums]
