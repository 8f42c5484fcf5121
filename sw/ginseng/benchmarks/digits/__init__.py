"""Real data and a real network: scikit-learn's handwritten digits and a small residual network."""

from importlib.resources import files
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ginseng.benchmarks.errors import MissingPackageError

__all__ = ["MODEL", "Digits", "load_digits", "split"]

#: The trained network, written by ``python -m ginseng.benchmarks.digits.train``.
MODEL: Final = files("ginseng.benchmarks.digits") / "digits.onnx"
_SEED: Final = 2018


class Digits(NamedTuple):
    """Images ``(n, 1, 8, 8)`` float32 from 0 to 1, and labels ``(n,)``."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_digits() -> Digits:
    """Return the 1,797 real digits that scikit-learn ships (UCI Optical Recognition, test part).

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.

    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise MissingPackageError(
            "The digits come with scikit-learn, which is not installed; pip install 'ginseng[demo]'"
        ) from None
    bunch = datasets.load_digits()
    images = (bunch.images / 16.0).astype(np.float32)[:, None]
    return Digits(images, bunch.target.astype(np.int64))


def split(digits: Digits) -> tuple[Digits, Digits]:
    """Return 1,437 training digits and the 360 held back; the same ones every time."""
    order = np.random.default_rng(_SEED).permutation(len(digits.labels))
    held, training = order[:360], order[360:]
    return (
        Digits(digits.images[training], digits.labels[training]),
        Digits(digits.images[held], digits.labels[held]),
    )
