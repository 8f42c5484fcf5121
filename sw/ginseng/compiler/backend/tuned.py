"""Results of tuning, kept by content, so that a layer that was tuned before is not tuned again.

The key is everything that decides the result: the layer's geometry and passes, the core, the cost
model, and the sources of this package. The same inputs give the same tiling with and without the
cache; an entry that cannot be read, or is not what was written, counts as missing.
"""

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from ginseng.compiler.backend.tiling import Tiling
from ginseng.isa.cache import cache_directory

__all__ = ["Tuned", "recall", "remember"]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The tiling that won, and what it won against.

    Attributes
    ----------
    best : Tiling
    cycles, nbytes : int
        Of the layer on its own.
    tried : int
        Tilings that were replayed.
    second : Tiling or None
        The runner-up, if there was one.
    second_cycles, second_nbytes : int

    """

    best: Tiling
    cycles: int
    nbytes: int
    tried: int
    second: Tiling | None = None
    second_cycles: int = 0
    second_nbytes: int = 0

    @classmethod
    def parse(cls, tree: dict[str, Any]) -> Self:
        """Return what `dataclasses.asdict` made a tree of."""
        best, second = tree.pop("best"), tree.pop("second")
        return cls(best=Tiling(**best), second=None if second is None else Tiling(**second), **tree)


@cache
def _sources() -> str:
    """Return the digest of this package: a changed compiler tunes anew."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _path(key: object) -> Path:
    name = sha256(f"{_sources()} {key!r}".encode()).hexdigest()
    return cache_directory() / "tilings" / f"{name}.json"


def _digest(tree: object) -> str:
    return sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def recall(key: object) -> Tuned | None:
    """Return what was remembered for a key, whose repr says all that it holds."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        entry = json.loads(_path(key).read_text())
        if entry["sha256"] == _digest(entry["tuned"]):
            return Tuned.parse(entry["tuned"])
    return None


def remember(key: object, tuned: Tuned) -> None:
    """Keep a result; where that is not possible, do nothing."""
    tree = asdict(tuned)
    path = _path(key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readers see the whole entry or none.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        with os.fdopen(handle, "w") as file:
            json.dump({"sha256": _digest(tree), "tuned": tree}, file)
        Path(name).replace(path)
