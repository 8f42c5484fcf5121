"""What an owner demands of a device: one frozen object, and its JSON file."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from ginseng.isa.config import RootStrength
from ginseng.isa.formats import PCR_BYTES, PCR_COUNT
from ginseng.program import Measurements
from ginseng.secureos.errors import PolicyError

__all__ = ["Policy"]

_FORMAT: Final = "ginseng-policy-1"
_FILE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Appraisal policy (monitor specification §4).

    Attributes
    ----------
    root_strengths : frozenset of RootStrength
        Accepted roots. There is no default: accepting a simulated device is a decision.
    min_svn : int
        Lowest security version of the monitor that is accepted.
    allow_debug : bool
        Whether builds may reveal the cause of a fault.
    nonce_seconds : float or int
        How old a challenge may be when its quote comes.
    readers : frozenset of bytes or None
        Commitments that exports may be readable by, beside the owner's own; None accepts any
        (the verdict lists them).
    reference : Measurements or None
        Reference values of the registers, for appraisal without the artefacts at hand.

    """

    root_strengths: frozenset[RootStrength]
    min_svn: int = 0
    allow_debug: bool = False
    nonce_seconds: int = 300
    readers: frozenset[bytes] | None = None
    reference: Measurements | None = None

    @property
    def text(self) -> str:
        """The policy as JSON, sorted keys; what `save` writes."""
        reference = self.reference and {
            "locked": [pcr.hex() for pcr in self.reference.locked],
            "final": [pcr.hex() for pcr in self.reference.final],
        }
        tree = {
            "format": _FORMAT,
            "root_strengths": sorted(strength.value for strength in self.root_strengths),
            "min_svn": self.min_svn,
            "allow_debug": self.allow_debug,
            "nonce_seconds": self.nonce_seconds,
            "readers": None if self.readers is None else sorted(r.hex() for r in self.readers),
            "reference": reference,
        }
        return json.dumps(tree, sort_keys=True, indent=2) + "\n"

    @property
    def name(self) -> str:
        """SHA-256 of `text`, hexadecimal: which policy a verdict was given under."""
        return sha256(self.text.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the JSON form."""
        path.write_text(self.text)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the JSON form; keys may stand in any order, absent ones take their default.

        Raises
        ------
        PolicyError
            If the file cannot be read, has an unknown key, or a value of the wrong kind: a
            policy that is misread protects nobody.

        """
        try:
            data = path.read_bytes()
            if len(data) > _FILE_LIMIT:
                raise PolicyError(f"{path} is longer than {_FILE_LIMIT} bytes")
            tree = json.loads(data)
        except OSError as error:
            raise PolicyError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise PolicyError(f"{path} is no JSON: {error}") from None
        try:
            return cls._from_tree(tree)
        except (PolicyError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise PolicyError(f"{path} is no policy: {error}") from None

    @classmethod
    def _from_tree(cls, tree: Any) -> Self:
        if tree.pop("format") != _FORMAT:
            raise PolicyError(f"its format is not {_FORMAT!r}")
        known = {field.name for field in fields(cls)}
        if unknown := set(tree) - known:
            raise PolicyError(f"unknown keys {sorted(unknown)} (known: {sorted(known)})")
        tree["root_strengths"] = frozenset(RootStrength(s) for s in tree["root_strengths"])
        for key, kind in (("min_svn", int), ("allow_debug", bool), ("nonce_seconds", int)):
            if key in tree and type(tree[key]) is not kind:
                raise PolicyError(f"{key} is of type {kind.__name__}, not {tree[key]!r}")
        if tree.get("readers") is not None:
            tree["readers"] = frozenset(bytes.fromhex(r) for r in tree["readers"])
        if tree.get("reference") is not None:
            tree["reference"] = Measurements(
                _registers(tree["reference"]["locked"]), _registers(tree["reference"]["final"])
            )
        return cls(**tree)


def _registers(texts: Iterable[str]) -> tuple[bytes, ...]:
    values = tuple(bytes.fromhex(text) for text in texts)
    if [len(value) for value in values] != [PCR_BYTES] * PCR_COUNT:
        raise PolicyError(f"reference values are {PCR_COUNT} registers of {PCR_BYTES} bytes")
    return values
