"""What a proof consists of."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.harness import Harness

__all__ = ["Bug", "Engine", "Proof", "find_proofs", "load_proofs"]


class Engine(Enum):
    """How a proof is done; what the words mean is in docs/formal.md."""

    #: Property-directed reachability (ABC): for ever, with an invariant that it finds and checks.
    PDR = "pdr"
    #: k-induction (smtbmc, z3): for ever.
    INDUCTION = "k-induction"
    #: Bounded model checking (smtbmc, z3): for the first ``depth`` cycles only.
    BMC = "bmc"
    #: Where values can get to in the netlist (`ginseng.bench.formal.taint`): for ever.
    TAINT = "taint"


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A planted bug: a text of a module's source and what stands there instead.

    Attributes
    ----------
    name : str
        What is wrong then.
    module : str
        As it is imported, of the ``hw`` root.
    old, new : str
        ``old`` occurs exactly once in the module, or planting fails.

    """

    name: str
    module: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Properties of a component in a harness, and what shows that they are not empty.

    Attributes
    ----------
    name : str
        Unique.
    claim : str
        What is proved, in a sentence.
    harness : callable
        Makes the harness: the component, its surroundings, `Assert`, `Assume` and `Cover`; for
        `Engine.TAINT`, the component and its secrets.
    configuration : str
        What was built.
    generalises : str
        Why the claim then holds for other configurations, or that it does not.
    assumptions : tuple of str
        What the surroundings keep to.
    depth : int
        Cycles: k of an induction, the bound of a bounded check, and how far bugs and covers are
        looked for; `Engine.TAINT` has none.
    engine : Engine
    bugs : tuple of Bug
        Each must be found within ``depth`` cycles.
    timeout : float
        Seconds for each check.
    quick : bool
        Whether every run of the tests does it.
    sec : tuple of str
        Countermeasures (``# SEC:`` names) that it is about; `docs/threats.md` lists it with them.

    """

    name: str
    claim: str
    harness: Callable[[], Harness]
    configuration: str
    generalises: str
    assumptions: tuple[str, ...] = ()
    depth: int = 12
    engine: Engine = Engine.PDR
    bugs: tuple[Bug, ...] = ()
    timeout: float = 300
    quick: bool = False
    sec: tuple[str, ...] = ()


def load_proofs(path: Path) -> list[Proof]:
    """Return the ``PROOFS`` of a file.

    Raises
    ------
    BenchError
        If it has none.

    """
    spec = importlib.util.spec_from_file_location(f"proof_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BenchError(f"Proof file {path} is not Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    proofs = getattr(module, "PROOFS", None)
    if not proofs:
        raise BenchError(f"Proof file {path} has no PROOFS; give it a list of Proof")
    return list(proofs)


def find_proofs(place: Path) -> list[tuple[Path, Proof]]:
    """Return every proof of the files in a directory, with its file.

    Raises
    ------
    BenchError
        If two have one name.

    """
    found = [(path, proof) for path in sorted(place.glob("*.py")) for proof in load_proofs(path)]
    names = [proof.name for _, proof in found]
    for name in names:
        if names.count(name) > 1:
            raise BenchError(f"Proof name {name!r} is used {names.count(name)} times; rename one")
    return found
