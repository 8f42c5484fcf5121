"""Scales of weights: one for the tensor, or one for each output channel where that pays."""

import enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.graph import INT8
from ginseng.compiler.methods import fitting

__all__ = ["WeightScales", "quantise_weights", "weight_shifts"]

#: What the ratio of signal to noise of a layer's weights must gain for scales per channel: they
#: cost the layer one more vector of constants (docs/compiler.md).
_GAIN_DB: Final = 1.0


class WeightScales(enum.StrEnum):
    """How many scales the weights of a layer have."""

    TENSOR = "tensor"
    CHANNEL = "channel"
    AUTO = "auto"

    @classmethod
    def parse(cls, text: str) -> "WeightScales":
        """Return the choice of that name.

        Raises
        ------
        CompilerError
            If there is none.

        """
        if text not in list(cls):
            raise CompilerError(
                f"There are no weight scales {text}; use {', '.join(cls)}: one for each tensor, "
                "one for each output channel, or what pays"
            )
        return cls(text)


def quantise_weights(weight: NDArray[np.float64], shifts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the nearest int8 of ``weight`` at one shift, or at one for each output channel."""
    scaled = np.ldexp(weight, shifts.reshape(-1, *(1,) * (weight.ndim - 1)))
    return np.rint(scaled).clip(*INT8).astype(np.int8)


def weight_shifts(weight: NDArray[np.float64], scales: WeightScales) -> NDArray[np.int64]:
    """Return one shift, or one for each output channel: an array of that length.

    It is the greatest at which no weight saturates, whatever the method of calibration: clipped
    weights cost more than finer steps of the others gain.

    Parameters
    ----------
    weight : float64 array
        Output channels first.
    scales : WeightScales
        ``AUTO`` takes scales per channel if they lessen the summed squared error of the weights by
        at least 1 dB.

    """
    tensor = np.array([fitting(float(np.abs(weight).max()))], np.int64)
    if scales is WeightScales.TENSOR:
        return tensor
    # A channel without weights has no scale of its own.
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    channel = np.array([fitting(float(w)) if w else tensor[0] for w in largest], np.int64)
    if scales is WeightScales.CHANNEL:
        return channel
    gain = 10.0 ** (_GAIN_DB / 10)
    pays = _squared_error(weight, tensor) >= gain * _squared_error(weight, channel)
    return channel if pays and (channel != tensor).any() else tensor


def _squared_error(weight: NDArray[np.float64], shifts: NDArray[np.int64]) -> float:
    back = -shifts.reshape(-1, *(1,) * (weight.ndim - 1))
    near = np.ldexp(quantise_weights(weight, shifts).astype(np.float64), back)
    return float(np.square(near - weight).sum())
