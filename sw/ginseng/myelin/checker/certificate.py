"""What a check showed, in bytes that an attestation can hold."""

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cbor2

from ginseng.myelin.checker.check import Verdict, check_function
from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.graph import Graph

if TYPE_CHECKING:
    from ginseng.myelin.privacy.ledger import Terms

__all__ = [
    "ASSUMPTIONS",
    "CHECKER_VERSION",
    "Checked",
    "certify",
    "checker_digest",
    "write_certificate",
]

CHECKER_VERSION: Final = 1
#: What no check of a graph can show.
ASSUMPTIONS: Final = (
    "one example is one person's, and no person has two",
    "what was done to the dataset before depends on no example, or is counted elsewhere",
    "hyper-parameters were not chosen by looking at the examples",
    "what is computed is the graph: compiler and machine do what it says",
    "time, memory traffic and power are not covered",
)


@cache
def checker_digest() -> str:
    """Return SHA-256 of the checker's sources, by their names, in hexadecimal."""
    digest = hashlib.sha256()
    place = Path(__file__).parent
    for path in sorted(place.rglob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(place).as_posix()} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


@dataclass(frozen=True)
class Checked:
    """A verdict, and the certificate if there is one: canonical CBOR."""

    verdict: Verdict
    certificate: bytes | None


def certify(graph: Graph) -> Checked:
    """Check a graph, from examples to one result for each, and certify it if it is accepted."""
    verdict = check_function(graph.function, graph.examples, graph.module)
    return Checked(verdict, write_certificate(graph, verdict) if verdict.accepted else None)


def write_certificate(graph: Graph, verdict: Verdict, terms: "Terms | None" = None) -> bytes:
    """Return the certificate of a graph that was accepted, canonical CBOR.

    Parameters
    ----------
    graph : Graph
        That was checked.
    verdict : Verdict
        What came of it.
    terms : Terms or None
        What a run may spend; without, the certificate is of the graph alone.

    Raises
    ------
    PrivacyError
        If it was refused, or the terms are of fewer examples than the graph has.

    """
    if not verdict.accepted:
        raise PrivacyError(f"{graph.name} was refused at {verdict.node}: there is no certificate")
    document: dict[str, Any] = {
        "version": CHECKER_VERSION,
        "program": bytes.fromhex(graph.sha256),
        "checker": bytes.fromhex(checker_digest()),
        "batch": graph.batch,
        "examples": list(graph.examples),
        "operators": list(verdict.operators),
        "assumptions": list(ASSUMPTIONS),
    }
    if terms is not None:
        if terms.examples < graph.batch:
            raise PrivacyError(
                f"A dataset of {terms.examples} examples does not fill the graph's {graph.batch}"
            )
        document["terms"] = asdict(terms) | {
            "neighbours": terms.neighbours.value,
            "cost": terms.cost(terms.steps),
        }
    return cbor2.dumps(document, canonical=True)
