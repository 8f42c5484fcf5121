"""Where a run is kept so that it goes on after a crash, and spends nothing twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ginseng.myelin.errors import MyelinError
from ginseng.myelin.files import replace_file

__all__ = ["Checkpoint"]


@dataclass
class Checkpoint:
    """What a run had after its last complete step: released values only.

    Attributes
    ----------
    parameters, state : list of ndarray
        Of the model, and of the optimizer.

    """

    parameters: list[npt.NDArray[Any]]
    state: list[npt.NDArray[Any]]

    def save(self, path: Path) -> None:
        """Write it; whenever that ends, the old or the new is there, whole."""
        named = _named("p", self.parameters) | _named("s", self.state)
        replace_file(path, lambda file: np.savez(file, allow_pickle=False, **named))

    @classmethod
    def load(cls, path: Path, like: "Checkpoint") -> "Checkpoint":
        """Read what `save` wrote of a run with the same shapes.

        Raises
        ------
        MyelinError
            If it is anything else.

        """
        wanted = _named("p", like.parameters) | _named("s", like.state)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                found = {name: data[name] for name in data.files}
        except OSError as error:
            raise MyelinError(f"{path} cannot be read: {error.strerror or error}") from None
        except Exception as error:
            raise MyelinError(f"{path} is no checkpoint, or is damaged: {error}") from None
        if {n: (a.shape, a.dtype) for n, a in found.items()} != {
            n: (a.shape, a.dtype) for n, a in wanted.items()
        }:
            raise MyelinError(
                f"{path} is of another model or optimizer; go on with those that it was made with"
            )
        return cls(
            [found[name] for name in _named("p", like.parameters)],
            [found[name] for name in _named("s", like.state)],
        )


def _named(letter: str, arrays: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {f"{letter}{n}": array for n, array in enumerate(arrays)}
