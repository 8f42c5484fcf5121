"""``python -m ginseng.bench.threats``: what shows each countermeasure of docs/threats.md.

The line that enforces a countermeasure says ``# SEC: NAME``, a test carries
``@pytest.mark.sec("NAME")``, a proof has it in `Proof.sec`, and a row of the document begins with
it. The last two columns of the row, the files of the tests and the names of the proofs, are found
here.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.proof import find_proofs

__all__ = ["Shown", "find_shown", "rewrite"]

_NAME = r"[A-Z][A-Z0-9]*\.[A-Z0-9_]+"
_ROW = re.compile(
    rf"^\| `(?P<name>{_NAME})` \| (?P<against>[^|]*) \| (?P<does>[^|]*) \|[^\n]*$", re.MULTILINE
)


@dataclass(frozen=True)
class Shown:
    """Where each countermeasure is: files of sources and of tests, and names of proofs."""

    sources: dict[str, set[str]]
    tests: dict[str, set[str]]
    proofs: dict[str, set[str]]


def find_shown(root: Path) -> Shown:
    """Return what a checkout has."""
    sources = [path for part in ("hw", "sw", "sim") for path in (root / part).rglob("*.py")]
    proofs = defaultdict(set)
    for _, proof in find_proofs(root / "tests" / "formal" / "proofs"):
        for name in proof.sec:
            proofs[name].add(proof.name)
    return Shown(
        _find(rf"# SEC: ({_NAME})", sources),
        _find(rf'mark\.sec\("({_NAME})"\)', (root / "tests").rglob("*.py")),
        dict(proofs),
    )


def rewrite(text: str, shown: Shown) -> str:
    """Return the document with its last two columns as they are to be."""

    def row(match: re.Match[str]) -> str:
        name = match["name"]
        tests = " ".join(f"`{stem}`" for stem in sorted(shown.tests.get(name, ())))
        proofs = " ".join(f"`{proof}`" for proof in sorted(shown.proofs.get(name, ())))
        return f"| `{name}` | {match['against']} | {match['does']} | {tests} | {proofs} |"

    return _ROW.sub(row, text)


def _find(pattern: str, files: Iterable[Path]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for path in files:
        for name in re.findall(pattern, path.read_text()):
            found[name].add(path.stem)
    return dict(found)


def main() -> int:
    """Compare the document with the checkout, or write it; return 1 if it is stale."""
    parser = argparse.ArgumentParser(prog="python -m ginseng.bench.threats", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="the checkout")
    parser.add_argument("--write", action="store_true", help="bring the document up to date")
    options = parser.parse_args()
    document = options.root / "docs" / "threats.md"
    if not document.is_file():
        raise BenchError(f"{options.root} has no docs/threats.md; name a checkout with --root")
    text = document.read_text()
    fresh = rewrite(text, find_shown(options.root))
    if options.write:
        document.write_text(fresh)
    elif fresh != text:
        raise BenchError(f"{document} is stale; run python -m ginseng.bench.threats --write")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
