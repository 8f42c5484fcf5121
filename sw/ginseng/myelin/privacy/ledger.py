"""What a run may spend and has spent: written down before anything is seen."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import cbor2
import numpy as np
import numpy.typing as npt

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.files import replace_file
from ginseng.myelin.privacy.accountant import Accountant, Neighbours, Spent, epsilon
from ginseng.myelin.privacy.grid import Grid
from ginseng.myelin.privacy.sampler import PoissonSampler
from ginseng.myelin.privacy.stream import RunKey

__all__ = ["Ledger", "Terms"]

Array = npt.NDArray[np.int64]

_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a run was allowed, before its first step. Nothing of it depends on an example.

    Attributes
    ----------
    epsilon, delta : float
        What all its steps may cost.
    steps : int
        How many there are.
    multiplier : float
        The noise's deviation, in units of ``clip``.
    clip : float
        The norm that one example adds to a sum, at most.
    bits : int
        Of the grid (`ginseng.myelin.privacy.grid`).
    examples, threshold : int
        Of the sampler (`PoissonSampler`).
    neighbours : Neighbours

    Raises
    ------
    PrivacyError
        If the steps cost more than they may.

    """

    epsilon: float
    delta: float
    steps: int
    multiplier: float
    clip: float
    bits: int
    examples: int
    threshold: int
    neighbours: Neighbours = Neighbours.ADD_REMOVE

    def __post_init__(self) -> None:
        cost = self.cost(self.steps)
        if cost > self.epsilon:
            raise PrivacyError(
                f"{self.steps} steps with noise multiplier {self.multiplier:g} cost epsilon "
                f"{cost:.4f} at delta {self.delta:g}, more than the {self.epsilon:g} of the "
                f"budget; `calibrate` finds the multiplier"
            )

    @property
    def sampler(self) -> PoissonSampler:
        """Who takes the batches."""
        return PoissonSampler(examples=self.examples, threshold=self.threshold)

    @property
    def grid(self) -> Grid:
        """What gradients are rounded to."""
        return Grid(clip=self.clip, bits=self.bits)

    def release(
        self, totals: Sequence[Array], *, key: RunKey, step: int, names: Sequence[str]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the noisy mean gradient of a step, as `Grid.release` does."""
        return self.grid.release(
            totals,
            multiplier=self.multiplier,
            expected=self.sampler.expected,
            key=key,
            step=step,
            names=names,
        )

    def cost(self, steps: int, accountant: Accountant = Accountant.PLD) -> float:
        """Return the epsilon of the first steps, at ``delta``."""
        spent = Spent(steps=steps, multiplier=self.multiplier, probability=self.sampler.probability)
        return epsilon([spent], self.delta, neighbours=self.neighbours, accountant=accountant)


class Ledger:
    """The steps that a run has spent, in a file that is never behind what was seen.

    A step is recorded, and is on the disk, before its noise is made. Who is killed between has
    spent the step and not seen it; it is not done again.

    Parameters
    ----------
    terms : Terms
    path : Path or None
        Its file; with none, it is kept in memory only.

    """

    def __init__(self, terms: Terms, path: Path | None = None, *, done: int = 0) -> None:
        self.terms = terms
        self._path = path
        self._done = done

    @property
    def done(self) -> int:
        """Steps that were spent: the number of the next."""
        return self._done

    @property
    def epsilon(self) -> float:
        """What they cost, at the terms' delta."""
        return self.terms.cost(self._done)

    @property
    def digest(self) -> bytes:
        """SHA-256 of `to_bytes`, for an attestation."""
        return hashlib.sha256(self.to_bytes()).digest()

    def spend(self) -> int:
        """Record the next step, and return its number.

        Raises
        ------
        PrivacyError
            If the budget is spent.

        """
        if self._done == self.terms.steps:
            raise PrivacyError(
                f"All {self.terms.steps} steps of the budget (epsilon {self.terms.epsilon:g}, "
                f"delta {self.terms.delta:g}) are spent; a new run needs a new budget"
            )
        self._done += 1
        if self._path is not None:
            encoded = self.to_bytes()
            replace_file(self._path, lambda file: file.write(encoded))
        return self._done - 1

    def to_bytes(self) -> bytes:
        """Return it as canonical CBOR."""
        terms = asdict(self.terms) | {"neighbours": self.terms.neighbours.value}
        document = {"version": _VERSION, "terms": terms, "done": self._done}
        return cbor2.dumps(document, canonical=True)

    @classmethod
    def from_bytes(cls, encoded: bytes, path: Path | None = None) -> "Ledger":
        """Read what `to_bytes` gave.

        Raises
        ------
        PrivacyError
            If it is anything else.

        """
        try:
            document = cbor2.loads(encoded)
        except (cbor2.CBORError, ValueError, EOFError) as error:
            raise PrivacyError(f"A ledger is CBOR, and this is not: {error}") from None
        if not isinstance(document, dict) or set(document) != {"version", "terms", "done"}:
            raise PrivacyError("A ledger has version, terms and done; this is another document")
        if document["version"] != _VERSION:
            raise PrivacyError(f"Ledger version is {_VERSION}, not {document['version']!r}")
        terms, done = _read_terms(document["terms"]), document["done"]
        if type(done) is not int or not 0 <= done <= terms.steps:
            raise PrivacyError(
                f"A ledger's done is from 0 to its {terms.steps} steps, not {done!r}"
            )
        ledger = cls(terms, path, done=done)
        if ledger.to_bytes() != encoded:
            raise PrivacyError("A ledger is canonical CBOR; these bytes say the same otherwise")
        return ledger

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Read a file, to go on where it ends.

        Raises
        ------
        PrivacyError
            If there is none, or it is no ledger.

        """
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise PrivacyError(f"Ledger {path} cannot be read: {error.strerror}") from None
        return cls.from_bytes(encoded, path)


def _read_terms(given: Any) -> Terms:
    """Return terms of a document.

    Raises
    ------
    PrivacyError
        If something is missing, unknown, or of another type.

    """
    types: Mapping[str, Any] = {field.name: field.type for field in fields(Terms)}
    if not isinstance(given, dict) or set(given) != set(types):
        raise PrivacyError(f"Terms of a ledger are {', '.join(types)}")
    for name, kind in types.items():
        kind = str if kind is Neighbours else kind
        if type(given[name]) is not kind:
            raise PrivacyError(f"Terms of a ledger: {name} is a {kind.__name__}")
    try:
        neighbours = Neighbours(given["neighbours"])
    except ValueError:
        known = ", ".join(n.value for n in Neighbours)
        raise PrivacyError(
            f"Terms of a ledger: neighbours is one of {known}, not {given['neighbours']!r}"
        ) from None
    return Terms(**given | {"neighbours": neighbours})
